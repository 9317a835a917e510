//! Batch normalization and its running statistics.

use super::{Kind, Source, gpu};
use crate::cpu::CpuDevice;
use crate::gpu::Recorder;
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, update};
use crate::ops::arity;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::sync::Arc;

/// The results of batch normalization in training.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    /// The normalized tensor.
    pub output: Tensor,
    /// The batch's mean of each channel, `[c]`, outside the graph; NaN for an empty batch, and 0 if the sum of finite
    /// elements overflows.
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
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 3.0], [2, 1], &Device::cpu())?;
    /// let (mut mean, mut variance) = (Tensor::zeros([1], x.device())?, Tensor::ones([1], x.device())?);
    /// x.batch_norm(None, None, 0.0)?.update(&mut mean, &mut variance, 0.5)?;
    /// assert_eq!(mean.to_vec()?, [1.0]); // half of the batch's 2
    /// assert_eq!(variance.to_vec()?, [1.5]); // between 1 and the batch's unbiased 2
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Running statistics of another shape, a momentum outside `0..=1`, or the device fails.
    #[track_caller]
    pub fn update(&self, mean: &mut Tensor, variance: &mut Tensor, momentum: f32) -> Result<()> {
        let channels = self.mean.numel();
        if self.output.numel() == 0 {
            return Ok(());
        }
        let count = (self.output.numel() / channels) as f64;
        let average = RunningStats { momentum, unbias: (count / (count - 1.0)) as f32 };
        update(average, &[&self.mean, &self.variance], &mut [mean, variance])
    }
}

impl Tensor {
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
    #[track_caller]
    pub fn batch_norm(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f32) -> Result<BatchNorm> {
        let outputs = self.normalized(Kind::Batch, (Source::Plain, &[]), [weight, bias], eps)?;
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
    #[track_caller]
    pub fn batch_norm_by(
        &self,
        mean: &Tensor,
        variance: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f32,
    ) -> Result<Tensor> {
        let source = (Source::Given, &[mean, variance][..]);
        self.normalized(Kind::Batch, source, [weight, bias], eps).map(|mut outputs| outputs.swap_remove(0))
    }
}

/// Moves running statistics towards a batch's: `running += momentum (batch - running)`, with the batch's variance times
/// `unbias`, which is the unbiased estimate. Inputs: the batch's mean and variance; states: the running mean and
/// variance.
struct RunningStats {
    momentum: f32,
    unbias: f32,
}

impl Op for RunningStats {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        if !(0.0..=1.0).contains(&self.momentum) {
            let message = format!("momentum {} is not in 0..=1", self.momentum);
            return Err(Error::argument(self.name(), message));
        }
        arity::<2>(self.name(), inputs).map(Vec::from)
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        // Two products and a sum, for the mean and for the variance.
        outputs[0].numel().saturating_mul(6)
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        for ((batch, running), unbias) in inputs.iter().zip(outputs).zip([1.0, self.unbias]) {
            for (running, batch) in running.data.iter_mut().zip(batch.slice()) {
                *running += self.momentum * (batch * unbias - *running);
            }
        }
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        gpu::running_stats(rec, [self.momentum, self.unbias], inputs, outputs)
    }
}
