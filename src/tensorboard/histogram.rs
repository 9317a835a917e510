//! Histograms with TensorFlow's bins.

use super::message::Message;
use std::sync::LazyLock;

/// The upper limits of the bins; the first bin is empty. As in `InitDefaultBuckets` of TensorFlow's `histogram.cc`, whose
/// bins between -1e20 and 1e20 PyTorch has too.
static LIMITS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let growing = std::iter::successors(Some(1e-12), |limit| Some(limit * 1.1));
    let positive: Vec<f64> = growing.take_while(|&limit| limit < 1e20).chain([f64::MAX]).collect();
    let negative = positive.iter().rev().map(|limit| -limit);
    negative.chain([0.0]).chain(positive.iter().copied()).collect()
});

/// A `HistogramProto` of the finite values.
pub(super) fn histogram(values: &[f32]) -> Message {
    let mut counts = vec![0.0; LIMITS.len()];
    let (mut min, mut max, mut sum, mut squares, mut count) =
        (f64::INFINITY, f64::NEG_INFINITY, 0.0, 0.0, 0.0);
    for value in values.iter().filter(|value| value.is_finite()).map(|&value| f64::from(value)) {
        // The bin of `low <= value < high`. A finite f32 is below the last limit.
        counts[LIMITS.partition_point(|&limit| limit <= value)] += 1.0;
        (min, max) = (value.min(min), value.max(max));
        (sum, squares, count) = (sum + value, squares + value * value, count + 1.0);
    }
    let has_any = |count: &f64| *count > 0.0;
    let (Some(first), Some(last)) = (counts.iter().position(has_any), counts.iter().rposition(has_any))
    else {
        return Message::new();
    };
    // PyTorch has one more, the empty bin below the minimum. TensorBoard takes the minimum for the lower limit of the first
    // bin, which would be above its upper limit.
    let bins = first..=last;
    Message::new()
        .double(1, min)
        .double(2, max)
        .double(3, count)
        .double(4, sum)
        .double(5, squares)
        .doubles(6, &LIMITS[bins.clone()])
        .doubles(7, &counts[bins])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_value_has_a_bin_and_the_limits_grow_by_a_tenth() {
        // np.histogram's edges in PyTorch: 774 below 0, 0, and 774 above. Here ±f64::MAX come to them.
        assert_eq!(LIMITS.len(), 2 * 775 + 1);
        assert!(LIMITS.is_sorted_by(|a, b| a < b));
        let positive = &LIMITS[776..1550];
        // One rounding each: in computing the limit, and the ratio.
        assert!(positive.windows(2).all(|pair| (pair[1] / pair[0] - 1.1).abs() <= 2.0 * f64::EPSILON));
        for value in [f32::MAX, f32::MIN, f32::from_bits(1), 0.0, -0.0] {
            let at = LIMITS.partition_point(|&limit| limit <= f64::from(value));
            assert!(LIMITS[at - 1] <= f64::from(value) && f64::from(value) < LIMITS[at], "{value}");
        }
    }
}
