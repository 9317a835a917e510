//! Layer, RMS, group, instance and batch normalization: each row is normalized to mean 0 and variance 1 (RMS: to
//! a mean square of 1), then scaled and shifted per channel. They differ in what a row is, in a tensor seen as `[n, channels, span]`:
//!
//! | | n, channels, span | a row | kernels |
//! |---|---|---|---|
//! | layer, RMS | the first axes, the last axes, 1 | one n | `layer_norm*.wgsl` |
//! | group | axis 0, axis 1, the others | a group of channels of one n | `group_norm*.wgsl` |
//! | instance | axis 0, axis 1, the others | one channel of one n | `group_norm*.wgsl` |
//! | batch | axis 0, axis 1, the others | one channel over all n | `group_norm*.wgsl`, `batch_norm.wgsl` |
//!
//! RMS normalization subtracts no mean. Rows that are cut into slices, of every kind, use `group_norm.wgsl` for the
//! statistics and `batch_norm.wgsl` to write y. The gradients of weight and bias, of every kind, are those of
//! `group_norm_grad.wgsl`.
//!
//! One op, `Normalization`, serves all. `layer_norm.rs`, `group_norm.rs` and `batch_norm.rs` have the public functions,
//! `grad.rs` the gradients. `rows.rs` says where a row's elements are, `cpu.rs` has the CPU twins, `gpu.rs` the dispatches.

mod batch_norm;
mod cpu;
mod gpu;
mod grad;
mod group_norm;
mod layer_norm;
mod rows;

pub use batch_norm::BatchNorm;
pub(crate) use gpu::KERNELS;

use super::floats;
use crate::cpu::CpuDevice;
use crate::gpu::Recorder;
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, Saved, Saves, apply_all};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Error, Result};
use rows::ChannelView;
use std::sync::Arc;

/// Which elements form a row, with one mean and one variance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A row is the elements along this many last axes.
    Layer(usize),
    /// As `Layer`, without subtracting the mean.
    Rms(usize),
    /// A row is one of this many groups of channels of `[n, c, ..]`, for one n.
    Group(usize),
    /// A row is one channel of one n.
    Instance,
    /// A row is one channel over all n.
    Batch,
}

/// What is normalized, and by which statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// x, by its own. Outputs: y, mean, variance.
    Plain,
    /// The sum of x and a residual, by its own. A second input: the residual. Outputs: y, the sum, mean, variance. Only
    /// for layer and RMS normalization.
    Sum,
    /// x, by given ones. Two more inputs: mean, variance. Output: y.
    Given,
}

/// `(x - mean) / sqrt(variance + eps) * weight + bias` with the mean and the variance of each row. Inputs: x, what
/// `source` adds, then the optional weight and bias.
#[derive(Debug, Clone, Copy)]
struct Normalization {
    kind: Kind,
    source: Source,
    eps: f32,
    weight: bool,
    bias: bool,
}

/// Whether the CPU handles whole rows in parallel, which reads memory once, rather than parts of rows: there are rows for
/// many threads, or little to do. It must not depend on the number of threads, since the bits may differ.
fn is_by_rows(rows: &[f32], elements: &[f32]) -> bool {
    rows.len() >= 32 || elements.len() <= 1 << 18
}

impl Normalization {
    fn is_centred(&self) -> bool {
        !matches!(self.kind, Kind::Rms(_))
    }

    /// Whether a row is contiguous, with one weight and bias per column.
    fn is_layer(&self) -> bool {
        matches!(self.kind, Kind::Layer(_) | Kind::Rms(_))
    }

    #[track_caller]
    fn wrong(&self, message: String) -> Error {
        Error::shape(self.name(), message)
    }

    /// # Errors
    /// A shape that this normalization does not accept.
    #[track_caller]
    fn view(&self, x: Shape) -> Result<ChannelView> {
        if let Kind::Layer(axes) | Kind::Rms(axes) = self.kind {
            if !(1..=x.rank()).contains(&axes) {
                let message = format!("the last {axes} axes of shape {x}, should be 1 to {}", x.rank());
                return Err(self.wrong(message));
            }
            let (outer, inner) = x.split_at(x.rank() - axes);
            let [n, channels] = [outer, inner].map(|dims| dims.iter().product());
            return Ok(ChannelView {
                n,
                channels,
                span: 1,
                groups: 1,
                group_size: channels,
                across_n: false,
            });
        }
        let [n, channels, ref rest @ ..] = *x else {
            return Err(self.wrong(format!("shape {x}, should be [n, c, ..]")));
        };
        let (groups, group_size) = match self.kind {
            Kind::Group(groups) if channels.checked_rem(groups) == Some(0) => (groups, channels / groups),
            Kind::Group(groups) => {
                let message = format!("{groups} groups do not divide the {channels} channels of shape {x}");
                return Err(self.wrong(message));
            }
            _ => (channels, 1),
        };
        let (span, across_n) = (rest.iter().product(), self.kind == Kind::Batch);
        Ok(ChannelView { n, channels, span, groups, group_size, across_n })
    }

    /// The shape of weight and bias.
    fn channels(&self, x: Shape) -> Result<Shape> {
        match self.kind {
            Kind::Layer(axes) | Kind::Rms(axes) => Shape::new(&x[x.rank() - axes..]),
            _ => Shape::new([x[1]]),
        }
    }

    /// The place of the weight among the inputs, if there is one; else of the bias.
    fn weight_at(&self) -> usize {
        match self.source {
            Source::Plain => 1,
            Source::Sum => 2,
            Source::Given => 3,
        }
    }

    /// Weight and bias.
    fn parameters<T: Copy>(&self, inputs: &[T]) -> [Option<T>; 2] {
        let at = self.weight_at();
        let weight = inputs.get(at).copied().filter(|_| self.weight);
        let bias = inputs.get(at + usize::from(self.weight)).copied().filter(|_| self.bias);
        [weight, bias]
    }
}

impl Op for Normalization {
    fn name(&self) -> &'static str {
        match (self.kind, self.source) {
            (Kind::Layer(_), Source::Sum) => "add_layer_norm",
            (Kind::Rms(_), Source::Sum) => "add_rms_norm",
            (Kind::Layer(_), _) => "layer_norm",
            (Kind::Rms(_), _) => "rms_norm",
            (Kind::Group(_), _) => "group_norm",
            (Kind::Instance, _) => "instance_norm",
            (Kind::Batch, _) => "batch_norm",
        }
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        floats(self.name(), inputs)?;
        let (x, more) = (inputs[0].shape, &inputs[1..self.weight_at()]);
        if self.source == Source::Sum && more[0].shape != x {
            return Err(self.wrong(format!("a residual of shape {} for {x}", more[0].shape)));
        }
        let view = self.view(x)?;
        if !(self.eps >= 0.0 && self.eps.is_finite()) {
            let message = format!("eps is {}, should be at least 0", self.eps);
            return Err(Error::argument(self.name(), message));
        }
        let check = |what: &str, found: Meta, wanted: Shape| match found.shape == wanted {
            true => Ok(()),
            false => Err(self.wrong(format!("{what} of shape {} for {x}, should be {wanted}", found.shape))),
        };
        for (what, found) in ["a weight", "a bias"].into_iter().zip(self.parameters(inputs)) {
            found.map_or(Ok(()), |found| check(what, found, self.channels(x)?))?;
        }
        let (y, statistics) = (Meta::f32(x), Meta::f32(Shape::new([view.statistics()])?));
        match self.source {
            Source::Plain if view.across_n && view.n * view.span == 1 => {
                Err(self.wrong(format!("one element a channel in shape {x} has no variance to train with")))
            }
            Source::Plain => Ok(vec![y, statistics, statistics]),
            Source::Sum => Ok(vec![y, y, statistics, statistics]),
            Source::Given => {
                more.iter().try_for_each(|found| check("statistics", *found, statistics.shape))?;
                Ok(vec![y])
            }
        }
    }

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        // A sum, a difference, a square, and a sum of these; a mean square needs only the last two.
        let moments = match (self.source, self.kind) {
            (Source::Given, _) => 0,
            (_, Kind::Rms(_)) => 2,
            _ => 4,
        };
        let residual = u64::from(self.source == Source::Sum);
        let affine = u64::from(self.weight) + u64::from(self.bias);
        inputs[0].numel().saturating_mul(residual + moments + 2 + affine)
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let input = |at: usize| inputs[at].slice();
        match (self.source, outputs) {
            (Source::Sum, [y, sum, mean, variance]) => cpu::add_norm(
                cpu,
                self,
                inputs,
                [&mut *y.data, &mut *sum.data, &mut *mean.data, &mut *variance.data],
            ),
            (Source::Given, [y]) => cpu::normalize(cpu, self, inputs, [input(1), input(2)], y.data),
            (Source::Plain, [y, mean, variance]) if self.is_layer() && is_by_rows(mean.data, y.data) => {
                cpu::normalize_rows(cpu, self, inputs, [&mut *y.data, &mut *mean.data, &mut *variance.data])
            }
            (Source::Plain, [y, mean, variance]) => {
                cpu::statistics(cpu, self, inputs[0], mean.data, variance.data)?;
                cpu::normalize(cpu, self, inputs, [mean.data, variance.data], y.data)
            }
            _ => Err(self.wrong("has other outputs".to_string())),
        }
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        gpu::normalize(rec, self, inputs, outputs)
    }

    fn saves(&self) -> Saves {
        let (inputs, outputs): (&[usize], &[usize]) = match self.source {
            Source::Plain => (&[0, 1], &[1, 2]),
            Source::Sum => (&[2], &[1, 2, 3]),
            Source::Given => (&[0, 1, 2, 3], &[]),
        };
        // The weight is the last.
        Saves { inputs: &inputs[..inputs.len() - usize::from(!self.weight)], outputs }
    }

    fn differentiable(&self) -> usize {
        if self.source == Source::Sum { 2 } else { 1 }
    }

    fn backward_all(
        &self,
        saved: &Saved,
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        let mut all = vec![None; needs.len()];
        if let Some(dy) = &grads[0] {
            let [x, mean, variance] = match self.source {
                Source::Plain => [saved.input(0)?, saved.output(1)?, saved.output(2)?],
                Source::Sum => [saved.output(1)?, saved.output(2)?, saved.output(3)?],
                Source::Given => [saved.input(0)?, saved.input(1)?, saved.input(2)?],
            };
            let mut inputs = vec![x, dy, mean, variance];
            inputs.extend(self.weight.then(|| saved.input(self.weight_at())).transpose()?);
            let needs_x = needs[0] || (self.source == Source::Sum && needs[1]);
            let [weight, bias] = self.parameters(needs).map(|needed| needed == Some(true));
            let [dx, dw, db] = grad::gradients(self, &inputs, [needs_x, weight, bias])?;
            all.truncate(self.weight_at());
            all[0] = dx;
            all.extend(self.weight.then_some(dw));
            all.extend(self.bias.then_some(db));
        }
        if self.source == Source::Sum {
            let of_sum = match (all[0].take(), &grads[1]) {
                (Some(through), Some(direct)) => Some(through.add(direct)?),
                (through, direct) => through.or(direct.clone()),
            };
            (all[0], all[1]) = (of_sum.clone(), of_sum);
        }
        Ok(all)
    }
}

impl Tensor {
    /// All outputs of a normalization of self. `more`: the inputs that `source` adds.
    #[track_caller]
    fn normalized(
        &self,
        kind: Kind,
        (source, more): (Source, &[&Tensor]),
        [weight, bias]: [Option<&Tensor>; 2],
        eps: f32,
    ) -> Result<Vec<Tensor>> {
        let norm = Normalization { kind, source, eps, weight: weight.is_some(), bias: bias.is_some() };
        let inputs = [&[self][..], more, weight.as_slice(), bias.as_slice()].concat();
        apply_all(norm, &inputs)
    }

    /// The result of a normalization by the tensor's own statistics.
    fn normalized_rows(&self, kind: Kind, parameters: [Option<&Tensor>; 2], eps: f32) -> Result<Tensor> {
        self.normalized(kind, (Source::Plain, &[]), parameters, eps).map(|mut outputs| outputs.swap_remove(0))
    }
}
