//! Reductions over any axes to one number: sum, mean, product, max, min.

use super::fold::{self, Axes, Folder, LANES, Params, WG};
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
pub(crate) enum Fold {
    Sum,
    Mean,
    Prod,
    Max,
    Min,
    /// The sum of `|x|`; this and the next two are norms.
    AbsSum,
    /// The largest `|x|`.
    AbsMax,
    /// The number of x that are not 0.
    Count,
}

impl Fold {
    fn name(self) -> &'static str {
        match self {
            Fold::Sum => "sum",
            Fold::Mean => "mean",
            Fold::Prod => "prod",
            Fold::Max => "max",
            Fold::Min => "min",
            Fold::AbsSum | Fold::AbsMax | Fold::Count => "norm",
        }
    }

    /// Its number in `reduce.wgsl`, and that of the fold of its partial results.
    fn codes(self) -> [u32; 2] {
        match self {
            Fold::Sum | Fold::Mean => [0, 0],
            Fold::Max => [1, 1],
            Fold::Min => [2, 2],
            Fold::Prod => [3, 3],
            Fold::AbsSum => [4, 0],
            Fold::AbsMax => [5, 1],
            Fold::Count => [6, 0],
        }
    }

    /// The CPU twin; one monomorphic loop a fold, so that the compiler can vectorise it.
    fn run(self, cpu: &Arc<CpuDevice>, x: CpuView, axes: &Axes, y: &mut [f32]) -> Result<()> {
        /// A fold of `map` of each element.
        fn of(
            identity: f32,
            merge: impl Fn(f32, f32) -> f32 + Copy + Sync,
            map: impl Fn(f32) -> f32 + Copy + Sync,
            (cpu, x, axes, y): (&Arc<CpuDevice>, CpuView, &Axes, &mut [f32]),
        ) -> Result<()> {
            let include = move |state, x, _| merge(state, map(x));
            fold::fold(cpu, fold::Fold { identity, include, merge }, x, axes, y)
        }
        let (all, sum) = ((cpu, x, axes, y), |a, b| a + b);
        match self {
            Fold::Sum | Fold::Mean => of(0.0, sum, |x| x, all),
            Fold::Prod => of(1.0, |a, b| a * b, |x| x, all),
            Fold::Max => of(f32::NEG_INFINITY, max_nan, |x| x, all),
            Fold::Min => of(f32::INFINITY, |a, b| -max_nan(-a, -b), |x| x, all),
            Fold::AbsSum => of(0.0, sum, f32::abs, all),
            Fold::AbsMax => of(0.0, max_nan, f32::abs, all),
            Fold::Count => of(0.0, sum, |x| f32::from(x != 0.0), all),
        }
    }
}

/// A reduction; the reduced axes stay, with length 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reduce {
    pub(crate) fold: Fold,
    pub(crate) axes: Axes,
}

impl Reduce {
    /// What the fold is divided by: the mean's count.
    fn divisor(&self, x: &Layout) -> f32 {
        if self.fold == Fold::Mean { self.axes.length(x.shape) as f32 } else { 1.0 }
    }

    fn dispatch(&self, rec: &mut Recorder, x: GpuView, y: &GpuBuffer, value: f32) -> Result<()> {
        let [first, then] = self.fold.codes();
        let constants = [&[first][..], &[then]];
        Folder { name: self.name(), kernel: &REDUCE, constants, words: 1, value }
            .dispatch(rec, x, &self.axes, y)
    }
}

impl Op for Reduce {
    fn name(&self) -> &'static str {
        self.fold.name()
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let chooses = matches!(self.fold, Fold::Max | Fold::Min | Fold::AbsMax);
        Ok(vec![Meta::f32(self.axes.infer(self.name(), inputs, chooses)?)])
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (x, y) = (inputs[0], &mut *outputs[0].data);
        self.fold.run(cpu, x, &self.axes, y)?;
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
        match self.fold {
            Fold::Max | Fold::Min => Saves { inputs: &[0], outputs: &[0] },
            Fold::Prod => Saves { inputs: &[0], outputs: &[] },
            _ => Saves::default(),
        }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let shape = saved.shape(0)?;
        let dx = match self.fold {
            Fold::Sum => grad.expand(shape)?,
            Fold::Mean => grad.mul_scalar(1.0 / self.axes.length(shape) as f32)?.expand(shape)?,
            // Evenly to all that equal the extreme, as PyTorch's amax.
            Fold::Max | Fold::Min => {
                let ties = saved.input(0)?.same(saved.output(0)?)?;
                let count = apply(Reduce { fold: Fold::Sum, ..*self }, &[&ties])?;
                ties.mul(&grad.div(&count)?)?
            }
            // The product of the others: that of all but the zeros, divided by the element, where no other is 0.
            Fold::Prod => {
                let x = saved.input(0)?;
                let zero = x.eq(&Tensor::scalar(0.0, x.device())?)?;
                let filled = x.add(&zero)?;
                let zeros = apply(Reduce { fold: Fold::Sum, ..*self }, &[&zero])?;
                let others = apply(*self, &[&filled])?.mul(grad)?.div(&filled)?;
                others.mul(&zeros.eq(&zero)?)?
            }
            Fold::AbsSum | Fold::AbsMax | Fold::Count => return Err(no_gradient(self.name())),
        };
        Ok(vec![Some(dx)])
    }
}

/// The sums of the `rows` rows of `length` elements in `x`, each divided by `divisor`, into `y`: for ops whose kernels
/// leave their result in parts.
pub(crate) fn sum_rows(
    rec: &mut Recorder,
    x: &GpuBuffer,
    [rows, length]: [usize; 2],
    divisor: f32,
    y: &GpuBuffer,
) -> Result<()> {
    let layout = Layout::contiguous(Shape::new([rows, length])?);
    let axes = Axes::new("sum", layout.shape, &[1])?;
    Reduce { fold: Fold::Sum, axes }.dispatch(rec, GpuView::new(x, layout), y, divisor)
}

/// The twin of [`sum_rows`] for one row.
pub(crate) fn sum_row(cpu: &Arc<CpuDevice>, x: &[f32], divisor: f32) -> Result<f32> {
    let mut y = [0.0];
    let layout = Layout::contiguous(Shape::new([x.len()])?);
    Fold::Sum.run(cpu, CpuView { data: x, layout }, &Axes::new("sum", layout.shape, &[0])?, &mut y)?;
    Ok(y[0] / divisor)
}

impl Tensor {
    fn all_axes(&self) -> Vec<isize> {
        (0..self.rank() as isize).collect()
    }

    /// Summed over the axes that `shape` broadcasts along, so that the result has that shape.
    ///
    /// # Errors
    /// `shape` does not broadcast to this tensor's.
    pub fn sum_to(&self, shape: Shape) -> Result<Tensor> {
        if self.shape() == shape {
            return Ok(self.clone());
        }
        // Checks that it does broadcast.
        Layout::contiguous(shape).expand(self.shape(), "sum_to")?;
        let lead = self.rank() - shape.rank();
        let stretched = |axis: usize| axis < lead || (shape[axis - lead] == 1 && self.shape()[axis] != 1);
        let axes: Vec<isize> =
            (0..self.rank()).filter(|&axis| stretched(axis)).map(|axis| axis as isize).collect();
        self.sum(&axes, true)?.reshape(shape)
    }

    /// The sum of all elements, of rank 0.
    ///
    /// # Errors
    /// The device fails.
    pub fn sum_all(&self) -> Result<Tensor> {
        self.sum(&self.all_axes(), false)
    }

    /// The mean of all elements, of rank 0; NaN of none.
    ///
    /// # Errors
    /// The device fails.
    pub fn mean_all(&self) -> Result<Tensor> {
        self.mean(&self.all_axes(), false)
    }

    /// The largest of all elements, of rank 0; NaN if one is NaN.
    ///
    /// # Errors
    /// No element, or the device fails.
    pub fn max_all(&self) -> Result<Tensor> {
        self.max(&self.all_axes(), false)
    }

    /// The smallest of all elements, of rank 0; NaN if one is NaN.
    ///
    /// # Errors
    /// No element, or the device fails.
    pub fn min_all(&self) -> Result<Tensor> {
        self.min(&self.all_axes(), false)
    }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident => $fold:expr),* $(,)?) => {
        impl Tensor {$(
            $(#[$doc])*
            /// Negative axes count from the end; `keepdim` keeps the reduced axes with length 1. No axes: nothing is
            /// reduced, as in NumPy.
            ///
            /// # Errors
            /// No such axis, one named twice, a tensor of ids, or the device fails; for `max` and `min` also an empty
            /// reduced axis.
            pub fn $name(&self, axes: &[isize], keepdim: bool) -> Result<Tensor> {
                let fold = $fold;
                self.fold_by(fold.name(), axes, keepdim, |axes| Reduce { fold, axes })
            }
        )*}
    };
}

methods! {
    /// The sum over `axes`; 0 over an empty axis.
    sum => Fold::Sum,
    /// The mean over `axes`; NaN over an empty axis.
    mean => Fold::Mean,
    /// The product over `axes`; 1 over an empty axis. The gradient is right with zeros among the factors too.
    prod => Fold::Prod,
    /// The largest over `axes`; NaN if one is NaN. Ties share the gradient evenly, as PyTorch's `amax`.
    max => Fold::Max,
    /// The smallest over `axes`; NaN if one is NaN. Ties share the gradient evenly, as PyTorch's `amin`.
    min => Fold::Min,
}
