// The mean of a slice of a row, and the sum of squared deviations from it.
//
// Imported by: normalize.wgsl, add_norm.wgsl
// Expects: x: array<f32>, p.x_offset, p.rows: RowLayout, WG, LANES, FLAT, CENTRED: 1 where the mean is subtracted, and
// taken(at) -> f32: the first read of the element at `at`; later reads go to x.
//
// Two passes, corrected (Chan, Golub & LeVeque, "Algorithms for computing the sample variance", 1983, equation 1.7): with a first
// mean m and d = x - m, the mean is m + sum(d)/n and the sum of squares is sum(d²) - sum(d)²/n, whatever m was. Where the mean
// is far above the spread, m itself has rounding errors of the spread's size, and sum(x²) - n m² would lose all digits.
//
// Where the squares of finite elements overflow, the sum of squares is +inf. Where even the sum of the elements overflows, the mean
// is given as 0: no result depends on it. An element that is not finite makes both NaN.

#import shared/common.wgsl
#import shared/row_layout.wgsl

/// Four elements from `at` on, LANES apart, and the place of the next one.
struct Four { v: vec4f, after: vec3u }

fn element(at: u32, first: bool) -> f32 {
    if (first) { return taken(at); }
    return x[p.x_offset + at];
}

fn four(at: vec3u, first: bool) -> Four {
    let k = next(at);
    let l = next(k);
    let m = next(l);
    return Four(vec4f(element(at.y, first), element(k.y, first), element(l.y, first), element(m.y, first)), next(m));
}

fn sum4(v: vec4f) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

/// The number of elements, of four, that are not finite.
fn odd4(v: vec4f) -> f32 {
    let odd = (bitcast<vec4u>(v) & vec4u(0x7f800000u)) == vec4u(0x7f800000u);
    return sum4(select(vec4f(0.0), vec4f(1.0), odd));
}

/// The sums of d = x - origin and of d² over an invocation's elements. `first`: whether this is their first read. If so and
/// CENTRED, only the mean is needed, and the second component is the number of elements that are not finite instead.
fn sums(s: Slice, origin: f32, first: bool) -> vec2f {
    let counts = first && CENTRED == 1u;
    var sum = vec2f(0.0);
    var at = place(s.row, s.begin + s.lane);
    var c = s.begin + s.lane;
    for (; c + 3u * LANES < s.end; c += 4u * LANES) {
        let f = four(at, first);
        let d = f.v - origin;
        sum.x += sum4(d);
        if (counts) { sum.y += odd4(f.v); } else { sum.y += sum4(d * d); }
        at = f.after;
    }
    for (; c < s.end; c += LANES) {
        let v = element(at.y, first);
        let d = v - origin;
        sum.x += d;
        if (counts) { sum.y += select(1.0, 0.0, is_finite(v)); } else { sum.y += d * d; }
        at = next(at);
    }
    return sum;
}

/// The mean of `count` elements, `odd` of which are not finite. 0 where the sum of finite elements overflowed; NaN where `count`
/// is 0 or `odd` is not 0.
fn known_mean(mean: f32, count: f32, odd: f32) -> f32 {
    return select(select(0.0, mean, is_finite(mean)), nan(), count == 0.0 || odd > 0.0);
}

/// The mean of a slice and the sum of squared deviations from it. The whole workgroup must call it.
fn moments(s: Slice, local: u32) -> vec2f {
    let count = f32(s.end - s.begin);
    var origin = 0.0;
    if (CENTRED == 1u) {
        let first = workgroup_reduce(sums(s, 0.0, true), local, s.lane);
        origin = known_mean(first.x / count, count, first.y);
    }
    let sum = workgroup_reduce(sums(s, origin, CENTRED == 0u), local, s.lane);
    if (CENTRED == 0u) { return vec2f(0.0, sum.y); }
    if (is_finite(origin) && !is_finite(sum.y)) { return vec2f(origin, inf()); }
    let shift = sum.x / count;
    return vec2f(origin + shift, max_nan(sum.y - sum.x * shift, 0.0));
}
