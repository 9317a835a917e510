// Softmax over one axis: y[r, c] = exp(x[r, c] - m_r) / s_r with m_r = max_c x[r, c] and
// s_r = sum_c exp(x[r, c] - m_r); and its logarithm x[r, c] - m_r - log(s_r).
//
// LANES invocations share a row. Each folds every LANES-th element into a running maximum and sum, the online
// normaliser (shared/normaliser_row.wgsl), four loads under way at once; the lanes meet in workgroup memory in log2(LANES)
// steps. x is read twice, y written once. LANES = 1 needs no workgroup memory and suits short rows, and rows that lie
// side by side because the axis is not the last.
//
// A few very long rows are cut into slices: STAGE 1 leaves a normaliser each in `parts`, STAGE 2 merges those of its
// row, every workgroup for itself, and writes its slice.
//
//   x f32, rows at operand x of the walk, their elements steps.x apart
//   y f32, rows at operand y of the walk, their elements steps.y apart
//   parts [rows, slices, 2] f32: maximum and sum (stages 1 and 2)
//   LOG: 1 for the logarithm    STAGE: 0 whole rows, 1 fold slices, 2 write slices
//   WG: invocations a workgroup    LANES: invocations a row or slice (prepended by ops/softmax.rs)

#import shared/grid.wgsl
#import shared/strided.wgsl
#import shared/normaliser_row.wgsl

/// `steps`: the distances between a row's elements in x and in y. `size`: the elements of a slice; the last may have fewer.
struct Params { walk: Walk, rows: u32, cols: u32, steps: vec2u, slices: u32, size: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> parts: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

fn merged_parts(row: u32, lane: u32) -> Normaliser {
    var n = Normaliser(LOWEST, 0.0);
    for (var slice = lane; slice < p.slices; slice += LANES) {
        let at = 2u * (row * p.slices + slice);
        n = merge(n, Normaliser(parts[at], parts[at + 1u]));
    }
    return n;
}

/// The result for one element; the row's sum is NaN where the row is, and its logarithm where LOG.
fn share(x: f32, whole: Normaliser) -> f32 {
    if (LOG == 1u) { return select((x - whole.max) - whole.sum, nan(), is_nan(whole.sum)); }
    return select(exp_below(x - whole.max) / whole.sum, nan(), is_nan(whole.sum));
}

@compute @workgroup_size(WG)
fn softmax(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) local: u32) {
    let lane = local % LANES;
    let at = folded(group, groups) * (WG / LANES) + local / LANES;
    let valid = at < p.rows * p.slices;
    let row = at / p.slices;
    let begin = (at % p.slices) * p.size;
    let end = min(p.cols, begin + p.size);
    let start = positions(select(0u, row, valid)).xy;

    var whole = Normaliser(LOWEST, 0.0);
    if (valid) {
        if (STAGE == 2u) { whole = merged_parts(row, lane); } else { whole = folded_row(start.x, p.steps.x, begin + lane, end); }
    }
    whole = together(whole, local, lane);
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
        y[to] = share(v.x, whole);
        y[to + step] = share(v.y, whole);
        y[to + 2u * step] = share(v.z, whole);
        y[to + 3u * step] = share(v.w, whole);
    }
    for (; c < end; c += LANES) { y[start.y + c * p.steps.y] = share(x[start.x + c * p.steps.x], whole); }
}
