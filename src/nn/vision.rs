//! The layers of convolutional networks.

use super::init::Init;
use super::layers::{biased, named, suffix, sum_flops};
use super::module::Module;
use super::parameter::Parameter;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Activation, Conv2dOptions, Error, Pool2dOptions, Result};

/// A pair as `3x3`.
fn by([height, width]: [usize; 2]) -> String {
    format!("{height}x{width}")
}

/// `, name 2x2`, unless it is what goes without saying.
fn unless(name: &str, pair: [usize; 2], usual: [usize; 2]) -> String {
    if pair == usual { String::new() } else { format!(", {name} {}", by(pair)) }
}

/// A convolution, `[n, in, h, w]` to `[n, out, h', w']`, by [`Tensor::conv2d`]. Weight `[out, in / groups, kh, kw]`, bias
/// `[out]`.
pub struct Conv2d {
    weight: Parameter,
    bias: Option<Parameter>,
    options: Conv2dOptions,
}

impl Conv2d {
    /// Weights by the initialiser's scheme, biases 0; stride 1, no padding, no activation.
    ///
    /// # Errors
    /// The device has no room.
    pub fn new(inputs: usize, outputs: usize, kernel: [usize; 2], init: &mut Init) -> Result<Conv2d> {
        Conv2d::with_options(inputs, outputs, kernel, Conv2dOptions::default(), init)
    }

    /// As [`Conv2d::new`], with these options.
    ///
    /// # Errors
    /// Channels that the groups do not divide, or the device has no room.
    pub fn with_options(
        inputs: usize,
        outputs: usize,
        kernel: [usize; 2],
        options: Conv2dOptions,
        init: &mut Init,
    ) -> Result<Conv2d> {
        let groups = options.groups;
        if groups == 0 || !inputs.is_multiple_of(groups) || !outputs.is_multiple_of(groups) {
            let message =
                format!("{groups} groups do not divide {inputs} input and {outputs} output channels");
            return Err(Error::argument("conv2d", message));
        }
        let taps = kernel[0] * kernel[1];
        let (fan_in, fan_out) = (inputs / groups * taps, outputs / groups * taps);
        let weight = init.weights([outputs, inputs / groups, kernel[0], kernel[1]], fan_in, fan_out)?;
        Conv2d::from_tensors(&weight, Some(&init.zeros([outputs])?), options)
    }

    /// With these parameters; without a bias where there is none.
    ///
    /// # Errors
    /// A weight that is not of rank 4, a bias that does not fit it, or tensors of ids.
    pub fn from_tensors(weight: &Tensor, bias: Option<&Tensor>, options: Conv2dOptions) -> Result<Conv2d> {
        let shape = weight.shape();
        if shape.rank() != 4 {
            let message = format!("a weight of shape {shape}, should be [out, in / groups, kh, kw]");
            return Err(Error::shape("conv2d", message));
        }
        let bias = biased("conv2d", shape, bias)?;
        Ok(Conv2d { weight: Parameter::new(weight)?, bias, options })
    }

    /// With an activation, computed by the same kernel.
    pub fn with_activation(self, activation: Activation) -> Conv2d {
        Conv2d { options: Conv2dOptions { activation, ..self.options }, ..self }
    }
}

impl Module for Conv2d {
    fn describe(&self) -> String {
        let (shape, options) = (self.weight.shape(), &self.options);
        let groups = if options.groups == 1 { String::new() } else { format!(", groups {}", options.groups) };
        format!(
            "Conv2d {} -> {}, {}{}{}{}{groups}{}",
            shape[1] * options.groups,
            shape[0],
            by([shape[2], shape[3]]),
            unless("stride", options.stride, [1; 2]),
            unless("padding", options.padding, [0; 2]),
            unless("dilation", options.dilation, [1; 2]),
            suffix(options.activation)
        )
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Parameter::tensor);
        input.conv2d(&self.weight.tensor(), bias.as_ref(), self.options)
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        self.options.output_shape(input, self.weight.shape())
    }

    fn flops(&self, input: Shape) -> Result<u64> {
        let terms = self.weight.shape()[1..].iter().product();
        Ok(sum_flops(self.output_shape(input)?, terms, self.bias.is_some(), self.options.activation))
    }

    fn own_parameters(&self) -> Vec<(&'static str, Parameter)> {
        named(&self.weight, &self.bias)
    }
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
