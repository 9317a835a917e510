// Gradients of the losses of loss.wgsl: dx[i] = dy[i] scale f'(x[i], t[i]). f' is the derivative of f with respect to the
// prediction x or the target t, scale the factor of the reduction (1 / count for a mean). The derivatives of weighted binary
// cross-entropy are without the factor dy; Rust multiplies by it.
// Used by: mse_loss, l1_loss, huber_loss, hinge_loss, bce_with_logits_loss, kl_div_loss, Loss::of (gradient)
//
// Memory bound. shared/elementwise.wgsl has the bindings and the entry points.
//
//   x f32, operand a     t f32, operand b     c f32: dy, or the weight of the positive class if the function has one
//   dx f32, the result y
//   attributes: delta of the Huber loss, and scale
//
// Constants prepended by ops/loss.rs: OP: the derivative. WG: invocations per workgroup.

#import shared/elementwise.wgsl
#import shared/functions.wgsl

alias Element = f32;

/// The derivative; 0 for a target of probability 0, unless the prediction is NaN.
fn unless_zero(slope: f32, probability: f32, x: f32) -> f32 {
    return select(slope, 0.0, probability == 0.0 && !is_nan(x));
}

fn f(x: f32, t: f32, c: f32) -> f32 {
    let d = x - t;
    let delta = p.attributes.x;
    let dy = c * p.attributes.y;
    switch OP {
        // Losses of |x - t| or t x alone are symmetric: for the derivative with respect to t, Rust exchanges x and t.
        case 0u: { return 2.0 * dy * d; }
        case 1u: { return dy * sign_nan(d); }
        case 2u: { return dy * max_nan(min_nan(d, delta), -delta); }            // Huber
        case 3u: {                                                              // hinge
            let margin = 1.0 - t * x;
            return dy * select(select(0.0, -t, margin > 0.0), margin, is_nan(margin));
        }
        case 4u: { return dy * ((1.0 - t) * sigmoid(x) - t * sigmoid(-x)); }    // binary cross-entropy
        case 5u: { return -dy * t; }                                            // KL divergence
        case 6u: { return -dy * exp_nan(t); }                                   // KL divergence, log-probabilities
        // With respect to t: binary cross-entropy and both KL divergences.
        case 7u: { return -dy * x; }
        case 8u: { return dy * unless_zero(log_nan(t) - x + 1.0, t, x); }
        case 9u: {
            let e = exp_nan(t);
            return dy * unless_zero(e * (t - x + 1.0), e, x);
        }
        // Weighted binary cross-entropy, with respect to x and to t. The select for c = 1 avoids 0 * inf = NaN.
        case 10u: { return p.attributes.y * ((1.0 - t) * sigmoid(x) - c * t * sigmoid(-x)); }
        default: { return p.attributes.y * (select((c - 1.0) * softplus(-x), 0.0, c == 1.0) - x); }
    }
}
