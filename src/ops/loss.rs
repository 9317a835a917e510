//! Element-wise losses of a prediction and a target, and their reduction.

use super::reduce::{sum_row, sum_rows};
use super::{Elementwise, ElementwiseKernels, WG, arity, floats, three, to_u32};
use crate::cpu::CpuDevice;
use crate::cpu::functions::{relu, sigmoid, softplus};
use crate::cpu::strided::rows;
use crate::gpu::{Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves, apply};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] =
    &[&STRIDED, &VECTOR, &REDUCE_STRIDED, &REDUCE_VECTOR, &GRAD_STRIDED, &GRAD_VECTOR];

/// Elements per invocation of the reducing kernels.
const EACH: u32 = 8;

static STRIDED: Kernel = kernel!("loss.wgsl", "strided", reads: 3, writes: 1, params: Elementwise,
    "OP": Function::CODES, "WG": &[WG], "EACH": &[EACH]);
static VECTOR: Kernel = kernel!("loss.wgsl", "vector", reads: 3, writes: 1, params: Elementwise,
    "OP": Function::CODES, "WG": &[WG], "EACH": &[EACH]);
static REDUCE_STRIDED: Kernel = kernel!("loss.wgsl", "reduce_strided", reads: 3, writes: 1, params: Elementwise,
    "OP": Function::CODES, "WG": &[WG], "EACH": &[EACH]);
static REDUCE_VECTOR: Kernel = kernel!("loss.wgsl", "reduce_vector", reads: 3, writes: 1, params: Elementwise,
    "OP": Function::CODES, "WG": &[WG], "EACH": &[EACH]);
static GRAD_STRIDED: Kernel = kernel!("loss_grad.wgsl", "strided", reads: 3, writes: 1, params: Elementwise,
    "OP": Slope::CODES, "WG": &[WG]);
static GRAD_VECTOR: Kernel = kernel!("loss_grad.wgsl", "vector", reads: 3, writes: 1, params: Elementwise,
    "OP": Slope::CODES, "WG": &[WG]);
const LOSSES: ElementwiseKernels = ElementwiseKernels { strided: &STRIDED, vector: &VECTOR };
const GRADIENTS: ElementwiseKernels = ElementwiseKernels { strided: &GRAD_STRIDED, vector: &GRAD_VECTOR };

/// How the losses of elements or rows are reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduction {
    /// The mean, of rank 0; NaN if there are no losses.
    #[default]
    Mean,
    /// The sum, of rank 0.
    Sum,
    /// The sum divided by the length of the first axis, of rank 0: the mean over a batch of the total loss per sample.
    BatchMean,
    /// No reduction: a tensor of all losses.
    None,
}

impl Reduction {
    /// The shape of the result for losses of this shape.
    pub(crate) fn shape(self, losses: Shape) -> Shape {
        if self == Reduction::None { losses } else { Shape::SCALAR }
    }

    /// The divisor of the sum of losses of this shape.
    pub(crate) fn divisor(self, losses: Shape) -> usize {
        match self {
            Reduction::Mean => losses.numel(),
            Reduction::BatchMean => losses.first().copied().unwrap_or(1),
            Reduction::Sum | Reduction::None => 1,
        }
    }
}

/// An element-wise loss of a prediction `x` and a target `t` of the same shape. All are differentiable in both.
/// Cross-entropy against class ids is [`Tensor::cross_entropy`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Loss {
    /// `(x - t)²`. If a square or the sum of squares exceeds f32's range, the loss is infinite on every device. The
    /// gradient has no squares.
    #[default]
    Mse,
    /// `|x - t|`; the gradient is 0 where they are equal.
    L1,
    /// `(x - t)² / 2` where `|x - t|` is below `delta`, else `delta (|x - t| - delta / 2)`: Huber, "Robust estimation
    /// of a location parameter" (1964).
    Huber {
        /// Where the quadratic part ends and the linear part begins; positive.
        delta: f32,
    },
    /// `max(0, 1 - t x)` for targets of 1 and -1; the gradient at the corner is 0.
    Hinge,
    /// Binary cross-entropy of the probability `σ(x)` and the target probability t:
    /// `(1 - t) ln(1 + e^x) + w t ln(1 + e^-x)`. No logit overflows.
    BceWithLogits {
        /// The weight `w` of the positive class, broadcast to the prediction's shape; 1 by default. It gets no
        /// gradient.
        pos_weight: Option<Tensor>,
    },
    /// The Kullback-Leibler divergence `t (ln t - x)` of target probabilities t from predicted log-probabilities x.
    /// Where t is 0, the loss and its gradient for t are 0, unless x is NaN.
    KlDiv {
        /// Whether t holds log-probabilities too: `e^t (t - x)`.
        log_target: bool,
    },
}

impl Loss {
    /// The reduced loss of `prediction` and `target`. One kernel computes the losses and reduces them.
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
    /// Shapes that differ (there is no broadcasting: `[n]` with `[n, 1]` would be a mean over `n²` pairs), a `delta`
    /// that is not positive and finite, a weight that does not broadcast, [`Reduction::BatchMean`] with rank 0, a
    /// tensor of ids, or the device fails.
    #[track_caller]
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

/// Declares functions of three operands: name, number in the kernel, and definition.
macro_rules! functions {
    ($(#[$doc:meta])* $enum:ident; $($function:ident = $number:literal: $f:expr;)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        enum $enum { $($function = $number),* }

        impl $enum {
            const CODES: &[u32] = &[$($number),*];

            /// One monomorphic loop per function, so that the compiler can vectorise it.
            fn each(self, y: &mut [f32], operands: [CpuView; 3], attributes: [f32; 2]) {
                match self { $($enum::$function => each(y, operands, attributes, $f)),* }
            }
        }
    };
}

functions! {
    /// The losses of `loss.wgsl` for a prediction x, a target t and a weight w; the attribute is Huber's delta.
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
    /// The derivatives of `loss_grad.wgsl` with respect to x, or to t if named `OfTarget`, times dy. The weighted ones
    /// take the weight w in place of dy. The second attribute is the factor of the reduction (1 / count for a mean).
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
    // With weight 1 the product is left out: 0 times an infinite softplus would be NaN.
    WeightedBceOfTarget = 11: |x, _, w, [_, scale]| {
        scale * ((if w == 1.0 { 0.0 } else { (w - 1.0) * softplus(-x) }) - x)
    };
}

impl Function {
    /// The derivatives with respect to the prediction and to the target.
    fn slopes(self) -> [Slope; 2] {
        match self {
            // Symmetric in x and t: `backward` exchanges them.
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

/// 0 for a target of probability 0, unless the prediction is NaN.
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

/// The operands of a CPU twin, broadcast to `shape`.
fn broadcast<'a>(name: &'static str, operands: &[CpuView<'a>], shape: Shape) -> Result<[CpuView<'a>; 3]> {
    let mut operands = three(operands);
    for operand in &mut operands {
        operand.layout = operand.layout.expand(shape, name)?;
    }
    Ok(operands)
}

/// The reduced loss. Inputs: prediction, target and, if there is one, the weight.
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

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        // The difference, its function, and the sum.
        inputs[0].numel().saturating_mul(3)
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
        let (name, shape) = (self.name(), inputs[0].layout.shape);
        let (constants, attributes) = ([self.function as u32, WG, EACH], [self.delta, 0.0]);
        if self.reduction == Reduction::None {
            return LOSSES.dispatch(rec, name, &constants, attributes, inputs, outputs[0]);
        }
        let count = shape.numel();
        // Indices run past the end by up to one workgroup's elements, and by those of idle workgroups.
        to_u32(name, count + (1 << 20))?;
        let operands = three(inputs);
        let (params, fits) = Elementwise::planned(name, operands.map(|o| o.layout), shape, attributes)?;
        let groups = count.div_ceil((EACH * WG) as usize);
        let partial = rec.scratch(groups)?;
        let kernel = if fits { &REDUCE_VECTOR } else { &REDUCE_STRIDED };
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

/// A derivative of a [`PairLoss`]. Inputs: prediction, target, and dy or the weight.
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

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        // The difference, the derivative of its function, and the scale.
        inputs[0].numel().saturating_mul(3)
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let operands = broadcast(self.name(), inputs, outputs[0].shape)?;
        self.slope.each(outputs[0].data, operands, self.attributes);
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let constants = [self.slope as u32, WG];
        GRADIENTS.dispatch(rec, self.name(), &constants, self.attributes, inputs, outputs[0])
    }
}
