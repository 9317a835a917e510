// Cumulative sums along an axis: y[r, c] = sum over k <= c of x[r, k].
// Used by: cumsum
//
// A row is cut into slices of LANES * p.each consecutive elements. Each of the LANES invocations of a slice sums p.each of them.
// A scan in workgroup memory (Hillis & Steele, CACM 29:12, 1986) gives each invocation the sum of all before it, in log2(LANES)
// steps. Then each invocation visits its elements again and writes their cumulative sums.
//
// A row of several slices takes three dispatches. STAGE 1 stores the sum of each slice. These sums are scanned by this kernel, as
// rows of `slices` elements. STAGE 2 starts each slice from the sum of the slices before it.
//
// Memory bound: x is read once if LANES = 1 and the row is one slice, else twice. LANES = 1 suits rows that are side by side in
// memory, where neighbouring invocations read neighbouring elements.
//
// The gradient sums backward, with the same kernel: its rows begin at their last element, and their steps are negative modulo
// 2^32.
//
//   x f32: row r begins at the first operand of the indexer, its elements are steps.x apart
//   before f32: the cumulative sums of the slices (STAGE 2)
//   y f32: row r begins at the second operand of the indexer, its elements are steps.y apart; or the sums of the slices (STAGE 1)
//   sums of slices [rows, slices], or [slices, rows] if `columns` is 1; contiguous
//
// Constants prepended by ops/cumsum.rs: STAGE: 0 whole rows, 1 sums of slices, 2 slices. WG: invocations per workgroup. LANES:
// invocations per slice.

#import shared/common.wgsl
#import shared/strided.wgsl

/// `steps`: the distance between consecutive elements of a row, in x and in y. `each`: elements per invocation.
struct Params { indexer: StridedIndexer, rows: u32, cols: u32, steps: vec2u, slices: u32, each: u32, columns: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> before: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

var<workgroup> partial: array<f32, WG>;

/// The sum of `mine` over this lane and all lanes before it. The whole workgroup must call it.
fn scanned(mine: f32, local: u32, lane: u32) -> f32 {
    partial[local] = mine;
    for (var reach = 1u; reach < LANES; reach *= 2u) {
        workgroupBarrier();
        var sum = partial[local];
        if (lane >= reach) { sum += partial[local - reach]; }
        workgroupBarrier();
        partial[local] = sum;
    }
    workgroupBarrier();
    return partial[local];
}

@compute @workgroup_size(WG)
fn cumsum(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) local: u32) {
    let lane = local % LANES;
    let at = workgroup_index(group, groups) * (WG / LANES) + local / LANES;
    let valid = at < p.rows * p.slices;
    let place = select(vec2u(at / p.slices, at % p.slices), vec2u(at % p.rows, at / p.rows), p.columns == 1u);
    let start = strided_offsets(select(0u, place.x, valid)).xy;
    let first = min(p.cols, (place.y * LANES + lane) * p.each);
    let end = select(first, min(p.cols, first + p.each), valid);

    var sum = 0.0;
    if (LANES > 1u || STAGE == 1u) {
        for (var c = first; c < end; c++) { sum += x[start.x + c * p.steps.x]; }
    }
    if (LANES > 1u) {
        let whole = scanned(sum, local, lane);
        sum = select(0.0, partial[max(local, 1u) - 1u], lane > 0u);
        if (STAGE == 1u) { sum = whole; }
    }
    if (STAGE == 1u) {
        if (valid && lane == LANES - 1u) { y[at] = sum; }
        return;
    }
    if (STAGE == 2u && valid && place.y > 0u) { sum = before[at - select(1u, p.rows, p.columns == 1u)] + sum; }
    for (var c = first; c < end; c++) {
        sum += x[start.x + c * p.steps.x];
        y[start.y + c * p.steps.y] = sum;
    }
}
