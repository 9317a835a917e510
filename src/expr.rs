//! Arithmetic without a `?` for every step: operators, and methods on results.
//!
//! An operation may fail, for shapes that do not fit or a device without room, and Rust's `?` works on `Result` alone, for
//! which a crate may not define `Result<Tensor> * f32` or `Result<Tensor> + Result<Tensor>`. So operators give a type of
//! the crate's own, [`Expr`], and [`Expr::eval`] ends it in a `Result`. Tensors that carry an error inside themselves were
//! the alternative: they need no `eval`, but their shape would be wrong.

use crate::ops::attention::AttentionOptions;
use crate::ops::avg_pool2d::AvgPool2dOptions;
use crate::ops::conv2d::{Conv1dOptions, Conv2dOptions, ConvTranspose1dOptions, ConvTranspose2dOptions};
use crate::ops::cross_entropy::CrossEntropyOptions;
use crate::ops::index::Indices;
use crate::ops::pad::PadMode;
use crate::ops::pool2d::Pool2dOptions;
use crate::ops::rotary::RotaryPairs;
use crate::ops::unary::Activation;
use crate::ops::view::Dims;
use crate::tensor::Tensor;
use crate::{DType, Device, Result};
use std::ops::{Add, Div, Mul, Neg, Range, Sub};

/// What an operator gives: a tensor, or the error of the first operation of the expression that failed.
///
/// Operands are tensors, references to tensors, expressions, and `f32` on either side. The result of a method may be an
/// operand too, unless the other one is an `f32` or a result; `-x.relu()` and `x += y` do not exist. A number costs a kernel
/// that fills a tensor of one element. An expression ends in [`Expr::eval`], or in a method of [`Chain`].
///
/// ```
/// use gristmill::{Chain, Device, Tensor};
///
/// let device = Device::cpu();
/// let a = Tensor::from_slice(&[1.0, 2.0], [2], &device)?;
/// let b = Tensor::from_slice(&[3.0, 5.0], [2], &device)?;
/// let c = ((&a + &b) * 2.0 - 0.5 * &a).eval()?;
/// assert_eq!(c.to_vec()?, [7.5, 13.0]);
/// let error = (-&a / &b - &c).square().mean_all()?; // a method ends it too
/// let long = Tensor::ones([3], &device)?;
/// let wrong = (1.0 - (&a + &long) * &b).eval();
/// assert!(wrong.unwrap_err().to_string().contains("add")); // the first step that failed
/// # Ok::<(), gristmill::Error>(())
/// ```
#[must_use = "an expression may hold an error; `eval` gives its tensor or the error"]
#[derive(Debug, Clone)]
pub struct Expr(Result<Tensor>);

impl Expr {
    /// The tensor, or the error of the first operation that failed.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0], [2], &Device::cpu())?;
    /// assert_eq!((1.0 / &x + 1.0).eval()?.to_vec()?, [2.0, 1.5]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of the operations: shapes that do not broadcast, tensors of ids, different devices, a device that fails.
    pub fn eval(self) -> Result<Tensor> {
        self.0
    }
}

impl From<Expr> for Result<Tensor> {
    fn from(expr: Expr) -> Result<Tensor> {
        expr.0
    }
}

/// An operand other than a number.
trait Operand {
    fn tensor(self) -> Result<Tensor>;
}

impl Operand for Tensor {
    fn tensor(self) -> Result<Tensor> {
        Ok(self)
    }
}

impl Operand for &Tensor {
    fn tensor(self) -> Result<Tensor> {
        Ok(self.clone())
    }
}

impl Operand for Expr {
    fn tensor(self) -> Result<Tensor> {
        self.0
    }
}

impl Operand for Result<Tensor> {
    fn tensor(self) -> Result<Tensor> {
        self
    }
}

macro_rules! operators {
    ($($a:ty: $($b:ty),*;)*) => {$($(
        operators! { of $a, $b: Add add, Sub sub, Mul mul, Div div }
    )*)*};
    (of $a:ty, $b:ty: $($trait:ident $method:ident),*) => {$(
        impl $trait<$b> for $a {
            type Output = Expr;
            #[track_caller]
            fn $method(self, other: $b) -> Expr {
                Expr(match (self.tensor(), other.tensor()) {
                    (Ok(a), Ok(b)) => Tensor::$method(&a, &b),
                    (Err(error), _) | (_, Err(error)) => Err(error),
                })
            }
        }
    )*};
}

operators! {
    Tensor: Tensor, &Tensor, Expr, Result<Tensor>;
    &Tensor: Tensor, &Tensor, Expr, Result<Tensor>;
    Expr: Tensor, &Tensor, Expr, Result<Tensor>;
    Result<Tensor>: Tensor, &Tensor, Expr;
}

macro_rules! operators_with_numbers {
    ($($of:ty),*) => {$(
        operators_with_numbers! {
            of $of: Add add add_scalar, Sub sub sub_scalar, Mul mul mul_scalar, Div div div_scalar
        }

        impl Neg for $of {
            type Output = Expr;
            #[track_caller]
            fn neg(self) -> Expr {
                Expr(match self.tensor() {
                    Ok(x) => Tensor::neg(&x),
                    error => error,
                })
            }
        }
    )*};
    (of $of:ty: $($trait:ident $method:ident $by_number:ident),*) => {$(
        impl $trait<f32> for $of {
            type Output = Expr;
            #[track_caller]
            fn $method(self, value: f32) -> Expr {
                Expr(match self.tensor() {
                    Ok(x) => x.$by_number(value),
                    error => error,
                })
            }
        }

        impl $trait<$of> for f32 {
            type Output = Expr;
            #[track_caller]
            fn $method(self, x: $of) -> Expr {
                match x.tensor() {
                    Ok(x) => $trait::$method(Tensor::scalar(self, x.device()), x),
                    Err(error) => Expr(Err(error)),
                }
            }
        }
    )*};
}

operators_with_numbers! { Tensor, &Tensor, Expr }

/// Declares the trait: each method calls the tensor's own of the same name, unless there is an error.
macro_rules! chain {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        /// The methods of [`Tensor`] on the results of others, so that a chain of them needs one `?`.
        ///
        /// The first error ends the chain: nothing after it runs.
        ///
        /// ```
        /// use gristmill::{Chain, Device, Tensor};
        ///
        /// let x = Tensor::from_slice(&[1.0, -2.0, 3.0, 4.0], [2, 2], &Device::cpu())?;
        /// let y = x.matmul(&x).relu().sum(&[-1], false)?;
        /// assert_eq!(y.to_vec()?, [0.0 + 0.0, 15.0 + 10.0]);
        /// # Ok::<(), gristmill::Error>(())
        /// ```
        pub trait Chain: Into<Result<Tensor>> {$(
            #[doc = concat!("[`Tensor::", stringify!($name), "`] of the tensor, or the error.")]
            ///
            /// # Errors
            /// The error that is there already, or those of the method.
            #[track_caller]
            fn $name(self, $($argument: $type),*) -> Result<Tensor> {
                // Not `and_then`: a closure would hide the caller's line.
                match self.into() {
                    Ok(x) => Tensor::$name(&x, $($argument),*),
                    error => error,
                }
            }
        )*}
    };
}

impl Chain for Result<Tensor> {}
impl Chain for Expr {}

chain! {
    abs();
    adaptive_avg_pool2d(size: [usize; 2]);
    add(other: &Tensor);
    add_scalar(value: f32);
    argmax(axis: isize, keepdim: bool);
    argmin(axis: isize, keepdim: bool);
    argsort(axis: isize, descending: bool);
    avg_pool2d(options: AvgPool2dOptions);
    batch_norm_by(
        mean: &Tensor, variance: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f32
    );
    ceil();
    clamp(min: f32, max: f32);
    contiguous();
    conv1d(weight: &Tensor, bias: Option<&Tensor>, options: Conv1dOptions);
    conv2d(weight: &Tensor, bias: Option<&Tensor>, options: Conv2dOptions);
    conv_transpose1d(weight: &Tensor, bias: Option<&Tensor>, options: ConvTranspose1dOptions);
    conv_transpose2d(weight: &Tensor, bias: Option<&Tensor>, options: ConvTranspose2dOptions);
    copy();
    cos();
    cross_entropy(targets: &Tensor);
    cross_entropy_with(targets: &Tensor, options: &CrossEntropyOptions);
    cumsum(axis: isize);
    div(other: &Tensor);
    div_scalar(value: f32);
    dropout(probability: f32, seed: u64, offset: u64);
    elu(alpha: f32);
    embedding(ids: &Tensor);
    eq(other: &Tensor);
    eq_scalar(value: f32);
    erf();
    exp();
    expand(shape: impl AsRef<[usize]>);
    flatten(start: isize, end: isize);
    floor();
    full_like(value: f32);
    gather(axis: isize, index: &Tensor);
    ge(other: &Tensor);
    ge_scalar(value: f32);
    geglu(axis: isize);
    gelu();
    glu(axis: isize);
    group_norm(groups: usize, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f32);
    gru_cell(hidden: &Tensor, state: &Tensor);
    gt(other: &Tensor);
    gt_scalar(value: f32);
    hardswish();
    i(indices: impl Indices);
    index_select(axis: isize, ids: &Tensor);
    instance_norm(weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f32);
    layer_norm(axes: usize, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f32);
    le(other: &Tensor);
    le_scalar(value: f32);
    leaky_relu(slope: f32);
    linear(weight: &Tensor, bias: Option<&Tensor>, activation: Activation);
    log();
    log_softmax(axis: isize);
    logical_and(other: &Tensor);
    logical_not();
    logical_or(other: &Tensor);
    logical_xor(other: &Tensor);
    logsumexp(axes: &[isize], keepdim: bool);
    lt(other: &Tensor);
    lt_scalar(value: f32);
    masked_fill(mask: &Tensor, value: f32);
    matmul(other: &Tensor);
    max(axes: &[isize], keepdim: bool);
    max_all();
    max_pool2d(options: Pool2dOptions);
    maximum(other: &Tensor);
    maximum_scalar(value: f32);
    mean(axes: &[isize], keepdim: bool);
    mean_all();
    min(axes: &[isize], keepdim: bool);
    min_all();
    minimum(other: &Tensor);
    minimum_scalar(value: f32);
    mul(other: &Tensor);
    mul_scalar(value: f32);
    ne(other: &Tensor);
    ne_scalar(value: f32);
    neg();
    norm(p: f32, axes: &[isize], keepdim: bool);
    ones_like();
    one_hot(classes: usize);
    pad(pads: &[(usize, usize)], mode: PadMode);
    permute(axes: &[usize]);
    pow(other: &Tensor);
    pow_scalar(value: f32);
    prod(axes: &[isize], keepdim: bool);
    recip();
    reglu(axis: isize);
    relu();
    requires_grad();
    reshape(shape: impl Dims);
    rms_norm(axes: usize, weight: Option<&Tensor>, eps: f32);
    rotary_embedding(cos: &Tensor, sin: &Tensor, pairs: RotaryPairs);
    round();
    rsqrt();
    scaled_dot_product_attention(k: &Tensor, v: &Tensor, options: &AttentionOptions);
    scatter_add(axis: isize, index: &Tensor, src: &Tensor);
    sigmoid();
    sign();
    silu();
    sin();
    slice(axis: isize, range: Range<usize>);
    slice_step(axis: isize, range: Range<usize>, step: usize);
    softmax(axis: isize);
    softplus();
    sqrt();
    square();
    squeeze(axis: isize);
    std(axes: &[isize], correction: usize, keepdim: bool);
    sub(other: &Tensor);
    sub_scalar(value: f32);
    sum(axes: &[isize], keepdim: bool);
    sum_all();
    sum_to(shape: crate::Shape);
    swiglu(axis: isize);
    t();
    tanh();
    to(device: &Device);
    to_dtype(dtype: DType);
    transpose(a: isize, b: isize);
    tril(diagonal: isize);
    triu(diagonal: isize);
    unsqueeze(axis: isize);
    upsample_bilinear2d(size: [usize; 2], align_corners: bool);
    upsample_nearest2d(size: [usize; 2]);
    var(axes: &[isize], correction: usize, keepdim: bool);
    where_cond(a: &Tensor, b: &Tensor);
    zeros_like();
}
