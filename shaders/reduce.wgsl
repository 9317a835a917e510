// Reductions over any axes to one number: y[o] = the sum (or product, maximum, minimum) over i of x at
// kept(o) + reduced(i); the mean is the sum, divided. And what norms are made of: the sum and the maximum of |x|, and the
// number of x that are not 0.
//
// shared/fold.wgsl says how it walks. x is read once.
//
//   x f32, strided; or the partial results of an earlier dispatch
//   y [outputs, slices] f32, or [slices, outputs] down the columns; contiguous
//   OP: the fold    WG, LANES, FLAT: as shared/fold.wgsl has them (prepended by ops/reduce.rs)

#import shared/float.wgsl
#import shared/fold.wgsl

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

/// WGSL's division may err even by 1, and does not promise NaN for 0 / 0.
fn divided(sum: f32) -> f32 {
    if (p.last == 0u || p.value == 1.0) { return sum; }
    return select(sum / p.value, nan(), p.value == 0.0);
}

@compute @workgroup_size(WG)
fn reduce(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) local: u32) {
    let slice = folded_slice(group, groups, local);
    if (slice.writes) { y[slice.at] = divided(slice.state); }
}
