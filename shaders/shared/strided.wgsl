// The offsets of an element in up to three strided operands.
//
// Imported by: softmax.wgsl, gather.wgsl, sort_tiles.wgsl, shared/elementwise.wgsl, shared/matmul.wgsl, shared/reduce.wgsl and others
// Expects: p.indexer: StridedIndexer.

/// Axes, outermost first: .xyz are the strides of the first, second and third operand along the axis, .w is its length.
struct StridedIndexer {
    axes: array<vec4u, 6>,
    offsets: vec3u,
    rank: u32,
}

/// The operands' offsets of element `index` in row-major order. The outermost axis needs no division, so contiguous operands,
/// which Rust collapses to one axis, need none.
///
/// lavapipe may recompile a loop at every dispatch if only a uniform bounds it. So `rest > 0u` ends this loop too.
fn strided_offsets(index: u32) -> vec3u {
    var rest = index;
    var at = p.indexer.offsets;
    for (var k = p.indexer.rank; k > 1u && rest > 0u; k--) {
        let axis = p.indexer.axes[k - 1u];
        at += (rest % axis.w) * axis.xyz;
        rest /= axis.w;
    }
    return at + rest * p.indexer.axes[0].xyz;
}
