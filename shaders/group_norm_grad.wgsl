// The gradients of group_norm.wgsl and batch_norm.wgsl. With h = (x - mean) / sqrt(variance + eps) and g = dy * w, over a row of n
// elements:
//
//   dx = (g - sum(g)/n - h sum(g h)/n) / sqrt(variance + eps);  without sum(g)/n if not CENTRED, and without both sums
//        if the statistics were given
//   dw = sum(dy h) and db = sum(dy), over a channel
//
// Used by: layer_norm, rms_norm, group_norm, instance_norm, batch_norm, batch_norm_by, add_layer_norm, add_rms_norm (gradient)
//
// All sums are over rows (shared/row_layout.wgsl). For dx a row shares statistics; for dw and db it is a channel. In batch
// normalization the two coincide: the weight is constant over the row, so it is applied after the sums. Of layer normalization
// only dw, db and the rows that are cut into slices come here; layer_norm_grad.wgsl is the rest.
//
//   group_norm_grad  LANES invocations process a whole row: dx and the sums
//   reduce_slices    the sums of each slice of a row
//   merge_slices     adds the sums of a row's slices
//   write            dx from the sums
//
// Memory bound: x and dy are read twice, the second time from a cache if rows are short; dx is written once.
//
//   x, dy, dx        f32 [n, channels, span], contiguous (x and dy from their offsets)
//   w                f32 [channels], from w_offset
//   mean, variance   f32, one for each row of statistics, from their offsets
//   sums             f32 [2, rows]: of g h, then of g
//   parts            f32 [2, rows * slices]: the same for slices
//
// Constants prepended by ops/normalize/gpu.rs: WG: invocations per workgroup. LANES: invocations per slice. FLAT: 1 if runs have
// one element. CENTRED: 1 if the mean was subtracted. CHANNELS: 1 for dw and db, whose rows are channels.

#import shared/norm_row.wgsl
#import shared/row_layout.wgsl

/// `weight`: 0 none, 1 one per element's channel, 2 one per row. `given`: 1 if the statistics are inputs, not computed from x.
struct Params {
    rows: RowLayout,
    count: f32, eps: f32, x_offset: u32,
    dy_offset: u32, w_offset: u32, mean_offset: u32, variance_offset: u32,
    weight: u32, given: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> mean: array<f32>;
@group(0) @binding(4) var<storage, read> variance: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;
@group(0) @binding(6) var<storage, read_write> sums: array<f32>;
@group(0) @binding(7) var<storage, read_write> parts: array<f32>;
@group(0) @binding(8) var<uniform> p: Params;

/// How the elements with these statistics are normalized.
fn frame_of(statistics: u32) -> Frame {
    return frame(mean[p.mean_offset + statistics], variance[p.variance_offset + statistics]);
}

/// (h, g) of the element at `at`. `of_row` normalizes it, unless rows are channels, which have no frame in common.
fn pair(at: Place, of_row: Frame) -> vec2f {
    var g = dy[p.dy_offset + at.index];
    var f = of_row;
    if (CHANNELS == 1u) {
        f = frame_of(at.statistics);
    } else if (p.weight == 1u) {
        g *= w[p.w_offset + at.channel];
    }
    return vec2f((x[p.x_offset + at.index] - f.origin) * f.scale, g);
}

/// What an element adds to the sums of g h and of g.
fn terms(q: vec2f) -> vec2f {
    return vec2f(q.x * q.y, q.y);
}

/// The sums over a slice. The whole workgroup must call it.
fn reduce_slice(s: Slice, f: Frame, local: u32) -> vec2f {
    var sum = vec2f(0.0);
    var at = place(s.row, s.begin + s.lane);
    var c = s.begin + s.lane;
    for (; c + 3u * LANES < s.end; c += 4u * LANES) {
        let at1 = next(at);
        let at2 = next(at1);
        let at3 = next(at2);
        sum += (terms(pair(at, f)) + terms(pair(at1, f))) + (terms(pair(at2, f)) + terms(pair(at3, f)));
        at = next(at3);
    }
    for (; c < s.end; c += LANES) {
        sum += terms(pair(at, f));
        at = next(at);
    }
    return workgroup_reduce(sum, local, s.lane);
}

/// dx of an element. `means`: the sums divided by n. `factor`: the row's common factor.
fn slope(q: vec2f, means: vec2f, factor: f32) -> f32 {
    if (p.given == 1u) { return q.y * factor; }
    if (CENTRED == 1u) { return ((q.y - means.y) - q.x * means.x) * factor; }
    return (q.y - q.x * means.x) * factor;
}

fn write_slice(s: Slice, f: Frame, sum: vec2f) {
    let means = sum / p.count;
    var factor = f.scale;
    if (p.weight == 2u) { factor *= w[p.w_offset + s.row]; }
    var at = place(s.row, s.begin + s.lane);
    var c = s.begin + s.lane;
    for (; c + 3u * LANES < s.end; c += 4u * LANES) {
        let at1 = next(at);
        let at2 = next(at1);
        let at3 = next(at2);
        let q0 = pair(at, f);
        let q1 = pair(at1, f);
        let q2 = pair(at2, f);
        let q3 = pair(at3, f);
        dx[at.index] = slope(q0, means, factor);
        dx[at1.index] = slope(q1, means, factor);
        dx[at2.index] = slope(q2, means, factor);
        dx[at3.index] = slope(q3, means, factor);
        at = next(at3);
    }
    for (; c < s.end; c += LANES) {
        dx[at.index] = slope(pair(at, f), means, factor);
        at = next(at);
    }
}

@compute @workgroup_size(WG)
fn group_norm_grad(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                   @builtin(local_invocation_index) local: u32) {
    let s = slice_of(group, groups, local);
    let f = frame_of(s.row);
    let sum = reduce_slice(s, f, local);
    if (!s.valid) { return; }
    if (s.lane == 0u) {
        sums[s.row] = sum.x;
        sums[p.rows.rows + s.row] = sum.y;
    }
    write_slice(s, f, sum);
}

@compute @workgroup_size(WG)
fn reduce_slices(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                 @builtin(local_invocation_index) local: u32) {
    let s = slice_of(group, groups, local);
    var f = Frame(0.0, 0.0);
    if (CHANNELS == 0u) { f = frame_of(s.row); }
    let sum = reduce_slice(s, f, local);
    if (!s.valid || s.lane != 0u) { return; }
    parts[s.at] = sum.x;
    parts[p.rows.rows * p.rows.slices + s.at] = sum.y;
}

@compute @workgroup_size(WG)
fn merge_slices(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                @builtin(local_invocation_index) local: u32) {
    let all = slices_of(group, groups, local);
    let plane = p.rows.rows * p.rows.slices;
    var sum = vec2f(0.0);
    for (var i = all.begin; i <= all.last; i += all.step) { sum += vec2f(parts[i], parts[plane + i]); }
    sum = workgroup_reduce(sum, local, all.lane);
    if (!all.valid || all.lane != 0u) { return; }
    sums[all.row] = sum.x;
    sums[p.rows.rows + all.row] = sum.y;
}

@compute @workgroup_size(WG)
fn write(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) local: u32) {
    let s = slice_of(group, groups, local);
    if (!s.valid) { return; }
    var sum = vec2f(0.0);
    if (p.given == 0u) { sum = vec2f(sums[s.row], sums[p.rows.rows + s.row]); }
    write_slice(s, frame_of(s.row), sum);
}
