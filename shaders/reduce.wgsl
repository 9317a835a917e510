// Reductions over any axes to one number: y[o] = the sum, product, maximum or minimum over i of x at kept(o) + reduced(i).
// Also the mean (the sum divided by p.value) and the simple norms: sum of |x|, maximum of |x|, number of non-zero x.
//
// Used by: sum, mean, prod, max, min, sum_all, mean_all, max_all, min_all, sum_to, norm and others
//
// shared/reduce.wgsl describes who reduces what. Memory bound: x is read once.
//
//   x   f32, strided; or the partial results of an earlier dispatch
//   y   f32 [outputs, slices], or [slices, outputs] where p.columns is 1; contiguous
//
// Constants prepended by ops/reduce.rs: OP: 0 sum, 1 maximum, 2 minimum, 3 product, 4 sum of |x|, 5 maximum of |x|, 6 number
// of non-zero x. WG, LANES, FLAT: see shared/reduce.wgsl.

#import shared/common.wgsl
#import shared/reduce.wgsl

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Params; // value: what the result is divided by

alias State = f32;

fn identity() -> f32 {
    switch OP {
        case 1u: { return -inf(); }
        case 2u: { return inf(); }
        case 3u: { return 1.0; }
        default: { return 0.0; }
    }
}

fn element(start: u32, i: u32) -> f32 {
    let v = x[start + along(i)];
    switch OP {
        case 4u, 5u: { return abs(v); }
        case 6u: { return select(1.0, 0.0, (bitcast<u32>(v) << 1u) == 0u); }
        default: { return v; }
    }
}

fn merge(a: f32, b: f32) -> f32 {
    switch OP {
        case 1u, 5u: { return max_nan(a, b); }
        case 2u: { return min_nan(a, b); }
        case 3u: { return a * b; }
        default: { return a + b; }
    }
}

/// WGSL's division is inexact even for a divisor of 1, and does not promise NaN for 0 / 0.
fn divided(sum: f32) -> f32 {
    if (p.last == 0u || p.value == 1.0) { return sum; }
    return select(sum / p.value, nan(), p.value == 0.0);
}

@compute @workgroup_size(WG)
fn reduce(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) local: u32) {
    let slice = reduce_slice(group, groups, local);
    if (slice.writes) { y[slice.at] = divided(slice.state); }
}
