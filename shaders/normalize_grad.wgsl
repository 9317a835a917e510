// The gradients of normalize.wgsl. With h = (x - mean) / sqrt(variance + eps) and g = dy * w, over a row of n elements:
//
//   dx = (g - sum(g)/n - h sum(g h)/n) / sqrt(variance + eps);  without sum(g)/n where not CENTRED, and without both sums
//        where the statistics were given
//   dw = sum(dy h) and db = sum(dy), over a channel
//
// Used by: layer_norm, rms_norm, group_norm, instance_norm, batch_norm, batch_norm_by, add_layer_norm, add_rms_norm (gradient)
//
// All sums are over rows (shared/row_layout.wgsl). For dx a row shares statistics; for dw and db a row is a channel. In batch
// normalization the two coincide: the weight is constant over the row, so it is applied after the sums.
//
//   normalize_grad   LANES invocations process a whole row: x and dy are read twice, the second
//                    time from a cache; dx and the sums are written
//   reduce_slices    the sums of each slice of a row
//   merge_slices     adds the sums of a row's slices
//   write            dx from the sums
//
//   x, dy, dx        f32, contiguous (x and dy from their offsets)
//   w                f32 [channels]
//   mean, variance   f32, one for each row of statistics
//   sums             f32 [2, rows]: of g h, then of g
//   parts            f32 [2, rows * slices]: the same for slices
//
// Constants prepended by ops/normalize/gpu.rs: WG: invocations per workgroup. LANES: invocations per slice. FLAT: 1 where runs
// have one element. CENTRED: 1 where the mean was subtracted. CHANNELS: 1 where rows are channels and an element's companion
// is the index of its statistics.

#import shared/common.wgsl
#import shared/row_layout.wgsl

/// `weight`: 0 none, 1 one per element's channel, 2 one per row. `given`: 1 where the statistics are inputs, not computed from x.
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

/// The statistics that normalize an element: the mean (0 where `origin_of` says so) and 1 / sqrt(variance + eps).
struct Frame { mean: f32, scale: f32 }

fn frame(row: u32) -> Frame {
    let scale = rsqrt_nan(variance[p.variance_offset + row] + p.eps);
    return Frame(origin_of(mean[p.mean_offset + row], scale), scale);
}

/// (h, g) of the element at `at`, normalized by `f`; where rows are channels, by the statistics of its companion.
fn pair(at: vec3u, f: Frame) -> vec2f {
    var g = dy[p.dy_offset + at.y];
    let v = x[p.x_offset + at.y];
    if (CHANNELS == 1u) {
        let own = frame(at.z);
        return vec2f((v - own.mean) * own.scale, g);
    }
    if (p.weight == 1u) { g *= w[p.w_offset + at.z]; }
    return vec2f((v - f.mean) * f.scale, g);
}

/// The sums of g h and of g over a slice. The whole workgroup must call it.
fn reduce_slice(s: Slice, f: Frame, local: u32) -> vec2f {
    var sum = vec2f(0.0);
    var at = place(s.row, s.begin + s.lane);
    var c = s.begin + s.lane;
    for (; c + 3u * LANES < s.end; c += 4u * LANES) {
        let k = next(at);
        let l = next(k);
        let m = next(l);
        let p0 = pair(at, f);
        let p1 = pair(k, f);
        let p2 = pair(l, f);
        let p3 = pair(m, f);
        sum += (vec2f(p0.x * p0.y, p0.y) + vec2f(p1.x * p1.y, p1.y)) + (vec2f(p2.x * p2.y, p2.y) + vec2f(p3.x * p3.y, p3.y));
        at = next(m);
    }
    for (; c < s.end; c += LANES) {
        let q = pair(at, f);
        sum += vec2f(q.x * q.y, q.y);
        at = next(at);
    }
    return workgroup_reduce(sum, local, s.lane);
}

/// dx of an element from q = (h, g). `means`: the sums divided by n. `factor`: the row's common factor.
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
        let k = next(at);
        let l = next(k);
        let m = next(l);
        let p0 = pair(at, f);
        let p1 = pair(k, f);
        let p2 = pair(l, f);
        let p3 = pair(m, f);
        dx[at.y] = slope(p0, means, factor);
        dx[k.y] = slope(p1, means, factor);
        dx[l.y] = slope(p2, means, factor);
        dx[m.y] = slope(p3, means, factor);
        at = next(m);
    }
    for (; c < s.end; c += LANES) {
        dx[at.y] = slope(pair(at, f), means, factor);
        at = next(at);
    }
}

@compute @workgroup_size(WG)
fn normalize_grad(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                    @builtin(local_invocation_index) local: u32) {
    let s = slice_of(group, groups, local);
    let f = frame(s.row);
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
    if (CHANNELS == 0u) { f = frame(s.row); }
    let sum = reduce_slice(s, f, local);
    if (!s.valid || s.lane != 0u) { return; }
    parts[s.at] = sum.x;
    parts[p.rows.rows * p.rows.slices + s.at] = sum.y;
}

@compute @workgroup_size(WG)
fn merge_slices(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) local: u32) {
    let lane = local % LANES;
    let number = workgroup_index(group, groups) * (WG / LANES) + local / LANES;
    let valid = number < p.rows.rows;
    let row = select(0u, number, valid);
    let first = parts_of(row);
    let last = first.x + (p.rows.slices - 1u) * first.y;
    let plane = p.rows.rows * p.rows.slices;
    var sum = vec2f(0.0);
    for (var i = first.x + lane * first.y; i <= last; i += LANES * first.y) { sum += vec2f(parts[i], parts[plane + i]); }
    sum = workgroup_reduce(sum, local, lane);
    if (!valid || lane != 0u) { return; }
    sums[row] = sum.x;
    sums[p.rows.rows + row] = sum.y;
}

@compute @workgroup_size(WG)
fn write(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) local: u32) {
    let s = slice_of(group, groups, local);
    if (!s.valid) { return; }
    var sum = vec2f(0.0);
    if (p.given == 0u) { sum = vec2f(sums[s.row], sums[p.rows.rows + s.row]); }
    write_slice(s, frame(s.row), sum);
}
