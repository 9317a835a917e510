// Class ids as vectors: y[i, id_i] = 1, in vectors that were filled with zeros before.
//
// One invocation an id, which is read once; one word of y is written.
//
//   ids u32, strided: operand x of the walk     y [count, classes] f32, contiguous
//   status: the word at `check` is set if an id is past the end, whose vector is all zeros
//   WG: invocations a workgroup (prepended by ops/one_hot.rs)

#import shared/grid.wgsl
#import shared/strided.wgsl

struct Params { walk: Walk, count: u32, classes: u32, check: u32 }

@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> status: array<atomic<u32>>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn one_hot(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
    let i = folded(group, groups) * WG + lane;
    if (i >= p.count) { return; }
    let id = ids[positions(i).x];
    if (id >= p.classes) {
        atomicMax(&status[p.check], 1u);
        return;
    }
    y[i * p.classes + id] = 1.0;
}
