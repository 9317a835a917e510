// Copies words, without arithmetic and so with any bits, between two strided layouts of the same shape: y[i] = x[i].
// Used by: copy, contiguous, cat, stack, pad, and others
//
// Memory bound: x is read once, y written once. The entry points:
//
// strided:  one invocation per word, for any layouts.
// vector:   one invocation per four words, moved as one vec4u, for layouts in which groups of four consecutive elements are
//           adjacent and aligned. The indexer then counts vec4u.
//
//   x words, the first operand of the indexer     y words, the second operand of the indexer
//
// Constants prepended by ops/copy.rs: WG: invocations per workgroup.

#import shared/common.wgsl
#import shared/strided.wgsl

struct Params { indexer: StridedIndexer, count: u32 }

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(0) var<storage, read> x4: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> y4: array<vec4u>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn strided(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i >= p.count) { return; }
    let at = strided_offsets(i);
    y[at.y] = x[at.x];
}

@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i >= p.count) { return; }
    let at = strided_offsets(i);
    y4[at.y] = x4[at.x];
}
