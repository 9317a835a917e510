//! Losses: the mean of each in short. [`Loss`] has their formulas and the other reductions. Cross-entropy is an op:
//! [`Tensor::cross_entropy`].

use crate::Result;
use crate::tensor::Tensor;

pub use crate::ops::loss::{Loss, Reduction};

macro_rules! means {
    ($($(#[$doc:meta])* $name:ident($($attribute:ident: $type:ty)?) => $loss:expr, $reduction:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// As [`Loss::of`].
        pub fn $name(prediction: &Tensor, target: &Tensor $(, $attribute: $type)?) -> Result<Tensor> {
            $loss.of(prediction, target, $reduction)
        }
    )*};
}

means! {
    /// The mean of the squared differences: [`Loss::Mse`].
    mse_loss() => Loss::Mse, Reduction::Mean;
    /// The mean of the absolute differences: [`Loss::L1`].
    l1_loss() => Loss::L1, Reduction::Mean;
    /// The mean of [`Loss::Huber`]: squares below `delta`, absolute differences above.
    huber_loss(delta: f32) => Loss::Huber { delta }, Reduction::Mean;
    /// The mean of [`Loss::Hinge`], for targets of 1 and -1.
    hinge_loss() => Loss::Hinge, Reduction::Mean;
    /// The mean of [`Loss::BceWithLogits`]: binary cross-entropy of logits against probabilities.
    bce_with_logits_loss() => Loss::BceWithLogits { pos_weight: None }, Reduction::Mean;
    /// [`Loss::KlDiv`] of predicted log-probabilities against probabilities, summed and divided by the length of the
    /// first axis, which makes it the mean divergence over a batch. PyTorch's default divides by the number of elements:
    /// [`Reduction::Mean`].
    kl_div_loss() => Loss::KlDiv { log_target: false }, Reduction::BatchMean;
}
