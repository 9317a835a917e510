//! Average pooling over the last two axes.

use super::avg_pool_upsample::{Axis, Divisor, Method, avg_pool_upsample, plane};
use super::pool2d::Pool2dOptions;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Options of average pooling; pairs are (vertical, horizontal).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AvgPool2dOptions {
    /// The window's size.
    pub kernel: [usize; 2],
    /// The distance between neighbouring windows.
    pub stride: [usize; 2],
    /// Padding before the first and after the last element; at most half the kernel.
    pub padding: [usize; 2],
    /// Whether to keep a last window that extends past the end, unless it starts in the padding at the end.
    pub ceil_mode: bool,
    /// Whether a mean counts the zeros of the padding. Positions past the padding never count.
    pub count_include_pad: bool,
    /// The divisor of every sum, instead of the number of elements.
    pub divisor_override: Option<usize>,
}

impl AvgPool2dOptions {
    /// Adjacent windows of this size, without padding.
    pub fn new(kernel: [usize; 2]) -> AvgPool2dOptions {
        AvgPool2dOptions {
            kernel,
            stride: kernel,
            padding: [0; 2],
            ceil_mode: false,
            count_include_pad: true,
            divisor_override: None,
        }
    }

    /// The two axes, checked.
    #[track_caller]
    fn axes(&self, op: &'static str, x: Shape) -> Result<[Axis; 2]> {
        let &AvgPool2dOptions { kernel, stride, padding, ceil_mode, .. } = self;
        if self.divisor_override == Some(0) {
            return Err(Error::argument(op, "a divisor of 0"));
        }
        let windows = Pool2dOptions { kernel, stride, padding, dilation: [1; 2], ceil_mode };
        let (input, output) = windows.sizes(op, x)?;
        let divisor = |axis: usize| match (self.divisor_override, self.count_include_pad) {
            // One axis divides for both.
            (Some(divisor), _) => Divisor::Fixed(if axis == 0 { divisor } else { 1 }),
            (None, true) => Divisor::Padded,
            (None, false) => Divisor::Inputs,
        };
        Ok([0, 1].map(|k| {
            let (kernel, stride, padding) = (kernel[k], stride[k], padding[k]);
            let method = Method::Pool { kernel, stride, padding, divisor: divisor(k) };
            Axis { input: input[k], output: output[k], method }
        }))
    }
}

/// The two axes, from `x` to a result of `size`.
#[track_caller]
fn adaptive_axes(x: Shape, size: [usize; 2]) -> Result<[Axis; 2]> {
    let from = plane("adaptive_avg_pool2d", x)?;
    Ok([0, 1].map(|k| Axis { input: from[k], output: size[k], method: Method::Even }))
}

impl Tensor {
    /// Average pooling of the last two axes of `[n, c, h, w]`, as in PyTorch.
    ///
    /// The result is `[n, c, oh, ow]` with `oh = (h + 2 padding - kernel) / stride + 1`, rounded down, or up with
    /// `ceil_mode`; `ow` likewise.
    ///
    /// ```
    /// # use gristmill::{AvgPool2dOptions, Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 5.0, 2.0, 0.0, 3.0, 3.0, 8.0, 6.0], [1, 1, 2, 4], &Device::cpu())?;
    /// let y = x.avg_pool2d(AvgPool2dOptions::new([2, 2]))?;
    /// assert_eq!(y.to_vec()?, [3.0, 4.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Not of rank 4, no window fits, a kernel, stride or divisor of 0, a padding over half the kernel, a tensor of ids,
    /// or the device fails.
    #[track_caller]
    pub fn avg_pool2d(&self, options: AvgPool2dOptions) -> Result<Tensor> {
        avg_pool_upsample("avg_pool2d", self, options.axes("avg_pool2d", self.shape())?)
    }

    /// Adaptive average pooling of `[n, c, h, w]` to `[n, c, size[0], size[1]]`, as PyTorch's `adaptive_avg_pool2d`.
    ///
    /// Window i has the rows from `⌊i h / size[0]⌋` up to, but not including, `⌈(i + 1) h / size[0]⌉`; columns
    /// likewise.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 3.0, 5.0, 7.0], [1, 1, 1, 4], &Device::cpu())?;
    /// assert_eq!(x.adaptive_avg_pool2d([1, 2])?.to_vec()?, [2.0, 6.0]);
    /// assert_eq!(x.adaptive_avg_pool2d([1, 3])?.to_vec()?, [2.0, 4.0, 6.0]); // windows overlap
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Not of rank 4, a height or width of 0, a tensor of ids, or the device fails.
    #[track_caller]
    pub fn adaptive_avg_pool2d(&self, size: [usize; 2]) -> Result<Tensor> {
        avg_pool_upsample("adaptive_avg_pool2d", self, adaptive_axes(self.shape(), size)?)
    }
}
