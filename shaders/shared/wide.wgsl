// 64-bit products: WGSL has no 64-bit integers.
//
// Imported by: shared/philox.wgsl, shared/trig.wgsl

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
