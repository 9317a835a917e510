// Element-wise functions of two operands, y[i] = f(a[i], b[i]), the operands broadcast and strided in any way.
//
// shared/map2.wgsl has the bindings and the entries.
//
//   OP: the function    WG: invocations a workgroup (prepended by ops/binary.rs)

#import shared/map2.wgsl
#import shared/float.wgsl

fn f(a: f32, b: f32) -> f32 {
    switch OP {
        case 0u: { return a + b; }
        case 1u: { return a - b; }
        case 2u: { return a * b; }
        case 3u: { return a / b; }
        case 4u: { return max_nan(a, b); }
        case 5u: { return min_nan(a, b); }
        case 6u: { return pow_nan(a, b); }
        // Comparisons: no NaN is equal to, less or greater than anything.
        case 7u: { return truth(!unordered(a, b) && order(a) == order(b)); }
        case 8u: { return truth(unordered(a, b) || order(a) != order(b)); }
        case 9u: { return truth(!unordered(a, b) && order(a) < order(b)); }
        case 10u: { return truth(!unordered(a, b) && order(a) <= order(b)); }
        case 11u: { return truth(!unordered(a, b) && order(a) > order(b)); }
        case 12u: { return truth(!unordered(a, b) && order(a) >= order(b)); }
        // Logic: what is not 0 is true, NaN too.
        case 13u: { return truth(order(a) != 0 && order(b) != 0); }
        case 14u: { return truth(order(a) != 0 || order(b) != 0); }
        case 15u: { return truth((order(a) != 0) != (order(b) != 0)); }
        // The share of a maximum's gradient that goes to a: ties are split evenly, of NaN both sides get all.
        case 16u: { return select(select(truth(order(a) > order(b)), 0.5, order(a) == order(b)), 1.0, unordered(a, b)); }
        // The derivative of a^b with regard to a, and to b: 0 at a = 0 as the limit for b > 0.
        case 17u: { return select(b * pow_nan(a, b - 1.0), 0.0, b == 0.0); }
        case 18u: { return select(pow_nan(a, b) * log_nan(a), 0.0, a == 0.0 && b >= 0.0); }
        // The same number, NaN being the same as NaN. One of the two may have been flushed on its way here.
        default: { return truth(flushed(a) == flushed(b) || (is_nan(a) && is_nan(b))); }
    }
}

fn truth(holds: bool) -> f32 {
    return select(0.0, 1.0, holds);
}

fn unordered(a: f32, b: f32) -> bool {
    return is_nan(a) || is_nan(b);
}

/// The place of a number, with all subnormals at 0.
fn flushed(x: f32) -> i32 {
    return select(order(x), 0, abs(order(x)) < 0x00800000);
}
