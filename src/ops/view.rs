//! Views: other layouts of the same buffer. They dispatch no kernel.

use super::copy::SliceGrad;
use crate::op::apply;
use crate::shape::{Layout, MAX_RANK, Shape};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::ops::Range;

/// What [`Tensor::reshape`] takes: the lengths of the axes. One of them may be -1: it is inferred. For a scalar use
/// [`Shape::SCALAR`].
pub trait Dims {
    /// The lengths; those that no tensor has are the largest number.
    fn dims(&self) -> Vec<isize>;
}

macro_rules! dims {
    ($([$($generic:tt)*] $of:ty,)*) => {$(
        impl<$($generic)*> Dims for $of {
            fn dims(&self) -> Vec<isize> {
                self.iter().map(|&length| isize::try_from(length).unwrap_or(isize::MAX)).collect()
            }
        }
    )*};
}

dims! {
    [] Shape,
    [] &Shape,
    [] Vec<usize>,
    [] &Vec<usize>,
    [] &[usize],
    [] Vec<isize>,
    [] &[isize],
    [const N: usize] [usize; N],
    [const N: usize] &[usize; N],
    [const N: usize] [isize; N],
    [const N: usize] &[isize; N],
    [] Vec<i32>,
    [] &[i32],
    [const N: usize] [i32; N],
    [const N: usize] &[i32; N],
}

/// The shape that these lengths mean for so many elements.
#[track_caller]
fn inferred(dims: &[isize], numel: usize) -> Result<Shape> {
    let wrong = |message: &str| Err(Error::shape("reshape", format!("to {dims:?}: {message}")));
    let mut shape = Vec::with_capacity(dims.len());
    for &length in dims {
        match usize::try_from(length) {
            Ok(length) => shape.push(length),
            Err(_) if length == -1 => shape.push(1),
            Err(_) => return wrong("only one length may be negative: -1, for the axis to be inferred"),
        }
    }
    let places: Vec<usize> = (0..).zip(dims).filter(|(_, length)| **length == -1).map(|(at, _)| at).collect();
    match places[..] {
        [] => {}
        [at] => {
            let others = Shape::new(&shape)?.numel();
            match numel.checked_div(others) {
                Some(length) if length * others == numel => shape[at] = length,
                _ => return wrong(&format!("no length of the axis -1 fits {numel} elements")),
            }
        }
        _ => return wrong("-1 appears twice"),
    }
    Shape::new(shape)
}

impl Tensor {
    /// The same elements in the same order, with another shape. A view if strides can express it, else a copy. One length
    /// may be -1: it is inferred from the others.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], &Device::cpu())?;
    /// let y = x.reshape([3, 2])?;
    /// assert_eq!(y.shape(), [3, 2]);
    /// assert_eq!(y.to_vec()?, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]); // not the transpose
    /// assert_eq!(x.reshape([-1])?.shape(), [6]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// The shape has another number of elements or a rank over 6, -1 twice or where no length fits, or the device fails.
    #[track_caller]
    pub fn reshape(&self, shape: impl Dims) -> Result<Tensor> {
        let old = self.shape();
        let shape = inferred(&shape.dims(), old.numel())?;
        if shape.numel() != old.numel() {
            return Err(Error::shape("reshape", format!("{old} does not have the elements of {shape}")));
        }
        match self.layout().reshape(shape) {
            Some(layout) => Ok(self.view(layout, move |grad| grad.reshape(old))),
            None => self.copy()?.reshape(shape),
        }
    }

    /// Joins the axes from `start` to `end`, this one included, into one: `[n, c, h, w]` from axis 1 to -1 becomes
    /// `[n, c·h·w]`. Negative axes count from the end.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let images = Tensor::ones([10, 3, 4, 4], &Device::cpu())?;
    /// assert_eq!(images.flatten(1, -1)?.shape(), [10, 48]);
    /// assert_eq!(images.flatten(0, 1)?.shape(), [30, 4, 4]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, `end` before `start`, or the device fails.
    #[track_caller]
    pub fn flatten(&self, start: isize, end: isize) -> Result<Tensor> {
        let shape = self.shape();
        let (first, last) = (shape.axis("flatten", start)?, shape.axis("flatten", end)?);
        if last < first {
            return Err(Error::shape(
                "flatten",
                format!("axis {end} of shape {shape} is before axis {start}"),
            ));
        }
        let joined = shape[first..=last].iter().product();
        self.reshape([&shape[..first], &[joined], &shape[last + 1..]].concat())
    }

    /// Reorders the axes: axis `k` of the result is axis `axes[k]` of this tensor.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1, 2, 3], &Device::cpu())?;
    /// let y = x.permute(&[2, 0, 1])?;
    /// assert_eq!(y.shape(), [3, 1, 2]);
    /// assert_eq!(y.to_vec()?, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// `axes` is not a permutation of all axes.
    #[track_caller]
    pub fn permute(&self, axes: &[usize]) -> Result<Tensor> {
        let mut back = vec![usize::MAX; axes.len()];
        for (to, &from) in axes.iter().enumerate() {
            if let Some(slot) = back.get_mut(from) {
                *slot = to;
            }
        }
        if axes.len() != self.rank() || back.contains(&usize::MAX) {
            let message = format!("{axes:?} is not a permutation of the axes of shape {}", self.shape());
            return Err(Error::shape("permute", message));
        }
        Ok(self.view(self.layout().permute(axes)?, move |grad| grad.permute(&back)))
    }

    /// Exchanges two axes; negative ones count from the end.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], &Device::cpu())?;
    /// assert_eq!(x.transpose(0, 1)?.to_vec()?, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    /// let y = Tensor::ones([2, 3, 4], x.device())?;
    /// assert_eq!(y.transpose(0, -1)?.shape(), [4, 3, 2]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis.
    #[track_caller]
    pub fn transpose(&self, a: isize, b: isize) -> Result<Tensor> {
        let (a, b) = (self.shape().axis("transpose", a)?, self.shape().axis("transpose", b)?);
        let mut axes: Vec<usize> = (0..self.rank()).collect();
        axes.swap(a, b);
        self.permute(&axes)
    }

    /// Exchanges the last two axes.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], &Device::cpu())?;
    /// assert_eq!(x.t()?.to_vec()?, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    /// let batch = Tensor::ones([5, 2, 3], x.device())?;
    /// assert_eq!(batch.t()?.shape(), [5, 3, 2]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Rank below 2.
    #[track_caller]
    pub fn t(&self) -> Result<Tensor> {
        self.transpose(-2, -1)
    }

    /// The part of an axis in `range`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], &Device::cpu())?;
    /// assert_eq!(x.slice(1, 1..3)?.to_vec()?, [2.0, 3.0, 5.0, 6.0]); // the last two columns
    /// assert_eq!(x.slice(0, 1..2)?.to_vec()?, [4.0, 5.0, 6.0]); // the second row
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, or a range that exceeds it.
    #[track_caller]
    pub fn slice(&self, axis: isize, range: Range<usize>) -> Result<Tensor> {
        self.slice_step(axis, range, 1)
    }

    /// Every `step`-th element of an axis in `range`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[0.0, 1.0, 2.0, 3.0, 4.0], [5], &Device::cpu())?;
    /// assert_eq!(x.slice_step(0, 0..5, 2)?.to_vec()?, [0.0, 2.0, 4.0]);
    /// assert_eq!(x.slice_step(-1, 1..5, 2)?.to_vec()?, [1.0, 3.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, a range that exceeds it, or a step of 0.
    #[track_caller]
    pub fn slice_step(&self, axis: isize, range: Range<usize>, step: usize) -> Result<Tensor> {
        let whole = self.shape();
        let axis = whole.axis("slice", axis)?;
        if range.start > range.end || range.end > whole[axis] || step == 0 {
            let message = format!("{range:?} by {step} does not lie in axis {axis} of shape {whole}");
            return Err(Error::shape("slice", message));
        }
        // Longer steps give the same elements, and the stride must not overflow.
        let step = step.min(whole[axis].max(1));
        let cut = |layout: &Layout| -> Result<Layout> {
            let mut strides = layout.strides;
            strides[axis] *= step;
            let shape = whole.with(axis, range.len().div_ceil(step))?;
            // An empty slice may start past the last element; no offset points outside its buffer.
            let start = if shape.numel() == 0 { 0 } else { range.start * layout.strides[axis] };
            Ok(Layout { shape, strides, offset: layout.offset + start })
        };
        let part = cut(&Layout::contiguous(whole))?;
        Ok(self.view(cut(self.layout())?, move |grad| apply(SliceGrad { whole, part }, &[grad])))
    }

    /// Broadcasts to `shape` by NumPy's rule, without copying.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0], [2, 1], &Device::cpu())?.requires_grad()?;
    /// let y = x.expand([2, 3])?;
    /// assert_eq!(y.to_vec()?, [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    /// let gradients = y.sum_all()?.backward()?;
    /// assert_eq!(gradients.get(&x).unwrap().to_vec()?, [3.0, 3.0]); // each element is in three terms
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// The shapes do not broadcast, or a rank over 6.
    #[track_caller]
    pub fn expand(&self, shape: impl AsRef<[usize]>) -> Result<Tensor> {
        let layout = self.layout().expand(Shape::new(shape)?, "expand")?;
        // The backward pass sums the gradient back to this shape.
        Ok(self.view(layout, |grad| Ok(grad.clone())))
    }

    /// Inserts an axis of length 1 at position `axis`; -1 is the last.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// assert_eq!(x.unsqueeze(0)?.shape(), [1, 3]);
    /// assert_eq!(x.unsqueeze(-1)?.shape(), [3, 1]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such position, or a rank over 6.
    #[track_caller]
    pub fn unsqueeze(&self, axis: isize) -> Result<Tensor> {
        let places = [&self.shape()[..], &[1]].concat();
        if places.len() > MAX_RANK {
            return Err(Error::shape(
                "unsqueeze",
                format!("shape {} has rank {MAX_RANK} already", self.shape()),
            ));
        }
        let axis = Shape::new(&places)?.axis("unsqueeze", axis)?;
        let mut dims = self.shape().to_vec();
        dims.insert(axis, 1);
        self.reshape(dims)
    }

    /// Removes axis `axis`, which must have length 1.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::ones([2, 1, 3], &Device::cpu())?;
    /// assert_eq!(x.squeeze(1)?.shape(), [2, 3]);
    /// assert!(x.squeeze(0).is_err()); // its length is 2
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, or it is longer.
    #[track_caller]
    pub fn squeeze(&self, axis: isize) -> Result<Tensor> {
        let at = self.shape().axis("squeeze", axis)?;
        let mut dims = self.shape().to_vec();
        if dims.remove(at) != 1 {
            return Err(Error::shape("squeeze", format!("axis {axis} of shape {} is not 1", self.shape())));
        }
        self.reshape(dims)
    }
}
