// The register tile of the matrix product kernels.
//
// Imported by: shared/matmul.wgsl, shared/attention_tile.wgsl, shared/attention_subgroup.wgsl

/// c + the outer product of a column `a` and a row `b`. The columns of the mat4x4f hold the rows of the tile c.
fn outer(c: mat4x4f, a: vec4f, b: vec4f) -> mat4x4f {
    return mat4x4f(fma(vec4f(a.x), b, c[0]), fma(vec4f(a.y), b, c[1]), fma(vec4f(a.z), b, c[2]), fma(vec4f(a.w), b, c[3]));
}
