// The gradients of attention, by tiles in workgroup memory: a workgroup takes 32 rows of a gradient and 64 columns, and goes
// through the others, keys or queries, in tiles of 32 (shared/attention_tile.wgsl).
//
//   shared/attention_grad.wgsl: the formulas and the operands
//   PART, MASKED: shared/attention_grad.wgsl, shared/attention.wgsl (prepended by ops/attention)

#import shared/attention_grad.wgsl
#import shared/attention_tile.wgsl

alias Word = f32;

fn leave_mask(row: u32, key: u32, slope: f32) {
    if (row < p.queries && key < p.m) { out[(first_row + row) * p.m + key] = slope; }
}

@compute @workgroup_size(64)
fn tiled(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) lane: u32) {
    let w = work(folded(group, groups), rows(), SIDE, columns(), WIDE, others());
    if (!w.valid) { return; } // the whole workgroup leaves together
    begin(w.matrix);
    let y = lane / 8u * 4u;
    let x = lane % 8u * 4u;
    var sums: array<mat4x4f, 2>;
    for (var tile = w.first; tile < w.end; tile += SIDE) {
        if (!tiles_meet(w.row, SIDE, tile, SIDE)) { continue; }
        var s = products(SCORES, w.row, tile, p.d, lane);
        var g: mat4x4f;
        if (PART != DV) { g = products(SLOPES, w.row, tile, p.dv, lane); }
        for (var a = 0u; a < 4u; a++) {
            for (var b = 0u; b < 4u; b++) {
                let row = w.row + y + a;
                let other = tile + x + b;
                let r = select(other, row, BY_QUERY);
                s[a][b] = gradient(r, stat(r), select(row, other, BY_QUERY), s[a][b], g[a][b]);
                if (PART == DMASK) { leave_mask(row, other, s[a][b]); }
            }
        }
        if (PART != DMASK) {
            share(s, lane);
            add_weighted(&sums, tile, w.col, columns(), lane);
        }
    }
    if (PART == DMASK) { return; }
    for (var a = 0u; a < 4u; a++) {
        for (var b = 0u; b < 8u; b++) {
            leave(w.slice, w.matrix, w.row + y + a, w.col + lane % 8u * 8u + b, sums[b / 4u][a][b % 4u]);
        }
    }
}
