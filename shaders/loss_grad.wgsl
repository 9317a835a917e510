// Gradients of the losses of loss.wgsl: dx[i] = dy[i] scale f'(x[i], t[i]), f' being the derivative of f with regard to
// the prediction x or the target t, and scale what a mean divides by. With a weight, dy is left out.
//
// Memory bound: each operand is read once, dx written once. shared/elementwise.wgsl says how the two entries walk.
//
//   x f32, operand x of the walk     t f32, operand y     c f32, operand z: dy, or the weight where the function has one
//   dx [count] f32, contiguous
//   attributes: Huber's delta, and scale
//   OP: the derivative    WG: invocations a workgroup (prepended by ops/loss.rs)

#import shared/elementwise.wgsl
#import shared/smooth.wgsl

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> t: array<f32>;
@group(0) @binding(2) var<storage, read> c: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
@group(0) @binding(0) var<storage, read> x4: array<vec4f>;
@group(0) @binding(1) var<storage, read> t4: array<vec4f>;
@group(0) @binding(2) var<storage, read> c4: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> dx4: array<vec4f>;
@group(0) @binding(4) var<uniform> p: Params;

/// 0 where the target has no probability, unless the prediction is NaN.
fn unless_zero(slope: f32, probability: f32, x: f32) -> f32 {
    return select(slope, 0.0, probability == 0.0 && !is_nan(x));
}

fn gradient(x: f32, t: f32, c: f32) -> f32 {
    let d = x - t;
    let delta = p.attributes.x;
    let dy = c * p.attributes.y;
    switch OP {
        // Of losses into which |x - t| or t x enters alone, also with regard to t: Rust exchanges x and t.
        case 0u: { return dy * (2.0 * d); }
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

@compute @workgroup_size(WG)
fn strided(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
    let i = place(group, groups, lane);
    if (i >= p.count) { return; }
    let at = positions(i);
    dx[i] = gradient(x[at.x], t[at.y], c[at.z]);
}

@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
    let i = place(group, groups, lane);
    let first = i * 4u;
    if (first >= p.count) { return; }
    let u = spread(0u, x4[quad_at(0u, i)]);
    let v = spread(1u, t4[quad_at(1u, i)]);
    let w = spread(2u, c4[quad_at(2u, i)]);
    let g = vec4f(gradient(u.x, v.x, w.x), gradient(u.y, v.y, w.y), gradient(u.z, v.z, w.z), gradient(u.w, v.w, w.w));
    if (first + 4u <= p.count) { dx4[i] = g; return; }
    for (var k = 0u; k < p.count - first; k++) { dx4[i][k] = g[k]; }
}
