//! Loops that the compiler turns into vector instructions: the widest that the running machine has, not only those that
//! every machine has.

/// Runs `work` compiled for this machine's vectors. What it calls must be inlined into it.
///
/// Nothing is reordered for it, so the result is the same bits on every machine.
pub(crate) fn wide<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// The larger number; a NaN may be lost.
#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// e^x for x <= 0, and 0 where that is subnormal; NaN stays NaN. Off by at most 1.6 units in the last place, over all
/// such f32.
///
/// After `expf` of the Cephes library (Moshier): x = n ln 2 + r with ln 2 in two parts, a polynomial in r, times 2^n.
/// Unlike the standard library's it has no call and no branch, so a loop of it becomes vector instructions.
#[inline(always)]
pub(crate) fn exp_below(x: f32) -> f32 {
    /// Adding it leaves the nearest whole number in the low bits.
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let y = p * (r * r) + r + 1.0;
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x < -87.336_54 { 0.0 } else { y * scale }
}

/// A reduction in sixteen strands, which fit vector registers and err less than one.
pub(crate) struct Strands<S> {
    strands: [S; 16],
    identity: S,
    /// The strand that an element out of step joins next.
    next: usize,
}

impl<S: Copy> Strands<S> {
    /// The number of strands.
    pub(crate) const COUNT: usize = 16;

    #[inline(always)]
    pub(crate) fn new(identity: S) -> Strands<S> {
        Strands { strands: [identity; 16], identity, next: 0 }
    }

    /// With the elements of `run`, the first being number `first`.
    #[inline(always)]
    pub(crate) fn run<T: Copy>(&mut self, run: &[T], first: u32, include: impl Fn(S, T, u32) -> S) {
        let (blocks, rest) = run.as_chunks::<16>();
        let mut i = first;
        for block in blocks {
            for (lane, (strand, &x)) in (0..).zip(self.strands.iter_mut().zip(block)) {
                *strand = include(*strand, x, i + lane);
            }
            i += 16;
        }
        self.spread(rest.len(), |k| rest[k], i, include);
    }

    /// With `len` elements one after the other, the first being number `first`.
    #[inline(always)]
    pub(crate) fn spread<T>(
        &mut self,
        len: usize,
        element: impl Fn(usize) -> T,
        first: u32,
        include: impl Fn(S, T, u32) -> S,
    ) {
        for (k, i) in (0..len).zip(first..) {
            let strand = &mut self.strands[self.next % 16];
            *strand = include(*strand, element(k), i);
            self.next += 1;
        }
    }

    #[inline(always)]
    pub(crate) fn join(self, merge: impl Fn(S, S) -> S) -> S {
        self.strands.into_iter().fold(self.identity, merge)
    }
}

/// Reduces `map` of a run in strands.
#[inline(always)]
pub(crate) fn reduce_run(
    identity: f32,
    merge: impl Fn(f32, f32) -> f32 + Copy,
    map: impl Fn(f32) -> f32 + Copy,
    run: &[f32],
) -> f32 {
    let mut strands = Strands::new(identity);
    strands.run(run, 0, |state, x, _| merge(state, map(x)));
    strands.join(merge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_within_its_error() {
        // Every 37th f32 from -0.0 to -87.3: all would take a minute.
        let mut worst = 0f64;
        for bits in ((-0f32).to_bits()..(-87.336_54f32).to_bits()).step_by(37) {
            let x = f32::from_bits(bits);
            let want = f64::from(x).exp();
            let ulp = f64::from(f32::EPSILON) * want.log2().floor().exp2();
            worst = worst.max((f64::from(exp_below(x)) - want).abs() / ulp);
        }
        assert!(worst <= 1.6, "{worst} ULP");
        assert_eq!(exp_below(0.0), 1.0);
        assert_eq!(exp_below(f32::NEG_INFINITY), 0.0);
        assert!(exp_below(f32::NAN).is_nan());
    }
}
