// Element-wise functions of one operand: y[i] = f(x[i]). Some have attributes, which are in the params.
//
// Used by: neg, exp, log, sqrt, rsqrt, recip, abs, square, sin, cos, erf, floor, ceil, round, sign, clamp, logical_not
// Used by: relu, leaky_relu, elu, sigmoid, tanh, gelu, silu, hardswish, softplus and others
//
// shared/elementwise.wgsl has the bindings and the entry points; x is its operand a.
//
// Constants prepended by ops/unary.rs: OP: the function. WG: invocations per workgroup.

#import shared/elementwise.wgsl
#import shared/smooth.wgsl
#import shared/trig.wgsl

fn f(x: f32, b: f32, c: f32) -> f32 {
    let a = p.attributes;
    switch OP {
        case 0u: { return exp_nan(x); }
        case 1u: { return log_nan(x); }
        case 2u: { return sqrt_nan(x); }
        case 3u: { return 1.0 / x; }
        case 4u: { return abs(x); }
        case 5u: { return relu(x); }
        case 6u: { return sigmoid(x); }
        case 7u: { return tanh_nan(x); }
        case 8u: { return gelu(x); }
        case 9u: { return x * x; }
        case 10u: { return select(a.x * x, x, x > 0.0); }               // leaky_relu
        case 11u: { return select(a.x * exp_m1(x), x, x > 0.0); }       // elu
        case 12u: { return silu(x); }
        // hardswish: at -inf the limit is 0, where -inf * 0 would be NaN.
        case 13u: { return max_nan(x, -3.0) * clamp(x + 3.0, 0.0, 6.0) / 6.0; }
        case 14u: { return softplus(x); }
        case 15u: { return erf(x); }
        case 16u: { return rsqrt_nan(x); }
        case 17u: { return sin_from(x, 0u); }
        case 18u: { return sin_from(x, 1u); }                           // cos
        case 19u: { return min_nan(max_nan(x, a.x), a.y); }             // clamp
        case 20u: { return -x; }
        case 21u: { return select(floor(x), x, is_nan(x)); }
        case 22u: { return select(ceil(x), x, is_nan(x)); }
        case 23u: { return select(round(x), x, is_nan(x)); }
        case 24u: { return sign_nan(x); }
        case 25u: { return select(0.0, 1.0, order(x) == 0); }           // logical_not
        default: { return 0.0; }                                        // no other OP has a kernel
    }
}
