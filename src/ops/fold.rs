//! What all reductions share: which axes they fold, and the walk over them on both devices. An op brings its kernel, in
//! the terms of `shared/fold.wgsl`, and for its CPU twin the same as a [`Fold`].

use super::{Walk, arity, floats, word};
use crate::cpu::simd::Strands;
use crate::cpu::{CpuDevice, walk};
use crate::gpu::{GpuBuffer, Kernel, Recorder};
use crate::op::{CpuView, GpuView, Meta, Op, apply};
use crate::shape::{Layout, MAX_RANK, Shape, collapse};
use crate::tensor::Tensor;
use crate::{Error, Result, params};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Invocations a workgroup.
pub(crate) const WG: u32 = 128;
/// The kernels' constant LANES.
pub(crate) const LANES: &[u32] = &[1, WG];
/// The most elements of a slice that one workgroup folds, and that one task of the CPU does.
const SLICE: usize = 8192;
/// The fewest and the most elements of a slice that one invocation folds alone.
const ALONE: (usize, usize) = (64, 1024);
/// Slices of a long row at least, whose invocations then read this many neighbours together.
const TOGETHER: usize = 16;
/// Invocations that a long reduction is cut up for.
const ENOUGH: usize = 1 << 16;
/// Rows of columns that the CPU folds one after the other.
const BLOCK: usize = 64;
/// Columns that the CPU folds without memory from the device.
const FEW: usize = 64;

params! {
    pub(crate) struct Params {
        walk: Walk,
        reduced: Walk,
        outputs: u32,
        length: u32,
        slices: u32,
        columns: u32,
        value: f32,
        last: u32,
        pad: [u32; 2],
    }
}

/// Whether each axis is folded. Those that are stay, with length 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axes([bool; MAX_RANK]);

/// An input's layout, split into the axes that stay and those that are folded away.
#[derive(Clone, Copy)]
struct Split {
    kept: Layout,
    reduced: Layout,
}

impl Axes {
    /// # Errors
    /// No such axis, or one named twice.
    pub(crate) fn new(op: &'static str, shape: Shape, axes: &[isize]) -> Result<Axes> {
        let mut folded = [false; MAX_RANK];
        for &axis in axes {
            if std::mem::replace(&mut folded[shape.axis(op, axis)?], true) {
                let message = format!("axis {axis} is named twice in {axes:?} for shape {shape}");
                return Err(Error::shape(op, message));
            }
        }
        Ok(Axes(folded))
    }

    /// How many elements of `shape` are folded into one.
    pub(crate) fn length(&self, shape: Shape) -> usize {
        shape.iter().zip(self.0).filter(|(_, folded)| *folded).map(|(&d, _)| d).product()
    }

    /// The folded axes.
    pub(crate) fn list(&self) -> Vec<isize> {
        (0..MAX_RANK as isize).filter(|&axis| self.0[axis as usize]).collect()
    }

    /// The shape of what the only input is folded into. Where the fold has nothing to give for no element, it `chooses`.
    ///
    /// # Errors
    /// Not one input of `f32`, or nothing to choose from.
    pub(crate) fn infer(&self, op: &'static str, inputs: &[Meta], chooses: bool) -> Result<Shape> {
        let [x] = arity(op, inputs)?;
        floats(op, inputs)?;
        let dims = x.shape.iter().zip(self.0).map(|(&d, folded)| if folded { 1 } else { d });
        let out = Shape::new(dims.collect::<Vec<usize>>())?;
        if chooses && x.shape.numel() == 0 && out.numel() > 0 {
            let message = format!("no element to choose from in a reduced axis of shape {}", x.shape);
            return Err(Error::shape(op, message));
        }
        Ok(out)
    }

    fn split(&self, x: &Layout) -> Result<Split> {
        let part = |wanted: bool, offset: usize| -> Result<Layout> {
            let axes: Vec<usize> = (0..x.shape.rank()).filter(|&k| self.0[k] == wanted).collect();
            Ok(Layout { offset, ..x.permute(&axes)? })
        };
        Ok(Split { kept: part(false, x.offset)?, reduced: part(true, 0)? })
    }
}

/// How a kernel folds.
pub(crate) struct Folder<'a> {
    pub(crate) name: &'static str,
    pub(crate) kernel: &'static Kernel,
    /// The constants that the kernel has of its own: where it reads elements, and where it reads partial results.
    pub(crate) constants: [&'a [u32]; 2],
    /// The words of a partial result.
    pub(crate) words: usize,
    /// What the kernel makes a result of a state by.
    pub(crate) value: f32,
}

/// How a fold is shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    /// Invocations a slice.
    lanes: u32,
    /// Slices an output.
    slices: usize,
}

impl Plan {
    /// `columns`: whether the elements of neighbouring outputs are nearer to each other than those of one.
    fn new(outputs: usize, length: usize, columns: bool) -> Plan {
        let most = if columns { ALONE.1 } else { (length / TOGETHER).clamp(ALONE.0, ALONE.1) };
        let (lanes, size) = match length {
            0..=64 => (1, length),
            65..=SLICE if outputs < 64 && !columns => (WG, SLICE),
            _ => (1, (outputs * length / ENOUGH).clamp(ALONE.0, most)),
        };
        Plan { lanes, slices: length.div_ceil(size.max(1)).max(1) }
    }

    /// The most merges that an element passes through.
    fn depth(self, outputs: usize, length: usize, columns: bool) -> usize {
        let each = length.div_ceil(self.slices * self.lanes as usize);
        let own = each / 4 + 2 + each % 4 + self.lanes.ilog2() as usize;
        match self.slices {
            1 => own,
            slices => own + Plan::new(outputs, slices, columns).depth(outputs, slices, columns),
        }
    }
}

/// The most merges that an element passes through in the kernels where `length` are folded into each of `outputs`, in
/// whatever layout.
pub(crate) fn kernel_depth(outputs: usize, length: usize) -> usize {
    [false, true]
        .map(|columns| Plan::new(outputs, length, columns).depth(outputs, length, columns))
        .into_iter()
        .max()
        .unwrap_or(length)
}

/// As [`kernel_depth`], on either device: the depth of a sum, for the bound on its error.
pub(crate) fn depth(outputs: usize, length: usize) -> usize {
    // As `fold_slice` has it: strands and their joining, or blocks.
    let slice = |length: usize| {
        let strands = length.div_ceil(Strands::<f32>::COUNT) + Strands::<f32>::COUNT;
        strands.max(length.min(BLOCK) + length / BLOCK) + 1
    };
    let cpu = slice(length.min(SLICE)) + if length > SLICE { slice(length.div_ceil(SLICE)) } else { 0 };
    kernel_depth(outputs, length).max(cpu)
}

impl Folder<'_> {
    /// Folds `x` into `y`.
    ///
    /// # Errors
    /// More elements than the kernels count, or the device fails.
    pub(crate) fn dispatch(&self, rec: &mut Recorder, x: GpuView, axes: &Axes, y: &GpuBuffer) -> Result<()> {
        self.stage(rec, x.buffer, axes.split(&x.layout)?, y, 0)
    }

    /// One dispatch, or where the reduction is long one that leaves a partial result a slice, and those that fold them.
    fn stage(
        &self,
        rec: &mut Recorder,
        x: &GpuBuffer,
        split: Split,
        y: &GpuBuffer,
        parts: usize,
    ) -> Result<()> {
        let name = self.name;
        let [kept, reduced] = [split.kept, split.reduced].map(|layout| collapse([layout])[0]);
        let (outputs, length) = (kept.shape.numel(), reduced.shape.numel());
        let nearest = |l: &Layout| l.shape.rank().checked_sub(1).map_or(usize::MAX, |last| l.strides[last]);
        let columns = nearest(&kept) < nearest(&reduced);
        let Plan { lanes, slices } = Plan::new(outputs, length, columns);
        let last = slices == 1;
        let params = Params {
            walk: Walk::new(name, [kept])?,
            reduced: Walk::new(name, [reduced])?,
            outputs: word(name, outputs)?,
            length: word(name, length)?,
            slices: word(name, slices)?,
            columns: u32::from(columns),
            value: self.value,
            last: u32::from(last),
            pad: [0; 2],
        };
        // The kernel counts up to these.
        word(name, outputs * slices * self.words)?;
        word(name, length + 4 * slices * lanes as usize)?;
        let partial = if last { None } else { Some(rec.scratch(outputs * slices * self.words)?) };
        let constants = [self.constants[parts], &[u32::from(reduced.shape.rank() <= 1), WG, lanes]].concat();
        let groups = (outputs * slices).div_ceil((WG / lanes) as usize);
        rec.dispatch(self.kernel, &constants, &[x, partial.as_ref().unwrap_or(y)], &params, groups)?;
        let Some(partial) = partial else { return Ok(()) };
        let shape = if columns { [slices, outputs] } else { [outputs, slices] };
        let mut states = Layout::contiguous(Shape::new(shape)?);
        states.strides.iter_mut().for_each(|stride| *stride *= self.words);
        let axes = Axes([columns, !columns, false, false, false, false]);
        self.stage(rec, &partial, axes.split(&states)?, y, 1)
    }
}

/// A fold on the CPU: what is known of no element, that with the i-th element of a reduction on top, and what is known of
/// two sets of elements together.
#[derive(Clone, Copy)]
pub(crate) struct Fold<S, I, M> {
    pub(crate) identity: S,
    pub(crate) include: I,
    pub(crate) merge: M,
}

/// The CPU twin of every reduction. As the kernels: one longer than a slice leaves a partial result each, and those are
/// folded.
pub(crate) fn fold<S: Copy + Send + Sync>(
    cpu: &Arc<CpuDevice>,
    fold: Fold<S, impl Fn(S, f32, u32) -> S + Copy + Sync, impl Fn(S, S) -> S + Copy + Sync>,
    x: CpuView,
    axes: &Axes,
    y: &mut [S],
) -> Result<()> {
    let Split { kept, reduced } = axes.split(&x.layout)?;
    let (length, outputs) = (reduced.shape.numel(), y.len());
    let slices = length.div_ceil(SLICE);
    if slices <= 1 {
        return fold_slice(cpu, fold, x.data, kept, 0, &runs(reduced, 0..length), y);
    }
    let mut partial = cpu.filled(fold.identity, slices * outputs)?;
    partial.par_chunks_mut(outputs).enumerate().try_for_each(|(slice, partial)| {
        let range = slice * SLICE..length.min((slice + 1) * SLICE);
        fold_slice(cpu, fold, x.data, kept, range.start, &runs(reduced, range), partial)
    })?;
    let rows = Run { start: 0, len: slices, step: outputs };
    let Fold { identity, merge, .. } = fold;
    let states = Fold { identity, merge, include: |a, b, _| merge(a, b) };
    fold_slice(cpu, states, &partial, Layout::contiguous(kept.shape), 0, &[rows], y)
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

/// Folds the same runs for every output; `kept` says where an output's begin, `first` the number of their first element.
fn fold_slice<T: Copy + Sync, S: Copy + Send + Sync>(
    cpu: &Arc<CpuDevice>,
    fold: Fold<S, impl Fn(S, T, u32) -> S + Copy + Sync, impl Fn(S, S) -> S + Copy + Sync>,
    x: &[T],
    kept: Layout,
    first: usize,
    runs: &[Run],
    y: &mut [S],
) -> Result<()> {
    let Fold { identity, include, merge } = fold;
    let length: usize = runs.iter().map(|run| run.len).sum();
    if length == 0 {
        y.fill(identity); // where nothing lies at the outputs' places
        return Ok(());
    }
    // Never too few outputs a task, so that neighbours can be folded row by row.
    let grain = (walk::GRAIN / length.max(1)).max(128);
    walk::rows_by(grain, y, [kept], |y, [start], [step]| {
        if step == 1 && y.len() > 1 {
            return fold_columns(cpu, fold, &x[start..], first, runs, y);
        }
        for (j, y) in y.iter_mut().enumerate() {
            let mut strands = Strands::new(identity);
            let mut i = first as u32;
            for run in runs {
                let x = &x[start + j * step + run.start..];
                match run.step {
                    1 => strands.run(&x[..run.len], i, include),
                    step => strands.spread(run.len, |k| x[k * step], i, include),
                }
                i += run.len as u32;
            }
            *y = strands.join(merge);
        }
        Ok(())
    })
}

/// As [`fold_slice`] for outputs whose elements lie side by side: row by row.
fn fold_columns<T: Copy, S: Copy>(
    cpu: &Arc<CpuDevice>,
    Fold { identity, include, merge }: Fold<S, impl Fn(S, T, u32) -> S + Copy, impl Fn(S, S) -> S + Copy>,
    x: &[T],
    first: usize,
    runs: &[Run],
    y: &mut [S],
) -> Result<()> {
    let mut few = [identity; FEW];
    let mut many;
    let block = if y.len() <= FEW {
        &mut few[..y.len()]
    } else {
        many = cpu.filled(identity, y.len())?;
        &mut *many
    };
    y.fill(identity);
    let places = runs.iter().flat_map(|run| (0..run.len).map(move |j| run.start + j * run.step));
    for (at, i) in places.zip(first..) {
        block.iter_mut().zip(&x[at..]).for_each(|(state, &x)| *state = include(*state, x, i as u32));
        if (i + 1 - first).is_multiple_of(BLOCK) {
            y.iter_mut().zip(&*block).for_each(|(y, &state)| *y = merge(*y, state));
            block.fill(identity);
        }
    }
    y.iter_mut().zip(&*block).for_each(|(y, &state)| *y = merge(*y, state));
    Ok(())
}

impl Tensor {
    /// Applies the reduction that `op` makes of `axes`; without `keepdim` the axes then go.
    pub(crate) fn fold_by<O: Op>(
        &self,
        name: &'static str,
        axes: &[isize],
        keepdim: bool,
        op: impl FnOnce(Axes) -> O,
    ) -> Result<Tensor> {
        let axes = Axes::new(name, self.shape(), axes)?;
        let y = apply(op(axes), &[self])?;
        if keepdim {
            return Ok(y);
        }
        let dims: Vec<usize> = (0..self.rank()).filter(|&k| !axes.0[k]).map(|k| self.shape()[k]).collect();
        y.reshape(dims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernels' loops end long before lavapipe's 65,535 turns, whatever the size.
    #[test]
    fn no_invocation_loops_long() {
        for outputs in [1, 63, 64, 1000, 1 << 20] {
            for length in [1, 64, 65, 8192, 8193, 1 << 20, u32::MAX as usize / outputs] {
                for columns in [false, true] {
                    let Plan { lanes, slices } = Plan::new(outputs, length, columns);
                    assert!(length.div_ceil(slices * lanes as usize) <= 1024, "{outputs} of {length}");
                }
            }
        }
    }

    #[test]
    fn the_depth_stays_far_below_the_length() {
        assert!(depth(1, 3000) < 3000 / 10);
        assert!(depth(100, 1 << 20) < 1000);
        assert!(depth(1, 0) <= depth(1, 1));
    }
}
