// Copies words as they are (any bits, no arithmetic) between two strided layouts of the same shape.
//
// One invocation a word: x is read once, y written once.
//
//   x words, operand x of the walk     y words, operand y of the walk
//   WG: invocations a workgroup (prepended by ops/copy.rs)

#import shared/elementwise.wgsl

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn copy(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let i = place(group, groups, lane);
    if (i >= p.count) { return; }
    let at = positions(i);
    y[at.y] = x[at.x];
}
