//! A number with a bound on a device's error: running error analysis.
//!
//! References are written over [`Bounded`], an f64 value with a bound on its distance from the f32 that a conforming
//! device computes. Each operation adds its own error to the errors of its operands (N. J. Higham, *Accuracy and
//! Stability of Numerical Algorithms*, 2nd ed., section 3.3). Its own error is what the WGSL specification allows
//! ("Accuracy of concrete floating point expressions"); the CPU twins keep to it too. So bounds follow from the
//! formula, and nobody chooses a tolerance.
//!
//! A reference must have the structure of its kernel's arithmetic, not only its value: `sum_by` takes the depth of the
//! kernel's reduction tree.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// The relative error of one correctly rounded operation. WGSL sets no rounding mode, so the result may be either
/// neighbour of the exact one: the error is a whole unit in the last place (ulp).
pub const ULP: f64 = f32::EPSILON as f64;

/// The smallest normal f32. Every operation may flush smaller numbers to 0.
pub const TINY: f64 = f32::MIN_POSITIVE as f64;

/// A value, and a bound on the error of a device's f32 result.
///
/// Non-finite values are compared by class only, so their error is 0. An infinite error means that any result is
/// allowed.
#[derive(Debug, Clone, Copy)]
pub struct Bounded {
    value: f64,
    error: f64,
}

impl Bounded {
    /// Zero, exactly.
    pub const ZERO: Bounded = Bounded { value: 0.0, error: 0.0 };
    /// One, exactly.
    pub const ONE: Bounded = Bounded { value: 1.0, error: 0.0 };

    /// A number without a bound: any result is allowed.
    pub const UNKNOWN: Bounded = Bounded { value: 0.0, error: f64::INFINITY };

    /// A value with this error. A value that overflows f32 becomes infinite.
    pub fn new(value: f64, error: f64) -> Bounded {
        let most = f64::from(f32::MAX);
        if value.is_nan() {
            return Bounded { value, error: 0.0 };
        }
        if error.is_nan() || error == f64::INFINITY {
            return Bounded { value: if value.is_finite() { value } else { 0.0 }, error: f64::INFINITY };
        }
        if value.abs() - error > most {
            return Bounded { value: value.signum() * f64::INFINITY, error: 0.0 };
        }
        // Rounded up, so that rounding in f64 does not decide.
        let reach = (value.abs() + error) * (1.0 + ULP);
        Bounded { value, error: if reach > most { f64::INFINITY } else { error } }
    }

    /// A number that the device holds exactly: an input, or a constant representable in f32.
    pub fn exact(value: f64) -> Bounded {
        // A subnormal may be flushed when it is read.
        Bounded::new(value, if value.abs() < TINY { value.abs() } else { 0.0 })
    }

    /// A constant that f32 does not hold, rounded once on its way to the device, such as 1/√2.
    pub fn rounded(value: f64) -> Bounded {
        Bounded::new(value, 0.0).plus(0.0, 1.0)
    }

    /// The value in f64.
    pub fn value(self) -> f64 {
        self.value
    }

    /// The bound on the error of the device's f32.
    pub fn error(self) -> f64 {
        self.error
    }

    /// Adds the error of the last operation: `absolute`, and `ulps` units in the last place of the result. A subnormal
    /// result may be flushed.
    pub fn plus(self, absolute: f64, ulps: f64) -> Bounded {
        if !self.value.is_finite() {
            return self;
        }
        let flushed = if self.value == 0.0 && self.error == 0.0 { 0.0 } else { TINY };
        Bounded::new(
            self.value,
            self.error + absolute + ulps * ULP * (self.value.abs() + self.error) + flushed,
        )
    }

    /// Applies `f`, which must be monotonic on the interval in which the number may lie. Propagates the error of the
    /// argument exactly; the error of `f` itself must be added.
    pub fn through(self, f: impl Fn(f64) -> f64) -> Bounded {
        let y = f(self.value);
        if self.error == f64::INFINITY {
            return Bounded::UNKNOWN;
        }
        if self.error == 0.0 || !y.is_finite() {
            return Bounded::new(y, 0.0);
        }
        let away = |x: f64| (f(x) - y).abs();
        // A NaN at one end means that part of the interval is outside the domain: no bound.
        let error = [away(self.value - self.error), away(self.value + self.error)];
        Bounded::new(
            y,
            if error[0].is_nan() || error[1].is_nan() { f64::INFINITY } else { error[0].max(error[1]) },
        )
    }

    /// Applies a smooth `f` whose slope is at most `slope` in magnitude on the interval in which the number may lie.
    pub fn with_slope(self, f: impl Fn(f64) -> f64, slope: f64) -> Bounded {
        let error = if self.error == 0.0 { 0.0 } else { slope * self.error };
        Bounded::new(f(self.value), error)
    }

    /// e^x: 3 + 2·|x| ulp, by WGSL's table. The kernels return 0 if the result is subnormal.
    pub fn exp(self) -> Bounded {
        let reach = if self.value.is_finite() { (self.value.abs() + self.error).min(104.0) } else { 0.0 };
        self.through(f64::exp).plus(0.0, 3.0 + 2.0 * reach)
    }

    /// The natural logarithm: 3 ulp, or 2^-21 absolute in [0.5, 2], by WGSL's table.
    pub fn ln(self) -> Bounded {
        let near_one = self.value + self.error >= 0.5 && self.value - self.error <= 2.0;
        self.through(f64::ln).plus(if near_one { 2f64.powi(-21) } else { 0.0 }, 3.0)
    }

    /// The square root. WGSL inherits its accuracy from `1.0 / inverseSqrt(x)`: 2 ulp, plus 2.5 for the division.
    pub fn sqrt(self) -> Bounded {
        // If the number may be slightly below 0, the kernel has to clamp it.
        let low = f64::sqrt;
        if self.value >= 0.0 && self.value < self.error {
            let y = self.value.sqrt();
            return Bounded::new(y, y.max((self.value + self.error).sqrt() - y)).plus(0.0, 4.5);
        }
        self.through(low).plus(0.0, 4.5)
    }

    /// `1 / sqrt(x)` by `inverseSqrt`: 2 ulp.
    pub fn rsqrt(self) -> Bounded {
        self.through(|x| 1.0 / x.sqrt()).plus(0.0, 2.0)
    }

    /// The magnitude, without error.
    pub fn abs(self) -> Bounded {
        Bounded { value: self.value.abs(), ..self }
    }

    /// The larger number, without error; NaN if either is NaN.
    pub fn max(self, other: Bounded) -> Bounded {
        let value = if self.value > other.value || self.value.is_nan() { self.value } else { other.value };
        Bounded::new(value, self.error.max(other.error))
    }

    /// The smaller number, without error; NaN if either is NaN.
    pub fn min(self, other: Bounded) -> Bounded {
        -(-self).max(-other)
    }

    /// The square.
    pub fn square(self) -> Bounded {
        self * self
    }

    /// The sum in any order, with as many roundings as additions.
    pub fn sum(terms: impl IntoIterator<Item = Bounded>) -> Bounded {
        Bounded::sum_by(usize::MAX, terms)
    }

    /// The sum by a tree in which no term passes through more than `depth` additions. Each addition errs by one ulp of
    /// its result, which is at most Σ|terms| (Higham, section 4.2). NaN and infinities follow IEEE 754, in any order.
    pub fn sum_by(depth: usize, terms: impl IntoIterator<Item = Bounded>) -> Bounded {
        let (mut value, mut error, mut magnitude, mut count) = (0.0, 0.0, 0.0, 0usize);
        for term in terms {
            value += term.value;
            error += term.error;
            magnitude += term.value.abs() + term.error;
            count += usize::from(term.value != 0.0 || term.error != 0.0);
        }
        if !value.is_finite() {
            return Bounded::new(value, error);
        }
        let roundings = depth.min(count.saturating_sub(1)) as f64;
        // (1 + u)^n - 1 <= n·u / (1 - n·u), Higham's γ.
        let gamma = roundings * ULP / (1.0 - roundings * ULP);
        Bounded::new(value, error + gamma * magnitude + TINY * roundings)
    }

    /// Whether the number may be 0 but need not be. Its product with infinity and its reciprocal then have no bound.
    fn may_vanish(self) -> bool {
        self.error > 0.0 && self.value.abs() <= self.error
    }

    /// Whether a device's f32 is within the bound.
    pub fn admits(self, got: f32) -> bool {
        let got = f64::from(got);
        if self.value.is_finite() {
            // A NaN fails the comparison, but passes if the error is infinite.
            (got - self.value).abs() <= self.error || self.error == f64::INFINITY
        } else {
            got == self.value || (got.is_nan() && self.value.is_nan())
        }
    }

    /// The error of a device's f32 as a fraction of the bound: 0 if it equals the value, 1 at the bound.
    pub fn share(self, got: f32) -> f64 {
        let distance = (f64::from(got) - self.value).abs();
        match self.admits(got) {
            true if distance == 0.0 || !distance.is_finite() || self.error == f64::INFINITY => 0.0,
            true => distance / self.error,
            false => f64::INFINITY,
        }
    }
}

impl From<f64> for Bounded {
    /// [`Bounded::exact`].
    fn from(value: f64) -> Bounded {
        Bounded::exact(value)
    }
}

impl Neg for Bounded {
    type Output = Bounded;
    fn neg(self) -> Bounded {
        Bounded { value: -self.value, ..self }
    }
}

impl<T: Into<Bounded>> Add<T> for Bounded {
    type Output = Bounded;
    fn add(self, other: T) -> Bounded {
        let other = other.into();
        let sum = Bounded::new(self.value + other.value, self.error + other.error);
        // Adding 0 is exact.
        let exact = (self.value == 0.0 && self.error == 0.0) || (other.value == 0.0 && other.error == 0.0);
        if exact { sum } else { sum.plus(0.0, 1.0) }
    }
}

impl<T: Into<Bounded>> Sub<T> for Bounded {
    type Output = Bounded;
    fn sub(self, other: T) -> Bounded {
        self + -other.into()
    }
}

impl<T: Into<Bounded>> Mul<T> for Bounded {
    type Output = Bounded;
    fn mul(self, other: T) -> Bounded {
        let (a, b) = (self, other.into());
        if a.value.is_nan() || b.value.is_nan() {
            return Bounded::new(f64::NAN, 0.0);
        }
        // Even times 0: the unknown number may be infinite.
        if a.error == f64::INFINITY || b.error == f64::INFINITY {
            return Bounded::UNKNOWN;
        }
        if a.value.is_infinite() || b.value.is_infinite() {
            return if a.may_vanish() || b.may_vanish() {
                Bounded::UNKNOWN
            } else {
                Bounded::new(a.value * b.value, 0.0)
            };
        }
        // 0 · ∞ would be NaN; the term is 0.
        let term = |x: f64, y: f64| if x == 0.0 || y == 0.0 { 0.0 } else { x * y };
        let error = term(a.value.abs(), b.error) + term(b.value.abs(), a.error) + term(a.error, b.error);
        Bounded::new(a.value * b.value, error).plus(0.0, 1.0)
    }
}

impl<T: Into<Bounded>> Div<T> for Bounded {
    type Output = Bounded;
    /// 2.5 ulp by WGSL's table, for divisors up to 2^126 in magnitude.
    fn div(self, other: T) -> Bounded {
        let (a, b) = (self, other.into());
        let y = a.value / b.value;
        if a.value.is_nan() || b.value.is_nan() {
            return Bounded::new(f64::NAN, 0.0);
        }
        if a.error == f64::INFINITY || b.may_vanish() || (a.may_vanish() && b.value == 0.0) {
            return Bounded::UNKNOWN;
        }
        if b.value.is_infinite() || !y.is_finite() {
            return Bounded::new(y, 0.0);
        }
        let error = (a.error + y.abs() * b.error) / (b.value.abs() - b.error);
        Bounded::new(y, error).plus(0.0, 2.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_add_up() {
        let third = Bounded::ONE / 3.0;
        assert!((third.error() - 2.5 * ULP / 3.0).abs() < 1e-12);
        let two = third + third;
        assert!(
            (two.error() - (2.0 * third.error() + ULP * (2.0 / 3.0 + 2.0 * third.error()))).abs() < 1e-15
        );
        // A sum that cancels keeps the errors of its terms.
        assert!((two - two).error() >= 2.0 * two.error());
    }

    #[test]
    fn classes_carry_no_error() {
        let inf = Bounded::exact(f64::INFINITY);
        for odd in [inf, -inf, inf - inf, inf * 0.0, Bounded::exact(1e30) * 1e30, Bounded::ONE / 0.0] {
            assert_eq!(odd.error(), 0.0, "{odd:?}");
        }
        assert!((inf - inf).admits(f32::NAN) && !(inf - inf).admits(0.0));
        assert!((Bounded::exact(1e30) * 1e30).admits(f32::INFINITY));
        assert!((-inf).exp().admits(0.0));
        assert!(!Bounded::ONE.admits(f32::NAN));
    }

    #[test]
    fn what_may_be_flushed_is_not_known_as_a_divisor() {
        let small = Bounded::exact(1e-40);
        assert!(small.admits(0.0) && small.admits(1e-40));
        assert!((Bounded::ONE / small).admits(f32::INFINITY));
        let inf = Bounded::exact(f64::INFINITY);
        for unknown in [
            inf * small,
            inf + Bounded::UNKNOWN,
            Bounded::ONE / Bounded::UNKNOWN,
            Bounded::UNKNOWN.exp(),
            Bounded::UNKNOWN * 0.0,
        ] {
            assert!(unknown.admits(f32::NAN) && unknown.admits(1.0), "{unknown:?}");
        }
        assert!(!(inf * inf).admits(1.0) && !(Bounded::exact(f64::NAN) * Bounded::UNKNOWN).admits(1.0));
    }

    #[test]
    fn a_sum_errs_by_its_depth() {
        let ones = || (0..1024).map(|_| Bounded::ONE);
        let (line, tree) = (Bounded::sum(ones()), Bounded::sum_by(10, ones()));
        assert!((line.error() / (1023.0 * ULP * 1024.0) - 1.0).abs() < 1e-3);
        assert!((tree.error() / (10.0 * ULP * 1024.0) - 1.0).abs() < 1e-3);
    }
}
