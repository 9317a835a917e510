// Functions that WGSL lacks.

#import shared/float.wgsl

fn relu(x: f32) -> f32 {
    return max_nan(x, 0.0);
}

/// 1 / (1 + e^-x), by the exponential of a negative number so that it can't overflow.
fn sigmoid(x: f32) -> f32 {
    let e = exp_nan(-abs(x));
    return select(1.0, e, x < 0.0) / (1.0 + e);
}

/// The error function, Abramowitz & Stegun 7.1.26: off by at most 1.5e-7.
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3275911 * abs(x));
    let s = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    let y = 1.0 - s * exp_nan(-x * x);
    return select(y, -y, x < 0.0);
}

/// x times the normal distribution function, exact form: Hendrycks & Gimpel (arXiv:1606.08415).
fn gelu(x: f32) -> f32 {
    // -inf has the limit 0, which 0 * -inf would miss.
    return select(0.5 * x * (1.0 + erf(x * 0.70710678)), 0.0, x < -14.0);
}

fn gelu_slope(x: f32) -> f32 {
    let density = 0.39894228 * exp_nan(-0.5 * x * x);
    return select(0.5 * (1.0 + erf(x * 0.70710678)) + x * density, select(1.0, 0.0, x < 0.0), abs(x) > 14.0);
}
