//! The common part of all reductions: the reduced axes, and how each device visits them. An op supplies a kernel that
//! imports `shared/reduce.wgsl`, and a [`CpuReduction`] for its CPU twin.

use super::slicing::{Slicing, are_interleaved};
use super::{StridedIndexer, arity, floats, to_u32};
use crate::cpu::simd::{Strands, wide};
use crate::cpu::{CpuDevice, strided};
use crate::gpu::{GpuBuffer, Kernel, Recorder};
use crate::op::{CpuView, GpuView, Meta, Op, apply};
use crate::shape::{Layout, MAX_RANK, Shape, collapse};
use crate::tensor::Tensor;
use crate::{Error, Result, params};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Invocations per workgroup.
pub(crate) const WG: u32 = 128;
/// The values of the kernels' constant LANES.
pub(crate) const LANES: &[u32] = &[1, WG];
/// The longest slice that one workgroup, or one CPU task, reduces.
const SLICE: usize = 8192;
/// How long reductions are cut, in invocations, each of which reduces a slice.
const SLICING: Slicing =
    Slicing { units_wanted: 1 << 16, shortest: 64, most_slices: usize::MAX, longest: 1024 };
/// The fewest slices of a long row. Slices interleave, so this many invocations read adjacent elements.
const FEWEST_SLICES: usize = 16;
/// Rows that the CPU reduces to one partial result per column.
const BLOCK: usize = 64;
/// Columns whose partial results the CPU keeps on the stack.
const FEW: usize = 64;

params! {
    pub(crate) struct Params {
        indexer: StridedIndexer, reduced: StridedIndexer, outputs: u32, length: u32, slices: u32,
        columns: u32, value: f32, last: u32, pad: [u32; 2],
    }
}

/// Whether each axis is reduced. Reduced axes are kept with length 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axes([bool; MAX_RANK]);

/// An input's layout, split into kept and reduced axes.
#[derive(Clone, Copy)]
struct Split {
    kept: Layout,
    reduced: Layout,
}

impl Axes {
    /// # Errors
    /// No such axis, or one named twice.
    #[track_caller]
    pub(crate) fn new(op: &'static str, shape: Shape, axes: &[isize]) -> Result<Axes> {
        let mut reduced = [false; MAX_RANK];
        for &axis in axes {
            if std::mem::replace(&mut reduced[shape.axis(op, axis)?], true) {
                let message = format!("axis {axis} is named twice in {axes:?} for shape {shape}");
                return Err(Error::shape(op, message));
            }
        }
        Ok(Axes(reduced))
    }

    /// The number of elements of `shape` that are reduced to one.
    pub(crate) fn length(&self, shape: Shape) -> usize {
        shape.iter().zip(self.0).filter(|(_, reduced)| *reduced).map(|(&d, _)| d).product()
    }

    /// The reduced axes.
    pub(crate) fn list(&self) -> Vec<isize> {
        (0..MAX_RANK as isize).filter(|&axis| self.0[axis as usize]).collect()
    }

    /// The shape of the result for a single input. `chooses`: whether the reduction picks an element, so that an empty
    /// reduction is an error.
    ///
    /// # Errors
    /// Not a single input of `f32`, or no element to choose from.
    pub(crate) fn infer(&self, op: &'static str, inputs: &[Meta], chooses: bool) -> Result<Shape> {
        let [x] = arity(op, inputs)?;
        floats(op, inputs)?;
        let dims = x.shape.iter().zip(self.0).map(|(&d, reduced)| if reduced { 1 } else { d });
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

/// A reduction on a GPU.
pub(crate) struct GpuReduction<'a> {
    pub(crate) name: &'static str,
    pub(crate) kernel: &'static Kernel,
    /// The kernel's own constants for reducing elements, and for reducing partial results.
    pub(crate) constants: [&'a [u32]; 2],
    /// Words per partial result.
    pub(crate) words: usize,
    /// A number that the kernel needs to make a result of a state, such as a divisor.
    pub(crate) value: f32,
}

/// How a reduction is divided among invocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    /// Invocations per slice.
    lanes: u32,
    /// Slices per output.
    slices: usize,
}

impl Plan {
    /// `columns`: whether neighbouring outputs are nearer in memory than neighbouring elements of one reduction.
    fn new(outputs: usize, length: usize, columns: bool) -> Plan {
        let Slicing { shortest, longest, .. } = SLICING;
        let longest = if columns { longest } else { (length / FEWEST_SLICES).clamp(shortest, longest) };
        match length {
            0..=64 => Plan { lanes: 1, slices: 1 },
            65..=SLICE if outputs < 64 && !columns => Plan { lanes: WG, slices: 1 },
            _ => Plan { lanes: 1, slices: Slicing { longest, ..SLICING }.cut(outputs, length, 1).count },
        }
    }

    /// The longest chain of merges of an element.
    fn depth(self, outputs: usize, length: usize, columns: bool) -> usize {
        let each = length.div_ceil(self.slices * self.lanes as usize);
        let own = each / 4 + 2 + each % 4 + self.lanes.ilog2() as usize;
        match self.slices {
            1 => own,
            slices => own + Plan::new(outputs, slices, columns).depth(outputs, slices, columns),
        }
    }
}

/// The longest chain of merges in the kernels when `length` elements are reduced to each of `outputs`, over all
/// layouts.
pub(crate) fn kernel_depth(outputs: usize, length: usize) -> usize {
    [false, true]
        .map(|columns| Plan::new(outputs, length, columns).depth(outputs, length, columns))
        .into_iter()
        .max()
        .unwrap_or(length)
}

/// The larger of [`kernel_depth`] and the CPU twin's depth, for the error bound of a sum.
pub(crate) fn depth(outputs: usize, length: usize) -> usize {
    // As in `reduce_slice`: strands, which are then joined, or blocks of rows.
    let slice = |length: usize| {
        let strands = length.div_ceil(Strands::<f32>::COUNT) + Strands::<f32>::COUNT;
        strands.max(length.min(BLOCK) + length / BLOCK) + 1
    };
    let cpu = slice(length.min(SLICE)) + if length > SLICE { slice(length.div_ceil(SLICE)) } else { 0 };
    kernel_depth(outputs, length).max(cpu)
}

impl GpuReduction<'_> {
    /// Reduces `x` into `y`.
    ///
    /// # Errors
    /// More elements than the kernels count, or the device fails.
    pub(crate) fn dispatch(&self, rec: &mut Recorder, x: GpuView, axes: &Axes, y: &GpuBuffer) -> Result<()> {
        self.stage(rec, x.buffer, axes.split(&x.layout)?, y, 0)
    }

    /// Dispatches the kernel. For a long reduction it stores one partial result per slice, and further dispatches
    /// reduce those. `parts` is 1 if `x` holds partial results.
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
        let step = reduced.shape.rank().checked_sub(1).map_or(usize::MAX, |last| reduced.strides[last]);
        let columns = are_interleaved(&kept, step);
        let Plan { lanes, slices } = Plan::new(outputs, length, columns);
        let last = slices == 1;
        let params = Params {
            indexer: StridedIndexer::new(name, [kept])?,
            reduced: StridedIndexer::new(name, [reduced])?,
            outputs: to_u32(name, outputs)?,
            length: to_u32(name, length)?,
            slices: to_u32(name, slices)?,
            columns: u32::from(columns),
            value: self.value,
            last: u32::from(last),
            pad: [0; 2],
        };
        // The largest indices in the kernel.
        to_u32(name, outputs * slices * self.words)?;
        to_u32(name, length + 4 * slices * lanes as usize)?;
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

/// The CPU twin of a reduction: the identity, the update of a partial result by the i-th element, and the merge of two
/// partial results.
#[derive(Clone, Copy)]
pub(crate) struct CpuReduction<S, I, M> {
    pub(crate) identity: S,
    pub(crate) update: I,
    pub(crate) merge: M,
}

/// The CPU twin of every reduction. Like the kernels, it reduces long reductions to one partial result per slice, and
/// then reduces those.
pub(crate) fn reduce<S: Copy + Send + Sync>(
    cpu: &Arc<CpuDevice>,
    reduction: CpuReduction<S, impl Fn(S, f32, u32) -> S + Copy + Sync, impl Fn(S, S) -> S + Copy + Sync>,
    x: CpuView,
    axes: &Axes,
    y: &mut [S],
) -> Result<()> {
    let Split { kept, reduced } = axes.split(&x.layout)?;
    let (length, outputs) = (reduced.shape.numel(), y.len());
    let slices = length.div_ceil(SLICE);
    if slices <= 1 {
        return reduce_slice(cpu, reduction, x.data, kept, 0, &runs(reduced, 0..length), y);
    }
    let mut partial = cpu.filled(reduction.identity, slices * outputs)?;
    partial.par_chunks_mut(outputs).enumerate().try_for_each(|(slice, partial)| {
        let range = slice * SLICE..length.min((slice + 1) * SLICE);
        reduce_slice(cpu, reduction, x.data, kept, range.start, &runs(reduced, range), partial)
    })?;
    let rows = Run { start: 0, len: slices, step: outputs };
    let CpuReduction { identity, merge, .. } = reduction;
    let states = CpuReduction { identity, merge, update: |a, b, _| merge(a, b) };
    reduce_slice(cpu, states, &partial, Layout::contiguous(kept.shape), 0, &[rows], y)
}

/// Elements at a constant stride.
struct Run {
    start: usize,
    len: usize,
    step: usize,
}

/// Part of a layout, as runs.
fn runs(layout: Layout, range: Range<usize>) -> Vec<Run> {
    let [layout] = collapse([layout]);
    let Some((&inner, outer)) = layout.shape.split_last() else {
        return vec![Run { start: 0, len: range.len(), step: 0 }];
    };
    let step = layout.strides[outer.len()];
    let mut runs = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let (mut rest, first) = (at / inner, at % inner);
        let mut start = first * step;
        for axis in (0..outer.len()).rev() {
            start += rest % outer[axis] * layout.strides[axis];
            rest /= outer[axis];
        }
        let len = (inner - first).min(range.end - at);
        runs.push(Run { start, len, step });
        at += len;
    }
    runs
}

/// Reduces the same runs for every output. `kept`: the offset of an output's runs. `first`: the index of their first
/// element.
fn reduce_slice<T: Copy + Sync, S: Copy + Send + Sync>(
    cpu: &Arc<CpuDevice>,
    reduction: CpuReduction<S, impl Fn(S, T, u32) -> S + Copy + Sync, impl Fn(S, S) -> S + Copy + Sync>,
    x: &[T],
    kept: Layout,
    first: usize,
    runs: &[Run],
    y: &mut [S],
) -> Result<()> {
    let CpuReduction { identity, update, merge } = reduction;
    let length: usize = runs.iter().map(|run| run.len).sum();
    if length == 0 {
        y.fill(identity); // x may have no elements
        return Ok(());
    }
    // At least 128 outputs per task, so that `reduce_columns` has adjacent ones.
    let grain = (strided::GRAIN / length.max(1)).max(128);
    strided::rows_by(grain, y, [kept], |y, [start], [step]| {
        if step == 1 && y.len() > 1 {
            return reduce_columns(cpu, reduction, &x[start..], first, runs, y);
        }
        wide(
            #[inline(always)]
            || {
                for (j, y) in y.iter_mut().enumerate() {
                    let mut strands = Strands::new(identity);
                    let mut i = first as u32;
                    for run in runs {
                        let x = &x[start + j * step + run.start..];
                        match run.step {
                            1 => strands.run(&x[..run.len], i, update),
                            step => strands.spread(run.len, |k| x[k * step], i, update),
                        }
                        i += run.len as u32;
                    }
                    *y = strands.join(merge);
                }
            },
        );
        Ok(())
    })
}

/// As [`reduce_slice`], row by row, for outputs that are adjacent in memory.
fn reduce_columns<T: Copy, S: Copy>(
    cpu: &Arc<CpuDevice>,
    CpuReduction { identity, update, merge }: CpuReduction<
        S,
        impl Fn(S, T, u32) -> S + Copy,
        impl Fn(S, S) -> S + Copy,
    >,
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
    wide(
        #[inline(always)]
        || {
            for (at, i) in places.zip(first..) {
                let row = &x[at..][..block.len()];
                for (state, &x) in block.iter_mut().zip(row) {
                    *state = update(*state, x, i as u32);
                }
                if (i + 1 - first).is_multiple_of(BLOCK) {
                    y.iter_mut().zip(&*block).for_each(|(y, &state)| *y = merge(*y, state));
                    block.fill(identity);
                }
            }
            y.iter_mut().zip(&*block).for_each(|(y, &state)| *y = merge(*y, state));
        },
    );
    Ok(())
}

impl Tensor {
    /// Applies the reduction that `op` returns for `axes`. Without `keepdim` the reduced axes are removed.
    #[track_caller]
    pub(crate) fn reduce_by<O: Op>(
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

    /// The kernels' loops end long before lavapipe's 65,535 iterations, whatever the size.
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
