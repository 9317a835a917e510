// Element-wise functions of one operand: y[i] = f(x[i]). Some have attributes, which are in the params.
//
// Used by: neg, exp, log, sqrt, rsqrt, recip, abs, square, sin, cos, erf, floor, ceil, round, sign, clamp, logical_not
// Used by: relu, leaky_relu, elu, sigmoid, tanh, gelu, silu, hardswish, softplus and others
//
// shared/functions.wgsl has the functions, shared/elementwise.wgsl the bindings and the entry points; x is its operand a.
// Memory bound.
//
// Constants prepended by ops/unary.rs: OP: the function, op_NAME. WG: invocations per workgroup.

#import shared/elementwise.wgsl
#import shared/functions.wgsl

alias Element = f32;

fn f(x: f32, b: f32, c: f32) -> f32 {
    return OP(x, p.attributes);
}
