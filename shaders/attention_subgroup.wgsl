// Scaled-dot-product attention, for adapters whose subgroups have one known, small size. attention.wgsl has the formula.
// Used by: scaled_dot_product_attention
//
// A subgroup computes 32 queries by 8 SUBGROUP columns of o, and iterates over the keys 8 SUBGROUP at a time, all in registers
// (shared/attention_subgroup.wgsl). The invocations exchange weights by subgroup shuffles. Compute bound.
//
//   shared/attention_forward.wgsl: operands and bindings
//
// Constants prepended by ops/attention/gpu.rs: MASKED: see shared/attention.wgsl. SUBGROUP: invocations per subgroup.

#import shared/attention_forward.wgsl
#import shared/attention_subgroup.wgsl

fn scores(products: vec4f, query: Query, key: u32) -> vec4f {
    return vec4f(score(products.x, query, key).x, score(products.y, query, key + 1u).x,
                 score(products.z, query, key + 2u).x, score(products.w, query, key + 3u).x);
}

fn weights(scores: vec4f, top: f32) -> vec4f {
    return vec4f(weight(scores.x, top), weight(scores.y, top), weight(scores.z, top), weight(scores.w, top));
}

fn all_kept(query: Query, key: u32) -> vec4f {
    return vec4f(kept(query, key), kept(query, key + 1u), kept(query, key + 2u), kept(query, key + 3u));
}

@compute @workgroup_size(64)
fn subgroup(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
            @builtin(local_invocation_index) local: u32, @builtin(subgroup_invocation_id) lane: u32) {
    // In a one-dimensional workgroup, a subgroup is a run of consecutive invocations.
    let w = work((workgroup_index(group, groups) * 64u + local) / SUBGROUP, p.queries, TILE_ROWS, p.dv, TILE_WORDS, p.m);
    if (!w.valid) { return; } // the whole subgroup leaves together
    select_matrix(w.matrix);
    var largest = eight(vec4f(LOWEST), vec4f(LOWEST), vec4f(LOWEST), vec4f(LOWEST),
                        vec4f(LOWEST), vec4f(LOWEST), vec4f(LOWEST), vec4f(LOWEST));
    var sum: RowValues; // over the keys of this invocation
    var out: Tile;
    for (var tile = w.first; tile < w.end; tile += TILE_OTHERS) {
        if (!meet(w.row, w.row + TILE_ROWS - 1u, tile, tile + TILE_OTHERS - 1u)) { continue; }
        var s: Tile;
        add_products_of(&s, SCORES, w.row, tile, p.d, lane);
        var rescale: RowValues;
        let key = tile + 8u * lane;
        for (var row = w.row; row < w.row + TILE_ROWS; row += 4u) {
            for (var r = 0u; r < 4u; r++) {
                // Rotates the four rows within the matrix, so that its indices are constants.
                let query = query(row + r);
                var left = scores(s[0][0], query, key);
                var right = scores(s[1][0], query, key + 4u);
                // max may drop a NaN; `weight` brings it back.
                let both = max(left, right);
                let top = max(largest[0].x, largest_of(max(max(both.x, both.y), max(both.z, both.w))));
                let factor = exp_below(largest[0].x - top);
                left = weights(left, top);
                right = weights(right, top);
                let more = left + right;
                let part = sum[0].x * factor + ((more.x + more.y) + (more.z + more.w));
                if (MASKED == 1u && p.threshold > 0u) {
                    left *= all_kept(query, key);
                    right *= all_kept(query, key + 4u);
                }
                s[0] = mat4x4f(s[0][1], s[0][2], s[0][3], left);
                s[1] = mat4x4f(s[1][1], s[1][2], s[1][3], right);
                largest[0] = vec4f(largest[0].yzw, top);
                sum[0] = vec4f(sum[0].yzw, part);
                rescale[0] = vec4f(rescale[0].yzw, factor);
            }
            rotate_tile(&s);
            rotate_rows(&largest);
            rotate_rows(&sum);
            rotate_rows(&rescale);
        }
        scale_rows(&out, rescale);
        add_weighted(VALUES, &out, &s, tile, w.col, p.dv, lane);
    }
    for (var row = w.row; row < w.row + TILE_ROWS; row += 4u) {
        let all = sum_of(sum[0]);
        let top = largest[0];
        store_row(w, row, lane, OnlineSoftmax(top.x, all.x), out[0][0], out[1][0]);
        store_row(w, row + 1u, lane, OnlineSoftmax(top.y, all.y), out[0][1], out[1][1]);
        store_row(w, row + 2u, lane, OnlineSoftmax(top.z, all.z), out[0][2], out[1][2]);
        store_row(w, row + 3u, lane, OnlineSoftmax(top.w, all.w), out[0][3], out[1][3]);
        rotate_tile(&out);
        rotate_rows(&largest);
        rotate_rows(&sum);
    }
}

fn store_row(w: Work, row: u32, lane: u32, whole: OnlineSoftmax, left: vec4f, right: vec4f) {
    if (row >= p.queries) { return; }
    let at = (w.slice * p.matrices + w.matrix) * p.queries + row;
    if (w.col == 0u && lane == 0u) { store_stats(at, whole); }
    let col = w.col + 2u * lane;
    if (col < p.dv) { o[at * p.dv + col] = output(left, whole); }
    if (col + 1u < p.dv) { o[at * p.dv + col + 1u] = output(right, whole); }
}
