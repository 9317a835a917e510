//! Average pooling, nearest and bilinear upsampling of planes, and their gradients: one kernel for separable weighted
//! windows, which `windows.rs` computes.

mod windows;

use super::{WG, arity, floats, to_u32};
use crate::cpu::CpuDevice;
use crate::cpu::host_list;
use crate::cpu::strided::GRAIN;
use crate::gpu::{GpuBuffer, Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, Saved, apply};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Error, Result, params};
use rayon::prelude::*;
use std::sync::Arc;
use windows::{Window, Windows};

pub(super) use windows::{Axis, Divisor, Method};

pub(crate) const KERNELS: &[&Kernel] = &[&AVG_POOL_UPSAMPLE];

static AVG_POOL_UPSAMPLE: Kernel = kernel!("avg_pool_upsample.wgsl", "avg_pool_upsample", reads: 2, writes: 1, params: Params,
    "WEIGHTED": &[0, 1], "PLANES": &[1, 4], "WG": &[WG]);

/// The most elements of a window that one invocation sums. Longer windows for few outputs would leave a device idle.
const LONGEST: usize = 1024;

params! {
    struct Params { size: [u32; 2], result: [u32; 2], planes: u32, x_offset: u32 }
}

/// Maps the last two axes of `[n, c, h, w]`, each from its input to its output length. `back`: the gradient, from
/// output to input with the same weights.
#[derive(Debug, Clone, Copy)]
struct AvgPoolUpsample {
    name: &'static str,
    /// The rows and the columns.
    axes: [Axis; 2],
    back: bool,
}

impl AvgPoolUpsample {
    /// The windows of the rows and of the columns of the result.
    ///
    /// # Errors
    /// The host is out of memory.
    fn windows(&self) -> Result<[Windows; 2]> {
        let windows = |axis: Axis| if self.back { axis.windows()?.transposed() } else { axis.windows() };
        Ok([windows(self.axes[0])?, windows(self.axes[1])?])
    }
}

impl Op for AvgPoolUpsample {
    fn name(&self) -> &'static str {
        self.name
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x] = arity(self.name, inputs)?;
        floats(self.name, inputs)?;
        let [rows, cols] = self.axes.map(|axis| if self.back { axis.input } else { axis.output });
        Ok(vec![Meta::f32(Shape::new([x.shape[0], x.shape[1], rows, cols])?)])
    }

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        let planes = inputs[0].shape.iter().take(2).product::<usize>() as u64;
        let terms = self.axes.iter().fold(planes, |all, axis| all.saturating_mul(axis.terms()));
        match self.axes[0].method {
            Method::Nearest if !self.back => 0,
            Method::Linear { .. } => terms.saturating_mul(4 + 3), // four products, and their sum
            _ => terms,
        }
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    /// Sums down the columns into a line, then along the line.
    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (x, y) = (inputs[0].slice(), &mut outputs[0].data);
        let [rows, cols] = &self.windows()?;
        let _tables = cpu.claim(rows.bytes() + cols.bytes())?;
        let (height, width) = (rows.list.len(), cols.list.len());
        // Tasks of whole lines.
        let lines = GRAIN.div_ceil(width);
        y.par_chunks_mut(lines * width).enumerate().try_for_each(|(task, y)| {
            let line = &mut *cpu.scratch(cols.input)?;
            for (at, y) in y.chunks_mut(width).enumerate() {
                let (plane, row) = ((task * lines + at) / height, (task * lines + at) % height);
                let x = &x[plane * rows.input * cols.input..][..rows.input * cols.input];
                let window = &rows.list[row];
                let line = down(rows, window, x, line);
                for (y, across) in y.iter_mut().zip(&cols.list) {
                    *y = cols.sum(across, line) * (window.scale * across.scale);
                }
            }
            Ok(())
        })
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (x, y) = (inputs[0], outputs[0]);
        let planes = y.shape[0] * y.shape[1];
        let mut from: Option<GpuBuffer> = None;
        let mut steps = steps(self.name, self.windows()?)?.into_iter().peekable();
        while let Some(windows) = steps.next() {
            let [rows, cols] = windows.each_ref().map(|axis| axis.list.len());
            let to = if steps.peek().is_some() { Some(rec.scratch(planes * rows * cols)?) } else { None };
            let x = from.as_ref().map_or((x.buffer, x.layout.offset), |from| (from, 0));
            self.step(rec, x, planes, &windows, to.as_ref().unwrap_or(y.buffer))?;
            from = to;
        }
        Ok(())
    }

    fn backward(&self, _: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(apply(AvgPoolUpsample { back: !self.back, ..*self }, &[grad])?)])
    }
}

/// The sum of each column of `x` over a window of rows, in `line`; a window of one unweighted row is returned in place.
fn down<'a>(rows: &Windows, window: &Window, x: &'a [f32], line: &'a mut [f32]) -> &'a [f32] {
    let width = line.len();
    let x = &x[window.first as usize * width..][..window.length as usize * width];
    if window.length == 1 && rows.weights.is_empty() {
        return x;
    }
    line.fill(0.0);
    for (k, x) in x.chunks_exact(width.max(1)).enumerate() {
        let weight = rows.weight(window, k);
        line.iter_mut().zip(x).for_each(|(line, &x)| *line += weight * x);
    }
    line
}

/// The windows of each dispatch. Rows and columns are summed together, unless summing one after the other takes far
/// fewer additions or a window is too long for one invocation.
fn steps(name: &'static str, windows: [Windows; 2]) -> Result<Vec<[Windows; 2]>> {
    let [rows, cols] = &windows;
    let count = |n: usize| n as f64;
    let additions = |[first, other]: [&Windows; 2]| {
        count(first.reads()) * count(other.input) + count(first.list.len()) * count(other.reads())
    };
    let costs = [additions([rows, cols]), additions([cols, rows])];
    let together = count(rows.reads()) * count(cols.reads());
    let longest = rows.longest().saturating_mul(cols.longest());
    if longest <= LONGEST && together <= 2.0 * costs[0].min(costs[1]) {
        return Ok(vec![windows]);
    }
    let mut steps = Vec::new();
    let mut size = [rows.input, cols.input];
    let order = if costs[0] <= costs[1] { [0, 1] } else { [1, 0] };
    let mut windows = windows.map(Some);
    for axis in order {
        let mut push = |windows: Windows| -> Result<()> {
            let other = Windows::same(size[1 - axis])?;
            size[axis] = windows.list.len();
            steps.push(if axis == 0 { [windows, other] } else { [other, windows] });
            Ok(())
        };
        let Some(mut rest) = windows[axis].take() else { continue };
        while let Some([parts, sums]) = rest.split(name, LONGEST)? {
            push(parts)?;
            rest = sums;
        }
        push(rest)?;
    }
    Ok(steps)
}

impl AvgPoolUpsample {
    fn step(
        &self,
        rec: &mut Recorder,
        (x, offset): (&GpuBuffer, usize),
        planes: usize,
        [rows, cols]: &[Windows; 2],
        y: &GpuBuffer,
    ) -> Result<()> {
        let w = |n: usize| to_u32(self.name, n);
        let (size, result) = ([rows.input, cols.input], [rows.list.len(), cols.list.len()]);
        let per = if planes == 1 { 1 } else { 4 };
        let count = planes.div_ceil(per) * result[0] * result[1];
        // Indices in the kernel go up to these.
        w(offset + planes * size[0] * size[1])?;
        w(planes * result[0] * result[1])?;
        w(count + WG as usize)?;

        let weighted = !(rows.weights.is_empty() && cols.weights.is_empty());
        let begin = 4 * (result[0] + result[1]);
        let lengths = [rows, cols].map(|axis| match axis.weights.is_empty() {
            true if weighted => axis.longest(),
            _ => axis.weights.len(),
        });
        let mut table: Vec<u32> = host_list(begin + lengths[0] + lengths[1])?;
        for (axis, begin) in [(rows, begin), (cols, begin + lengths[0])] {
            table.extend(axis.list.iter().flat_map(|&Window { first, length, weights, scale }| {
                [first, length, begin as u32 + weights, scale.to_bits()]
            }));
        }
        for (axis, length) in [rows, cols].into_iter().zip(lengths) {
            match axis.weights.is_empty() {
                true => table.resize(table.len() + length, 1.0f32.to_bits()),
                false => table.extend(axis.weights.iter().map(|weight| weight.to_bits())),
            }
        }
        w(table.len())?;
        let table = rec.table(&table)?;

        let params = Params {
            size: [w(size[0])?, w(size[1])?],
            result: [w(result[0])?, w(result[1])?],
            planes: w(planes)?,
            x_offset: w(offset)?,
        };
        let constants = [u32::from(weighted), per as u32, WG];
        rec.dispatch(&AVG_POOL_UPSAMPLE, &constants, &[x, &table, y], &params, count.div_ceil(WG as usize))
    }
}

/// The height and width of `[n, c, h, w]`; 0 is an error.
#[track_caller]
pub(super) fn plane(op: &'static str, x: Shape) -> Result<[usize; 2]> {
    match x[..] {
        [_, _, height, width] if height > 0 && width > 0 => Ok([height, width]),
        _ => Err(Error::shape(op, format!("wants [n, c, h, w] with rows and columns, got shape {x}"))),
    }
}

/// Average pooling or upsampling of the last two axes of `[n, c, h, w]`, whose lengths are the inputs of `axes`.
#[track_caller]
pub(super) fn avg_pool_upsample(name: &'static str, x: &Tensor, axes: [Axis; 2]) -> Result<Tensor> {
    for axis in axes {
        // The numbers of a table have 32 bits.
        to_u32(name, axis.input.max(axis.output).saturating_mul(4))?;
    }
    apply(AvgPoolUpsample { name, axes, back: false }, &[x])
}
