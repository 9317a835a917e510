// Bindings and loads of element-wise functions of two operands: y[i] = f(a[i], b[i]). Operands may be broadcast and strided.
//
// Imported by: binary.wgsl, unary_grad.wgsl
// Expects: f(a: f32, b: f32) -> f32, WG.
//
// Memory bound: each operand is read once, y written once. shared/elementwise_entries.wgsl has the two entry points.
//
//   a, b   f32: operands x and y of the indexer
//   y      f32 [count], contiguous

#import shared/elementwise_entries.wgsl

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(0) var<storage, read> a4: array<vec4f>;
@group(0) @binding(1) var<storage, read> b4: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y4: array<vec4f>;
@group(0) @binding(3) var<uniform> p: Params;

/// f of element i.
fn one(i: u32) -> f32 {
    let at = strided_offsets(i);
    return f(a[at.x], b[at.y]);
}

/// f of elements 4i to 4i + 3. Components past the end are arbitrary.
fn four(i: u32) -> vec4f {
    let u = spread(0u, a4[quad_at(0u, i)]);
    let v = spread(1u, b4[quad_at(1u, i)]);
    return vec4f(f(u.x, v.x), f(u.y, v.y), f(u.z, v.z), f(u.w, v.w));
}
