//! Losses. Cross-entropy is an op: [`Tensor::cross_entropy`](crate::Tensor::cross_entropy).

use crate::tensor::Tensor;
use crate::{Error, Result};

/// The mean of the squared differences, of rank 0; NaN of none.
///
/// # Errors
/// Shapes that differ (nothing is broadcast: a `[n]` against a `[n, 1]` would be a mean over `n²` pairs), or the
/// device fails.
pub fn mse_loss(prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
    if prediction.shape() != target.shape() {
        let message =
            format!("predictions of shape {} for targets of {}", prediction.shape(), target.shape());
        return Err(Error::shape("mse_loss", message));
    }
    prediction.sub(target)?.square()?.mean_all()
}
