// The rows that a tensor is divided into for normalization, and how invocations process them.
//
// Imported by: normalize_grad.wgsl, shared/normalize.wgsl, shared/row_moments.wgsl
// Expects: p.rows: RowLayout, WG: invocations per workgroup, LANES: invocations per slice, FLAT: 1 where runs have one element.
//
// A row consists of runs of `len` contiguous elements. The starts of its runs are `run_step` apart; the starts of neighbouring
// rows are `row_step` apart. In a tensor [n, channels, span], a group of channels of one n is such a row (one run per channel),
// and so is one channel (one run per n).
//
// Each element has a companion index, the same for a whole run: its channel where a row is a group, the index of its
// statistics where a row is a channel.
//
// LANES invocations process one slice of a row; each takes every LANES-th element.

#import shared/common.wgsl

/// `step`: from an element to the LANES-th one after it, as (position in the run, place in the tensor, companion). `wrap`: what to
/// add where that is past the end of the run. So only an invocation's first element takes a division.
/// The companion of a row's first run is (row % period) * scale / divisor. `cols`: the elements of a row. `size`: the elements of a
/// slice; the last one may have fewer. `side`: 1 where neighbouring lane groups take neighbouring rows, not slices.
struct RowLayout {
    step: vec3u, len: u32,
    wrap: vec3u, cols: u32,
    rows: u32, row_step: u32, run_step: u32, companion_step: u32,
    period: u32, scale: u32, divisor: u32, side: u32,
    slices: u32, size: u32,
}

/// The elements `begin..end` of a row; `at` numbers all slices. Past the last slice it is empty and not `valid`.
struct Slice { at: u32, row: u32, begin: u32, end: u32, lane: u32, valid: bool }

fn slice_of(group: vec3u, groups: vec3u, local: u32) -> Slice {
    let at = workgroup_index(group, groups) * (WG / LANES) + local / LANES;
    let valid = at < p.rows.rows * p.rows.slices;
    let side = p.rows.side == 1u;
    let row = select(0u, select(at / p.rows.slices, at % p.rows.rows, side), valid);
    let begin = select(at % p.rows.slices, at / p.rows.rows, side) * p.rows.size;
    let end = select(begin, min(p.rows.cols, begin + p.rows.size), valid);
    return Slice(at, row, begin, end, local % LANES, valid);
}

/// The index of a row's first slice among the stored partial results, and the distance to the next slice's.
fn parts_of(row: u32) -> vec2u {
    if (p.rows.side == 1u) { return vec2u(row, p.rows.rows); }
    return vec2u(row * p.rows.slices, 1u);
}

/// Element c of a row: (position in its run, place in the tensor, companion).
fn place(row: u32, c: u32) -> vec3u {
    let start = vec2u(row * p.rows.row_step, (row % p.rows.period) * p.rows.scale / p.rows.divisor);
    if (FLAT == 1u) { return vec3u(0u, start + c * vec2u(p.rows.run_step, p.rows.companion_step)); }
    let run = c / p.rows.len;
    let in_run = c - run * p.rows.len;
    return vec3u(in_run, start + vec2u(run * p.rows.run_step + in_run, run * p.rows.companion_step));
}

/// The LANES-th element after the one at `at`.
fn next(at: vec3u) -> vec3u {
    let to = at + p.rows.step;
    if (FLAT == 1u) { return to; }
    return to + select(vec3u(0u), p.rows.wrap, to.x >= p.rows.len);
}

/// What is subtracted from a row's elements before they are multiplied by `scale`: the mean, but 0 where the variance is infinite.
/// There the product is 0 anyway, while the distance from the mean might overflow.
fn origin_of(mean: f32, scale: f32) -> f32 {
    return select(mean, 0.0, scale == 0.0 && is_finite(mean));
}

var<workgroup> partial: array<vec2f, WG>;

/// Adds the partial sums of a slice's LANES invocations in log2(LANES) steps. The whole workgroup must call it.
fn workgroup_reduce(mine: vec2f, local: u32, lane: u32) -> vec2f {
    if (LANES == 1u) { return mine; } // a constant, so the barriers below stay in uniform control flow
    workgroupBarrier(); // all reads of an earlier call are done
    partial[local] = mine;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[local] += partial[local + half]; }
    }
    workgroupBarrier();
    return partial[local - lane];
}
