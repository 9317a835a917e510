// Gradients of the functions of unary.wgsl: dx[i] = dy[i] f'(s[i]), where s is the input or the output of f, whichever gives the
// simpler derivative (`Unary::saves` in ops/unary.rs).
//
// Used by: exp, log, sqrt, recip, abs, square, sin, cos, erf, relu, sigmoid, tanh, gelu, silu, softplus, clamp and others (gradient)
//
// shared/elementwise.wgsl has the bindings and the entry points: s and dy are its operands a and b, dx its result y.
//
// Constants prepended by ops/unary.rs: OP: the function. WG: invocations per workgroup.

#import shared/elementwise.wgsl
#import shared/smooth.wgsl
#import shared/trig.wgsl

fn f(s: f32, dy: f32, c: f32) -> f32 {
    let a = p.attributes;
    switch OP {
        case 0u: { return dy * s; }                          // exp: s = y
        case 1u: { return dy / s; }                          // log: s = x
        case 2u: { return dy / (2.0 * s); }                  // sqrt: s = y
        case 3u: { return -dy * s * s; }                     // recip: s = y
        case 4u: { return dy * sign_nan(s); }                // abs: s = x
        case 5u: { return select(0.0, dy, s > 0.0 || is_nan(s)); } // relu: s = y
        case 6u: { return dy * s * (1.0 - s); }              // sigmoid: s = y
        case 7u: { return dy * (1.0 - s) * (1.0 + s); }      // tanh: s = y
        case 8u: { return dy * gelu_slope(s); }              // gelu: s = x
        case 9u: { return dy * 2.0 * s; }                    // square: s = x
        // From here on s = x, except for rsqrt.
        case 10u: { return select(dy * a.x, dy, s > 0.0); }  // leaky_relu
        case 11u: { return select(dy * (a.x * exp_nan(s)), dy, s > 0.0); } // elu
        case 12u: { return dy * silu_slope(s); }
        // hardswish
        case 13u: { return select(select(dy * (s / 3.0 + 0.5), dy, s >= 3.0), 0.0, s <= -3.0); }
        case 14u: { return dy * sigmoid(s); }                // softplus
        case 15u: { return dy * (1.1283792 * exp_nan(-s * s)); } // erf: 2 / sqrt(π) e^-x²
        case 16u: { return dy * -0.5 * (s * s * s); }        // rsqrt: s = y
        case 17u: { return dy * sin_from(s, 1u); }
        case 18u: { return -dy * sin_from(s, 0u); }          // cos
        case 19u: { return select(0.0, dy, s >= a.x && s <= a.y && !is_nan(s)); } // clamp
        default: { return 0.0; }                             // no other OP has a kernel
    }
}
