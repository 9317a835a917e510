// The part of the gradient of attention that depends on the row alone: delta[i] = sum_c o[i, c] do[i, c]. It comes from the
// division by the sum of the weights (shared/attention_grad.wgsl has the formulas). The kernel stores it next to lse[i], the
// logarithm of the sum of the exponentials of the scores.
// Used by: scaled_dot_product_attention (gradient)
//
// One invocation per row of o. Memory bound; its loads are a row apart, so not coalesced.
//
//   o, grad (do) f32 [rows, cols], contiguous from their offsets     lse f32 [rows], likewise
//   stats f32 [rows, 2]: lse and delta
//
// Constants prepended by ops/attention/gpu.rs: WG: invocations per workgroup.

#import shared/common.wgsl

struct Params { rows: u32, cols: u32, o_offset: u32, grad_offset: u32, lse_offset: u32 }

@group(0) @binding(0) var<storage, read> o: array<f32>;
@group(0) @binding(1) var<storage, read> lse: array<f32>;
@group(0) @binding(2) var<storage, read> grad: array<f32>;
@group(0) @binding(3) var<storage, read_write> stats: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn attention_delta(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                   @builtin(local_invocation_index) local: u32) {
    let row = workgroup_index(group, groups) * WG + local;
    if (row >= p.rows) { return; }
    var sum = 0.0;
    for (var c = 0u; c < p.cols; c++) {
        sum = fma(o[p.o_offset + row * p.cols + c], grad[p.grad_offset + row * p.cols + c], sum);
    }
    stats[2u * row] = lse[p.lse_offset + row];
    stats[2u * row + 1u] = sum;
}
