//! Softmax and its logarithm over any axis.

use super::slicing::{RowPlan, are_interleaved, rows_along};
use super::{StridedIndexer, arity, floats, to_u32};
use crate::cpu::simd::{exp_below, larger, reduce_run, wide};
use crate::cpu::strided::{GRAIN, rows_by};
use crate::cpu::{CpuBuffer, CpuDevice};
use crate::gpu::{GpuBuffer, Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, Saved, Saves, apply};
use crate::shape::Layout;
use crate::tensor::Tensor;
use crate::{Result, params};
use rayon::prelude::*;
use std::convert::Infallible;
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&SOFTMAX, &SOFTMAX_GRAD];

/// The kernel's stages: whole rows in one dispatch, or slices of rows in two.
const WHOLE: u32 = 0;
const REDUCE: u32 = 1;
const WRITE: u32 = 2;

static SOFTMAX: Kernel = kernel!("softmax.wgsl", "softmax", reads: 1, writes: 2, params: Params,
    "LOG": &[0, 1], "STAGE": &[WHOLE, REDUCE, WRITE], "WG": &[RowPlan::WG], "LANES": RowPlan::LANES);
static SOFTMAX_GRAD: Kernel = kernel!("softmax_grad.wgsl", "softmax_grad", reads: 2, writes: 2, params: Params,
    "LOG": &[0, 1], "STAGE": &[WHOLE, REDUCE, WRITE], "WG": &[RowPlan::WG], "LANES": RowPlan::LANES);

params! {
    struct Params {
        indexer: StridedIndexer, rows: u32, cols: u32, steps: [u32; 2], slices: u32, size: u32,
        pad: [u32; 2],
    }
}

/// The longest chain of additions in the sum over one of `rows` rows of `cols`, on either device and for every layout;
/// for the error bound.
pub(crate) fn depth(rows: usize, cols: usize) -> usize {
    let cases = [(false, false), (false, true), (true, false), (true, true)];
    let kernels =
        cases.map(|(software, interleaved)| RowPlan::new(software, rows, cols, interleaved).depth());
    // The CPU twin of interleaved rows adds `cols` elements one after the other.
    kernels.into_iter().fold(cols, usize::max)
}

/// Dispatches a kernel over the rows along `axis`, whole or in slices. `operands`: the layouts that its indexer visits;
/// the first two have their own stride along `axis`. `parts`: words per partial result of a slice.
fn dispatch<const N: usize>(
    rec: &mut Recorder,
    name: &'static str,
    (kernel, log): (&'static Kernel, bool),
    axis: usize,
    operands: [Layout; N],
    buffers: &[&GpuBuffer],
    parts: usize,
) -> Result<()> {
    let mut strided = operands;
    for layout in &mut strided {
        *layout = rows_along(layout, axis)?.0;
    }
    let (rows, cols) = (strided[0].shape.numel(), operands[0].shape[axis]);
    let [x_step, y_step] = [operands[0].strides[axis], operands[1].strides[axis]];
    let plan = RowPlan::new(rec.is_software(), rows, cols, are_interleaved(&strided[0], x_step));
    let slices = plan.slices.count;
    let params = Params {
        indexer: StridedIndexer::new(name, strided)?,
        rows: to_u32(name, rows)?,
        cols: to_u32(name, cols)?,
        steps: [to_u32(name, x_step)?, to_u32(name, y_step)?],
        slices: to_u32(name, slices)?,
        size: to_u32(name, plan.slices.size)?,
        pad: [0; 2],
    };
    // The largest indices in the kernel.
    to_u32(name, cols + 4 * RowPlan::WG as usize)?;
    to_u32(name, rows * slices * parts)?;
    let parts = rec.scratch(if slices > 1 { rows * slices * parts } else { 1 })?;
    let buffers = [buffers, &[&parts]].concat();
    for &stage in if slices > 1 { &[REDUCE, WRITE][..] } else { &[WHOLE] } {
        let constants = [u32::from(log), stage, RowPlan::WG, plan.lanes];
        rec.dispatch(kernel, &constants, &buffers, &params, plan.groups(rows))?;
    }
    Ok(())
}

/// `exp(x - m) / s` along `axis`, with m the maximum of x and s the sum of `exp(x - m)`; or its logarithm
/// `x - m - ln s`.
struct Softmax {
    axis: usize,
    log: bool,
}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        if self.log { "log_softmax" } else { "softmax" }
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        floats(self.name(), inputs)?;
        arity::<1>(self.name(), inputs).map(Vec::from)
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        // The maximum, the difference from it, its exponential, the sum of these, and the quotient.
        outputs[0].numel().saturating_mul(5)
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (x, y) = (inputs[0], &mut outputs[0]);
        let (cols, inner) = (y.shape[self.axis], y.shape[self.axis + 1..].iter().product());
        let Ok(()) = rows_by(whole_rows(cols), y.data, [x.layout], |y, [start], [step]| {
            if inner > 1 {
                copy(y, &x.data[start..], step);
                return Ok::<(), Infallible>(());
            }
            wide(
                #[inline(always)]
                || {
                    for (r, row) in y.chunks_exact_mut(cols).enumerate() {
                        copy(row, &x.data[start + r * cols * step..], step);
                        self.row(row);
                    }
                },
            );
            Ok(())
        });
        if inner > 1 {
            y.data.par_chunks_mut(cols * inner).try_for_each(|block| self.columns(cpu, block, inner))?;
        }
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (x, y) = (inputs[0], outputs[0]);
        let operands = [x.layout, Layout::contiguous(y.shape)];
        dispatch(rec, self.name(), (&SOFTMAX, self.log), self.axis, operands, &[x.buffer, y.buffer], 2)
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[], outputs: &[0] }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let dx = apply(SoftmaxGrad { axis: self.axis, log: self.log }, &[saved.output(0)?, grad])?;
        Ok(vec![Some(dx)])
    }
}

impl Softmax {
    /// In place. NaN needs no special case: `exp(NaN - m)` makes the sum NaN, and so does an infinite m.
    #[inline(always)]
    fn row(&self, y: &mut [f32]) {
        let max = reduce_run(f32::NEG_INFINITY, larger, |x| x, y);
        if self.log {
            let sum = reduce_run(0.0, |a, b| a + b, |x| exp_below(x - max), y);
            let log_sum = sum.ln();
            y.iter_mut().for_each(|y| *y = *y - max - log_sum);
        } else {
            y.iter_mut().for_each(|y| *y = exp_below(*y - max));
            let sum = reduce_run(0.0, |a, b| a + b, |y| y, y);
            let scale = 1.0 / sum;
            y.iter_mut().for_each(|y| *y *= scale);
        }
    }

    /// As `row`, for `inner` interleaved rows.
    fn columns(&self, cpu: &Arc<CpuDevice>, block: &mut [f32], inner: usize) -> Result<()> {
        let max = reduce_rows(
            cpu,
            block,
            inner,
            f32::NEG_INFINITY,
            larger,
            #[inline(always)]
            |_, row, max| {
                max.iter_mut().zip(row).for_each(|(max, &mut x)| *max = larger(*max, x));
            },
        )?;
        let mut last = reduce_rows(
            cpu,
            block,
            inner,
            0.0,
            |a, b| a + b,
            #[inline(always)]
            |_, row, sum| {
                for ((y, &max), sum) in row.iter_mut().zip(&*max).zip(sum) {
                    let e = exp_below(*y - max);
                    *y = if self.log { *y - max } else { e };
                    *sum += e;
                }
            },
        )?;
        last.iter_mut().for_each(|sum| *sum = if self.log { sum.ln() } else { 1.0 / *sum });
        block.par_chunks_mut(inner).with_min_len(GRAIN.div_ceil(inner)).for_each(|row| {
            for (y, &last) in row.iter_mut().zip(&*last) {
                *y = if self.log { *y - last } else { *y * last };
            }
        });
        Ok(())
    }
}

/// The elements of a task: about GRAIN, in whole rows.
fn whole_rows(cols: usize) -> usize {
    (GRAIN / cols).max(1) * cols
}

fn copy(y: &mut [f32], x: &[f32], step: usize) {
    match step {
        1 => y.copy_from_slice(&x[..y.len()]),
        step => y.iter_mut().enumerate().for_each(|(j, y)| *y = x[j * step]),
    }
}

/// Reduces the rows of a block to one row of `inner` elements. `reduce` gets a row's index, the row, and the partial
/// result of its part of the block; `merge` merges the partial results.
fn reduce_rows(
    cpu: &Arc<CpuDevice>,
    block: &mut [f32],
    inner: usize,
    identity: f32,
    merge: impl Fn(f32, f32) -> f32,
    reduce: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) -> Result<CpuBuffer> {
    // At least 16 rows per part, or merging would cost as much as reducing.
    let part = inner * (GRAIN / inner).max(16);
    let mut parts = cpu.scratch(block.len().div_ceil(part) * inner)?;
    parts.fill(identity);
    block.par_chunks_mut(part).zip(parts.par_chunks_mut(inner)).enumerate().for_each(
        |(at, (rows, result))| {
            wide(
                #[inline(always)]
                || {
                    for (row, number) in rows.chunks_exact_mut(inner).zip(at * part / inner..) {
                        reduce(number, row, result);
                    }
                },
            );
        },
    );
    let mut whole = cpu.scratch(inner)?;
    whole.fill(identity);
    for part in parts.chunks_exact(inner) {
        whole.iter_mut().zip(part).for_each(|(whole, &part)| *whole = merge(*whole, part));
    }
    Ok(whole)
}

/// The gradient of [`Softmax`]. Inputs: its output y, and dy.
struct SoftmaxGrad {
    axis: usize,
    log: bool,
}

impl Op for SoftmaxGrad {
    fn name(&self) -> &'static str {
        if self.log { "log_softmax_grad" } else { "softmax_grad" }
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [y, _] = arity(self.name(), inputs)?;
        Ok(vec![y])
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        // The product with y and its sum, the difference, and the second product.
        outputs[0].numel().saturating_mul(4)
    }

    fn layout(&self, input: usize) -> Layouts {
        if input == 0 { Layouts::Contiguous } else { Layouts::Any }
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (y, dy, dx) = (inputs[0], inputs[1], &mut outputs[0]);
        let (cols, inner) = (dx.shape[self.axis], dx.shape[self.axis + 1..].iter().product());
        let Ok(()) = rows_by(whole_rows(cols), dx.data, [dy.layout, y.layout], |dx, [d0, y0], [step, _]| {
            if inner > 1 {
                copy(dx, &dy.data[d0..], step);
                return Ok::<(), Infallible>(());
            }
            wide(
                #[inline(always)]
                || {
                    let rows = dx.chunks_exact_mut(cols).zip(y.data[y0..].chunks_exact(cols));
                    for (r, (dx, y)) in rows.enumerate() {
                        copy(dx, &dy.data[d0 + r * cols * step..], step);
                        self.row(dx, y);
                    }
                },
            );
            Ok(())
        });
        if inner > 1 {
            let blocks = dx.data.par_chunks_mut(cols * inner).zip(y.slice().par_chunks(cols * inner));
            blocks.try_for_each(|(dx, y)| self.columns(cpu, dx, y, inner))?;
        }
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (y, dy, dx) = (inputs[0], inputs[1], outputs[0]);
        let operands = [y.layout, dy.layout, Layout::contiguous(dx.shape)];
        let buffers = [y.buffer, dy.buffer, dx.buffer];
        dispatch(rec, self.name(), (&SOFTMAX_GRAD, self.log), self.axis, operands, &buffers, 1)
    }
}

impl SoftmaxGrad {
    /// In place, from dy: `y dy - y sum(y dy)`, or `dy - exp(y) sum(dy)` for the logarithm.
    #[inline(always)]
    fn row(&self, dx: &mut [f32], y: &[f32]) {
        if !self.log {
            dx.iter_mut().zip(y).for_each(|(dx, &y)| *dx *= y);
        }
        let sum = reduce_run(0.0, |a, b| a + b, |dx| dx, dx);
        dx.iter_mut().zip(y).for_each(|(dx, &y)| *dx -= self.probability(y) * sum);
    }

    /// As `row`, for `inner` interleaved rows.
    fn columns(&self, cpu: &Arc<CpuDevice>, block: &mut [f32], y: &[f32], inner: usize) -> Result<()> {
        let sums = reduce_rows(
            cpu,
            block,
            inner,
            0.0,
            |a, b| a + b,
            #[inline(always)]
            |r, row, sums| {
                for ((dx, &y), sum) in row.iter_mut().zip(&y[r * inner..]).zip(sums) {
                    *dx *= if self.log { 1.0 } else { y };
                    *sum += *dx;
                }
            },
        )?;
        reduce_rows(
            cpu,
            block,
            inner,
            0.0,
            |a, _| a,
            #[inline(always)]
            |r, row, _| {
                for ((dx, &y), &sum) in row.iter_mut().zip(&y[r * inner..]).zip(&*sums) {
                    *dx -= self.probability(y) * sum;
                }
            },
        )?;
        Ok(())
    }

    #[inline(always)]
    fn probability(&self, y: f32) -> f32 {
        if self.log { exp_below(y) } else { y }
    }
}

impl Tensor {
    /// `exp(x) / sum(exp(x))` along `axis`, for any strides.
    ///
    /// Computed relative to the largest element, so that nothing overflows, with the online softmax of
    /// [Milakov & Gimelshein](https://arxiv.org/abs/1805.02867). A row that has a NaN or +inf, or only -inf, becomes
    /// NaN, as in PyTorch. Negative axes count from the end.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 1.0, 1.0, 1.0], [2, 2], &Device::cpu())?;
    /// assert_eq!(x.softmax(-1)?.to_vec()?, [0.5, 0.5, 0.5, 0.5]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, a tensor of ids, or the device fails.
    #[track_caller]
    pub fn softmax(&self, axis: isize) -> Result<Tensor> {
        let axis = self.shape().axis("softmax", axis)?;
        apply(Softmax { axis, log: false }, &[self])
    }

    /// The logarithm of [`Tensor::softmax`], accurate even where the softmax rounds to 0.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[0.0, -200.0], [1, 2], &Device::cpu())?;
    /// assert_eq!(x.log_softmax(-1)?.to_vec()?, [0.0, -200.0]);
    /// assert_eq!(x.softmax(-1)?.to_vec()?, [1.0, 0.0]); // whose logarithm would be -inf
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::softmax`].
    #[track_caller]
    pub fn log_softmax(&self, axis: isize) -> Result<Tensor> {
        let axis = self.shape().axis("log_softmax", axis)?;
        apply(Softmax { axis, log: true }, &[self])
    }
}
