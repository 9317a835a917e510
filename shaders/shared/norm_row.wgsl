// How an element is normalized, and sums over the LANES invocations of a row.
//
// Imported by: layer_norm_grad.wgsl, group_norm_grad.wgsl, shared/group_norm.wgsl, shared/row_moments.wgsl
// Expects: p.eps, WG: invocations per workgroup, LANES: invocations per row or slice.

#import shared/float.wgsl

/// The normalized element is h = (x - origin) * scale, where scale is 1 / sqrt(variance + eps).
struct Frame { origin: f32, scale: f32 }

/// The origin is the mean, but 0 where the variance is infinite. There h is 0 anyway, while the distance from the mean might
/// overflow.
fn frame(mean: f32, variance: f32) -> Frame {
    let scale = rsqrt_nan(variance + p.eps);
    return Frame(select(mean, 0.0, scale == 0.0 && is_finite(mean)), scale);
}

var<workgroup> partial: array<vec2f, WG>;

/// Adds the partial sums of LANES invocations in log2(LANES) steps. The whole workgroup must call it.
fn workgroup_reduce(mine: vec2f, local: u32, lane: u32) -> vec2f {
    if (LANES == 1u) { return mine; } // a constant, so the barriers below stay in uniform control flow
    workgroupBarrier(); // all reads of an earlier call are done
    partial[local] = mine;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[local] += partial[local + half]; }
    }
    workgroupBarrier();
    return partial[local - lane];
}
