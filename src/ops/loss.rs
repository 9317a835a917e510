//! Losses of pairs: a function of a prediction and its target, element by element, and what becomes of the results.

use super::reduce::{sum_row, sum_rows};
use super::{Elementwise, ElementwiseKernels, WG, arity, floats, word};
use crate::cpu::CpuDevice;
use crate::cpu::functions::{relu, sigmoid, softplus};
use crate::cpu::walk::rows;
use crate::gpu::{Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves, apply};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] =
    &[&STRIDED, &VECTOR, &FOLD_STRIDED, &FOLD_VECTOR, &GRAD_STRIDED, &GRAD_VECTOR];

/// Elements that an invocation folds.
const EACH: u32 = 8;

static STRIDED: Kernel = kernel!("loss.wgsl", "strided", reads: 3, writes: 1, params: Elementwise,
    "OP": Function::CODES, "WG": &[WG], "EACH": &[EACH]);
static VECTOR: Kernel = kernel!("loss.wgsl", "vector", reads: 3, writes: 1, params: Elementwise,
    "OP": Function::CODES, "WG": &[WG], "EACH": &[EACH]);
static FOLD_STRIDED: Kernel = kernel!("loss.wgsl", "fold_strided", reads: 3, writes: 1, params: Elementwise,
    "OP": Function::CODES, "WG": &[WG], "EACH": &[EACH]);
static FOLD_VECTOR: Kernel = kernel!("loss.wgsl", "fold_vector", reads: 3, writes: 1, params: Elementwise,
    "OP": Function::CODES, "WG": &[WG], "EACH": &[EACH]);
static GRAD_STRIDED: Kernel = kernel!("loss_grad.wgsl", "strided", reads: 3, writes: 1, params: Elementwise,
    "OP": Slope::CODES, "WG": &[WG]);
static GRAD_VECTOR: Kernel = kernel!("loss_grad.wgsl", "vector", reads: 3, writes: 1, params: Elementwise,
    "OP": Slope::CODES, "WG": &[WG]);
const LOSSES: ElementwiseKernels = ElementwiseKernels { strided: &STRIDED, vector: &VECTOR };
const GRADIENTS: ElementwiseKernels = ElementwiseKernels { strided: &GRAD_STRIDED, vector: &GRAD_VECTOR };

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
    /// `(x - t)²`. Where a square or the sum of them exceeds f32's range the loss is infinite on every device; its gradient
    /// squares nothing.
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
        let (function, delta) = match self {
            Loss::Mse => (Function::Mse, 1.0),
            Loss::L1 => (Function::L1, 1.0),
            Loss::Huber { delta } => (Function::Huber, *delta),
            Loss::Hinge => (Function::Hinge, 1.0),
            Loss::BceWithLogits { pos_weight: None } => (Function::Bce, 1.0),
            Loss::BceWithLogits { pos_weight: Some(_) } => (Function::WeightedBce, 1.0),
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

/// Declares functions of three operands: name, number in the kernel, and the function itself.
macro_rules! functions {
    ($(#[$doc:meta])* $enum:ident; $($function:ident = $number:literal: $f:expr;)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        enum $enum { $($function = $number),* }

        impl $enum {
            const CODES: &[u32] = &[$($number),*];

            /// One monomorphic loop a function, so that the compiler can vectorise it.
            fn each(self, y: &mut [f32], operands: [CpuView; 3], attributes: [f32; 2]) {
                match self { $($enum::$function => each(y, operands, attributes, $f)),* }
            }
        }
    };
}

functions! {
    /// The losses of `loss.wgsl`, of a prediction x, a target t and a weight w; the attribute is Huber's delta.
    Function;
    Mse = 0: |x, t, _, _| (x - t) * (x - t);
    L1 = 1: |x, t, _, _| (x - t).abs();
    Huber = 2: |x, t, _, [delta, _]| {
        let d = (x - t).abs();
        if d < delta { 0.5 * d * d } else { delta * (d - 0.5 * delta) }
    };
    Hinge = 3: |x, t, _, _| relu(1.0 - t * x);
    Bce = 4: |x, t, _, _| (1.0 - t) * softplus(x) + t * softplus(-x);
    Kl = 5: |x, t, _, _| unless_zero(t * (t.ln() - x), t, x);
    KlLog = 6: |x, t, _, _| unless_zero(t.exp() * (t - x), t.exp(), x);
    WeightedBce = 7: |x, t, w, _| (1.0 - t) * softplus(x) + w * t * softplus(-x);
}

functions! {
    /// The derivatives of `loss_grad.wgsl` with regard to x and, where they are `OfTarget`, to t, times dy; the weighted ones
    /// have the weight w instead of dy. The second attribute is what a loss is multiplied by on its way into the mean.
    Slope;
    Mse = 0: |x, t, dy, [_, scale]| 2.0 * (dy * scale) * (x - t);
    L1 = 1: |x, t, dy, [_, scale]| {
        let d = x - t;
        dy * scale * if d == 0.0 || d.is_nan() { d } else { d.signum() }
    };
    Huber = 2: |x, t, dy, [delta, scale]| dy * scale * (x - t).clamp(-delta, delta);
    Hinge = 3: |x, t, dy, [_, scale]| {
        let margin = 1.0 - t * x;
        dy * scale * if margin > 0.0 { -t } else { relu(margin) }
    };
    Bce = 4: |x, t, dy, [_, scale]| dy * scale * ((1.0 - t) * sigmoid(x) - t * sigmoid(-x));
    Kl = 5: |_, t, dy, [_, scale]| -(dy * scale * t);
    KlLog = 6: |_, t, dy, [_, scale]| -(dy * scale * t.exp());
    BceOfTarget = 7: |x, _, dy, [_, scale]| -(dy * scale * x);
    KlOfTarget = 8: |x, t, dy, [_, scale]| dy * scale * unless_zero(t.ln() - x + 1.0, t, x);
    KlLogOfTarget = 9: |x, t, dy, [_, scale]| {
        dy * scale * unless_zero(t.exp() * (t - x + 1.0), t.exp(), x)
    };
    WeightedBce = 10: |x, t, w, [_, scale]| scale * ((1.0 - t) * sigmoid(x) - w * t * sigmoid(-x));
    // A weight of 1 keeps an infinite x from being NaN.
    WeightedBceOfTarget = 11: |x, _, w, [_, scale]| {
        scale * ((if w == 1.0 { 0.0 } else { (w - 1.0) * softplus(-x) }) - x)
    };
}

impl Function {
    /// The derivatives with regard to the prediction and to the target.
    fn slopes(self) -> [Slope; 2] {
        match self {
            // These may exchange x and t.
            Function::Mse => [Slope::Mse; 2],
            Function::L1 => [Slope::L1; 2],
            Function::Huber => [Slope::Huber; 2],
            Function::Hinge => [Slope::Hinge; 2],
            Function::Bce => [Slope::Bce, Slope::BceOfTarget],
            Function::Kl => [Slope::Kl, Slope::KlOfTarget],
            Function::KlLog => [Slope::KlLog, Slope::KlLogOfTarget],
            Function::WeightedBce => [Slope::WeightedBce, Slope::WeightedBceOfTarget],
        }
    }
}

/// 0 where the target has no probability, unless the prediction is NaN.
fn unless_zero(value: f32, probability: f32, x: f32) -> f32 {
    if probability == 0.0 && !x.is_nan() { 0.0 } else { value }
}

fn each(
    y: &mut [f32],
    [x, t, c]: [CpuView; 3],
    attributes: [f32; 2],
    f: impl Fn(f32, f32, f32, [f32; 2]) -> f32 + Sync,
) {
    rows(y, [x.layout, t.layout, c.layout], |y, [x0, t0, c0], steps| match steps {
        [1, 1, 0] => {
            let (pairs, c) = (x.data[x0..].iter().zip(&t.data[t0..]), c.data[c0]);
            y.iter_mut().zip(pairs).for_each(|(y, (&x, &t))| *y = f(x, t, c, attributes));
        }
        [1, 1, 1] => {
            let triples = x.data[x0..].iter().zip(&t.data[t0..]).zip(&c.data[c0..]);
            y.iter_mut().zip(triples).for_each(|(y, ((&x, &t), &c))| *y = f(x, t, c, attributes));
        }
        [xs, ts, cs] => {
            for (j, y) in y.iter_mut().enumerate() {
                let [x, t, c] = [x.data[x0 + j * xs], t.data[t0 + j * ts], c.data[c0 + j * cs]];
                *y = f(x, t, c, attributes);
            }
        }
    });
}

/// Three operands from two or three: where the third is missing nobody reads it, and the first stands in for it.
fn three<T: Copy>(operands: &[T]) -> [T; 3] {
    [operands[0], operands[1], operands.get(2).copied().unwrap_or(operands[0])]
}

/// The operands of a CPU twin, broadcast to `shape`.
fn broadcast<'a>(name: &'static str, operands: &[CpuView<'a>], shape: Shape) -> Result<[CpuView<'a>; 3]> {
    let mut operands = three(operands);
    for operand in &mut operands {
        operand.layout = operand.layout.expand(shape, name)?;
    }
    Ok(operands)
}

/// The loss of each pair, reduced. Inputs: prediction, target and, where there is one, the weight.
#[derive(Debug, Clone, Copy)]
struct PairLoss {
    function: Function,
    delta: f32,
    reduction: Reduction,
}

impl Op for PairLoss {
    fn name(&self) -> &'static str {
        match self.function {
            Function::Mse => "mse_loss",
            Function::L1 => "l1_loss",
            Function::Huber => "huber_loss",
            Function::Hinge => "hinge_loss",
            Function::Bce | Function::WeightedBce => "bce_with_logits_loss",
            Function::Kl | Function::KlLog => "kl_div_loss",
        }
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

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let shape = inputs[0].shape();
        let (operands, attributes) = (broadcast(self.name(), inputs, shape)?, [self.delta, 0.0]);
        if self.reduction == Reduction::None {
            self.function.each(outputs[0].data, operands, attributes);
        } else {
            let mut losses = cpu.scratch(shape.numel())?;
            self.function.each(&mut losses, operands, attributes);
            outputs[0].data[0] = sum_row(cpu, &losses, self.reduction.divisor(shape) as f32)?;
        }
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (name, shape, operands) = (self.name(), inputs[0].layout.shape, three(inputs));
        let (constants, attributes) = ([self.function as u32, WG, EACH], [self.delta, 0.0]);
        if self.reduction == Reduction::None {
            return LOSSES.dispatch(rec, name, &constants, attributes, operands, outputs[0]);
        }
        let count = shape.numel();
        // The kernels count past the end by what a workgroup folds, and by a folded grid's idle workgroups.
        word(name, count + (1 << 20))?;
        let (params, fits) = Elementwise::planned(name, operands.map(|operand| operand.layout), shape)?;
        let params = Elementwise { attributes, ..params };
        let groups = count.div_ceil((EACH * WG) as usize);
        let partial = rec.scratch(groups)?;
        let kernel = if fits { &FOLD_VECTOR } else { &FOLD_STRIDED };
        let [x, t, c] = operands.map(|operand| operand.buffer);
        rec.dispatch(kernel, &constants, &[x, t, c, &partial], &params, groups)?;
        sum_rows(rec, &partial, [1, groups], self.reduction.divisor(shape) as f32, outputs[0].buffer)
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[0, 1, 2], outputs: &[] }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (x, t) = (saved.input(0)?, saved.input(1)?);
        let scale = (1.0 / self.reduction.divisor(saved.shape(0)?) as f64) as f32;
        let [of_x, of_t] = self.function.slopes();
        let gradient = |slope: Slope, x: &Tensor, t: &Tensor| {
            let op = PairLossGrad { slope, attributes: [self.delta, scale] };
            match self.function {
                Function::WeightedBce => apply(op, &[x, t, saved.input(2)?])?.mul(grad),
                _ => apply(op, &[x, t, grad]),
            }
        };
        let dx = needs[0].then(|| gradient(of_x, x, t)).transpose()?;
        let dt = match of_t == of_x {
            true => needs[1].then(|| gradient(of_t, t, x)).transpose()?,
            false => needs[1].then(|| gradient(of_t, x, t)).transpose()?,
        };
        Ok(vec![dx, dt])
    }
}

/// A derivative of a [`PairLoss`]. Inputs: the pair, and dy or the weight.
struct PairLossGrad {
    slope: Slope,
    attributes: [f32; 2],
}

impl Op for PairLossGrad {
    fn name(&self) -> &'static str {
        "loss_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x, ..] = arity::<3>(self.name(), inputs)?;
        Ok(vec![Meta::f32(x.shape)])
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let operands = broadcast(self.name(), inputs, outputs[0].shape)?;
        self.slope.each(outputs[0].data, operands, self.attributes);
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let constants = [self.slope as u32, WG];
        GRADIENTS.dispatch(rec, self.name(), &constants, self.attributes, three(inputs), outputs[0])
    }
}
