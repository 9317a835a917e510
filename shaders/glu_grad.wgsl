// The gradient of glu.wgsl: dg = dy v f'(g) for the half that gates, dv = dy f(g) for the other half.
// Used by: glu, swiglu, geglu, reglu (gradient)
//
// Memory bound: x and dy are read once, dx written once; f and its derivative are recomputed from g. shared/glu.wgsl describes
// the two entry points.
//
//   x f32, contiguous from x_offset     dy [count] f32, contiguous from dy_offset
//   dx f32, of the size of x, contiguous
//
// Constants prepended by ops/glu.rs: GATE: the function f. WG: invocations per workgroup.

#import shared/glu.wgsl

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(0) @binding(0) var<storage, read> x4: array<vec4f>;
@group(0) @binding(1) var<storage, read> dy4: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> dx4: array<vec4f>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn strided(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i >= p.count) { return; }
    let at = halves(i);
    let g = x[p.x_offset + at.x];
    let d = dy[p.dy_offset + i];
    dx[at.x] = d * x[p.x_offset + at.y] * gate_slope(g);
    dx[at.y] = d * gate_of(g);
}

@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i >= p.count) { return; }
    let at = halves(i);
    let g = x4[p.x_offset + at.x];
    let d = dy4[p.dy_offset + i];
    dx4[at.x] = d * x4[p.x_offset + at.y] * gate_slopes(g);
    dx4[at.y] = d * gates_of(g);
}
