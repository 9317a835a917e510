// The two entries of a map, y[i] = f of the operands' element i: shared/elementwise.wgsl says how they walk. The importing
// file has y and y4, and what to write there: one(i), f of element i, and four(i), f of elements 4i to 4i + 3.
//
//   WG: invocations a workgroup (prepended from Rust)

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
