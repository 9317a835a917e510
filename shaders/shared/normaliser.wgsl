// The online normaliser of a softmax, Milakov & Gimelshein (arXiv:1805.02867): the sum of the exponentials of some
// elements relative to their maximum, found in one pass over them. The importing file has the elements in `x`, and the
// constants WG and LANES: LANES invocations fold a row together.

#import shared/float.wgsl

/// Of no element yet: LOWEST and 0. A sum of NaN stands for a row whose softmax is NaN.
struct Normaliser { max: f32, sum: f32 }

/// e^x for x <= 0; 0 where that is subnormal.
fn exp_below(x: f32) -> f32 {
    return select(exp(x), 0.0, x < -87.33654);
}

/// With one more element, by one exponential: either the element or the sum so far is the one to scale down.
fn include(n: Normaliser, x: f32) -> Normaliser {
    let e = exp_below(-abs(x - n.max));
    return Normaliser(max(n.max, x), select(n.sum + e, n.sum * e + 1.0, x > n.max));
}

/// What `include` does not see: `top` is the largest of the elements' bits without their signs.
fn sealed(n: Normaliser, top: u32) -> Normaliser {
    let broken = top > 0x7f800000u || is_inf(n.max);
    return Normaliser(n.max, select(n.sum, nan(), broken));
}

fn magnitude(x: f32) -> u32 {
    return bitcast<u32>(x) & 0x7fffffffu;
}

fn merge(a: Normaliser, b: Normaliser) -> Normaliser {
    let e = exp_below(-abs(a.max - b.max));
    let sum = select(a.sum * e + b.sum, a.sum + b.sum * e, a.max > b.max);
    return Normaliser(max(a.max, b.max), select(sum, nan(), is_nan(a.sum) || is_nan(b.sum)));
}

/// Whether the softmax of the whole row is NaN: an element was NaN or +inf, or all were -inf.
fn is_broken(whole: Normaliser) -> bool {
    return is_nan(whole.sum) || whole.sum == 0.0;
}

/// Four elements from x[at] on.
fn four(at: u32, step: u32) -> vec4f {
    return vec4f(x[at], x[at + step], x[at + 2u * step], x[at + 3u * step]);
}

/// The normaliser of every LANES-th element in `first..end` of a row, whose c-th is x[start + c * step].
fn folded_row(start: u32, step: u32, first: u32, end: u32) -> Normaliser {
    var n = Normaliser(LOWEST, 0.0);
    var top = 0u;
    var c = first;
    for (; c + 3u * LANES < end; c += 4u * LANES) {
        let v = four(start + c * step, LANES * step);
        n = include(include(include(include(n, v.x), v.y), v.z), v.w);
        top = max(top, max(max(magnitude(v.x), magnitude(v.y)), max(magnitude(v.z), magnitude(v.w))));
    }
    for (; c < end; c += LANES) {
        let v = x[start + c * step];
        n = include(n, v);
        top = max(top, magnitude(v));
    }
    return sealed(n, top);
}

var<workgroup> partial: array<Normaliser, WG>;

/// What the LANES invocations of a row have folded, merged in log2(LANES) steps. To be called by the whole workgroup.
fn together(mine: Normaliser, local: u32, lane: u32) -> Normaliser {
    if (LANES == 1u) { return mine; } // a constant, so the barriers below stay in uniform control flow
    partial[local] = mine;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[local] = merge(partial[local], partial[local + half]); }
    }
    workgroupBarrier();
    return partial[local - lane];
}
