// The rows that a tensor falls into, and how invocations share them. A row is `runs` runs of `len` neighbours; the starts
// of its runs are `run_step` apart, those of the rows `row_step`. Seen as [n, channels, span], the groups of channels of
// each n are such rows (a run a channel), and so is each channel (a run an n).
//
// Each element has a partner, one for the whole run: its channel where a row is a group, the place of its statistics where
// a row is a channel.
//
// LANES invocations, a team, take every LANES-th element of a slice of a row. The importing file has `p.rows: Rows` in its
// uniform, and the constants WG (invocations a workgroup), LANES, and FLAT (whether runs have one element).

#import shared/float.wgsl
#import shared/grid.wgsl

/// `step` is from an element to the LANES-th after it, as (elements in the run, places, partners), and `wrap` what to
/// add where that is past the end of a run: so the division that finds an invocation's first element is its last.
/// The partner of a row's first run is (row % period) * scale / share. `size`: the elements of a slice; the last may have
/// fewer. `side`: whether teams take neighbouring rows, and not neighbouring slices.
struct Rows {
    step: vec3u, len: u32,
    wrap: vec3u, cols: u32,
    rows: u32, row_step: u32, run_step: u32, partner_step: u32,
    period: u32, scale: u32, share: u32, side: u32,
    slices: u32, size: u32,
}

/// The elements `begin..end` of a row, number `at` of all slices; not `valid` past the last one, and empty there.
struct Slice { at: u32, row: u32, begin: u32, end: u32, lane: u32, valid: bool }

fn slice_of(group: vec3u, groups: vec3u, local: u32) -> Slice {
    let at = folded(group, groups) * (WG / LANES) + local / LANES;
    let valid = at < p.rows.rows * p.rows.slices;
    let side = p.rows.side == 1u;
    let row = select(0u, select(at / p.rows.slices, at % p.rows.rows, side), valid);
    let begin = select(at % p.rows.slices, at / p.rows.rows, side) * p.rows.size;
    let end = select(begin, min(p.rows.cols, begin + p.rows.size), valid);
    return Slice(at, row, begin, end, local % LANES, valid);
}

/// The part of slice 0 of a row in what each slice has left, and the distance to that of the next.
fn parts_of(row: u32) -> vec2u {
    if (p.rows.side == 1u) { return vec2u(row, p.rows.rows); }
    return vec2u(row * p.rows.slices, 1u);
}

/// Element c of a row: its number in its run, its place in the tensor, its partner.
fn place(row: u32, c: u32) -> vec3u {
    let start = vec2u(row * p.rows.row_step, (row % p.rows.period) * p.rows.scale / p.rows.share);
    if (FLAT == 1u) { return vec3u(0u, start + c * vec2u(p.rows.run_step, p.rows.partner_step)); }
    let run = c / p.rows.len;
    let in_run = c - run * p.rows.len;
    return vec3u(in_run, start + vec2u(run * p.rows.run_step + in_run, run * p.rows.partner_step));
}

/// The LANES-th element after the one at `at`.
fn next(at: vec3u) -> vec3u {
    let to = at + p.rows.step;
    if (FLAT == 1u) { return to; }
    return to + select(vec3u(0u), p.rows.wrap, to.x >= p.rows.len);
}

/// What is taken off the elements of a row before they are multiplied by `scale`: the mean, but where its variance is infinite
/// nothing. The product is 0 anyway, while an element's distance from the mean might overflow.
fn origin_of(mean: f32, scale: f32) -> f32 {
    return select(mean, 0.0, scale == 0.0 && is_finite(mean));
}

var<workgroup> partial: array<vec2f, WG>;

/// The sums of what a team's invocations have, in log2(LANES) steps. To be called by the whole workgroup.
fn together(mine: vec2f, local: u32, lane: u32) -> vec2f {
    if (LANES == 1u) { return mine; } // a constant, so the barriers below stay in uniform control flow
    workgroupBarrier(); // what an earlier call left has been read
    partial[local] = mine;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[local] += partial[local + half]; }
    }
    workgroupBarrier();
    return partial[local - lane];
}
