// The last step for a row of attention, after its weights are summed: the division by the sum, and the statistics of the row.
// Imported by: shared/attention_forward.wgsl, attention_reduce.wgsl
// Expects: p.slices, stats: array<f32>, Word (the type of an element of o).
//
// The OnlineSoftmax `whole` of a row is its largest score and the sum of the exponentials relative to it.

#import shared/online_softmax.wgsl

/// Whether the result is NaN: a score is NaN or +inf, or all scores are -inf.
fn is_lost(whole: OnlineSoftmax) -> bool {
    return is_nan(whole.max) || is_inf(whole.max) || whole.max == LOWEST || is_nan(whole.sum);
}

/// The logarithm of the sum of the exponentials; -inf if the row sees no key.
fn log_sum(whole: OnlineSoftmax) -> f32 {
    if (whole.sum == 0.0) { return -inf(); }
    if (is_lost(whole)) { return nan(); }
    return whole.max + log(whole.sum);
}

/// sum / whole.sum; 0 if the row sees no key.
fn divided(sum: Word, whole: OnlineSoftmax) -> Word {
    if (whole.sum == 0.0) { return Word(0.0); }
    if (is_lost(whole)) { return Word(nan()); }
    return sum / whole.sum;
}

/// An element of the output; with several slices the undivided sum, which attention_reduce.wgsl divides.
fn ended(sum: Word, whole: OnlineSoftmax) -> Word {
    if (p.slices > 1u) { return sum; }
    return divided(sum, whole);
}

/// Stores the logarithm of a row; with several slices the maximum and the sum of this slice.
fn store_stats(row: u32, whole: OnlineSoftmax) {
    if (p.slices > 1u) {
        stats[2u * row] = whole.max;
        stats[2u * row + 1u] = whole.sum;
    } else {
        stats[row] = log_sum(whole);
    }
}
