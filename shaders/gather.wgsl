// Elements taken by ids along one axis: y[i, j, k] = x[i, index[i, j, k], k], words as they are (any bits).
//
// Memory bound: index and y are walked in order, x is read wherever the ids say. `strided` serves any layouts, one
// invocation an element. `vector` serves rows: where four neighbours share an id and lie side by side in x (an embedding,
// a selection along any axis but the last), one invocation moves them as one vec4u; its walk and strides count fours.
// `scatter` is the way back where no two ids of a row are equal: x[i, index[i, j, k], k] = y[i, j, k], the gradient of a
// sort, into words that were filled with zeros.
//
//   index u32, operand x of the walk    x words: operand y of the walk, which stands still along the axis, plus
//   id * stride    y [count] words, contiguous (in `scatter` operand z of the walk)
//   status: the word at `check` is set if an id is past the end, whose element is NaN
//   WG: invocations a workgroup (prepended by ops/gather.rs)

#import shared/grid.wgsl
#import shared/strided.wgsl

struct Params { walk: Walk, count: u32, stride: u32, length: u32, check: u32 }

@group(0) @binding(0) var<storage, read> index: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(0) @binding(1) var<storage, read> x4: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> y4: array<vec4u>;
@group(0) @binding(3) var<storage, read_write> status: array<atomic<u32>>;
@group(0) @binding(4) var<uniform> p: Params;

/// A quiet NaN; as an id, past every end.
const NOTHING: u32 = 0x7fc00000u;

/// Whether an id is one of the axis; reports one that is not.
fn is_inside(id: u32) -> bool {
    if (id < p.length) { return true; }
    atomicMax(&status[p.check], 1u);
    return false;
}

@compute @workgroup_size(WG)
fn strided(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
    let i = folded(group, groups) * WG + lane;
    if (i >= p.count) { return; }
    let at = positions(i);
    let id = index[at.x];
    if (is_inside(id)) { y[i] = x[at.y + id * p.stride]; } else { y[i] = NOTHING; }
}

@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
    let i = folded(group, groups) * WG + lane;
    if (i >= p.count) { return; }
    let at = positions(i);
    let id = index[at.x];
    if (is_inside(id)) { y4[i] = x4[at.y + id * p.stride]; } else { y4[i] = vec4u(NOTHING); }
}

// x and y change places: x is read in order, y written by the ids.
@compute @workgroup_size(WG)
fn scatter(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
    let i = folded(group, groups) * WG + lane;
    if (i >= p.count) { return; }
    let at = positions(i);
    let id = index[at.x];
    if (is_inside(id)) { y[at.y + id * p.stride] = x[at.z]; }
}
