//! Random numbers: Philox, and the tensors filled from it.
//!
//! Philox has no state. A word depends on the seed, what it is for, and its place there; so it is the same on every
//! thread and every device, in whatever order it is asked for.

use crate::device::Device;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// What random words are for: the last word of their counter. So one seed serves every use, without two of them
/// seeing the same words.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub(crate) enum Use {
    /// Masks of dropout; the number in `dropout.wgsl`.
    Dropout = 0,
    Normal = 1,
    Uniform = 2,
    Shuffle = 3,
    Shift = 4,
    Seed = 5,
    Window = 6,
    Sample = 7,
    Split = 8,
    Flip = 9,
}

/// Philox 4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
/// 1, 2, 3" (SC 2011): ten rounds that multiply, exchange and mix in a growing key. Twin: `shaders/shared/common.wgsl`.
pub(crate) fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let ([mut a, mut b, mut c, mut d], [mut k0, mut k1]) = (counter, key);
    for _ in 0..10 {
        let p = u64::from(a) * 0xd251_1f53;
        let q = u64::from(c) * 0xcd9e_8d57;
        [a, b, c, d] = [(q >> 32) as u32 ^ b ^ k0, q as u32, (p >> 32) as u32 ^ d ^ k1, p as u32];
        (k0, k1) = (k0.wrapping_add(0x9e37_79b9), k1.wrapping_add(0xbb67_ae85));
    }
    [a, b, c, d]
}

/// The words at place `at` of stream `stream`.
pub(crate) fn words(seed: u64, what: Use, stream: u64, at: u32) -> [u32; 4] {
    philox([at, stream as u32, (stream >> 32) as u32, what as u32], [seed as u32, (seed >> 32) as u32])
}

/// The words at place `at` as two numbers of 64 bits.
pub(crate) fn pair(seed: u64, what: Use, stream: u64, at: u32) -> [u64; 2] {
    let [a, b, c, d] = words(seed, what, stream, at).map(u64::from);
    [a << 32 | b, c << 32 | d]
}

/// Seed number `at` of those that belong to `seed`.
pub(crate) fn derive(seed: u64, at: u64) -> u64 {
    pair(seed, Use::Seed, at, 0)[0]
}

/// A number in `0..bound` from 64 random bits: the high half of their product with `bound`. Some numbers are likelier
/// than others by one part in `2^64 / bound`, which nobody will see.
pub(crate) fn below(bits: u64, bound: u64) -> u64 {
    ((u128::from(bits) * u128::from(bound)) >> 64) as u64
}

/// A word as a number in `[0, 1)`.
pub(crate) fn unit(word: u32) -> f64 {
    f64::from(word) / 4_294_967_296.0
}

/// Two independent standard normal numbers from two words, by Box and Muller, "A note on the generation of random
/// normal deviates" (1958). 32 bits reach out to 6.66 standard deviations.
fn normal(a: u32, b: u32) -> [f64; 2] {
    // 1 - u lies in (0, 1], where the logarithm is finite.
    let radius = (-2.0 * (1.0 - unit(a)).ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * unit(b)).sin_cos();
    [radius * cos, radius * sin]
}

/// A tensor whose elements `4i..4i + 4` are `four` of the `i`-th words. Made on the host, so that every device gets
/// the same bits.
fn filled(
    shape: Shape,
    seed: u64,
    what: Use,
    device: &Device,
    four: impl Fn([u32; 4]) -> [f64; 4] + Sync,
) -> Result<Tensor> {
    Tensor::from_host(shape, device, |start, values| {
        for (at, values) in (start / 4..).zip(values.chunks_mut(4)) {
            let place = at as u64;
            let drawn = four(words(seed, what, place >> 32, place as u32));
            values.iter_mut().zip(drawn).for_each(|(value, drawn)| *value = drawn as f32);
        }
    })
}

/// A source of random tensors that advances: each call draws other numbers, and a generator with the same seed draws the
/// same ones again, bit for bit on every device of one machine.
///
/// ```
/// use gristmill::{Device, Generator};
///
/// let mut generator = Generator::new(7);
/// let first = generator.randn([4], &Device::cpu())?;
/// let second = generator.randn([4], &Device::cpu())?;
/// assert_ne!(first.to_vec()?, second.to_vec()?);
/// let again = Generator::new(7).randn([4], &Device::cpu())?;
/// assert_eq!(first.to_vec()?, again.to_vec()?);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Generator {
    seed: u64,
    drawn: u64,
}

impl Generator {
    /// At the start of the sequence that belongs to this seed.
    pub fn new(seed: u64) -> Generator {
        Generator { seed, drawn: 0 }
    }

    /// A seed that no earlier call returned, for what draws numbers of its own, such as dropout.
    ///
    /// ```
    /// # use gristmill::Generator;
    /// let mut generator = Generator::new(7);
    /// let (first, second) = (generator.seed(), generator.seed());
    /// assert_ne!(first, second);
    /// assert_eq!(Generator::new(7).seed(), first);
    /// ```
    pub fn seed(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        derive(self.seed, self.drawn)
    }

    /// Independent numbers from the standard normal distribution, as [`Tensor::randn`].
    ///
    /// # Errors
    /// A rank over 6, or no room.
    #[track_caller]
    pub fn randn(&mut self, shape: impl AsRef<[usize]>, device: &Device) -> Result<Tensor> {
        Tensor::randn(shape, 0.0, 1.0, self.seed(), device)
    }

    /// Independent numbers, evenly from `low` to below `high`, as [`Tensor::uniform`].
    ///
    /// ```
    /// # use gristmill::{Device, Generator};
    /// let x = Generator::new(7).uniform([100], -1.0, 1.0, &Device::cpu())?;
    /// assert!(x.to_vec()?.iter().all(|x| (-1.0..1.0).contains(x)));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Bounds that are not finite or not in order, a rank over 6, or no room.
    #[track_caller]
    pub fn uniform(
        &mut self,
        shape: impl AsRef<[usize]>,
        low: f32,
        high: f32,
        device: &Device,
    ) -> Result<Tensor> {
        Tensor::uniform(shape, low, high, self.seed(), device)
    }
}

impl Tensor {
    /// A tensor of independent normal numbers with this mean and standard deviation. A seed gives the same bits on
    /// every device of one machine; between platforms the last bit may differ, where their logarithms do.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let weights = Tensor::randn([64, 32], 0.0, 0.1, 7, &Device::cpu())?;
    /// assert!(weights.mean_all()?.item()?.abs() < 0.01);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A mean that is not finite, a deviation that is not finite or negative, a rank over 6, or no room.
    #[track_caller]
    pub fn randn(
        shape: impl AsRef<[usize]>,
        mean: f32,
        std: f32,
        seed: u64,
        device: &Device,
    ) -> Result<Tensor> {
        if !(mean.is_finite() && std.is_finite() && std >= 0.0) {
            return Err(Error::argument("randn", format!("mean {mean} and standard deviation {std}")));
        }
        let (mean, std) = (f64::from(mean), f64::from(std));
        filled(Shape::new(shape)?, seed, Use::Normal, device, |[a, b, c, d]| {
            let ([x, y], [z, w]) = (normal(a, b), normal(c, d));
            [x, y, z, w].map(|z| mean + std * z)
        })
    }

    /// A tensor of independent numbers, evenly from `low` to below `high`; all `low` where both are equal. A seed
    /// gives the same bits on every device.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::uniform([1000], -1.0, 1.0, 7, &Device::cpu())?.to_vec()?;
    /// assert!(x.iter().all(|x| (-1.0..1.0).contains(x)));
    /// assert_eq!(Tensor::uniform([1000], -1.0, 1.0, 7, &Device::cpu())?.to_vec()?, x); // the same seed
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Bounds that are not finite or not in order, a rank over 6, or no room.
    #[track_caller]
    pub fn uniform(
        shape: impl AsRef<[usize]>,
        low: f32,
        high: f32,
        seed: u64,
        device: &Device,
    ) -> Result<Tensor> {
        if !(low.is_finite() && high.is_finite() && low <= high) {
            return Err(Error::argument("uniform", format!("no numbers from {low} to below {high}")));
        }
        let (from, length) = (f64::from(low), f64::from(high) - f64::from(low));
        // Rounding to f32 may not reach `high`.
        let last = f64::from(high.next_down().max(low));
        filled(Shape::new(shape)?, seed, Use::Uniform, device, |words| {
            words.map(|word| (from + length * unit(word)).min(last))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_words_of_random123() {
        // kat_vectors of the authors' Random123 library: nothing, all ones, the digits of pi.
        let same = |counter, key, want: [u32; 4]| assert_eq!(philox(counter, key), want);
        same([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        same([!0; 4], [!0; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        same(
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        );
    }

    #[test]
    fn uses_streams_and_places_have_words_of_their_own() {
        let some = [
            words(1, Use::Normal, 2, 3),
            words(1 << 32, Use::Normal, 2, 3),
            words(1, Use::Uniform, 2, 3),
            words(1, Use::Normal, 2 << 32, 3),
            words(1, Use::Normal, 2, 4),
        ];
        let different: std::collections::HashSet<_> = some.into_iter().collect();
        assert_eq!(different.len(), some.len());
    }

    #[test]
    fn below_covers_its_range_evenly() {
        let mut counts = [0u32; 5];
        for at in 0..25_000 {
            for bits in pair(7, Use::Shuffle, 0, at) {
                counts[below(bits, 5) as usize] += 1;
            }
        }
        // Binomial(50000, 1/5): deviation sqrt(50000 * .2 * .8) = 89.4, so 450 is five of them.
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 450), "{counts:?}");
        assert_eq!((below(u64::MAX, 0), below(u64::MAX, 1), below(u64::MAX, 5), below(0, 5)), (0, 0, 4, 0));
    }

    #[test]
    fn the_ends_of_the_unit_interval_are_finite() {
        assert_eq!(normal(0, 0), [0.0, 0.0]);
        // 1 - u = 2^-32 at the end: sqrt(2 * 32 ln 2) = 6.66.
        let [x, y] = normal(u32::MAX, 0);
        assert!((x - 6.660_4).abs() < 1e-4 && y == 0.0, "{x} {y}");
    }
}
