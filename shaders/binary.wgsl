// Element-wise functions of two operands, y[i] = f(a[i], b[i]). The operands are broadcast and have any strides.
// Used by: add, sub, mul, div, maximum, minimum, pow, eq, ne, lt, le, gt, ge, logical_and, logical_or, logical_xor
// Used by: add_scalar, sub_scalar, mul_scalar, div_scalar, maximum_scalar, minimum_scalar, pow_scalar
// Used by: eq_scalar, ne_scalar, lt_scalar, le_scalar, gt_scalar, ge_scalar and others
//
// Memory bound: each operand is read once, y written once. shared/elementwise.wgsl has the bindings and the entry points.
//
// Constants prepended by ops/binary.rs: OP: the function, op_NAME. WG: invocations per workgroup.

#import shared/elementwise.wgsl
#import shared/common.wgsl

alias Element = f32;

fn f(a: f32, b: f32, c: f32) -> f32 {
    return OP(a, b);
}

fn op_add(a: f32, b: f32) -> f32 { return a + b; }
fn op_sub(a: f32, b: f32) -> f32 { return a - b; }
fn op_mul(a: f32, b: f32) -> f32 { return a * b; }
fn op_div(a: f32, b: f32) -> f32 { return a / b; }
fn op_maximum(a: f32, b: f32) -> f32 { return max_nan(a, b); }
fn op_minimum(a: f32, b: f32) -> f32 { return min_nan(a, b); }
fn op_pow(a: f32, b: f32) -> f32 { return pow_nan(a, b); }

// Comparisons: NaN is unordered, so only `ne` holds for it.
fn op_eq(a: f32, b: f32) -> f32 { return truth(!unordered(a, b) && order(a) == order(b)); }
fn op_ne(a: f32, b: f32) -> f32 { return truth(unordered(a, b) || order(a) != order(b)); }
fn op_lt(a: f32, b: f32) -> f32 { return truth(!unordered(a, b) && order(a) < order(b)); }
fn op_le(a: f32, b: f32) -> f32 { return truth(!unordered(a, b) && order(a) <= order(b)); }
fn op_gt(a: f32, b: f32) -> f32 { return truth(!unordered(a, b) && order(a) > order(b)); }
fn op_ge(a: f32, b: f32) -> f32 { return truth(!unordered(a, b) && order(a) >= order(b)); }

// Logic: everything but 0 is true, even NaN.
fn op_logical_and(a: f32, b: f32) -> f32 { return truth(order(a) != 0 && order(b) != 0); }
fn op_logical_or(a: f32, b: f32) -> f32 { return truth(order(a) != 0 || order(b) != 0); }
fn op_logical_xor(a: f32, b: f32) -> f32 { return truth((order(a) != 0) != (order(b) != 0)); }

/// The fraction of the gradient of max(a, b) that goes to a: a half on a tie; 1, as for b, if either is NaN.
fn op_max_share(a: f32, b: f32) -> f32 {
    return select(select(truth(order(a) > order(b)), 0.5, order(a) == order(b)), 1.0, unordered(a, b));
}

/// The derivatives of a^b with respect to a and to b. At a = 0 the second is 0, the limit for b > 0.
fn op_pow_base(a: f32, b: f32) -> f32 { return select(b * pow_nan(a, b - 1.0), 0.0, b == 0.0); }
fn op_pow_exponent(a: f32, b: f32) -> f32 { return select(pow_nan(a, b) * log_nan(a), 0.0, a == 0.0 && b >= 0.0); }

/// Equality where NaN equals NaN. A device may have flushed one of two equal subnormals, so both are flushed here.
fn op_same(a: f32, b: f32) -> f32 { return truth(flushed(a) == flushed(b) || (is_nan(a) && is_nan(b))); }

fn truth(holds: bool) -> f32 {
    return select(0.0, 1.0, holds);
}

fn unordered(a: f32, b: f32) -> bool {
    return is_nan(a) || is_nan(b);
}

/// order(x), with all subnormals mapped to 0.
fn flushed(x: f32) -> i32 {
    return select(order(x), 0, abs(order(x)) < 0x00800000);
}
