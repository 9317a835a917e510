// Scaled-dot-product attention: o[i] = sum_j w[i, j] v[j] / sum_j w[i, j] over the keys j that query i sees, 0 if it sees none.
// The weights are w[i, j] = exp(s[i, j] - max_j s[i, j]), the scores s[i, j] = cap tanh(scale q[i] · k[j] / cap) + mask[i, j].
// Used by: scaled_dot_product_attention
//
// FlashAttention-2 (Dao, arXiv:2307.08691) with the online softmax of Milakov & Gimelshein (arXiv:1805.02867).
//
// A workgroup computes 32 queries by 64 columns of o, and iterates over the keys in tiles of 64 (shared/attention_tile.wgsl).
// When a tile raises the running maximum of a row, the sums so far are rescaled. q is loaded again for each tile of keys, and
// should then hit a cache; k and v are loaded once per 32 queries. Scores are never written to memory. Compute bound. If o has
// more columns, several workgroups compute the same scores.
//
// With many keys and few queries, the keys are cut into slices (split-K). Each slice stores its undivided sums, its maximum and
// its sum of weights; attention_reduce.wgsl merges them.
//
//   shared/attention_forward.wgsl: operands and bindings
//
// Constants prepended by ops/attention/gpu.rs: MASKED: see shared/attention.wgsl.

#import shared/attention_forward.wgsl
#import shared/attention_tile.wgsl

alias Word = f32;

/// max may drop a NaN; `weight` brings it back.
fn largest_of(x: vec4f) -> f32 {
    return max(max(x.x, x.y), max(x.z, x.w));
}

fn sum_of(x: vec4f) -> f32 {
    return (x.x + x.y) + (x.z + x.w);
}

@compute @workgroup_size(128)
fn tiled(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) local: u32) {
    let w = work(workgroup_index(group, groups), p.queries, TILE_ROWS, p.dv, TILE_OTHERS, p.m);
    if (!w.valid) { return; } // the whole workgroup leaves together
    select_matrix(w.matrix);
    let row = w.row + local / 16u * 4u;
    let x = local % 16u;
    var largest = vec4f(LOWEST);
    var sum: vec4f; // over the keys of this invocation
    var out: mat4x4f; // four rows, each with the columns x, x + 16, x + 32 and x + 48
    for (var tile = w.first; tile < w.end; tile += TILE_OTHERS) {
        if (!meet(w.row, w.row + TILE_ROWS - 1u, tile, tile + TILE_OTHERS - 1u)) { continue; }
        var s = products(SCORES, w.row, tile, p.d, local);
        for (var a = 0u; a < 4u; a++) {
            let query = query(row + a);
            for (var b = 0u; b < 4u; b++) {
                s[0] = next_number(s[0], score(s[0].x, query, tile + x + 16u * b).x);
            }
            s = next_row(s);
        }
        store_partial(vec4f(largest_of(s[0]), largest_of(s[1]), largest_of(s[2]), largest_of(s[3])), local);
        workgroupBarrier();
        var top = largest;
        for (var l = 0u; l < 16u; l++) { top = max(top, partial(l, local)); }
        let less = largest - top;
        let rescale = vec4f(exp_below(less.x), exp_below(less.y), exp_below(less.z), exp_below(less.w));
        largest = top;
        for (var a = 0u; a < 4u; a++) {
            for (var b = 0u; b < 4u; b++) { s[0] = next_number(s[0], weight(s[0].x, top.x)); }
            s = next_row(s);
            top = next_number(top, top.x);
        }
        sum = sum * rescale + vec4f(sum_of(s[0]), sum_of(s[1]), sum_of(s[2]), sum_of(s[3]));
        out = mat4x4f(out[0] * rescale.x, out[1] * rescale.y, out[2] * rescale.z, out[3] * rescale.w);
        if (MASKED == 1u && p.threshold > 0u) {
            for (var a = 0u; a < 4u; a++) {
                let query = query(row + a);
                for (var b = 0u; b < 4u; b++) {
                    s[0] = next_number(s[0], s[0].x * kept(query, tile + x + 16u * b));
                }
                s = next_row(s);
            }
        }
        store_weights(s, local);
        out = add_weighted(VALUES, out, tile, w.col, p.dv, local);
    }
    store_partial(sum, local);
    workgroupBarrier();
    sum = vec4f();
    for (var l = 0u; l < 16u; l++) { sum += partial(l, local); }
    store_row(w, row, x, OnlineSoftmax(largest.x, sum.x), out[0]);
    store_row(w, row + 1u, x, OnlineSoftmax(largest.y, sum.y), out[1]);
    store_row(w, row + 2u, x, OnlineSoftmax(largest.z, sum.z), out[2]);
    store_row(w, row + 3u, x, OnlineSoftmax(largest.w, sum.w), out[3]);
}

fn store_row(w: Work, row: u32, x: u32, whole: OnlineSoftmax, sums: vec4f) {
    if (row >= p.queries) { return; }
    let at = (w.slice * p.matrices + w.matrix) * p.queries + row;
    if (w.col == 0u && x == 0u) { store_stats(at, whole); }
    let out = output(sums, whole);
    store_number(at, w.col + x, out.x);
    store_number(at, w.col + x + 16u, out.y);
    store_number(at, w.col + x + 32u, out.z);
    store_number(at, w.col + x + 48u, out.w);
}

fn store_number(at: u32, col: u32, x: f32) {
    if (col < p.dv) { o[at * p.dv + col] = x; }
}
