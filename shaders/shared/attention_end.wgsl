// The end of a row of attention, once its weights are summed: the largest score and the sum of exponentials relative to it.
// The importing file has `p.slices`, `stats`, and the type Word of an element.

#import shared/normaliser.wgsl

/// Whether a score is NaN or inf, or all are -inf.
fn is_lost(whole: Normaliser) -> bool {
    return is_nan(whole.max) || is_inf(whole.max) || whole.max == LOWEST || is_nan(whole.sum);
}

/// The logarithm of the sum of exponentials: -inf where no key is seen.
fn log_sum(whole: Normaliser) -> f32 {
    if (whole.sum == 0.0) { return -inf(); }
    if (is_lost(whole)) { return nan(); }
    return whole.max + log(whole.sum);
}

fn divided(sum: Word, whole: Normaliser) -> Word {
    if (whole.sum == 0.0) { return Word(0.0); }
    if (is_lost(whole)) { return Word(nan()); }
    return sum / whole.sum;
}

/// An element of the output, where there are no slices to wait for.
fn ended(sum: Word, whole: Normaliser) -> Word {
    if (p.slices > 1u) { return sum; }
    return divided(sum, whole);
}

fn leave_stats(row: u32, whole: Normaliser) {
    if (p.slices > 1u) {
        stats[2u * row] = whole.max;
        stats[2u * row + 1u] = whole.sum;
    } else {
        stats[row] = log_sum(whole);
    }
}
