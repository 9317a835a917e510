// The gradient of layer_norm.wgsl with respect to x. With h = (x - mean) / sqrt(variance + eps) and g = dy * w, over a row of n
// elements:
//
//   dx = (g - sum(g)/n - h sum(g h)/n) / sqrt(variance + eps), without sum(g)/n if not CENTRED
//
// Used by: layer_norm, rms_norm, add_layer_norm, add_rms_norm (gradient)
//
// LANES invocations process one row; each takes every LANES-th element, with four loads of each tensor in flight. Memory bound: x
// and dy are read twice, the second time from a cache; dx is written once. group_norm_grad.wgsl computes the gradients of w and
// b, which are sums over columns, and dx of rows that are cut into slices.
//
//   x, dy, dx        f32 [rows, cols], contiguous (x and dy from their offsets)
//   w                f32 [cols], from w_offset; not read where has_weight is 0
//   mean, variance   f32 [rows], from their offsets
//
// Constants prepended by ops/normalize/gpu.rs: WG: invocations per workgroup. LANES: invocations per row. CENTRED: 1 if the mean
// was subtracted.

#import shared/common.wgsl
#import shared/norm_row.wgsl

struct Params {
    rows: u32, cols: u32, eps: f32, x_offset: u32,
    dy_offset: u32, w_offset: u32, mean_offset: u32, variance_offset: u32, has_weight: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> mean: array<f32>;
@group(0) @binding(4) var<storage, read> variance: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;
@group(0) @binding(6) var<uniform> p: Params;

/// (h, g) of element c of the row from `start` on, which `f` normalizes.
fn pair(start: u32, c: u32, f: Frame) -> vec2f {
    var g = dy[p.dy_offset + start + c];
    if (p.has_weight == 1u) { g *= w[p.w_offset + c]; }
    return vec2f((x[p.x_offset + start + c] - f.origin) * f.scale, g);
}

/// What an element adds to the sums of g h and of g.
fn terms(q: vec2f) -> vec2f {
    return vec2f(q.x * q.y, q.y);
}

/// dx of an element. `means`: the sums divided by n.
fn slope(q: vec2f, means: vec2f, scale: f32) -> f32 {
    if (CENTRED == 1u) { return ((q.y - means.y) - q.x * means.x) * scale; }
    return (q.y - q.x * means.x) * scale;
}

@compute @workgroup_size(WG)
fn layer_norm_grad(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                   @builtin(local_invocation_index) local: u32) {
    let lane = local % LANES;
    let number = workgroup_index(group, groups) * (WG / LANES) + local / LANES;
    let valid = number < p.rows; // the other invocations must reach the barriers too
    let start = number * p.cols;
    let cols = select(0u, p.cols, valid);
    let row = select(0u, number, valid);
    let f = frame(mean[p.mean_offset + row], variance[p.variance_offset + row]);

    var sum = vec2f(0.0);
    var c = lane;
    for (; c + 3u * LANES < cols; c += 4u * LANES) {
        sum += (terms(pair(start, c, f)) + terms(pair(start, c + LANES, f)))
            + (terms(pair(start, c + 2u * LANES, f)) + terms(pair(start, c + 3u * LANES, f)));
    }
    for (; c < cols; c += LANES) { sum += terms(pair(start, c, f)); }
    let means = workgroup_reduce(sum, local, lane) / f32(p.cols);

    c = lane;
    for (; c + 3u * LANES < cols; c += 4u * LANES) {
        let q0 = pair(start, c, f);
        let q1 = pair(start, c + LANES, f);
        let q2 = pair(start, c + 2u * LANES, f);
        let q3 = pair(start, c + 3u * LANES, f);
        dx[start + c] = slope(q0, means, f.scale);
        dx[start + c + LANES] = slope(q1, means, f.scale);
        dx[start + c + 2u * LANES] = slope(q2, means, f.scale);
        dx[start + c + 3u * LANES] = slope(q3, means, f.scale);
    }
    for (; c < cols; c += LANES) { dx[start + c] = slope(pair(start, c, f), means, f.scale); }
}
