// What every kernel may use: the index of a workgroup, special values, activation functions, 64-bit products, random numbers,
// the register tile of a matrix product. CPU twins of the functions: src/cpu/functions.rs, which states their errors.
//
// Imported by: adam.wgsl, softmax.wgsl, shared/elementwise.wgsl, shared/matmul.wgsl, shared/reduce.wgsl and most others

// --- The index of a workgroup ---

/// The linear index of this workgroup. Rust splits the grid into two dimensions, because one holds at most 65,535 workgroups.
/// The last row of the grid may be partly idle, so the caller must compare the index with its amount of work.
fn workgroup_index(group: vec3u, groups: vec3u) -> u32 {
    return group.y * groups.x + group.x;
}

// --- Special values ---
//
// WGSL lets a driver assume that NaN and infinity do not occur: `x != x` may be false for NaN, `max` and `clamp` may drop it,
// `exp(NaN)` may be inf, `tanh(200.0)` may be NaN. So these functions detect NaN by its bits and return it explicitly.

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

// --- Activation functions, which WGSL lacks or specifies too loosely ---

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

/// The activation that a kernel applies to a result before it stores it. The numbers are those of `Activation` in ops/unary.rs.
fn activate(x: f32, activation: u32) -> f32 {
    switch activation {
        case 1u: { return relu(x); }
        case 2u: { return sigmoid(x); }
        case 3u: { return tanh_nan(x); }
        default: { return x; }
    }
}

// --- 64-bit products: WGSL has no 64-bit integers ---

/// (high word, low word) of a * b.
fn mul_wide(a: u32, b: u32) -> vec2u {
    let a_lo = a & 0xffffu;
    let a_hi = a >> 16u;
    let b_lo = b & 0xffffu;
    let b_hi = b >> 16u;
    let low = a_lo * b_lo;
    let mid = a_hi * b_lo + (low >> 16u); // at most (2^16-1)^2 + 2^16-1, which fits
    let mid2 = a_lo * b_hi + (mid & 0xffffu);
    return vec2u(a_hi * b_hi + (mid >> 16u) + (mid2 >> 16u), a * b);
}

// --- Random numbers ---

/// Philox 4x32-10, a counter-based generator: it maps a counter and a key to four random words, the same on every device. Salmon,
/// Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). CPU twin: src/random.rs.
fn philox(counter: vec4u, key: vec2u) -> vec4u {
    var c = counter;
    var k = key;
    for (var round = 0u; round < 10u; round++) {
        let p0 = mul_wide(0xd2511f53u, c.x);
        let p1 = mul_wide(0xcd9e8d57u, c.z);
        c = vec4u(p1.x ^ c.y ^ k.x, p1.y, p0.x ^ c.w ^ k.y, p0.y);
        k += vec2u(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}

// --- The register tile of a matrix product ---

/// c + the outer product of a column `a` and a row `b`. The columns of the mat4x4f hold the rows of the tile c.
fn outer(c: mat4x4f, a: vec4f, b: vec4f) -> mat4x4f {
    return mat4x4f(fma(vec4f(a.x), b, c[0]), fma(vec4f(a.y), b, c[1]), fma(vec4f(a.z), b, c[2]), fma(vec4f(a.w), b, c[3]));
}
