// The mean of a row's slice, and the sum of the squares of the distances from it.
//
// A mean that is far above the spread has rounding errors of the spread's size, and the square of the mean has nothing
// left of it; so the moments take two passes, corrected (Chan, Golub & LeVeque, "Algorithms for computing the sample
// variance", 1983, equation 1.7): d = x - m with a first mean m, then mean = m + sum(d)/n and the sum of squares is
// sum(d²) - sum(d)²/n, whatever m was.
//
// Where the squares of finite elements overflow their sum is +inf, whatever else does. Where even the sum of the elements does,
// their mean is given as 0: nothing depends on it. An element that is not finite makes both NaN.
//
// The importing file has x, and shared/standardise.wgsl with its parameters; CENTRED is 1 where the mean is taken off. It says
// with taken(at) what element x[at] is when an invocation meets it for the first time; later it is read from x.

#import shared/float.wgsl
#import shared/rows.wgsl

/// Four elements from `at` on, LANES apart, and the place after them.
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

/// How many of four elements are not finite.
fn odd4(v: vec4f) -> f32 {
    let odd = (bitcast<vec4u>(v) & vec4u(0x7f800000u)) == vec4u(0x7f800000u);
    return sum4(select(vec4f(0.0), vec4f(1.0), odd));
}

/// The sums of an invocation's elements, and of the squares, relative to `origin`. `first`: whether it meets them now; where
/// that is for the mean alone, the second is the number of elements that are not finite.
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

/// The mean of `count` elements; 0 where the sum of finite ones overflowed, and NaN of none, or where some are not finite.
fn known_mean(mean: f32, count: f32, odd: f32) -> f32 {
    return select(select(0.0, mean, is_finite(mean)), nan(), count == 0.0 || odd > 0.0);
}

/// The mean of a slice, and the sum of the squares of the distances from it. To be called by the whole workgroup.
fn moments(s: Slice, local: u32) -> vec2f {
    let count = f32(s.end - s.begin);
    var origin = 0.0;
    if (CENTRED == 1u) {
        let first = together(sums(s, 0.0, true), local, s.lane);
        origin = known_mean(first.x / count, count, first.y);
    }
    let sum = together(sums(s, origin, CENTRED == 0u), local, s.lane);
    if (CENTRED == 0u) { return vec2f(0.0, sum.y); }
    if (is_finite(origin) && !is_finite(sum.y)) { return vec2f(origin, inf()); }
    let shift = sum.x / count;
    return vec2f(origin + shift, max_nan(sum.y - sum.x * shift, 0.0));
}
