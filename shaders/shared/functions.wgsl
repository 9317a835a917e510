// The element-wise functions of one operand with their gradients, and the smooth functions that they are made of. CPU twins:
// src/ops/unary.rs and src/cpu/functions.rs, which states their errors.
//
// Imported by: unary.wgsl, unary_grad.wgsl, loss.wgsl, loss_grad.wgsl, shared/glu.wgsl
//
// For the function NAME of ops/unary.rs, op_NAME(x, attributes) is y, and slope_NAME(s, dy, attributes) is dx = dy times the
// derivative at x. s is x or y, whichever gives the simpler derivative.

#import shared/common.wgsl

// --- Smooth functions ---

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

// --- Sine and cosine of every finite number ---

// WGSL's own guarantee an error of 2^-11 only, and only from -π to π.

/// 1 / 2π in binary; the first word holds the 32 digits before the point.
const TURN = array<u32, 7>(0u, 0x28be60dbu, 0x9391054au, 0x7f09d5f4u, 0x7d4d3770u, 0x36d8a566u, 0x4f10e410u);

/// 32 binary digits of 1 / 2π, from digit `at` on.
fn digits(at: u32) -> u32 {
    let word = at / 32u;
    // WGSL shifts by at most 31, so the second word is shifted twice.
    return (TURN[word] << (at % 32u)) | (TURN[word + 1u] >> 1u >> (31u - at % 32u));
}

/// |x| as an angle in units of 2^-32 turns, for |x| >= 2^-1. u32 wraparound drops whole turns. |x| is m 2^k with an integer
/// m < 2^24: digits of 1 / 2π before the k-th contribute whole turns only, and digits after the next 64 are negligible.
/// Payne & Hanek, "Radian reduction for trigonometric functions" (SIGNUM Newsletter 18, 1983).
fn angle(x: f32) -> u32 {
    let bits = bitcast<u32>(x) & 0x7fffffffu;
    let m = (bits & 0x7fffffu) | 0x800000u;
    let at = (bits >> 23u) - 118u; // k + 32
    return m * digits(at) + mul_wide(m, digits(at + 32u)).x;
}

/// sin(x + quarters π/2). The angle to the nearest quarter turn is at most π/4, where the Taylor series are precise.
fn sin_from(x: f32, quarters: u32) -> f32 {
    var quarter = quarters;
    var r = x;
    if (abs(x) >= 0.785) {
        let turned = angle(x);
        let a = select(turned, 0u - turned, x < 0.0);
        let nearest = (a + 0x20000000u) >> 30u;
        r = f32(bitcast<i32>(a - (nearest << 30u))) * 0x1.921fb6p-30f; // 2π / 2^32
        quarter += nearest;
    }
    let z = r * r;
    let s = ((z * (1.0 / 362880.0) - 1.0 / 5040.0) * z + 1.0 / 120.0) * z - 1.0 / 6.0;
    let c = ((z * (-1.0 / 3628800.0) + 1.0 / 40320.0) * z - 1.0 / 720.0) * z + 1.0 / 24.0;
    let sine = r + r * z * s;
    let cosine = 1.0 - 0.5 * z + z * z * c;
    let y = select(sine, cosine, (quarter & 1u) == 1u);
    return select(select(y, -y, (quarter & 2u) == 2u), nan(), is_nan(x) || is_inf(x));
}

// --- Element-wise functions with a gradient ---

fn op_exp(x: f32, attributes: vec2f) -> f32 { return exp_nan(x); }
fn slope_exp(y: f32, dy: f32, attributes: vec2f) -> f32 { return dy * y; }

fn op_log(x: f32, attributes: vec2f) -> f32 { return log_nan(x); }
fn slope_log(x: f32, dy: f32, attributes: vec2f) -> f32 { return dy / x; }

fn op_sqrt(x: f32, attributes: vec2f) -> f32 { return sqrt_nan(x); }
fn slope_sqrt(y: f32, dy: f32, attributes: vec2f) -> f32 { return dy / (2.0 * y); }

fn op_rsqrt(x: f32, attributes: vec2f) -> f32 { return rsqrt_nan(x); }
fn slope_rsqrt(y: f32, dy: f32, attributes: vec2f) -> f32 { return dy * -0.5 * (y * y * y); }

fn op_recip(x: f32, attributes: vec2f) -> f32 { return 1.0 / x; }
fn slope_recip(y: f32, dy: f32, attributes: vec2f) -> f32 { return -dy * y * y; }

fn op_abs(x: f32, attributes: vec2f) -> f32 { return abs(x); }
fn slope_abs(x: f32, dy: f32, attributes: vec2f) -> f32 { return dy * sign_nan(x); }

fn op_square(x: f32, attributes: vec2f) -> f32 { return x * x; }
fn slope_square(x: f32, dy: f32, attributes: vec2f) -> f32 { return dy * 2.0 * x; }

fn op_sin(x: f32, attributes: vec2f) -> f32 { return sin_from(x, 0u); }
fn slope_sin(x: f32, dy: f32, attributes: vec2f) -> f32 { return dy * sin_from(x, 1u); }

fn op_cos(x: f32, attributes: vec2f) -> f32 { return sin_from(x, 1u); }
fn slope_cos(x: f32, dy: f32, attributes: vec2f) -> f32 { return -dy * sin_from(x, 0u); }

fn op_erf(x: f32, attributes: vec2f) -> f32 { return erf(x); }
fn slope_erf(x: f32, dy: f32, attributes: vec2f) -> f32 { return dy * (1.1283792 * exp_nan(-x * x)); } // 2 / sqrt(π) e^-x²

fn op_relu(x: f32, attributes: vec2f) -> f32 { return relu(x); }
fn slope_relu(y: f32, dy: f32, attributes: vec2f) -> f32 { return select(0.0, dy, y > 0.0 || is_nan(y)); }

fn op_leaky_relu(x: f32, slope: vec2f) -> f32 { return select(slope.x * x, x, x > 0.0); }
fn slope_leaky_relu(x: f32, dy: f32, slope: vec2f) -> f32 { return select(dy * slope.x, dy, x > 0.0); }

fn op_elu(x: f32, alpha: vec2f) -> f32 { return select(alpha.x * exp_m1(x), x, x > 0.0); }
fn slope_elu(x: f32, dy: f32, alpha: vec2f) -> f32 { return select(dy * (alpha.x * exp_nan(x)), dy, x > 0.0); }

fn op_sigmoid(x: f32, attributes: vec2f) -> f32 { return sigmoid(x); }
fn slope_sigmoid(y: f32, dy: f32, attributes: vec2f) -> f32 { return dy * y * (1.0 - y); }

fn op_tanh(x: f32, attributes: vec2f) -> f32 { return tanh_nan(x); }
fn slope_tanh(y: f32, dy: f32, attributes: vec2f) -> f32 { return dy * (1.0 - y) * (1.0 + y); }

fn op_gelu(x: f32, attributes: vec2f) -> f32 { return gelu(x); }
fn slope_gelu(x: f32, dy: f32, attributes: vec2f) -> f32 { return dy * gelu_slope(x); }

fn op_silu(x: f32, attributes: vec2f) -> f32 { return silu(x); }
fn slope_silu(x: f32, dy: f32, attributes: vec2f) -> f32 { return dy * silu_slope(x); }

// At -inf the limit is 0, where -inf * 0 would be NaN.
fn op_hardswish(x: f32, attributes: vec2f) -> f32 { return max_nan(x, -3.0) * clamp(x + 3.0, 0.0, 6.0) / 6.0; }
fn slope_hardswish(x: f32, dy: f32, attributes: vec2f) -> f32 {
    return select(select(dy * (x / 3.0 + 0.5), dy, x >= 3.0), 0.0, x <= -3.0);
}

fn op_softplus(x: f32, attributes: vec2f) -> f32 { return softplus(x); }
fn slope_softplus(x: f32, dy: f32, attributes: vec2f) -> f32 { return dy * sigmoid(x); }

fn op_clamp(x: f32, bounds: vec2f) -> f32 { return min_nan(max_nan(x, bounds.x), bounds.y); }
fn slope_clamp(x: f32, dy: f32, bounds: vec2f) -> f32 { return select(0.0, dy, x >= bounds.x && x <= bounds.y && !is_nan(x)); }

// --- Element-wise functions without one ---

fn op_neg(x: f32, attributes: vec2f) -> f32 { return -x; }
fn op_floor(x: f32, attributes: vec2f) -> f32 { return select(floor(x), x, is_nan(x)); }
fn op_ceil(x: f32, attributes: vec2f) -> f32 { return select(ceil(x), x, is_nan(x)); }
fn op_round(x: f32, attributes: vec2f) -> f32 { return select(round(x), x, is_nan(x)); }
fn op_sign(x: f32, attributes: vec2f) -> f32 { return sign_nan(x); }
fn op_logical_not(x: f32, attributes: vec2f) -> f32 { return select(0.0, 1.0, order(x) == 0); }
