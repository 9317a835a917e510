//! Layers of convolutional networks.

use super::init::Init;
use super::layers::{accessors, biased, suffix};
use super::module::{Layer, Module, Parts};
use super::parameter::Parameter;
use super::summary::traced;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{
    Activation, AvgPool2dOptions, Conv1dOptions, Conv2dOptions, ConvTranspose2dOptions, Error, Pool2dOptions,
    Result,
};

/// One length, or one per axis.
trait Sides: Copy + PartialEq {
    fn sides(&self) -> Vec<usize>;
}

impl Sides for usize {
    fn sides(&self) -> Vec<usize> {
        vec![*self]
    }
}

impl Sides for [usize; 2] {
    fn sides(&self) -> Vec<usize> {
        self.to_vec()
    }
}

/// Formats lengths as `3x3`.
fn by(lengths: impl AsRef<[usize]>) -> String {
    lengths.as_ref().iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// Formats `, name 2x2`, or nothing for the default.
fn unless<S: Sides>(name: &str, value: S, usual: S) -> String {
    if value == usual { String::new() } else { format!(", {name} {}", by(value.sides())) }
}

/// The input and output channels of a layer, from the first axes of its weight.
fn channels(weight: Shape, groups: usize, transposed: bool) -> [usize; 2] {
    let all = weight[1].saturating_mul(groups);
    if transposed { [weight[0], all] } else { [all, weight[0]] }
}

/// Declares the convolution layers. `transposed`: whether the weight's first axis is the input channels.
macro_rules! convolutions {
    ($($(#[$doc:meta])* $name:ident, $options:ident, $kernel:ty, rank $rank:literal, $op:ident, transposed $transposed:literal
       $(, $extra:ident $label:literal)?;)*) => {$(
        $(#[$doc])*
        pub struct $name {
            weight: Parameter,
            bias: Option<Parameter>,
            options: $options,
        }

        impl $name {
            /// Weights and biases drawn by `init`; stride 1, no padding, no activation.
            ///
            /// # Errors
            /// The device is out of memory.
            pub fn new(inputs: usize, outputs: usize, kernel: $kernel, init: &mut Init) -> Result<$name> {
                $name::with_options(inputs, outputs, kernel, $options::default(), init)
            }

            /// As `new`, with these options.
            ///
            /// # Errors
            /// Groups that do not divide the channels, or the device is out of memory.
            pub fn with_options(
                inputs: usize,
                outputs: usize,
                kernel: $kernel,
                options: $options,
                init: &mut Init,
            ) -> Result<$name> {
                let groups = options.groups;
                if groups == 0 || !inputs.is_multiple_of(groups) || !outputs.is_multiple_of(groups) {
                    let message =
                        format!("{groups} groups do not divide {inputs} input and {outputs} output channels");
                    return Err(Error::argument(stringify!($op), message));
                }
                let outer = if $transposed { [inputs, outputs / groups] } else { [outputs, inputs / groups] };
                let weight = init.weights([&outer[..], &kernel.sides()].concat())?;
                $name::from_tensors(&weight, Some(&init.bias(outputs, weight.shape())?), options)
            }

            /// With these parameters; no bias if `None`.
            ///
            /// # Errors
            /// A weight of another rank, a bias that does not fit it, or tensors of ids.
            pub fn from_tensors(weight: &Tensor, bias: Option<&Tensor>, options: $options) -> Result<$name> {
                let shape = weight.shape();
                if shape.rank() != $rank {
                    let axes = if $transposed { "[in, out / groups, ..]" } else { "[out, in / groups, ..]" };
                    let message = format!("a weight of shape {shape}, should be {axes} of rank {}", $rank);
                    return Err(Error::shape(stringify!($op), message));
                }
                let [_, outputs] = channels(shape, options.groups, $transposed);
                let bias = biased(stringify!($op), shape, outputs, bias)?;
                Ok($name { weight: Parameter::new(weight)?, bias, options })
            }

            /// Without a bias, as before batch normalization, which has its own: PyTorch's `bias=False`.
            pub fn without_bias(self) -> $name {
                $name { bias: None, ..self }
            }

            /// With an activation, fused into the convolution.
            pub fn with_activation(self, activation: Activation) -> $name {
                $name { options: $options { activation, ..self.options }, ..self }
            }
        }

        accessors!($name: weight, bias);

        impl Module for $name {
            fn parts(&self) -> Parts<'_> {
                Parts::new().with("weight", &self.weight).with("bias", &self.bias)
            }

            fn describe(&self) -> String {
                let (shape, options, usual) = (self.weight.shape(), &self.options, $options::default());
                let [inputs, outputs] = channels(shape, options.groups, $transposed);
                let groups =
                    if options.groups == 1 { String::new() } else { format!(", groups {}", options.groups) };
                [
                    format!("{} {inputs} -> {outputs}, {}", stringify!($name), by(&shape[2..])),
                    unless("stride", options.stride, usual.stride),
                    unless("padding", options.padding, usual.padding),
                    $(unless($label, options.$extra, usual.$extra),)?
                    unless("dilation", options.dilation, usual.dilation),
                    groups,
                    suffix(options.activation).to_string(),
                ]
                .concat()
            }
        }

        impl Layer for $name {
            fn forward(&self, input: &Tensor) -> Result<Tensor> {
                let bias = self.bias.as_ref().map(Parameter::tensor);
                traced(self, || input.$op(&self.weight.tensor(), bias.as_ref(), self.options))
            }
        }
    )*};
}

convolutions! {
    /// A 1-D convolution, `[n, in, l]` to `[n, out, l']`, by [`Tensor::conv1d`].
    ///
    /// Weight `[out, in / groups, k]`, bias `[out]`.
    Conv1d, Conv1dOptions, usize, rank 3, conv1d, transposed false;
    /// A 2-D convolution, `[n, in, h, w]` to `[n, out, h', w']`, by [`Tensor::conv2d`].
    ///
    /// Weight `[out, in / groups, kh, kw]`, bias `[out]`.
    Conv2d, Conv2dOptions, [usize; 2], rank 4, conv2d, transposed false;
    /// A transposed convolution, `[n, in, h, w]` to `[n, out, h', w']`, by [`Tensor::conv_transpose2d`].
    ///
    /// Weight `[in, out / groups, kh, kw]`, bias `[out]`.
    ConvTranspose2d, ConvTranspose2dOptions, [usize; 2], rank 4, conv_transpose2d, transposed true,
        output_padding "output padding";
}

/// Max pooling over the last two axes, `[n, c, h, w]` to `[n, c, h', w']`, by [`Tensor::max_pool2d`].
pub struct MaxPool2d(Pool2dOptions);

impl MaxPool2d {
    /// Non-overlapping windows of this size.
    pub fn new(kernel: [usize; 2]) -> MaxPool2d {
        MaxPool2d(Pool2dOptions::new(kernel))
    }

    /// With these options.
    pub fn with_options(options: Pool2dOptions) -> MaxPool2d {
        MaxPool2d(options)
    }
}

impl Module for MaxPool2d {
    fn parts(&self) -> Parts<'_> {
        Parts::new()
    }

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
}

impl Layer for MaxPool2d {
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        traced(self, || input.max_pool2d(self.0))
    }
}

/// Average pooling over the last two axes, `[n, c, h, w]` to `[n, c, h', w']`, by [`Tensor::avg_pool2d`].
pub struct AvgPool2d(AvgPool2dOptions);

impl AvgPool2d {
    /// Non-overlapping windows of this size.
    pub fn new(kernel: [usize; 2]) -> AvgPool2d {
        AvgPool2d(AvgPool2dOptions::new(kernel))
    }

    /// With these options.
    pub fn with_options(options: AvgPool2dOptions) -> AvgPool2d {
        AvgPool2d(options)
    }
}

impl Module for AvgPool2d {
    fn parts(&self) -> Parts<'_> {
        Parts::new()
    }

    fn describe(&self) -> String {
        let AvgPool2dOptions { kernel, stride, padding, ceil_mode, count_include_pad, divisor_override } =
            self.0;
        [
            format!("AvgPool2d {}", by(kernel)),
            unless("stride", stride, kernel),
            unless("padding", padding, [0; 2]),
            String::from(if ceil_mode { ", ceil" } else { "" }),
            String::from(if count_include_pad || padding == [0; 2] { "" } else { ", padding not counted" }),
            divisor_override.map_or(String::new(), |divisor| format!(", divisor {divisor}")),
        ]
        .concat()
    }
}

impl Layer for AvgPool2d {
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        traced(self, || input.avg_pool2d(self.0))
    }
}

/// Average pooling to a fixed plane size, `[n, c, h, w]` to `[n, c, size[0], size[1]]`, by
/// [`Tensor::adaptive_avg_pool2d`].
pub struct AdaptiveAvgPool2d([usize; 2]);

impl AdaptiveAvgPool2d {
    /// Pools to planes of this size; `[1, 1]` is the global average.
    pub fn new(size: [usize; 2]) -> AdaptiveAvgPool2d {
        AdaptiveAvgPool2d(size)
    }
}

impl Module for AdaptiveAvgPool2d {
    fn parts(&self) -> Parts<'_> {
        Parts::new()
    }

    fn describe(&self) -> String {
        format!("AdaptiveAvgPool2d {}", by(self.0))
    }
}

impl Layer for AdaptiveAvgPool2d {
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        traced(self, || input.adaptive_avg_pool2d(self.0))
    }
}

/// Upsampling by integer factors, `[n, c, h, w]` to `[n, c, scale[0] h, scale[1] w]`, by [`Tensor::upsample_nearest2d`]
/// or [`Tensor::upsample_bilinear2d`].
pub struct Upsample {
    scale: [usize; 2],
    /// `align_corners` if bilinear, `None` if nearest.
    corners: Option<bool>,
}

impl Upsample {
    /// Nearest: repeats each pixel.
    pub fn nearest(scale: [usize; 2]) -> Upsample {
        Upsample { scale, corners: None }
    }

    /// Bilinear interpolation.
    pub fn bilinear(scale: [usize; 2], align_corners: bool) -> Upsample {
        Upsample { scale, corners: Some(align_corners) }
    }

    fn size(&self, input: Shape) -> Result<[usize; 2]> {
        let size = [0, 1].map(|axis| Some(input.get(2 + axis)?.saturating_mul(self.scale[axis])));
        match (input.rank(), size) {
            (4, [Some(height), Some(width)]) => Ok([height, width]),
            _ => Err(Error::shape("upsample", format!("wants [n, c, h, w], got shape {input}"))),
        }
    }
}

impl Module for Upsample {
    fn parts(&self) -> Parts<'_> {
        Parts::new()
    }

    fn describe(&self) -> String {
        let mode = match self.corners {
            None => "nearest",
            Some(false) => "bilinear",
            Some(true) => "bilinear, corners aligned",
        };
        format!("Upsample {}, {mode}", by(self.scale))
    }
}

impl Layer for Upsample {
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let size = self.size(input.shape())?;
        traced(self, || match self.corners {
            None => input.upsample_nearest2d(size),
            Some(corners) => input.upsample_bilinear2d(size, corners),
        })
    }
}
