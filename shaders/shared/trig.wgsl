// Sine and cosine of every finite number. WGSL's own guarantee an error of 2^-11 only, and only from -π to π. CPU twin:
// src/cpu/functions.rs, which states their error.
//
// Imported by: unary.wgsl, unary_grad.wgsl

#import shared/common.wgsl

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
