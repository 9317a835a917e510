// Gradients of the losses of loss.wgsl: dx[i] = dy[i] scale f'(x[i], t[i]), where f' is the derivative of f with regard
// to the prediction x or the target t, and scale is what a mean divides by.
//
// Memory bound: x and t are read once, and so is dy where there is one a loss; dx is written once.
//
//   x, t, w as in loss.wgsl     dy f32, one element or contiguous     dx [count] f32, contiguous
//   OP: the function, 7 to 9 of those with regard to t. The losses that only |x - t| or t x enters are symmetric:
//   there Rust exchanges x and t.    WG: invocations a workgroup (prepended by ops/loss.rs)

#import shared/pair.wgsl

@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
@group(0) @binding(3) var<storage, read> dy4: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> dx4: array<vec4f>;
@group(0) @binding(5) var<uniform> p: Params;

/// -1, 0 or 1; NaN stays NaN.
fn sign_nan(x: f32) -> f32 {
    return select(select(select(1.0, -1.0, x < 0.0), 0.0, x == 0.0), x, is_nan(x));
}

/// 0 where the target has no probability, unless the prediction is NaN.
fn unless_zero(slope: f32, probability: f32, x: f32) -> f32 {
    return select(slope, 0.0, probability == 0.0 && !is_nan(x));
}

fn slope(x: f32, t: f32, w: f32) -> f32 {
    let d = x - t;
    switch OP {
        case 0u: { return 2.0 * d; }
        case 1u: { return sign_nan(d); }
        case 2u: {                                                             // Huber
            let within = select(select(d, p.delta, d > p.delta), -p.delta, d < -p.delta);
            return select(within, d, is_nan(d));
        }
        case 3u: {                                                             // hinge
            let margin = 1.0 - t * x;
            return select(select(0.0, -t, margin > 0.0), margin, is_nan(margin));
        }
        case 4u: { return (1.0 - t) * sigmoid(x) - w * t * sigmoid(-x); }      // binary cross-entropy
        case 5u: { return -t; }                                                // Kullback & Leibler's divergence
        case 6u: { return -exp_nan(t); }                                       // by its logarithm
        // With regard to t. A product with w - 1 = 0 could make an infinite x NaN.
        case 7u: { return select((w - 1.0) * softplus(-x), 0.0, w == 1.0) - x; }
        case 8u: { return unless_zero(log_nan(t) - x + 1.0, t, x); }
        default: {
            let e = exp_nan(t);
            return unless_zero(e * (t - x + 1.0), e, x);
        }
    }
}

@compute @workgroup_size(WG)
fn strided(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
    let i = folded(group, groups) * WG + lane;
    if (i >= p.count) { return; }
    let at = positions(i);
    dx[i] = dy[p.dy_offset + i * p.dy_step] * p.scale * slope(x[at.x], t[at.y], weight(at.z));
}

@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
    let i = folded(group, groups) * WG + lane;
    let first = i * 4u;
    if (first >= p.count) { return; }
    let u = load_x(i);
    let v = load_t(i);
    let w = load_w(i);
    let slopes = vec4f(slope(u.x, v.x, w.x), slope(u.y, v.y, w.y), slope(u.z, v.z, w.z), slope(u.w, v.w, w.w));
    let at = p.dy_offset;
    let whole = dy4[at / 4u + i * p.dy_step];
    let grad = select(vec4f(whole[at % 4u]), whole, p.dy_step == 1u) * p.scale * slopes;
    if (first + 4u <= p.count) { dx4[i] = grad; return; }
    for (var c = 0u; c < p.count - first; c++) { dx4[i][c] = grad[c]; }
}
