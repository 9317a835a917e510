// The normaliser of a row (shared/normaliser.wgsl), folded by LANES invocations together. The importing file has the
// elements in `x`, and the constants WG and LANES.

#import shared/normaliser.wgsl

/// With one more element, by one exponential: either the element or the sum so far is the one to scale down.
fn include(n: Normaliser, x: f32) -> Normaliser {
    let e = exp_below(-abs(x - n.max));
    return Normaliser(max(n.max, x), select(n.sum + e, n.sum * e + 1.0, x > n.max));
}

/// What `include` does not see: `top` is the largest of the elements' bits without their signs.
fn sealed(n: Normaliser, top: u32) -> Normaliser {
    return Normaliser(select(n.max, nan(), top > 0x7f800000u), n.sum);
}

fn magnitude(x: f32) -> u32 {
    return bitcast<u32>(x) & 0x7fffffffu;
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
