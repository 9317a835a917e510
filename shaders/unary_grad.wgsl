// Gradients of the functions of unary.wgsl: dx[i] = dy[i] f'(x[i]), computed from s, which is x or y = f(x), whichever gives the
// simpler derivative (`Unary::saves` in ops/unary.rs).
//
// Used by: exp, log, sqrt, recip, abs, square, sin, cos, erf, relu, sigmoid, tanh, gelu, silu, softplus, clamp and others (gradient)
//
// shared/functions.wgsl has the gradients, shared/elementwise.wgsl the bindings and the entry points: s and dy are its operands a
// and b, dx its result y.
// Memory bound.
//
// Constants prepended by ops/unary.rs: SLOPE: the gradient, slope_NAME. WG: invocations per workgroup.

#import shared/elementwise.wgsl
#import shared/functions.wgsl

alias Element = f32;

fn f(s: f32, dy: f32, c: f32) -> f32 {
    return SLOPE(s, dy, p.attributes);
}
