// Choice: y[i] = a[i] where c[i] is not 0 (NaN is not), else b[i], the operands broadcast and strided in any way. A copy
// of what is picked, whatever bits that has; the other is not looked at.
//
// Memory bound: each operand is read once, y written once. shared/elementwise.wgsl says how the two entries walk.
//
//   c f32, operand x of the walk     a f32, operand y of the walk     b f32, operand z of the walk
//   y [count] f32, contiguous
//   WG: invocations a workgroup (prepended by ops/where_cond.rs)

#import shared/elementwise.wgsl
#import shared/float.wgsl

@group(0) @binding(0) var<storage, read> c: array<f32>;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(0) var<storage, read> c4: array<vec4f>;
@group(0) @binding(1) var<storage, read> a4: array<vec4f>;
@group(0) @binding(2) var<storage, read> b4: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> y4: array<vec4f>;
@group(0) @binding(4) var<uniform> p: Params;

fn f(c: f32, a: f32, b: f32) -> f32 {
    return select(a, b, order(c) == 0);
}

@compute @workgroup_size(WG)
fn strided(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
    let i = place(group, groups, lane);
    if (i >= p.count) { return; }
    let at = positions(i);
    y[i] = f(c[at.x], a[at.y], b[at.z]);
}

@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
    let i = place(group, groups, lane);
    let first = i * 4u;
    if (first >= p.count) { return; }
    let t = spread(0u, c4[quad_at(0u, i)]);
    let u = spread(1u, a4[quad_at(1u, i)]);
    let v = spread(2u, b4[quad_at(2u, i)]);
    let w = vec4f(f(t.x, u.x, v.x), f(t.y, u.y, v.y), f(t.z, u.z, v.z), f(t.w, u.w, v.w));
    if (first + 4u <= p.count) { y4[i] = w; return; }
    for (var k = 0u; k < p.count - first; k++) { y4[i][k] = w[k]; }
}
