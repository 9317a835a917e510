// Scaled-dot-product attention, the plain way: o[i] = sum_j softmax_j(q[i] · k[j] / sqrt(d)) v[j]. One invocation processes one
// query: the largest score, then the weights, and with each the weighted sum of the values, which it keeps in o.
//
//   q [matrices, n, d], k [matrices, m, d], v [matrices, m, dv], o [matrices, n, dv] f32
//
// Each invocation reads all of k twice and all of v, and computes each score twice. attention.wgsl lets 32 queries share a tile of
// keys and values in workgroup memory, and computes each score once per 64 columns of o, by online softmax (FlashAttention).

struct Params { rows: u32, n: u32, m: u32, d: u32, dv: u32, scale: f32 }

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read_write> o: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

/// The score of a row of q and a row of k, counted over all matrices.
fn score(row: u32, key: u32) -> f32 {
    var sum = 0.0;
    for (var c = 0u; c < p.d; c++) { sum += q[row * p.d + c] * k[key * p.d + c]; }
    return sum * p.scale;
}

@compute @workgroup_size(64)
fn naive(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) local: u32) {
    let row = (group.y * groups.x + group.x) * 64u + local;
    if (row >= p.rows) { return; }
    let first = row / p.n * p.m; // the first key of the query's matrix
    var largest = score(row, first);
    for (var j = 1u; j < p.m; j++) { largest = max(largest, score(row, first + j)); }
    for (var c = 0u; c < p.dv; c++) { o[row * p.dv + c] = 0.0; }
    var sum = 0.0;
    for (var j = 0u; j < p.m; j++) {
        let weight = exp(score(row, first + j) - largest);
        sum += weight;
        for (var c = 0u; c < p.dv; c++) { o[row * p.dv + c] += weight * v[(first + j) * p.dv + c]; }
    }
    for (var c = 0u; c < p.dv; c++) { o[row * p.dv + c] /= sum; }
}
