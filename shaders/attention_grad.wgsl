// The gradients of attention, by tiles in workgroup memory. shared/attention_grad.wgsl has the formulas.
// Used by: scaled_dot_product_attention (gradient)
//
// A workgroup computes 32 rows by 64 columns of one gradient. The rows are queries and the others keys, or the rows are keys and
// the others queries. It iterates over the others in tiles of 64 (shared/attention_tile.wgsl). Compute bound.
//
//   shared/attention_grad.wgsl: operands and bindings     out f32: the gradient of each slice, contiguous
//   out is dq [matrices, queries, d], dk [matrices, m, d], dv [matrices, m, dv] or dmask [matrices, queries, m]
//   dmask is not summed: its slices write disjoint parts of one result.
//
// Constants prepended by ops/attention/gpu.rs: GRADIENT: 0 dq, 1 dk, 2 dv, 3 dmask. MASKED: see shared/attention.wgsl.

#import shared/attention_grad.wgsl
#import shared/attention_tile.wgsl

alias Word = f32;

@group(0) @binding(6) var<storage, read_write> out: array<f32>;
@group(0) @binding(7) var<uniform> p: Params;

const DQ = 0u;
const DK = 1u;
const DV = 2u;
const DMASK = 3u;

/// Whether the rows of the result are queries and the sum is over keys; else the rows are keys and the sum is over queries.
const BY_QUERY: bool = GRADIENT == DQ || GRADIENT == DMASK;

fn rows() -> u32 {
    if (BY_QUERY) { return p.queries; }
    return p.m;
}

fn others() -> u32 {
    if (BY_QUERY) { return p.m; }
    return p.queries;
}

fn columns() -> u32 {
    if (GRADIENT == DMASK) { return 0u; }
    if (GRADIENT == DV) { return p.dv; }
    return p.d;
}

fn tiles_meet(row: u32, height: u32, other: u32, width: u32) -> bool {
    if (GRADIENT == DMASK) { return true; } // zeros are stored too
    if (BY_QUERY) { return meet(row, row + height - 1u, other, other + width - 1u); }
    return meet(other, other + width - 1u, row, row + height - 1u);
}

fn row_at(kind: u32, r: u32) -> u32 {
    if (BY_QUERY) { return query_at(kind, r); }
    return key_at(kind, r);
}

fn row_step(kind: u32) -> u32 {
    if (BY_QUERY) { return query_step(kind); }
    return key_step(kind);
}

fn row_word(kind: u32, at: u32) -> Word {
    if (BY_QUERY) { return query_word(kind, at); }
    return key_word(kind, at);
}

fn other_at(kind: u32, j: u32) -> u32 {
    if (BY_QUERY) { return key_at(kind, j); }
    return query_at(kind, j);
}

fn other_step(kind: u32) -> u32 {
    if (BY_QUERY) { return key_step(kind); }
    return query_step(kind);
}

fn other_word(kind: u32, at: u32) -> Word {
    if (BY_QUERY) { return key_word(kind, at); }
    return query_word(kind, at);
}

/// The operand that the weights multiply: k for dq, q for dk, the output's gradient for dv.
const SUMMED: u32 = select(SCORES, VALUE_PRODUCTS, GRADIENT == DV);

/// Stores a sum in `out`; dq and dk are multiplied by the scale of the scores.
fn store(slice: u32, matrix: u32, row: u32, col: u32, sum: f32) {
    if (row >= rows() || col >= columns()) { return; }
    let at = (slice * p.matrices + matrix) * rows() + row;
    out[at * columns() + col] = sum * select(p.scale, 1.0, GRADIENT == DV);
}

/// The weight of a row and an other in this gradient, from their products q · k and do · v.
fn gradient_weight(row: u32, other: u32, q_k: f32, do_v: f32) -> f32 {
    let r = select(other, row, BY_QUERY);
    let w = gradient(r, stat(r), select(row, other, BY_QUERY), q_k, do_v);
    if (GRADIENT == DV) { return w.value; }
    if (GRADIENT == DMASK) { return w.mask; }
    return w.score;
}

fn store_mask(row: u32, key: u32, weight: f32) {
    if (row < p.queries && key < p.m) { out[(first_row + row) * p.m + key] = weight; }
}

fn store_row(w: Work, row: u32, x: u32, sums: vec4f) {
    store(w.slice, w.matrix, row, w.col + x, sums.x);
    store(w.slice, w.matrix, row, w.col + x + 16u, sums.y);
    store(w.slice, w.matrix, row, w.col + x + 32u, sums.z);
    store(w.slice, w.matrix, row, w.col + x + 48u, sums.w);
}

@compute @workgroup_size(128)
fn tiled(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) local: u32) {
    let w = work(workgroup_index(group, groups), rows(), TILE_ROWS, columns(), TILE_OTHERS, others());
    if (!w.valid) { return; } // the whole workgroup leaves together
    select_matrix(w.matrix);
    let row = w.row + local / 16u * 4u;
    let x = local % 16u;
    var sums: mat4x4f;
    for (var tile = w.first; tile < w.end; tile += TILE_OTHERS) {
        if (!tiles_meet(w.row, TILE_ROWS, tile, TILE_OTHERS)) { continue; }
        var s = products(SCORES, w.row, tile, p.d, local);
        var g: mat4x4f;
        if (GRADIENT != DV) { g = products(VALUE_PRODUCTS, w.row, tile, p.dv, local); }
        for (var a = 0u; a < 4u; a++) {
            for (var b = 0u; b < 4u; b++) {
                let other = tile + x + 16u * b;
                let weight = gradient_weight(row + a, other, s[0].x, g[0].x);
                if (GRADIENT == DMASK) { store_mask(row + a, other, weight); }
                s[0] = next_number(s[0], weight);
                g[0] = next_number(g[0], g[0].x);
            }
            s = next_row(s);
            g = next_row(g);
        }
        if (GRADIENT != DMASK) {
            store_weights(s, local);
            sums = add_weighted(SUMMED, sums, tile, w.col, columns(), local);
        }
    }
    if (GRADIENT == DMASK) { return; }
    store_row(w, row, x, sums[0]);
    store_row(w, row + 1u, x, sums[1]);
    store_row(w, row + 2u, x, sums[2]);
    store_row(w, row + 3u, x, sums[3]);
}
