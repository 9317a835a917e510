//! Losses as functions. [`Loss`] has the formulas and the other reductions. Cross-entropy is [`Tensor::cross_entropy`].

use crate::Result;
use crate::tensor::Tensor;

pub use crate::ops::loss::{Loss, Reduction};

/// The mean of the squared differences, [`Loss::Mse`].
///
/// ```
/// # use gristmill::{Device, Tensor, nn::mse_loss};
/// let x = Tensor::from_slice(&[1.0, 2.0], [2], &Device::cpu())?;
/// let t = Tensor::from_slice(&[3.0, 2.0], [2], &Device::cpu())?;
/// assert_eq!(mse_loss(&x, &t)?.item()?, 2.0); // of 4 and 0
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// As [`Loss::of`].
#[track_caller]
pub fn mse_loss(prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
    Loss::Mse.of(prediction, target, Reduction::Mean)
}

/// The mean of the absolute differences, [`Loss::L1`].
///
/// ```
/// # use gristmill::{Device, Tensor, nn::l1_loss};
/// let x = Tensor::from_slice(&[1.0, 2.0], [2], &Device::cpu())?;
/// let t = Tensor::from_slice(&[3.0, 2.0], [2], &Device::cpu())?;
/// assert_eq!(l1_loss(&x, &t)?.item()?, 1.0); // of 2 and 0
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// As [`Loss::of`].
#[track_caller]
pub fn l1_loss(prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
    Loss::L1.of(prediction, target, Reduction::Mean)
}

/// The mean of [`Loss::Huber`]: quadratic below `delta`, linear above.
///
/// ```
/// # use gristmill::{Device, Tensor, nn::huber_loss};
/// let x = Tensor::from_slice(&[1.0, 3.0], [2], &Device::cpu())?;
/// let t = Tensor::from_slice(&[0.0, 0.0], [2], &Device::cpu())?;
/// assert_eq!(huber_loss(&x, &t, 1.0)?.item()?, 1.5); // of 0.5 and 2.5
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// As [`Loss::of`].
#[track_caller]
pub fn huber_loss(prediction: &Tensor, target: &Tensor, delta: f32) -> Result<Tensor> {
    Loss::Huber { delta }.of(prediction, target, Reduction::Mean)
}

/// The mean of [`Loss::Hinge`], for targets of 1 and -1.
///
/// ```
/// # use gristmill::{Device, Tensor, nn::hinge_loss};
/// let x = Tensor::from_slice(&[0.5, 1.0], [2], &Device::cpu())?;
/// let t = Tensor::from_slice(&[1.0, -1.0], [2], &Device::cpu())?;
/// assert_eq!(hinge_loss(&x, &t)?.item()?, 1.25); // of 0.5 and 2
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// As [`Loss::of`].
#[track_caller]
pub fn hinge_loss(prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
    Loss::Hinge.of(prediction, target, Reduction::Mean)
}

/// The mean of [`Loss::BceWithLogits`]: binary cross-entropy of logits and target probabilities.
///
/// ```
/// # use gristmill::{Device, Tensor, nn::bce_with_logits_loss};
/// let x = Tensor::from_slice(&[0.0, 0.0], [2], &Device::cpu())?;
/// let t = Tensor::from_slice(&[0.0, 1.0], [2], &Device::cpu())?;
/// assert!((bce_with_logits_loss(&x, &t)?.item()? - 2f32.ln()).abs() < 1e-6); // a probability of 1/2
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// As [`Loss::of`].
#[track_caller]
pub fn bce_with_logits_loss(prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
    Loss::BceWithLogits { pos_weight: None }.of(prediction, target, Reduction::Mean)
}

/// The mean over a batch of [`Loss::KlDiv`], for predicted log-probabilities and target probabilities.
///
/// It divides by the length of the first axis. PyTorch's default divides by the number of elements, as
/// [`Reduction::Mean`] does.
///
/// ```
/// # use gristmill::{Device, Tensor, nn::kl_div_loss};
/// let x = Tensor::from_slice(&[0.5f32.ln(), 0.5f32.ln()], [1, 2], &Device::cpu())?;
/// let t = Tensor::from_slice(&[1.0, 0.0], [1, 2], &Device::cpu())?;
/// assert!((kl_div_loss(&x, &t)?.item()? - 2f32.ln()).abs() < 1e-6); // 1 · ln (1 / 0.5)
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// As [`Loss::of`].
#[track_caller]
pub fn kl_div_loss(prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
    Loss::KlDiv { log_target: false }.of(prediction, target, Reduction::BatchMean)
}
