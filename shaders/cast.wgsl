// Casts of ids to f32 and of f32 to ids: y[i] = x[i] as the other type. x may be strided.
// Used by: to_dtype
//
// WGSL lets a device round f32(u) up or down, and assume that NaN does not occur. So both casts are computed on the bits: every
// device gives the same.
//
// Memory bound: x is read once, y written once. shared/elementwise.wgsl has the bindings and the entry points: x is its operand a.
// x and y are words: ids, or the bits of f32.
//
// Constants prepended by ops/cast.rs: OP: the cast, op_NAME. WG: invocations per workgroup.

#import shared/elementwise.wgsl

alias Element = u32;

fn f(x: u32, b: u32, c: u32) -> u32 {
    return OP(x);
}

/// The bits of the f32 nearest to an id; ties go to even.
fn op_to_f32(id: u32) -> u32 {
    if (id == 0u) { return 0u; }
    let top = firstLeadingBit(id);
    let digits = id << (31u - top);
    let kept = digits >> 8u; // 24 binary digits; the first is 1, which adds 1 to the exponent below
    let up = ((digits & 0xffu) + 127u + (kept & 1u)) >> 8u; // 1 to round up, which may add 1 to the exponent too
    return ((126u + top) << 23u) + kept + up;
}

/// An f32, given by its bits, toward zero: 0 of NaN and below 0, the largest u32 above it.
fn op_to_u32(bits: u32) -> u32 {
    if (bits < 0x3f800000u || bits > 0x7f800000u) { return 0u; } // below 1; NaN, and all with the sign bit
    if (bits >= 0x4f800000u) { return 0xffffffffu; } // from 2^32 on
    let significand = (bits << 8u) | 0x80000000u; // its 24 digits, the first of which is not stored
    return significand >> (158u - (bits >> 23u)); // an exponent of 158 is that of 2^31
}
