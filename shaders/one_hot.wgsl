// One-hot encoding: y[i, ids[i]] = 1, in a y that was filled with zeros.
//
// Used by: one_hot
//
// One invocation handles one id: it reads the id and writes one word of y. Memory bound.
//
//   ids      u32, strided: the first operand of the indexer
//   y        f32 [count, classes], contiguous
//   status   the word at `check` is set if an id is >= classes; its row of y stays all zeros
//
// Constants prepended by ops/one_hot.rs: WG: invocations per workgroup.

#import shared/common.wgsl
#import shared/strided.wgsl

struct Params { indexer: StridedIndexer, count: u32, classes: u32, check: u32 }

@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> status: array<atomic<u32>>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn one_hot(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i >= p.count) { return; }
    let id = ids[strided_offsets(i).x];
    if (id >= p.classes) {
        atomicMax(&status[p.check], 1u);
        return;
    }
    y[i * p.classes + id] = 1.0;
}
