// The rows of a tensor [n, channels, span] that have a mean and a variance, or a weight and a bias, in common; and how invocations
// process them.
//
// Imported by: group_norm_grad.wgsl, shared/group_norm.wgsl
// Expects: p.rows: RowLayout, WG: invocations per workgroup, LANES: invocations per slice, FLAT: 1 if runs have one element.
//
// A tensor [2, 4, 3], with the index of each element. A run is `span` contiguous elements:
//
//             channel 0     channel 1     channel 2     channel 3
//   n = 0   [  0  1  2 ]  [  3  4  5 ]  [  6  7  8 ]  [  9 10 11 ]
//   n = 1   [ 12 13 14 ]  [ 15 16 17 ]  [ 18 19 20 ]  [ 21 22 23 ]
//
//   A row is a group of channels of one n:    row 1 of 2 groups = [ 6  7  8 ] [ 9 10 11 ]     row_step 6, run_step 3
//   A row is a channel over all n:            row 1             = [ 3  4  5 ] [ 15 16 17 ]    row_step 3, run_step 12
//
// Batch normalization has rows of the second kind, and so have the gradients of weight and bias. All others have rows of the first
// kind. Where a row is one run, the runs are its elements (FLAT).
//
// A row is cut into slices if there are few rows. LANES invocations process one slice; each takes every LANES-th element. Only the
// first of these takes a division (`place`); the next ones are found by additions (`next`). With LANES 4 and runs of 3, `step` is
// one run and one position further. From position 2 that is position 3, past the end of a run: then `wrap` is added, which is one
// run further and 3 positions back.

#import shared/common.wgsl

/// `step`, `wrap` and `run_step` (from one run to the next) are added to a Place. `cols`: the elements of a row. `row_step`: from
/// the start of a row to the next. `group_size`: the channels of a group. `by_channel`: 1 if a row is a channel. `interleaved`: 1
/// if neighbouring elements belong to neighbouring rows; then neighbouring lane groups take neighbouring rows, not slices. `size`:
/// the elements of a slice; the last one may have fewer.
struct RowLayout {
    step: vec4u, wrap: vec4u, run_step: vec4u,
    run_len: u32, cols: u32, rows: u32, row_step: u32,
    groups: u32, group_size: u32, by_channel: u32, interleaved: u32,
    slices: u32, size: u32,
}

/// An element: its position in its run, its index in the tensor, its channel, and the row of the statistics that normalize it.
struct Place { in_run: u32, index: u32, channel: u32, statistics: u32 }

/// Element c of a row.
fn place(row: u32, c: u32) -> Place {
    let by_channel = p.rows.by_channel == 1u;
    let channel = select(row % p.rows.groups * p.rows.group_size, row, by_channel);
    let statistics = select(row, row / p.rows.group_size, by_channel);
    var run = c;
    if (FLAT == 0u) { run /= p.rows.run_len; }
    let in_run = c - run * p.rows.run_len;
    let at = vec4u(in_run, row * p.rows.row_step + in_run, channel, statistics) + run * p.rows.run_step;
    return Place(at.x, at.y, at.z, at.w);
}

/// The LANES-th element after the one at `at`.
fn next(at: Place) -> Place {
    var to = vec4u(at.in_run, at.index, at.channel, at.statistics) + p.rows.step;
    if (FLAT == 0u) { to += select(vec4u(0u), p.rows.wrap, to.x >= p.rows.run_len); }
    return Place(to.x, to.y, to.z, to.w);
}

/// The elements `begin..end` of a row; `at` numbers all slices. Past the last slice it is empty and not `valid`.
struct Slice { at: u32, row: u32, begin: u32, end: u32, lane: u32, valid: bool }

fn slice_of(group: vec3u, groups: vec3u, local: u32) -> Slice {
    let at = workgroup_index(group, groups) * (WG / LANES) + local / LANES;
    let valid = at < p.rows.rows * p.rows.slices;
    let interleaved = p.rows.interleaved == 1u;
    let row = select(0u, select(at / p.rows.slices, at % p.rows.rows, interleaved), valid);
    let begin = select(at % p.rows.slices, at / p.rows.rows, interleaved) * p.rows.size;
    let end = select(begin, min(p.rows.cols, begin + p.rows.size), valid);
    return Slice(at, row, begin, end, local % LANES, valid);
}

/// The stored partial results of a row, of which LANES invocations merge every LANES-th. `first`, `last`: the indices of the row's
/// first and last one. `begin`, `step`: this lane's first one, and the distance to its next. Not `valid` past the last row.
struct Slices { row: u32, first: u32, begin: u32, last: u32, step: u32, lane: u32, valid: bool }

fn slices_of(group: vec3u, groups: vec3u, local: u32) -> Slices {
    let number = workgroup_index(group, groups) * (WG / LANES) + local / LANES;
    let valid = number < p.rows.rows;
    let row = select(0u, number, valid);
    let interleaved = p.rows.interleaved == 1u;
    let first = select(row * p.rows.slices, row, interleaved);
    let step = select(1u, p.rows.rows, interleaved);
    let lane = local % LANES;
    return Slices(row, first, first + lane * step, first + (p.rows.slices - 1u) * step, LANES * step, lane, valid);
}
