// The statistics of a row or a slice of it, the sum over its LANES invocations, and how they normalize an element.
//
// Imported by: layer_norm.wgsl, layer_norm_grad.wgsl, group_norm.wgsl, group_norm_grad.wgsl, shared/group_norm.wgsl
// Expects: p.eps, WG: invocations per workgroup, LANES: invocations per row or slice.
//
// The mean, and the sum of squared deviations from it, take two passes over the elements:
//
//   first = first_mean(the sums of `moment_terms` with origin 0 and count_nonfinite = true)
//   moments = corrected(the sums of `moment_terms` with origin `first`)
//
// It is the corrected two-pass algorithm (Chan, Golub & LeVeque, "Algorithms for computing the sample variance", 1983, equation
// 1.7): with a first mean m and d = x - m, the mean is m + sum(d)/n and the sum of squares is sum(d²) - sum(d)²/n, whatever m was.
// If the mean is far above the spread, m itself has rounding errors of the spread's size, and sum(x²) - n m² would lose all
// digits.
//
// If the squares of finite elements overflow, the sum of squares is +inf. If even the sum of the elements overflows, the mean is
// given as 0: with an infinite variance every normalized element is 0, whatever the mean. An element that is not finite makes both
// NaN.

#import shared/common.wgsl

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

fn sum4(v: vec4f) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

/// The number of elements, of four, that are not finite.
fn nonfinite4(v: vec4f) -> f32 {
    let nonfinite = (bitcast<vec4u>(v) & vec4u(0x7f800000u)) == vec4u(0x7f800000u);
    return sum4(select(vec4f(0.0), vec4f(1.0), nonfinite));
}

/// What an element adds to the sums of d = x - origin and of d². If `count_nonfinite`, the second component is the number of elements that
/// are not finite instead: the first pass needs only the mean.
fn moment_terms(x: f32, origin: f32, count_nonfinite: bool) -> vec2f {
    let d = x - origin;
    if (count_nonfinite) { return vec2f(d, select(1.0, 0.0, is_finite(x))); }
    return vec2f(d, d * d);
}

/// What four elements add.
fn moment_terms4(x: vec4f, origin: f32, count_nonfinite: bool) -> vec2f {
    let d = x - origin;
    if (count_nonfinite) { return vec2f(sum4(d), nonfinite4(x)); }
    return vec2f(sum4(d), sum4(d * d));
}

/// The mean of `count` elements, `nonfinite` of which are not finite. 0 if the sum of finite elements overflowed; NaN if `count` is 0 or
/// `nonfinite` is not 0.
fn mean_or_0(mean: f32, count: f32, nonfinite: f32) -> f32 {
    return select(select(0.0, mean, is_finite(mean)), nan(), count == 0.0 || nonfinite > 0.0);
}

fn first_mean(sum: vec2f, count: f32) -> f32 {
    return mean_or_0(sum.x / count, count, sum.y);
}

/// The mean and the sum of squared deviations from it.
fn corrected(sum: vec2f, origin: f32, count: f32) -> vec2f {
    if (is_finite(origin) && !is_finite(sum.y)) { return vec2f(origin, inf()); }
    let shift = sum.x / count;
    return vec2f(origin + shift, max_nan(sum.y - sum.x * shift, 0.0));
}
