//! Resizing planes: nearest and bilinear.

use super::resample::{Axis, Rule, plane, resample};
use crate::tensor::Tensor;
use crate::{Error, Result};

impl Tensor {
    /// The last two axes of `[n, c, h, w]` resized to `size`, as PyTorch's `interpolate` in mode "nearest": output (i, j) is
    /// input `(⌊i h / size[0]⌋, ⌊j w / size[1]⌋)`.
    ///
    /// The places are computed in whole numbers. PyTorch multiplies by an f32 scale, so where `i h / size[0]` is whole, or all but,
    /// it may be one place off; for whole factors both agree.
    ///
    /// # Errors
    /// Not of rank 4, a height or width of 0, or the device fails.
    pub fn upsample_nearest2d(&self, size: [usize; 2]) -> Result<Tensor> {
        upsample("upsample_nearest2d", self, size, Rule::Nearest)
    }

    /// The last two axes of `[n, c, h, w]` resized to `size`, as PyTorch's `interpolate` in mode "bilinear": along each axis
    /// output i is `(1 - t) x[⌊s⌋] + t x[⌊s⌋ + 1]` with t the fraction of its place s, which is `(i + ½) h / size[0] - ½`, at
    /// least 0 and at most `h - 1`; with `align_corners` it is `i (h - 1) / (size[0] - 1)`.
    ///
    /// The places are computed in whole numbers, and t is rounded once. An input with a weight of 0 takes no part.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0], [1, 1, 1, 2], &Device::cpu())?;
    /// assert_eq!(x.upsample_bilinear2d([1, 4], false)?.to_vec()?, [1.0, 1.25, 1.75, 2.0]);
    /// assert_eq!(x.upsample_bilinear2d([1, 3], true)?.to_vec()?, [1.0, 1.5, 2.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::upsample_nearest2d`].
    pub fn upsample_bilinear2d(&self, size: [usize; 2], align_corners: bool) -> Result<Tensor> {
        upsample("upsample_bilinear2d", self, size, Rule::Linear { corners: align_corners })
    }
}

fn upsample(op: &'static str, x: &Tensor, size: [usize; 2], rule: Rule) -> Result<Tensor> {
    let from = plane(op, x.shape())?;
    if size.contains(&0) {
        return Err(Error::argument(op, format!("a size of {size:?} for shape {}", x.shape())));
    }
    resample(op, x, [0, 1].map(|axis| Axis { input: from[axis], output: size[axis], rule }))
}
