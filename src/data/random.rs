//! The small generator behind shuffles and shifts.

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
///
/// Integers only, so a seed gives the same numbers on every platform.
pub(super) struct SplitMix64(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl SplitMix64 {
    /// The generator of a key such as (seed, epoch): close keys give unrelated streams.
    pub(super) fn keyed(key: &[u64]) -> SplitMix64 {
        SplitMix64(key.iter().fold(0, |state: u64, &part| mix(state.wrapping_add(GOLDEN) ^ part)))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// Uniform in `0..bound`, without bias; 0 for a bound of 0.
    ///
    /// Lemire, "Fast random integer generation in an interval" (arXiv:1805.10941): the high half of
    /// `next * bound`, drawn again where the low half falls into the uneven remainder.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        let bound = bound.max(1);
        let uneven = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.next()) * u128::from(bound);
            if product as u64 >= uneven {
                return (product >> 64) as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_values() {
        // The author's splitmix64.c with the state 1234567, as Rosetta Code prints it.
        let mut random = SplitMix64(1234567);
        let expected = [6457827717110365317, 3203168211198807973, 9817491932198370423];
        assert_eq!([random.next(), random.next(), random.next()], expected);
    }

    #[test]
    fn below_covers_its_range_evenly() {
        let mut random = SplitMix64::keyed(&[7]);
        let mut counts = [0u32; 5];
        for _ in 0..50_000 {
            counts[random.below(5) as usize] += 1;
        }
        // Binomial(50000, 1/5): deviation sqrt(50000 * .2 * .8) = 89.4, so 450 is five of them.
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 450), "{counts:?}");
        assert_eq!((random.below(0), random.below(1)), (0, 0));
    }
}
