// Scaled-dot-product attention (attention.wgsl has the formula), for adapters whose subgroups have one known, small size: a
// subgroup takes 32 queries and 8 SUBGROUP columns of o, and goes through the keys 8 SUBGROUP at a time, all in registers
// (shared/attention_subgroup.wgsl). Weights pass from invocation to invocation by shuffling.
//
//   shared/attention_forward.wgsl: the operands
//   MASKED, SUBGROUP: shared/attention.wgsl, invocations a subgroup (prepended by ops/attention)

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
    // In a one-dimensional workgroup, subgroups are runs of invocations.
    let w = work((folded(group, groups) * 64u + local) / SUBGROUP, p.queries, HEIGHT, p.dv, WORDS, p.m);
    if (!w.valid) { return; } // the whole subgroup leaves together
    begin(w.matrix);
    var largest = eight(vec4f(LOWEST), vec4f(LOWEST), vec4f(LOWEST), vec4f(LOWEST),
                        vec4f(LOWEST), vec4f(LOWEST), vec4f(LOWEST), vec4f(LOWEST));
    var sum: Rows; // of this invocation's keys alone
    var out: Tile;
    for (var tile = w.first; tile < w.end; tile += WIDTH) {
        if (!meet(w.row, w.row + HEIGHT - 1u, tile, tile + WIDTH - 1u)) { continue; }
        var s: Tile;
        add_products_of(&s, SCORES, w.row, tile, p.d, lane);
        var rescale: Rows;
        let key = tile + 8u * lane;
        for (var row = w.row; row < w.row + HEIGHT; row += 4u) {
            for (var r = 0u; r < 4u; r++) {
                // The rows of these four come to the front one by one, as the fours do.
                let query = query(row + r);
                var left = scores(s[0][0], query, key);
                var right = scores(s[1][0], query, key + 4u);
                // A NaN that is lost here comes back with its weight.
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
            turn(&s);
            turn_rows(&largest);
            turn_rows(&sum);
            turn_rows(&rescale);
        }
        scale_rows(&out, rescale);
        add_weighted(VALUES, &out, &s, tile, w.col, p.dv, lane);
    }
    for (var row = w.row; row < w.row + HEIGHT; row += 4u) {
        let all = sum_of(sum[0]);
        let top = largest[0];
        leave_row(w, row, lane, Normaliser(top.x, all.x), out[0][0], out[1][0]);
        leave_row(w, row + 1u, lane, Normaliser(top.y, all.y), out[0][1], out[1][1]);
        leave_row(w, row + 2u, lane, Normaliser(top.z, all.z), out[0][2], out[1][2]);
        leave_row(w, row + 3u, lane, Normaliser(top.w, all.w), out[0][3], out[1][3]);
        turn(&out);
        turn_rows(&largest);
        turn_rows(&sum);
    }
}

fn leave_row(w: Work, row: u32, lane: u32, whole: Normaliser, left: vec4f, right: vec4f) {
    if (row >= p.queries) { return; }
    let at = (w.slice * p.matrices + w.matrix) * p.queries + row;
    if (w.col == 0u && lane == 0u) { leave_stats(at, whole); }
    let col = w.col + 2u * lane;
    if (col < p.dv) { o[at * p.dv + col] = ended(left, whole); }
    if (col + 1u < p.dv) { o[at * p.dv + col + 1u] = ended(right, whole); }
}
