//! Cumulative sums along an axis.

use super::slicing::{Slices, Slicing, are_interleaved, rows_along};
use super::{StridedIndexer, arity, floats, to_u32};
use crate::cpu::CpuDevice;
use crate::cpu::strided::{GRAIN, rows};
use crate::gpu::{GpuBuffer, Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, apply};
use crate::shape::{Layout, Shape};
use crate::tensor::Tensor;
use crate::{Result, params};
use rayon::prelude::*;
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&CUMSUM];

const NAME: &str = "cumsum";
/// Invocations per workgroup.
const WG: u32 = 128;
/// Elements per invocation, if several process one slice.
const EACH: usize = 8;

/// The stages of the kernel: whole rows in one dispatch, or the sums of slices and then the slices.
const WHOLE: u32 = 0;
const SUMS: u32 = 1;
const SLICES: u32 = 2;

static CUMSUM: Kernel = kernel!("cumsum.wgsl", "cumsum", reads: 2, writes: 1, params: Params,
    "STAGE": &[WHOLE, SUMS, SLICES], "WG": &[WG], "LANES": &[1, 16, WG]);

params! {
    struct Params {
        indexer: StridedIndexer, rows: u32, cols: u32, steps: [u32; 2], slices: u32, each: u32,
        columns: u32, pad: u32,
    }
}

/// How rows are divided among invocations.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// Invocations per slice.
    lanes: u32,
    /// Elements per invocation.
    each: usize,
    /// Slices per row.
    slices: usize,
}

impl Plan {
    fn new(software: bool, rows: usize, cols: usize, interleaved: bool) -> Plan {
        if !interleaved && !software {
            let lanes = if cols <= 16 * EACH { 16 } else { WG };
            return Plan { lanes, each: EACH, slices: cols.div_ceil(EACH * lanes as usize) };
        }
        // On a software rasterizer gathers cost the same wherever they read, and barriers are expensive.
        let units_wanted = if software { 256 } else { 1 << 14 };
        let slicing = Slicing { units_wanted, shortest: 64, most_slices: usize::MAX, longest: 16_384 };
        let Slices { count, size } = slicing.cut(rows, cols, 1);
        Plan { lanes: 1, each: size, slices: count }
    }

    /// The longest chain of additions behind an element.
    fn depth(self, software: bool, rows: usize, interleaved: bool) -> usize {
        let own = self.each + if self.lanes > 1 { self.each + self.lanes.ilog2() as usize + 1 } else { 0 };
        match self.slices {
            1 => own,
            slices => {
                let sums = Plan::new(software, rows, slices, interleaved);
                own + self.each + 1 + sums.depth(software, rows, interleaved)
            }
        }
    }
}

/// The longest chain of additions behind an element of `rows` rows of `cols`, on either device and in every layout; for
/// error bounds.
pub(crate) fn depth(rows: usize, cols: usize) -> usize {
    let cases = [(false, false), (false, true), (true, false), (true, true)];
    let depth = |(software, interleaved)| {
        Plan::new(software, rows, cols, interleaved).depth(software, rows, interleaved)
    };
    cases.map(depth).into_iter().max().unwrap_or(cols)
}

/// `y[i] = Σ x[k]` along `axis` over `k <= i`, or over `k >= i` if `backward`.
struct Cumsum {
    axis: usize,
    backward: bool,
}

impl Op for Cumsum {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        floats(NAME, inputs)?;
        arity::<1>(NAME, inputs).map(Vec::from)
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        outputs[0].numel()
    }

    /// The sums are in f64, as PyTorch's on the CPU.
    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (x, y) = (inputs[0], &mut outputs[0]);
        let (cols, inner) = (y.shape[self.axis], y.shape[self.axis + 1..].iter().product::<usize>());
        rows(y.data, [x.layout], |y, [start], [step]| {
            y.iter_mut().enumerate().for_each(|(j, y)| *y = x.data[start + j * step]);
        });
        let add = |sum: &mut f64, y: &mut f32| {
            *sum += f64::from(*y);
            *y = *sum as f32;
        };
        let blocks = y.data.par_chunks_mut(cols * inner).with_min_len(GRAIN.div_ceil(cols * inner));
        blocks.try_for_each(|block| {
            if inner == 1 {
                let sum = &mut 0.0;
                if self.backward {
                    block.iter_mut().rev().for_each(|y| add(sum, y));
                } else {
                    block.iter_mut().for_each(|y| add(sum, y));
                }
                return Ok(());
            }
            let mut sums = cpu.filled(0.0, inner)?;
            let mut row = |y: &mut [f32]| {
                let pairs = sums.par_iter_mut().zip(y).with_min_len(GRAIN);
                pairs.for_each(|(sum, y)| add(sum, y));
            };
            if self.backward {
                block.chunks_exact_mut(inner).rev().for_each(&mut row);
            } else {
                block.chunks_exact_mut(inner).for_each(&mut row);
            }
            Ok(())
        })
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (x, y) = (inputs[0], outputs[0]);
        let layouts = [x.layout, Layout::contiguous(y.shape)];
        self.dispatch(rec, layouts, [x.buffer, y.buffer])
    }

    fn backward(&self, _: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(apply(Cumsum { axis: self.axis, backward: !self.backward }, &[grad])?)])
    }
}

impl Cumsum {
    /// One dispatch for short rows. For long rows: one for the sums of their slices, those that scan these sums, and
    /// one for the slices.
    fn dispatch(&self, rec: &mut Recorder, layouts: [Layout; 2], [x, y]: [&GpuBuffer; 2]) -> Result<()> {
        let cols = layouts[0].shape[self.axis];
        let mut strided = layouts;
        let mut steps = [0; 2];
        for (layout, step) in strided.iter_mut().zip(&mut steps) {
            let (rows, stride) = rows_along(layout, self.axis)?;
            *layout = rows;
            *step = to_u32(NAME, stride)?;
            if self.backward {
                // From the last element backward, in steps that are negative modulo 2^32.
                layout.offset += (cols - 1) * stride;
                *step = step.wrapping_neg();
            }
        }
        let rows = strided[0].shape.numel();
        let columns = are_interleaved(&strided[0], layouts[0].strides[self.axis]);
        let Plan { lanes, each, slices } = Plan::new(rec.is_software(), rows, cols, columns);
        let params = Params {
            indexer: StridedIndexer::new(NAME, strided)?,
            rows: to_u32(NAME, rows)?,
            cols: to_u32(NAME, cols)?,
            steps,
            slices: to_u32(NAME, slices)?,
            each: to_u32(NAME, each)?,
            columns: u32::from(columns),
            pad: 0,
        };
        // Indices in the kernel go up to these.
        to_u32(NAME, rows * slices)?;
        to_u32(NAME, (slices + 1) * each * lanes as usize)?;
        let groups = (rows * slices).div_ceil((WG / lanes) as usize);
        let stage = |rec: &mut Recorder, stage: u32, buffers: [&GpuBuffer; 3]| {
            rec.dispatch(&CUMSUM, &[stage, WG, lanes], &buffers, &params, groups)
        };
        if slices == 1 {
            return stage(rec, WHOLE, [x, x, y]);
        }
        let (sums, before) = (rec.scratch(rows * slices)?, rec.scratch(rows * slices)?);
        stage(rec, SUMS, [x, x, &sums])?;
        let (shape, axis) = if columns { ([slices, rows], 0) } else { ([rows, slices], 1) };
        let parts = Layout::contiguous(Shape::new(shape)?);
        Cumsum { axis, backward: false }.dispatch(rec, [parts; 2], [&sums, &before])?;
        stage(rec, SLICES, [x, &before, y])
    }
}

impl Tensor {
    /// The cumulative sum along `axis`: element i is the sum of elements 0 to i.
    ///
    /// Negative axes count from the end. Views are read in place, without a copy.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// assert_eq!(x.cumsum(0)?.to_vec()?, [1.0, 3.0, 6.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, a tensor of ids, or the device fails.
    #[track_caller]
    pub fn cumsum(&self, axis: isize) -> Result<Tensor> {
        let axis = self.shape().axis(NAME, axis)?;
        apply(Cumsum { axis, backward: false }, &[self])
    }
}
