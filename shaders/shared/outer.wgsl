// Tiles of products in registers.

/// c + the outer product of a column of a and a row of b; the matrix's columns are c's rows.
fn outer(c: mat4x4f, a: vec4f, b: vec4f) -> mat4x4f {
    return mat4x4f(fma(vec4f(a.x), b, c[0]), fma(vec4f(a.y), b, c[1]), fma(vec4f(a.z), b, c[2]), fma(vec4f(a.w), b, c[3]));
}
