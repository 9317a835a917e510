//! The CPU twins of the normalization kernels.

use super::rows::{ChannelView, Place, RowLayout};
use super::{Normalization, Source};
use crate::cpu::simd::{reduce_run, wide};
use crate::cpu::strided::GRAIN;
use crate::cpu::{CpuDevice, CpuList};
use crate::op::CpuView;
use crate::{Error, Result};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Elements of a row in a slice.
const SLICE: usize = 4096;
/// Interleaved rows that are read together (one cache line), and elements of each.
const BLOCK: (usize, usize) = (16, 512);

impl RowLayout {
    /// Calls `f(number, row, place)` for each element of some columns of some rows, where `number` is the element's index
    /// among them, row by row.
    fn visit(&self, rows: Range<usize>, cols: Range<usize>, mut f: impl FnMut(usize, usize, Place)) {
        let count = cols.len();
        if self.is_interleaved() {
            let mut starts = [Place::default(); BLOCK.0];
            starts.iter_mut().zip(rows.clone()).for_each(|(start, row)| *start = self.start(row));
            for (c, col) in cols.enumerate() {
                for (r, (row, start)) in rows.clone().zip(&starts).enumerate() {
                    f(r * count + c, row, self.runs_after(*start, col));
                }
            }
            return;
        }
        for (r, row) in rows.enumerate() {
            let start = self.start(row);
            let mut number = r * count;
            let mut run = cols.start / self.run_len;
            let mut first = cols.start % self.run_len;
            while number < (r + 1) * count {
                let len = (self.run_len - first).min((r + 1) * count - number);
                let at = self.runs_after(start, run);
                for j in first..first + len {
                    f(number, row, Place { index: at.index + j, ..at });
                    number += 1;
                }
                (run, first) = (run + 1, 0);
            }
        }
    }

    /// Reduces each slice of each row; the results are in the order of slices, then rows.
    /// `gather(row, place)` gives the N numbers of an element, which are copied to contiguous memory for
    /// `reduce`.
    fn reduce<const N: usize, T: Clone + Default + Send>(
        &self,
        cpu: &Arc<CpuDevice>,
        gather: impl Fn(usize, Place) -> [f32; N] + Sync,
        reduce: impl Fn([&[f32]; N]) -> T + Sync,
    ) -> Result<CpuList<T>> {
        let (block, size) = if self.is_interleaved() { BLOCK } else { (1, SLICE) };
        let slices = self.cols().div_ceil(size);
        let mut parts = cpu.filled(T::default(), slices * self.rows)?;
        let least = GRAIN.div_ceil(block * self.cols().clamp(1, size));
        parts.par_chunks_mut(self.rows.max(1)).enumerate().try_for_each(|(slice, parts)| {
            let cols = slice * size..self.cols().min((slice + 1) * size);
            parts.par_chunks_mut(block).enumerate().with_min_len(least).try_for_each(|(at, parts)| {
                let rows = at * block..at * block + parts.len();
                let size = parts.len() * cols.len();
                let taken = &mut *cpu.scratch(N * size)?;
                let mut places = taken.chunks_exact_mut(size.max(1));
                let mut taken: [&mut [f32]; N] = std::array::from_fn(|_| places.next().unwrap_or_default());
                self.visit(rows, cols.clone(), |number, row, at| {
                    for (taken, value) in taken.iter_mut().zip(gather(row, at)) {
                        taken[number] = value;
                    }
                });
                for (r, part) in parts.iter_mut().enumerate() {
                    *part = reduce(std::array::from_fn(|n| &taken[n][r * cols.len()..][..cols.len()]));
                }
                Ok::<(), Error>(())
            })
        })?;
        Ok(parts)
    }
}

fn sum(x: &[f32], map: impl Fn(f32) -> f32 + Copy) -> f32 {
    wide(
        #[inline(always)]
        || reduce_run(0.0, |a, b| a + b, map, x),
    )
}

/// `mean` if it is finite. Else 0 if all elements `of` are finite, since their sum overflowed, and NaN if not or if
/// there are none. As in `shared/norm_row.wgsl`.
fn known_mean(mean: f32, mut of: impl Iterator<Item = f32>) -> f32 {
    if mean.is_finite() {
        return mean;
    }
    let some = of.next().is_some_and(f32::is_finite);
    if some && of.all(f32::is_finite) { 0.0 } else { f32::NAN }
}

/// The number of elements of a slice, their mean, and the sum of their squared deviations.
#[derive(Clone, Copy, Default)]
struct Moments {
    count: f32,
    mean: f32,
    squares: f32,
}

impl Moments {
    fn of(x: &[f32], centred: bool) -> Moments {
        let count = x.len() as f32;
        if !centred {
            return Moments { count, mean: 0.0, squares: sum(x, |x| x * x) };
        }
        let origin = known_mean(sum(x, |x| x) / count, x.iter().copied());
        let apart = sum(x, |x| x - origin);
        let shift = apart / count;
        let about_origin = sum(x, |x| (x - origin) * (x - origin));
        if origin.is_finite() && !about_origin.is_finite() {
            // `apart` may have overflowed as well.
            return Moments { count, mean: origin, squares: f32::INFINITY };
        }
        let squares = about_origin - apart * shift;
        // This comparison keeps NaN.
        Moments { count, mean: origin + shift, squares: if squares < 0.0 { 0.0 } else { squares } }
    }

    /// The moments of a row from those of its slices, as in `group_norm.wgsl`.
    fn merged(parts: impl Iterator<Item = Moments> + Clone, count: f32) -> Moments {
        let origin = parts.clone().next().map_or(f32::NAN, |part| part.mean);
        let mean = origin + parts.clone().map(|part| part.count * (part.mean - origin)).sum::<f32>() / count;
        let mean = known_mean(mean, parts.clone().map(|part| part.mean));
        let squares = parts.map(|part| part.squares + part.count * (part.mean - mean).powi(2)).sum();
        Moments { count, mean, squares }
    }
}

/// The mean and the variance of each row; NaN for empty rows.
pub(super) fn statistics(
    cpu: &Arc<CpuDevice>,
    norm: &Normalization,
    x: CpuView,
    mean: &mut [f32],
    variance: &mut [f32],
) -> Result<()> {
    let (rows, x) = (norm.view(x.shape())?.rows_of_statistics(), x.slice());
    let parts = rows.reduce(cpu, |_, at| [x[at.index]], |[x]| Moments::of(x, norm.is_centred()))?;
    for (row, (mean, variance)) in mean.iter_mut().zip(variance).enumerate() {
        let count = rows.cols() as f32;
        let whole = Moments::merged(parts.iter().skip(row).step_by(rows.rows).copied(), count);
        (*mean, *variance) = (whole.mean, whole.squares / count);
    }
    Ok(())
}

/// The length of a row; `None` if there is nothing to normalize: then the statistics are NaN.
fn row_length(y: &[f32], statistics: [&mut [f32]; 2]) -> Option<usize> {
    if y.is_empty() {
        statistics.into_iter().for_each(|out| out.fill(f32::NAN));
        return None;
    }
    Some(y.len() / statistics[0].len())
}

/// [`statistics`] and [`normalize`] of the sum of two tensors, row by row while a row is in the cache.
pub(super) fn add_norm(
    cpu: &Arc<CpuDevice>,
    norm: &Normalization,
    inputs: &[CpuView],
    [y, sum, mean, variance]: [&mut [f32]; 4],
) -> Result<()> {
    let Some(cols) = row_length(y, [&mut *mean, &mut *variance]) else { return Ok(()) };
    let parameters = norm.parameters(inputs).map(|view| view.map(|view| view.slice()));
    let inputs = inputs[0].slice().par_chunks(cols).zip(inputs[1].slice().par_chunks(cols));
    let outputs = y.par_chunks_mut(cols).zip(sum.par_chunks_mut(cols)).zip(mean.par_iter_mut().zip(variance));
    let all = inputs.zip(outputs).with_min_len(GRAIN.div_ceil(cols));
    all.try_for_each(|((a, r), ((y, sum), (mean, variance)))| {
        sum.iter_mut().zip(a).zip(r).for_each(|((sum, a), r)| *sum = a + r);
        normalize_row(cpu, norm, sum, parameters, y, [mean, variance])
    })
}

/// [`statistics`] and [`normalize`] of rows that lie in one piece, row by row while a row is in the cache.
pub(super) fn normalize_rows(
    cpu: &Arc<CpuDevice>,
    norm: &Normalization,
    inputs: &[CpuView],
    [y, mean, variance]: [&mut [f32]; 3],
) -> Result<()> {
    let Some(cols) = row_length(y, [&mut *mean, &mut *variance]) else { return Ok(()) };
    let parameters = norm.parameters(inputs).map(|view| view.map(|view| view.slice()));
    let outputs = y.par_chunks_mut(cols).zip(mean.par_iter_mut().zip(variance));
    let all = inputs[0].slice().par_chunks(cols).zip(outputs).with_min_len(GRAIN.div_ceil(cols));
    all.try_for_each(|(x, (y, (mean, variance)))| {
        normalize_row(cpu, norm, x, parameters, y, [mean, variance])
    })
}

fn normalize_row(
    cpu: &Arc<CpuDevice>,
    norm: &Normalization,
    x: &[f32],
    [weight, bias]: [Option<&[f32]>; 2],
    y: &mut [f32],
    [mean, variance]: [&mut f32; 2],
) -> Result<()> {
    let parts = x.chunks(SLICE).map(|part| Moments::of(part, norm.is_centred()));
    let parts = cpu.list(x.len().div_ceil(SLICE), parts)?;
    let whole = Moments::merged(parts.iter().copied(), x.len() as f32);
    (*mean, *variance) = (whole.mean, whole.squares / x.len() as f32);
    let frame = Frame::new(*mean, *variance, norm.eps);
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = frame.h(x));
    if let Some(weight) = weight {
        y.iter_mut().zip(weight).for_each(|(y, w)| *y *= w);
    }
    if let Some(bias) = bias {
        y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
    }
    Ok(())
}

/// Normalizes the elements of a row: `(x - origin) * scale`.
struct Frame {
    origin: f32,
    scale: f32,
}

impl Frame {
    /// If the variance is infinite, the origin is 0: the product is 0 anyway, and `x - mean` might overflow.
    fn new(mean: f32, variance: f32, eps: f32) -> Frame {
        let scale = 1.0 / (variance + eps).sqrt();
        Frame { origin: if scale == 0.0 && mean.is_finite() { 0.0 } else { mean }, scale }
    }

    fn all(cpu: &Arc<CpuDevice>, mean: &[f32], variance: &[f32], eps: f32) -> Result<CpuList<Frame>> {
        let frames = mean.iter().zip(variance).map(|(&mean, &variance)| Frame::new(mean, variance, eps));
        cpu.list(mean.len(), frames)
    }

    /// The normalized element.
    fn h(&self, x: f32) -> f32 {
        (x - self.origin) * self.scale
    }
}

/// Writes `f(place)` to each element.
fn write(view: &ChannelView, y: &mut [f32], f: impl Fn(Place) -> f32 + Sync) {
    let ChannelView { channels, span, groups, group_size, across_n, .. } = *view;
    let together = (GRAIN / span.max(1)).max(1);
    y.par_chunks_mut((channels * span).max(1)).enumerate().for_each(|(n, y)| {
        y.par_chunks_mut(together * span).enumerate().for_each(|(part, y)| {
            for (line, channel) in y.chunks_mut(span).zip(part * together..) {
                let statistics = match across_n {
                    true => channel,
                    false if groups == 1 => n,
                    false => n * groups + channel / group_size,
                };
                let start = (n * channels + channel) * span;
                let place = |j| Place { index: start + j, channel, statistics };
                line.iter_mut().enumerate().for_each(|(j, y)| *y = f(place(j)));
            }
        });
    });
}

/// Normalizes a tensor by the mean and variance of each row.
pub(super) fn normalize(
    cpu: &Arc<CpuDevice>,
    norm: &Normalization,
    inputs: &[CpuView],
    [mean, variance]: [&[f32]; 2],
    y: &mut [f32],
) -> Result<()> {
    let (x, frames) = (inputs[0].slice(), Frame::all(cpu, mean, variance, norm.eps)?);
    let [weight, bias] = norm.parameters(inputs).map(|view| view.map(|view| view.slice()));
    write(&norm.view(inputs[0].shape())?, y, |at| {
        let h = frames[at.statistics].h(x[at.index]);
        h * weight.map_or(1.0, |w| w[at.channel]) + bias.map_or(0.0, |b| b[at.channel])
    });
    Ok(())
}

/// The inputs of the gradients.
pub(super) struct GradInputs<'a> {
    of: &'a Normalization,
    view: ChannelView,
    x: &'a [f32],
    dy: &'a [f32],
    frames: CpuList<Frame>,
    weight: Option<&'a [f32]>,
}

impl<'a> GradInputs<'a> {
    /// From x, dy, mean, variance, and an optional weight.
    pub(super) fn new(
        cpu: &Arc<CpuDevice>,
        of: &'a Normalization,
        inputs: &[CpuView<'a>],
    ) -> Result<GradInputs<'a>> {
        Ok(GradInputs {
            of,
            view: of.view(inputs[0].shape())?,
            x: inputs[0].slice(),
            dy: inputs[1].slice(),
            frames: Frame::all(cpu, inputs[2].slice(), inputs[3].slice(), of.eps)?,
            weight: inputs.get(4).map(CpuView::slice),
        })
    }

    /// The normalized element.
    fn h(&self, index: usize, statistics: usize) -> f32 {
        self.frames[statistics].h(self.x[index])
    }

    fn weight(&self, channel: usize) -> f32 {
        self.weight.map_or(1.0, |weight| weight[channel])
    }

    /// The sums of `dy h` and of dy over each channel.
    pub(super) fn channel_sums(&self, cpu: &Arc<CpuDevice>, sums: &mut [f32]) -> Result<()> {
        reduce_pairs(cpu, &self.view.rows_of_channels(), sums, |_, at| {
            [self.dy[at.index] * self.h(at.index, at.statistics), self.dy[at.index]]
        })
    }

    /// dx, from the sums over rows of `g h` and of g, which `kept` receives; g is dy times the weight, unless that is
    /// constant over a row.
    pub(super) fn dx(&self, cpu: &Arc<CpuDevice>, kept: Option<&mut [f32]>, dx: &mut [f32]) -> Result<()> {
        let (rows, given) = (self.view.rows_of_statistics(), self.of.source == Source::Given);
        let mut unkept = cpu.scratch(if given || kept.is_some() { 0 } else { 2 * rows.rows })?;
        let sums = kept.unwrap_or(&mut unkept);
        if self.view.across_n && !given {
            self.channel_sums(cpu, sums)?;
        } else if !given {
            reduce_pairs(cpu, &rows, sums, |row, at| {
                let g = self.dy[at.index] * self.weight(at.channel);
                [g * self.h(at.index, row), g]
            })?;
        }
        let count = rows.cols() as f32;
        let means = cpu.list(sums.len(), sums.iter().map(|sum| sum / count))?;
        write(&self.view, dx, |at| {
            let weight = self.weight(at.channel);
            let (inside, outside) = if self.view.across_n { (1.0, weight) } else { (weight, 1.0) };
            let mut g = self.dy[at.index] * inside;
            if !given {
                let mean = if self.of.is_centred() { means[means.len() / 2 + at.statistics] } else { 0.0 };
                g = (g - mean) - self.h(at.index, at.statistics) * means[at.statistics];
            }
            g * (self.frames[at.statistics].scale * outside)
        });
        Ok(())
    }
}

/// The sums over rows of two numbers per element, `[2, rows]`.
fn reduce_pairs(
    cpu: &Arc<CpuDevice>,
    rows: &RowLayout,
    sums: &mut [f32],
    terms: impl Fn(usize, Place) -> [f32; 2] + Sync,
) -> Result<()> {
    let parts = rows.reduce(cpu, terms, |terms| terms.map(|terms| sum(terms, |x| x)))?;
    for (at, whole) in sums.iter_mut().enumerate() {
        let (which, row) = (at / rows.rows, at % rows.rows);
        *whole = parts.iter().skip(row).step_by(rows.rows).map(|part| part[which]).sum();
    }
    Ok(())
}
