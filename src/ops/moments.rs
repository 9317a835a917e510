//! Variance and standard deviation over any axes.

use super::reduction::{Axes, CpuReduction, GpuReduction, LANES, Params, WG, reduce};
use crate::Result;
use crate::cpu::CpuDevice;
use crate::gpu::{Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves};
use crate::shape::Shape;
use crate::tensor::Tensor;
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&MOMENTS];

static MOMENTS: Kernel = kernel!("moments.wgsl", "moments", reads: 1, writes: 1, params: Params,
    "OP": &[0, 1], "PARTS": &[0, 1], "FLAT": &[0, 1], "WG": &[WG], "LANES": LANES);

/// The sum of squared deviations from the mean, divided by `count - correction`; or the square root of that.
struct Variance {
    root: bool,
    correction: usize,
    axes: Axes,
}

impl Variance {
    /// The degrees of freedom, at least 0.
    fn divisor(&self, x: Shape) -> f32 {
        self.axes.length(x).saturating_sub(self.correction) as f32
    }
}

/// A partial result: count, mean, and sum of squared deviations from the mean. In f64, as in PyTorch on the CPU.
#[derive(Clone, Copy)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    const NONE: Moments = Moments { count: 0.0, mean: 0.0, squares: 0.0 };

    /// Adds an element (Welford).
    #[inline]
    fn with(self, x: f32) -> Moments {
        let (x, count) = (f64::from(x), self.count + 1.0);
        let mean = self.mean + (x - self.mean) / count;
        Moments { count, mean, squares: self.squares + (x - self.mean) * (x - mean) }
    }

    /// Merges two partial results (Chan, Golub & LeVeque).
    #[inline]
    fn and(self, other: Moments) -> Moments {
        if other.count == 0.0 {
            return self;
        }
        let count = self.count + other.count;
        let (apart, weight) = (other.mean - self.mean, other.count / count);
        Moments {
            count,
            mean: self.mean + apart * weight,
            squares: self.squares + other.squares + apart * apart * self.count * weight,
        }
    }
}

impl Op for Variance {
    fn name(&self) -> &'static str {
        if self.root { "std" } else { "var" }
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta::f32(self.axes.infer(self.name(), inputs, false)?)])
    }

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        // The sum, the difference from the mean, its square, and the sum of these.
        inputs[0].numel().saturating_mul(4)
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let divisor = f64::from(self.divisor(inputs[0].shape()));
        let moments = CpuReduction {
            identity: Moments::NONE,
            update: |m: Moments, x, _| m.with(x),
            merge: Moments::and,
        };
        let mut states = cpu.filled(Moments::NONE, outputs[0].shape.numel())?;
        reduce(cpu, moments, inputs[0], &self.axes, &mut states)?;
        for (y, state) in outputs[0].data.iter_mut().zip(&*states) {
            // A sum of squares beyond f32's range is infinite, as on a GPU, which has no f64.
            let overflows = state.squares as f32 == f32::INFINITY;
            let variance = if overflows { f64::INFINITY } else { state.squares / divisor };
            *y = if self.root { variance.sqrt() } else { variance } as f32;
        }
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (op, value) = (u32::from(self.root), self.divisor(inputs[0].layout.shape));
        let constants = [&[op, 0][..], &[op, 1]];
        let reduction = GpuReduction { name: self.name(), kernel: &MOMENTS, constants, words: 3, value };
        reduction.dispatch(rec, inputs[0], &self.axes, outputs[0].buffer)
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[0], outputs: if self.root { &[0] } else { &[] } }
    }

    /// For the variance v, `dv/dx = 2 (x - mean) / divisor`. For its root s, `ds/dx = (x - mean) / (divisor s)`, and 0
    /// where s is 0, as in PyTorch.
    fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let x = saved.input(0)?;
        let divisor = self.divisor(x.shape());
        let scale = if self.root {
            let s = saved.output(0)?;
            let flat = s.eq(&Tensor::scalar(0.0, s.device())?)?;
            let slope = grad.mul_scalar(1.0 / divisor)?.div(&s.add(&flat)?)?;
            slope.mul(&flat.neg()?.add_scalar(1.0)?)?
        } else {
            grad.mul_scalar(2.0 / divisor)?
        };
        let mean = x.mean(&self.axes.list(), true)?;
        Ok(vec![Some(x.sub(&mean)?.mul(&scale)?)])
    }
}

impl Tensor {
    /// The variance over `axes`, as PyTorch's `var`.
    ///
    /// The sum of squared deviations from the mean is divided by the number of elements minus `correction`: 1 for the
    /// unbiased estimate from a sample (Bessel), 0 for the variance of the elements themselves. If the divisor is 0,
    /// the result is NaN, or infinite if the elements differ. It is infinite on every device if the sum exceeds f32's
    /// range.
    ///
    /// One pass, accurate even if the mean is far larger than the spread: the pairwise update of Chan, Golub & LeVeque,
    /// *Updating Formulae and a Pairwise Algorithm for Computing Sample Variances* (1979).
    ///
    /// Negative axes count from the end; `keepdim` keeps the reduced axes with length 1.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0], [4], &Device::cpu())?;
    /// assert_eq!(x.var(&[0], 0, false)?.item()?, 1.25);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, one named twice, a tensor of ids, or the device fails.
    #[track_caller]
    pub fn var(&self, axes: &[isize], correction: usize, keepdim: bool) -> Result<Tensor> {
        self.reduce_by("var", axes, keepdim, |axes| Variance { root: false, correction, axes })
    }

    /// The standard deviation over `axes`: the square root of [`Tensor::var`]. The gradient is 0 where the result is 0
    /// or infinite.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 3.0, 10.0, 30.0], [2, 2], &Device::cpu())?;
    /// let deviations = x.std(&[1], 0, true)?; // of each row
    /// assert_eq!(deviations.shape(), [2, 1]);
    /// assert_eq!(deviations.to_vec()?, [1.0, 10.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::var`].
    #[track_caller]
    pub fn std(&self, axes: &[isize], correction: usize, keepdim: bool) -> Result<Tensor> {
        self.reduce_by("std", axes, keepdim, |axes| Variance { root: true, correction, axes })
    }
}
