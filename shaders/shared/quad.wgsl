// Loads four neighbouring elements of a contiguous gradient that starts anywhere in its buffer.
//
// Imported by: sgd.wgsl, adam.wgsl
// Expects: grad: array<vec4f>, ALIGNED: 1 where the start is a multiple of 4.

/// Elements 4i to 4i + 3, counted from `offset`. Components past the end of the gradient are arbitrary.
fn quad(i: u32, offset: u32) -> vec4f {
    if (ALIGNED == 1u) { return grad[offset / 4u + i]; }
    // They straddle two vectors. At the end of the buffer there is no second vector, and its elements are not needed.
    let k = offset + i * 4u;
    let a = grad[k / 4u];
    let b = grad[min(k / 4u + 1u, arrayLength(&grad) - 1u)];
    switch k % 4u {
        case 0u: { return a; }
        case 1u: { return vec4f(a.yzw, b.x); }
        case 2u: { return vec4f(a.zw, b.xy); }
        default: { return vec4f(a.w, b.xyz); }
    }
}
