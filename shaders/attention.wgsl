// Scaled-dot-product attention: o[i] = sum_j w[i, j] v[j] / sum_j w[i, j] with w[i, j] = exp(s[i, j] - max_j s[i, j]) and
// s[i, j] = cap tanh(scale q[i] · k[j] / cap) + mask[i, j] over the keys j that query i sees; 0 if it sees none.
// FlashAttention-2 (Dao, arXiv:2307.08691) on the online normaliser of Milakov & Gimelshein (arXiv:1805.02867).
//
// A workgroup takes 32 queries and 64 columns of o, and goes through the keys in tiles of 64 (shared/attention_tile.wgsl).
// A tile whose maximum is new scales down what was summed before it. So q is read once for each 64 columns, k and v once
// for each 32 queries, and no scores ever reach memory. Wider values have several workgroups, each with all the scores.
//
// Many keys and few queries are cut into slices of keys: each leaves its sums as they are, and its maximum and sum of
// weights; attention_fold.wgsl merges them.
//
//   shared/attention_forward.wgsl: the operands     MASKED: shared/attention.wgsl (prepended by ops/attention)

#import shared/attention_forward.wgsl
#import shared/attention_tile.wgsl

alias Word = f32;

/// A NaN that is lost here comes back with its weight.
fn largest_of(x: vec4f) -> f32 {
    return max(max(x.x, x.y), max(x.z, x.w));
}

fn sum_of(x: vec4f) -> f32 {
    return (x.x + x.y) + (x.z + x.w);
}

@compute @workgroup_size(128)
fn tiled(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) lane: u32) {
    let w = work(folded(group, groups), p.queries, SIDE, p.dv, WIDE, p.m);
    if (!w.valid) { return; } // the whole workgroup leaves together
    begin(w.matrix);
    let row = w.row + lane / 16u * 4u;
    let x = lane % 16u;
    var largest = vec4f(LOWEST);
    var sum: vec4f; // of this invocation's keys alone
    var out: mat4x4f; // of four rows each the columns x, x + 16, x + 32 and x + 48
    for (var tile = w.first; tile < w.end; tile += WIDE) {
        if (!meet(w.row, w.row + SIDE - 1u, tile, tile + WIDE - 1u)) { continue; }
        var s = products(SCORES, w.row, tile, p.d, lane);
        for (var a = 0u; a < 4u; a++) {
            let query = query(row + a);
            for (var b = 0u; b < 4u; b++) {
                s[0] = next_number(s[0], score(s[0].x, query, tile + x + 16u * b).x);
            }
            s = next_row(s);
        }
        leave_partial(vec4f(largest_of(s[0]), largest_of(s[1]), largest_of(s[2]), largest_of(s[3])), lane);
        workgroupBarrier();
        var top = largest;
        for (var l = 0u; l < 16u; l++) { top = max(top, partial(l, lane)); }
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
        share(s, lane);
        out = add_weighted(VALUES, out, tile, w.col, p.dv, lane);
    }
    leave_partial(sum, lane);
    workgroupBarrier();
    sum = vec4f();
    for (var l = 0u; l < 16u; l++) { sum += partial(l, lane); }
    leave_row(w, row, x, Normaliser(largest.x, sum.x), out[0]);
    leave_row(w, row + 1u, x, Normaliser(largest.y, sum.y), out[1]);
    leave_row(w, row + 2u, x, Normaliser(largest.z, sum.z), out[2]);
    leave_row(w, row + 3u, x, Normaliser(largest.w, sum.w), out[3]);
}

fn leave_row(w: Work, row: u32, x: u32, whole: Normaliser, out: vec4f) {
    if (row >= p.queries) { return; }
    let at = (w.slice * p.matrices + w.matrix) * p.queries + row;
    if (w.col == 0u && x == 0u) { leave_stats(at, whole); }
    leave_number(at, w.col + x, whole, out.x);
    leave_number(at, w.col + x + 16u, whole, out.y);
    leave_number(at, w.col + x + 32u, whole, out.z);
    leave_number(at, w.col + x + 48u, whole, out.w);
}

fn leave_number(at: u32, col: u32, whole: Normaliser, sum: f32) {
    if (col < p.dv) { o[at * p.dv + col] = ended(sum, whole); }
}
