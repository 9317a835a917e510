// Activation functions that WGSL lacks or specifies too loosely. CPU twin: src/cpu/functions.rs, which states their errors.
//
// Imported by: lstm_cell.wgsl, lstm_cell_grad.wgsl, gru_cell.wgsl, gru_cell_grad.wgsl, shared/activation.wgsl and others

#import shared/float.wgsl

fn relu(x: f32) -> f32 {
    return max_nan(x, 0.0);
}

/// 1 / (1 + e^-x), computed from e^-|x|, which cannot overflow.
fn sigmoid(x: f32) -> f32 {
    let e = exp_nan(-abs(x));
    return select(1.0, e, x < 0.0) / (1.0 + e);
}

/// tanh. WGSL's own may be off by 1e-5, and NaN for 200. Near 0, where 1 - 2 / (e^2x + 1) would cancel, a polynomial; beyond 15
/// the value at 15, which is ±1 to the last bit.
fn tanh_nan(x: f32) -> f32 {
    let z = x * x;
    let p = (((-0.0056922967 * z + 0.020628167) * z - 0.053736515) * z + 0.13331406) * z - 0.33333281;
    let small = x + x * z * p;
    let large = 1.0 - 2.0 / (exp(2.0 * min(abs(x), 15.0)) + 1.0);
    return select(select(select(large, -large, x < 0.0), small, abs(x) < 0.625), x, is_nan(x));
}
