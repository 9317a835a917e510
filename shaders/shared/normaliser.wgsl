// The online normaliser of a softmax, Milakov & Gimelshein (arXiv:1805.02867): the sum of the exponentials of some
// elements relative to their maximum, found in one pass over them.

#import shared/float.wgsl

/// Of no element yet: LOWEST and 0. A NaN among the elements makes the maximum NaN; where that is not finite, the sum says
/// nothing.
struct Normaliser { max: f32, sum: f32 }

/// e^x for x <= 0; 0 where that is subnormal.
fn exp_below(x: f32) -> f32 {
    return select(exp(x), 0.0, x < -87.33654);
}

fn merge(a: Normaliser, b: Normaliser) -> Normaliser {
    let e = exp_below(-abs(a.max - b.max));
    let sum = select(a.sum * e + b.sum, a.sum + b.sum * e, a.max > b.max);
    return Normaliser(max_nan(a.max, b.max), sum);
}

/// Whether the softmax of the elements is NaN: one was NaN or +inf, or all were -inf.
fn is_broken(whole: Normaliser) -> bool {
    return is_nan(whole.max) || is_inf(whole.max) || whole.sum == 0.0;
}
