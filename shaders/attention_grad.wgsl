// The gradients of attention, by tiles in workgroup memory. shared/attention_grad.wgsl has the formulas.
// Used by: scaled_dot_product_attention (gradient)
//
// A workgroup computes 32 rows by 64 columns of one gradient. The rows are queries and the others keys, or the rows are keys and
// the others queries. It iterates over the others in tiles of 64 (shared/attention_tile.wgsl).
//
//   shared/attention_grad.wgsl: operands and bindings     out f32: the gradient of each slice, contiguous
//   PART: 0 dq [matrices, queries, d], 1 dk [matrices, m, d], 2 dv [matrices, m, dv], 3 dmask [matrices, queries, m]
//   dmask is not summed: its slices write disjoint parts of one result.
//   MASKED: see shared/attention.wgsl (both prepended by ops/attention)

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
const BY_QUERY: bool = PART == DQ || PART == DMASK;

fn rows() -> u32 {
    if (BY_QUERY) { return p.queries; }
    return p.m;
}

fn others() -> u32 {
    if (BY_QUERY) { return p.m; }
    return p.queries;
}

fn columns() -> u32 {
    if (PART == DMASK) { return 0u; }
    if (PART == DV) { return p.dv; }
    return p.d;
}

fn tiles_meet(row: u32, height: u32, other: u32, width: u32) -> bool {
    if (PART == DMASK) { return true; } // zeros are stored too
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
const SUMMED: u32 = select(SCORES, SLOPES, PART == DV);

/// Stores a sum in `out`; dq and dk are multiplied by the scale of the scores.
fn store(slice: u32, matrix: u32, row: u32, col: u32, sum: f32) {
    if (row >= rows() || col >= columns()) { return; }
    let at = (slice * p.matrices + matrix) * rows() + row;
    out[at * columns() + col] = sum * select(p.scale, 1.0, PART == DV);
}

/// The weight of a row and an other in this gradient, from their products `score` (q · k) and `slope` (do · v).
fn slope(row: u32, other: u32, score: f32, slope: f32) -> f32 {
    let r = select(other, row, BY_QUERY);
    let w = gradient(r, stat(r), select(row, other, BY_QUERY), score, slope);
    if (PART == DV) { return w.value; }
    if (PART == DMASK) { return w.mask; }
    return w.score;
}

fn store_mask(row: u32, key: u32, slope: f32) {
    if (row < p.queries && key < p.m) { out[(first_row + row) * p.m + key] = slope; }
}

fn store_row(w: Work, row: u32, x: u32, sums: vec4f) {
    store(w.slice, w.matrix, row, w.col + x, sums.x);
    store(w.slice, w.matrix, row, w.col + x + 16u, sums.y);
    store(w.slice, w.matrix, row, w.col + x + 32u, sums.z);
    store(w.slice, w.matrix, row, w.col + x + 48u, sums.w);
}

@compute @workgroup_size(128)
fn tiled(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) lane: u32) {
    let w = work(workgroup_index(group, groups), rows(), SIDE, columns(), WIDE, others());
    if (!w.valid) { return; } // the whole workgroup leaves together
    begin(w.matrix);
    let row = w.row + lane / 16u * 4u;
    let x = lane % 16u;
    var sums: mat4x4f;
    for (var tile = w.first; tile < w.end; tile += WIDE) {
        if (!tiles_meet(w.row, SIDE, tile, WIDE)) { continue; }
        var s = products(SCORES, w.row, tile, p.d, lane);
        var g: mat4x4f;
        if (PART != DV) { g = products(SLOPES, w.row, tile, p.dv, lane); }
        for (var a = 0u; a < 4u; a++) {
            for (var b = 0u; b < 4u; b++) {
                let other = tile + x + 16u * b;
                let weight = slope(row + a, other, s[0].x, g[0].x);
                if (PART == DMASK) { store_mask(row + a, other, weight); }
                s[0] = next_number(s[0], weight);
                g[0] = next_number(g[0], g[0].x);
            }
            s = next_row(s);
            g = next_row(g);
        }
        if (PART != DMASK) {
            store_weights(s, lane);
            sums = add_weighted(SUMMED, sums, tile, w.col, columns(), lane);
        }
    }
    if (PART == DMASK) { return; }
    store_row(w, row, x, sums[0]);
    store_row(w, row + 1u, x, sums[1]);
    store_row(w, row + 2u, x, sums[2]);
    store_row(w, row + 3u, x, sums[3]);
}
