// Running sums along an axis: y[r, c] = sum over k <= c of x[r, k].
//
// A row is cut into slices of LANES * p.each neighbours; each invocation of a slice sums p.each of them, the LANES sums
// are scanned in workgroup memory in log2(LANES) steps (Hillis & Steele, CACM 29:12, 1986), and every invocation runs
// over its elements again, now knowing what lies before. Slices of one row learn that from an earlier dispatch: STAGE 1
// leaves the sum of each slice, which are scanned in turn, as rows of `slices` elements, and STAGE 2 begins a slice at
// the running sum before it. x is read once where LANES = 1 and the row is whole, else twice. LANES = 1 suits rows that
// lie side by side.
//
// The gradient runs backward, with no kernel of its own: its rows begin at their last element, and their steps are
// negative, modulo 2^32.
//
//   x f32, rows at operand x of the walk, their elements steps.x apart
//   before f32: the running sums of the slices (stage 2)
//   y f32, rows at operand y of the walk, their elements steps.y apart; the sums of the slices (stage 1)
//   sums of slices [rows, slices], or where `columns` [slices, rows]; contiguous
//   STAGE: 0 whole rows, 1 sums of slices, 2 slices
//   WG: invocations a workgroup    LANES: invocations a slice (prepended by ops/cumsum.rs)

#import shared/grid.wgsl
#import shared/strided.wgsl

/// `steps`: the distances between a row's elements in x and in y. `each`: elements an invocation.
struct Params { walk: Walk, rows: u32, cols: u32, steps: vec2u, slices: u32, each: u32, columns: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> before: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

var<workgroup> partial: array<f32, WG>;

/// The sum of `mine` over this lane and those before. To be called by the whole workgroup.
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
    let at = folded(group, groups) * (WG / LANES) + local / LANES;
    let valid = at < p.rows * p.slices;
    let place = select(vec2u(at / p.slices, at % p.slices), vec2u(at % p.rows, at / p.rows), p.columns == 1u);
    let start = positions(select(0u, place.x, valid)).xy;
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
