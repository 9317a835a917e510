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
            #[track_caller]
            pub fn new(inputs: usize, outputs: usize, kernel: $kernel, init: &mut Init) -> Result<$name> {
                $name::with_options(inputs, outputs, kernel, $options::default(), init)
            }

            /// As `new`, with these options.
            ///
            /// # Errors
            /// Groups that do not divide the channels, or the device is out of memory.
            #[track_caller]
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
            #[track_caller]
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
            #[track_caller]
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
    ///
    /// ```
    /// # use gristmill::{Conv1dOptions, Device, Tensor, nn::{Conv1d, Layer}};
    /// # let device = Device::cpu();
    /// let weight = Tensor::ones([1, 1, 2], &device)?;
    /// let conv = Conv1d::from_tensors(&weight, None, Conv1dOptions::default())?;
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [1, 1, 3], &device)?;
    /// assert_eq!(conv.forward(&x)?.to_vec()?, [3.0, 5.0]); // sums of neighbours
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    Conv1d, Conv1dOptions, usize, rank 3, conv1d, transposed false;
    /// A 2-D convolution, `[n, in, h, w]` to `[n, out, h', w']`, by [`Tensor::conv2d`].
    ///
    /// Weight `[out, in / groups, kh, kw]`, bias `[out]`.
    ///
    /// ```
    /// # use gristmill::{Activation, Conv2dOptions, Device, Tensor, nn::{Conv2d, Init, Layer, Module}};
    /// # let device = Device::cpu();
    /// # let mut init = Init::new(1, &device);
    /// let conv = Conv2d::new(1, 8, [3, 3], &mut init)?.without_bias().with_activation(Activation::Relu);
    /// assert_eq!(conv.describe(), "Conv2d 1 -> 8, 3x3, relu");
    /// let options = Conv2dOptions { stride: [2, 2], padding: [1, 1], ..Conv2dOptions::default() };
    /// let half = Conv2d::with_options(1, 8, [3, 3], options, &mut init)?;
    /// assert_eq!(half.forward(&Tensor::zeros([2, 1, 28, 28], &device)?)?.shape(), [2, 8, 14, 14]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    Conv2d, Conv2dOptions, [usize; 2], rank 4, conv2d, transposed false;
    /// A transposed convolution, `[n, in, h, w]` to `[n, out, h', w']`, by [`Tensor::conv_transpose2d`].
    ///
    /// Weight `[in, out / groups, kh, kw]`, bias `[out]`.
    ///
    /// ```
    /// # use gristmill::{ConvTranspose2dOptions, Device, Tensor, nn::{ConvTranspose2d, Layer}};
    /// # let device = Device::cpu();
    /// let options = ConvTranspose2dOptions { stride: [2, 2], ..ConvTranspose2dOptions::default() };
    /// let conv = ConvTranspose2d::from_tensors(&Tensor::ones([1, 1, 2, 2], &device)?, None, options)?;
    /// let x = Tensor::from_slice(&[1.0, 2.0], [1, 1, 1, 2], &device)?;
    /// assert_eq!(conv.forward(&x)?.to_vec()?, [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]); // 2 x 4 pixels
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ConvTranspose2d, ConvTranspose2dOptions, [usize; 2], rank 4, conv_transpose2d, transposed true,
        output_padding "output padding";
}

/// Max pooling over the last two axes, `[n, c, h, w]` to `[n, c, h', w']`, by [`Tensor::max_pool2d`].
///
/// ```
/// # use gristmill::{Device, Pool2dOptions, Tensor, nn::{Layer, MaxPool2d}};
/// # let device = Device::cpu();
/// let x = Tensor::arange(1.0, 9.0, 1.0, &device)?.reshape([1, 1, 2, 4])?;
/// assert_eq!(MaxPool2d::new([2, 2]).forward(&x)?.to_vec()?, [6.0, 8.0]);
/// let options = Pool2dOptions { stride: [1, 1], ..Pool2dOptions::new([2, 2]) };
/// assert_eq!(MaxPool2d::with_options(options).forward(&x)?.to_vec()?, [6.0, 7.0, 8.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
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
    #[track_caller]
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        traced(self, || input.max_pool2d(self.0))
    }
}

/// Average pooling over the last two axes, `[n, c, h, w]` to `[n, c, h', w']`, by [`Tensor::avg_pool2d`].
///
/// ```
/// # use gristmill::{AvgPool2dOptions, Device, Tensor, nn::{AvgPool2d, Layer}};
/// # let device = Device::cpu();
/// let x = Tensor::arange(1.0, 9.0, 1.0, &device)?.reshape([1, 1, 2, 4])?;
/// assert_eq!(AvgPool2d::new([2, 2]).forward(&x)?.to_vec()?, [3.5, 5.5]);
/// let options = AvgPool2dOptions { stride: [1, 1], ..AvgPool2dOptions::new([2, 2]) };
/// assert_eq!(AvgPool2d::with_options(options).forward(&x)?.to_vec()?, [3.5, 4.5, 5.5]);
/// # Ok::<(), gristmill::Error>(())
/// ```
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
    #[track_caller]
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        traced(self, || input.avg_pool2d(self.0))
    }
}

/// Average pooling to a fixed plane size, `[n, c, h, w]` to `[n, c, size[0], size[1]]`, by
/// [`Tensor::adaptive_avg_pool2d`].
///
/// ```
/// # use gristmill::{Device, Tensor, nn::{AdaptiveAvgPool2d, Layer}};
/// let x = Tensor::arange(1.0, 9.0, 1.0, &Device::cpu())?.reshape([1, 1, 2, 4])?;
/// assert_eq!(AdaptiveAvgPool2d::new([1, 1]).forward(&x)?.to_vec()?, [4.5]);
/// assert_eq!(AdaptiveAvgPool2d::new([1, 2]).forward(&x)?.to_vec()?, [3.5, 5.5]);
/// # Ok::<(), gristmill::Error>(())
/// ```
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
    #[track_caller]
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        traced(self, || input.adaptive_avg_pool2d(self.0))
    }
}

/// Upsampling by integer factors, `[n, c, h, w]` to `[n, c, scale[0] h, scale[1] w]`, by [`Tensor::upsample_nearest2d`]
/// or [`Tensor::upsample_bilinear2d`].
///
/// ```
/// # use gristmill::{Device, Tensor, nn::{Layer, Upsample}};
/// let x = Tensor::from_slice(&[0.0, 4.0], [1, 1, 1, 2], &Device::cpu())?;
/// assert_eq!(Upsample::nearest([1, 2]).forward(&x)?.to_vec()?, [0.0, 0.0, 4.0, 4.0]);
/// assert_eq!(Upsample::bilinear([1, 2], false).forward(&x)?.to_vec()?, [0.0, 1.0, 3.0, 4.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
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

    #[track_caller]
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
    #[track_caller]
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let size = self.size(input.shape())?;
        traced(self, || match self.corners {
            None => input.upsample_nearest2d(size),
            Some(corners) => input.upsample_bilinear2d(size, corners),
        })
    }
}
