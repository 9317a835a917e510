// Softmax over one axis, or its logarithm. With m_r = max_c x[r, c] and s_r = sum_c exp(x[r, c] - m_r):
//
//   y[r, c] = exp(x[r, c] - m_r) / s_r,   or with LOG   x[r, c] - m_r - log(s_r)
//
// Used by: softmax, log_softmax
//
// LANES invocations process one row. Each reduces every LANES-th element to a running maximum and sum (online softmax,
// shared/online_softmax_row.wgsl), with four loads in flight. A tree reduction in workgroup memory merges the lanes in log2(LANES)
// steps. LANES = 1 needs no workgroup memory; it suits short rows, and rows that are interleaved in memory, for
// example because the axis is not the last. Memory bound: x is read twice, y written once.
//
// A few very long rows are cut into slices. STAGE 1 stores the maximum and sum of each slice in `parts`. In STAGE 2 the
// LANES invocations of each slice merge the parts of their whole row, and write their slice of y.
//
//   x       f32: its rows begin at the first operand of the indexer, elements steps.x apart
//   y       f32: its rows begin at the second operand of the indexer, elements steps.y apart
//   parts   f32 [rows, slices, 2]: maximum and sum (stages 1 and 2)
//
// Constants prepended by ops/softmax.rs: LOG: 1 for the logarithm. STAGE: 0 whole rows, 1 reduce slices, 2 write slices.
// WG: invocations per workgroup. LANES: invocations per row or slice.

#import shared/common.wgsl
#import shared/strided.wgsl
#import shared/online_softmax_row.wgsl

/// `steps`: the strides along a row of x and of y. `size`: the elements of a slice; the last one may have fewer.
struct Params { indexer: StridedIndexer, rows: u32, cols: u32, steps: vec2u, slices: u32, size: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> parts: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

/// The parts of a row that this lane merges: every LANES-th slice.
fn merged_parts(row: u32, lane: u32) -> OnlineSoftmax {
    var n = OnlineSoftmax(LOWEST, 0.0);
    for (var slice = lane; slice < p.slices; slice += LANES) {
        let at = 2u * (row * p.slices + slice);
        n = merge(n, OnlineSoftmax(parts[at], parts[at + 1u]));
    }
    return n;
}

/// The result for one element. `whole.sum` is NaN where the row's result is NaN; with LOG it is the logarithm of the sum.
fn probability(x: f32, whole: OnlineSoftmax) -> f32 {
    if (LOG == 1u) { return select((x - whole.max) - whole.sum, nan(), is_nan(whole.sum)); }
    return select(exp_below(x - whole.max) / whole.sum, nan(), is_nan(whole.sum));
}

@compute @workgroup_size(WG)
fn softmax(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) local: u32) {
    let lane = local % LANES;
    let at = workgroup_index(group, groups) * (WG / LANES) + local / LANES;
    let valid = at < p.rows * p.slices;
    let row = at / p.slices;
    let begin = (at % p.slices) * p.size;
    let end = min(p.cols, begin + p.size);
    let start = strided_offsets(select(0u, row, valid)).xy;

    var whole = OnlineSoftmax(LOWEST, 0.0);
    if (valid) {
        if (STAGE == 2u) { whole = merged_parts(row, lane); } else { whole = reduce_row(start.x, p.steps.x, begin + lane, end); }
    }
    whole = workgroup_reduce(whole, local, lane);
    if (!valid) { return; }
    if (STAGE == 1u) {
        if (lane == 0u) {
            parts[2u * at] = whole.max;
            parts[2u * at + 1u] = whole.sum;
        }
        return;
    }

    if (is_broken(whole)) { whole.sum = nan(); } else if (LOG == 1u) { whole.sum = log(whole.sum); }
    var c = begin + lane;
    for (; c + 3u * LANES < end; c += 4u * LANES) {
        let v = four(start.x + c * p.steps.x, LANES * p.steps.x);
        let to = start.y + c * p.steps.y;
        let step = LANES * p.steps.y;
        y[to] = probability(v.x, whole);
        y[to + step] = probability(v.y, whole);
        y[to + 2u * step] = probability(v.z, whole);
        y[to + 3u * step] = probability(v.w, whole);
    }
    for (; c < end; c += LANES) { y[start.y + c * p.steps.y] = probability(x[start.x + c * p.steps.x], whole); }
}
