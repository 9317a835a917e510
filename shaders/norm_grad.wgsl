// The gradient of norm.wgsl: dx[i] = sign(x_i) (|x_i| / y)^(P-1) dy, where y and dy belong to the norm that x_i is part of;
// 0 where x_i or y is 0.
//
// Used by: norm (gradient)
//
// One invocation computes one element. Memory bound: x is read once, dx written once.
//
//   x, y, dy   f32, strided: the first, second and third operand of the indexer. For P = inf, dy is already divided by the number of ties
//   dx         f32 [count], contiguous
//
// Constants prepended by ops/norm.rs: OP: 0 any P, 1 P = 2, 2 P = 1, 3 P = inf. WG: invocations per workgroup.

#import shared/common.wgsl
#import shared/strided.wgsl

/// `power`: P - 1.
struct Params { indexer: StridedIndexer, count: u32, power: f32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

fn slope(x: f32, y: f32) -> f32 {
    let sign = select(select(1.0, -1.0, x < 0.0), 0.0, x == 0.0);
    if (is_nan(x) || is_nan(y) && OP < 2u) { return nan(); }
    switch OP {
        case 2u: { return sign; }
        case 3u: { return select(0.0, sign, abs(x) == y); }
        default: {}
    }
    if (x == 0.0 || y == 0.0) { return 0.0; }
    if (is_inf(x)) { return nan(); }
    let ratio = select(abs(x) / y, 0.0, is_inf(y));
    if (OP == 1u) { return sign * ratio; }
    return sign * pow_nan(ratio, p.power);
}

@compute @workgroup_size(WG)
fn norm_grad(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
             @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i >= p.count) { return; }
    let at = strided_offsets(i);
    dx[i] = slope(x[at.x], y[at.y]) * dy[at.z];
}
