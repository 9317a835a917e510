// The gradient of cross_entropy.wgsl's losses, summed or averaged or not, with regard to the logits:
//
//   dx[r, c] = (exp(x[r, c] - m_r) kept_r - keep w[t[r]] [c = t[r]] - spread w[c]) dy[r] / divisor
//
// and 0 in a row whose class is `ignored`.
//
// LANES invocations share a row, each takes every LANES-th element, four a turn. x is read once, dx written once.
//
//   x, t, w as in cross_entropy.wgsl     kept [rows, 2] f32: m_r and kept_r, which that left
//   dy f32: one, or [rows]     totals: where `counting` is 1 the divisor is its second element, else p.divisor
//   dx f32: row r begins at operand y of the walk, classes lie `to_step` apart
//   SMOOTH: whether spread is not 0    WG: invocations a workgroup    LANES: invocations a row (prepended by
//   ops/cross_entropy.rs)

#import shared/grid.wgsl
#import shared/strided.wgsl
#import shared/normaliser_row.wgsl

struct Params {
    walk: Walk,
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
    // Without weights w is another buffer, of which one word is sure to be there.
    return select(w[p.w_offset + class_id * p.weighted], 1.0, p.weighted == 0u);
}

/// What all elements of a row have in common.
struct Row { max: f32, factor: f32, target_id: u32, target_share: f32, scale: f32, ignored: bool }

fn gradient(x: f32, class_id: u32, row: Row) -> f32 {
    if (row.ignored) { return 0.0; }
    var slope = exp_below(x - row.max) * row.factor - select(0.0, row.target_share, class_id == row.target_id);
    if (SMOOTH == 1u) { slope -= p.spread * weight(class_id); }
    return select(slope * row.scale, nan(), is_nan(row.factor));
}

// Branches that a uniform alone decides are selects: lavapipe would compile the kernel anew at every dispatch, for the
// uniform's value.
@compute @workgroup_size(WG)
fn cross_entropy_grad(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                      @builtin(local_invocation_index) local: u32) {
    let number = folded(group, groups) * (WG / LANES) + local / LANES;
    if (number >= p.rows) { return; }
    let at = positions(number).xy;
    let target_id = t[p.t_offset + number];
    let divisor = select(p.divisor, totals[p.totals_offset + 1u], p.counting == 1u);
    let above = dy[p.dy_offset + number * p.dy_step];
    let scale = select(above / divisor, above, divisor == 1.0); // WGSL's division may err even by 1
    var target_share = 0.0;
    if (target_id < p.classes) { target_share = p.keep * weight(target_id); }
    let pair = p.kept_offset + 2u * number;
    let row = Row(kept[pair], kept[pair + 1u], target_id, target_share, scale,
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
