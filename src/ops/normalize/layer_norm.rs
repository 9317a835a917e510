//! Layer and RMS normalization, and those of a sum.

use super::{Kind, Source};
use crate::tensor::Tensor;
use crate::{Error, Result};

impl Tensor {
    /// Layer normalization over the last `axes` axes ([Ba, Kiros & Hinton](https://arxiv.org/abs/1607.06450)).
    ///
    /// The result is `(x - m) / sqrt(v + eps) * weight + bias`, with the mean m and the variance v over these axes;
    /// weight and bias have the shape of these axes. A NaN or an infinity makes NaN of all elements with the same mean.
    /// If the sum of the squared deviations exceeds f32's range, v is infinite on every device: these elements are
    /// `0 * weight + bias`, and their gradient is 0.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 3.0, 10.0, 30.0], [2, 2], &Device::cpu())?;
    /// assert_eq!(x.layer_norm(1, None, None, 0.0)?.to_vec()?, [-1.0, 1.0, -1.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// `axes` of 0 or over the rank, a weight or a bias of another shape, a negative `eps`, tensors of ids, or the
    /// device fails.
    #[track_caller]
    pub fn layer_norm(
        &self,
        axes: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f32,
    ) -> Result<Tensor> {
        self.normalized_rows(Kind::Layer(axes), [weight, bias], eps)
    }

    /// RMS normalization over the last `axes` axes ([Zhang & Sennrich](https://arxiv.org/abs/1910.07467)).
    ///
    /// The result is `x / sqrt(q + eps) * weight`, with the mean q of the squares over these axes; the weight has the
    /// shape of these axes. A NaN makes NaN of all elements with the same mean. If the sum of the squares exceeds f32's
    /// range, q is infinite, as v in [`Tensor::layer_norm`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[2.0, -2.0, 8.0, 8.0], [2, 2], &Device::cpu())?;
    /// assert_eq!(x.rms_norm(1, None, 0.0)?.to_vec()?, [1.0, -1.0, 1.0, 1.0]); // each row by its own q
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::layer_norm`].
    #[track_caller]
    pub fn rms_norm(&self, axes: usize, weight: Option<&Tensor>, eps: f32) -> Result<Tensor> {
        self.normalized_rows(Kind::Rms(axes), [weight, None], eps)
    }

    /// [`Tensor::layer_norm`] of `self + residual`, and the sum itself: `[normalized, sum]`.
    ///
    /// It is one pass over memory on hardware and on the CPU. Transformers use it between blocks
    /// ([Vaswani et al.](https://arxiv.org/abs/1706.03762)), where the sum continues as the residual stream. Both
    /// results are differentiable.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 3.0], [1, 2], &Device::cpu())?;
    /// let [y, sum] = x.add_layer_norm(&x, 1, None, None, 0.0)?;
    /// assert_eq!((y.to_vec()?, sum.to_vec()?), (vec![-1.0, 1.0], vec![2.0, 6.0]));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::layer_norm`], or a residual of another shape.
    #[track_caller]
    pub fn add_layer_norm(
        &self,
        residual: &Tensor,
        axes: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f32,
    ) -> Result<[Tensor; 2]> {
        self.add_norm(Kind::Layer(axes), residual, [weight, bias], eps)
    }

    /// [`Tensor::rms_norm`] of `self + residual`, and the sum itself, as [`Tensor::add_layer_norm`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, -3.0], [1, 2], &Device::cpu())?;
    /// let [y, sum] = x.add_rms_norm(&Tensor::ones([1, 2], x.device())?, 1, None, 0.0)?;
    /// assert_eq!((y.to_vec()?, sum.to_vec()?), (vec![1.0, -1.0], vec![2.0, -2.0]));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::add_layer_norm`].
    #[track_caller]
    pub fn add_rms_norm(
        &self,
        residual: &Tensor,
        axes: usize,
        weight: Option<&Tensor>,
        eps: f32,
    ) -> Result<[Tensor; 2]> {
        self.add_norm(Kind::Rms(axes), residual, [weight, None], eps)
    }

    /// `[normalized, sum]` of self and a residual.
    #[track_caller]
    fn add_norm(
        &self,
        kind: Kind,
        residual: &Tensor,
        parameters: [Option<&Tensor>; 2],
        eps: f32,
    ) -> Result<[Tensor; 2]> {
        let mut outputs = self.normalized(kind, (Source::Sum, &[residual]), parameters, eps)?;
        outputs.truncate(2);
        outputs.try_into().map_err(|_| Error::shape("add_norm", "an output is missing"))
    }
}
