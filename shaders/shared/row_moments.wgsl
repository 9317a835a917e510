// The mean of a row or a slice of it, and the sum of squared deviations from the mean, in two passes over the elements:
//
//   first = first_mean(the sums of `terms` with origin 0 and first = true)       only if CENTRED
//   moments = corrected(the sums of `terms` with origin `first`)
//
// Imported by: layer_norm.wgsl, group_norm.wgsl
// Expects: CENTRED: 1 if the mean is subtracted; and what shared/norm_row.wgsl expects.
//
// It is the corrected two-pass algorithm (Chan, Golub & LeVeque, "Algorithms for computing the sample variance", 1983, equation
// 1.7): with a first mean m and d = x - m, the mean is m + sum(d)/n and the sum of squares is sum(d²) - sum(d)²/n, whatever m was.
// If the mean is far above the spread, m itself has rounding errors of the spread's size, and sum(x²) - n m² would lose all digits.
//
// If the squares of finite elements overflow, the sum of squares is +inf. If even the sum of the elements overflows, the mean is
// given as 0: no result depends on it. An element that is not finite makes both NaN.

#import shared/norm_row.wgsl

fn sum4(v: vec4f) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

/// The number of elements, of four, that are not finite.
fn odd4(v: vec4f) -> f32 {
    let odd = (bitcast<vec4u>(v) & vec4u(0x7f800000u)) == vec4u(0x7f800000u);
    return sum4(select(vec4f(0.0), vec4f(1.0), odd));
}

/// What an element adds to the sums of d = x - origin and of d². `first`: whether this is its first read. If so and CENTRED, only
/// the mean is needed, and the second component is the number of elements that are not finite instead.
fn terms(x: f32, origin: f32, first: bool) -> vec2f {
    let d = x - origin;
    if (first && CENTRED == 1u) { return vec2f(d, select(1.0, 0.0, is_finite(x))); }
    return vec2f(d, d * d);
}

/// What four elements add.
fn terms4(x: vec4f, origin: f32, first: bool) -> vec2f {
    let d = x - origin;
    if (first && CENTRED == 1u) { return vec2f(sum4(d), odd4(x)); }
    return vec2f(sum4(d), sum4(d * d));
}

/// The mean of `count` elements, `odd` of which are not finite. 0 if the sum of finite elements overflowed; NaN if `count` is 0 or
/// `odd` is not 0.
fn known_mean(mean: f32, count: f32, odd: f32) -> f32 {
    return select(select(0.0, mean, is_finite(mean)), nan(), count == 0.0 || odd > 0.0);
}

fn first_mean(sum: vec2f, count: f32) -> f32 {
    return known_mean(sum.x / count, count, sum.y);
}

/// The mean and the sum of squared deviations from it; 0 and the sum of squares if not CENTRED.
fn corrected(sum: vec2f, origin: f32, count: f32) -> vec2f {
    if (CENTRED == 0u) { return vec2f(0.0, sum.y); }
    if (is_finite(origin) && !is_finite(sum.y)) { return vec2f(origin, inf()); }
    let shift = sum.x / count;
    return vec2f(origin + shift, max_nan(sum.y - sum.x * shift, 0.0));
}
