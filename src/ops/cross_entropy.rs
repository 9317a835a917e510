//! Cross-entropy of logits against class ids, fused with the softmax; against probabilities, composed of other ops.

use super::binary::quotient;
use super::loss::Reduction;
use super::reduce::{sum_row, sum_rows};
use super::slicing::{RowPlan, are_interleaved, rows_along, workgroups_of_rows};
use super::{StridedIndexer, arity, to_u32};
use crate::cpu::simd::{exp_below, larger, reduce_run, wide};
use crate::cpu::strided::{GRAIN, rows, rows_by};
use crate::cpu::{CpuBuffer, CpuDevice};
use crate::gpu::{GpuBuffer, Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, Saved, Saves, apply};
use crate::shape::{Layout, MAX_RANK, Shape};
use crate::tensor::Tensor;
use crate::{DType, Error, Result, params};
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&CROSS_ENTROPY, &CROSS_ENTROPY_GRAD];

const NAME: &str = "cross_entropy";

static CROSS_ENTROPY: Kernel = kernel!("cross_entropy.wgsl", "cross_entropy", reads: 3, writes: 3, params: Params,
    "SMOOTH": &[0, 1], "WG": &[RowPlan::WG], "LANES": RowPlan::LANES);
static CROSS_ENTROPY_GRAD: Kernel = kernel!("cross_entropy_grad.wgsl", "cross_entropy_grad", reads: 6, writes: 1,
    params: GradParams, "SMOOTH": &[0, 1], "WG": &[RowPlan::WG], "LANES": RowPlan::LANES);

params! {
    struct Params {
        indexer: StridedIndexer, rows: u32, classes: u32, step: u32, check: u32, t_offset: u32,
        w_offset: u32, weighted: u32, ignoring: u32, ignored: u32, keep: f32, spread: f32,
        counting: u32,
    }
}

params! {
    struct GradParams {
        indexer: StridedIndexer, rows: u32, classes: u32, step: u32, to_step: u32, t_offset: u32,
        w_offset: u32, weighted: u32, ignoring: u32, ignored: u32, keep: f32, spread: f32,
        counting: u32, divisor: f32, kept_offset: u32, dy_offset: u32, dy_step: u32,
        totals_offset: u32,
    }
}

/// Options of [`Tensor::cross_entropy_with`]. The defaults are PyTorch's.
#[derive(Debug, Clone, Default)]
pub struct CrossEntropyOptions {
    /// The fraction of each row's target that is spread evenly over all classes, in `0..=1`; 0 by default. This is
    /// label smoothing: [Szegedy et al.](https://arxiv.org/abs/1512.00567), section 7.
    pub label_smoothing: f32,
    /// The class whose rows have a loss and a gradient of 0, whatever their logits; none by default. It may be out of
    /// range, such as `u32::MAX`.
    pub ignore_index: Option<u32>,
    /// The weight of each class, `f32 [classes]`; all 1 by default. A constant: it gets no gradient.
    pub weight: Option<Tensor>,
    /// The reduction of the losses of the rows; their mean by default. The mean is weighted: the sum of the losses is
    /// divided by the sum of the weights of the targets. It is NaN if every row is ignored.
    pub reduction: Reduction,
}

/// `keep w[t] l[t] + spread Σ w[c] l[c]` for each row, reduced, where `l[c]` is `ln s - (x[c] - m)`, m the row's
/// maximum and s the sum of `exp(x[c] - m)`. Inputs: logits, targets, and optionally the weights w. Output 1, for the
/// gradient, is m and `(keep w[t] + spread Σ w[c]) / s` of each row. Output 2, only for a weighted mean, is the sums of
/// the losses and of the weights of the targets.
#[derive(Debug, Clone, Copy)]
struct CrossEntropy {
    keep: f32,
    /// The label smoothing, not yet divided by the number of classes.
    smoothing: f32,
    ignored: Option<u32>,
    reduction: Reduction,
}

/// The results of one row.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    loss: f32,
    /// The weight of the row in a weighted mean.
    target_weight: f32,
    kept: [f32; 2],
}

impl CrossEntropy {
    fn spread(&self, classes: usize) -> f32 {
        (f64::from(self.smoothing) / classes as f64) as f32
    }

    /// Whether the mean is divided by a sum of weights, which only the device knows.
    fn is_counting(&self, weighted: bool) -> bool {
        self.reduction == Reduction::Mean && (weighted || self.ignored.is_some())
    }

    /// The CPU twin for one row. `w`: the weights, all 1 if none are given; `total`: their sum.
    #[inline(always)]
    fn row(&self, x: &[f32], id: usize, w: &[f32], total: f32) -> Row {
        let spread = self.spread(x.len());
        let max = reduce_run(f32::NEG_INFINITY, larger, |x| x, x);
        let sum = reduce_run(0.0, |a, b| a + b, |x| exp_below(x - max), x);
        let mut loss = self.keep * w[id] * (sum.ln() - (x[id] - max));
        if spread != 0.0 {
            // As in the kernel: relative to the target's logit, unless that is huge or not finite.
            let origin = if x[id].abs() < 1e30 { x[id] } else { 0.0 };
            let dot: f64 = x.iter().zip(w).map(|(x, w)| f64::from(w * (x - origin))).sum();
            loss += spread * (total * (sum.ln() + (max - origin)) - dot as f32);
        }
        Row { loss, target_weight: w[id], kept: [max, (self.keep * w[id] + spread * total) / sum] }
    }
}

/// The layout of one number per row, broadcast over the classes of logits of shape `logits`.
fn over_classes(rows: Layout, logits: Shape) -> Layout {
    let mut strides = [0; MAX_RANK];
    strides[0] = rows.strides[0];
    strides[2..].copy_from_slice(&rows.strides[1..MAX_RANK - 1]);
    Layout { shape: logits, strides, offset: rows.offset }
}

/// The shape of the targets of logits `[n, classes, ..]`.
fn targets_shape(logits: Shape) -> Result<Shape> {
    Shape::new([&logits[..1], &logits[2..]].concat())
}

/// The weights, all 1 if none are given, and their sum.
fn weights(cpu: &Arc<CpuDevice>, given: Option<&CpuView>, classes: usize) -> Result<(CpuBuffer, f32)> {
    let mut w = cpu.scratch(classes)?;
    match given {
        Some(given) => w.copy_from_slice(given.slice()),
        None => w.fill(1.0),
    }
    let total = w.iter().map(|&w| f64::from(w)).sum::<f64>() as f32;
    Ok((w, total))
}

/// Checks what class ids and probabilities have in common, for logits `[n, classes, ..]`.
fn check(logits: Shape, weight: Option<Meta>, smoothing: f32, reduction: Reduction) -> Result<()> {
    let classes = logits[1];
    if let Some(w) = weight.filter(|w| w.shape != [classes] || w.dtype != DType::F32) {
        let message =
            format!("wants f32 weights [{classes}] for logits {logits}, got {:?} {}", w.dtype, w.shape);
        return Err(Error::shape(NAME, message));
    }
    let averages = matches!(reduction, Reduction::Mean | Reduction::BatchMean);
    if classes == 0 || (averages && logits.numel() == 0) {
        let targets = targets_shape(logits)?;
        let message = format!("nothing to average in logits {logits} with targets {targets}");
        return Err(Error::shape(NAME, message));
    }
    if !(0.0..=1.0).contains(&smoothing) {
        return Err(Error::argument(NAME, format!("label smoothing {smoothing} is not in 0..=1")));
    }
    Ok(())
}

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let (x, t, w) = (inputs[0], inputs[1], inputs.get(2));
        let (logits, targets) = (x.shape, t.shape);
        let fits = logits.rank() >= 2 && targets == targets_shape(logits)?;
        if !fits || x.dtype != DType::F32 || t.dtype != DType::U32 {
            let message = format!(
                "wants f32 logits [n, classes, ..] and u32 targets [n, ..], got {:?} {logits} and {:?} {targets}",
                x.dtype, t.dtype
            );
            return Err(Error::shape(NAME, message));
        }
        check(logits, w.copied(), self.smoothing, self.reduction)?;
        let classes = logits[1];
        // If the largest id is the ignored one, others may still be out of range; the device finds them.
        if let Some(id) = t.max_id.known().filter(|&id| id as usize >= classes && Some(id) != self.ignored) {
            return Err(out_of_range(id, logits));
        }
        let mut outputs =
            vec![Meta::f32(self.reduction.shape(targets)), Meta::f32(Shape::new([targets.numel(), 2])?)];
        if self.is_counting(w.is_some()) {
            outputs.push(Meta::f32(Shape::new([2])?));
        }
        Ok(outputs)
    }

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        // The maximum, the difference from it, its exponential, and the sum of these.
        inputs[0].numel().saturating_mul(4)
    }

    fn layout(&self, input: usize) -> Layouts {
        if input == 0 { Layouts::Any } else { Layouts::Contiguous }
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (x, ids, w) = (inputs[0], inputs[1].ids(), inputs.get(2));
        let (shape, classes) = (x.shape(), x.shape()[1]);
        let past = |&&id: &&u32| id as usize >= classes && Some(id) != self.ignored;
        if let Some(&id) = ids.iter().find(past) {
            return Err(out_of_range(id, shape));
        }
        let (starts, step) = rows_along(&x.layout, 1)?;
        let places = Layout::contiguous(starts.shape);
        let (w, total) = weights(cpu, w, classes)?;
        let mut results = cpu.filled(Row::default(), ids.len())?;
        rows_by(GRAIN.div_ceil(classes), &mut results, [starts, places], |results, [x0, t0], [xs, ts]| {
            let mut copy = cpu.scratch(if step == 1 { 0 } else { classes })?;
            for (j, result) in results.iter_mut().enumerate() {
                let (id, x) = (ids[t0 + j * ts], &x.data[x0 + j * xs..]);
                if Some(id) == self.ignored {
                    continue;
                }
                copy.iter_mut().enumerate().for_each(|(class, to)| *to = x[class * step]);
                let row = if step == 1 { &x[..classes] } else { &copy };
                *result = wide(
                    #[inline(always)]
                    || self.row(row, id as usize, &w, total),
                );
            }
            Ok::<(), Error>(())
        })?;
        let losses = cpu.list(ids.len(), results.iter().map(|row| row.loss))?;
        outputs[1]
            .data
            .iter_mut()
            .zip(results.iter().flat_map(|row| row.kept))
            .for_each(|(to, kept)| *to = kept);
        match outputs {
            [reduced, ..] if self.reduction == Reduction::None => reduced.data.copy_from_slice(&losses),
            [mean, _, totals] => {
                let weights = cpu.list(ids.len(), results.iter().map(|row| row.target_weight))?;
                totals.data.copy_from_slice(&[sum_row(cpu, &losses, 1.0)?, sum_row(cpu, &weights, 1.0)?]);
                mean.data[0] = totals.data[0] / totals.data[1];
            }
            [reduced, ..] => {
                reduced.data[0] = sum_row(cpu, &losses, self.reduction.divisor(places.shape) as f32)?
            }
            [] => {}
        }
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (x, t, w) = (inputs[0], &inputs[1], inputs.get(2));
        let (classes, targets) = (x.layout.shape[1], t.layout.shape);
        let (starts, step) = rows_along(&x.layout, 1)?;
        let rows = targets.numel();
        let interleaved = are_interleaved(&starts, step);
        let lanes = RowPlan::lanes_of_whole_rows(rec, NAME, rows, classes, interleaved)?;
        let (status, check) = rec.id_check(NAME, t, classes)?;
        let counting = self.is_counting(w.is_some());
        let parts = if self.reduction == Reduction::None { None } else { Some(rec.scratch(2 * rows)?) };
        let params = Params {
            indexer: StridedIndexer::new(NAME, [starts])?,
            rows: to_u32(NAME, rows)?,
            classes: to_u32(NAME, classes)?,
            step: to_u32(NAME, step)?,
            check,
            t_offset: to_u32(NAME, t.layout.offset)?,
            w_offset: w.map_or(Ok(0), |w| to_u32(NAME, w.layout.offset))?,
            weighted: u32::from(w.is_some()),
            ignoring: u32::from(self.ignored.is_some()),
            ignored: self.ignored.unwrap_or(0),
            keep: self.keep,
            spread: self.spread(classes),
            counting: u32::from(counting),
        };
        let losses = parts.as_ref().unwrap_or(outputs[0].buffer);
        // Without weights some buffer must still be bound; the kernel does not read it.
        let buffers = [x.buffer, t.buffer, w.unwrap_or(&x).buffer, losses, outputs[1].buffer, &*status];
        let constants = [u32::from(params.spread != 0.0), RowPlan::WG, lanes];
        rec.dispatch(&CROSS_ENTROPY, &constants, &buffers, &params, workgroups_of_rows(rows, lanes))?;
        let Some(parts) = parts else { return Ok(()) };
        if !counting {
            return sum_rows(
                rec,
                &parts,
                [1, rows],
                self.reduction.divisor(targets) as f32,
                outputs[0].buffer,
            );
        }
        sum_rows(rec, &parts, [2, rows], 1.0, outputs[2].buffer)?;
        let total = |offset| {
            let layout = Layout { offset, ..Layout::contiguous(Shape::SCALAR) };
            GpuView::new(outputs[2].buffer, layout)
        };
        quotient(rec, total(0), total(1), outputs[0])
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[0, 1, 2], outputs: &[1, 2] }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (x, t, kept) = (saved.input(0)?, saved.input(1)?, saved.output(1)?);
        let weighted = needs.len() == 3;
        // `kept` takes the place of an absent input, which is not read.
        let w = if weighted { saved.input(2)? } else { kept };
        let totals = if self.is_counting(weighted) { saved.output(2)? } else { kept };
        let op = CrossEntropyGrad { forward: *self, weighted };
        Ok(vec![Some(apply(op, &[x, t, w, kept, grad, totals])?)])
    }
}

fn out_of_range(id: u32, logits: Shape) -> Error {
    Error::argument(
        NAME,
        format!("class id {id} among the targets, but logits {logits} have {} classes", logits[1]),
    )
}

/// The gradient of [`CrossEntropy`] with respect to the logits: `exp(x[c] - m) kept - keep w[t] [c = t] - spread w[c]`,
/// times dy, divided by the divisor of the mean. Inputs: logits, targets, weights, the two numbers kept for each row,
/// dy, and the sums of a weighted mean.
struct CrossEntropyGrad {
    forward: CrossEntropy,
    weighted: bool,
}

impl Op for CrossEntropyGrad {
    fn name(&self) -> &'static str {
        "cross_entropy_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x, ..] = arity::<6>(self.name(), inputs)?;
        Ok(vec![Meta::f32(x.shape)])
    }

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        // The difference from the log-sum-exp, its exponential, the difference from the target, and the scale.
        inputs[0].numel().saturating_mul(4)
    }

    fn layout(&self, input: usize) -> Layouts {
        if input == 0 { Layouts::Any } else { Layouts::Contiguous }
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (x, ids, kept, dy, totals) =
            (inputs[0], inputs[1].ids(), inputs[3].slice(), inputs[4], inputs[5]);
        let CrossEntropy { keep, ignored, reduction, .. } = self.forward;
        let (shape, targets) = (outputs[0].shape, inputs[1].shape());
        let spread = self.forward.spread(shape[1]);
        let (w, _) = weights(cpu, self.weighted.then_some(&inputs[2]), shape[1])?;
        let divisor = match self.forward.is_counting(self.weighted) {
            true => totals.slice()[1],
            false => reduction.divisor(targets) as f32,
        };
        let scale = |row: usize| dy.slice()[if reduction == Reduction::None { row } else { 0 }] / divisor;
        // A run goes along the classes of a row, or along the rows of one class, so both indices are operands.
        let along_rows = over_classes(Layout::contiguous(targets), shape);
        let mut along_classes = Layout { strides: [0; MAX_RANK], ..Layout::contiguous(shape) };
        along_classes.strides[1] = 1;
        rows(outputs[0].data, [x.layout, along_rows, along_classes], |dx, [x0, r0, c0], [xs, rs, cs]| {
            let element = |x: f32, row: usize, class: usize| {
                let (id, [max, factor]) = (ids[row], [kept[2 * row], kept[2 * row + 1]]);
                let target_weight = if class == id as usize { keep * w[class] } else { 0.0 };
                let slope = (exp_below(x - max) * factor - target_weight - spread * w[class]) * scale(row);
                if Some(id) == ignored { 0.0 } else { slope }
            };
            if (xs, rs, cs) != (1, 0, 1) || Some(ids[r0]) == ignored {
                for (j, dx) in dx.iter_mut().enumerate() {
                    *dx = element(x.data[x0 + j * xs], r0 + j * rs, c0 + j * cs);
                }
                return;
            }
            // As `element`, but vectorised and without the target.
            let (x, [max, factor], scale) = (&x.data[x0..], [kept[2 * r0], kept[2 * r0 + 1]], scale(r0));
            wide(
                #[inline(always)]
                || {
                    for ((dx, &x), &w) in dx.iter_mut().zip(x).zip(&w[c0..]) {
                        *dx = (exp_below(x - max) * factor - spread * w) * scale;
                    }
                },
            );
            let class = ids[r0] as usize;
            if let Some(at) = class.checked_sub(c0).filter(|&at| at < dx.len()) {
                dx[at] = element(x[at], r0, class);
            }
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (name, forward) = (self.name(), &self.forward);
        let (x, targets) = (inputs[0], inputs[1].layout.shape);
        let (classes, rows) = (x.layout.shape[1], targets.numel());
        let (starts, step) = rows_along(&x.layout, 1)?;
        let (to, to_step) = rows_along(&Layout::contiguous(outputs[0].shape), 1)?;
        let interleaved = are_interleaved(&starts, step);
        let lanes = RowPlan::lanes_of_whole_rows(rec, name, rows, classes, interleaved)?;
        let offset = |input: usize| to_u32(name, inputs[input].layout.offset);
        let params = GradParams {
            indexer: StridedIndexer::new(name, [starts, to])?,
            rows: to_u32(name, rows)?,
            classes: to_u32(name, classes)?,
            step: to_u32(name, step)?,
            to_step: to_u32(name, to_step)?,
            t_offset: offset(1)?,
            w_offset: offset(2)?,
            weighted: u32::from(self.weighted),
            ignoring: u32::from(forward.ignored.is_some()),
            ignored: forward.ignored.unwrap_or(0),
            keep: forward.keep,
            spread: forward.spread(classes),
            counting: u32::from(forward.is_counting(self.weighted)),
            divisor: forward.reduction.divisor(targets) as f32,
            kept_offset: offset(3)?,
            dy_offset: offset(4)?,
            dy_step: u32::from(forward.reduction == Reduction::None),
            totals_offset: offset(5)?,
        };
        let constants = [u32::from(params.spread != 0.0), RowPlan::WG, lanes];
        let buffers: Vec<&GpuBuffer> =
            inputs.iter().map(|input| input.buffer).chain([outputs[0].buffer]).collect();
        rec.dispatch(&CROSS_ENTROPY_GRAD, &constants, &buffers, &params, workgroups_of_rows(rows, lanes))
    }
}

/// The loss against probabilities, composed of other ops: it has gradients for both.
#[track_caller]
fn by_probabilities(logits: &Tensor, targets: &Tensor, options: &CrossEntropyOptions) -> Result<Tensor> {
    let (shape, smoothing) = (logits.shape(), options.label_smoothing);
    if shape.rank() < 2 {
        return Err(Error::shape(NAME, format!("logits {shape}, should be [n, classes, ..]")));
    }
    if targets.shape() != shape {
        let own = targets.shape();
        let message = format!(
            "F32 targets are probabilities and must have the shape of the logits, {shape}, got {own}; class ids must be U32"
        );
        return Err(Error::shape(NAME, message));
    }
    if options.ignore_index.is_some() {
        let message = "an ignored class needs targets that are class ids, not probabilities";
        return Err(Error::argument(NAME, message));
    }
    check(shape, options.weight.as_ref().map(Tensor::meta), smoothing, options.reduction)?;
    let classes = shape[1];
    let mut products = logits.log_softmax(1)?;
    products = match smoothing {
        0.0 => products.mul(targets)?,
        _ => products.mul(&targets.mul_scalar(1.0 - smoothing)?.add_scalar(smoothing / classes as f32)?)?,
    };
    if let Some(weight) = &options.weight {
        let mut along = vec![1; shape.rank()];
        along[1] = classes;
        products = products.mul(&weight.detach().reshape(along)?)?;
    }
    let losses = products.sum(&[1], false)?.neg()?;
    match options.reduction {
        Reduction::None => Ok(losses),
        Reduction::Sum => losses.sum_all(),
        Reduction::Mean => losses.mean_all(),
        Reduction::BatchMean => losses.sum_all()?.div_scalar(shape[0] as f32),
    }
}

impl Tensor {
    /// The mean of `-log_softmax(logits)[target]` over the rows, of rank 0.
    ///
    /// This tensor holds the logits, `[n, classes, ..]`, and `targets` the class ids, `u32 [n, ..]`, or the probabilities of
    /// all classes, as in [`Tensor::cross_entropy_with`]; each position along the axes other than 1 is a row. For ids it is
    /// one pass over the logits by online softmax ([Milakov & Gimelshein](https://arxiv.org/abs/1805.02867)), which stores two numbers per row for the gradient,
    /// `(softmax - one_hot) / rows`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let logits = Tensor::zeros([3, 10], &Device::cpu())?;
    /// let targets = Tensor::from_ids(&[7, 0, 9], [3], &Device::cpu())?;
    /// assert!((logits.cross_entropy(&targets)?.item()? - 10f32.ln()).abs() < 1e-6);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Other shapes or types, an empty batch, no classes, or the device fails. A class id out of range is an error at
    /// once if the ids were uploaded or are on the CPU. If a GPU computed them, reading the loss, or anything computed
    /// from it, is an error.
    #[track_caller]
    pub fn cross_entropy(&self, targets: &Tensor) -> Result<Tensor> {
        self.cross_entropy_with(targets, &CrossEntropyOptions::default())
    }

    /// As [`Tensor::cross_entropy`], with label smoothing, an ignored class, class weights and a choice of reductions.
    ///
    /// `targets` may also be probabilities of the classes, `f32` of the shape of the logits: the loss of a row is then
    /// `-Σ w[c] p[c] log_softmax(logits)[c]`, the mean is over the rows whatever the weights, as in PyTorch, and no class
    /// can be ignored.
    ///
    /// With smoothing s and weights w, the loss of a row with target t is `-(1 - s) w[t] log_softmax(logits)[t] - s /
    /// classes Σ w[c] log_softmax(logits)[c]`, as in PyTorch.
    ///
    /// ```
    /// # use gristmill::{CrossEntropyOptions, Device, Tensor};
    /// let logits = Tensor::from_slice(&[2.0, 0.0, 0.0, 3.0], [2, 2], &Device::cpu())?;
    /// let targets = Tensor::from_ids(&[0, u32::MAX], [2], &Device::cpu())?;
    /// let options = CrossEntropyOptions { ignore_index: Some(u32::MAX), ..Default::default() };
    /// let loss = logits.cross_entropy_with(&targets, &options)?.item()?; // of the first row alone
    /// assert!((loss - (1.0 + (-2f32).exp()).ln()).abs() < 1e-6);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::cross_entropy`], a smoothing outside `0..=1`, or weights of another shape than `[classes]`. An
    /// empty batch is an error for the means only.
    #[track_caller]
    pub fn cross_entropy_with(&self, targets: &Tensor, options: &CrossEntropyOptions) -> Result<Tensor> {
        if targets.dtype() == DType::F32 {
            return by_probabilities(self, targets, options);
        }
        let op = CrossEntropy {
            keep: (1.0 - f64::from(options.label_smoothing)) as f32,
            smoothing: options.label_smoothing,
            ignored: options.ignore_index,
            reduction: options.reduction,
        };
        match &options.weight {
            Some(weight) => apply(op, &[self, targets, weight]),
            None => apply(op, &[self, targets]),
        }
    }
}
