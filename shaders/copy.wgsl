// Copies words as they are (any bits, no arithmetic) between two strided layouts of the same shape.
//
// x is read once, y written once. `strided` serves any layouts, one invocation a word. `vector` serves those in which four
// neighbours lie side by side on a boundary of four: one invocation moves them as one vec4u, and its walk counts fours.
//
//   x words, operand x of the walk     y words, operand y of the walk
//   WG: invocations a workgroup (prepended by ops/copy.rs)

#import shared/elementwise.wgsl

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(0) var<storage, read> x4: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> y4: array<vec4u>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn strided(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
    let i = place(group, groups, lane);
    if (i >= p.count) { return; }
    let at = positions(i);
    y[at.y] = x[at.x];
}

@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
    let i = place(group, groups, lane);
    if (i >= p.count) { return; }
    let at = positions(i);
    y4[at.y] = x4[at.x];
}
