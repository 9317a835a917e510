//! Losses of pairs: a function of a prediction and its target, element by element, and what becomes of the results.

use super::reduce::{sum_row, sum_rows};
use super::{Elementwise, WG, Walk, floats, word};
use crate::cpu::walk::rows;
use crate::gpu::{GpuBuffer, Kernel, Recorder};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, Saved, Saves, apply};
use crate::ops::unary::{relu, sigmoid};
use crate::shape::{Layout, MAX_RANK, Shape};
use crate::tensor::Tensor;
use crate::{Error, Result, kernel, params};

pub(crate) const KERNELS: &[&Kernel] =
    &[&STRIDED, &VECTOR, &FOLD_STRIDED, &FOLD_VECTOR, &GRAD_STRIDED, &GRAD_VECTOR];

/// Elements that an invocation folds.
const EACH: u32 = 8;

const OPS: &[u32] = &[0, 1, 2, 3, 4, 5, 6];
const GRAD_OPS: &[u32] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
static STRIDED: Kernel = kernel!("loss.wgsl", "strided", reads: 3, writes: 1, params: Params,
    "OP": OPS, "WG": &[WG], "EACH": &[EACH]);
static VECTOR: Kernel = kernel!("loss.wgsl", "vector", reads: 3, writes: 1, params: Params,
    "OP": OPS, "WG": &[WG], "EACH": &[EACH]);
static FOLD_STRIDED: Kernel = kernel!("loss.wgsl", "fold_strided", reads: 3, writes: 1, params: Params,
    "OP": OPS, "WG": &[WG], "EACH": &[EACH]);
static FOLD_VECTOR: Kernel = kernel!("loss.wgsl", "fold_vector", reads: 3, writes: 1, params: Params,
    "OP": OPS, "WG": &[WG], "EACH": &[EACH]);
static GRAD_STRIDED: Kernel = kernel!("loss_grad.wgsl", "strided", reads: 4, writes: 1, params: Params,
    "OP": GRAD_OPS, "WG": &[WG]);
static GRAD_VECTOR: Kernel = kernel!("loss_grad.wgsl", "vector", reads: 4, writes: 1, params: Params,
    "OP": GRAD_OPS, "WG": &[WG]);

params! {
    struct Params {
        walk: Walk,
        count: u32,
        scalars: u32,
        weighted: u32,
        delta: f32,
        dy_offset: u32,
        dy_step: u32,
        scale: f32,
    }
}

/// What becomes of the losses of single elements or rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduction {
    /// Their mean, of rank 0; NaN of none.
    #[default]
    Mean,
    /// Their sum, of rank 0.
    Sum,
    /// Their sum divided by the length of the first axis, of rank 0: the mean over a batch of what each of its members
    /// costs as a whole.
    BatchMean,
    /// Nothing: a tensor of all of them.
    None,
}

impl Reduction {
    /// The shape of the result for losses of this shape.
    pub(crate) fn shape(self, losses: Shape) -> Shape {
        if self == Reduction::None { losses } else { Shape::SCALAR }
    }

    /// What the sum of losses of this shape is divided by.
    pub(crate) fn divisor(self, losses: Shape) -> usize {
        match self {
            Reduction::Mean => losses.numel(),
            Reduction::BatchMean => losses.first().copied().unwrap_or(1),
            Reduction::Sum | Reduction::None => 1,
        }
    }
}

/// A loss of a prediction `x` against a target `t` of the same shape, element by element. Each is differentiable in
/// both. Cross-entropy against class ids is [`Tensor::cross_entropy`].
#[derive(Debug, Clone, Default)]
pub enum Loss {
    /// `(x - t)²`.
    #[default]
    Mse,
    /// `|x - t|`; the gradient where they are equal is 0.
    L1,
    /// `(x - t)² / 2` where `|x - t|` is below `delta`, else `delta (|x - t| - delta / 2)`: Huber, "Robust estimation of
    /// a location parameter" (1964).
    Huber {
        /// Where the parabola turns into lines; positive.
        delta: f32,
    },
    /// `max(0, 1 - t x)` for targets of 1 and -1; the gradient at the corner is 0.
    Hinge,
    /// Binary cross-entropy of the probability `σ(x)` against the target probability t:
    /// `(1 - t) ln(1 + e^x) + w t ln(1 + e^-x)`, which no logit overflows.
    BceWithLogits {
        /// The weight `w` of the positive class, of a shape that broadcasts to the prediction's; 1 by default. A
        /// constant: it gets no gradient.
        pos_weight: Option<Tensor>,
    },
    /// Kullback and Leibler's divergence of the target distribution from the predicted one, whose logarithms x are:
    /// `t (ln t - x)`. Where t is 0 it adds 0, whatever x is but NaN, and has no gradient with regard to t.
    KlDiv {
        /// Whether t holds logarithms as well: `e^t (t - x)`.
        log_target: bool,
    },
}

impl Loss {
    /// The loss of `prediction` against `target`, reduced; one kernel computes and folds it.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Loss, Reduction}};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// let t = Tensor::from_slice(&[1.0, 4.0, 2.0], [3], &Device::cpu())?;
    /// assert_eq!(Loss::L1.of(&x, &t, Reduction::Sum)?.item()?, 3.0);
    /// assert_eq!(Loss::Mse.of(&x, &t, Reduction::None)?.to_vec()?, [0.0, 4.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Shapes that differ (nothing is broadcast: a `[n]` against a `[n, 1]` would be a mean over `n²` pairs), a `delta`
    /// that is not positive and finite, a weight that does not broadcast, [`Reduction::BatchMean`] of rank 0, a tensor
    /// of ids, or the device fails.
    pub fn of(&self, prediction: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
        let (function, delta) = match *self {
            Loss::Mse => (Function::Mse, 1.0),
            Loss::L1 => (Function::L1, 1.0),
            Loss::Huber { delta } => (Function::Huber, delta),
            Loss::Hinge => (Function::Hinge, 1.0),
            Loss::BceWithLogits { .. } => (Function::Bce, 1.0),
            Loss::KlDiv { log_target: false } => (Function::Kl, 1.0),
            Loss::KlDiv { log_target: true } => (Function::KlLog, 1.0),
        };
        let op = PairLoss { function, delta, reduction };
        match self {
            Loss::BceWithLogits { pos_weight: Some(weight) } => apply(op, &[prediction, target, weight]),
            _ => apply(op, &[prediction, target]),
        }
    }
}

/// The functions, with their numbers in `loss.wgsl` and `loss_grad.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Function {
    Mse = 0,
    L1 = 1,
    Huber = 2,
    Hinge = 3,
    Bce = 4,
    Kl = 5,
    KlLog = 6,
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Function::Mse => "mse_loss",
            Function::L1 => "l1_loss",
            Function::Huber => "huber_loss",
            Function::Hinge => "hinge_loss",
            Function::Bce => "bce_with_logits_loss",
            Function::Kl | Function::KlLog => "kl_div_loss",
        }
    }

    /// Whether a prediction and its target may be exchanged.
    fn is_symmetric(self) -> bool {
        matches!(self, Function::Mse | Function::L1 | Function::Huber | Function::Hinge)
    }
}

fn softplus(x: f32) -> f32 {
    relu(x) + (-x.abs()).exp().ln_1p()
}

/// 0 where the target has no probability, unless the prediction is NaN.
fn unless_zero(value: f32, probability: f32, x: f32) -> f32 {
    if probability == 0.0 && !x.is_nan() { 0.0 } else { value }
}

/// The loss of each pair.
#[derive(Debug, Clone, Copy)]
struct PairLoss {
    function: Function,
    delta: f32,
    reduction: Reduction,
}

impl PairLoss {
    /// One monomorphic loop a function, so that the compiler can vectorise it.
    fn each(self, y: &mut [f32], pair: [CpuView; 3]) {
        let delta = self.delta;
        match self.function {
            Function::Mse => each(y, pair, |x, t, _| (x - t) * (x - t)),
            Function::L1 => each(y, pair, |x, t, _| (x - t).abs()),
            Function::Huber => each(y, pair, |x, t, _| {
                let d = (x - t).abs();
                if d < delta { 0.5 * d * d } else { delta * (d - 0.5 * delta) }
            }),
            Function::Hinge => each(y, pair, |x, t, _| relu(1.0 - t * x)),
            Function::Bce => each(y, pair, |x, t, w| (1.0 - t) * softplus(x) + w * t * softplus(-x)),
            Function::Kl => each(y, pair, |x, t, _| unless_zero(t * (t.ln() - x), t, x)),
            Function::KlLog => each(y, pair, |x, t, _| unless_zero(t.exp() * (t - x), t.exp(), x)),
        }
    }
}

/// The operands of a CPU twin over `shape`; the weight is 1 where there is none.
fn expanded<'a>(name: &'static str, [x, t, w]: [CpuView<'a>; 3], shape: Shape) -> Result<[CpuView<'a>; 3]> {
    let expand = |view: CpuView<'a>| Ok(CpuView { layout: view.layout.expand(shape, name)?, ..view });
    Ok([expand(x)?, expand(t)?, expand(w)?])
}

/// The weight of the positive class where none is given.
const ONE: CpuView =
    CpuView { data: &[1.0], layout: Layout { shape: Shape::SCALAR, strides: [0; MAX_RANK], offset: 0 } };

fn each(y: &mut [f32], [x, t, w]: [CpuView; 3], f: impl Fn(f32, f32, f32) -> f32 + Sync) {
    rows(y, [x.layout, t.layout, w.layout], |y, [x0, t0, w0], steps| match steps {
        [1, 1, 0] => {
            let w = w.data[w0];
            y.iter_mut().zip(&x.data[x0..]).zip(&t.data[t0..]).for_each(|((y, &x), &t)| *y = f(x, t, w));
        }
        [xs, ts, ws] => {
            let at = |j: usize| (x.data[x0 + j * xs], t.data[t0 + j * ts], w.data[w0 + j * ws]);
            y.iter_mut().enumerate().for_each(|(j, y)| {
                let (x, t, w) = at(j);
                *y = f(x, t, w);
            });
        }
    });
}

/// The parameters for an output of `shape`, and whether the operands allow four elements at a time.
fn params(name: &'static str, delta: f32, operands: &[GpuView], shape: Shape) -> Result<(Params, bool)> {
    // The kernels count past the end, by what a workgroup folds and by the idle workgroups of a folded grid.
    word(name, shape.numel() + (1 << 20))?;
    let layouts: Vec<Layout> = operands.iter().map(|operand| operand.layout).collect();
    let (plan, fits) = match layouts[..] {
        [x, t, w] => Elementwise::planned(name, [x, t, w], shape)?,
        [x, t, ..] => Elementwise::planned(name, [x, t], shape)?,
        _ => return Err(Error::shape(name, "takes a prediction and a target")),
    };
    let params = Params {
        walk: plan.walk,
        count: plan.count,
        scalars: plan.scalars,
        weighted: u32::from(operands.len() == 3),
        delta,
        dy_offset: 0,
        dy_step: 0,
        scale: 1.0,
    };
    Ok((params, fits))
}

impl Op for PairLoss {
    fn name(&self) -> &'static str {
        self.function.name()
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let name = self.name();
        floats(name, inputs)?;
        let (prediction, target) = (inputs[0].shape, inputs[1].shape);
        if prediction != target {
            let message = format!("predictions of shape {prediction} for targets of {target}");
            return Err(Error::shape(name, message));
        }
        if let Some(weight) = inputs.get(2).map(|meta| meta.shape)
            && weight.broadcast(&prediction, name)? != prediction
        {
            let message = format!("a weight of shape {weight} for predictions of {prediction}");
            return Err(Error::shape(name, message));
        }
        if self.reduction == Reduction::BatchMean && prediction.rank() == 0 {
            return Err(Error::shape(name, "predictions of rank 0 are no batch"));
        }
        if !(self.delta > 0.0 && self.delta.is_finite()) {
            return Err(Error::argument(
                name,
                format!("a delta of {} is not positive and finite", self.delta),
            ));
        }
        Ok(vec![Meta::f32(self.reduction.shape(prediction))])
    }

    fn cpu(&self, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let shape = inputs[0].shape();
        let pair = [inputs[0], inputs[1], inputs.get(2).copied().unwrap_or(ONE)];
        let pair = expanded(self.name(), pair, shape)?;
        if self.reduction == Reduction::None {
            self.each(outputs[0].data, pair);
        } else {
            let mut losses = vec![0.0; shape.numel()];
            self.each(&mut losses, pair);
            outputs[0].data[0] = sum_row(&losses, self.reduction.divisor(shape) as f32)?;
        }
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (name, shape, op) = (self.name(), inputs[0].layout.shape, self.function as u32);
        let (params, fits) = params(name, self.delta, inputs, shape)?;
        let count = shape.numel();
        let constants = [op, WG, EACH];
        // Without a weight some buffer must still be bound; the kernel does not read it.
        let bound = |to| [inputs[0].buffer, inputs[1].buffer, inputs.get(2).unwrap_or(&inputs[0]).buffer, to];
        if self.reduction == Reduction::None {
            let (kernel, handled) = if fits { (&VECTOR, 4 * WG) } else { (&STRIDED, WG) };
            let groups = count.div_ceil(handled as usize);
            return rec.dispatch(kernel, &constants, &bound(outputs[0].buffer), &params, groups);
        }
        let groups = count.div_ceil((EACH * WG) as usize);
        let partial = rec.scratch(groups)?;
        let kernel = if fits { &FOLD_VECTOR } else { &FOLD_STRIDED };
        rec.dispatch(kernel, &constants, &bound(&partial), &params, groups)?;
        let divisor = self.reduction.divisor(shape) as f32;
        sum_rows(rec, &partial, [1, groups], divisor, outputs[0].buffer)
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[0, 1, 2], outputs: &[] }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (x, t) = (saved.input(0)?, saved.input(1)?);
        let scale = 1.0 / self.reduction.divisor(saved.shape(0)) as f64;
        let weight = if needs.len() == 3 { Some(saved.input(2)?) } else { None };
        let slope = |of_target: bool| {
            let exchanged = of_target && self.function.is_symmetric();
            let op = PairLossGrad { loss: *self, of_target: of_target && !exchanged, scale: scale as f32 };
            let [x, t] = if exchanged { [t, x] } else { [x, t] };
            match weight {
                Some(weight) => apply(op, &[x, t, weight, grad]),
                None => apply(op, &[x, t, grad]),
            }
        };
        Ok(vec![needs[0].then(|| slope(false)).transpose()?, needs[1].then(|| slope(true)).transpose()?])
    }
}

/// The gradient of a [`PairLoss`] with regard to the prediction or the target. Inputs: the pair, the weight if there is
/// one, and dy.
struct PairLossGrad {
    loss: PairLoss,
    of_target: bool,
    /// What a loss is multiplied by on its way into the mean.
    scale: f32,
}

impl PairLossGrad {
    /// The number in `loss_grad.wgsl`.
    fn code(&self) -> u32 {
        // With regard to the target, the last three functions once more.
        self.loss.function as u32 + if self.of_target { 3 } else { 0 }
    }

    fn each(&self, dx: &mut [f32], pair: [CpuView; 3], dy: CpuView) {
        let (delta, scale) = (self.loss.delta, self.scale);
        match (self.loss.function, self.of_target) {
            (Function::Mse, _) => each_grad(dx, pair, dy, scale, |x, t, _| 2.0 * (x - t)),
            (Function::L1, _) => each_grad(dx, pair, dy, scale, |x, t, _| sign(x - t)),
            (Function::Huber, _) => each_grad(dx, pair, dy, scale, |x, t, _| (x - t).clamp(-delta, delta)),
            (Function::Hinge, _) => each_grad(dx, pair, dy, scale, |x, t, _| {
                let margin = 1.0 - t * x;
                if margin > 0.0 { -t } else { relu(margin) }
            }),
            (Function::Bce, false) => {
                each_grad(dx, pair, dy, scale, |x, t, w| (1.0 - t) * sigmoid(x) - w * t * sigmoid(-x))
            }
            (Function::Bce, true) => each_grad(dx, pair, dy, scale, |x, _, w| {
                // A product with w - 1 = 0 could make an infinite x NaN.
                (if w == 1.0 { 0.0 } else { (w - 1.0) * softplus(-x) }) - x
            }),
            (Function::Kl, false) => each_grad(dx, pair, dy, scale, |_, t, _| -t),
            (Function::Kl, true) => {
                each_grad(dx, pair, dy, scale, |x, t, _| unless_zero(t.ln() - x + 1.0, t, x))
            }
            (Function::KlLog, false) => each_grad(dx, pair, dy, scale, |_, t, _| -t.exp()),
            (Function::KlLog, true) => {
                each_grad(dx, pair, dy, scale, |x, t, _| unless_zero(t.exp() * (t - x + 1.0), t.exp(), x))
            }
        }
    }
}

/// -1, 0 or 1; NaN stays NaN.
fn sign(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

fn each_grad(
    dx: &mut [f32],
    [x, t, w]: [CpuView; 3],
    dy: CpuView,
    scale: f32,
    slope: impl Fn(f32, f32, f32) -> f32 + Sync,
) {
    rows(dx, [x.layout, t.layout, w.layout, dy.layout], |dx, [x0, t0, w0, d0], steps| match steps {
        [1, 1, 0, 0] => {
            let (w, dy) = (w.data[w0], dy.data[d0] * scale);
            let pairs = x.data[x0..].iter().zip(&t.data[t0..]);
            dx.iter_mut().zip(pairs).for_each(|(dx, (&x, &t))| *dx = dy * slope(x, t, w));
        }
        [xs, ts, ws, ds] => {
            for (j, dx) in dx.iter_mut().enumerate() {
                let (x, t, w) = (x.data[x0 + j * xs], t.data[t0 + j * ts], w.data[w0 + j * ws]);
                *dx = dy.data[d0 + j * ds] * scale * slope(x, t, w);
            }
        }
    });
}

impl Op for PairLossGrad {
    fn name(&self) -> &'static str {
        "loss_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta::f32(inputs[0].shape)])
    }

    fn layout(&self, input: usize) -> Layouts {
        // dy, the last, is walked with the output.
        if input < 2 { Layouts::Any } else { Layouts::Contiguous }
    }

    fn cpu(&self, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let shape = outputs[0].shape;
        let (pair, dy) = match *inputs {
            [x, t, w, dy] => ([x, t, w], dy),
            [x, t, dy] => ([x, t, ONE], dy),
            _ => return Err(Error::shape(self.name(), format!("takes 3 or 4 inputs, got {}", inputs.len()))),
        };
        let dy = CpuView { layout: dy.layout.expand(shape, self.name())?, ..dy };
        self.each(outputs[0].data, expanded(self.name(), pair, shape)?, dy);
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (shape, name) = (outputs[0].shape, self.name());
        let Some((dy, operands)) = inputs.split_last() else { return Ok(()) };
        let (params, fits) = params(name, self.loss.delta, operands, shape)?;
        let one_each = self.loss.reduction == Reduction::None;
        let params = Params {
            dy_offset: word(name, dy.layout.offset)?,
            dy_step: u32::from(one_each),
            scale: self.scale,
            ..params
        };
        let fits = fits && (!one_each || dy.layout.offset.is_multiple_of(4));
        let (kernel, handled) = if fits { (&GRAD_VECTOR, 4 * WG) } else { (&GRAD_STRIDED, WG) };
        let weight = operands.get(2).unwrap_or(&operands[0]).buffer;
        let buffers: [&GpuBuffer; 5] =
            [operands[0].buffer, operands[1].buffer, weight, dy.buffer, outputs[0].buffer];
        rec.dispatch(kernel, &[self.code(), WG], &buffers, &params, shape.numel().div_ceil(handled as usize))
    }
}
