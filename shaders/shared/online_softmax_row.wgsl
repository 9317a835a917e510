// The online softmax of a row (shared/online_softmax.wgsl), computed by LANES invocations.
//
// Imported by: softmax.wgsl, cross_entropy.wgsl, cross_entropy_grad.wgsl
// Expects: x: array<f32>, WG, LANES.

#import shared/online_softmax.wgsl

/// Adds one element with one exponential, which scales down either the element or the sum so far. Does not detect NaN.
fn update(n: OnlineSoftmax, x: f32) -> OnlineSoftmax {
    let e = exp_below(-abs(x - n.max));
    return OnlineSoftmax(max(n.max, x), select(n.sum + e, n.sum * e + 1.0, x > n.max));
}

/// Makes the maximum NaN where an element was NaN. `top`: the largest `magnitude` of the elements.
fn finish(n: OnlineSoftmax, top: u32) -> OnlineSoftmax {
    return OnlineSoftmax(select(n.max, nan(), top > 0x7f800000u), n.sum);
}

/// The bits without the sign. They exceed those of infinity only for NaN.
fn magnitude(x: f32) -> u32 {
    return bitcast<u32>(x) & 0x7fffffffu;
}

/// Four elements from x[at] on, `step` apart.
fn four(at: u32, step: u32) -> vec4f {
    return vec4f(x[at], x[at + step], x[at + 2u * step], x[at + 3u * step]);
}

/// Reduces every LANES-th element in `first..end` of a row, whose element c is x[start + c * step].
fn reduce_row(start: u32, step: u32, first: u32, end: u32) -> OnlineSoftmax {
    var n = OnlineSoftmax(LOWEST, 0.0);
    var top = 0u;
    var c = first;
    for (; c + 3u * LANES < end; c += 4u * LANES) {
        let v = four(start + c * step, LANES * step);
        n = update(update(update(update(n, v.x), v.y), v.z), v.w);
        top = max(top, max(max(magnitude(v.x), magnitude(v.y)), max(magnitude(v.z), magnitude(v.w))));
    }
    for (; c < end; c += LANES) {
        let v = x[start + c * step];
        n = update(n, v);
        top = max(top, magnitude(v));
    }
    return finish(n, top);
}

var<workgroup> partial: array<OnlineSoftmax, WG>;

/// Merges the partial results of a row's LANES invocations in log2(LANES) steps. The whole workgroup must call it,
/// once: there is no barrier in front of its first write.
fn workgroup_reduce(mine: OnlineSoftmax, local: u32, lane: u32) -> OnlineSoftmax {
    if (LANES == 1u) { return mine; } // a constant, so the barriers below stay in uniform control flow
    partial[local] = mine;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[local] = merge(partial[local], partial[local + half]); }
    }
    workgroupBarrier();
    return partial[local - lane];
}
