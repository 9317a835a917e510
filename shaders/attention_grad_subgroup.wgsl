// The gradients of attention, for adapters whose subgroups have one known, small size: a subgroup takes 32 rows of a gradient
// and 8 SUBGROUP columns, and goes through the others, keys or queries, 8 SUBGROUP at a time, all in registers
// (shared/attention_subgroup.wgsl).
//
//   shared/attention_grad.wgsl: the formulas and the operands
//   PART, MASKED, SUBGROUP: shared/attention_grad.wgsl, shared/attention.wgsl, invocations a subgroup (prepended by
//   ops/attention)

#import shared/attention_grad.wgsl
#import shared/attention_subgroup.wgsl

/// Of eight others the stats, where they are queries.
struct Stats { left_log: vec4f, left_delta: vec4f, right_log: vec4f, right_delta: vec4f }

fn stats_of(first: u32) -> Stats {
    let a = stat(first);
    let b = stat(first + 1u);
    let c = stat(first + 2u);
    let d = stat(first + 3u);
    let e = stat(first + 4u);
    let f = stat(first + 5u);
    let g = stat(first + 6u);
    let h = stat(first + 7u);
    return Stats(vec4f(a.x, b.x, c.x, d.x), vec4f(a.y, b.y, c.y, d.y), vec4f(e.x, f.x, g.x, h.x), vec4f(e.y, f.y, g.y, h.y));
}

fn one(row: u32, other: u32, stat: vec2f, product: f32, slope: f32) -> f32 {
    return gradient(select(other, row, BY_QUERY), stat, select(row, other, BY_QUERY), product, slope);
}

/// Of a row and four others.
fn gradients(row: u32, other: u32, logs: vec4f, deltas: vec4f, s: vec4f, g: vec4f) -> vec4f {
    return vec4f(one(row, other, vec2f(logs.x, deltas.x), s.x, g.x), one(row, other + 1u, vec2f(logs.y, deltas.y), s.y, g.y),
                 one(row, other + 2u, vec2f(logs.z, deltas.z), s.z, g.z), one(row, other + 3u, vec2f(logs.w, deltas.w), s.w, g.w));
}

fn leave_row(w: Work, row: u32, lane: u32, left: vec4f, right: vec4f) {
    leave(w.slice, w.matrix, row, w.col + 2u * lane, left);
    leave(w.slice, w.matrix, row, w.col + 2u * lane + 1u, right);
}

@compute @workgroup_size(64)
fn subgroup(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
            @builtin(local_invocation_index) local: u32, @builtin(subgroup_invocation_id) lane: u32) {
    let w = work((folded(group, groups) * 64u + local) / SUBGROUP, rows(), HEIGHT, columns(), WORDS, others());
    if (!w.valid) { return; } // the whole subgroup leaves together
    begin(w.matrix);
    var sums: Tile;
    for (var tile = w.first; tile < w.end; tile += WIDTH) {
        if (!tiles_meet(w.row, HEIGHT, tile, WIDTH)) { continue; }
        var s: Tile;
        var g: Tile;
        add_products_of(&s, SCORES, w.row, tile, p.d, lane);
        if (PART != DV) { add_products_of(&g, SLOPES, w.row, tile, p.dv, lane); }
        let other = tile + 8u * lane;
        var mine: Stats;
        if (!BY_QUERY) { mine = stats_of(other); }
        for (var row = w.row; row < w.row + HEIGHT; row += 4u) {
            for (var r = 0u; r < 4u; r++) {
                var each = mine;
                if (BY_QUERY) {
                    let own = stat(row + r);
                    each = Stats(vec4f(own.x), vec4f(own.y), vec4f(own.x), vec4f(own.y));
                }
                // The rows of these four come to the front one by one, as the fours do.
                let left = gradients(row + r, other, each.left_log, each.left_delta, s[0][0], g[0][0]);
                let right = gradients(row + r, other + 4u, each.right_log, each.right_delta, s[1][0], g[1][0]);
                s[0] = mat4x4f(s[0][1], s[0][2], s[0][3], left);
                s[1] = mat4x4f(s[1][1], s[1][2], s[1][3], right);
                g[0] = mat4x4f(g[0][1], g[0][2], g[0][3], g[0][0]);
                g[1] = mat4x4f(g[1][1], g[1][2], g[1][3], g[1][0]);
            }
            turn(&s);
            turn(&g);
        }
        add_weighted(&sums, &s, tile, w.col, columns(), lane);
    }
    for (var row = w.row; row < w.row + HEIGHT; row += 4u) {
        leave_row(w, row, lane, sums[0][0], sums[1][0]);
        leave_row(w, row + 1u, lane, sums[0][1], sums[1][1]);
        leave_row(w, row + 2u, lane, sums[0][2], sums[1][2]);
        leave_row(w, row + 3u, lane, sums[0][3], sums[1][3]);
        turn(&sums);
    }
}
