//! Element-wise functions of one tensor.

use super::{Elementwise, ElementwiseKernels, WG, arity, floats};
use crate::cpu::walk::rows;
use crate::gpu::{Kernel, Recorder};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves, apply};
use crate::tensor::Tensor;
use crate::{Result, kernel};

pub(crate) const KERNELS: &[&Kernel] = &[&STRIDED, &VECTOR, &GRAD_STRIDED, &GRAD_VECTOR];

const OPS: &[u32] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
static STRIDED: Kernel =
    kernel!("unary.wgsl", "strided", reads: 1, writes: 1, params: Elementwise, "OP": OPS, "WG": &[WG]);
static VECTOR: Kernel =
    kernel!("unary.wgsl", "vector", reads: 1, writes: 1, params: Elementwise, "OP": OPS, "WG": &[WG]);
static GRAD_STRIDED: Kernel =
    kernel!("unary_grad.wgsl", "strided", reads: 2, writes: 1, params: Elementwise, "OP": OPS, "WG": &[WG]);
static GRAD_VECTOR: Kernel =
    kernel!("unary_grad.wgsl", "vector", reads: 2, writes: 1, params: Elementwise, "OP": OPS, "WG": &[WG]);
const UNARY: ElementwiseKernels = ElementwiseKernels { strided: &STRIDED, vector: &VECTOR };
const UNARY_GRAD: ElementwiseKernels = ElementwiseKernels { strided: &GRAD_STRIDED, vector: &GRAD_VECTOR };

/// The functions, with their numbers in `unary.wgsl` and `unary_grad.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Unary {
    Neg = 0,
    Exp = 1,
    Log = 2,
    Sqrt = 3,
    Recip = 4,
    Abs = 5,
    Relu = 6,
    Sigmoid = 7,
    Tanh = 8,
    Gelu = 9,
    Square = 10,
}

/// What a matrix product or a convolution may apply to its result before it writes it. Only functions whose
/// derivative their own output gives, so that nothing else needs to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u32)]
pub enum Activation {
    /// Nothing.
    #[default]
    None = 0,
    /// `max(x, 0)`.
    Relu = 1,
    /// `1 / (1 + e^-x)`.
    Sigmoid = 2,
    /// The hyperbolic tangent.
    Tanh = 3,
}

impl Activation {
    /// The numbers in `shared/activation.wgsl`.
    pub(crate) const ALL: &[u32] = &[0, 1, 2, 3];

    fn op(self) -> Option<Unary> {
        match self {
            Activation::None => None,
            Activation::Relu => Some(Unary::Relu),
            Activation::Sigmoid => Some(Unary::Sigmoid),
            Activation::Tanh => Some(Unary::Tanh),
        }
    }

    /// The function itself, for the CPU twins.
    pub(crate) fn apply(self, x: f32) -> f32 {
        match self {
            Activation::None => x,
            Activation::Relu => relu(x),
            Activation::Sigmoid => sigmoid(x),
            Activation::Tanh => x.tanh(),
        }
    }

    /// The gradient with regard to the function's input, from its output `y` and the output's gradient.
    pub(crate) fn backward(self, y: &Tensor, grad: &Tensor) -> Result<Tensor> {
        self.op().map_or_else(|| Ok(grad.clone()), |op| apply(UnaryGrad(op), &[y, grad]))
    }
}

fn relu(x: f32) -> f32 {
    // In this order NaN stays NaN.
    if x < 0.0 { 0.0 } else { x }
}

fn sigmoid(x: f32) -> f32 {
    let e = (-x.abs()).exp();
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

/// The error function, Abramowitz & Stegun 7.1.26: off by at most 1.5e-7.
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let s = ((((1.061_405_4 * t - 1.453_152) * t + 1.421_413_7) * t - 0.284_496_74) * t + 0.254_829_6) * t;
    (1.0 - s * (-x * x).exp()).copysign(x)
}

fn gelu(x: f32) -> f32 {
    if x < -14.0 { 0.0 } else { 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) }
}

fn gelu_slope(x: f32) -> f32 {
    if x.abs() > 14.0 {
        return f32::from(x > 0.0);
    }
    let density = 0.398_942_3 * (-0.5 * x * x).exp();
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * density
}

impl Unary {
    /// One monomorphic loop a function, so that the compiler can vectorise it.
    fn each(self, y: &mut [f32], x: CpuView) {
        match self {
            Unary::Neg => each(y, x, |x| -x),
            Unary::Exp => each(y, x, f32::exp),
            Unary::Log => each(y, x, f32::ln),
            Unary::Sqrt => each(y, x, f32::sqrt),
            Unary::Recip => each(y, x, f32::recip),
            Unary::Abs => each(y, x, f32::abs),
            Unary::Relu => each(y, x, relu),
            Unary::Sigmoid => each(y, x, sigmoid),
            Unary::Tanh => each(y, x, f32::tanh),
            Unary::Gelu => each(y, x, gelu),
            Unary::Square => each(y, x, |x| x * x),
        }
    }

    /// The gradient, from the output or the input as [`Op::saves`] says.
    fn each_grad(self, dx: &mut [f32], s: CpuView, dy: CpuView) {
        match self {
            Unary::Neg => each_grad(dx, s, dy, |_, dy| -dy),
            Unary::Exp => each_grad(dx, s, dy, |y, dy| dy * y),
            Unary::Log => each_grad(dx, s, dy, |x, dy| dy / x),
            Unary::Sqrt => each_grad(dx, s, dy, |y, dy| dy / (2.0 * y)),
            Unary::Recip => each_grad(dx, s, dy, |y, dy| -dy * y * y),
            Unary::Abs => each_grad(dx, s, dy, |x, dy| if x == 0.0 { 0.0 } else { dy * x.signum() }),
            Unary::Relu => each_grad(dx, s, dy, |y, dy| if y > 0.0 || y.is_nan() { dy } else { 0.0 }),
            Unary::Sigmoid => each_grad(dx, s, dy, |y, dy| dy * y * (1.0 - y)),
            Unary::Tanh => each_grad(dx, s, dy, |y, dy| dy * (1.0 - y) * (1.0 + y)),
            Unary::Gelu => each_grad(dx, s, dy, |x, dy| dy * gelu_slope(x)),
            Unary::Square => each_grad(dx, s, dy, |x, dy| dy * 2.0 * x),
        }
    }

    fn of_input(self) -> bool {
        matches!(self, Unary::Log | Unary::Abs | Unary::Gelu | Unary::Square)
    }
}

fn each(y: &mut [f32], x: CpuView, f: impl Fn(f32) -> f32 + Sync) {
    rows(y, [x.layout], |y, [start], [step]| match step {
        1 => y.iter_mut().zip(&x.data[start..]).for_each(|(y, &x)| *y = f(x)),
        step => y.iter_mut().enumerate().for_each(|(j, y)| *y = f(x.data[start + j * step])),
    });
}

fn each_grad(dx: &mut [f32], s: CpuView, dy: CpuView, f: impl Fn(f32, f32) -> f32 + Sync) {
    rows(dx, [s.layout, dy.layout], |dx, [s0, d0], steps| match steps {
        [1, 1] => {
            dx.iter_mut().zip(&s.data[s0..]).zip(&dy.data[d0..]).for_each(|((dx, &s), &dy)| *dx = f(s, dy))
        }
        [ss, sd] => {
            dx.iter_mut().enumerate().for_each(|(j, dx)| *dx = f(s.data[s0 + j * ss], dy.data[d0 + j * sd]));
        }
    });
}

impl Op for Unary {
    fn name(&self) -> &'static str {
        match self {
            Unary::Neg => "neg",
            Unary::Exp => "exp",
            Unary::Log => "log",
            Unary::Sqrt => "sqrt",
            Unary::Recip => "recip",
            Unary::Abs => "abs",
            Unary::Relu => "relu",
            Unary::Sigmoid => "sigmoid",
            Unary::Tanh => "tanh",
            Unary::Gelu => "gelu",
            Unary::Square => "square",
        }
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x] = arity(self.name(), inputs)?;
        floats(self.name(), inputs)?;
        Ok(vec![Meta::f32(x.shape)])
    }

    fn cpu(&self, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        self.each(outputs[0].data, inputs[0]);
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        UNARY.dispatch(rec, self.name(), *self as u32, [inputs[0]], outputs[0])
    }

    fn saves(&self) -> Saves {
        match self {
            Unary::Neg => Saves::default(),
            op if op.of_input() => Saves { inputs: &[0], outputs: &[] },
            _ => Saves { inputs: &[], outputs: &[0] },
        }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let dx = match self {
            Unary::Neg => grad.neg()?,
            op if op.of_input() => apply(UnaryGrad(*op), &[saved.input(0)?, grad])?,
            op => apply(UnaryGrad(*op), &[saved.output(0)?, grad])?,
        };
        Ok(vec![Some(dx)])
    }
}

/// The gradient of a [`Unary`]; inputs: what it saved, and the gradient of its output.
struct UnaryGrad(Unary);

impl Op for UnaryGrad {
    fn name(&self) -> &'static str {
        "unary_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [s, _] = arity(self.name(), inputs)?;
        Ok(vec![Meta::f32(s.shape)])
    }

    fn cpu(&self, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        self.0.each_grad(outputs[0].data, inputs[0], inputs[1]);
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        UNARY_GRAD.dispatch(rec, self.name(), self.0 as u32, [inputs[0], inputs[1]], outputs[0])
    }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident => $op:expr),* $(,)?) => {
        impl Tensor {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// A tensor of ids, or the device fails.
            pub fn $name(&self) -> Result<Tensor> {
                apply($op, &[self])
            }
        )*}
    };
}

methods! {
    /// `-x`.
    neg => Unary::Neg,
    /// `e^x`.
    exp => Unary::Exp,
    /// The natural logarithm; -inf at 0, NaN below.
    log => Unary::Log,
    /// The square root; NaN below 0.
    sqrt => Unary::Sqrt,
    /// `1 / x`.
    recip => Unary::Recip,
    /// `|x|`; the gradient at 0 is 0.
    abs => Unary::Abs,
    /// `max(x, 0)`; the gradient at 0 is 0.
    relu => Unary::Relu,
    /// `1 / (1 + e^-x)`.
    sigmoid => Unary::Sigmoid,
    /// The hyperbolic tangent.
    tanh => Unary::Tanh,
    /// `x Φ(x)` with the normal distribution function Φ in its exact form, as PyTorch's default
    /// ([Hendrycks & Gimpel](https://arxiv.org/abs/1606.08415)).
    gelu => Unary::Gelu,
    /// `x²`.
    square => Unary::Square,
}
