// Fills a buffer with one word: y[i] = bits.
// Used by: full, zeros, ones, scalar, pad, one_hot, and others
//
// One invocation writes four words, as one vec4u. Memory bound.
//
//   y [count] words
//
// Constants prepended by ops/copy.rs: WG: invocations per workgroup.

#import shared/common.wgsl

struct Params { count: u32, bits: u32 }

@group(0) @binding(0) var<storage, read_write> y4: array<vec4u>;
@group(0) @binding(1) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn fill(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    let first = i * 4u;
    if (first >= p.count) { return; }
    if (first + 4u <= p.count) { y4[i] = vec4u(p.bits); return; }
    for (var c = 0u; c < p.count - first; c++) { y4[i][c] = p.bits; }
}
