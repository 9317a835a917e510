// Element-wise functions of three operands: y[i] = f(a[i], b[i], c[i]), where f is the importing file's; the operands are
// broadcast and strided in any way.
//
// Memory bound: each operand is read once, y written once. shared/map.wgsl has the two entries.
//
//   a f32, operand x of the walk     b f32, operand y of the walk     c f32, operand z of the walk
//   y [count] f32, contiguous
//   WG: invocations a workgroup (prepended from Rust)

#import shared/map.wgsl

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
    let at = positions(i);
    return f(a[at.x], b[at.y], c[at.z]);
}

/// f of elements 4i to 4i + 3; past the end it is arbitrary.
fn four(i: u32) -> vec4f {
    let u = spread(0u, a4[quad_at(0u, i)]);
    let v = spread(1u, b4[quad_at(1u, i)]);
    let w = spread(2u, c4[quad_at(2u, i)]);
    return vec4f(f(u.x, v.x, w.x), f(u.y, v.y, w.y), f(u.z, v.z, w.z), f(u.w, v.w, w.w));
}
