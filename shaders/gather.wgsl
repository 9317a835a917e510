// Gathers elements by ids along one axis: y[i, j, k] = x[i, index[i, j, k], k]. Words are copied with any bits.
// Used by: gather, index_select, embedding, scatter_add (gradient), sort (gradient), topk (gradient)
//
// Memory bound: index and y are accessed in order, x wherever the ids point. The entry points:
//
// strided:  one invocation per element, for any layouts.
// vector:   one invocation per four elements, moved as one vec4u, if four consecutive elements have the same id and are adjacent
//           in x (an embedding, a selection along any axis but the last). The indexer and the strides then count vec4u.
// scatter:  the inverse, if no two ids of a row are equal: x[i, index[i, j, k], k] = y[i, j, k], into words filled with zeros.
//           It is the gradient of a sort.
//
//   index u32: the first operand of the indexer     y [count] words, contiguous (in `scatter` the third operand of the indexer)
//   x words: the second operand of the indexer, whose stride along the axis is 0, plus id * stride
//   status: the word at `check` is set if an id is out of range; that element is NaN
//
// Constants prepended by ops/gather.rs: WG: invocations per workgroup.

#import shared/common.wgsl
#import shared/strided.wgsl

struct Params { indexer: StridedIndexer, count: u32, stride: u32, length: u32, check: u32 }

@group(0) @binding(0) var<storage, read> index: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(0) @binding(1) var<storage, read> x4: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> y4: array<vec4u>;
@group(0) @binding(3) var<storage, read_write> status: array<atomic<u32>>;
@group(0) @binding(4) var<uniform> p: Params;

/// A quiet NaN; as an id it is out of range for every axis.
const NOTHING: u32 = 0x7fc00000u;

/// Whether an id is in range; sets the status word if it is not.
fn is_inside(id: u32) -> bool {
    if (id < p.length) { return true; }
    atomicMax(&status[p.check], 1u);
    return false;
}

@compute @workgroup_size(WG)
fn strided(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i >= p.count) { return; }
    let at = strided_offsets(i);
    let id = index[at.x];
    if (is_inside(id)) { y[i] = x[at.y + id * p.stride]; } else { y[i] = NOTHING; }
}

@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i >= p.count) { return; }
    let at = strided_offsets(i);
    let id = index[at.x];
    if (is_inside(id)) { y4[i] = x4[at.y + id * p.stride]; } else { y4[i] = vec4u(NOTHING); }
}

// The bindings x and y are exchanged: x is read in order, y written by the ids.
@compute @workgroup_size(WG)
fn scatter(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i >= p.count) { return; }
    let at = strided_offsets(i);
    let id = index[at.x];
    if (is_inside(id)) { y[at.y + id * p.stride] = x[at.z]; }
}
