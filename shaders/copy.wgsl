// Copies words as they are (any bits, no arithmetic) between two strided layouts of the same shape.
//
// One invocation handles PER elements, WG apart, so that neighbours touch neighbours.
//
//   x words, operand x of the walk     y words, operand y of the walk
//   WG: invocations a workgroup    PER: elements an invocation (prepended by ops/copy.rs)

#import shared/grid.wgsl
#import shared/strided.wgsl

struct Params { walk: Walk, count: u32 }

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn copy(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let first = folded(group, groups) * WG * PER + lane;
    for (var j = 0u; j < PER; j++) {
        let i = first + j * WG;
        if (i >= p.count) { return; }
        let at = positions(i);
        y[at.y] = x[at.x];
    }
}
