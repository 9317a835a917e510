//! Normalization layers.

use super::init::Init;
use super::layers::named;
use super::module::Module;
use super::parameter::Parameter;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// PyTorch's default for `eps`.
const EPS: f32 = 1e-5;

/// The affine parameters after a normalization, and eps, which is added to the variance.
struct Affine {
    weight: Parameter,
    bias: Option<Parameter>,
    eps: f32,
}

impl Affine {
    /// Weight 1; bias 0 if `biased`.
    fn new(shape: impl AsRef<[usize]>, biased: bool, init: &Init) -> Result<Affine> {
        let bias = if biased { Some(init.zeros(&shape)?) } else { None };
        Affine::from_tensors("norm", &Tensor::ones(shape, init.device())?, bias.as_ref())
    }

    fn from_tensors(op: &'static str, weight: &Tensor, bias: Option<&Tensor>) -> Result<Affine> {
        if let Some(bias) = bias.filter(|bias| bias.shape() != weight.shape()) {
            let message = format!("a bias of shape {} for a weight of {}", bias.shape(), weight.shape());
            return Err(Error::shape(op, message));
        }
        let bias = bias.map(Parameter::new).transpose()?;
        Ok(Affine { weight: Parameter::new(weight)?, bias, eps: EPS })
    }

    fn bias(&self) -> Option<Tensor> {
        self.bias.as_ref().map(Parameter::tensor)
    }

    fn parameters(&self) -> Vec<(String, Parameter)> {
        named(&self.weight, &self.bias)
    }

    /// The channels, if the weight is `[c]`.
    fn channels(&self) -> usize {
        self.weight.numel()
    }

    /// The text of a non-default eps in summaries.
    fn suffix(&self) -> String {
        if self.eps == EPS { String::new() } else { format!(", eps {}", self.eps) }
    }

    /// The FLOPs: per element `moments` for the statistics, two to normalize, then weight and bias.
    fn flops(&self, shape: Shape, moments: u64) -> u64 {
        (shape.numel() as u64).saturating_mul(moments + 3 + u64::from(self.bias.is_some()))
    }
}

/// FLOPs per element of mean and variance: a sum, a difference, a square, a sum.
const CENTRED: u64 = 4;
/// FLOPs per element of the mean square: a square, a sum.
const SQUARES: u64 = 2;

macro_rules! with_eps {
    ($($name:ident: $op:literal),*) => {$(
        impl $name {
            /// Sets `eps`; the default is 1e-5.
            ///
            /// # Errors
            /// A negative, infinite or NaN `eps`.
            pub fn with_eps(mut self, eps: f32) -> Result<$name> {
                if !(eps >= 0.0 && eps.is_finite()) {
                    return Err(Error::argument($op, format!("eps is {eps}, should be at least 0")));
                }
                self.affine.eps = eps;
                Ok(self)
            }
        }
    )*};
}

with_eps! { LayerNorm: "layer_norm", RmsNorm: "rms_norm", GroupNorm: "group_norm", BatchNorm1d: "batch_norm", BatchNorm2d: "batch_norm" }

macro_rules! by_row {
    ($(#[$doc:meta])* $name:ident, $op:literal, biased: $biased:literal, $moments:expr, $forward:expr) => {
        $(#[$doc])*
        pub struct $name {
            affine: Affine,
        }

        impl $name {
            /// Normalizes over the last axes, which have this shape. Weights start at 1, biases at 0.
            ///
            /// # Errors
            /// A rank over 6, or the device is out of memory.
            pub fn new(shape: impl AsRef<[usize]>, init: &Init) -> Result<$name> {
                Ok($name { affine: Affine::new(shape, $biased, init)? })
            }
        }

        impl Module for $name {
            fn describe(&self) -> String {
                format!("{} {}{}", stringify!($name), self.affine.weight.shape(), self.affine.suffix())
            }

            fn forward(&self, input: &Tensor) -> Result<Tensor> {
                $forward(&self.affine, input)
            }

            fn output_shape(&self, input: Shape) -> Result<Shape> {
                let weight = self.affine.weight.shape();
                if weight.rank() > 0 && input.ends_with(&weight) {
                    return Ok(input);
                }
                Err(Error::shape($op, format!("input {input} for a weight of shape {weight}")))
            }

            fn flops(&self, input: Shape) -> Result<u64> {
                Ok(self.affine.flops(self.output_shape(input)?, $moments))
            }

            fn own_parameters(&self) -> Vec<(String, Parameter)> {
                self.affine.parameters()
            }
        }
    };
}

by_row! {
    /// Layer normalization over the last axes, by [`Tensor::layer_norm`]. Weight and bias have the shape of these axes.
    LayerNorm, "layer_norm", biased: true, CENTRED, |affine: &Affine, x: &Tensor| {
        let weight = affine.weight.tensor();
        x.layer_norm(weight.rank(), Some(&weight), affine.bias().as_ref(), affine.eps)
    }
}

impl LayerNorm {
    /// The normalized sum `x + residual`, and the sum itself, by [`Tensor::add_layer_norm`].
    ///
    /// # Errors
    /// As the method of [`Tensor`].
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<[Tensor; 2]> {
        let weight = self.affine.weight.tensor();
        x.add_layer_norm(residual, weight.rank(), Some(&weight), self.affine.bias().as_ref(), self.affine.eps)
    }

    /// With these parameters; no bias if `None`.
    ///
    /// # Errors
    /// A bias and weight of different shapes, or tensors of ids.
    pub fn from_tensors(weight: &Tensor, bias: Option<&Tensor>) -> Result<LayerNorm> {
        Ok(LayerNorm { affine: Affine::from_tensors("layer_norm", weight, bias)? })
    }
}

by_row! {
    /// RMS normalization over the last axes, by [`Tensor::rms_norm`]. The weight has the shape of these axes.
    RmsNorm, "rms_norm", biased: false, SQUARES, |affine: &Affine, x: &Tensor| {
        let weight = affine.weight.tensor();
        x.rms_norm(weight.rank(), Some(&weight), affine.eps)
    }
}

impl RmsNorm {
    /// The normalized sum `x + residual`, and the sum itself, by [`Tensor::add_rms_norm`].
    ///
    /// # Errors
    /// As the method of [`Tensor`].
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<[Tensor; 2]> {
        let weight = self.affine.weight.tensor();
        x.add_rms_norm(residual, weight.rank(), Some(&weight), self.affine.eps)
    }

    /// With this weight.
    ///
    /// # Errors
    /// A tensor of ids.
    pub fn from_tensor(weight: &Tensor) -> Result<RmsNorm> {
        Ok(RmsNorm { affine: Affine::from_tensors("rms_norm", weight, None)? })
    }
}

/// Checks that an input is `[n, channels, ..]`.
fn with_channels(op: &'static str, input: Shape, channels: usize) -> Result<Shape> {
    match input.get(1) {
        Some(&c) if c == channels => Ok(input),
        _ => Err(Error::shape(op, format!("input {input}, should be [n, {channels}, ..]"))),
    }
}

/// Group normalization of `[n, c, ..]`, by [`Tensor::group_norm`]. Weight and bias `[c]`.
pub struct GroupNorm {
    groups: usize,
    affine: Affine,
}

impl GroupNorm {
    /// Normalizes `groups` groups of `channels / groups` channels. Weights start at 1, biases at 0.
    ///
    /// # Errors
    /// Groups that do not divide the channels, or the device is out of memory.
    pub fn new(groups: usize, channels: usize, init: &Init) -> Result<GroupNorm> {
        if channels.checked_rem(groups) != Some(0) {
            let message = format!("{groups} groups do not divide {channels} channels");
            return Err(Error::argument("group_norm", message));
        }
        Ok(GroupNorm { groups, affine: Affine::new([channels], true, init)? })
    }
}

impl Module for GroupNorm {
    fn describe(&self) -> String {
        format!("GroupNorm {} of {}{}", self.groups, self.affine.channels(), self.affine.suffix())
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let Affine { weight, eps, .. } = &self.affine;
        input.group_norm(self.groups, Some(&weight.tensor()), self.affine.bias().as_ref(), *eps)
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        with_channels("group_norm", input, self.affine.channels())
    }

    fn flops(&self, input: Shape) -> Result<u64> {
        Ok(self.affine.flops(self.output_shape(input)?, CENTRED))
    }

    fn own_parameters(&self) -> Vec<(String, Parameter)> {
        self.affine.parameters()
    }
}

macro_rules! batch_norm {
    ($(#[$doc:meta])* $name:ident, $ranks:pat, $wanted:literal) => {
        $(#[$doc])*
        ///
        /// In training it normalizes by the batch's statistics ([`Tensor::batch_norm`]) and updates the running
        /// statistics; in evaluation it normalizes by the running statistics ([`Tensor::batch_norm_by`]). Weight and
        /// bias `[c]`; `running_mean` and `running_var`, both `[c]`, are buffers: saved in checkpoints, not seen by
        /// optimizers.
        pub struct $name {
            affine: Affine,
            mean: Parameter,
            variance: Parameter,
            momentum: f32,
            training: AtomicBool,
        }

        impl $name {
            /// A layer for `channels` channels, with momentum 0.1. Weight and running variance start at 1, bias and
            /// running mean at 0.
            ///
            /// # Errors
            /// The device is out of memory.
            pub fn new(channels: usize, init: &Init) -> Result<$name> {
                Ok($name {
                    affine: Affine::new([channels], true, init)?,
                    mean: Parameter::buffer(&init.zeros([channels])?)?,
                    variance: Parameter::buffer(&Tensor::ones([channels], init.device())?)?,
                    momentum: 0.1,
                    training: AtomicBool::new(true),
                })
            }

            /// Sets the momentum: the weight of a batch's statistics in the update of the running ones; the default is
            /// 0.1.
            ///
            /// # Errors
            /// A momentum outside `0..=1`.
            pub fn with_momentum(self, momentum: f32) -> Result<$name> {
                if !(0.0..=1.0).contains(&momentum) {
                    return Err(Error::argument("batch_norm", format!("momentum {momentum} is not in 0..=1")));
                }
                Ok($name { momentum, ..self })
            }
        }

        impl Module for $name {
            fn describe(&self) -> String {
                format!("{} {}{}", stringify!($name), self.affine.channels(), self.affine.suffix())
            }

            fn forward(&self, input: &Tensor) -> Result<Tensor> {
                self.output_shape(input.shape())?;
                let (weight, bias, eps) = (self.affine.weight.tensor(), self.affine.bias(), self.affine.eps);
                if !self.training.load(Ordering::Relaxed) {
                    let [mean, variance] = [&self.mean, &self.variance].map(Parameter::tensor);
                    return input.batch_norm_by(&mean, &variance, Some(&weight), bias.as_ref(), eps);
                }
                let batch = input.batch_norm(Some(&weight), bias.as_ref(), eps)?;
                Parameter::update([&self.mean, &self.variance], |[mean, variance]| {
                    batch.update(mean, variance, self.momentum)
                })?;
                Ok(batch.output)
            }

            fn output_shape(&self, input: Shape) -> Result<Shape> {
                match input.rank() {
                    $ranks => with_channels("batch_norm", input, self.affine.channels()),
                    _ => Err(Error::shape("batch_norm", format!("input {input}, should be {}", $wanted))),
                }
            }

            fn flops(&self, input: Shape) -> Result<u64> {
                let moments = if self.training.load(Ordering::Relaxed) { CENTRED } else { 0 };
                Ok(self.affine.flops(self.output_shape(input)?, moments))
            }

            fn own_parameters(&self) -> Vec<(String, Parameter)> {
                self.affine.parameters()
            }

            fn own_buffers(&self) -> Vec<(String, Parameter)> {
                [("running_mean", &self.mean), ("running_var", &self.variance)]
                    .map(|(name, buffer)| (name.to_string(), buffer.clone()))
                    .to_vec()
            }

            fn set_training(&self, training: bool) {
                self.training.store(training, Ordering::Relaxed);
            }
        }
    };
}

batch_norm! {
    /// Batch normalization of `[n, c]` or `[n, c, length]`.
    BatchNorm1d, 2 | 3, "[n, c] or [n, c, length]"
}

batch_norm! {
    /// Batch normalization of `[n, c, h, w]`.
    BatchNorm2d, 4, "[n, c, h, w]"
}
