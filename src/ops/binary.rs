//! Element-wise functions of two tensors, broadcast by NumPy's rule.

use super::copy::filled;
use super::{Elementwise, ElementwiseKernels, WG, alike, arity, floats};
use crate::cpu::CpuDevice;
use crate::cpu::strided::rows;
use crate::gpu::{Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves, apply, no_gradient};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{DType, Result};
use bytemuck::Pod;
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&STRIDED, &VECTOR, &IDS_STRIDED, &IDS_VECTOR];

static STRIDED: Kernel = kernel!("binary.wgsl", "strided", reads: 3, writes: 1, params: Elementwise, "OP": OPS => NAMES, "WG": &[WG]);
static VECTOR: Kernel = kernel!("binary.wgsl", "vector", reads: 3, writes: 1, params: Elementwise, "OP": OPS => NAMES, "WG": &[WG]);
static IDS_STRIDED: Kernel = kernel!("compare_ids.wgsl", "strided", reads: 3, writes: 1, params: Elementwise, "OP": COMPARISONS => NAMES, "WG": &[WG]);
static IDS_VECTOR: Kernel = kernel!("compare_ids.wgsl", "vector", reads: 3, writes: 1, params: Elementwise, "OP": COMPARISONS => NAMES, "WG": &[WG]);
const BINARY: ElementwiseKernels = ElementwiseKernels { strided: &STRIDED, vector: &VECTOR };
const COMPARE_IDS: ElementwiseKernels = ElementwiseKernels { strided: &IDS_STRIDED, vector: &IDS_VECTOR };

/// Declares the functions: NAME, as in `op_NAME` of `binary.wgsl`, and Rust closure; those with `u32` are functions of
/// ids too, in `compare_ids.wgsl`.
macro_rules! functions {
    ($($(#[$doc:meta])* $function:ident $name:literal $(| $id:ident)?: $f:expr;)*) => {
        const NAMES: &[&str] = &[$($name),*];
        const OPS: &[u32] = &[$(Binary::$function as u32),*];
        const COMPARISONS: &[u32] = &[$($({ let _ = stringify!($id); Binary::$function as u32 },)?)*];

        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        enum Binary { $($(#[$doc])* $function),* }

        impl Binary {
            fn as_str(self) -> &'static str {
                NAMES[self as usize]
            }

            /// One monomorphic loop per function, so that the compiler can vectorise it.
            fn each(self, y: &mut [f32], a: CpuView, b: CpuView) {
                match self { $(Binary::$function => each::<f32>(y, a, b, $f)),* }
            }

            fn each_of_ids(self, y: &mut [f32], a: CpuView, b: CpuView) {
                match self {
                    $($(Binary::$function => each::<$id>(y, a, b, $f),)?)*
                    _ => y.fill(0.0),
                }
            }
        }
    };
}

functions! {
    Add "add": |a, b| a + b;
    Sub "sub": |a, b| a - b;
    Mul "mul": |a, b| a * b;
    Div "div": |a, b| a / b;
    Maximum "maximum": max_nan;
    Minimum "minimum": |a, b| -max_nan(-a, -b);
    Pow "pow": f32::powf;

    Eq "eq" | u32: |a, b| f32::from(a == b);
    Ne "ne" | u32: |a, b| f32::from(a != b);
    Lt "lt" | u32: |a, b| f32::from(a < b);
    Le "le" | u32: |a, b| f32::from(a <= b);
    Gt "gt" | u32: |a, b| f32::from(a > b);
    Ge "ge" | u32: |a, b| f32::from(a >= b);
    And "logical_and": |a, b| f32::from(a != 0.0 && b != 0.0);
    Or "logical_or": |a, b| f32::from(a != 0.0 || b != 0.0);
    Xor "logical_xor": |a, b| f32::from((a != 0.0) != (b != 0.0));

    /// The fraction of the gradient of `max(a, b)` that goes to a: 1, 0, or 0.5 if they are equal; 1 for both if one is
    /// NaN.
    MaxShare "max_share": |a, b| if a == b { 0.5 } else { f32::from(a > b || a.is_nan() || b.is_nan()) };
    /// The derivative of `a^b` with respect to a.
    PowBase "pow_base": |a, b| if b == 0.0 { 0.0 } else { b * a.powf(b - 1.0) };
    /// The derivative of `a^b` with respect to b; 0 at a = 0, the limit for b > 0.
    PowExponent "pow_exponent": |a, b| if a == 0.0 && b >= 0.0 { 0.0 } else { a.powf(b) * a.ln() };
    /// 1 where a and b are equal or both NaN, else 0.
    Same "same": |a, b| f32::from(a == b || (a.is_nan() && b.is_nan()));
}

impl Binary {
    /// Whether the function is differentiable; comparisons and parts of gradients are not.
    fn has_gradient(self) -> bool {
        (self as u32) < Binary::Eq as u32
    }

    /// Whether the function is a comparison, and so one of ids too.
    fn compares(self) -> bool {
        COMPARISONS.contains(&(self as u32))
    }

    /// The function of two tensors.
    #[track_caller]
    fn of(self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        if self.compares() && [a, b].iter().any(|x| x.dtype() == DType::U32) {
            return apply(OfIds(self), &[a, b]);
        }
        // Functions without a gradient are not recorded in the graph.
        let through = |x: &Tensor| if self.has_gradient() { x.clone() } else { x.detach() };
        apply(self, &[&through(a), &through(b)])
    }

    /// The function of a tensor and a number.
    #[track_caller]
    fn of_number(self, x: &Tensor, value: f32) -> Result<Tensor> {
        if self.compares() && x.dtype() == DType::U32 {
            let (comparison, id) = self.by_id(value);
            return apply(OfIds(comparison), &[x, &filled(Shape::SCALAR, id, DType::U32, x.device())?]);
        }
        self.of(x, &Tensor::scalar(value, x.device())?)
    }

    /// A comparison with an id that holds for the same ids as this one with `value`.
    fn by_id(self, value: f32) -> (Binary, u32) {
        const NONE: (Binary, u32) = (Binary::Lt, 0);
        const ALL: (Binary, u32) = (Binary::Ge, 0);
        // The next id toward 0.
        let id = value as u32;
        if f64::from(id) == f64::from(value) {
            return (self, id);
        }
        match self {
            Binary::Ne => ALL,
            Binary::Gt | Binary::Ge if value < 0.0 => ALL,
            Binary::Gt | Binary::Ge if value > 0.0 => (Binary::Gt, id),
            Binary::Lt | Binary::Le if value > 0.0 => (Binary::Le, id),
            // Equality, and what is below a negative number, or compared with NaN.
            _ => NONE,
        }
    }
}

/// The larger; NaN if either is NaN.
#[inline(always)]
pub(crate) fn max_nan(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

fn each<T: Pod + Sync>(y: &mut [f32], a: CpuView, b: CpuView, f: impl Fn(T, T) -> f32 + Sync) {
    let layouts = [a.layout, b.layout];
    let [a, b]: [&[T]; 2] = [bytemuck::cast_slice(a.data), bytemuck::cast_slice(b.data)];
    rows(y, layouts, |y, [a0, b0], steps| match steps {
        [1, 1] => y.iter_mut().zip(&a[a0..]).zip(&b[b0..]).for_each(|((y, &a), &b)| *y = f(a, b)),
        [1, 0] => y.iter_mut().zip(&a[a0..]).for_each(|(y, &a)| *y = f(a, b[b0])),
        [sa, sb] => y.iter_mut().enumerate().for_each(|(j, y)| *y = f(a[a0 + j * sa], b[b0 + j * sb])),
    });
}

/// Both operands in the shape of the result.
fn expanded<'a>(op: &'static str, inputs: &[CpuView<'a>], shape: Shape) -> Result<[CpuView<'a>; 2]> {
    let [a, b] = [0, 1].map(|at| inputs[at].layout.expand(shape, op));
    Ok([CpuView { layout: a?, ..inputs[0] }, CpuView { layout: b?, ..inputs[1] }])
}

impl Op for Binary {
    fn name(&self) -> &'static str {
        self.as_str()
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [a, b] = arity(self.name(), inputs)?;
        floats(self.name(), inputs)?;
        Ok(vec![Meta::f32(a.shape.broadcast(&b.shape, self.name())?)])
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        outputs[0].numel()
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let [a, b] = expanded(self.name(), inputs, outputs[0].shape)?;
        self.each(outputs[0].data, a, b);
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        BINARY.dispatch(rec, self.name(), &[*self as u32, WG], [0.0; 2], inputs, outputs[0])
    }

    fn saves(&self) -> Saves {
        match self {
            Binary::Mul | Binary::Div | Binary::Maximum | Binary::Minimum | Binary::Pow => {
                Saves { inputs: &[0, 1], outputs: &[] }
            }
            _ => Saves::default(),
        }
    }

    fn backward(&self, saved: &Saved, g: &Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let a = || saved.input(0);
        let b = || saved.input(1);
        // The fraction for a minimum is the fraction for a maximum with the operands exchanged.
        let fraction = |of: &Tensor, against: &Tensor| match self {
            Binary::Minimum => g.mul(&apply(Binary::MaxShare, &[against, of])?),
            _ => g.mul(&apply(Binary::MaxShare, &[of, against])?),
        };
        let da = || match self {
            Binary::Add | Binary::Sub => Ok(g.clone()),
            Binary::Mul => g.mul(b()?),
            Binary::Div => g.div(b()?),
            Binary::Maximum | Binary::Minimum => fraction(a()?, b()?),
            Binary::Pow => g.mul(&apply(Binary::PowBase, &[a()?, b()?])?),
            _ => Err(no_gradient(self.name())),
        };
        let db = || match self {
            Binary::Add => Ok(g.clone()),
            Binary::Sub => g.neg(),
            Binary::Mul => g.mul(a()?),
            // In this order, since b² may leave the range of f32 where the gradient does not.
            Binary::Div => g.mul(&a()?.div(b()?)?.div(b()?)?)?.neg(),
            Binary::Maximum | Binary::Minimum => fraction(b()?, a()?),
            Binary::Pow => g.mul(&apply(Binary::PowExponent, &[a()?, b()?])?),
            _ => Err(no_gradient(self.name())),
        };
        Ok(vec![needs[0].then(da).transpose()?, needs[1].then(db).transpose()?])
    }
}

/// A comparison of two tensors of ids; the result holds numbers.
struct OfIds(Binary);

impl Op for OfIds {
    fn name(&self) -> &'static str {
        self.0.as_str()
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [a, b] = arity(self.name(), inputs)?;
        alike(self.name(), &a, &b)?;
        Ok(vec![Meta::f32(a.shape.broadcast(&b.shape, self.name())?)])
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        outputs[0].numel()
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let [a, b] = expanded(self.name(), inputs, outputs[0].shape)?;
        self.0.each_of_ids(outputs[0].data, a, b);
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        COMPARE_IDS.dispatch(rec, self.name(), &[self.0 as u32, WG], [0.0; 2], inputs, outputs[0])
    }
}

/// `a + b` into `y`, for ops that add before something else.
pub(crate) fn sum(rec: &mut Recorder, a: GpuView, b: GpuView, y: GpuOut) -> Result<()> {
    BINARY.dispatch(rec, "add", &[Binary::Add as u32, WG], [0.0; 2], &[a, b], y)
}

/// `a / b` into `y`, for ops whose kernels store a dividend and a divisor.
pub(crate) fn quotient(rec: &mut Recorder, a: GpuView, b: GpuView, y: GpuOut) -> Result<()> {
    BINARY.dispatch(rec, "div", &[Binary::Div as u32, WG], [0.0; 2], &[a, b], y)
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident => $op:expr),* $(,)?) => {
        impl Tensor {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// The shapes do not broadcast, a tensor of ids (a comparison takes two), the devices differ, or the device
            /// fails.
            #[track_caller]
            pub fn $name(&self, other: &Tensor) -> Result<Tensor> {
                $op.of(self, other)
            }
        )*}
    };
}

methods! {
    /// `self + other`, element-wise, with broadcasting.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0], [2, 2], &Device::cpu())?;
    /// let row = Tensor::from_slice(&[10.0, 20.0], [2], &Device::cpu())?;
    /// assert_eq!(x.add(&row)?.to_vec()?, [11.0, 22.0, 13.0, 24.0]); // to each row of x
    /// assert_eq!((&x + &row).eval()?.to_vec()?, [11.0, 22.0, 13.0, 24.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    add => Binary::Add,
    /// `self - other`, element-wise, with broadcasting.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0], [2, 2], &Device::cpu())?;
    /// let column = Tensor::from_slice(&[1.0, 3.0], [2, 1], &Device::cpu())?;
    /// assert_eq!(x.sub(&column)?.to_vec()?, [0.0, 1.0, 0.0, 1.0]); // from each column of x
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    sub => Binary::Sub,
    /// `self * other`, element-wise, with broadcasting.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let column = Tensor::from_slice(&[1.0, 2.0, 3.0], [3, 1], &Device::cpu())?;
    /// let row = Tensor::from_slice(&[1.0, 10.0], [2], &Device::cpu())?;
    /// let product = column.mul(&row)?; // both broadcast to [3, 2]
    /// assert_eq!(product.to_vec()?, [1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    mul => Binary::Mul,
    /// `self / other`, element-wise, with broadcasting.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let a = Tensor::from_slice(&[1.0, 6.0, -1.0], [3], &Device::cpu())?;
    /// let b = Tensor::from_slice(&[4.0, 3.0, 0.0], [3], &Device::cpu())?;
    /// assert_eq!(a.div(&b)?.to_vec()?, [0.25, 2.0, f32::NEG_INFINITY]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    div => Binary::Div,
    /// The larger of each pair; NaN if either is NaN. At a tie the gradient is split evenly, as in PyTorch.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[-1.0, 2.0, 5.0], [3], &Device::cpu())?;
    /// let two = Tensor::scalar(2.0, x.device())?;
    /// assert_eq!(x.maximum(&two)?.to_vec()?, [2.0, 2.0, 5.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    maximum => Binary::Maximum,
    /// The smaller of each pair; NaN if either is NaN. At a tie the gradient is split evenly, as in PyTorch.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[-1.0, 2.0, 5.0], [3], &Device::cpu())?;
    /// let two = Tensor::scalar(2.0, x.device())?;
    /// assert_eq!(x.minimum(&two)?.to_vec()?, [-1.0, 2.0, 2.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    minimum => Binary::Minimum,
    /// `self ^ other` as IEEE 754 `pow`: 1 where the exponent is 0, NaN for a negative base and a fractional exponent.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let base = Tensor::from_slice(&[2.0, 3.0, -2.0], [3], &Device::cpu())?;
    /// let exponent = Tensor::from_slice(&[3.0, 0.0, -1.0], [3], &Device::cpu())?;
    /// assert_eq!(base.pow(&exponent)?.to_vec()?, [8.0, 1.0, -0.5]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pow => Binary::Pow,
    /// 1 where `self == other`, else 0; NaN equals nothing. Not differentiable, as all comparisons, which take two
    /// tensors of ids too: accuracy is computed on the device.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let a = Tensor::from_slice(&[1.0, 2.0, f32::NAN], [3], &Device::cpu())?;
    /// let b = Tensor::from_slice(&[1.0, 3.0, f32::NAN], [3], &Device::cpu())?;
    /// assert_eq!(a.eq(&b)?.to_vec()?, [1.0, 0.0, 0.0]);
    /// let logits = Tensor::from_slice(&[0.1, 0.9, 0.8, 0.2], [2, 2], &Device::cpu())?;
    /// let labels = Tensor::from_ids(&[1, 1], [2], &Device::cpu())?;
    /// assert_eq!(logits.argmax(-1, false)?.eq(&labels)?.mean_all()?.item()?, 0.5); // one of two
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    eq => Binary::Eq,
    /// 1 where `self != other`, else 0; NaN differs from everything.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let a = Tensor::from_slice(&[1.0, 2.0, f32::NAN], [3], &Device::cpu())?;
    /// let b = Tensor::from_slice(&[1.0, 3.0, f32::NAN], [3], &Device::cpu())?;
    /// assert_eq!(a.ne(&b)?.to_vec()?, [0.0, 1.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ne => Binary::Ne,
    /// 1 where `self < other`, else 0; 0 for NaN.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// let two = Tensor::scalar(2.0, x.device())?;
    /// assert_eq!(x.lt(&two)?.to_vec()?, [1.0, 0.0, 0.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    lt => Binary::Lt,
    /// 1 where `self <= other`, else 0; 0 for NaN.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// let two = Tensor::scalar(2.0, x.device())?;
    /// assert_eq!(x.le(&two)?.to_vec()?, [1.0, 1.0, 0.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    le => Binary::Le,
    /// 1 where `self > other`, else 0; 0 for NaN.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// let two = Tensor::scalar(2.0, x.device())?;
    /// assert_eq!(x.gt(&two)?.to_vec()?, [0.0, 0.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    gt => Binary::Gt,
    /// 1 where `self >= other`, else 0; 0 for NaN.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// let two = Tensor::scalar(2.0, x.device())?;
    /// assert_eq!(x.ge(&two)?.to_vec()?, [0.0, 1.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ge => Binary::Ge,
    /// 1 where both are true, else 0; every element but 0 is true, NaN too. Not differentiable.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let a = Tensor::from_slice(&[0.0, 0.0, 5.0, 5.0], [4], &Device::cpu())?;
    /// let b = Tensor::from_slice(&[0.0, -1.0, 0.0, -1.0], [4], &Device::cpu())?;
    /// assert_eq!(a.logical_and(&b)?.to_vec()?, [0.0, 0.0, 0.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    logical_and => Binary::And,
    /// 1 where at least one is true, else 0, as [`Tensor::logical_and`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let a = Tensor::from_slice(&[0.0, 0.0, 5.0, 5.0], [4], &Device::cpu())?;
    /// let b = Tensor::from_slice(&[0.0, -1.0, 0.0, -1.0], [4], &Device::cpu())?;
    /// assert_eq!(a.logical_or(&b)?.to_vec()?, [0.0, 1.0, 1.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    logical_or => Binary::Or,
    /// 1 where exactly one is true, else 0, as [`Tensor::logical_and`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let a = Tensor::from_slice(&[0.0, 0.0, 5.0, 5.0], [4], &Device::cpu())?;
    /// let b = Tensor::from_slice(&[0.0, -1.0, 0.0, -1.0], [4], &Device::cpu())?;
    /// assert_eq!(a.logical_xor(&b)?.to_vec()?, [0.0, 1.0, 1.0, 0.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    logical_xor => Binary::Xor,
}

impl Tensor {
    /// 1 where the elements are equal or both NaN, else 0. For gradients.
    #[track_caller]
    pub(crate) fn same(&self, other: &Tensor) -> Result<Tensor> {
        apply(Binary::Same, &[self, other])
    }
}

macro_rules! methods_with_numbers {
    ($($(#[$doc:meta])* $name:ident => $op:expr),* $(,)?) => {
        impl Tensor {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// A tensor of ids (a comparison takes it), or the device fails.
            #[track_caller]
            pub fn $name(&self, value: f32) -> Result<Tensor> {
                $op.of_number(self, value)
            }
        )*}
    };
}

methods_with_numbers! {
    /// `self + value`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// assert_eq!(x.add_scalar(-10.0)?.to_vec()?, [-9.0, -8.0, -7.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    add_scalar => Binary::Add,
    /// `self - value`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// assert_eq!(x.sub_scalar(0.5)?.to_vec()?, [0.5, 1.5, 2.5]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    sub_scalar => Binary::Sub,
    /// `self * value`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// assert_eq!(x.mul_scalar(0.5)?.to_vec()?, [0.5, 1.0, 1.5]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    mul_scalar => Binary::Mul,
    /// `self / value`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// assert_eq!(x.div_scalar(4.0)?.to_vec()?, [0.25, 0.5, 0.75]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    div_scalar => Binary::Div,
    /// `self ^ value`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, -3.0], [3], &Device::cpu())?;
    /// assert_eq!(x.pow_scalar(3.0)?.to_vec()?, [1.0, 8.0, -27.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pow_scalar => Binary::Pow,
    /// The larger of each element and `value`, as [`Tensor::maximum`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// assert_eq!(x.maximum_scalar(2.0)?.to_vec()?, [2.0, 2.0, 3.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    maximum_scalar => Binary::Maximum,
    /// The smaller of each element and `value`, as [`Tensor::minimum`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// assert_eq!(x.minimum_scalar(2.0)?.to_vec()?, [1.0, 2.0, 2.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    minimum_scalar => Binary::Minimum,
    /// 1 where `self == value`, else 0, as [`Tensor::eq`].
    ///
    /// Ids are compared with the exact value, here and in the other comparisons: of ids, `lt_scalar(2.5)` holds for 0, 1
    /// and 2, and no id equals 2.5. f32 holds all ids up to 2²⁴; compare larger ones by [`Tensor::eq`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// assert_eq!(x.eq_scalar(2.0)?.to_vec()?, [0.0, 1.0, 0.0]);
    /// let tokens = Tensor::from_ids(&[7, 3, 0, 0], [4], &Device::cpu())?;
    /// assert_eq!(tokens.eq_scalar(0.0)?.to_vec()?, [0.0, 0.0, 1.0, 1.0]); // a mask of padding
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    eq_scalar => Binary::Eq,
    /// 1 where `self != value`, else 0, as [`Tensor::ne`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// assert_eq!(x.ne_scalar(2.0)?.to_vec()?, [1.0, 0.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ne_scalar => Binary::Ne,
    /// 1 where `self < value`, else 0, as [`Tensor::lt`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// assert_eq!(x.lt_scalar(2.0)?.to_vec()?, [1.0, 0.0, 0.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    lt_scalar => Binary::Lt,
    /// 1 where `self <= value`, else 0, as [`Tensor::le`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// assert_eq!(x.le_scalar(2.0)?.to_vec()?, [1.0, 1.0, 0.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    le_scalar => Binary::Le,
    /// 1 where `self > value`, else 0, as [`Tensor::gt`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// assert_eq!(x.gt_scalar(2.0)?.to_vec()?, [0.0, 0.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    gt_scalar => Binary::Gt,
    /// 1 where `self >= value`, else 0, as [`Tensor::ge`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// assert_eq!(x.ge_scalar(2.0)?.to_vec()?, [0.0, 1.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ge_scalar => Binary::Ge,
}
