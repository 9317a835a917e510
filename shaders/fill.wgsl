// Fills n words with the same bits.
//
// One invocation writes PER elements, WG apart.
//
//   y [count] words
//   WG: invocations a workgroup    PER: elements an invocation (prepended by ops/copy.rs)

#import shared/grid.wgsl

struct Params { count: u32, bits: u32 }

@group(0) @binding(0) var<storage, read_write> y: array<u32>;
@group(0) @binding(1) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn fill(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let first = folded(group, groups) * WG * PER + lane;
    for (var j = 0u; j < PER; j++) {
        let i = first + j * WG;
        if (i < p.count) { y[i] = p.bits; }
    }
}
