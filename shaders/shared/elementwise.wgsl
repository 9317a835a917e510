// Element-wise functions of up to three operands, y[i] = f(a[i], b[i], c[i]): the bindings, the loads and the two entry points.
// Operands may be broadcast and strided.
//
// Imported by: unary.wgsl, unary_grad.wgsl, binary.wgsl, compare_ids.wgsl, cast.wgsl, where_cond.wgsl, loss.wgsl, loss_grad.wgsl
// Expects: alias Element, the type of the operands and of y, f32 or u32; f(a: Element, b: Element, c: Element) -> Element; WG.
//
// Memory bound: each operand is read once, y written once.
//
// strided:  one invocation handles one element; `strided_offsets` finds its operands, whatever their strides.
// vector:   one invocation handles four elements, loaded and stored as one vector, for operands that are contiguous or a single
//           broadcast element. No divisions, and a quarter of the loads.
//
//   a, b, c   the first, second and third operand of the indexer. Where f has fewer operands, Rust binds a in place of the others; f ignores
//             them, so that the compiler drops their loads.
//   y         [count], contiguous

#import shared/common.wgsl
#import shared/strided.wgsl

struct Params {
    indexer: StridedIndexer,
    count: u32,
    scalars: u32, // bit i: operand i is a single broadcast element
    attributes: vec2f,
}

@group(0) @binding(0) var<storage, read> a: array<Element>;
@group(0) @binding(1) var<storage, read> b: array<Element>;
@group(0) @binding(2) var<storage, read> c: array<Element>;
@group(0) @binding(3) var<storage, read_write> y: array<Element>;
@group(0) @binding(0) var<storage, read> a4: array<vec4<Element>>;
@group(0) @binding(1) var<storage, read> b4: array<vec4<Element>>;
@group(0) @binding(2) var<storage, read> c4: array<vec4<Element>>;
@group(0) @binding(3) var<storage, read_write> y4: array<vec4<Element>>;
@group(0) @binding(4) var<uniform> p: Params;

/// f of element i.
fn one(i: u32) -> Element {
    let at = strided_offsets(i);
    return f(a[at.x], b[at.y], c[at.z]);
}

/// The index of the vector in operand k's buffer that holds elements 4i to 4i + 3, or the broadcast element.
fn quad_at(k: u32, i: u32) -> u32 {
    return p.indexer.offsets[k] / 4u + select(i, 0u, is_scalar(k));
}

/// Elements 4i to 4i + 3 of operand k, from `quad`, the vector at `quad_at(k, i)`.
fn spread(k: u32, quad: vec4<Element>) -> vec4<Element> {
    if (is_scalar(k)) { return vec4<Element>(quad[p.indexer.offsets[k] % 4u]); }
    return quad;
}

fn is_scalar(k: u32) -> bool {
    return (p.scalars >> k & 1u) == 1u;
}

/// f of elements 4i to 4i + 3. Components past the end are arbitrary.
fn four(i: u32) -> vec4<Element> {
    let u = spread(0u, a4[quad_at(0u, i)]);
    let v = spread(1u, b4[quad_at(1u, i)]);
    let w = spread(2u, c4[quad_at(2u, i)]);
    return vec4<Element>(f(u.x, v.x, w.x), f(u.y, v.y, w.y), f(u.z, v.z, w.z), f(u.w, v.w, w.w));
}

@compute @workgroup_size(WG)
fn strided(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i < p.count) { y[i] = one(i); }
}

@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    let first = i * 4u;
    if (first >= p.count) { return; }
    let values = four(i);
    if (first + 4u <= p.count) { y4[i] = values; return; }
    for (var k = 0u; k < p.count - first; k++) { y4[i][k] = values[k]; }
}
