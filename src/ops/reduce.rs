//! Reductions over any axes: sum, mean, max, min.

use super::{Walk, arity, floats, word};
use crate::cpu::simd::fold_run;
use crate::cpu::walk;
use crate::gpu::{GpuBuffer, Kernel, Recorder};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves, apply};
use crate::ops::binary::max_nan;
use crate::shape::{Layout, MAX_RANK, Shape, collapse};
use crate::tensor::Tensor;
use crate::{Error, Result, kernel, params};
use rayon::prelude::*;
use std::ops::Range;

pub(crate) const KERNELS: &[&Kernel] = &[&REDUCE];

const WG: u32 = 128;
/// The most elements of a slice that one workgroup folds.
const SLICE: usize = 8192;
/// The fewest and the most elements of a slice that one invocation folds alone.
const ALONE: (usize, usize) = (64, 1024);
/// Slices of a long row at least, whose invocations then read this many neighbours together.
const TOGETHER: usize = 16;
/// Invocations that a long reduction is cut up for.
const ENOUGH: usize = 1 << 16;

static REDUCE: Kernel = kernel!("reduce.wgsl", "reduce", reads: 1, writes: 1, params: Params,
    "OP": &[0, 1, 2], "FLAT": &[0, 1], "WG": &[WG], "LANES": &[1, WG]);

params! {
    struct Params {
        walk: Walk,
        reduced: Walk,
        outputs: u32,
        length: u32,
        slices: u32,
        columns: u32,
        divisor: f32,
        pad: [u32; 3],
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

    /// The CPU twin; one monomorphic loop a fold, so that the compiler can vectorise it.
    fn run(self, x: &[f32], kept: Layout, reduced: Layout, y: &mut [f32]) {
        match self {
            Fold::Sum | Fold::Mean => fold(0.0, |a, b| a + b, x, kept, reduced, y),
            Fold::Max => fold(f32::NEG_INFINITY, max_nan, x, kept, reduced, y),
            Fold::Min => fold(f32::INFINITY, |a, b| -max_nan(-a, -b), x, kept, reduced, y),
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
        let divisor = self.divisor(length);
        self.fold.run(x.data, kept, reduced, outputs[0].data);
        if divisor != 1.0 {
            outputs[0].data.iter_mut().for_each(|y| *y /= divisor);
        }
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
                let ties = saved.input(0)?.same(saved.output(0)?)?;
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
        let [kept, reduced] = [kept, reduced].map(|layout| collapse([layout])[0]);
        let nearest = |l: &Layout| l.shape.rank().checked_sub(1).map_or(usize::MAX, |last| l.strides[last]);
        let columns = nearest(&kept) < nearest(&reduced);
        let most = if columns { ALONE.1 } else { (length / TOGETHER).clamp(ALONE.0, ALONE.1) };
        let (lanes, size) = match length {
            0..=64 => (1, length),
            65..=SLICE if outputs < 64 && !columns => (WG, SLICE),
            _ => (1, (outputs * length / ENOUGH).clamp(ALONE.0, most)),
        };
        let slices = length.div_ceil(size.max(1)).max(1);
        let partial = if slices > 1 { Some(rec.scratch(outputs * slices)?) } else { None };
        let params = Params {
            walk: Walk::new(name, [kept])?,
            reduced: Walk::new(name, [reduced])?,
            outputs: word(name, outputs)?,
            length: word(name, length)?,
            slices: word(name, slices)?,
            columns: u32::from(columns),
            divisor: if slices > 1 { 1.0 } else { divisor },
            pad: [0; 3],
        };
        // The kernel counts up to these.
        word(name, outputs * slices)?;
        word(name, length + 4 * slices * lanes as usize)?;
        let groups = (outputs * slices).div_ceil((WG / lanes) as usize);
        let to = partial.as_ref().unwrap_or(y);
        rec.dispatch(
            &REDUCE,
            &[self.fold.code(), u32::from(reduced.shape.rank() <= 1), WG, lanes],
            &[x, to],
            &params,
            groups,
        )?;
        let Some(partial) = partial else { return Ok(()) };
        let shape = if columns { [slices, outputs] } else { [outputs, slices] };
        let axes = [columns, !columns, false, false, false, false];
        let split = Reduce { fold: self.fold, axes }.split(&Layout::contiguous(Shape::new(shape)?))?;
        self.dispatch(rec, &partial, split.kept, split.reduced, y, divisor)
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
    let reduce = Reduce { fold: Fold::Sum, axes: [false, true, false, false, false, false] };
    let split = reduce.split(&Layout::contiguous(Shape::new([rows, length])?))?;
    reduce.dispatch(rec, x, split.kept, split.reduced, y, divisor)
}

/// The twin of [`sum_rows`] for one row.
pub(crate) fn sum_row(x: &[f32], divisor: f32) -> Result<f32> {
    let mut y = [0.0];
    let row = Layout::contiguous(Shape::new([x.len()])?);
    Fold::Sum.run(x, Layout::contiguous(Shape::SCALAR), row, &mut y);
    Ok(y[0] / divisor)
}

/// Elements that lie evenly apart.
struct Run {
    start: usize,
    len: usize,
    step: usize,
}

/// A part of a walk, as runs.
fn runs(walk: Layout, range: Range<usize>) -> Vec<Run> {
    let [walk] = collapse([walk]);
    let Some((&inner, outer)) = walk.shape.split_last() else {
        return vec![Run { start: 0, len: range.len(), step: 0 }];
    };
    let step = walk.strides[outer.len()];
    let mut runs = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let (mut rest, first) = (at / inner, at % inner);
        let mut start = first * step;
        for axis in (0..outer.len()).rev() {
            start += rest % outer[axis] * walk.strides[axis];
            rest /= outer[axis];
        }
        let len = (inner - first).min(range.end - at);
        runs.push(Run { start, len, step });
        at += len;
    }
    runs
}

/// As the kernel: a reduction longer than a slice leaves a partial result each, and those are folded.
fn fold(
    identity: f32,
    merge: impl Fn(f32, f32) -> f32 + Copy + Sync,
    x: &[f32],
    kept: Layout,
    reduced: Layout,
    y: &mut [f32],
) {
    let (length, outputs) = (reduced.shape.numel(), y.len());
    let slices = length.div_ceil(SLICE);
    if slices <= 1 {
        return fold_slice(identity, merge, x, kept, &runs(reduced, 0..length), y);
    }
    let mut partial = vec![identity; slices * outputs];
    partial.par_chunks_mut(outputs).enumerate().for_each(|(slice, partial)| {
        let range = slice * SLICE..length.min((slice + 1) * SLICE);
        fold_slice(identity, merge, x, kept, &runs(reduced, range), partial);
    });
    let rows = Run { start: 0, len: slices, step: outputs };
    fold_slice(identity, merge, &partial, Layout { offset: 0, ..Layout::contiguous(kept.shape) }, &[rows], y);
}

/// Folds the same runs for every output; `kept` says where an output's begin.
fn fold_slice(
    identity: f32,
    merge: impl Fn(f32, f32) -> f32 + Copy + Sync,
    x: &[f32],
    kept: Layout,
    runs: &[Run],
    y: &mut [f32],
) {
    let length: usize = runs.iter().map(|run| run.len).sum();
    // Never too few outputs a task, so that neighbours can be folded row by row.
    let grain = (walk::GRAIN / length.max(1)).max(128);
    walk::rows_by(grain, y, [kept], |y, [start], [step]| {
        if step == 1 && y.len() > 1 {
            y.fill(identity);
            for at in runs.iter().flat_map(|run| (0..run.len).map(|j| start + run.start + j * run.step)) {
                y.iter_mut().zip(&x[at..]).for_each(|(y, &x)| *y = merge(*y, x));
            }
            return;
        }
        for (j, y) in y.iter_mut().enumerate() {
            *y = identity;
            for run in runs {
                let x = &x[start + j * step + run.start..];
                let part = match run.step {
                    1 => fold_run(identity, merge, |x| x, &x[..run.len]),
                    step => (0..run.len).fold(identity, |y, i| merge(y, x[i * step])),
                };
                *y = merge(*y, part);
            }
        }
    });
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
