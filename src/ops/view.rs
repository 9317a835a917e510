//! Views: other layouts of the same buffer. They dispatch no kernel.

use super::copy::SliceGrad;
use crate::op::apply;
use crate::shape::{Layout, MAX_RANK, Shape};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::ops::Range;

impl Tensor {
    /// The same elements in the same order, with another shape. A view if strides can express it, else a copy.
    ///
    /// # Errors
    /// The shape has another number of elements.
    pub fn reshape(&self, shape: impl AsRef<[usize]>) -> Result<Tensor> {
        let (old, shape) = (self.shape(), Shape::new(shape)?);
        if shape.numel() != old.numel() {
            return Err(Error::shape("reshape", format!("{old} does not have the elements of {shape}")));
        }
        match self.layout().reshape(shape) {
            Some(layout) => Ok(self.view(layout, move |grad| grad.reshape(old))),
            None => self.copy()?.reshape(shape),
        }
    }

    /// Joins axis `start` and all after it into one: `[n, c, h, w]` from axis 1 becomes `[n, c·h·w]`.
    ///
    /// # Errors
    /// No such axis.
    pub fn flatten(&self, start: isize) -> Result<Tensor> {
        let start = self.shape().axis("flatten", start)?;
        let shape = self.shape();
        let joined = [&shape[..start], &[shape[start..].iter().product()]].concat();
        self.reshape(joined)
    }

    /// Reorders the axes: axis `k` of the result is axis `axes[k]` of this tensor.
    ///
    /// # Errors
    /// `axes` is not a permutation of all axes.
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
    /// # Errors
    /// No such axis.
    pub fn transpose(&self, a: isize, b: isize) -> Result<Tensor> {
        let (a, b) = (self.shape().axis("transpose", a)?, self.shape().axis("transpose", b)?);
        let mut axes: Vec<usize> = (0..self.rank()).collect();
        axes.swap(a, b);
        self.permute(&axes)
    }

    /// Exchanges the last two axes.
    ///
    /// # Errors
    /// Rank below 2.
    pub fn t(&self) -> Result<Tensor> {
        self.transpose(-2, -1)
    }

    /// The part of an axis in `range`.
    ///
    /// # Errors
    /// No such axis, or a range that exceeds it.
    pub fn slice(&self, axis: isize, range: Range<usize>) -> Result<Tensor> {
        self.slice_step(axis, range, 1)
    }

    /// Every `step`-th element of an axis in `range`.
    ///
    /// # Errors
    /// No such axis, a range that exceeds it, or a step of 0.
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
    /// # Errors
    /// The shapes do not broadcast.
    pub fn expand(&self, shape: impl AsRef<[usize]>) -> Result<Tensor> {
        let layout = self.layout().expand(Shape::new(shape)?, "expand")?;
        // The backward pass sums the gradient back to this shape.
        Ok(self.view(layout, |grad| Ok(grad.clone())))
    }

    /// Inserts an axis of length 1 at position `axis`; -1 is the last.
    ///
    /// # Errors
    /// No such position, or a rank over 6.
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
    /// # Errors
    /// No such axis, or it is longer.
    pub fn squeeze(&self, axis: isize) -> Result<Tensor> {
        let at = self.shape().axis("squeeze", axis)?;
        let mut dims = self.shape().to_vec();
        if dims.remove(at) != 1 {
            return Err(Error::shape("squeeze", format!("axis {axis} of shape {} is not 1", self.shape())));
        }
        self.reshape(dims)
    }
}
