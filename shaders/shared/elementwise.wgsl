// The parameters and the indexing of the element-wise kernels.
//
// Imported by: copy.wgsl, shared/elementwise_entries.wgsl
// Expects: p: Params, WG.
//
// strided:  one invocation handles one element; `strided_offsets` finds its operands, whatever their strides.
// vector:   one invocation handles four elements, loaded and stored as one vec4f, for operands that are contiguous or a single
//           broadcast element. No divisions, and a quarter of the loads.

#import shared/common.wgsl
#import shared/strided.wgsl

struct Params {
    indexer: StridedIndexer,
    count: u32,
    scalars: u32, // bit i: operand i is a single broadcast element
    attributes: vec2f,
}

/// The index of this invocation's element (strided) or vec4f (vector).
fn place(group: vec3u, groups: vec3u, lane: u32) -> u32 {
    return workgroup_index(group, groups) * WG + lane;
}

/// vector: the index of the vec4f in operand k's buffer that holds elements 4i to 4i + 3, or the broadcast element.
fn quad_at(k: u32, i: u32) -> u32 {
    return p.indexer.offsets[k] / 4u + select(i, 0u, is_scalar(k));
}

/// vector: elements 4i to 4i + 3 of operand k, from `quad`, the vec4f at `quad_at(k, i)`.
fn spread(k: u32, quad: vec4f) -> vec4f {
    if (is_scalar(k)) { return vec4f(quad[p.indexer.offsets[k] % 4u]); }
    return quad;
}

fn is_scalar(k: u32) -> bool {
    return (p.scalars >> k & 1u) == 1u;
}
