// Where the elements of up to three strided operands lie. The importing file has `p.walk: Walk` in its uniform.

/// Axes outermost first: .xyz are the operands' strides along the axis, .w is its length.
struct Walk {
    axes: array<vec4u, 6>,
    offsets: vec3u,
    rank: u32,
}

/// The operands' positions of element `index` in row-major order. The outermost axis needs no division, so a walk
/// over contiguous operands (which Rust collapses to one axis) has none.
///
/// A loop that only the uniform ends is one that lavapipe may compile anew at every dispatch, for that value; so
/// `rest`, with nothing left to divide, ends it too.
fn positions(index: u32) -> vec3u {
    var rest = index;
    var at = p.walk.offsets;
    for (var k = p.walk.rank; k > 1u && rest > 0u; k--) {
        let axis = p.walk.axes[k - 1u];
        at += (rest % axis.w) * axis.xyz;
        rest /= axis.w;
    }
    return at + rest * p.walk.axes[0].xyz;
}
