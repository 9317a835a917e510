// What the gradient of attention needs of each row beside its scores: delta[i] = sum_c o[i, c] do[i, c], the share of the
// output's gradient that the division by the sum of weights takes; put beside the logarithm of the sum of exponentials.
//
// One invocation a row.
//
//   o, grad f32 [rows, cols], contiguous from their offsets on     lse f32 [rows], likewise
//   stats f32 [rows, 2]: lse and delta     WG: invocations a workgroup (prepended by ops/attention)

#import shared/grid.wgsl

struct Params { rows: u32, cols: u32, o_offset: u32, grad_offset: u32, lse_offset: u32 }

@group(0) @binding(0) var<storage, read> o: array<f32>;
@group(0) @binding(1) var<storage, read> lse: array<f32>;
@group(0) @binding(2) var<storage, read> grad: array<f32>;
@group(0) @binding(3) var<storage, read_write> stats: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn attention_delta(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                   @builtin(local_invocation_index) lane: u32) {
    let row = folded(group, groups) * WG + lane;
    if (row >= p.rows) { return; }
    var sum = 0.0;
    for (var c = 0u; c < p.cols; c++) {
        sum = fma(o[p.o_offset + row * p.cols + c], grad[p.grad_offset + row * p.cols + c], sum);
    }
    stats[2u * row] = lse[p.lse_offset + row];
    stats[2u * row + 1u] = sum;
}
