//! Reductions over any axes: sum, mean, product, max, min.

use super::reduction::{self, Axes, CpuReduction, GpuReduction, LANES, Params, WG};
use crate::Result;
use crate::cpu::CpuDevice;
use crate::gpu::{GpuBuffer, Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves, apply, no_gradient};
use crate::ops::binary::max_nan;
use crate::shape::{Layout, Shape};
use crate::tensor::Tensor;
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&REDUCE];

static REDUCE: Kernel = kernel!("reduce.wgsl", "reduce", reads: 1, writes: 1, params: Params,
    "OP": &[0, 1, 2, 3, 4, 5, 6], "FLAT": &[0, 1], "WG": &[WG], "LANES": LANES);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReduceOp {
    Sum,
    Mean,
    Prod,
    Max,
    Min,
    /// The sum of `|x|`. This and the next two are norms.
    AbsSum,
    /// The largest `|x|`.
    AbsMax,
    /// The number of nonzero x.
    Count,
}

impl ReduceOp {
    fn name(self) -> &'static str {
        match self {
            ReduceOp::Sum => "sum",
            ReduceOp::Mean => "mean",
            ReduceOp::Prod => "prod",
            ReduceOp::Max => "max",
            ReduceOp::Min => "min",
            ReduceOp::AbsSum | ReduceOp::AbsMax | ReduceOp::Count => "norm",
        }
    }

    /// The numbers in `reduce.wgsl` of this op, and of the op that reduces its partial results.
    fn codes(self) -> [u32; 2] {
        match self {
            ReduceOp::Sum | ReduceOp::Mean => [0, 0],
            ReduceOp::Max => [1, 1],
            ReduceOp::Min => [2, 2],
            ReduceOp::Prod => [3, 3],
            ReduceOp::AbsSum => [4, 0],
            ReduceOp::AbsMax => [5, 1],
            ReduceOp::Count => [6, 0],
        }
    }

    /// The CPU twin: one monomorphic loop per op, so that the compiler can vectorise it.
    fn run(self, cpu: &Arc<CpuDevice>, x: CpuView, axes: &Axes, y: &mut [f32]) -> Result<()> {
        /// Reduces `map(x)` over all elements x.
        fn of(
            identity: f32,
            merge: impl Fn(f32, f32) -> f32 + Copy + Sync,
            map: impl Fn(f32) -> f32 + Copy + Sync,
            (cpu, x, axes, y): (&Arc<CpuDevice>, CpuView, &Axes, &mut [f32]),
        ) -> Result<()> {
            let update = move |state, x, _| merge(state, map(x));
            reduction::reduce(cpu, CpuReduction { identity, update, merge }, x, axes, y)
        }
        let (all, sum) = ((cpu, x, axes, y), |a, b| a + b);
        match self {
            ReduceOp::Sum | ReduceOp::Mean => of(0.0, sum, |x| x, all),
            ReduceOp::Prod => of(1.0, |a, b| a * b, |x| x, all),
            ReduceOp::Max => of(f32::NEG_INFINITY, max_nan, |x| x, all),
            ReduceOp::Min => of(f32::INFINITY, |a, b| -max_nan(-a, -b), |x| x, all),
            ReduceOp::AbsSum => of(0.0, sum, f32::abs, all),
            ReduceOp::AbsMax => of(0.0, max_nan, f32::abs, all),
            ReduceOp::Count => of(0.0, sum, |x| f32::from(x != 0.0), all),
        }
    }
}

/// A reduction. The reduced axes are kept with length 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reduce {
    pub(crate) op: ReduceOp,
    pub(crate) axes: Axes,
}

impl Reduce {
    /// The divisor of the result: the count for a mean, else 1.
    fn divisor(&self, x: &Layout) -> f32 {
        if self.op == ReduceOp::Mean { self.axes.length(x.shape) as f32 } else { 1.0 }
    }

    fn dispatch(&self, rec: &mut Recorder, x: GpuView, y: &GpuBuffer, value: f32) -> Result<()> {
        let [first, then] = self.op.codes();
        let constants = [&[first][..], &[then]];
        GpuReduction { name: self.name(), kernel: &REDUCE, constants, words: 1, value }
            .dispatch(rec, x, &self.axes, y)
    }
}

impl Op for Reduce {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let chooses = matches!(self.op, ReduceOp::Max | ReduceOp::Min | ReduceOp::AbsMax);
        Ok(vec![Meta::f32(self.axes.infer(self.name(), inputs, chooses)?)])
    }

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        inputs[0].numel()
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (x, y) = (inputs[0], &mut *outputs[0].data);
        self.op.run(cpu, x, &self.axes, y)?;
        let divisor = self.divisor(&x.layout);
        if divisor != 1.0 {
            y.iter_mut().for_each(|y| *y /= divisor);
        }
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        self.dispatch(rec, inputs[0], outputs[0].buffer, self.divisor(&inputs[0].layout))
    }

    fn saves(&self) -> Saves {
        match self.op {
            ReduceOp::Max | ReduceOp::Min => Saves { inputs: &[0], outputs: &[0] },
            ReduceOp::Prod => Saves { inputs: &[0], outputs: &[] },
            _ => Saves::default(),
        }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let shape = saved.shape(0)?;
        let dx = match self.op {
            ReduceOp::Sum => grad.expand(shape)?,
            ReduceOp::Mean => grad.mul_scalar(1.0 / self.axes.length(shape) as f32)?.expand(shape)?,
            // Split evenly among all elements that equal the extreme, as PyTorch's amax.
            ReduceOp::Max | ReduceOp::Min => {
                let ties = saved.input(0)?.same(saved.output(0)?)?;
                let count = apply(Reduce { op: ReduceOp::Sum, ..*self }, &[&ties])?;
                ties.mul(&grad.div(&count)?)?
            }
            // The product of the other elements: 0 if another one is 0, else the product of all nonzero elements,
            // divided by the element itself unless it is 0.
            ReduceOp::Prod => {
                let x = saved.input(0)?;
                let zero = x.eq(&Tensor::scalar(0.0, x.device())?)?;
                let filled = x.add(&zero)?;
                let zeros = apply(Reduce { op: ReduceOp::Sum, ..*self }, &[&zero])?;
                let others = apply(*self, &[&filled])?.mul(grad)?.div(&filled)?;
                others.mul(&zeros.eq(&zero)?)?
            }
            ReduceOp::AbsSum | ReduceOp::AbsMax | ReduceOp::Count => return Err(no_gradient(self.name())),
        };
        Ok(vec![Some(dx)])
    }
}

/// Writes the sums of `rows` rows of `length` elements of `x`, divided by `divisor`, to `y`: for kernels that store
/// partial sums.
pub(crate) fn sum_rows(
    rec: &mut Recorder,
    x: &GpuBuffer,
    [rows, length]: [usize; 2],
    divisor: f32,
    y: &GpuBuffer,
) -> Result<()> {
    let layout = Layout::contiguous(Shape::new([rows, length])?);
    let axes = Axes::new("sum", layout.shape, &[1])?;
    Reduce { op: ReduceOp::Sum, axes }.dispatch(rec, GpuView::new(x, layout), y, divisor)
}

/// The CPU twin of [`sum_rows`] for one row.
pub(crate) fn sum_row(cpu: &Arc<CpuDevice>, x: &[f32], divisor: f32) -> Result<f32> {
    let mut y = [0.0];
    let layout = Layout::contiguous(Shape::new([x.len()])?);
    ReduceOp::Sum.run(cpu, CpuView { data: x, layout }, &Axes::new("sum", layout.shape, &[0])?, &mut y)?;
    Ok(y[0] / divisor)
}

impl Tensor {
    fn all_axes(&self) -> Vec<isize> {
        (0..self.rank() as isize).collect()
    }

    /// Sums over the axes along which `shape` was broadcast; the result has that shape.
    ///
    /// ```
    /// # use gristmill::{Device, Shape, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], &Device::cpu())?;
    /// assert_eq!(x.sum_to(Shape::new([3])?)?.to_vec()?, [5.0, 7.0, 9.0]);
    /// assert_eq!(x.sum_to(Shape::new([2, 1])?)?.to_vec()?, [6.0, 15.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// `shape` does not broadcast to this tensor's, a tensor of ids, or the device fails.
    #[track_caller]
    pub fn sum_to(&self, shape: Shape) -> Result<Tensor> {
        if self.shape() == shape {
            return Ok(self.clone());
        }
        // Only to check that it broadcasts.
        Layout::contiguous(shape).expand(self.shape(), "sum_to")?;
        let lead = self.rank() - shape.rank();
        let stretched = |axis: usize| axis < lead || (shape[axis - lead] == 1 && self.shape()[axis] != 1);
        let axes: Vec<isize> =
            (0..self.rank()).filter(|&axis| stretched(axis)).map(|axis| axis as isize).collect();
        self.sum(&axes, true)?.reshape(shape)
    }

    /// The sum of all elements, of rank 0.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[3.0, -1.0, 4.0, 2.0], [2, 2], &Device::cpu())?;
    /// assert_eq!(x.sum_all()?.item()?, 8.0);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A tensor of ids, or the device fails.
    #[track_caller]
    pub fn sum_all(&self) -> Result<Tensor> {
        self.sum(&self.all_axes(), false)
    }

    /// The mean of all elements, of rank 0; NaN if there are none.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[3.0, -1.0, 4.0, 2.0], [2, 2], &Device::cpu())?;
    /// assert_eq!(x.mean_all()?.item()?, 2.0);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A tensor of ids, or the device fails.
    #[track_caller]
    pub fn mean_all(&self) -> Result<Tensor> {
        self.mean(&self.all_axes(), false)
    }

    /// The largest element, of rank 0; NaN if one is NaN.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[3.0, -1.0, 4.0, 2.0], [2, 2], &Device::cpu())?;
    /// assert_eq!(x.max_all()?.item()?, 4.0);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No element, a tensor of ids, or the device fails.
    #[track_caller]
    pub fn max_all(&self) -> Result<Tensor> {
        self.max(&self.all_axes(), false)
    }

    /// The smallest element, of rank 0; NaN if one is NaN.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[3.0, -1.0, 4.0, 2.0], [2, 2], &Device::cpu())?;
    /// assert_eq!(x.min_all()?.item()?, -1.0);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No element, a tensor of ids, or the device fails.
    #[track_caller]
    pub fn min_all(&self) -> Result<Tensor> {
        self.min(&self.all_axes(), false)
    }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident => $op:expr),* $(,)?) => {
        impl Tensor {$(
            $(#[$doc])*
            ///
            /// Negative axes count from the end; `keepdim` keeps the reduced axes with length 1. With no axes nothing
            /// is reduced, as in NumPy.
            ///
            /// # Errors
            /// No such axis, or one named twice; an empty reduced axis for `max` and `min`; a tensor of ids, or the
            /// device fails.
            #[track_caller]
            pub fn $name(&self, axes: &[isize], keepdim: bool) -> Result<Tensor> {
                let op = $op;
                self.reduce_by(op.name(), axes, keepdim, |axes| Reduce { op, axes })
            }
        )*}
    };
}

methods! {
    /// The sum over `axes`; 0 over an empty axis.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], &Device::cpu())?;
    /// assert_eq!(x.sum(&[0], false)?.to_vec()?, [5.0, 7.0, 9.0]); // of each column
    /// let rows = x.sum(&[-1], true)?;
    /// assert_eq!(rows.shape(), [2, 1]); // without keepdim [2]
    /// assert_eq!(rows.to_vec()?, [6.0, 15.0]);
    /// assert_eq!(x.sum(&[0, 1], false)?.item()?, 21.0);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    sum => ReduceOp::Sum,
    /// The mean over `axes`; NaN over an empty axis.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], &Device::cpu())?;
    /// assert_eq!(x.mean(&[0], false)?.to_vec()?, [2.5, 3.5, 4.5]); // of each column
    /// let deviations = x.sub(&x.mean(&[1], true)?)?; // [2, 3] - [2, 1]
    /// assert_eq!(deviations.to_vec()?, [-1.0, 0.0, 1.0, -1.0, 0.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    mean => ReduceOp::Mean,
    /// The product over `axes`; 1 over an empty axis. The gradient is correct with zeros among the factors.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], &Device::cpu())?;
    /// assert_eq!(x.prod(&[1], false)?.to_vec()?, [6.0, 120.0]); // of each row
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    prod => ReduceOp::Prod,
    /// The maximum over `axes`; NaN if one is NaN. The gradient is split evenly among ties, as in PyTorch's `amax`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 5.0, 3.0, 4.0, 2.0, 6.0], [2, 3], &Device::cpu())?;
    /// assert_eq!(x.max(&[0], false)?.to_vec()?, [4.0, 5.0, 6.0]); // of each column
    /// assert_eq!(x.max(&[1], false)?.to_vec()?, [5.0, 6.0]); // of each row
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    max => ReduceOp::Max,
    /// The minimum over `axes`; NaN if one is NaN. The gradient is split evenly among ties, as in PyTorch's `amin`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 5.0, 3.0, 4.0, 2.0, 6.0], [2, 3], &Device::cpu())?;
    /// assert_eq!(x.min(&[0], false)?.to_vec()?, [1.0, 2.0, 3.0]); // of each column
    /// assert_eq!(x.min(&[1], false)?.to_vec()?, [1.0, 2.0]); // of each row
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    min => ReduceOp::Min,
}
