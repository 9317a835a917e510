//! Group and instance normalization.

use super::Kind;
use crate::Result;
use crate::tensor::Tensor;

impl Tensor {
    /// Group normalization of `[n, c, ..]` ([Wu & He](https://arxiv.org/abs/1803.08494)).
    ///
    /// As [`Tensor::layer_norm`], with one mean and variance for each n and each of `groups` equal groups of channels;
    /// weight and bias are `[c]`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 3.0, 10.0, 30.0], [1, 4], &Device::cpu())?;
    /// assert_eq!(x.group_norm(2, None, None, 0.0)?.to_vec()?, [-1.0, 1.0, -1.0, 1.0]); // two channels each
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A rank below 2, groups that do not divide the channels, a weight or a bias of another shape, a negative `eps`,
    /// tensors of ids, or the device fails.
    #[track_caller]
    pub fn group_norm(
        &self,
        groups: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f32,
    ) -> Result<Tensor> {
        self.normalized_rows(Kind::Group(groups), [weight, bias], eps)
    }

    /// Instance normalization ([Ulyanov, Vedaldi & Lempitsky](https://arxiv.org/abs/1607.08022)):
    /// [`Tensor::group_norm`] with one channel per group.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 3.0, 10.0, 30.0], [1, 2, 2], &Device::cpu())?;
    /// let bias = Tensor::from_slice(&[5.0, 100.0], [2], &Device::cpu())?;
    /// let y = x.instance_norm(None, Some(&bias), 0.0)?;
    /// assert_eq!(y.to_vec()?, [4.0, 6.0, 99.0, 101.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::group_norm`].
    #[track_caller]
    pub fn instance_norm(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f32) -> Result<Tensor> {
        self.normalized_rows(Kind::Instance, [weight, bias], eps)
    }
}
