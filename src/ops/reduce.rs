//! Reductions over any axes: sum, mean, max, min.

use super::{Walk, arity, floats, word};
use crate::cpu::walk;
use crate::gpu::{GpuBuffer, Kernel, Recorder};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves, apply};
use crate::ops::binary::max_nan;
use crate::shape::{Layout, MAX_RANK, Shape};
use crate::tensor::Tensor;
use crate::{Error, Result, kernel, params};
use rayon::prelude::*;

pub(crate) const KERNELS: &[&Kernel] = &[&REDUCE];

const WG: u32 = 256;
/// One slice of a reduction holds at most this many elements, so that an invocation loops at most
/// `SLICE` times (LANES = 1) and 65,536 outputs' worth of work is spread over the device.
const SLICE: usize = 8192;

static REDUCE: Kernel = kernel!("reduce.wgsl", "reduce", reads: 1, writes: 1, params: Params,
    "OP": &[0, 1, 2], "WG": &[WG], "LANES": &[1, WG]);

params! {
    struct Params {
        walk: Walk,
        reduced: Walk,
        outputs: u32,
        length: u32,
        slices: u32,
        divisor: f32,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fold {
    Sum,
    Mean,
    Max,
    Min,
}

impl Fold {
    /// The number in `reduce.wgsl`.
    fn code(self) -> u32 {
        match self {
            Fold::Sum | Fold::Mean => 0,
            Fold::Max => 1,
            Fold::Min => 2,
        }
    }

    fn identity(self) -> f32 {
        match self {
            Fold::Sum | Fold::Mean => 0.0,
            Fold::Max => f32::NEG_INFINITY,
            Fold::Min => f32::INFINITY,
        }
    }

    fn merge(self, a: f32, b: f32) -> f32 {
        match self {
            Fold::Sum | Fold::Mean => a + b,
            Fold::Max => max_nan(a, b),
            Fold::Min => -max_nan(-a, -b),
        }
    }
}

/// A reduction; the reduced axes stay, with length 1.
#[derive(Debug, Clone)]
struct Reduce {
    fold: Fold,
    /// Whether each axis is reduced.
    axes: [bool; MAX_RANK],
}

/// An input's layout, split into the axes that stay and those that are folded away.
struct Split {
    kept: Layout,
    reduced: Layout,
}

impl Reduce {
    fn split(&self, x: &Layout) -> Result<Split> {
        let part = |wanted: bool, offset: usize| -> Result<Layout> {
            let axes: Vec<usize> = (0..x.shape.rank()).filter(|&k| self.axes[k] == wanted).collect();
            let dims: Vec<usize> = axes.iter().map(|&k| x.shape[k]).collect();
            let mut strides = [0; MAX_RANK];
            for (to, &from) in axes.iter().enumerate() {
                strides[to] = x.strides[from];
            }
            Ok(Layout { shape: Shape::new(dims)?, strides, offset })
        };
        Ok(Split { kept: part(false, x.offset)?, reduced: part(true, 0)? })
    }

    /// What the fold is divided by: the mean's count.
    fn divisor(&self, length: usize) -> f32 {
        if self.fold == Fold::Mean { length as f32 } else { 1.0 }
    }
}

impl Op for Reduce {
    fn name(&self) -> &'static str {
        match self.fold {
            Fold::Sum => "sum",
            Fold::Mean => "mean",
            Fold::Max => "max",
            Fold::Min => "min",
        }
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x] = arity(self.name(), inputs)?;
        floats(self.name(), inputs)?;
        let dims: Vec<usize> =
            x.shape.iter().zip(self.axes).map(|(&d, reduced)| if reduced { 1 } else { d }).collect();
        let out = Shape::new(dims)?;
        if matches!(self.fold, Fold::Max | Fold::Min) && x.shape.numel() == 0 && out.numel() > 0 {
            let message = format!("no element to choose from in a reduced axis of shape {}", x.shape);
            return Err(Error::shape(self.name(), message));
        }
        Ok(vec![Meta::f32(out)])
    }

    fn cpu(&self, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let x = inputs[0];
        let Split { kept, reduced } = self.split(&x.layout)?;
        let length = reduced.shape.numel();
        let (fold, divisor) = (self.fold, self.divisor(length));
        if length == 0 {
            outputs[0].data.fill(fold.identity() / divisor);
            return Ok(());
        }
        let [reduced] = crate::shape::collapse([reduced]);
        // A whole reduction to one number is cut up, so that all threads share it.
        if outputs[0].data.len() == 1 && reduced.shape.rank() == 1 && reduced.strides[0] == 1 {
            let parts: Vec<f32> = x.data[kept.offset..][..length]
                .par_chunks(walk::GRAIN)
                .map(|part| fold_run(fold, part.iter().copied()))
                .collect();
            outputs[0].data[0] = fold_run(fold, parts.into_iter()) / divisor;
            return Ok(());
        }
        let starts = offsets(&reduced);
        walk::rows(outputs[0].data, [kept], |y, [start], [step]| {
            if step == 1 && y.len() > 1 {
                // Neighbouring outputs have neighbouring inputs: fold whole rows.
                y.fill(fold.identity());
                for &from in &starts.outer {
                    for j in 0..starts.inner {
                        let row = &x.data[start + from + j * starts.step..][..y.len()];
                        y.iter_mut().zip(row).for_each(|(y, &x)| *y = fold.merge(*y, x));
                    }
                }
                y.iter_mut().for_each(|y| *y /= divisor);
                return;
            }
            for (j, y) in y.iter_mut().enumerate() {
                let runs = starts.outer.iter().map(|from| {
                    let run = &x.data[start + j * step + from..];
                    match starts.step {
                        1 => fold_run(fold, run[..starts.inner].iter().copied()),
                        step => fold_run(fold, run.iter().step_by(step.max(1)).take(starts.inner).copied()),
                    }
                });
                *y = fold_run(fold, runs) / divisor;
            }
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (x, y) = (inputs[0], outputs[0]);
        let Split { kept, reduced } = self.split(&x.layout)?;
        let length = reduced.shape.numel();
        self.dispatch(rec, x.buffer, kept, reduced, y.buffer, self.divisor(length))
    }

    fn saves(&self) -> Saves {
        match self.fold {
            Fold::Sum | Fold::Mean => Saves::default(),
            Fold::Max | Fold::Min => Saves { inputs: &[0], outputs: &[0] },
        }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let shape = saved.shape(0);
        let dx = match self.fold {
            Fold::Sum => grad.expand(shape)?,
            Fold::Mean => {
                let length = shape.iter().zip(self.axes).filter(|(_, reduced)| *reduced).map(|(&d, _)| d);
                grad.mul_scalar(1.0 / length.product::<usize>() as f32)?.expand(shape)?
            }
            // Evenly to all that equal the extreme, as PyTorch's amax.
            Fold::Max | Fold::Min => {
                let ties = saved.input(0)?.equal(saved.output(0)?)?;
                let count = apply(Reduce { fold: Fold::Sum, ..self.clone() }, &[&ties])?;
                ties.mul(&grad.div(&count)?)?
            }
        };
        Ok(vec![Some(dx)])
    }
}

impl Reduce {
    /// One dispatch, or where the reduction is long one that leaves a partial result a slice, and one that folds
    /// those.
    fn dispatch(
        &self,
        rec: &mut Recorder,
        x: &GpuBuffer,
        kept: Layout,
        reduced: Layout,
        y: &GpuBuffer,
        divisor: f32,
    ) -> Result<()> {
        let name = self.name();
        let (outputs, length) = (kept.shape.numel(), reduced.shape.numel());
        // One invocation an output where there are many, and where the reduction is short.
        let lanes = if length <= 64 || (outputs >= 4096 && length <= 1024) { 1 } else { WG };
        let slices = length.div_ceil(if lanes == 1 { 1024 } else { SLICE }).max(1);
        let partial = if slices > 1 { Some(rec.scratch(outputs * slices)?) } else { None };
        let params = Params {
            walk: Walk::new(name, [kept])?,
            reduced: Walk::new(name, [reduced])?,
            outputs: word(name, outputs)?,
            length: word(name, length)?,
            slices: word(name, slices)?,
            divisor: if slices > 1 { 1.0 } else { divisor },
        };
        word(name, outputs * slices)?;
        let groups = (outputs * slices).div_ceil((WG / lanes) as usize);
        let to = partial.as_ref().unwrap_or(y);
        rec.dispatch(&REDUCE, &[self.fold.code(), WG, lanes], &[x, to], &params, groups)?;
        let Some(partial) = partial else { return Ok(()) };
        let rows = Layout::contiguous(Shape::new([outputs, slices])?);
        let split =
            Reduce { fold: self.fold, axes: [false, true, false, false, false, false] }.split(&rows)?;
        self.dispatch(rec, &partial, split.kept, split.reduced, y, divisor)
    }
}

/// A reduced walk as runs: `inner` elements `step` apart, from each of `outer`.
struct Runs {
    outer: Vec<usize>,
    inner: usize,
    step: usize,
}

fn offsets(reduced: &Layout) -> Runs {
    let rank = reduced.shape.rank();
    let Some((&inner, outer)) = reduced.shape.split_last() else {
        return Runs { outer: vec![0], inner: 1, step: 1 };
    };
    let mut starts = vec![0];
    for (axis, &len) in outer.iter().enumerate() {
        let stride = reduced.strides[axis];
        starts = starts.iter().flat_map(|start| (0..len).map(move |i| start + i * stride)).collect();
    }
    Runs { outer: starts, inner, step: reduced.strides[rank - 1] }
}

/// Folds a run in eight strands, which the compiler can keep in one vector register and which err less than one.
fn fold_run(fold: Fold, run: impl Iterator<Item = f32>) -> f32 {
    let mut strands = [fold.identity(); 8];
    for (j, x) in run.enumerate() {
        strands[j % 8] = fold.merge(strands[j % 8], x);
    }
    strands.into_iter().fold(fold.identity(), |a, b| fold.merge(a, b))
}

impl Tensor {
    fn reduce(&self, fold: Fold, axes: &[isize], keepdim: bool) -> Result<Tensor> {
        let mut reduce = Reduce { fold, axes: [false; MAX_RANK] };
        for &axis in axes {
            let at = self.shape().axis(reduce.name(), axis)?;
            if std::mem::replace(&mut reduce.axes[at], true) {
                let message = format!("axis {axis} is named twice in {axes:?} for shape {}", self.shape());
                return Err(Error::shape(reduce.name(), message));
            }
        }
        let reduced = reduce.axes;
        let y = apply(reduce, &[self])?;
        if keepdim {
            return Ok(y);
        }
        let dims: Vec<usize> = (0..self.rank()).filter(|&k| !reduced[k]).map(|k| self.shape()[k]).collect();
        y.reshape(dims)
    }

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
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident => $fold:expr),* $(,)?) => {
        impl Tensor {$(
            $(#[$doc])*
            /// Negative axes count from the end; `keepdim` keeps the reduced axes with length 1. No axes: nothing is
            /// reduced, as in NumPy.
            ///
            /// # Errors
            /// No such axis, one named twice, or the device fails; for `max` and `min` also an empty reduced axis.
            pub fn $name(&self, axes: &[isize], keepdim: bool) -> Result<Tensor> {
                self.reduce($fold, axes, keepdim)
            }
        )*}
    };
}

methods! {
    /// The sum over `axes`; 0 over an empty axis.
    sum => Fold::Sum,
    /// The mean over `axes`; NaN over an empty axis.
    mean => Fold::Mean,
    /// The largest over `axes`; NaN if one is NaN. Ties share the gradient evenly, as PyTorch's `amax`.
    max => Fold::Max,
    /// The smallest over `axes`; NaN if one is NaN. Ties share the gradient evenly, as PyTorch's `amin`.
    min => Fold::Min,
}
