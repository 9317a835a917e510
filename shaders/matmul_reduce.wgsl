// The second step of a split-K product: c[i] = activation(sum over s of partial[s, i] + bias).
//
// Used by: matmul, matmul_with, linear, einsum, scaled_dot_product_attention (gradient)
//
// One invocation computes one element. It adds the slices in order, so the result is deterministic. Memory bound.
//
//   partial   f32 [slices, count], contiguous
//   bias      f32 [n], read where has_bias is 1
//   c         f32 [count], in rows of n
//
// Constants prepended by ops/slicing.rs: WG: invocations per workgroup. ACTIVATION: the function applied to c.

#import shared/common.wgsl

struct Params { count: u32, n: u32, slices: u32, bias_offset: u32, bias_step: u32, has_bias: u32 }

@group(0) @binding(0) var<storage, read> partial: array<f32>;
@group(0) @binding(1) var<storage, read> bias: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn matmul_reduce(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
               @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i >= p.count) { return; }
    var sum = 0.0;
    for (var s = 0u; s < p.slices; s++) { sum += partial[s * p.count + i]; }
    if (p.has_bias == 1u) { sum += bias[p.bias_offset + i % p.n * p.bias_step]; }
    c[i] = activate(sum, ACTIVATION);
}
