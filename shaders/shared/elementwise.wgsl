// What the element-wise kernels (shared/map1.wgsl and its like, copy.wgsl) share: their parameters, and the two ways in
// which they walk.
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
    attributes: vec2f,
}

/// The place of this invocation's first element, as a multiple of what an invocation handles.
fn place(group: vec3u, groups: vec3u, lane: u32) -> u32 {
    return folded(group, groups) * WG + lane;
}

/// vector: which vec4f of operand k's buffer holds elements 4i to 4i + 3.
fn quad_at(k: u32, i: u32) -> u32 {
    return p.walk.offsets[k] / 4u + select(i, 0u, is_scalar(k));
}

/// vector: those elements, where `quad` is that vec4f.
fn spread(k: u32, quad: vec4f) -> vec4f {
    if (is_scalar(k)) { return vec4f(quad[p.walk.offsets[k] % 4u]); }
    return quad;
}

fn is_scalar(k: u32) -> bool {
    return (p.scalars >> k & 1u) == 1u;
}
