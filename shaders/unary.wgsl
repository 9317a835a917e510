// Element-wise functions of one operand: y[i] = f(x[i]).
//
// One invocation handles PER elements, WG apart, so that neighbours touch neighbours. Memory bound: x is read once,
// y written once.
//
//   x f32, operand x of the walk     y [count] f32, contiguous
//   OP: the function    WG: invocations a workgroup    PER: elements an invocation (prepended by ops/unary.rs)

#import shared/grid.wgsl
#import shared/strided.wgsl
#import shared/functions.wgsl

struct Params { walk: Walk, count: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
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
fn unary(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) lane: u32) {
    let first = folded(group, groups) * WG * PER + lane;
    for (var j = 0u; j < PER; j++) {
        let i = first + j * WG;
        if (i >= p.count) { return; }
        y[i] = f(x[positions(i).x]);
    }
}
