//! The logarithm of a sum of exponentials over any axes.

use super::reduce::{self, Reduce};
use super::reduction::{Axes, CpuReduction, GpuReduction, LANES, Params, WG, reduce};
use crate::Result;
use crate::cpu::CpuDevice;
use crate::cpu::simd::exp_below;
use crate::gpu::{Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves, apply};
use crate::ops::binary::max_nan;
use crate::tensor::Tensor;
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&LOGSUMEXP];

static LOGSUMEXP: Kernel = kernel!("logsumexp.wgsl", "logsumexp", reads: 1, writes: 1, params: Params,
    "PARTS": &[0, 1], "FLAT": &[0, 1], "WG": &[WG], "LANES": LANES);

/// `ln Σ exp(x)`, as `m + ln Σ exp(x - m)` with the largest element m.
struct LogSumExp {
    axes: Axes,
}

/// The maximum of some elements, and the sum of their exponentials relative to it; as in `shared/online_softmax.wgsl`.
#[derive(Clone, Copy)]
struct OnlineSoftmax {
    max: f32,
    sum: f32,
}

impl OnlineSoftmax {
    const NONE: OnlineSoftmax = OnlineSoftmax { max: f32::MIN, sum: 0.0 };

    #[inline(always)]
    fn of(x: f32) -> OnlineSoftmax {
        if x == f32::NEG_INFINITY { OnlineSoftmax::NONE } else { OnlineSoftmax { max: x, sum: 1.0 } }
    }

    // Inlined for sure, so that a loop of it becomes vector instructions: 2.3 times as fast.
    #[inline(always)]
    fn and(self, other: OnlineSoftmax) -> OnlineSoftmax {
        let e = exp_below(-(self.max - other.max).abs());
        let sum = if self.max > other.max { self.sum + other.sum * e } else { self.sum * e + other.sum };
        OnlineSoftmax { max: max_nan(self.max, other.max), sum }
    }

    fn log(self) -> f32 {
        // Without elements the logarithm is -inf.
        if self.max.is_finite() { self.max + self.sum.ln() } else { self.max }
    }
}

impl Op for LogSumExp {
    fn name(&self) -> &'static str {
        "logsumexp"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta::f32(self.axes.infer(self.name(), inputs, false)?)])
    }

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        // The maximum, the difference from it, its exponential, and the sum of these.
        inputs[0].numel().saturating_mul(4)
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let update = |state: OnlineSoftmax, x, _| state.and(OnlineSoftmax::of(x));
        let sums = CpuReduction { identity: OnlineSoftmax::NONE, update, merge: OnlineSoftmax::and };
        let mut states = cpu.filled(OnlineSoftmax::NONE, outputs[0].shape.numel())?;
        reduce(cpu, sums, inputs[0], &self.axes, &mut states)?;
        outputs[0].data.iter_mut().zip(&*states).for_each(|(y, state)| *y = state.log());
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let constants = [&[0][..], &[1]];
        let reduction =
            GpuReduction { name: self.name(), kernel: &LOGSUMEXP, constants, words: 2, value: 0.0 };
        reduction.dispatch(rec, inputs[0], &self.axes, outputs[0].buffer)
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[0], outputs: &[0] }
    }

    /// The softmax: `exp(x - y)`, divided by its sum, which is 1 but for the rounding of y (1e-3 at y = 1e4).
    fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let powers = saved.input(0)?.sub(saved.output(0)?)?.exp()?;
        let sum = apply(Reduce { op: reduce::ReduceOp::Sum, axes: self.axes }, &[&powers])?;
        Ok(vec![Some(powers.mul(&grad.div(&sum)?)?)])
    }
}

impl Tensor {
    /// `ln Σ exp(x)` over `axes`.
    ///
    /// It is one pass by online softmax ([Milakov & Gimelshein](https://arxiv.org/abs/1805.02867)), relative to the
    /// largest element, so that nothing overflows. As in PyTorch, +inf gives +inf, NaN gives NaN, and only -inf, or no
    /// element, gives -inf.
    ///
    /// Negative axes count from the end; `keepdim` keeps the reduced axes with length 1.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1000.0, 1000.0], [2], &Device::cpu())?;
    /// assert_eq!(x.logsumexp(&[0], false)?.item()?, 1000.0 + 2f32.ln());
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, one named twice, a tensor of ids, or the device fails.
    #[track_caller]
    pub fn logsumexp(&self, axes: &[isize], keepdim: bool) -> Result<Tensor> {
        self.reduce_by("logsumexp", axes, keepdim, |axes| LogSumExp { axes })
    }
}
