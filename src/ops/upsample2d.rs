//! Upsampling of planes: nearest and bilinear.

use super::avg_pool_upsample::{Axis, Method, avg_pool_upsample, plane};
use crate::tensor::Tensor;
use crate::{Error, Result};

impl Tensor {
    /// Resizes the last two axes of `[n, c, h, w]` to `size`, as PyTorch's `interpolate` in mode "nearest".
    ///
    /// Output (i, j) is input `(⌊i h / size[0]⌋, ⌊j w / size[1]⌋)`.
    ///
    /// Positions are computed in integers. PyTorch multiplies by an f32 scale, so it may be off by one where
    /// `i h / size[0]` is close to an integer. Both agree for integer scale factors.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0], [1, 1, 1, 2], &Device::cpu())?;
    /// assert_eq!(x.upsample_nearest2d([1, 4])?.to_vec()?, [1.0, 1.0, 2.0, 2.0]);
    /// assert_eq!(x.upsample_nearest2d([2, 3])?.to_vec()?, [1.0, 1.0, 2.0, 1.0, 1.0, 2.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Not of rank 4, a height or width of 0, a tensor of ids, or the device fails.
    #[track_caller]
    pub fn upsample_nearest2d(&self, size: [usize; 2]) -> Result<Tensor> {
        upsample("upsample_nearest2d", self, size, Method::Nearest)
    }

    /// Resizes the last two axes of `[n, c, h, w]` to `size`, as PyTorch's `interpolate` in mode "bilinear".
    ///
    /// Along each axis, output i is `(1 - t) x[⌊s⌋] + t x[⌊s⌋ + 1]`, where t is the fraction of the position s. It is
    /// `s = (i + ½) h / size[0] - ½`, clamped to 0 to `h - 1`; with `align_corners`, `s = i (h - 1) / (size[0] - 1)`.
    ///
    /// Positions are computed in integers, and t is rounded once. Inputs with weight 0 are ignored, even NaN.
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
    #[track_caller]
    pub fn upsample_bilinear2d(&self, size: [usize; 2], align_corners: bool) -> Result<Tensor> {
        upsample("upsample_bilinear2d", self, size, Method::Linear { corners: align_corners })
    }
}

#[track_caller]
fn upsample(op: &'static str, x: &Tensor, size: [usize; 2], method: Method) -> Result<Tensor> {
    let from = plane(op, x.shape())?;
    if size.contains(&0) {
        return Err(Error::argument(op, format!("a size of {size:?} for shape {}", x.shape())));
    }
    avg_pool_upsample(op, x, [0, 1].map(|axis| Axis { input: from[axis], output: size[axis], method }))
}
