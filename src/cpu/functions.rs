//! Functions of one number that WGSL lacks or promises little of, computed as `shaders/shared/common.wgsl`
//! and `functions.wgsl` do. The errors stated here count every operation as one unit in the last place of its
//! result (2^-23 of it), as WGSL allows, and `exp` and division by WGSL's accuracy table; what the test finds is far
//! smaller.

pub(crate) fn relu(x: f32) -> f32 {
    // In this order NaN stays NaN.
    if x < 0.0 { 0.0 } else { x }
}

pub(crate) fn sigmoid(x: f32) -> f32 {
    let e = (-x.abs()).exp();
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

/// Near 0 within 2.5 units: the tail is at most 0.13 of the result and errs by 5 units of itself, the last addition by one,
/// the polynomial (minimax) by 0.04. Elsewhere the error of e^2x is halved at least.
pub(crate) fn tanh(x: f32) -> f32 {
    if x.abs() < 0.625 {
        let z = x * x;
        let p = (((-0.005_692_296_7 * z + 0.020_628_167) * z - 0.053_736_515) * z + 0.133_314_06) * z
            - 0.333_332_8;
        return x + x * z * p;
    }
    if x.is_nan() {
        return x;
    }
    let large = 1.0 - 2.0 / ((2.0 * x.abs().min(15.0)).exp() + 1.0);
    large.copysign(x)
}

/// `e^x - 1` for x <= 0: within 3.5 units from -0.5 on (the series' tail is a quarter of the result and errs by 5 units of
/// itself, the last addition by one, what is left of the series by 0.1; all over 0.78); below as `e^x` and a subtraction.
pub(crate) fn exp_m1(x: f32) -> f32 {
    if x > -0.5 {
        let high = ((x * (1.0 / 40320.0) + 1.0 / 5040.0) * x + 1.0 / 720.0) * x + 1.0 / 120.0;
        return x + x * x * (((high * x + 1.0 / 24.0) * x + 1.0 / 6.0) * x + 0.5);
    }
    x.exp() - 1.0
}

/// `ln(1 + e)` for e from 0 to 1, as `2 artanh(e / (2 + e))`, within 6.5 units: s errs by 3.5, its square by twice that, but
/// the tail is at most 0.04 of the result; what is left of the series is less than 0.02.
pub(crate) fn log_1p(e: f32) -> f32 {
    let s = e / (2.0 + e);
    let z = s * s;
    let high = ((z * (1.0 / 15.0) + 1.0 / 13.0) * z + 1.0 / 11.0) * z + 1.0 / 9.0;
    2.0 * (s + s * z * (((high * z + 1.0 / 7.0) * z + 1.0 / 5.0) * z + 1.0 / 3.0))
}

pub(crate) fn softplus(x: f32) -> f32 {
    relu(x) + log_1p((-x.abs()).exp())
}

pub(crate) fn silu(x: f32) -> f32 {
    // -inf has the limit 0, which -inf * 0 would miss.
    (if x < -104.0 { -104.0 } else { x }) * sigmoid(x)
}

/// The derivative of [`silu`].
pub(crate) fn silu_slope(x: f32) -> f32 {
    sigmoid(x) * (1.0 + x.clamp(-104.0, 104.0) * sigmoid(-x))
}

/// The error function, within 4 units. Below 0.9375 a polynomial (minimax, off by 0.2) times x: its value, from 0.13 to
/// -0.13, errs by a unit of 1 at most. Above, `1 - erfc(x)` with a polynomial (off by 0.03) for `ln erfc(x)`: that is -1.7
/// or less and errs by 3 units of itself, its exponential by 3 and twice its size more, but that is at most 0.19.
pub(crate) fn erf(x: f32) -> f32 {
    if x.abs() < 0.9375 {
        let z = x * x;
        let p = ((-0.000_592_549_5 * z + 0.004_980_717_3) * z - 0.026_758_565) * z + 0.112_816_18;
        return x + x * ((p * z - 0.376_124_8) * z + 0.128_379_15);
    }
    if x.is_nan() {
        return x;
    }
    let t = x.abs().min(4.0);
    let q = ((0.000_213_374_84 * t - 0.003_209_907) * t + 0.022_873_703) * t - 0.105_236_35;
    let large = 1.0 - (t * ((q * t - 0.635_737_8) * t - 1.128_508_6)).exp();
    large.copysign(x)
}

pub(crate) fn gelu(x: f32) -> f32 {
    // -inf has the limit 0, which -inf * 0 would miss.
    0.5 * (if x < -14.0 { -14.0 } else { x }) * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The derivative of [`gelu`].
pub(crate) fn gelu_slope(x: f32) -> f32 {
    let c = x.clamp(-14.0, 14.0);
    let density = 0.398_942_3 * (-0.5 * c * c).exp();
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + c * density
}

/// `sin(x + quarters π/2)` of every finite x, within 6 units and 2^-28; NaN of infinities.
///
/// The angle left after the reduction errs by 2.5 units (an integer made a float, times a constant) and by 1.01 of 2^-32 of a
/// turn, 1.5e-9, that was cut off; below 0.785 it is x itself. The sine's tail is at most 0.11 of it and errs by 5 units, the
/// cosine's is at most 0.31 and errs by 2; an addition or two; what is left of the series is less than 1.8e-9.
pub(crate) fn sin_from(x: f32, quarters: u32) -> f32 {
    if !x.is_finite() {
        return f32::NAN;
    }
    let (mut quarter, mut r) = (quarters, x);
    if x.abs() >= 0.785 {
        let turned = angle(x);
        let a = if x < 0.0 { turned.wrapping_neg() } else { turned };
        let nearest = a.wrapping_add(1 << 29) >> 30;
        r = a.wrapping_sub(nearest << 30).cast_signed() as f32 * 1.462_918_1e-9; // 2π / 2^32
        quarter += nearest;
    }
    let z = r * r;
    let y = if quarter & 1 == 0 {
        let s = ((z * (1.0 / 362_880.0) - 1.0 / 5040.0) * z + 1.0 / 120.0) * z - 1.0 / 6.0;
        r + r * z * s
    } else {
        let c = ((z * (-1.0 / 3_628_800.0) + 1.0 / 40320.0) * z - 1.0 / 720.0) * z + 1.0 / 24.0;
        1.0 - 0.5 * z + z * z * c
    };
    if quarter & 2 == 0 { y } else { -y }
}

/// |x| as an angle in units of 2^-32 of a turn, whole turns dropped; for finite |x| >= 1/2. `shared/functions.wgsl` says how.
fn angle(x: f32) -> u32 {
    /// 1 / 2π in binary, the first word being the 32 digits before the point.
    const TURN: [u32; 7] = [0, 0x28be_60db, 0x9391_054a, 0x7f09_d5f4, 0x7d4d_3770, 0x36d8_a566, 0x4f10_e410];
    let bits = x.abs().to_bits();
    let m = u64::from((bits & 0x7f_ffff) | 0x80_0000);
    let at = (bits >> 23) - 118;
    let words =
        TURN[at as usize / 32..][..3].iter().fold(0u128, |digits, &word| digits << 32 | u128::from(word));
    let digits = (words >> (32 - at % 32)) as u64;
    (m.wrapping_mul(digits) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::{ULP, erf as erf_f64};

    /// Holds `f` to `units` (of 2^-23 of the result) and `absolute` at every 251st float between two of one sign.
    fn within(f: fn(f32) -> f32, want: fn(f64) -> f64, ends: (f32, f32), units: f64, absolute: f64) {
        for x in (ends.0.to_bits()..ends.1.to_bits()).step_by(251).map(f32::from_bits) {
            let (got, y) = (f64::from(f(x)), want(f64::from(x)));
            let bound = units * ULP * y.abs() + absolute;
            assert!((got - y).abs() <= bound, "{got:e} at {x:e}, should be {y:e} within {bound:e}");
        }
    }

    #[test]
    fn functions_are_within_their_errors() {
        // From the smallest normal number on.
        let tiny = f32::MIN_POSITIVE;
        within(tanh, f64::tanh, (tiny, 0.625), 2.5, 0.0);
        // At 0.625 an exponential within 3 + 2.5 units of 3.5, divided by the square of 4.5, over 0.55, and three more.
        within(tanh, f64::tanh, (0.625, f32::MAX), 7.0, 0.0);
        within(exp_m1, f64::exp_m1, (-tiny, -0.5), 3.5, 0.0);
        within(exp_m1, f64::exp_m1, (-0.5, -80.0), 7.5, 0.0);
        within(log_1p, f64::ln_1p, (tiny, 1.0), 6.5, 0.0);
        within(erf, erf_f64, (tiny, 9.0), 4.0, 0.0);
        within(|x| sin_from(x, 0), f64::sin, (tiny, 0.785), 2.0, 0.0);
        within(|x| sin_from(x, 0), f64::sin, (0.785, f32::MAX), 6.0, 2f64.powi(-28));
        within(|x| sin_from(x, 1), f64::cos, (tiny, f32::MAX), 6.0, 2f64.powi(-28));
    }
}
