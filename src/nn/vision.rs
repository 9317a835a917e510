//! The layers of convolutional networks.

use super::module::Module;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Pool2dOptions, Result};

/// A pair as `3x3`.
fn by([height, width]: [usize; 2]) -> String {
    format!("{height}x{width}")
}

/// `, name 2x2`, unless it is what goes without saying.
fn unless(name: &str, pair: [usize; 2], usual: [usize; 2]) -> String {
    if pair == usual { String::new() } else { format!(", {name} {}", by(pair)) }
}

/// Max pooling over the last two axes, `[n, c, h, w]` to `[n, c, h', w']`, by [`Tensor::max_pool2d`].
pub struct MaxPool2d(Pool2dOptions);

impl MaxPool2d {
    /// Windows of this size side by side.
    pub fn new(kernel: [usize; 2]) -> MaxPool2d {
        MaxPool2d(Pool2dOptions::new(kernel))
    }

    /// With these options.
    pub fn with_options(options: Pool2dOptions) -> MaxPool2d {
        MaxPool2d(options)
    }
}

impl Module for MaxPool2d {
    fn describe(&self) -> String {
        let Pool2dOptions { kernel, stride, padding, dilation, ceil_mode } = self.0;
        format!(
            "MaxPool2d {}{}{}{}{}",
            by(kernel),
            unless("stride", stride, kernel),
            unless("padding", padding, [0; 2]),
            unless("dilation", dilation, [1; 2]),
            if ceil_mode { ", ceil" } else { "" }
        )
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        input.max_pool2d(self.0)
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        self.0.output_shape(input)
    }

    fn flops(&self, input: Shape) -> Result<u64> {
        let outputs = self.output_shape(input)?.numel() as u64;
        Ok(outputs * (self.0.kernel[0] * self.0.kernel[1] - 1) as u64)
    }
}
