// What the element-wise kernels share: their parameters, and the two ways in which they walk.
//
// strided:  one invocation an element, whose operands `positions` finds whatever their strides.
// vector:   one invocation four elements, loaded and stored as one vec4f: for operands that are contiguous, or the same
//           element throughout. No division, a quarter of the loads.

#import shared/grid.wgsl
#import shared/strided.wgsl

struct Params {
    walk: Walk,
    count: u32,
    scalars: u32, // bit i: operand i is one element throughout
}

/// The place of this invocation's first element, as a multiple of what an invocation handles.
fn place(group: vec3u, groups: vec3u, lane: u32) -> u32 {
    return folded(group, groups) * WG + lane;
}
