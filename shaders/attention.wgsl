// Scaled-dot-product attention: o[i] = sum_j w[i, j] v[j] / sum_j w[i, j] with w[i, j] = exp(s[i, j] - max_j s[i, j]) and
// s[i, j] = cap tanh(scale q[i] · k[j] / cap) + mask[i, j] over the keys j that query i sees; 0 if it sees none.
// FlashAttention-2 (Dao, arXiv:2307.08691) on the online normaliser of Milakov & Gimelshein (arXiv:1805.02867).
//
// A workgroup takes 32 queries and 64 columns of o, and goes through the keys in tiles of 32 (shared/attention_tile.wgsl).
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

var<workgroup> partial: array<array<f32, 8>, SIDE>;

@compute @workgroup_size(64)
fn tiled(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) lane: u32) {
    let w = work(folded(group, groups), p.queries, SIDE, p.dv, WIDE, p.m);
    if (!w.valid) { return; } // the whole workgroup leaves together
    begin(w.matrix);
    let y = lane / 8u * 4u;
    let x = lane % 8u * 4u;
    var largest = vec4f(LOWEST);
    var sum: vec4f; // of this invocation's keys alone
    var out: array<mat4x4f, 2>;
    for (var tile = w.first; tile < w.end; tile += SIDE) {
        if (!meet(w.row, w.row + SIDE - 1u, tile, tile + SIDE - 1u)) { continue; }
        var s = products(SCORES, w.row, tile, p.d, lane);
        for (var a = 0u; a < 4u; a++) {
            let query = query(w.row + y + a);
            var top = LOWEST;
            for (var b = 0u; b < 4u; b++) {
                s[a][b] = score(s[a][b], query, tile + x + b).x;
                top = max_nan(top, s[a][b]);
            }
            partial[y + a][lane % 8u] = top;
        }
        workgroupBarrier();
        for (var a = 0u; a < 4u; a++) {
            let query = query(w.row + y + a);
            var top = largest[a];
            for (var l = 0u; l < 8u; l++) { top = max_nan(top, partial[y + a][l]); }
            let rescale = exp_below(largest[a] - top);
            largest[a] = top;
            sum[a] *= rescale;
            out[0][a] *= rescale;
            out[1][a] *= rescale;
            for (var b = 0u; b < 4u; b++) {
                let e = weight(s[a][b], top);
                sum[a] += e;
                s[a][b] = e * kept(query, tile + x + b);
            }
        }
        share(s, lane);
        add_weighted(&out, tile, w.col, p.dv, lane);
    }
    for (var a = 0u; a < 4u; a++) { partial[y + a][lane % 8u] = sum[a]; }
    workgroupBarrier();
    for (var a = 0u; a < 4u; a++) {
        let row = w.row + y + a;
        if (row >= p.queries) { continue; }
        var all = 0.0;
        for (var l = 0u; l < 8u; l++) { all += partial[y + a][l]; }
        let at = (w.slice * p.matrices + w.matrix) * p.queries + row;
        let whole = Normaliser(largest[a], all);
        if (w.col == 0u && x == 0u) { leave_stats(at, whole); }
        for (var b = 0u; b < 8u; b++) {
            let c = w.col + lane % 8u * 8u + b;
            if (c < p.dv) { o[at * p.dv + c] = ended(out[b / 4u][a][b % 4u], whole); }
        }
    }
}
