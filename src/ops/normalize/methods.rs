//! The public normalizations of [`Tensor`].

use super::*;
use crate::op::{apply_all, update};

/// The results of batch normalization in training.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    /// The normalized tensor.
    pub output: Tensor,
    /// The batch's mean of each channel, `[c]`, outside the graph; NaN for an empty batch.
    pub mean: Tensor,
    /// The batch's biased variance of each channel (divided by n, not n - 1), `[c]`, outside the graph; NaN for an
    /// empty batch.
    pub variance: Tensor,
}

impl BatchNorm {
    /// Moves running statistics, each `[c]`, towards this batch's, in place.
    ///
    /// This is PyTorch's exponential average, `running = (1 - momentum) running + momentum batch`, with the unbiased
    /// estimate of the variance, in one kernel. An empty batch changes nothing.
    ///
    /// # Errors
    /// Running statistics of another shape, a momentum outside `0..=1`, or the device fails.
    pub fn update(&self, mean: &mut Tensor, variance: &mut Tensor, momentum: f32) -> Result<()> {
        let channels = self.mean.numel();
        if self.output.numel() == 0 {
            return Ok(());
        }
        let count = (self.output.numel() / channels) as f64;
        let follow = RunningStats { momentum, unbias: (count / (count - 1.0)) as f32 };
        update(follow, &[&self.mean, &self.variance], &mut [mean, variance])
    }
}

impl Tensor {
    fn normalize_rows(
        &self,
        kind: Kind,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f32,
    ) -> Result<Vec<Tensor>> {
        let norm = Norm { kind, eps, weight: weight.is_some(), bias: bias.is_some(), added: false };
        let inputs: Vec<&Tensor> = [Some(self), weight, bias].into_iter().flatten().collect();
        apply_all(Normalize { norm }, &inputs)
    }

    fn add_normalize_rows(
        &self,
        residual: &Tensor,
        kind: Kind,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f32,
    ) -> Result<[Tensor; 2]> {
        let norm = Norm { kind, eps, weight: weight.is_some(), bias: bias.is_some(), added: true };
        let inputs: Vec<&Tensor> = [Some(self), Some(residual), weight, bias].into_iter().flatten().collect();
        let mut outputs = apply_all(AddNorm { norm }, &inputs)?;
        outputs.truncate(2);
        outputs.try_into().map_err(|_| norm.wrong("an output is missing".to_string()))
    }

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
    pub fn layer_norm(
        &self,
        axes: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f32,
    ) -> Result<Tensor> {
        self.normalize_rows(Kind::Layer(axes), weight, bias, eps).map(first)
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
    pub fn add_layer_norm(
        &self,
        residual: &Tensor,
        axes: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f32,
    ) -> Result<[Tensor; 2]> {
        self.add_normalize_rows(residual, Kind::Layer(axes), weight, bias, eps)
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
    pub fn add_rms_norm(
        &self,
        residual: &Tensor,
        axes: usize,
        weight: Option<&Tensor>,
        eps: f32,
    ) -> Result<[Tensor; 2]> {
        self.add_normalize_rows(residual, Kind::Rms(axes), weight, None, eps)
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
    pub fn rms_norm(&self, axes: usize, weight: Option<&Tensor>, eps: f32) -> Result<Tensor> {
        self.normalize_rows(Kind::Rms(axes), weight, None, eps).map(first)
    }

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
    pub fn group_norm(
        &self,
        groups: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f32,
    ) -> Result<Tensor> {
        self.normalize_rows(Kind::Group(groups), weight, bias, eps).map(first)
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
    pub fn instance_norm(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f32) -> Result<Tensor> {
        self.normalize_rows(Kind::Instance, weight, bias, eps).map(first)
    }

    /// Batch normalization of `[n, c, ..]` in training ([Ioffe & Szegedy](https://arxiv.org/abs/1502.03167)).
    ///
    /// As [`Tensor::layer_norm`], with the mean and the variance of each channel over all other axes; weight and bias
    /// are `[c]`. It also returns these statistics, for [`BatchNorm::update`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 10.0, 3.0, 30.0], [2, 2], &Device::cpu())?;
    /// let norm = x.batch_norm(None, None, 0.0)?; // of channels (1, 3) and (10, 30)
    /// assert_eq!(norm.output.to_vec()?, [-1.0, -1.0, 1.0, 1.0]);
    /// assert_eq!((norm.mean.to_vec()?, norm.variance.to_vec()?), (vec![2.0, 20.0], vec![1.0, 100.0]));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::group_norm`], or one element per channel, which has no variance.
    pub fn batch_norm(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f32) -> Result<BatchNorm> {
        let outputs = self.normalize_rows(Kind::Batch, weight, bias, eps)?;
        let wrong = |_| Error::shape("batch_norm", "an output is missing");
        let [output, mean, variance] = outputs.try_into().map_err(wrong)?;
        Ok(BatchNorm { output, mean, variance })
    }

    /// Batch normalization in evaluation.
    ///
    /// As [`Tensor::batch_norm`], with the given mean and variance of each channel, `[c]`, instead of the batch's. They
    /// are constants: no gradient flows into them. A channel whose variance plus `eps` is negative is NaN.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[3.0, 30.0], [1, 2], &Device::cpu())?;
    /// let mean = Tensor::from_slice(&[1.0, 10.0], [2], &Device::cpu())?;
    /// let variance = Tensor::from_slice(&[4.0, 16.0], [2], &Device::cpu())?;
    /// let y = x.batch_norm_by(&mean, &variance, None, None, 0.0)?;
    /// assert_eq!(y.to_vec()?, [1.0, 5.0]); // (3 - 1) / √4 and (30 - 10) / √16
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::group_norm`], or statistics of another shape.
    pub fn batch_norm_by(
        &self,
        mean: &Tensor,
        variance: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f32,
    ) -> Result<Tensor> {
        let norm =
            Norm { kind: Kind::Batch, eps, weight: weight.is_some(), bias: bias.is_some(), added: false };
        let inputs: Vec<&Tensor> =
            [Some(self), Some(mean), Some(variance), weight, bias].into_iter().flatten().collect();
        apply(NormalizeGivenStats { norm }, &inputs)
    }
}

/// The result; the other outputs are for gradients.
fn first(mut outputs: Vec<Tensor>) -> Tensor {
    outputs.swap_remove(0)
}
