//! Element-wise functions of two tensors, broadcast by NumPy's rule.

use super::{Elementwise, ElementwiseKernels, WG, arity, floats};
use crate::cpu::walk::rows;
use crate::gpu::{Kernel, Recorder};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves, apply, no_gradient};
use crate::tensor::Tensor;
use crate::{Result, kernel};

pub(crate) const KERNELS: &[&Kernel] = &[&STRIDED, &VECTOR];

const OPS: &[u32] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
static STRIDED: Kernel =
    kernel!("binary.wgsl", "strided", reads: 2, writes: 1, params: Elementwise, "OP": OPS, "WG": &[WG]);
static VECTOR: Kernel =
    kernel!("binary.wgsl", "vector", reads: 2, writes: 1, params: Elementwise, "OP": OPS, "WG": &[WG]);
const BINARY: ElementwiseKernels = ElementwiseKernels { strided: &STRIDED, vector: &VECTOR };

/// The functions, with their numbers in `binary.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Binary {
    Add = 0,
    Sub = 1,
    Mul = 2,
    Div = 3,
    Maximum = 4,
    Minimum = 5,
    Pow = 6,
    /// The share of the gradient of `max(a, b)` that goes to a: 1, 0, or a half where they are equal.
    MaxShare = 7,
    /// The derivative of `a^b` with regard to b.
    PowLog = 8,
    /// 1 where they are equal (NaN equals NaN), else 0.
    Equal = 9,
}

impl Binary {
    /// Element-wise over the operands; one monomorphic loop a function, so that the compiler can vectorise it.
    fn each(self, y: &mut [f32], a: CpuView, b: CpuView) {
        match self {
            Binary::Add => each(y, a, b, |a, b| a + b),
            Binary::Sub => each(y, a, b, |a, b| a - b),
            Binary::Mul => each(y, a, b, |a, b| a * b),
            Binary::Div => each(y, a, b, |a, b| a / b),
            Binary::Maximum => each(y, a, b, max_nan),
            Binary::Minimum => each(y, a, b, |a, b| -max_nan(-a, -b)),
            Binary::Pow => each(y, a, b, f32::powf),
            Binary::MaxShare => each(y, a, b, |a, b| if a == b { 0.5 } else { f32::from(a > b) }),
            Binary::PowLog => {
                each(y, a, b, |a, b| if a == 0.0 && b >= 0.0 { 0.0 } else { a.powf(b) * a.ln() })
            }
            Binary::Equal => each(y, a, b, |a, b| f32::from(a == b || (a.is_nan() && b.is_nan()))),
        }
    }
}

/// The larger; NaN if either is NaN.
pub(crate) fn max_nan(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

fn each(y: &mut [f32], a: CpuView, b: CpuView, f: impl Fn(f32, f32) -> f32 + Sync) {
    rows(y, [a.layout, b.layout], |y, [a0, b0], steps| match steps {
        [1, 1] => y.iter_mut().zip(&a.data[a0..]).zip(&b.data[b0..]).for_each(|((y, &a), &b)| *y = f(a, b)),
        [1, 0] => y.iter_mut().zip(&a.data[a0..]).for_each(|(y, &a)| *y = f(a, b.data[b0])),
        [sa, sb] => {
            y.iter_mut().enumerate().for_each(|(j, y)| *y = f(a.data[a0 + j * sa], b.data[b0 + j * sb]));
        }
    });
}

impl Op for Binary {
    fn name(&self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
            Binary::Maximum => "maximum",
            Binary::Minimum => "minimum",
            Binary::Pow => "pow",
            Binary::MaxShare => "max_share",
            Binary::PowLog => "pow_log",
            Binary::Equal => "equal",
        }
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [a, b] = arity(self.name(), inputs)?;
        floats(self.name(), inputs)?;
        Ok(vec![Meta::f32(a.shape.broadcast(&b.shape, self.name())?)])
    }

    fn cpu(&self, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let [a, b] = [0, 1].map(|at| inputs[at].layout.expand(outputs[0].shape, self.name()));
        let (a, b) = (CpuView { layout: a?, ..inputs[0] }, CpuView { layout: b?, ..inputs[1] });
        self.each(outputs[0].data, a, b);
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        BINARY.dispatch(rec, self.name(), *self as u32, [inputs[0], inputs[1]], outputs[0])
    }

    fn saves(&self) -> Saves {
        match self {
            Binary::Add | Binary::Sub | Binary::Equal => Saves::default(),
            _ => Saves { inputs: &[0, 1], outputs: &[] },
        }
    }

    fn backward(&self, saved: &Saved, g: &Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let a = || saved.input(0);
        let b = || saved.input(1);
        // The share of a minimum is that of the maximum with the sides exchanged.
        let share = |of: &Tensor, against: &Tensor| match self {
            Binary::Minimum => g.mul(&apply(Binary::MaxShare, &[against, of])?),
            _ => g.mul(&apply(Binary::MaxShare, &[of, against])?),
        };
        let da = || match self {
            Binary::Add | Binary::Sub => Ok(g.clone()),
            Binary::Mul => g.mul(b()?),
            Binary::Div => g.div(b()?),
            Binary::Maximum | Binary::Minimum => share(a()?, b()?),
            Binary::Pow => g.mul(&b()?.mul(&a()?.pow(&b()?.add_scalar(-1.0)?)?)?),
            Binary::MaxShare | Binary::PowLog | Binary::Equal => Err(no_gradient(self.name())),
        };
        let db = || match self {
            Binary::Add => Ok(g.clone()),
            Binary::Sub => g.neg(),
            Binary::Mul => g.mul(a()?),
            Binary::Div => g.mul(a()?)?.div(&b()?.square()?)?.neg(),
            Binary::Maximum | Binary::Minimum => share(b()?, a()?),
            Binary::Pow => g.mul(&apply(Binary::PowLog, &[a()?, b()?])?),
            Binary::MaxShare | Binary::PowLog | Binary::Equal => Err(no_gradient(self.name())),
        };
        Ok(vec![needs[0].then(da).transpose()?, needs[1].then(db).transpose()?])
    }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident => $op:expr),* $(,)?) => {
        impl Tensor {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// The shapes do not broadcast, the devices differ, or the device fails.
            pub fn $name(&self, other: &Tensor) -> Result<Tensor> {
                apply($op, &[self, other])
            }
        )*}
    };
}

methods! {
    /// `self + other`, element by element, broadcast.
    add => Binary::Add,
    /// `self - other`, element by element, broadcast.
    sub => Binary::Sub,
    /// `self * other`, element by element, broadcast.
    mul => Binary::Mul,
    /// `self / other`, element by element, broadcast.
    div => Binary::Div,
    /// The larger of each pair; NaN if either is NaN. At a tie the gradient is split evenly, as in PyTorch.
    maximum => Binary::Maximum,
    /// The smaller of each pair; NaN if either is NaN. At a tie the gradient is split evenly, as in PyTorch.
    minimum => Binary::Minimum,
    /// `self ^ other` as IEEE 754 `pow`: 1 where the exponent is 0, NaN for a negative base and a fraction.
    pow => Binary::Pow,
}

impl Tensor {
    /// 1 where the elements are equal (NaN equals NaN), else 0. Not differentiable.
    pub(crate) fn equal(&self, other: &Tensor) -> Result<Tensor> {
        apply(Binary::Equal, &[self, other])
    }

    /// `self + value`.
    ///
    /// # Errors
    /// The device fails.
    pub fn add_scalar(&self, value: f32) -> Result<Tensor> {
        self.add(&Tensor::scalar(value, self.device())?)
    }

    /// `self * value`.
    ///
    /// # Errors
    /// The device fails.
    pub fn mul_scalar(&self, value: f32) -> Result<Tensor> {
        self.mul(&Tensor::scalar(value, self.device())?)
    }

    /// `self ^ value`.
    ///
    /// # Errors
    /// The device fails.
    pub fn pow_scalar(&self, value: f32) -> Result<Tensor> {
        self.pow(&Tensor::scalar(value, self.device())?)
    }
}

macro_rules! operators {
    ($($trait:ident, $method:ident;)*) => {$(
        impl std::ops::$trait for &Tensor {
            type Output = Result<Tensor>;
            fn $method(self, other: &Tensor) -> Result<Tensor> {
                Tensor::$method(self, other)
            }
        }
    )*};
}

operators! { Add, add; Sub, sub; Mul, mul; Div, div; }
