// Layer normalization: each row is normalized to mean 0 and variance 1. RMS normalization: each row is divided by the root of its
// mean square. Both are then scaled and shifted per column.
//
//   y[r, c] = (x[r, c] - mean_r) / sqrt(variance_r + eps) * w[c] + b[c]
//   mean_r = the mean of x[r, c] over c, or 0 if not CENTRED;  variance_r = the mean of (x[r, c] - mean_r)² over c
//
// Used by: layer_norm, rms_norm, add_layer_norm, add_rms_norm
//
// Layer normalization (Ba, Kiros & Hinton, arXiv:1607.06450) is CENTRED, RMS normalization (Zhang & Sennrich, arXiv:1910.07467) is
// not. If ADD, x is the sum of two tensors, for the residual connections of Transformers ("Add & Norm": Vaswani et al.,
// arXiv:1706.03762), which saves one pass over memory.
//
// LANES invocations process one row; each takes every LANES-th element, with four loads in flight. Memory bound: x is read three
// times (twice if not CENTRED), of which all but the first should hit a cache; y is written once. Few long
// rows are cut into slices: reduce_slices and merge_slices of group_norm.wgsl compute their statistics, and batch_norm.wgsl
// writes y.
//
//   x, residual      f32 [rows, cols], contiguous from their offsets
//   y, added         f32 [rows, cols]; added = x + residual
//   w, b             f32 [cols], from their offsets; not read where has_weight, has_bias are 0
//   mean, variance   f32 [rows]
//
// Constants prepended by ops/normalize/gpu.rs: WG: invocations per workgroup. LANES: invocations per row. CENTRED: 1 if the mean
// is subtracted. ADD: 1 if the residual is added; if not, residual and added are not used.

#import shared/common.wgsl
#import shared/norm_row.wgsl

struct Params {
    rows: u32, cols: u32, eps: f32, x_offset: u32,
    residual_offset: u32, w_offset: u32, b_offset: u32, has_weight: u32, has_bias: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> residual: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> added: array<f32>;
@group(0) @binding(6) var<storage, read_write> mean: array<f32>;
@group(0) @binding(7) var<storage, read_write> variance: array<f32>;
@group(0) @binding(8) var<uniform> p: Params;

/// The element at `at`. If ADD, the first read computes and stores it. Only this invocation reads it back, so no barrier is needed.
fn element(at: u32, first: bool) -> f32 {
    if (ADD == 0u) { return x[p.x_offset + at]; }
    if (!first) { return added[at]; }
    let sum = x[p.x_offset + at] + residual[p.residual_offset + at];
    added[at] = sum;
    return sum;
}

/// Four elements from `at` on, LANES apart.
fn four(at: u32, first: bool) -> vec4f {
    return vec4f(element(at, first), element(at + LANES, first), element(at + 2u * LANES, first), element(at + 3u * LANES, first));
}

/// A row: its first element's index, and its length; and this invocation's lane.
struct Row { start: u32, cols: u32, lane: u32 }

/// The sums over a lane's elements, for shared/norm_row.wgsl.
fn sums(row: Row, origin: f32, first: bool) -> vec2f {
    let count_nonfinite = first && CENTRED == 1u;
    var sum = vec2f(0.0);
    var c = row.lane;
    for (; c + 3u * LANES < row.cols; c += 4u * LANES) { sum += moment_terms4(four(row.start + c, first), origin, count_nonfinite); }
    for (; c < row.cols; c += LANES) { sum += moment_terms(element(row.start + c, first), origin, count_nonfinite); }
    return sum;
}

fn normalized(x: f32, f: Frame, c: u32) -> f32 {
    var y = (x - f.origin) * f.scale;
    if (p.has_weight == 1u) { y *= w[p.w_offset + c]; }
    if (p.has_bias == 1u) { y += b[p.b_offset + c]; }
    return y;
}

@compute @workgroup_size(WG)
fn layer_norm(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
              @builtin(local_invocation_index) local: u32) {
    let number = workgroup_index(group, groups) * (WG / LANES) + local / LANES;
    let valid = number < p.rows; // the other invocations must reach the barriers too
    let row = Row(number * p.cols, select(0u, p.cols, valid), local % LANES);
    let count = f32(row.cols);
    var origin = 0.0;
    if (CENTRED == 1u) { origin = first_mean(workgroup_reduce(sums(row, 0.0, true), local, row.lane), count); }
    let sum = workgroup_reduce(sums(row, origin, CENTRED == 0u), local, row.lane);
    var m = vec2f(0.0, sum.y);
    if (CENTRED == 1u) { m = corrected(sum, origin, count); }
    if (!valid) { return; }
    let v = m.y / count;
    if (row.lane == 0u) {
        mean[number] = m.x;
        variance[number] = v;
    }

    let f = frame(m.x, v);
    var c = row.lane;
    for (; c + 3u * LANES < p.cols; c += 4u * LANES) {
        let at = row.start + c;
        let q = four(at, false);
        y[at] = normalized(q.x, f, c);
        y[at + LANES] = normalized(q.y, f, c + LANES);
        y[at + 2u * LANES] = normalized(q.z, f, c + 2u * LANES);
        y[at + 3u * LANES] = normalized(q.w, f, c + 3u * LANES);
    }
    for (; c < p.cols; c += LANES) { y[row.start + c] = normalized(element(row.start + c, false), f, c); }
}
