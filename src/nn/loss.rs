//! Losses as functions. [`Loss`] has the formulas and the other reductions. Cross-entropy is [`Tensor::cross_entropy`].

use crate::Result;
use crate::tensor::Tensor;

pub use crate::ops::loss::{Loss, Reduction};

/// The mean of the squared differences, [`Loss::Mse`].
///
/// # Errors
/// As [`Loss::of`].
pub fn mse_loss(prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
    Loss::Mse.of(prediction, target, Reduction::Mean)
}

/// The mean of the absolute differences, [`Loss::L1`].
///
/// # Errors
/// As [`Loss::of`].
pub fn l1_loss(prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
    Loss::L1.of(prediction, target, Reduction::Mean)
}

/// The mean of [`Loss::Huber`]: quadratic below `delta`, linear above.
///
/// # Errors
/// As [`Loss::of`].
pub fn huber_loss(prediction: &Tensor, target: &Tensor, delta: f32) -> Result<Tensor> {
    Loss::Huber { delta }.of(prediction, target, Reduction::Mean)
}

/// The mean of [`Loss::Hinge`], for targets of 1 and -1.
///
/// # Errors
/// As [`Loss::of`].
pub fn hinge_loss(prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
    Loss::Hinge.of(prediction, target, Reduction::Mean)
}

/// The mean of [`Loss::BceWithLogits`]: binary cross-entropy of logits and target probabilities.
///
/// # Errors
/// As [`Loss::of`].
pub fn bce_with_logits_loss(prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
    Loss::BceWithLogits { pos_weight: None }.of(prediction, target, Reduction::Mean)
}

/// The mean over a batch of [`Loss::KlDiv`], for predicted log-probabilities and target probabilities.
///
/// It divides by the length of the first axis. PyTorch's default divides by the number of elements, as
/// [`Reduction::Mean`] does.
///
/// # Errors
/// As [`Loss::of`].
pub fn kl_div_loss(prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
    Loss::KlDiv { log_target: false }.of(prediction, target, Reduction::BatchMean)
}
