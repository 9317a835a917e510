// The entry points of element-wise kernels, y[i] = f of element i of the operands, in the two ways of shared/elementwise.wgsl.
//
// Imported by: shared/elementwise_unary.wgsl, shared/elementwise_binary.wgsl, shared/elementwise_ternary.wgsl
// Expects: one(i) -> f32: f of element i; four(i) -> vec4f: f of elements 4i to 4i + 3; y, y4: the output, p: Params, WG.

#import shared/elementwise.wgsl

@compute @workgroup_size(WG)
fn strided(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
    let i = place(group, groups, lane);
    if (i < p.count) { y[i] = one(i); }
}

@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
    let i = place(group, groups, lane);
    let first = i * 4u;
    if (first >= p.count) { return; }
    let values = four(i);
    if (first + 4u <= p.count) { y4[i] = values; return; }
    for (var k = 0u; k < p.count - first; k++) { y4[i][k] = values[k]; }
}
