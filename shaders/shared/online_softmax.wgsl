// Online softmax (Milakov & Gimelshein, arXiv:1805.02867): the maximum of some elements, and the sum of their exponentials
// relative to it, in one pass.
//
// Imported by: logsumexp.wgsl, attention_reduce.wgsl, shared/attention.wgsl, shared/online_softmax_row.wgsl

#import shared/common.wgsl

/// The running maximum and sum; LOWEST and 0 for no elements. A NaN among the elements makes the maximum NaN. Where the maximum is
/// not finite, the sum is meaningless.
struct OnlineSoftmax { max: f32, sum: f32 }

/// e^x for x <= 0; 0 where the result would be subnormal.
fn exp_below(x: f32) -> f32 {
    return select(exp(x), 0.0, x < -87.33654);
}

/// Merges the states of two disjoint sets of elements.
fn merge(a: OnlineSoftmax, b: OnlineSoftmax) -> OnlineSoftmax {
    let e = exp_below(-abs(a.max - b.max));
    let sum = select(a.sum * e + b.sum, a.sum + b.sum * e, a.max > b.max);
    return OnlineSoftmax(max_nan(a.max, b.max), sum);
}

/// Whether the softmax is NaN: an element was NaN or +inf, or all were -inf.
fn is_broken(whole: OnlineSoftmax) -> bool {
    return is_nan(whole.max) || is_inf(whole.max) || whole.sum == 0.0;
}

/// The logarithm of the sum of the exponentials of the scores of an attention row; -inf if the row sees no key, NaN if a score is NaN
/// or +inf, or all are -inf.
fn log_sum(whole: OnlineSoftmax) -> f32 {
    if (whole.sum == 0.0) { return -inf(); }
    if (is_lost(whole)) { return nan(); }
    return whole.max + log(whole.sum);
}

/// Sums of an attention row, weighted by the exponentials, divided by the sum of these; 0 if the row sees no key, NaN as log_sum.
fn divided(sums: vec4f, whole: OnlineSoftmax) -> vec4f {
    if (whole.sum == 0.0) { return vec4f(); }
    if (is_lost(whole)) { return vec4f(nan()); }
    return sums / whole.sum;
}

/// As is_broken, for an attention row: its scores are at least LOWEST, so a maximum of LOWEST means that all visible scores were
/// -inf or LOWEST.
fn is_lost(whole: OnlineSoftmax) -> bool {
    return is_nan(whole.max) || is_inf(whole.max) || whole.max == LOWEST || is_nan(whole.sum);
}
