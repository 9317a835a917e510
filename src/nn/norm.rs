//! Normalization layers.

use super::init::Init;
use super::layers::accessors;
use super::module::{Layer, Mode, Module, Parts};
use super::parameter::Parameter;
use super::summary::{traced, traced_as};
use crate::tensor::Tensor;
use crate::{Error, Result};

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

    #[track_caller]
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

    fn parts(&self) -> Parts<'_> {
        Parts::new().with("weight", &self.weight).with("bias", &self.bias)
    }

    /// The text of a non-default eps in summaries.
    fn suffix(&self) -> String {
        if self.eps == EPS { String::new() } else { format!(", eps {}", self.eps) }
    }
}

macro_rules! with_eps {
    ($($name:ident: $op:literal),*) => {$(
        impl $name {
            /// Sets `eps`; the default is 1e-5.
            ///
            /// # Errors
            /// A negative, infinite or NaN `eps`.
            #[track_caller]
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

accessors!(LayerNorm: affine.weight, affine.bias);
accessors!(RmsNorm: affine.weight);
accessors!(GroupNorm: affine.weight, affine.bias);
accessors!(BatchNorm1d: affine.weight, affine.bias);
accessors!(BatchNorm2d: affine.weight, affine.bias);

macro_rules! by_row {
    ($(#[$doc:meta])* $name:ident, $op:literal, biased: $biased:literal, $forward:expr) => {
        $(#[$doc])*
        pub struct $name {
            affine: Affine,
        }

        impl $name {
            /// Normalizes over the last axes, which have this shape. Weights start at 1, biases at 0.
            ///
            /// # Errors
            /// A rank over 6, or the device is out of memory.
            #[track_caller]
            pub fn new(shape: impl AsRef<[usize]>, init: &Init) -> Result<$name> {
                Ok($name { affine: Affine::new(shape, $biased, init)? })
            }
        }

        impl Module for $name {
            fn parts(&self) -> Parts<'_> {
                self.affine.parts()
            }

            fn describe(&self) -> String {
                format!("{} {}{}", stringify!($name), self.affine.weight.shape(), self.affine.suffix())
            }
        }

        impl Layer for $name {
            #[track_caller]
            fn forward(&self, input: &Tensor) -> Result<Tensor> {
                traced(self, || $forward(&self.affine, input))
            }
        }
    };
}

by_row! {
    /// Layer normalization over the last axes, by [`Tensor::layer_norm`]. Weight and bias have the shape of these axes.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Init, Layer, LayerNorm}};
    /// # let device = Device::cpu();
    /// let norm = LayerNorm::new([2], &Init::new(1, &device))?.with_eps(0.0)?;
    /// let x = Tensor::from_slice(&[1.0, 3.0], [1, 2], &device)?; // mean 2, standard deviation 1
    /// assert_eq!(norm.forward(&x)?.to_vec()?, [-1.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    LayerNorm, "layer_norm", biased: true, |affine: &Affine, x: &Tensor| {
        let weight = affine.weight.tensor();
        x.layer_norm(weight.rank(), Some(&weight), affine.bias().as_ref(), affine.eps)
    }
}

impl LayerNorm {
    /// The normalized sum `x + residual`, and the sum itself, by [`Tensor::add_layer_norm`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Init, LayerNorm}};
    /// # let device = Device::cpu();
    /// let norm = LayerNorm::new([2], &Init::new(1, &device))?.with_eps(0.0)?;
    /// let (x, residual) = (Tensor::arange(0.0, 2.0, 1.0, &device)?, Tensor::arange(1.0, 3.0, 1.0, &device)?);
    /// let [normed, sum] = norm.forward_add(&x, &residual)?;
    /// assert_eq!((normed.to_vec()?, sum.to_vec()?), (vec![-1.0, 1.0], vec![1.0, 3.0]));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As the method of [`Tensor`].
    #[track_caller]
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<[Tensor; 2]> {
        let weight = self.affine.weight.tensor();
        let (bias, eps) = (self.affine.bias(), self.affine.eps);
        traced_as(
            self,
            || x.add_layer_norm(residual, weight.rank(), Some(&weight), bias.as_ref(), eps),
            |[normed, _]| normed,
        )
    }

    /// With these parameters; no bias if `None`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Layer, LayerNorm}};
    /// # let device = Device::cpu();
    /// let (weight, bias) = (Tensor::full([2], 10.0, &device)?, Tensor::ones([2], &device)?);
    /// let norm = LayerNorm::from_tensors(&weight, Some(&bias))?.with_eps(0.0)?;
    /// let x = Tensor::from_slice(&[1.0, 3.0], [1, 2], &device)?;
    /// assert_eq!(norm.forward(&x)?.to_vec()?, [-9.0, 11.0]); // -10 + 1 and 10 + 1
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A bias and weight of different shapes, or tensors of ids.
    #[track_caller]
    pub fn from_tensors(weight: &Tensor, bias: Option<&Tensor>) -> Result<LayerNorm> {
        Ok(LayerNorm { affine: Affine::from_tensors("layer_norm", weight, bias)? })
    }
}

by_row! {
    /// RMS normalization over the last axes, by [`Tensor::rms_norm`]. The weight has the shape of these axes.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Init, Layer, RmsNorm}};
    /// # let device = Device::cpu();
    /// let norm = RmsNorm::new([2], &Init::new(1, &device))?.with_eps(0.0)?;
    /// let x = Tensor::from_slice(&[2.0, -2.0], [1, 2], &device)?; // the root of the mean square is 2
    /// assert_eq!(norm.forward(&x)?.to_vec()?, [1.0, -1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    RmsNorm, "rms_norm", biased: false, |affine: &Affine, x: &Tensor| {
        let weight = affine.weight.tensor();
        x.rms_norm(weight.rank(), Some(&weight), affine.eps)
    }
}

impl RmsNorm {
    /// The normalized sum `x + residual`, and the sum itself, by [`Tensor::add_rms_norm`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Init, RmsNorm}};
    /// # let device = Device::cpu();
    /// let norm = RmsNorm::new([2], &Init::new(1, &device))?.with_eps(0.0)?;
    /// let x = Tensor::from_slice(&[1.0, -1.0], [1, 2], &device)?;
    /// let [normed, sum] = norm.forward_add(&x, &x)?;
    /// assert_eq!((normed.to_vec()?, sum.to_vec()?), (vec![1.0, -1.0], vec![2.0, -2.0]));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As the method of [`Tensor`].
    #[track_caller]
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<[Tensor; 2]> {
        let weight = self.affine.weight.tensor();
        traced_as(
            self,
            || x.add_rms_norm(residual, weight.rank(), Some(&weight), self.affine.eps),
            |[normed, _]| normed,
        )
    }

    /// With this weight.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Layer, RmsNorm}};
    /// # let device = Device::cpu();
    /// let norm = RmsNorm::from_tensor(&Tensor::full([2], 10.0, &device)?)?.with_eps(0.0)?;
    /// let x = Tensor::from_slice(&[2.0, -2.0], [1, 2], &device)?;
    /// assert_eq!(norm.forward(&x)?.to_vec()?, [10.0, -10.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A tensor of ids.
    #[track_caller]
    pub fn from_tensor(weight: &Tensor) -> Result<RmsNorm> {
        Ok(RmsNorm { affine: Affine::from_tensors("rms_norm", weight, None)? })
    }
}

/// Group normalization of `[n, c, ..]`, by [`Tensor::group_norm`]. Weight and bias `[c]`.
///
/// ```
/// # use gristmill::{Device, Tensor, nn::{GroupNorm, Init, Layer}};
/// # let device = Device::cpu();
/// let norm = GroupNorm::new(2, 2, &Init::new(1, &device))?.with_eps(0.0)?; // each channel by itself
/// let x = Tensor::from_slice(&[1.0, 3.0, 10.0, 14.0], [1, 2, 2], &device)?;
/// assert_eq!(norm.forward(&x)?.to_vec()?, [-1.0, 1.0, -1.0, 1.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct GroupNorm {
    groups: usize,
    affine: Affine,
}

impl GroupNorm {
    /// Normalizes `groups` groups of `channels / groups` channels. Weights start at 1, biases at 0.
    ///
    /// # Errors
    /// Groups that do not divide the channels, or the device is out of memory.
    #[track_caller]
    pub fn new(groups: usize, channels: usize, init: &Init) -> Result<GroupNorm> {
        if channels.checked_rem(groups) != Some(0) {
            let message = format!("{groups} groups do not divide {channels} channels");
            return Err(Error::argument("group_norm", message));
        }
        Ok(GroupNorm { groups, affine: Affine::new([channels], true, init)? })
    }
}

impl Module for GroupNorm {
    fn parts(&self) -> Parts<'_> {
        self.affine.parts()
    }

    fn describe(&self) -> String {
        format!("GroupNorm {} of {}{}", self.groups, self.affine.weight.numel(), self.affine.suffix())
    }
}

impl Layer for GroupNorm {
    #[track_caller]
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let (weight, bias, eps) = (self.affine.weight.tensor(), self.affine.bias(), self.affine.eps);
        traced(self, || input.group_norm(self.groups, Some(&weight), bias.as_ref(), eps))
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
            mode: Mode,
        }

        impl $name {
            /// A layer for `channels` channels, with momentum 0.1. Weight and running variance start at 1, bias and
            /// running mean at 0.
            ///
            /// # Errors
            /// The device is out of memory.
            #[track_caller]
            pub fn new(channels: usize, init: &Init) -> Result<$name> {
                Ok($name {
                    affine: Affine::new([channels], true, init)?,
                    mean: Parameter::buffer(&init.zeros([channels])?)?,
                    variance: Parameter::buffer(&Tensor::ones([channels], init.device())?)?,
                    momentum: 0.1,
                    mode: Mode::new(),
                })
            }

            /// Sets the momentum: the weight of a batch's statistics in the update of the running ones; the default is
            /// 0.1.
            ///
            /// # Errors
            /// A momentum outside `0..=1`.
            #[track_caller]
            pub fn with_momentum(self, momentum: f32) -> Result<$name> {
                if !(0.0..=1.0).contains(&momentum) {
                    return Err(Error::argument("batch_norm", format!("momentum {momentum} is not in 0..=1")));
                }
                Ok($name { momentum, ..self })
            }
        }

        impl Module for $name {
            fn parts(&self) -> Parts<'_> {
                let parts = self.affine.parts().with("mode", &self.mode);
                parts.with("running_mean", &self.mean).with("running_var", &self.variance)
            }

            fn describe(&self) -> String {
                format!("{} {}{}", stringify!($name), self.affine.weight.numel(), self.affine.suffix())
            }
        }

        impl Layer for $name {
            #[track_caller]
            fn forward(&self, input: &Tensor) -> Result<Tensor> {
                let shape = input.shape();
                if !matches!(shape.rank(), $ranks) {
                    return Err(Error::shape("batch_norm", format!("input {shape}, should be {}", $wanted)));
                }
                let (weight, bias, eps) = (self.affine.weight.tensor(), self.affine.bias(), self.affine.eps);
                traced(self, || {
                    if !self.mode.is_training() {
                        let [mean, variance] = [&self.mean, &self.variance].map(Parameter::tensor);
                        return input.batch_norm_by(&mean, &variance, Some(&weight), bias.as_ref(), eps);
                    }
                    let batch = input.batch_norm(Some(&weight), bias.as_ref(), eps)?;
                    Parameter::update([&self.mean, &self.variance], |[mean, variance]| {
                        batch.update(mean, variance, self.momentum)
                    })?;
                    Ok(batch.output)
                })
            }
        }
    };
}

batch_norm! {
    /// Batch normalization of `[n, c]` or `[n, c, length]`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{BatchNorm1d, Init, Layer, Module}};
    /// # let device = Device::cpu();
    /// let norm = BatchNorm1d::new(1, &Init::new(1, &device))?.with_eps(0.0)?.with_momentum(1.0)?;
    /// let x = Tensor::from_slice(&[1.0, 3.0], [2, 1], &device)?;
    /// assert_eq!(norm.forward(&x)?.to_vec()?, [-1.0, 1.0]); // by the batch's mean, 2, and deviation, 1
    /// norm.eval();
    /// assert_eq!(norm.forward(&Tensor::full([1, 1], 2.0, &device)?)?.to_vec()?, [0.0]); // by the running mean
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    BatchNorm1d, 2 | 3, "[n, c] or [n, c, length]"
}

batch_norm! {
    /// Batch normalization of `[n, c, h, w]`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{BatchNorm2d, Init, Layer}};
    /// # let device = Device::cpu();
    /// let norm = BatchNorm2d::new(1, &Init::new(1, &device))?.with_eps(0.0)?;
    /// let x = Tensor::from_slice(&[1.0, 3.0, 3.0, 1.0], [1, 1, 2, 2], &device)?;
    /// assert_eq!(norm.forward(&x)?.to_vec()?, [-1.0, 1.0, 1.0, -1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    BatchNorm2d, 4, "[n, c, h, w]"
}
