//! Element-wise functions of one tensor.

use super::{Elementwise, ElementwiseKernels, WG, arity, floats};
use crate::cpu::CpuDevice;
use crate::cpu::functions::{
    erf, exp_m1, gelu, gelu_slope, relu, sigmoid, silu, silu_slope, sin_from, softplus, tanh,
};
use crate::cpu::strided::rows;
use crate::gpu::{Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves, apply};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&STRIDED, &VECTOR, &GRAD_STRIDED, &GRAD_VECTOR];

static STRIDED: Kernel = kernel!("unary.wgsl", "strided", reads: 3, writes: 1, params: Elementwise, "OP": OPS => NAMES, "WG": &[WG]);
static VECTOR: Kernel = kernel!("unary.wgsl", "vector", reads: 3, writes: 1, params: Elementwise, "OP": OPS => NAMES, "WG": &[WG]);
static GRAD_STRIDED: Kernel = kernel!("unary_grad.wgsl", "strided", reads: 3, writes: 1, params: Elementwise, "SLOPE": SLOPES => NAMES, "WG": &[WG]);
static GRAD_VECTOR: Kernel = kernel!("unary_grad.wgsl", "vector", reads: 3, writes: 1, params: Elementwise, "SLOPE": SLOPES => NAMES, "WG": &[WG]);
const UNARY: ElementwiseKernels = ElementwiseKernels { strided: &STRIDED, vector: &VECTOR };
const UNARY_GRAD: ElementwiseKernels = ElementwiseKernels { strided: &GRAD_STRIDED, vector: &GRAD_VECTOR };

/// The saved tensor that a gradient is computed from, besides dy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GradientFrom {
    Input,
    Output,
    Nothing,
}

/// Declares the functions: NAME, as in `op_NAME` and `slope_NAME` of `shared/functions.wgsl`; the function of x and its
/// attributes; the tensor that its gradient needs; and, if there is one, the gradient as a function of that tensor, dy
/// and the attributes.
macro_rules! functions {
    ($($function:ident $name:literal: $f:expr; $of:ident $(, $gradient:expr)?;)*) => {
        const NAMES: &[&str] = &[$($name),*];
        const OPS: &[u32] = &[$(Function::$function as u32),*];
        /// The functions whose gradient has a kernel.
        const SLOPES: &[u32] = &[$($({ let _ = stringify!($gradient); Function::$function as u32 },)?)*];

        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        enum Function { $($function),* }

        impl Function {
            fn name(self) -> &'static str {
                NAMES[self as usize]
            }

            fn gradient_of(self) -> GradientFrom {
                match self { $(Function::$function => GradientFrom::$of),* }
            }

            /// One monomorphic loop per function, so that the compiler can vectorise it.
            fn each(self, y: &mut [f32], x: CpuView, a: [f32; 2]) {
                match self { $(Function::$function => each(y, x, a, $f)),* }
            }

            fn each_gradient(self, dx: &mut [f32], s: CpuView, dy: CpuView, a: [f32; 2]) {
                match self {
                    $($(Function::$function => each_gradient(dx, s, dy, a, $gradient),)?)*
                    _ => dx.fill(0.0),
                }
            }
        }
    };
}

functions! {
    Exp "exp": |x, _| x.exp(); Output, |y, dy, _| dy * y;
    Log "log": |x, _| x.ln(); Input, |x, dy, _| dy / x;
    Sqrt "sqrt": |x, _| x.sqrt(); Output, |y, dy, _| dy / (2.0 * y);
    Recip "recip": |x, _| x.recip(); Output, |y, dy, _| -dy * y * y;
    Abs "abs": |x, _| x.abs(); Input, |x, dy, _| if x == 0.0 { 0.0 } else { dy * x.signum() };
    Relu "relu": |x, _| relu(x); Output, |y, dy, _| if y > 0.0 || y.is_nan() { dy } else { 0.0 };
    Sigmoid "sigmoid": |x, _| sigmoid(x); Output, |y, dy, _| dy * y * (1.0 - y);
    Tanh "tanh": |x, _| tanh(x); Output, |y, dy, _| dy * (1.0 - y) * (1.0 + y);
    Gelu "gelu": |x, _| gelu(x); Input, |x, dy, _| dy * gelu_slope(x);
    Square "square": |x, _| x * x; Input, |x, dy, _| dy * 2.0 * x;
    LeakyRelu "leaky_relu": |x, [slope, _]| if x > 0.0 { x } else { slope * x };
        Input, |x, dy, [slope, _]| if x > 0.0 { dy } else { dy * slope };
    Elu "elu": |x, [alpha, _]| if x > 0.0 { x } else { alpha * exp_m1(x) };
        Input, |x, dy, [alpha, _]| if x > 0.0 { dy } else { dy * (alpha * x.exp()) };
    Silu "silu": |x, _| silu(x); Input, |x, dy, _| dy * silu_slope(x);
    Hardswish "hardswish":
        // The limit at -inf is 0, but -inf * 0 is NaN.
        |x, _| (if x < -3.0 { -3.0 } else { x }) * (x + 3.0).clamp(0.0, 6.0) / 6.0;
        Input, |x, dy, _| if x >= 3.0 { dy } else if x <= -3.0 { 0.0 } else { dy * (x / 3.0 + 0.5) };
    Softplus "softplus": |x, _| softplus(x); Input, |x, dy, _| dy * sigmoid(x);
    Erf "erf": |x, _| erf(x); Input, |x, dy, _| dy * (std::f32::consts::FRAC_2_SQRT_PI * (-x * x).exp());
    Rsqrt "rsqrt": |x, _| if x == 0.0 { f32::INFINITY } else { 1.0 / x.sqrt() };
        Output, |y, dy, _| dy * -0.5 * (y * y * y);
    Sin "sin": |x, _| sin_from(x, 0); Input, |x, dy, _| dy * sin_from(x, 1);
    Cos "cos": |x, _| sin_from(x, 1); Input, |x, dy, _| -dy * sin_from(x, 0);
    Clamp "clamp": |x, [low, high]| if x < low { low } else if x > high { high } else { x };
        Input, |x, dy, [low, high]| if low <= x && x <= high { dy } else { 0.0 };
    Neg "neg": |x, _| -x; Nothing;
    Floor "floor": |x, _| x.floor(); Nothing;
    Ceil "ceil": |x, _| x.ceil(); Nothing;
    Round "round": |x, _| x.round_ties_even(); Nothing;
    Sign "sign": |x, _| if x == 0.0 || x.is_nan() { x } else { x.signum() }; Nothing;
    LogicalNot "logical_not": |x, _| f32::from(x == 0.0); Nothing;
}

/// A function that a matrix product or a convolution applies in its epilogue.
///
/// Only functions whose derivative follows from their output, so that nothing else is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u32)]
#[non_exhaustive]
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
    /// All numbers in `shared/common.wgsl`.
    pub(crate) const ALL: &[u32] = &[0, 1, 2, 3];

    fn function(self) -> Option<Function> {
        match self {
            Activation::None => None,
            Activation::Relu => Some(Function::Relu),
            Activation::Sigmoid => Some(Function::Sigmoid),
            Activation::Tanh => Some(Function::Tanh),
        }
    }

    /// The function itself, for the CPU twins.
    pub(crate) fn apply(self, x: f32) -> f32 {
        match self {
            Activation::None => x,
            Activation::Relu => relu(x),
            Activation::Sigmoid => sigmoid(x),
            Activation::Tanh => tanh(x),
        }
    }

    /// The gradient for the function's input, from its output `y` and dy = `grad`.
    pub(crate) fn backward(self, y: &Tensor, grad: &Tensor) -> Result<Tensor> {
        self.function().map_or_else(|| Ok(grad.clone()), |f| apply(UnaryGrad(f.into()), &[y, grad]))
    }
}

fn each(y: &mut [f32], x: CpuView, a: [f32; 2], f: impl Fn(f32, [f32; 2]) -> f32 + Sync) {
    rows(y, [x.layout], |y, [start], [step]| match step {
        1 => y.iter_mut().zip(&x.data[start..]).for_each(|(y, &x)| *y = f(x, a)),
        step => y.iter_mut().enumerate().for_each(|(j, y)| *y = f(x.data[start + j * step], a)),
    });
}

fn each_gradient(
    dx: &mut [f32],
    s: CpuView,
    dy: CpuView,
    a: [f32; 2],
    f: impl Fn(f32, f32, [f32; 2]) -> f32 + Sync,
) {
    rows(dx, [s.layout, dy.layout], |dx, [s0, d0], steps| match steps {
        [1, 1] => {
            let pairs = s.data[s0..].iter().zip(&dy.data[d0..]);
            dx.iter_mut().zip(pairs).for_each(|(dx, (&s, &dy))| *dx = f(s, dy, a));
        }
        [ss, sd] => {
            dx.iter_mut()
                .enumerate()
                .for_each(|(j, dx)| *dx = f(s.data[s0 + j * ss], dy.data[d0 + j * sd], a));
        }
    });
}

/// A function with its attributes; unused attributes are 0.
#[derive(Debug, Clone, Copy)]
struct Unary {
    function: Function,
    attributes: [f32; 2],
}

impl From<Function> for Unary {
    fn from(function: Function) -> Unary {
        Unary { function, attributes: [0.0; 2] }
    }
}

impl Op for Unary {
    fn name(&self) -> &'static str {
        self.function.name()
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x] = arity(self.name(), inputs)?;
        floats(self.name(), inputs)?;
        Ok(vec![Meta::f32(x.shape)])
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        outputs[0].numel()
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        self.function.each(outputs[0].data, inputs[0], self.attributes);
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let constants = [self.function as u32, WG];
        UNARY.dispatch(rec, self.name(), &constants, self.attributes, inputs, outputs[0])
    }

    fn saves(&self) -> Saves {
        match self.function.gradient_of() {
            GradientFrom::Input => Saves { inputs: &[0], outputs: &[] },
            GradientFrom::Output => Saves { inputs: &[], outputs: &[0] },
            GradientFrom::Nothing => Saves::default(),
        }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let dx = match (self.function.gradient_of(), self.function) {
            (GradientFrom::Input, _) => apply(UnaryGrad(*self), &[saved.input(0)?, grad])?,
            (GradientFrom::Output, _) => apply(UnaryGrad(*self), &[saved.output(0)?, grad])?,
            (GradientFrom::Nothing, Function::Neg) => grad.neg()?,
            // Piecewise constant: the gradient is 0.
            (GradientFrom::Nothing, _) => {
                Tensor::zeros(Shape::SCALAR, grad.device())?.expand(saved.shape(0)?)?
            }
        };
        Ok(vec![Some(dx)])
    }
}

/// The gradient of a [`Unary`]. Inputs: the saved tensor, and dy.
struct UnaryGrad(Unary);

impl Op for UnaryGrad {
    fn name(&self) -> &'static str {
        "unary_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [s, _] = arity(self.name(), inputs)?;
        Ok(vec![Meta::f32(s.shape)])
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        // The derivative, and the product with it.
        outputs[0].numel().saturating_mul(2)
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        self.0.function.each_gradient(outputs[0].data, inputs[0], inputs[1], self.0.attributes);
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let constants = [self.0.function as u32, WG];
        UNARY_GRAD.dispatch(rec, self.name(), &constants, self.0.attributes, inputs, outputs[0])
    }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident => $function:ident),* $(,)?) => {
        impl Tensor {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// A tensor of ids, or the device fails.
            #[track_caller]
            pub fn $name(&self) -> Result<Tensor> {
                apply(Unary::from(Function::$function), &[self])
            }
        )*}
    };
}

methods! {
    /// `-x`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, -2.0], [2], &Device::cpu())?;
    /// assert_eq!(x.neg()?.to_vec()?, [-1.0, 2.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    neg => Neg,
    /// `e^x`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[0.0, 1.0, -1.0], [3], &Device::cpu())?;
    /// let y = x.exp()?.to_vec()?;
    /// assert_eq!(format!("{y:.4?}"), "[1.0000, 2.7183, 0.3679]");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    exp => Exp,
    /// The natural logarithm; -inf at 0, NaN below 0.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 10.0, 0.0], [3], &Device::cpu())?;
    /// let y = x.log()?.to_vec()?;
    /// assert_eq!(format!("{y:.4?}"), "[0.0000, 2.3026, -inf]");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    log => Log,
    /// The square root; NaN below 0.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[0.0, 4.0, 9.0], [3], &Device::cpu())?;
    /// assert_eq!(x.sqrt()?.to_vec()?, [0.0, 2.0, 3.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    sqrt => Sqrt,
    /// `1 / √x`; inf at 0, NaN below 0.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[4.0, 0.25, 0.0], [3], &Device::cpu())?;
    /// assert_eq!(x.rsqrt()?.to_vec()?, [0.5, 2.0, f32::INFINITY]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    rsqrt => Rsqrt,
    /// `1 / x`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[4.0, -0.5], [2], &Device::cpu())?;
    /// assert_eq!(x.recip()?.to_vec()?, [0.25, -2.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    recip => Recip,
    /// `|x|`; the gradient at 0 is 0.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[-3.0, 0.0, 2.0], [3], &Device::cpu())?;
    /// assert_eq!(x.abs()?.to_vec()?, [3.0, 0.0, 2.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    abs => Abs,
    /// `x²`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[-3.0, 2.0], [2], &Device::cpu())?;
    /// assert_eq!(x.square()?.to_vec()?, [9.0, 4.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    square => Square,
    /// The sine of x in radians, with an error of at most 2^-21 of the result plus 2^-28 for every finite x; NaN at
    /// ±inf.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// # use std::f32::consts::PI;
    /// let x = Tensor::from_slice(&[0.0, PI / 6.0, PI / 2.0], [3], &Device::cpu())?;
    /// let y = x.sin()?.to_vec()?;
    /// assert_eq!(format!("{y:.4?}"), "[0.0000, 0.5000, 1.0000]");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    sin => Sin,
    /// The cosine of x in radians, as accurate as [`Tensor::sin`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// # use std::f32::consts::PI;
    /// let x = Tensor::from_slice(&[0.0, PI / 3.0, PI], [3], &Device::cpu())?;
    /// let y = x.cos()?.to_vec()?;
    /// assert_eq!(format!("{y:.4?}"), "[1.0000, 0.5000, -1.0000]");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    cos => Cos,
    /// The error function `2/√π ∫₀ˣ e^(-t²) dt`, with an error of at most 2^-21 of the result.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[-1.0, 0.0, 1.0], [3], &Device::cpu())?;
    /// let y = x.erf()?.to_vec()?;
    /// assert_eq!(format!("{y:.4?}"), "[-0.8427, 0.0000, 0.8427]");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    erf => Erf,
    /// The largest integer not above x. The gradient is 0, as in PyTorch.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.5, -1.5], [2], &Device::cpu())?;
    /// assert_eq!(x.floor()?.to_vec()?, [1.0, -2.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    floor => Floor,
    /// The smallest integer not below x. The gradient is 0, as in PyTorch.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.5, -1.5], [2], &Device::cpu())?;
    /// assert_eq!(x.ceil()?.to_vec()?, [2.0, -1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ceil => Ceil,
    /// The nearest integer; ties go to even, as in PyTorch and IEEE 754. The gradient is 0.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[0.5, 1.5, 2.5, -0.7], [4], &Device::cpu())?;
    /// assert_eq!(x.round()?.to_vec()?, [0.0, 2.0, 2.0, -1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    round => Round,
    /// 1 above 0, -1 below, 0 at 0, NaN for NaN. The gradient is 0, as in PyTorch.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[-3.0, 0.0, 0.1], [3], &Device::cpu())?;
    /// assert_eq!(x.sign()?.to_vec()?, [-1.0, 0.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    sign => Sign,
    /// `max(x, 0)`; the gradient at 0 is 0.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[-1.0, 0.0, 2.0], [3], &Device::cpu())?;
    /// assert_eq!(x.relu()?.to_vec()?, [0.0, 0.0, 2.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    relu => Relu,
    /// `1 / (1 + e^-x)`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[-2.0, 0.0, 2.0], [3], &Device::cpu())?;
    /// let y = x.sigmoid()?.to_vec()?;
    /// assert_eq!(format!("{y:.4?}"), "[0.1192, 0.5000, 0.8808]");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    sigmoid => Sigmoid,
    /// The hyperbolic tangent.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[-1.0, 0.0, 1.0], [3], &Device::cpu())?;
    /// let y = x.tanh()?.to_vec()?;
    /// assert_eq!(format!("{y:.4?}"), "[-0.7616, 0.0000, 0.7616]");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    tanh => Tanh,
    /// `x Φ(x)` with Φ the distribution function of the standard normal, exact as in PyTorch's default
    /// ([Hendrycks & Gimpel](https://arxiv.org/abs/1606.08415)). At -inf it is 0, the limit.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[-1.0, 0.0, 1.0], [3], &Device::cpu())?;
    /// let y = x.gelu()?.to_vec()?;
    /// assert_eq!(format!("{y:.4?}"), "[-0.1587, 0.0000, 0.8413]");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    gelu => Gelu,
    /// `x sigmoid(x)`, also called swish ([Elfwing et al.](https://arxiv.org/abs/1702.03118)). At -inf it is 0, the
    /// limit.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[-1.0, 0.0, 1.0], [3], &Device::cpu())?;
    /// let y = x.silu()?.to_vec()?;
    /// assert_eq!(format!("{y:.4?}"), "[-0.2689, 0.0000, 0.7311]");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    silu => Silu,
    /// `x min(max(x + 3, 0), 6) / 6` ([Howard et al.](https://arxiv.org/abs/1905.02244)). At -inf it is 0, the limit.
    /// The gradient is 0 at -3 and 1 at 3, as in PyTorch.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[-4.0, -1.0, 1.0, 4.0], [4], &Device::cpu())?;
    /// let y = x.hardswish()?.to_vec()?;
    /// assert_eq!(format!("{y:.4?}"), "[-0.0000, -0.3333, 0.6667, 4.0000]");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    hardswish => Hardswish,
    /// `ln(1 + e^x)`, accurate for all x. PyTorch returns x above 20, which is the same number in f32.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[0.0, 1.0, 30.0], [3], &Device::cpu())?;
    /// let y = x.softplus()?.to_vec()?;
    /// assert_eq!(format!("{y:.4?}"), "[0.6931, 1.3133, 30.0000]");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    softplus => Softplus,
}

/// Applies a function of one attribute, which must be finite.
#[track_caller]
fn with_attribute(x: &Tensor, function: Function, what: &str, value: f32) -> Result<Tensor> {
    if !value.is_finite() {
        return Err(Error::argument(function.name(), format!("{what} {value} is not a finite number")));
    }
    apply(Unary { function, attributes: [value, 0.0] }, &[x])
}

impl Tensor {
    /// x for x above 0, else `slope · x`
    /// ([Maas et al.](https://ai.stanford.edu/~amaas/papers/relu_hybrid_icml2013_final.pdf)). The gradient at 0 is the
    /// slope, as in PyTorch.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[-2.0, 3.0], [2], &Device::cpu())?;
    /// assert_eq!(x.leaky_relu(0.25)?.to_vec()?, [-0.5, 3.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A slope that is not finite, a tensor of ids, or the device fails.
    #[track_caller]
    pub fn leaky_relu(&self, slope: f32) -> Result<Tensor> {
        with_attribute(self, Function::LeakyRelu, "slope", slope)
    }

    /// x for x above 0, else `alpha · (e^x - 1)` ([Clevert et al.](https://arxiv.org/abs/1511.07289)). The gradient at
    /// 0 is alpha, as in PyTorch.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[-1.0, 2.0], [2], &Device::cpu())?;
    /// let y = x.elu(1.0)?.to_vec()?;
    /// assert_eq!(format!("{y:.4?}"), "[-0.6321, 2.0000]");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// An alpha that is not finite, a tensor of ids, or the device fails.
    #[track_caller]
    pub fn elu(&self, alpha: f32) -> Result<Tensor> {
        with_attribute(self, Function::Elu, "alpha", alpha)
    }

    /// `min(max(x, min), max)`; NaN stays NaN. The gradient is 1 from `min` to `max`, inclusive, as in PyTorch, and 0
    /// elsewhere. Bounds may be infinite.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[-1.0, 0.5, 2.0], [3], &Device::cpu())?;
    /// assert_eq!(x.clamp(0.0, 1.0)?.to_vec()?, [0.0, 0.5, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A NaN bound, `min` above `max` (PyTorch returns `max` then), a tensor of ids, or the device fails.
    #[track_caller]
    pub fn clamp(&self, min: f32, max: f32) -> Result<Tensor> {
        if min.is_nan() || max.is_nan() || min > max {
            return Err(Error::argument("clamp", format!("no number lies between {min} and {max}")));
        }
        apply(Unary { function: Function::Clamp, attributes: [min, max] }, &[self])
    }

    /// 1 where x is 0, else 0; NaN counts as true. Not differentiable.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[0.0, 1.0, -2.0], [3], &Device::cpu())?;
    /// assert_eq!(x.logical_not()?.to_vec()?, [1.0, 0.0, 0.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A tensor of ids, or the device fails.
    #[track_caller]
    pub fn logical_not(&self) -> Result<Tensor> {
        apply(Unary::from(Function::LogicalNot), &[&self.detach()])
    }
}
