//! The CPU twins: a matrix product over columns of pixels (im2col), and loops over rows if a group has one channel.
//!
//! Images are distributed over the threads; if there are few, each image's matrix product is parallel instead. The
//! columns of an image are made in bands of pixels, so that they fit in the cache and memory stays bounded.

use super::Geometry;
use crate::Result;
use crate::cpu::{CpuBuffer, CpuDevice, Matrix, gemm};
use crate::ops::unary::Activation;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Elements of columns in a band, unless 16 pixels have more.
const BAND: usize = 128 << 10;
/// With at least this many images, each image is one task.
const MANY_IMAGES: usize = 8;

/// Scratch memory that a thread reuses.
struct Scratch<'a> {
    cpu: &'a Arc<CpuDevice>,
    columns: Option<CpuBuffer>,
    product: Option<CpuBuffer>,
}

impl Scratch<'_> {
    fn new(cpu: &Arc<CpuDevice>) -> Scratch<'_> {
        Scratch { cpu, columns: None, product: None }
    }
}

/// A buffer of `words` elements, with arbitrary content.
fn room<'a>(cpu: &Arc<CpuDevice>, scratch: &'a mut Option<CpuBuffer>, words: usize) -> Result<&'a mut [f32]> {
    let held = match scratch.take().filter(|held| held.len() >= words) {
        Some(held) => held,
        None => cpu.scratch(words)?,
    };
    Ok(&mut scratch.insert(held)[..words])
}

impl Geometry {
    /// Whether the columns are the input itself.
    fn is_pointwise(&self) -> bool {
        // A transposed convolution may have a larger input, by the output padding that a dilation allows.
        (self.kernel, self.stride, self.padding) == ([1, 1], [1, 1], [0, 0]) && self.input == self.output
    }

    /// Whether each group has one input channel, so its matrices are thin.
    fn is_depthwise(&self) -> bool {
        self.depth == 1 && self.groups > 1
    }

    fn bands(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let plane = self.output_plane();
        let pixels = if self.is_pointwise() { plane } else { (BAND / self.columns().max(1)).max(16) };
        (0..plane).step_by(pixels).map(move |first| first..plane.min(first + pixels))
    }

    /// The output pixels along one axis for which tap `tap` reads the input, not the padding.
    fn span(&self, axis: usize, tap: usize) -> Range<usize> {
        let (at, padding, stride) = (tap * self.dilation[axis], self.padding[axis], self.stride[axis]);
        let end = (self.input[axis] + padding).saturating_sub(at).div_ceil(stride).min(self.output[axis]);
        padding.saturating_sub(at).div_ceil(stride).min(end)..end
    }

    /// The channel and tap of a column.
    fn column(&self, index: usize) -> (usize, [usize; 2]) {
        let (channel, tap) = (index / self.taps(), index % self.taps());
        (channel, [tap / self.kernel[1], tap % self.kernel[1]])
    }

    /// Calls `run(out, input, pixels)` for each run of output pixels in one row, `out..out + pixels`, for which `tap`
    /// reads the input from index `input` on, in steps of the stride.
    fn runs(&self, tap: [usize; 2], mut run: impl FnMut(usize, usize, usize)) {
        let across = self.span(1, tap[1]);
        if across.is_empty() {
            return;
        }
        let left = across.start * self.stride[1] + tap[1] * self.dilation[1] - self.padding[1];
        for out in self.span(0, tap[0]) {
            let row = out * self.stride[0] + tap[0] * self.dilation[0] - self.padding[0];
            run(out * self.output[1] + across.start, row * self.input[1] + left, across.len());
        }
    }
}

/// Copies to `line` the elements that `tap` reads for the output pixels `band` of one channel; 0 in the padding.
fn gather(g: &Geometry, x: &[f32], tap: [usize; 2], band: &Range<usize>, line: &mut [f32]) {
    let across = g.span(1, tap[1]);
    let width = g.output[1];
    let mut at = band.start;
    while at < band.end {
        let (row, first) = (at / width, at % width);
        let last = width.min(first + band.end - at);
        let line = &mut line[at - band.start..][..last - first];
        at += last - first;
        let Some(row) = g.reached(0, row, tap[0]) else {
            line.fill(0.0);
            continue;
        };
        let start = across.start.clamp(first, last);
        let end = across.end.clamp(start, last);
        line[..start - first].fill(0.0);
        line[end - first..].fill(0.0);
        if start == end {
            continue;
        }
        let from = &x[row * g.input[1] + start * g.stride[1] + tap[1] * g.dilation[1] - g.padding[1]..];
        let line = &mut line[start - first..end - first];
        match g.stride[1] {
            1 => line.copy_from_slice(&from[..end - start]),
            step => line.iter_mut().zip(from.iter().step_by(step)).for_each(|(line, &x)| *line = x),
        }
    }
}

/// Adds `line` to the elements that [`gather`] would read.
fn scatter(g: &Geometry, line: &[f32], tap: [usize; 2], band: &Range<usize>, x: &mut [f32]) {
    g.runs(tap, |out, input, pixels| {
        let start = out.max(band.start);
        let end = (out + pixels).min(band.end);
        if start < end {
            let to = &mut x[input + (start - out) * g.stride[1]..];
            let from = &line[start - band.start..end - band.start];
            add_scaled(to, g.stride[1], from, 1, 1.0);
        }
    });
}

/// The columns of `band`: one line per channel and tap.
fn columns(g: &Geometry, x: &[f32], band: &Range<usize>, out: &mut [f32], parallel: bool) {
    let line = |(index, line): (usize, &mut [f32])| {
        let (channel, tap) = g.column(index);
        gather(g, &x[channel * g.input_plane()..], tap, band, line);
    };
    match parallel {
        true => out.par_chunks_mut(band.len()).enumerate().for_each(line),
        false => out.chunks_mut(band.len()).enumerate().for_each(line),
    }
}

/// `y[j * to] += factor * x[j * from]`, up to the end of the shorter one.
fn add_scaled(y: &mut [f32], to: usize, x: &[f32], from: usize, factor: f32) {
    match (to, from) {
        (1, 1) => y.iter_mut().zip(x).for_each(|(y, &x)| *y += factor * x),
        _ => y.iter_mut().step_by(to).zip(x.iter().step_by(from)).for_each(|(y, &x)| *y += factor * x),
    }
}

/// `Σ a[j] * b[j * step]`, in eight partial sums that the compiler can keep in one register.
fn dot(a: &[f32], b: &[f32], step: usize) -> f32 {
    let mut strands = [0.0; 8];
    if step == 1 {
        let (a, b) = (a.chunks_exact(8), b[..a.len()].chunks_exact(8));
        for (s, (&a, &b)) in strands.iter_mut().zip(a.remainder().iter().zip(b.remainder())) {
            *s += a * b;
        }
        for (a, b) in a.zip(b) {
            strands.iter_mut().zip(a.iter().zip(b)).for_each(|(s, (a, b))| *s += a * b);
        }
    } else {
        for (j, (&a, &b)) in a.iter().zip(b.iter().step_by(step)).enumerate() {
            strands[j % 8] += a * b;
        }
    }
    strands.into_iter().sum()
}

/// The bias and activation that are applied to a sum of products.
#[derive(Clone, Copy)]
pub(super) struct Epilogue<'a> {
    pub(super) bias: Option<&'a [f32]>,
    pub(super) activation: Activation,
}

impl Epilogue<'_> {
    /// Applies them to a plane of a channel.
    fn finish(&self, channel: usize, y: &mut [f32]) {
        let bias = self.bias.map_or(0.0, |bias| bias[channel]);
        match self.activation {
            Activation::None if bias == 0.0 => {}
            Activation::None => y.iter_mut().for_each(|y| *y += bias),
            activation => y.iter_mut().for_each(|y| *y = activation.apply(*y + bias)),
        }
    }
}

pub(super) fn forward(
    cpu: &Arc<CpuDevice>,
    g: &Geometry,
    epilogue: Epilogue,
    x: &[f32],
    weight: &[f32],
    y: &mut [f32],
) -> Result<()> {
    let channels = g.groups * g.rows;
    if g.is_depthwise() {
        y.par_chunks_mut(g.output_plane()).enumerate().for_each(|(plane, y)| {
            let (image, channel) = (plane / channels, plane % channels);
            let x = &x[(image * g.groups + channel / g.rows) * g.input_plane()..][..g.input_plane()];
            y.fill(0.0);
            for tap in 0..g.taps() {
                let factor = weight[channel * g.taps() + tap];
                g.runs(g.column(tap).1, |out, input, pixels| {
                    add_scaled(&mut y[out..out + pixels], 1, &x[input..], g.stride[1], factor);
                });
            }
            epilogue.finish(channel, y);
        });
        return Ok(());
    }
    each_image(cpu, g, y, channels * g.output_plane(), |scratch, image, y, parallel| {
        for (group, y) in y.chunks_mut(g.rows * g.output_plane()).enumerate() {
            let x = &x[(image * g.groups + group) * g.depth * g.input_plane()..][..g.depth * g.input_plane()];
            let weight = &weight[group * g.rows * g.columns()..][..g.rows * g.columns()];
            product(g, scratch, x, weight, y, parallel)?;
            for (row, y) in y.chunks_mut(g.output_plane()).enumerate() {
                epilogue.finish(group * g.rows + row, y);
            }
        }
        Ok(())
    })
}

/// One group of one image: y `[rows, plane]` = weight `[rows, columns]` · columns `[columns, plane]`.
fn product(
    g: &Geometry,
    scratch: &mut Scratch,
    x: &[f32],
    weight: &[f32],
    y: &mut [f32],
    parallel: bool,
) -> Result<()> {
    let (rows, depth, plane) = (g.rows, g.columns(), g.output_plane());
    if depth == 0 {
        y.fill(0.0);
        return Ok(());
    }
    let weight = Matrix { data: weight, rows: depth, cols: 1 };
    if g.is_pointwise() {
        let x = Matrix { data: x, rows: plane, cols: 1 };
        gemm(y, (rows, plane, depth), weight, x, false, parallel);
        return Ok(());
    }
    for band in g.bands() {
        let made = room(scratch.cpu, &mut scratch.columns, depth * band.len())?;
        columns(g, x, &band, made, parallel);
        let made = Matrix { data: made, rows: band.len(), cols: 1 };
        let size = (rows, band.len(), depth);
        if band.len() == plane {
            gemm(y, size, weight, made, false, parallel);
            return Ok(());
        }
        let part = room(scratch.cpu, &mut scratch.product, rows * band.len())?;
        gemm(part, size, weight, made, false, parallel);
        for (y, part) in y.chunks_mut(plane).zip(part.chunks(band.len())) {
            y[band.clone()].copy_from_slice(part);
        }
    }
    Ok(())
}

/// Calls `work` for each image with its `size` elements of `out`, in parallel if there are many images; else `work` is
/// told to be parallel itself.
fn each_image(
    cpu: &Arc<CpuDevice>,
    g: &Geometry,
    out: &mut [f32],
    size: usize,
    work: impl Fn(&mut Scratch, usize, &mut [f32], bool) -> Result<()> + Sync,
) -> Result<()> {
    if g.images < MANY_IMAGES {
        let mut scratch = Scratch::new(cpu);
        return out
            .chunks_mut(size)
            .enumerate()
            .try_for_each(|(image, out)| work(&mut scratch, image, out, true));
    }
    out.par_chunks_mut(size)
        .enumerate()
        .try_for_each_init(|| Scratch::new(cpu), |scratch, (image, out)| work(scratch, image, out, false))
}

/// The other direction: from dy, at the geometry's output, to dx, at its input.
pub(super) fn transposed(
    cpu: &Arc<CpuDevice>,
    g: &Geometry,
    epilogue: Epilogue,
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
) -> Result<()> {
    let plane = g.output_plane();
    if g.is_depthwise() {
        dx.par_chunks_mut(g.input_plane()).enumerate().for_each(|(at, dx)| {
            dx.fill(0.0);
            for row in 0..g.rows {
                let dy = &dy[(at * g.rows + row) * plane..][..plane];
                for tap in 0..g.taps() {
                    let factor = weight[(at % g.groups * g.rows + row) * g.taps() + tap];
                    g.runs(g.column(tap).1, |out, input, pixels| {
                        add_scaled(&mut dx[input..], g.stride[1], &dy[out..out + pixels], 1, factor);
                    });
                }
            }
            epilogue.finish(at % g.groups, dx);
        });
        return Ok(());
    }
    let size = g.depth * g.input_plane();
    each_image(cpu, g, dx, g.groups * size, |scratch, image, dx, parallel| {
        for (group, dx) in dx.chunks_mut(size).enumerate() {
            let dy = &dy[(image * g.groups + group) * g.rows * plane..][..g.rows * plane];
            let weight = &weight[group * g.rows * g.columns()..][..g.rows * g.columns()];
            transposed_product(g, scratch, dy, weight, dx, parallel)?;
            for (channel, dx) in dx.chunks_mut(g.input_plane()).enumerate() {
                epilogue.finish(group * g.depth + channel, dx);
            }
        }
        Ok(())
    })
}

/// One group of one image: columns `[columns, plane]` = weightᵀ `[columns, rows]` · dy `[rows, plane]`, added to the
/// pixels of dx that [`gather`] would read.
fn transposed_product(
    g: &Geometry,
    scratch: &mut Scratch,
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    parallel: bool,
) -> Result<()> {
    let (plane, columns) = (g.output_plane(), g.columns());
    if g.rows == 0 {
        dx.fill(0.0);
        return Ok(());
    }
    let weight = Matrix { data: weight, rows: 1, cols: columns };
    if g.is_pointwise() {
        let dy = Matrix { data: dy, rows: plane, cols: 1 };
        gemm(dx, (columns, plane, g.rows), weight, dy, false, parallel);
        return Ok(());
    }
    dx.fill(0.0);
    for band in g.bands() {
        let made = room(scratch.cpu, &mut scratch.columns, columns * band.len())?;
        let dy = Matrix { data: &dy[band.start..], rows: plane, cols: 1 };
        gemm(made, (columns, band.len(), g.rows), weight, dy, false, parallel);
        let channel = |(dx, lines): (&mut [f32], &[f32])| {
            for (tap, line) in lines.chunks(band.len()).enumerate() {
                scatter(g, line, g.column(tap).1, &band, dx);
            }
        };
        let lines = g.taps() * band.len();
        match parallel {
            true => dx.par_chunks_mut(g.input_plane()).zip(made.par_chunks(lines)).for_each(channel),
            false => dx.chunks_mut(g.input_plane()).zip(made.chunks(lines)).for_each(channel),
        }
    }
    Ok(())
}

/// The number of slices of images for the gradient with respect to the weight. It depends on the sizes alone, not on
/// the number of threads, so the order of the sum is fixed.
pub(super) fn slices(g: &Geometry) -> usize {
    const MOST: usize = 16;
    const MOST_WORDS: usize = 4 << 20;
    let weights = g.groups * g.rows * g.columns();
    let most = (MOST_WORDS / weights.max(1)).clamp(1, MOST);
    // Every slice has an image.
    g.images.div_ceil(g.images.div_ceil(most).max(1)).max(1)
}

pub(super) fn weight_grad(
    cpu: &Arc<CpuDevice>,
    g: &Geometry,
    slices: usize,
    dy: &[f32],
    x: &[f32],
    partial: &mut [f32],
) -> Result<()> {
    let (plane, columns) = (g.output_plane(), g.columns());
    let each = g.images.div_ceil(slices);
    partial.par_chunks_mut(g.groups * g.rows * columns).enumerate().try_for_each_init(
        || Scratch::new(cpu),
        |scratch, (slice, dw)| {
            dw.fill(0.0);
            for image in slice * each..g.images.min((slice + 1) * each) {
                for (group, dw) in dw.chunks_mut(g.rows * columns).enumerate() {
                    let at = image * g.groups + group;
                    let dy = &dy[at * g.rows * plane..][..g.rows * plane];
                    let x = &x[at * g.depth * g.input_plane()..][..g.depth * g.input_plane()];
                    weight_product(g, scratch, dy, x, dw, slices == 1)?;
                }
            }
            Ok(())
        },
    )
}

/// One group of one image: dw `[rows, columns]` += dy `[rows, plane]` · columnsᵀ `[plane, columns]`.
fn weight_product(
    g: &Geometry,
    scratch: &mut Scratch,
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
    parallel: bool,
) -> Result<()> {
    let (plane, depth) = (g.output_plane(), g.columns());
    if g.is_depthwise() {
        for (row, dw) in dw.chunks_mut(depth).enumerate() {
            let dy = &dy[row * plane..][..plane];
            for (tap, dw) in dw.iter_mut().enumerate() {
                g.runs(g.column(tap).1, |out, input, pixels| {
                    *dw += dot(&dy[out..out + pixels], &x[input..], g.stride[1]);
                });
            }
        }
        return Ok(());
    }
    if g.is_pointwise() {
        let dy = Matrix { data: dy, rows: plane, cols: 1 };
        let x = Matrix { data: x, rows: 1, cols: plane };
        gemm(dw, (g.rows, depth, plane), dy, x, true, parallel);
        return Ok(());
    }
    for band in g.bands() {
        let made = room(scratch.cpu, &mut scratch.columns, depth * band.len())?;
        columns(g, x, &band, made, parallel);
        let made = Matrix { data: made, rows: 1, cols: band.len() };
        let dy = Matrix { data: &dy[band.start..], rows: plane, cols: 1 };
        gemm(dw, (g.rows, depth, band.len()), dy, made, true, parallel);
    }
    Ok(())
}
