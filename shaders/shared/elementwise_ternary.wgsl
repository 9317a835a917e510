// Bindings and loads of element-wise functions of three operands: y[i] = f(a[i], b[i], c[i]). Operands may be broadcast
// and strided.
//
// Imported by: where_cond.wgsl, loss.wgsl, loss_grad.wgsl
// Expects: f(a: f32, b: f32, c: f32) -> f32, WG.
//
// Memory bound: each operand is read once, y written once. shared/elementwise_entries.wgsl has the two entry points.
//
//   a, b, c   f32: operands x, y and z of the indexer
//   y         f32 [count], contiguous

#import shared/elementwise_entries.wgsl

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read> c: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(0) var<storage, read> a4: array<vec4f>;
@group(0) @binding(1) var<storage, read> b4: array<vec4f>;
@group(0) @binding(2) var<storage, read> c4: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> y4: array<vec4f>;
@group(0) @binding(4) var<uniform> p: Params;

/// f of element i.
fn one(i: u32) -> f32 {
    let at = strided_offsets(i);
    return f(a[at.x], b[at.y], c[at.z]);
}

/// f of elements 4i to 4i + 3. Components past the end are arbitrary.
fn four(i: u32) -> vec4f {
    let u = spread(0u, a4[quad_at(0u, i)]);
    let v = spread(1u, b4[quad_at(1u, i)]);
    let w = spread(2u, c4[quad_at(2u, i)]);
    return vec4f(f(u.x, v.x, w.x), f(u.y, v.y, w.y), f(u.z, v.z, w.z), f(u.w, v.w, w.w));
}
