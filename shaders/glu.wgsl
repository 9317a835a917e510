// Gated linear units: an axis of x is cut into two halves, g and v, and y = f(g) v element-wise. f is the sigmoid (Dauphin et
// al., "Language modeling with gated convolutional networks", arXiv:1612.08083), or SiLU, GELU or ReLU (Shazeer, "GLU variants
// improve transformer", arXiv:2002.05202).
// Used by: glu, swiglu, geglu, reglu
//
// Memory bound: x is read once, y written once; f(g) stays in registers. shared/glu.wgsl describes the two entry points.
//
//   x f32, contiguous from x_offset     y [count] f32, contiguous
//
// Constants prepended by ops/glu.rs: GATE: the function f. WG: invocations per workgroup.

#import shared/glu.wgsl

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(0) var<storage, read> x4: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y4: array<vec4f>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn strided(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i >= p.count) { return; }
    let at = p.x_offset + halves(i);
    y[i] = gate_of(x[at.x]) * x[at.y];
}

@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i >= p.count) { return; }
    let at = p.x_offset + halves(i);
    y4[i] = gates_of(x4[at.x]) * x4[at.y];
}
