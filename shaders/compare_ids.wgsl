// Comparisons of ids, y[i] = 1 where a[i] and b[i] compare so, else 0. The operands are broadcast and have any strides.
// Used by: eq, ne, lt, le, gt, ge, eq_scalar, ne_scalar, lt_scalar, le_scalar, gt_scalar, ge_scalar
//
// Ids are compared as u32, since f32 does not hold all of them above 2^24. binary.wgsl compares numbers.
//
// Memory bound: each operand is read once, y written once. shared/elementwise.wgsl has the bindings and the entry points: a and b
// are ids, y the bits of f32.
//
// Constants prepended by ops/binary.rs: OP: the comparison, op_NAME. WG: invocations per workgroup.

#import shared/elementwise.wgsl

alias Element = u32;

fn f(a: u32, b: u32, c: u32) -> u32 {
    return select(0u, 0x3f800000u, OP(a, b)); // the bits of 0 and 1
}

fn op_eq(a: u32, b: u32) -> bool { return a == b; }
fn op_ne(a: u32, b: u32) -> bool { return a != b; }
fn op_lt(a: u32, b: u32) -> bool { return a < b; }
fn op_le(a: u32, b: u32) -> bool { return a <= b; }
fn op_gt(a: u32, b: u32) -> bool { return a > b; }
fn op_ge(a: u32, b: u32) -> bool { return a >= b; }
