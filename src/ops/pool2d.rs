//! Max pooling over the last two axes.

use super::copy::Fill;
use super::{WG, arity, floats, to_u32};
use crate::cpu::strided::GRAIN;
use crate::cpu::{CpuDevice, CpuList};
use crate::gpu::{Kernel, MOST_ITERATIONS, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, Saved, Saves, apply};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Error, Result, params};
use rayon::prelude::*;
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&MAX_POOL2D, &GATHER, &SCATTER];

static MAX_POOL2D: Kernel = kernel!("max_pool2d.wgsl", "max_pool2d", reads: 1, writes: 2, params: Params,
    "KERNEL": &[0, 2, 3], "WG": &[WG], "PER": &[1, PER]);
static GATHER: Kernel = kernel!("max_pool2d_grad.wgsl", "gather", reads: 2, writes: 1, params: GradParams,
    "WG": &[WG], "PER": &[1, PER]);
static SCATTER: Kernel = kernel!("max_pool2d_grad.wgsl", "scatter", reads: 2, writes: 1, params: GradParams,
    "WG": &[WG], "PER": &[1, PER]);

/// Elements per invocation, if its loops stay short enough. Only the first position takes an integer division.
const PER: u32 = 4;
/// The index that marks a window entirely in the padding.
const NOWHERE: u32 = u32::MAX;

/// The struct of the same name in `shared/plane_index.wgsl`: coordinates in a stack of planes.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct PlaneIndex {
    step: [u32; 3],
    count: u32,
    size: [u32; 2],
    pad: [u32; 2],
}

impl PlaneIndex {
    fn new(op: &'static str, planes: usize, size: [usize; 2]) -> Result<PlaneIndex> {
        let [rows, cols] = [to_u32(op, size[0])?, to_u32(op, size[1])?];
        let count = to_u32(op, planes * size[0] * size[1])?;
        Ok(PlaneIndex {
            step: [WG / cols / rows, WG / cols % rows, WG % cols],
            count,
            size: [rows, cols],
            pad: [0; 2],
        })
    }
}

params! {
    struct Params {
        out: PlaneIndex, size: [u32; 2], kernel: [u32; 2], stride: [u32; 2], padding: [u32; 2],
        dilation: [u32; 2], x_offset: u32, pad: u32,
    }
}

params! {
    struct GradParams {
        indexer: PlaneIndex, other: [u32; 2], stride: [u32; 2], padding: [u32; 2], cover: [u32; 2],
        dy_offset: u32, pad: [u32; 3],
    }
}

/// The windows of a pooling. Pairs are (vertical, horizontal).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pool2dOptions {
    /// The size of a window.
    pub kernel: [usize; 2],
    /// The distance between adjacent windows.
    pub stride: [usize; 2],
    /// The padding on each side; at most half the kernel.
    pub padding: [usize; 2],
    /// The distance between adjacent elements of a window.
    pub dilation: [usize; 2],
    /// Whether the number of windows is rounded up. A window that would start in the padding at the end is dropped.
    pub ceil_mode: bool,
}

impl Pool2dOptions {
    /// Adjacent, non-overlapping windows of this size, without padding.
    pub fn new(kernel: [usize; 2]) -> Pool2dOptions {
        Pool2dOptions { kernel, stride: kernel, padding: [0; 2], dilation: [1; 2], ceil_mode: false }
    }

    /// The distance between a window's first and last element.
    fn span(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1).saturating_mul(self.dilation[axis])
    }

    /// The number of windows along an axis of length `len`, by PyTorch's rule; `None` if not even one fits.
    fn windows(&self, axis: usize, len: usize) -> Option<usize> {
        let (stride, padding) = (self.stride[axis], self.padding[axis]);
        let spare = if self.ceil_mode { stride - 1 } else { 0 };
        let room = (len + 2 * padding + spare).checked_sub(self.span(axis).saturating_add(1))?;
        let count = room / stride + 1;
        let starts_outside = self.ceil_mode && (count - 1) * stride >= len + padding;
        Some(if starts_outside { count - 1 } else { count })
    }
}

/// The sizes of the pooled planes.
struct Geometry {
    planes: usize,
    input: [usize; 2],
    output: [usize; 2],
    /// The most windows along each axis that contain one element.
    cover: [usize; 2],
}

impl Pool2dOptions {
    /// Checks the options against the shape. Returns the plane sizes of x and of the result.
    #[track_caller]
    pub(super) fn sizes(&self, op: &'static str, x: Shape) -> Result<([usize; 2], [usize; 2])> {
        let &[_, _, h, w] = &*x else {
            return Err(Error::shape(op, format!("wants [n, c, h, w], got shape {x}")));
        };
        let Pool2dOptions { kernel, stride, padding, dilation, .. } = *self;
        if [kernel, stride, dilation].iter().flatten().any(|&n| n == 0) {
            return Err(Error::argument(op, format!("a kernel, stride or dilation of 0 in {self:?}")));
        }
        if (0..2).any(|k| padding[k] > kernel[k] / 2) {
            let message = format!("padding {padding:?} is more than half the kernel {kernel:?}");
            return Err(Error::argument(op, message));
        }
        // Keeps positions from overflowing.
        to_u32(op, h * w)?;
        let all = [kernel, stride, padding, dilation, [h, w], [self.span(0), self.span(1)]];
        if let Some(size) = all.iter().flatten().find(|&&size| size > u32::MAX as usize / 8) {
            return Err(Error::argument(op, format!("a size of {size} in {self:?} for shape {x}")));
        }
        let (Some(oh), Some(ow), 1.., 1..) = (self.windows(0, h), self.windows(1, w), h, w) else {
            return Err(Error::shape(op, format!("no window of {self:?} fits shape {x}")));
        };
        Ok(([h, w], [oh, ow]))
    }

    /// As [`Pool2dOptions::sizes`]; also checks that one invocation can visit a window, or all windows that contain an
    /// element.
    #[track_caller]
    fn geometry(&self, op: &'static str, x: Shape) -> Result<Geometry> {
        let (input, output) = self.sizes(op, x)?;
        let Pool2dOptions { kernel, stride, .. } = *self;
        let cover = [0, 1].map(|k| (self.span(k) / stride[k] + 1).min(output[k]));
        if rounds(kernel).max(rounds(cover)) >= MOST_ITERATIONS {
            let message = format!(
                "{self:?} is over {MOST_ITERATIONS} rounds of a loop: windows of {kernel:?} elements, and windows of \
                 which {cover:?} overlap; Tensor::max reduces whole axes"
            );
            return Err(Error::argument(op, message));
        }
        Ok(Geometry { planes: x[0] * x[1], input, output, cover })
    }

    /// The shape of the result for `x`.
    pub(crate) fn output_shape(&self, x: Shape) -> Result<Shape> {
        let Geometry { output: [oh, ow], .. } = self.geometry("max_pool2d", x)?;
        Shape::new([x[0], x[1], oh, ow])
    }
}

/// Iterations per element of two nested loops over `size`, including the last test of each loop.
fn rounds(size: [usize; 2]) -> usize {
    size[0].saturating_mul(size[1].saturating_add(2)).saturating_add(2)
}

/// Elements per invocation, if it loops over `size` for each.
fn per(size: [usize; 2]) -> u32 {
    if rounds(size) * (PER as usize) < MOST_ITERATIONS { PER } else { 1 }
}

fn words(op: &'static str, pair: [usize; 2]) -> Result<[u32; 2]> {
    Ok([to_u32(op, pair[0])?, to_u32(op, pair[1])?])
}

/// Output 1 is the position, within its plane, of each window's maximum.
#[derive(Debug, Clone, Copy)]
struct MaxPool2d(Pool2dOptions);

/// The part of a window along one axis that lies inside the plane: `taps` elements from `first` on.
#[derive(Clone, Copy)]
struct WindowSpan {
    first: usize,
    taps: usize,
}

impl Pool2dOptions {
    /// The parts of all windows along an axis of length `len` that lie inside the plane.
    fn parts(
        &self,
        cpu: &Arc<CpuDevice>,
        axis: usize,
        len: usize,
        windows: usize,
    ) -> Result<CpuList<WindowSpan>> {
        let (step, padding) = (self.dilation[axis], self.padding[axis]);
        let starts = (0..windows).map(|window| window * self.stride[axis]);
        let part = |start: usize| {
            let skipped = padding.saturating_sub(start).div_ceil(step);
            let end = self.kernel[axis].min((len + padding).saturating_sub(start).div_ceil(step));
            WindowSpan {
                first: (start + skipped * step).wrapping_sub(padding),
                taps: end.saturating_sub(skipped),
            }
        };
        cpu.list(windows, starts.map(part))
    }
}

/// The maximum of one window and its position, in a plane with rows of `width`.
fn largest(x: &[f32], width: usize, [rows, cols]: [WindowSpan; 2], step: [usize; 2]) -> (f32, u32) {
    if rows.taps == 0 || cols.taps == 0 {
        return (f32::NEG_INFINITY, NOWHERE);
    }
    let mut at = rows.first * width + cols.first;
    for row in (0..rows.taps).map(|k| rows.first + k * step[0]) {
        for col in (0..cols.taps).map(|k| cols.first + k * step[1]) {
            let here = row * width + col;
            if x[here] > x[at] || x[here].is_nan() {
                at = here;
            }
        }
    }
    (x[at], at as u32)
}

/// Finds the maxima of a row of windows, all inside the plane; the first starts at `first`.
type Windows = fn(x: &[f32], width: usize, first: usize, y: &mut [f32], at: &mut [u32]);

/// Common window sizes. Constant sizes, and masks in place of unpredictable branches, let the compiler vectorise this:
/// ten times as fast.
fn windows<const K: usize, const STRIDE: usize>(
    x: &[f32],
    width: usize,
    first: usize,
    y: &mut [f32],
    at: &mut [u32],
) {
    let blend = |a: u32, b: u32, take: bool| a ^ ((a ^ b) & u32::from(take).wrapping_neg());
    let length = (y.len() - 1) * STRIDE + K;
    let lines: [&[f32]; K] = std::array::from_fn(|row| &x[first + row * width..][..length]);
    for (j, (y, at)) in y.iter_mut().zip(at).enumerate() {
        let (mut bits, mut best) = (lines[0][j * STRIDE].to_bits(), (first + j * STRIDE) as u32);
        for (row, line) in lines.iter().enumerate() {
            for col in 0..K {
                let value = line[j * STRIDE + col];
                let take = (value > f32::from_bits(bits)) | value.is_nan();
                bits = blend(bits, value.to_bits(), take);
                best = blend(best, (first + row * width + j * STRIDE + col) as u32, take);
            }
        }
        (*y, *at) = (f32::from_bits(bits), best);
    }
}

impl Op for MaxPool2d {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x] = arity(self.name(), inputs)?;
        floats(self.name(), inputs)?;
        let out = self.0.output_shape(x.shape)?;
        Ok(vec![Meta::f32(out), Meta::u32(out)])
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        let [rows, cols] = self.0.kernel.map(|length| length as u64);
        outputs[0].numel().saturating_mul(rows.saturating_mul(cols).saturating_sub(1))
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (y, at) = outputs.split_at_mut(1);
        let (x, y, at) = (inputs[0].slice(), &mut y[0].data, at[0].ids());
        let g = self.0.geometry(self.name(), inputs[0].shape())?;
        let [oh, ow] = g.output;
        let Pool2dOptions { kernel, stride, dilation, .. } = self.0;
        let parts = |k: usize| self.0.parts(cpu, k, g.input[k], g.output[k]);
        let (rows, cols) = (parts(0)?, parts(1)?);
        let usual: Option<Windows> = match (kernel, stride[1], dilation) {
            ([2, 2], 1, [1, 1]) => Some(windows::<2, 1>),
            ([2, 2], 2, [1, 1]) => Some(windows::<2, 2>),
            ([3, 3], 1, [1, 1]) => Some(windows::<3, 1>),
            ([3, 3], 2, [1, 1]) => Some(windows::<3, 2>),
            _ => None,
        };
        // The windows of a row with all their columns inside the plane.
        let begin = cols.iter().take_while(|col| col.taps < kernel[1]).count();
        let whole = begin..begin + cols[begin..].iter().take_while(|col| col.taps == kernel[1]).count();

        let (plane, width) = (g.input[0] * g.input[1], g.input[1]);
        // Tasks of whole rows.
        let lines = GRAIN.div_ceil(ow * kernel[0] * kernel[1]);
        let tasks = y.par_chunks_mut(lines * ow).zip(at.par_chunks_mut(lines * ow));
        tasks.enumerate().for_each(|(task, (y, at))| {
            for (line, (y, at)) in y.chunks_mut(ow).zip(at.chunks_mut(ow)).enumerate() {
                let line = task * lines + line;
                let (x, row) = (&x[line / oh * plane..][..plane], rows[line % oh]);
                let whole = if row.taps == kernel[0] && usual.is_some() { whole.clone() } else { 0..0 };
                if let Some(windows) = usual
                    && !whole.is_empty()
                {
                    let first = row.first * width + cols[whole.start].first;
                    windows(x, width, first, &mut y[whole.clone()], &mut at[whole.clone()]);
                }
                for j in (0..whole.start).chain(whole.end..ow) {
                    (y[j], at[j]) = largest(x, width, [row, cols[j]], dilation);
                }
            }
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (x, y, at) = (inputs[0], outputs[0], outputs[1]);
        let (name, options) = (self.name(), self.0);
        let g = options.geometry(name, x.layout.shape)?;
        let params = Params {
            out: PlaneIndex::new(name, g.planes, g.output)?,
            size: words(name, g.input)?,
            kernel: words(name, options.kernel)?,
            stride: words(name, options.stride)?,
            padding: words(name, options.padding)?,
            dilation: words(name, options.dilation)?,
            x_offset: to_u32(name, x.layout.offset)?,
            pad: 0,
        };
        to_u32(name, x.layout.offset + x.layout.shape.numel())?;
        let kernel = match options.kernel {
            [2, 2] => 2,
            [3, 3] => 3,
            _ => 0,
        };
        let per = per(options.kernel);
        let groups = y.shape.numel().div_ceil((WG * per) as usize);
        rec.dispatch(&MAX_POOL2D, &[kernel, WG, per], &[x.buffer, y.buffer, at.buffer], &params, groups)
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[], outputs: &[1] }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let op = MaxPool2dGrad { options: self.0, input: saved.shape(0)? };
        Ok(vec![Some(apply(op, &[saved.output(1)?, grad])?)])
    }
}

/// The gradient of [`MaxPool2d`]. Inputs: the positions of the maxima, and the output's gradient.
struct MaxPool2dGrad {
    options: Pool2dOptions,
    input: Shape,
}

impl Op for MaxPool2dGrad {
    fn name(&self) -> &'static str {
        "max_pool2d_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        arity::<2>(self.name(), inputs)?;
        Ok(vec![Meta::f32(self.input)])
    }

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        inputs[0].numel()
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (at, dy, dx) = (inputs[0].ids(), inputs[1].slice(), &mut outputs[0].data);
        let g = self.options.geometry(self.name(), self.input)?;
        let (plane, windows) = (g.input[0] * g.input[1], g.output[0] * g.output[1]);
        let planes = dx.par_chunks_mut(plane).zip(at.par_chunks(windows)).zip(dy.par_chunks(windows));
        planes.with_min_len(GRAIN.div_ceil(plane)).for_each(|((dx, at), dy)| {
            dx.fill(0.0);
            for (&at, dy) in at.iter().zip(dy) {
                if at != NOWHERE {
                    dx[at as usize] += dy;
                }
            }
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (at, dy, dx) = (inputs[0], inputs[1], outputs[0]);
        let (name, options) = (self.name(), &self.options);
        let g = options.geometry(name, self.input)?;
        let apart = g.cover == [1, 1];
        let (over, other) = if apart { (g.output, g.input) } else { (g.input, g.output) };
        let params = GradParams {
            indexer: PlaneIndex::new(name, g.planes, over)?,
            other: words(name, other)?,
            stride: words(name, options.stride)?,
            padding: words(name, options.padding)?,
            cover: words(name, g.cover)?,
            dy_offset: to_u32(name, dy.layout.offset)?,
            pad: [0; 3],
        };
        to_u32(name, dy.layout.offset + g.planes * g.output[0] * g.output[1])?;
        to_u32(name, self.input.numel())?;
        let buffers = [at.buffer, dy.buffer, dx.buffer];
        let groups = |count: usize, per: u32| (g.planes * count).div_ceil((WG * per) as usize);
        if apart {
            Fill::dispatch(rec, dx, 0)?;
            let groups = groups(g.output[0] * g.output[1], PER);
            return rec.dispatch(&SCATTER, &[WG, PER], &buffers, &params, groups);
        }
        let per = per(g.cover);
        rec.dispatch(&GATHER, &[WG, per], &buffers, &params, groups(g.input[0] * g.input[1], per))
    }
}

impl Tensor {
    /// Max pooling over the last two axes, by PyTorch's rules: `[n, c, h, w]` to `[n, c, oh, ow]` with
    /// `oh = (h + 2 padding - dilation (kernel - 1) - 1) / stride + 1`, rounded down, or up with `ceil_mode`.
    ///
    /// Padding counts as -inf. A NaN in a window gives NaN. The gradient goes to the maximum; of equal ones, to the
    /// first.
    ///
    /// ```
    /// # use gristmill::{Device, Pool2dOptions, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 5.0, 2.0, 0.0, 3.0, 4.0, 7.0, 6.0], [1, 1, 2, 4], &Device::cpu())?;
    /// let y = x.max_pool2d(Pool2dOptions::new([2, 2]))?;
    /// assert_eq!(y.to_vec()?, [5.0, 7.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Not of rank 4; no window fits; a kernel, stride or dilation of 0; a padding over half the kernel; more elements
    /// in a window, or more windows over an element, than one invocation can visit (about 254 by 254); a tensor of ids;
    /// or the device fails.
    #[track_caller]
    pub fn max_pool2d(&self, options: Pool2dOptions) -> Result<Tensor> {
        apply(MaxPool2d(options), &[self])
    }
}
