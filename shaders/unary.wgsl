// Element-wise functions of one operand: y[i] = f(x[i]).
//
// Memory bound: x is read once, y written once. shared/elementwise.wgsl says how the two entries walk.
//
//   x f32, operand x of the walk     y [count] f32, contiguous
//   OP: the function    WG: invocations a workgroup (prepended by ops/unary.rs)

#import shared/elementwise.wgsl
#import shared/functions.wgsl

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(0) var<storage, read> x4: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y4: array<vec4f>;
@group(0) @binding(2) var<uniform> p: Params;

fn f(x: f32) -> f32 {
    switch OP {
        case 0u: { return -x; }
        case 1u: { return exp_nan(x); }
        case 2u: { return log_nan(x); }
        case 3u: { return sqrt_nan(x); }
        case 4u: { return 1.0 / x; }
        case 5u: { return abs(x); }
        case 6u: { return relu(x); }
        case 7u: { return sigmoid(x); }
        case 8u: { return tanh_nan(x); }
        case 9u: { return gelu(x); }
        default: { return x * x; }
    }
}

@compute @workgroup_size(WG)
fn strided(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
    let i = place(group, groups, lane);
    if (i >= p.count) { return; }
    y[i] = f(x[positions(i).x]);
}

@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
    let i = place(group, groups, lane);
    let first = i * 4u;
    if (first >= p.count) { return; }
    let u = x4[p.walk.offsets.x / 4u + i];
    let w = vec4f(f(u.x), f(u.y), f(u.z), f(u.w));
    if (first + 4u <= p.count) { y4[i] = w; return; }
    for (var c = 0u; c < p.count - first; c++) { y4[i][c] = w[c]; }
}
