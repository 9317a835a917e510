// The gradient of the losses of cross_entropy.wgsl, reduced or not, with respect to the logits:
//
//   dx[r, c] = (exp(x[r, c] - m_r) kept_r - keep w[t[r]] [c = t[r]] - spread w[c]) dy[r] / divisor
//
// and 0 in a row whose class is `ignored`.
// Used by: cross_entropy, cross_entropy_with (gradient)
//
// LANES invocations process one row. Each takes every LANES-th element, with four loads in flight. Memory bound: x is read
// once, dx written once.
//
//   x, t, w: see cross_entropy.wgsl     kept [rows, 2] f32: m_r and kept_r, which that kernel stored
//   dy f32: one number, or [rows]     totals: its second element is the divisor if `counting` is 1, else p.divisor is
//   dx f32: row r begins at the second operand of the indexer, its classes are `to_step` apart
//
// Constants prepended by ops/cross_entropy.rs: SMOOTH: whether spread is not 0. WG: invocations per workgroup. LANES: invocations
// per row.

#import shared/common.wgsl
#import shared/strided.wgsl
#import shared/online_softmax_row.wgsl

struct Params {
    indexer: StridedIndexer,
    rows: u32, classes: u32, step: u32, to_step: u32,
    t_offset: u32, w_offset: u32, weighted: u32, ignoring: u32, ignored: u32,
    keep: f32, spread: f32,
    counting: u32,
    divisor: f32,
    kept_offset: u32, dy_offset: u32, dy_step: u32, totals_offset: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> t: array<u32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> kept: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read> totals: array<f32>;
@group(0) @binding(6) var<storage, read_write> dx: array<f32>;
@group(0) @binding(7) var<uniform> p: Params;

fn weight(class_id: u32) -> f32 {
    // Without weights some other buffer is bound as w; `weighted` is 0 and only its word at w_offset is read.
    return select(w[p.w_offset + class_id * p.weighted], 1.0, p.weighted == 0u);
}

/// The values that all elements of a row share.
struct Row { max: f32, factor: f32, target_id: u32, target_weight: f32, scale: f32, ignored: bool }

fn gradient(x: f32, class_id: u32, row: Row) -> f32 {
    if (row.ignored) { return 0.0; }
    var slope = exp_below(x - row.max) * row.factor - select(0.0, row.target_weight, class_id == row.target_id);
    if (SMOOTH == 1u) { slope -= p.spread * weight(class_id); }
    return select(slope * row.scale, nan(), is_nan(row.factor));
}

// Branches that depend on a uniform alone are selects: lavapipe would recompile the kernel at every dispatch, for the value of
// that uniform.
@compute @workgroup_size(WG)
fn cross_entropy_grad(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                      @builtin(local_invocation_index) local: u32) {
    let number = workgroup_index(group, groups) * (WG / LANES) + local / LANES;
    if (number >= p.rows) { return; }
    let at = strided_offsets(number).xy;
    let target_id = t[p.t_offset + number];
    let divisor = select(p.divisor, totals[p.totals_offset + 1u], p.counting == 1u);
    let above = dy[p.dy_offset + number * p.dy_step];
    let scale = select(above / divisor, above, divisor == 1.0); // WGSL division may be inexact even by 1
    var target_weight = 0.0;
    if (target_id < p.classes) { target_weight = p.keep * weight(target_id); }
    let pair = p.kept_offset + 2u * number;
    let row = Row(kept[pair], kept[pair + 1u], target_id, target_weight, scale,
                  (p.ignoring == 1u) & (target_id == p.ignored));

    let step = p.step;
    let to = at.y;
    let to_step = p.to_step;
    var c = local % LANES;
    for (; c + 3u * LANES < p.classes; c += 4u * LANES) {
        let v = four(at.x + c * step, LANES * step);
        dx[to + c * to_step] = gradient(v.x, c, row);
        dx[to + (c + LANES) * to_step] = gradient(v.y, c + LANES, row);
        dx[to + (c + 2u * LANES) * to_step] = gradient(v.z, c + 2u * LANES, row);
        dx[to + (c + 3u * LANES) * to_step] = gradient(v.w, c + 3u * LANES, row);
    }
    for (; c < p.classes; c += LANES) { dx[to + c * to_step] = gradient(x[at.x + c * step], c, row); }
}
