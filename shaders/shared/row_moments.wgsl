// The mean of a row's slice, and the sum of the squares of the distances from it.
//
// A mean that is far above the spread has rounding errors of the spread's size, and the square of the mean has nothing
// left of it; so the moments take two passes, corrected (Chan, Golub & LeVeque, "Algorithms for computing the sample
// variance", 1983, equation 1.7): d = x - m with a first mean m, then mean = m + sum(d)/n and the sum of squares is
// sum(d²) - sum(d)²/n, whatever m was.
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

/// The sums of an invocation's elements, and of the squares, relative to `origin`. `first`: whether it meets them now.
fn sums(s: Slice, origin: f32, first: bool) -> vec2f {
    var sum = vec2f(0.0);
    var at = place(s.row, s.begin + s.lane);
    var c = s.begin + s.lane;
    for (; c + 3u * LANES < s.end; c += 4u * LANES) {
        let f = four(at, first);
        let d = f.v - origin;
        sum += vec2f(sum4(d), sum4(d * d));
        at = f.after;
    }
    for (; c < s.end; c += LANES) {
        let d = element(at.y, first) - origin;
        sum += vec2f(d, d * d);
        at = next(at);
    }
    return sum;
}

/// The mean of a slice, and the sum of the squares of the distances from it. To be called by the whole workgroup.
fn moments(s: Slice, local: u32) -> vec2f {
    let count = f32(s.end - s.begin);
    var origin = 0.0;
    if (CENTRED == 1u) { origin = together(sums(s, 0.0, true), local, s.lane).x / count; }
    let sum = together(sums(s, origin, CENTRED == 0u), local, s.lane);
    if (CENTRED == 0u) { return vec2f(0.0, sum.y); }
    let shift = sum.x / count;
    return vec2f(origin + shift, max_nan(sum.y - sum.x * shift, 0.0));
}
