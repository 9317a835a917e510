// Gradients of the losses of loss.wgsl: dx[i] = dy[i] scale f'(x[i], t[i]), f' being the derivative of f with regard to
// the prediction x or the target t, and scale what a mean divides by. With a weight, dy is left out.
//
// shared/map3.wgsl has the bindings and the entries.
//
//   x f32, operand a     t f32, operand b     c f32: dy, or the weight where the function has one
//   dx f32, the result y
//   attributes: Huber's delta, and scale
//   OP: the derivative    WG: invocations a workgroup (prepended by ops/loss.rs)

#import shared/map3.wgsl
#import shared/smooth.wgsl

/// 0 where the target has no probability, unless the prediction is NaN.
fn unless_zero(slope: f32, probability: f32, x: f32) -> f32 {
    return select(slope, 0.0, probability == 0.0 && !is_nan(x));
}

fn f(x: f32, t: f32, c: f32) -> f32 {
    let d = x - t;
    let delta = p.attributes.x;
    let dy = c * p.attributes.y;
    switch OP {
        // Of losses into which |x - t| or t x enters alone, also with regard to t: Rust exchanges x and t.
        case 0u: { return 2.0 * dy * d; }
        case 1u: { return dy * sign_nan(d); }
        case 2u: { return dy * max_nan(min_nan(d, delta), -delta); }            // Huber
        case 3u: {                                                              // hinge
            let margin = 1.0 - t * x;
            return dy * select(select(0.0, -t, margin > 0.0), margin, is_nan(margin));
        }
        case 4u: { return dy * ((1.0 - t) * sigmoid(x) - t * sigmoid(-x)); }    // binary cross-entropy
        case 5u: { return -dy * t; }                                            // divergence
        case 6u: { return -dy * exp_nan(t); }                                   // divergence of logarithms
        // With regard to t.
        case 7u: { return -dy * x; }
        case 8u: { return dy * unless_zero(log_nan(t) - x + 1.0, t, x); }
        case 9u: {
            let e = exp_nan(t);
            return dy * unless_zero(e * (t - x + 1.0), e, x);
        }
        // Weighted binary cross-entropy, with regard to x and to t; a weight of 1 keeps an infinite x from being NaN.
        case 10u: { return p.attributes.y * ((1.0 - t) * sigmoid(x) - c * t * sigmoid(-x)); }
        default: { return p.attributes.y * (select((c - 1.0) * softplus(-x), 0.0, c == 1.0) - x); }
    }
}
