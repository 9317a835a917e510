//! Layer, RMS, group, instance and batch normalization: each row is normalized to mean 0 and variance 1, then scaled
//! and shifted per channel. They differ in what a row is; RMS normalization subtracts no mean.

mod cpu;
mod gpu;
mod methods;

pub(crate) use gpu::KERNELS;
pub use methods::BatchNorm;

use super::floats;
use crate::cpu::CpuDevice;
use crate::gpu::Recorder;
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, Saved, Saves, apply, apply_all};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Error, Result};
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

/// A tensor viewed as `[n, channels, span]`, with one weight and bias per channel, and the rows that have statistics.
#[derive(Debug, Clone, Copy)]
struct View {
    n: usize,
    channels: usize,
    span: usize,
    /// Groups of channels, each with its own statistics.
    groups: usize,
    /// Whether the statistics of a channel are over all n.
    across: bool,
}

impl View {
    /// The number of means, and of variances.
    fn statistics(&self) -> usize {
        if self.across { self.channels } else { self.n * self.groups }
    }

    /// Channels in a group.
    fn group(&self) -> usize {
        self.channels.checked_div(self.groups).unwrap_or(0)
    }

    /// One row per mean and variance. An element's companion is its channel.
    fn by_statistics(&self) -> RowLayout {
        if self.across {
            return self.by_channel();
        }
        let group = self.group();
        RowLayout {
            rows: self.statistics(),
            runs: group,
            len: self.span,
            row_step: group * self.span,
            run_step: self.span,
            companion: Companion { period: self.groups, scale: group, divisor: 1, step: 1 },
        }
        .flat()
    }

    /// One row per channel. An element's companion is the index of its statistics.
    fn by_channel(&self) -> RowLayout {
        let companion = match self.across {
            true => Companion { period: self.channels, scale: 1, divisor: 1, step: 0 },
            false => Companion { period: self.channels, scale: 1, divisor: self.group(), step: self.groups },
        };
        RowLayout {
            rows: self.channels,
            runs: self.n,
            len: self.span,
            row_step: self.span,
            run_step: self.channels * self.span,
            companion,
        }
        .flat()
    }
}

/// The layout of the rows of a tensor; see `shared/row_layout.wgsl`.
#[derive(Debug, Clone, Copy)]
struct RowLayout {
    rows: usize,
    /// Runs of `len` contiguous elements per row.
    runs: usize,
    len: usize,
    /// From the start of a row to the start of the next.
    row_step: usize,
    /// From the start of a run to the start of the next.
    run_step: usize,
    companion: Companion,
}

/// The index of an element's channel or statistics: `(row % period) * scale / divisor`, plus `step` for each run.
#[derive(Debug, Clone, Copy)]
struct Companion {
    period: usize,
    scale: usize,
    divisor: usize,
    step: usize,
}

impl RowLayout {
    /// Elements of a row.
    fn cols(&self) -> usize {
        self.runs * self.len
    }

    /// The offset of a row's first element, and its companion.
    fn start(&self, row: usize) -> [usize; 2] {
        let Companion { period, scale, divisor, .. } = self.companion;
        [row * self.row_step, row % period * scale / divisor]
    }

    /// Represents rows of one run as rows of runs of one element.
    fn flat(self) -> RowLayout {
        if self.runs != 1 {
            return self;
        }
        let companion = Companion { step: 0, ..self.companion };
        RowLayout { runs: self.len, len: 1, run_step: 1, companion, ..self }
    }

    /// Whether rows are interleaved: neighbouring elements belong to neighbouring rows.
    fn side_by_side(&self) -> bool {
        self.len == 1 && self.row_step < self.run_step
    }
}

/// A normalization without its tensors.
#[derive(Debug, Clone, Copy)]
struct Norm {
    kind: Kind,
    eps: f32,
    weight: bool,
    bias: bool,
    /// Whether the input is the sum of two tensors.
    added: bool,
}

impl Norm {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Layer(_) if self.added => "add_layer_norm",
            Kind::Rms(_) if self.added => "add_rms_norm",
            Kind::Layer(_) => "layer_norm",
            Kind::Rms(_) => "rms_norm",
            Kind::Group(_) => "group_norm",
            Kind::Instance => "instance_norm",
            Kind::Batch => "batch_norm",
        }
    }

    fn centred(&self) -> bool {
        !matches!(self.kind, Kind::Rms(_))
    }

    fn wrong(&self, message: String) -> Error {
        Error::shape(self.name(), message)
    }

    /// # Errors
    /// A shape that this normalization does not accept.
    fn view(&self, x: Shape) -> Result<View> {
        if let Kind::Layer(axes) | Kind::Rms(axes) = self.kind {
            if !(1..=x.rank()).contains(&axes) {
                return Err(
                    self.wrong(format!("the last {axes} axes of shape {x}, should be 1 to {}", x.rank()))
                );
            }
            let (outer, inner) = x.split_at(x.rank() - axes);
            let [n, channels] = [outer, inner].map(|dims| dims.iter().product());
            return Ok(View { n, channels, span: 1, groups: 1, across: false });
        }
        let [n, channels, ref rest @ ..] = *x else {
            return Err(self.wrong(format!("shape {x}, should be [n, c, ..]")));
        };
        let groups = match self.kind {
            Kind::Group(groups) if channels.checked_rem(groups) == Some(0) => groups,
            Kind::Group(groups) => {
                let message = format!("{groups} groups do not divide the {channels} channels of shape {x}");
                return Err(self.wrong(message));
            }
            _ => channels,
        };
        let across = self.kind == Kind::Batch;
        Ok(View { n, channels, span: rest.iter().product(), groups, across })
    }

    /// The shape of weight and bias.
    fn channels(&self, x: Shape) -> Result<Shape> {
        match self.kind {
            Kind::Layer(axes) | Kind::Rms(axes) => Shape::new(&x[x.rank() - axes..]),
            _ => Shape::new([x[1]]),
        }
    }

    /// Checks all inputs: x, then the optional weight and bias. Returns the view and the shape of the statistics.
    fn check(&self, inputs: &[Meta]) -> Result<(View, Shape)> {
        floats(self.name(), inputs)?;
        let [x, parameters @ ..] = inputs else { return Err(self.wrong("takes a tensor".to_string())) };
        let view = self.view(x.shape)?;
        if !(self.eps >= 0.0 && self.eps.is_finite()) {
            let message = format!("eps is {}, should be at least 0", self.eps);
            return Err(Error::argument(self.name(), message));
        }
        let wanted = self.channels(x.shape)?;
        let names = [("weight", self.weight), ("bias", self.bias)].into_iter().filter(|(_, given)| *given);
        for ((name, _), found) in names.zip(parameters) {
            if found.shape != wanted {
                let message =
                    format!("a {name} of shape {} for {}, should be {wanted}", found.shape, x.shape);
                return Err(self.wrong(message));
            }
        }
        Ok((view, Shape::new([view.statistics()])?))
    }

    /// Weight and bias, from the inputs that follow the others.
    fn parameters<T: Copy>(&self, rest: &[T]) -> [Option<T>; 2] {
        let weight = rest.first().copied().filter(|_| self.weight);
        let bias = rest.get(usize::from(self.weight)).copied().filter(|_| self.bias);
        [weight, bias]
    }

    /// The gradients with respect to x, weight and bias, as far as `needs` asks. `given`: whether the statistics were
    /// inputs.
    fn gradients(&self, known: Known, given: bool, needs: [bool; 3]) -> Result<[Option<Tensor>; 3]> {
        let Known { x, dy, mean, variance, weight } = known;
        let inputs: Vec<&Tensor> = [x, dy, mean, variance].into_iter().chain(weight).collect();
        let (mut dx, mut sums) = (None, None);
        if needs[0] {
            let mut outputs = apply_all(Gradient { norm: *self, given }, &inputs)?;
            if self.kind == Kind::Batch && !given {
                sums = outputs.pop();
            }
            outputs.truncate(1);
            dx = outputs.pop();
        }
        if sums.is_none() && (needs[1] || needs[2]) {
            sums = Some(apply(ChannelSums { norm: *self }, &inputs[..4])?);
        }
        let shape = self.channels(x.shape())?;
        let row = |at: usize| match &sums {
            Some(sums) if needs[1 + at] => sums.slice(0, at..at + 1)?.reshape(shape).map(Some),
            _ => Ok(None),
        };
        Ok([dx, row(0)?, row(1)?])
    }
}

/// The inputs of a gradient.
struct Known<'a> {
    x: &'a Tensor,
    dy: &'a Tensor,
    mean: &'a Tensor,
    variance: &'a Tensor,
    weight: Option<&'a Tensor>,
}

/// `(x - mean) / sqrt(variance + eps) * weight + bias` with the mean and variance of each row of x, which are outputs 1
/// and 2. Inputs: x, then the optional weight and bias.
struct Normalize {
    norm: Norm,
}

impl Op for Normalize {
    fn name(&self) -> &'static str {
        self.norm.name()
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let (view, statistics) = self.norm.check(inputs)?;
        if view.across && view.n * view.span == 1 {
            let message =
                format!("one element a channel in shape {} has no variance to train with", inputs[0].shape);
            return Err(self.norm.wrong(message));
        }
        let statistics = Meta::f32(statistics);
        Ok(vec![Meta::f32(inputs[0].shape), statistics, statistics])
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let view = self.norm.view(inputs[0].shape())?;
        let [y, mean, variance] = outputs else {
            return Err(self.norm.wrong("has three outputs".to_string()));
        };
        cpu::statistics(cpu, &view, self.norm.centred(), inputs[0].slice(), mean.data, variance.data)?;
        let parameters = self.norm.parameters(&inputs[1..]);
        cpu::normalize(cpu, &view, self.norm.eps, inputs[0], [mean.data, variance.data], parameters, y.data)
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        gpu::normalize(rec, &self.norm, inputs, outputs)
    }

    fn saves(&self) -> Saves {
        match self.norm.weight {
            true => Saves { inputs: &[0, 1], outputs: &[1, 2] },
            false => Saves { inputs: &[0], outputs: &[1, 2] },
        }
    }

    fn backward(&self, saved: &Saved, dy: &Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let weight = if self.norm.weight { Some(saved.input(1)?) } else { None };
        let known =
            Known { x: saved.input(0)?, dy, mean: saved.output(1)?, variance: saved.output(2)?, weight };
        gradients_by_input(&self.norm, known, false, 1, needs)
    }
}

/// As [`Normalize`], for the sum of two tensors, which is output 1; its statistics are outputs 2 and 3. Only for
/// normalizations over the last axes, whose rows are contiguous. Inputs: the two tensors, then the optional weight and
/// bias.
struct AddNorm {
    norm: Norm,
}

impl Op for AddNorm {
    fn name(&self) -> &'static str {
        self.norm.name()
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [a, r, parameters @ ..] = inputs else {
            return Err(self.norm.wrong("takes two tensors".to_string()));
        };
        floats(self.name(), inputs)?;
        if a.shape != r.shape {
            return Err(self.norm.wrong(format!("a residual of shape {} for {}", r.shape, a.shape)));
        }
        let (_, statistics) = self.norm.check(&[&[*a], parameters].concat())?;
        let [x, statistics] = [a.shape, statistics].map(Meta::f32);
        Ok(vec![x, x, statistics, statistics])
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let [y, sum, mean, variance] = outputs else {
            return Err(self.norm.wrong("has four outputs".to_string()));
        };
        if y.data.is_empty() {
            [mean, variance].into_iter().for_each(|out| out.data.fill(f32::NAN));
            return Ok(());
        }
        let parameters = self.norm.parameters(&inputs[2..]);
        let outputs = [&mut *y.data, &mut *sum.data, &mut *mean.data, &mut *variance.data];
        cpu::add_norm(cpu, &self.norm, [inputs[0].slice(), inputs[1].slice()], parameters, outputs)
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        gpu::add_norm(rec, &self.norm, inputs, outputs)
    }

    fn saves(&self) -> Saves {
        match self.norm.weight {
            true => Saves { inputs: &[2], outputs: &[1, 2, 3] },
            false => Saves { inputs: &[], outputs: &[1, 2, 3] },
        }
    }

    fn differentiable(&self) -> usize {
        2
    }

    fn backward_all(
        &self,
        saved: &Saved,
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        let needs_sum = needs[0] || needs[1];
        let mut all = vec![None; needs.len()];
        if let Some(dy) = &grads[0] {
            let weight = if self.norm.weight { Some(saved.input(2)?) } else { None };
            let (x, mean, variance) = (saved.output(1)?, saved.output(2)?, saved.output(3)?);
            let known = Known { x, dy, mean, variance, weight };
            all = gradients_by_input(&self.norm, known, false, 2, &[&[needs_sum], &needs[1..]].concat())?;
        }
        let of_sum = match (all[0].take(), &grads[1]) {
            (Some(through), Some(direct)) => Some(through.add(direct)?),
            (through, direct) => through.or(direct.clone()),
        };
        (all[0], all[1]) = (of_sum.clone(), of_sum);
        Ok(all)
    }
}

/// The gradients in the order of an op's inputs: x, none for the other inputs before `first`, then the optional weight
/// and bias.
fn gradients_by_input(
    norm: &Norm,
    known: Known,
    given: bool,
    first: usize,
    needs: &[bool],
) -> Result<Vec<Option<Tensor>>> {
    let [weight, bias] = norm.parameters(&needs[first..]).map(|needed| needed.unwrap_or(false));
    let [dx, dw, db] = norm.gradients(known, given, [needs[0], weight, bias])?;
    let mut all = vec![None; first];
    all[0] = dx;
    all.extend(norm.weight.then_some(dw));
    all.extend(norm.bias.then_some(db));
    Ok(all)
}

/// As [`Normalize`], with given statistics. Inputs: x, mean, variance, then the optional weight and bias.
struct NormalizeGivenStats {
    norm: Norm,
}

impl Op for NormalizeGivenStats {
    fn name(&self) -> &'static str {
        self.norm.name()
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x, mean, variance, parameters @ ..] = inputs else {
            return Err(self.norm.wrong("takes a tensor, a mean and a variance".to_string()));
        };
        floats(self.name(), inputs)?;
        let (_, wanted) = self.norm.check(&[&[*x], parameters].concat())?;
        match [mean, variance].into_iter().find(|meta| meta.shape != wanted) {
            None => Ok(vec![Meta::f32(x.shape)]),
            Some(meta) => {
                let message =
                    format!("statistics of shape {} for {}, should be {wanted}", meta.shape, x.shape);
                Err(self.norm.wrong(message))
            }
        }
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let view = self.norm.view(inputs[0].shape())?;
        let parameters = self.norm.parameters(&inputs[3..]);
        let statistics = [inputs[1].slice(), inputs[2].slice()];
        cpu::normalize(cpu, &view, self.norm.eps, inputs[0], statistics, parameters, outputs[0].data)
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        gpu::normalize_given_stats(rec, &self.norm, inputs, outputs[0])
    }

    fn saves(&self) -> Saves {
        match self.norm.weight {
            true => Saves { inputs: &[0, 1, 2, 3], outputs: &[] },
            false => Saves { inputs: &[0, 1, 2], outputs: &[] },
        }
    }

    fn backward(&self, saved: &Saved, dy: &Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let weight = if self.norm.weight { Some(saved.input(3)?) } else { None };
        let known =
            Known { x: saved.input(0)?, dy, mean: saved.input(1)?, variance: saved.input(2)?, weight };
        gradients_by_input(&self.norm, known, true, 3, needs)
    }
}

/// The gradient with respect to x, and `[2, rows]` sums of `g h` and of g, as in `normalize_grad.wgsl`; without the
/// weight if it is constant over a row. There are no sums if the statistics were given. Inputs: x, dy, mean, variance,
/// then the optional weight.
struct Gradient {
    norm: Norm,
    given: bool,
}

impl Op for Gradient {
    fn name(&self) -> &'static str {
        "norm_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let view = self.norm.view(inputs[0].shape)?;
        let rows = if self.given { 0 } else { view.statistics() };
        Ok(vec![Meta::f32(inputs[0].shape), Meta::f32(Shape::new([2, rows])?)])
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let view = self.norm.view(inputs[0].shape())?;
        let [dx, sums] = outputs else { return Err(self.norm.wrong("has two gradients".to_string())) };
        let known = cpu::Known::new(cpu, self.norm.eps, inputs)?;
        match (self.given, view.across) {
            (true, _) => {}
            (false, true) => known.sums_by_channel(cpu, &view, sums.data)?,
            (false, false) => known.sums_by_group(cpu, &view, sums.data)?,
        }
        known.gradient(cpu, &view, self.norm.centred(), sums.data, dx.data)
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        gpu::gradient(rec, &self.norm, self.given, inputs, outputs)
    }
}

/// The gradients with respect to weight and bias, `[2, channels]`: the sums over each channel of
/// `dy (x - mean) / sqrt(variance + eps)` and of dy. Inputs: x, dy, mean, variance.
struct ChannelSums {
    norm: Norm,
}

impl Op for ChannelSums {
    fn name(&self) -> &'static str {
        "norm_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let channels = self.norm.view(inputs[0].shape)?.channels;
        Ok(vec![Meta::f32(Shape::new([2, channels])?)])
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let view = self.norm.view(inputs[0].shape())?;
        let known = cpu::Known::new(cpu, self.norm.eps, inputs)?;
        known.sums_by_channel(cpu, &view, outputs[0].data)
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        gpu::channel_sums(rec, &self.norm, inputs, outputs[0])
    }
}

/// Moves running statistics towards a batch's: `running += momentum (batch - running)`, with the batch's variance times
/// `unbias`, which is the unbiased estimate. Inputs: the batch's mean and variance; states: the running mean and
/// variance.
struct RunningStats {
    momentum: f32,
    unbias: f32,
}

impl Op for RunningStats {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        if !(0.0..=1.0).contains(&self.momentum) {
            let message = format!("momentum {} is not in 0..=1", self.momentum);
            return Err(Error::argument(self.name(), message));
        }
        super::arity::<2>(self.name(), inputs).map(Vec::from)
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        for ((batch, running), unbias) in inputs.iter().zip(outputs).zip([1.0, self.unbias]) {
            for (running, batch) in running.data.iter_mut().zip(batch.slice()) {
                *running += self.momentum * (batch * unbias - *running);
            }
        }
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        gpu::running_stats(rec, [self.momentum, self.unbias], inputs, outputs)
    }
}
