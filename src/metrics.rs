//! Classification metrics: accuracy, and precision, recall and F1 per class.
//!
//! The definitions are scikit-learn's (<https://scikit-learn.org/stable/modules/model_evaluation.html>, after Powers,
//! arXiv:2010.16061). For one class, TP, FP and FN are the numbers of true positives, false positives and false
//! negatives:
//!
//! - precision = TP / (TP + FP): the fraction of predictions of the class that are right,
//! - recall = TP / (TP + FN): the fraction of samples of the class that are found,
//! - F1 = 2 TP / (2 TP + FP + FN): the harmonic mean of the two,
//! - support = TP + FN: the number of samples of the class.
//!
//! A ratio over zero samples is 0.0, scikit-learn's default (`zero_division="warn"`, without the warning).

use std::fmt;

use crate::error::{Error, Result};

/// The fraction of `predictions` equal to their `targets`, 0 to 1; 0 if there are none. Of tensors on a device:
/// [`train::accuracy`](crate::train::accuracy).
///
/// ```
/// # use gristmill::metrics::accuracy;
/// let (predictions, targets) = ([0, 1, 2, 2], [0, 1, 2, 0]);
/// assert_eq!(accuracy(&predictions, &targets)?, 0.75);
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// [`Error::Argument`] if the lengths differ.
#[track_caller]
pub fn accuracy(predictions: &[u32], targets: &[u32]) -> Result<f64> {
    same_length("accuracy", predictions, targets)?;
    let right = predictions.iter().zip(targets).filter(|(prediction, target)| prediction == target).count();
    Ok(ratio(right as u64, targets.len() as u64))
}

#[track_caller]
fn same_length(op: &'static str, predictions: &[u32], targets: &[u32]) -> Result<()> {
    if predictions.len() == targets.len() {
        return Ok(());
    }
    Err(Error::argument(op, format!("{} predictions for {} targets", predictions.len(), targets.len())))
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A confusion matrix: counts of (target, prediction) pairs, over any number of batches.
///
/// `Display` prints the table of scikit-learn's `classification_report`, with two digits by default (`{matrix:.4}` for
/// four). As with `labels=range(classes)` there, classes that never occur have a row and count in the averages.
///
/// ```
/// # use gristmill::metrics::ConfusionMatrix;
/// let mut matrix = ConfusionMatrix::new(2)?;
/// matrix.add(&[0, 0, 1, 1], &[0, 0, 1, 0])?; // the last, of class 0, was taken for class 1
/// assert_eq!((matrix.classes(), matrix.total(), matrix.accuracy()), (2, 4, 0.75));
/// assert_eq!(matrix.counts(), [2, 1, 0, 1]);
/// let scores = matrix.scores();
/// assert_eq!((scores[1].precision, scores[1].recall, scores[1].support), (0.5, 1.0, 1));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: usize,
    /// Row-major: `counts[target * classes + prediction]`.
    counts: Vec<u64>,
}

/// The scores of one class, or an average over the classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// TP / (TP + FP), 0 to 1.
    pub precision: f64,
    /// TP / (TP + FN), 0 to 1.
    pub recall: f64,
    /// 2 TP / (2 TP + FP + FN), 0 to 1.
    pub f1: f64,
    /// Samples of the class; for an average, all samples.
    pub support: u64,
}

impl ConfusionMatrix {
    /// The largest number of classes, which takes 128 MiB of counters.
    pub const MAX_CLASSES: usize = 4096;

    /// A `classes` x `classes` matrix of zeros.
    ///
    /// # Errors
    /// [`Error::Argument`] if `classes` is 0 or over [`ConfusionMatrix::MAX_CLASSES`].
    #[track_caller]
    pub fn new(classes: usize) -> Result<ConfusionMatrix> {
        if classes == 0 || classes > Self::MAX_CLASSES {
            return Err(Error::argument(
                "ConfusionMatrix",
                format!("{classes} classes; it takes 1 to {}", Self::MAX_CLASSES),
            ));
        }
        Ok(ConfusionMatrix { classes, counts: vec![0; classes * classes] })
    }

    /// Counts the pairs `predictions[i]` and `targets[i]` of a batch.
    ///
    /// # Errors
    /// [`Error::Argument`] if the lengths differ or an id is out of range; nothing is counted then.
    #[track_caller]
    pub fn add(&mut self, predictions: &[u32], targets: &[u32]) -> Result<()> {
        same_length("ConfusionMatrix", predictions, targets)?;
        for (what, ids) in [("prediction", predictions), ("target", targets)] {
            if let Some(at) = ids.iter().position(|&id| id as usize >= self.classes) {
                return Err(Error::argument(
                    "ConfusionMatrix",
                    format!("{what} {at} is class {}, there are {} classes from 0", ids[at], self.classes),
                ));
            }
        }
        for (&prediction, &target) in predictions.iter().zip(targets) {
            self.counts[target as usize * self.classes + prediction as usize] += 1;
        }
        Ok(())
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The counts `[classes, classes]`, row-major: rows are targets, columns predictions.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The number of samples counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The fraction of samples on the diagonal, 0 to 1.
    pub fn accuracy(&self) -> f64 {
        ratio(self.counts.iter().step_by(self.classes + 1).sum(), self.total())
    }

    /// The scores of each class, indexed by class id.
    pub fn scores(&self) -> Vec<Scores> {
        let mut predicted = vec![0; self.classes];
        for row in self.counts.chunks(self.classes) {
            predicted.iter_mut().zip(row).for_each(|(sum, count)| *sum += count);
        }
        let score = |(class, row): (usize, &[u64])| {
            let (hits, support) = (row[class], row.iter().sum());
            Scores {
                precision: ratio(hits, predicted[class]),
                recall: ratio(hits, support),
                // 2 TP + FP + FN = (TP + FP) + (TP + FN).
                f1: ratio(2 * hits, predicted[class] + support),
                support,
            }
        };
        self.counts.chunks(self.classes).enumerate().map(score).collect()
    }

    /// The unweighted mean of the classes' scores.
    ///
    /// ```
    /// # use gristmill::metrics::ConfusionMatrix;
    /// let mut matrix = ConfusionMatrix::new(2)?;
    /// matrix.add(&[0, 0, 1, 1], &[0, 0, 1, 0])?;
    /// assert_eq!(matrix.macro_average().precision, 0.75); // of 1 and 0.5
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn macro_average(&self) -> Scores {
        self.average(|_| 1)
    }

    /// The mean of the classes' scores, weighted by support.
    ///
    /// ```
    /// # use gristmill::metrics::ConfusionMatrix;
    /// let mut matrix = ConfusionMatrix::new(2)?;
    /// matrix.add(&[0, 0, 1, 1], &[0, 0, 1, 0])?;
    /// assert_eq!(matrix.weighted_average().precision, 0.875); // of 1 for three samples and 0.5 for one
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn weighted_average(&self) -> Scores {
        self.average(|scores| scores.support)
    }

    fn average(&self, weight: impl Fn(&Scores) -> u64) -> Scores {
        let scores = self.scores();
        let whole = scores.iter().map(&weight).sum::<u64>();
        let mean = |part: fn(&Scores) -> f64| match whole {
            0 => 0.0,
            _ => scores.iter().map(|each| part(each) * weight(each) as f64).sum::<f64>() / whole as f64,
        };
        Scores {
            precision: mean(|each| each.precision),
            recall: mean(|each| each.recall),
            f1: mean(|each| each.f1),
            support: self.total(),
        }
    }
}

impl fmt::Display for ConfusionMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let (accuracy, total) = (self.accuracy(), self.total());
        writeln!(f, "{:>12}  {:>9} {:>9} {:>9} {:>9}", "", "precision", "recall", "f1-score", "support")?;
        writeln!(f)?;
        for (class, scores) in self.scores().iter().enumerate() {
            line(f, class, scores, digits)?;
        }
        writeln!(f)?;
        writeln!(f, "{:>12}  {:>9} {:>9} {accuracy:>9.digits$} {total:>9}", "accuracy", "", "")?;
        line(f, "macro avg", &self.macro_average(), digits)?;
        line(f, "weighted avg", &self.weighted_average(), digits)
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: impl fmt::Display, scores: &Scores, digits: usize) -> fmt::Result {
    let Scores { precision, recall, f1, support } = scores;
    writeln!(f, "{name:>12}  {precision:>9.digits$} {recall:>9.digits$} {f1:>9.digits$} {support:>9}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(classes: usize, predictions: &[u32], targets: &[u32]) -> ConfusionMatrix {
        let mut matrix = ConfusionMatrix::new(classes).unwrap();
        matrix.add(predictions, targets).unwrap();
        matrix
    }

    #[test]
    fn accuracy_by_hand() {
        assert_eq!(accuracy(&[0, 2, 1, 3], &[0, 1, 2, 3]), Ok(0.5));
        assert_eq!(accuracy(&[], &[]), Ok(0.0));
        assert!(accuracy(&[1], &[]).unwrap_err().to_string().contains("1 predictions for 0 targets"));
    }

    #[test]
    fn the_example_of_scikit_learn() {
        // From the docstring of sklearn.metrics.classification_report, with class ids in place of names.
        let matrix = matrix(3, &[0, 0, 2, 2, 1], &[0, 1, 2, 2, 2]);
        assert_eq!(matrix.counts(), [1, 0, 0, 1, 0, 0, 0, 1, 2]);
        let expected = "              precision    recall  f1-score   support

           0       0.50      1.00      0.67         1
           1       0.00      0.00      0.00         1
           2       1.00      0.67      0.80         3

    accuracy                           0.60         5
   macro avg       0.50      0.56      0.49         5
weighted avg       0.70      0.60      0.61         5
";
        assert_eq!(matrix.to_string(), expected);
        assert!(format!("{matrix:.4}").contains("accuracy                         0.6000         5\n"));
    }

    #[test]
    fn scores_by_hand() {
        // Class 0: TP 2, FP 1, FN 1. Class 1: TP 3, FP 1, FN 1.
        let matrix = matrix(2, &[0, 0, 1, 0, 1, 1, 1], &[0, 0, 0, 1, 1, 1, 1]);
        let third = 2.0 / 3.0;
        let scores = matrix.scores();
        assert_eq!(scores[0], Scores { precision: third, recall: third, f1: third, support: 3 });
        assert_eq!(scores[1], Scores { precision: 0.75, recall: 0.75, f1: 0.75, support: 4 });
        assert_eq!(matrix.accuracy(), 5.0 / 7.0);
        assert_eq!((matrix.classes(), matrix.total()), (2, 7));
        assert!((matrix.macro_average().f1 - 17.0 / 24.0).abs() < 1e-15);
        assert!((matrix.weighted_average().recall - 5.0 / 7.0).abs() < 1e-15);
    }

    #[test]
    fn nothing_counted_is_zero() {
        let empty = ConfusionMatrix::new(3).unwrap();
        let zero = Scores { precision: 0.0, recall: 0.0, f1: 0.0, support: 0 };
        assert_eq!((empty.macro_average(), empty.weighted_average()), (zero, zero));
        assert_eq!(empty.accuracy(), 0.0);
        assert!(!empty.to_string().contains("NaN"));
    }

    #[test]
    fn refuses_ids_out_of_range_and_counts_nothing() {
        let mut matrix = ConfusionMatrix::new(2).unwrap();
        let error = matrix.add(&[0, 2], &[0, 1]).unwrap_err().to_string();
        assert!(error.contains("prediction 1 is class 2, there are 2 classes"), "{error}");
        let error = matrix.add(&[0, 1], &[u32::MAX, 1]).unwrap_err().to_string();
        assert!(error.contains("target 0 is class 4294967295"), "{error}");
        assert!(matrix.add(&[0], &[0, 1]).is_err());
        assert_eq!(matrix.total(), 0);
        for classes in [0, ConfusionMatrix::MAX_CLASSES + 1, usize::MAX] {
            assert!(ConfusionMatrix::new(classes).is_err());
        }
    }
}
