// Special values. WGSL lets a driver assume that NaN and infinity do not occur: `x != x` may be false for NaN, `max` and `clamp`
// may drop it, `exp(NaN)` may be inf, `tanh(200.0)` may be NaN. So these functions detect NaN by its bits and return it explicitly.
//
// Imported by: adam.wgsl, binary.wgsl, max_pool2d.wgsl, reduce.wgsl, shared/functions.wgsl, shared/online_softmax.wgsl and others

/// The most negative finite f32.
const LOWEST: f32 = -0x1.fffffep+127f;

fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn is_inf(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u;
}

fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

/// +inf. WGSL forbids infinite constant expressions, so the bits pass through a variable.
fn inf() -> f32 {
    var bits = 0x7f800000u;
    return bitcast<f32>(bits);
}

fn nan() -> f32 {
    var bits = 0x7fc00000u;
    return bitcast<f32>(bits);
}

/// An integer that orders all floats as their values; both zeros are 0, NaN lies beyond the infinities. Unlike float
/// comparisons, comparing it does not flush subnormals and is exact for infinities.
fn order(x: f32) -> i32 {
    let size = bitcast<i32>(x) & 0x7fffffff;
    return select(size, -size, bitcast<i32>(x) < 0);
}

/// The sign: 1, -1, or 0 at 0; NaN of NaN.
fn sign_nan(x: f32) -> f32 {
    return select(f32(sign(order(x))), x, is_nan(x));
}

/// The larger; NaN if either is NaN.
fn max_nan(a: f32, b: f32) -> f32 {
    return select(select(max(a, b), b, is_nan(b)), a, is_nan(a));
}

/// The smaller; NaN if either is NaN.
fn min_nan(a: f32, b: f32) -> f32 {
    return select(select(min(a, b), b, is_nan(b)), a, is_nan(a));
}

/// e^x; NaN stays NaN.
fn exp_nan(x: f32) -> f32 {
    // Outside these bounds the result overflows or underflows, and some drivers' exp is wrong far outside.
    let y = exp(clamp(x, -104.0, 89.0));
    return select(select(select(y, 0.0, x < -104.0), inf(), x > 88.8), x, is_nan(x));
}

/// The natural logarithm; -inf at 0, NaN below.
fn log_nan(x: f32) -> f32 {
    if (is_nan(x) || x < 0.0) { return nan(); }
    if (x == 0.0) { return -inf(); }
    if (is_inf(x)) { return x; }
    return log(x);
}

/// The square root; NaN below 0.
fn sqrt_nan(x: f32) -> f32 {
    if (is_nan(x) || x < 0.0) { return nan(); }
    if (is_inf(x) || x == 0.0) { return x; }
    return sqrt(x);
}

/// 1 / sqrt(x); inf at 0, NaN below.
fn rsqrt_nan(x: f32) -> f32 {
    if (is_nan(x) || x < 0.0) { return nan(); }
    if (x == 0.0) { return inf(); }
    if (is_inf(x)) { return 0.0; }
    return inverseSqrt(x);
}

/// a^b as IEEE 754 `pow`: 1 for b = 0; NaN for a finite negative base with a non-integer exponent.
fn pow_nan(a: f32, b: f32) -> f32 {
    if (b == 0.0 || a == 1.0) { return 1.0; }
    if (is_nan(a) || is_nan(b)) { return nan(); }
    let size = abs(a);
    let whole = is_inf(b) || floor(b) == b;
    let odd = abs(b) < 16777216.0 && whole && (i32(b) & 1) != 0;
    if (a < 0.0 && !whole && !is_inf(a)) { return nan(); }
    var y: f32;
    if (size == 1.0) {
        y = 1.0;
    } else if (size == 0.0 || is_inf(a) || is_inf(b)) {
        let grows = (size > 1.0) == (b > 0.0);
        y = select(0.0, inf(), grows);
    } else {
        let e = b * log2(size);
        y = select(select(exp2(clamp(e, -160.0, 140.0)), 0.0, e < -150.0), inf(), e >= 128.0);
    }
    return select(y, -y, bitcast<i32>(a) < 0 && odd); // -0 too
}
