// Functions that WGSL lacks or promises little of: those that the other kernels may apply too. Twin: src/cpu/functions.rs,
// which has their errors.

#import shared/float.wgsl

fn relu(x: f32) -> f32 {
    return max_nan(x, 0.0);
}

/// 1 / (1 + e^-x), by the exponential of a negative number so that it can't overflow.
fn sigmoid(x: f32) -> f32 {
    let e = exp_nan(-abs(x));
    return select(1.0, e, x < 0.0) / (1.0 + e);
}

/// tanh. WGSL's own may be off by 1e-5, and NaN for 200: so a polynomial where 1 - 2 / (e^2x + 1) would cancel, and past
/// 15 what it is there to the last bit.
fn tanh_nan(x: f32) -> f32 {
    let z = x * x;
    let p = (((-0.0056922967 * z + 0.020628167) * z - 0.053736515) * z + 0.13331406) * z - 0.33333281;
    let small = x + x * z * p;
    let large = 1.0 - 2.0 / (exp(2.0 * min(abs(x), 15.0)) + 1.0);
    return select(select(select(large, -large, x < 0.0), small, abs(x) < 0.625), x, is_nan(x));
}
