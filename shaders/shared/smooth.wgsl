// Smooth functions built on the exponential, for element-wise kernels. CPU twin: src/cpu/functions.rs, which states their errors.
//
// Imported by: unary.wgsl, unary_grad.wgsl, loss.wgsl, loss_grad.wgsl, shared/glu.wgsl

#import shared/common.wgsl

/// e^x - 1 for x <= 0. Near 0, where the subtraction would cancel, the Taylor series.
fn exp_m1(x: f32) -> f32 {
    let high = ((x * (1.0 / 40320.0) + 1.0 / 5040.0) * x + 1.0 / 720.0) * x + 1.0 / 120.0;
    let series = x + x * x * (((high * x + 1.0 / 24.0) * x + 1.0 / 6.0) * x + 0.5);
    return select(exp_nan(x) - 1.0, series, x > -0.5);
}

/// ln(1 + e) for e in 0..1, as 2 artanh(e / (2 + e)). All terms of that series are positive, so a small e keeps its precision.
fn log_1p(e: f32) -> f32 {
    let s = e / (2.0 + e);
    let z = s * s;
    let high = ((z * (1.0 / 15.0) + 1.0 / 13.0) * z + 1.0 / 11.0) * z + 1.0 / 9.0;
    return 2.0 * (s + s * z * (((high * z + 1.0 / 7.0) * z + 1.0 / 5.0) * z + 1.0 / 3.0));
}

/// ln(1 + e^x), computed from e^-|x|, which cannot overflow.
fn softplus(x: f32) -> f32 {
    return max_nan(x, 0.0) + log_1p(exp_nan(-abs(x)));
}

/// x sigmoid(x): Elfwing, Uchibe & Doya (arXiv:1702.03118). At -inf the limit is 0, where -inf * 0 would be NaN.
fn silu(x: f32) -> f32 {
    return max_nan(x, -104.0) * sigmoid(x);
}

/// The derivative of silu; sigmoid(-x) is 1 - sigmoid(x) without cancellation.
fn silu_slope(x: f32) -> f32 {
    return sigmoid(x) * (1.0 + clamp(x, -104.0, 104.0) * sigmoid(-x));
}

/// The error function: near 0 a polynomial times x, elsewhere 1 - erfc(x) with a polynomial for ln erfc(x).
fn erf(x: f32) -> f32 {
    let z = x * x;
    let p = ((-0.00059254951 * z + 0.0049807173) * z - 0.026758565) * z + 0.11281618;
    let small = x + x * ((p * z - 0.3761248) * z + 0.12837915);
    let t = min(abs(x), 4.0); // where it is 1 to the last bit
    let q = ((0.00021337484 * t - 0.0032099071) * t + 0.022873703) * t - 0.10523635;
    let large = 1.0 - exp(t * ((q * t - 0.63573778) * t - 1.1285086));
    return select(select(select(large, -large, x < 0.0), small, abs(x) < 0.9375), x, is_nan(x));
}

/// x Φ(x) with the normal distribution function Φ, exact form: Hendrycks & Gimpel (arXiv:1606.08415). At -inf the limit is 0.
fn gelu(x: f32) -> f32 {
    return 0.5 * max_nan(x, -14.0) * (1.0 + erf(x * 0.70710678));
}

/// The derivative of gelu, Φ(x) + x Φ'(x).
fn gelu_slope(x: f32) -> f32 {
    let c = clamp(x, -14.0, 14.0);
    let density = 0.39894228 * exp_nan(-0.5 * c * c);
    return 0.5 * (1.0 + erf(x * 0.70710678)) + c * density;
}
