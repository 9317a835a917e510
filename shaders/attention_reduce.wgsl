// The second step of attention whose keys were cut into slices: merges the partial results of the slices.
//
//   o[i, c] = sum_s e_s sums[s, i, c] / sum_s e_s sum[s, i]     with e_s = exp(max[s, i] - max_s max[s, i])
//
// Used by: scaled_dot_product_attention
//
// One invocation per element of o. It reads the slices in a fixed order, twice: first for the maximum, then for the sums. Memory
// bound.
//
//   sums f32 [slices, rows, cols], contiguous     slice_stats f32 [slices, rows, 2]: maximum and sum of each slice
//   o f32 [rows, cols], contiguous     stats f32 [rows]: the logarithm of the sum of the exponentials of the scores
//
// Constants prepended by ops/attention/gpu.rs: WG: invocations per workgroup.

#import shared/common.wgsl
#import shared/online_softmax.wgsl

/// If `cols` is 0, one invocation per row still stores the logarithm.
struct Params { rows: u32, cols: u32, slices: u32 }

@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read> slice_stats: array<f32>;
@group(0) @binding(2) var<storage, read_write> o: array<f32>;
@group(0) @binding(3) var<storage, read_write> stats: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn attention_reduce(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                  @builtin(local_invocation_index) local: u32) {
    let cols = max(p.cols, 1u);
    let i = workgroup_index(group, groups) * WG + local;
    let row = i / cols;
    if (row >= p.rows) { return; }
    var whole = OnlineSoftmax(LOWEST, 0.0);
    for (var s = 0u; s < p.slices; s++) { whole.max = max_nan(whole.max, slice_stats[2u * (s * p.rows + row)]); }
    var sum = 0.0;
    for (var s = 0u; s < p.slices; s++) {
        let at = s * p.rows + row;
        let e = exp_below(slice_stats[2u * at] - whole.max);
        if (slice_stats[2u * at + 1u] == 0.0) { continue; } // the row sees no key of this slice
        whole.sum += e * slice_stats[2u * at + 1u];
        if (p.cols > 0u) { sum += e * sums[s * p.rows * p.cols + i]; }
    }
    if (i % cols == 0u) { stats[row] = log_sum(whole); }
    if (p.cols > 0u) { o[i] = divided(vec4f(sum), whole).x; }
}
