//! Layers: dense, embedding, dropout, flatten, activations.

use super::init::Init;
use super::module::{Layer, Mode, Module, Parts};
use super::parameter::Parameter;
use super::summary::traced;
use crate::dry_run;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Activation, Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};

/// The methods that give a layer's weight, and its bias if it may have one.
macro_rules! accessors {
    ($name:ident: $($weight:ident).+ $(, $($bias:ident).+)?) => {
        impl $name {
            /// The weight.
            pub fn weight(&self) -> &Parameter {
                &self.$($weight).+
            }
        }

        $(impl $name {
            /// The bias, if it has one.
            pub fn bias(&self) -> Option<&Parameter> {
                self.$($bias).+.as_ref()
            }
        })?
    };
}
pub(super) use accessors;

/// A dense layer: `activation(x · weightᵀ + bias)`, `[.., in]` to `[.., out]`.
///
/// Weight `[out, in]`, bias `[out]`.
///
/// ```
/// # use gristmill::{Activation, Device, Tensor, nn::{Layer, Linear}};
/// # let device = Device::cpu();
/// let weight = Tensor::from_slice(&[1.0, 2.0, 3.0, -4.0], [2, 2], &device)?;
/// let bias = Tensor::from_slice(&[10.0, 0.0], [2], &device)?;
/// let layer = Linear::from_tensors(&weight, Some(&bias))?.with_activation(Activation::Relu);
/// let x = Tensor::ones([1, 2], &device)?;
/// assert_eq!(layer.forward(&x)?.to_vec()?, [13.0, 0.0]); // 1 + 2 + 10, and max(3 - 4, 0)
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct Linear {
    weight: Parameter,
    bias: Option<Parameter>,
    activation: Activation,
}

impl Linear {
    /// Weights and biases drawn by `init`, no activation.
    ///
    /// ```
    /// # use gristmill::{Device, nn::{Init, Linear}};
    /// let layer = Linear::new(3, 2, &mut Init::new(1, &Device::cpu()))?;
    /// assert_eq!(layer.weight().shape(), [2, 3]);
    /// assert!(layer.bias().is_some_and(|bias| bias.shape() == [2]));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// The device is out of memory.
    #[track_caller]
    pub fn new(inputs: usize, outputs: usize, init: &mut Init) -> Result<Linear> {
        let weight = init.weights([outputs, inputs])?;
        Linear::from_tensors(&weight, Some(&init.bias(outputs, weight.shape())?))
    }

    /// With these parameters; no bias if `None`.
    ///
    /// # Errors
    /// A weight not of rank 2, a bias that does not fit it, or a tensor of ids.
    #[track_caller]
    pub fn from_tensors(weight: &Tensor, bias: Option<&Tensor>) -> Result<Linear> {
        let shape = weight.shape();
        if shape.rank() != 2 {
            return Err(Error::shape("linear", format!("a weight of shape {shape}, should be [out, in]")));
        }
        let bias = biased("linear", shape, shape[0], bias)?;
        Ok(Linear { weight: Parameter::new(weight)?, bias, activation: Activation::None })
    }

    /// Without a bias: PyTorch's `bias=False`.
    ///
    /// ```
    /// # use gristmill::{Device, nn::{Init, Linear, Module}};
    /// let layer = Linear::new(2, 1, &mut Init::new(1, &Device::cpu()))?.without_bias();
    /// assert!(layer.bias().is_none() && layer.parameters().len() == 1);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn without_bias(self) -> Linear {
        Linear { bias: None, ..self }
    }

    /// With an activation, fused into the matrix product.
    pub fn with_activation(self, activation: Activation) -> Linear {
        Linear { activation, ..self }
    }
}

accessors!(Linear: weight, bias);

/// The bias as a parameter, checked against the number of outputs.
#[track_caller]
pub(super) fn biased(
    op: &'static str,
    weight: Shape,
    outputs: usize,
    bias: Option<&Tensor>,
) -> Result<Option<Parameter>> {
    match bias {
        Some(bias) if bias.shape() != [outputs] => {
            Err(Error::shape(op, format!("a bias of shape {} for a weight of {weight}", bias.shape())))
        }
        bias => bias.map(Parameter::new).transpose(),
    }
}

/// An activation's text in summaries.
pub(super) fn suffix(activation: Activation) -> &'static str {
    match activation {
        Activation::None => "",
        Activation::Relu => ", relu",
        Activation::Sigmoid => ", sigmoid",
        Activation::Tanh => ", tanh",
    }
}

impl Module for Linear {
    fn parts(&self) -> Parts<'_> {
        Parts::new().with("weight", &self.weight).with("bias", &self.bias)
    }

    fn describe(&self) -> String {
        let shape = self.weight.shape();
        format!("Linear {} -> {}{}", shape[1], shape[0], suffix(self.activation))
    }
}

impl Layer for Linear {
    #[track_caller]
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Parameter::tensor);
        traced(self, || input.linear(&self.weight.tensor(), bias.as_ref(), self.activation))
    }
}

/// An embedding table, looked up by [`Tensor::embedding`]: `u32 [..]` to `[.., width]`.
///
/// Weight `[count, width]`.
///
/// ```
/// # use gristmill::{Device, Tensor, nn::{Embedding, Layer}};
/// # let device = Device::cpu();
/// let table = Tensor::from_slice(&[0.0, 0.5, 1.0, 1.5, 2.0, 2.5], [3, 2], &device)?;
/// let words = Embedding::from_tensor(&table)?;
/// let ids = Tensor::from_ids(&[2, 0], [2], &device)?;
/// assert_eq!(words.forward(&ids)?.to_vec()?, [2.0, 2.5, 0.0, 0.5]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct Embedding {
    weight: Parameter,
}

accessors!(Embedding: weight);

impl Embedding {
    /// Weights from the standard normal distribution, as in PyTorch.
    ///
    /// ```
    /// # use gristmill::{Device, nn::{Embedding, Init}};
    /// let words = Embedding::new(1000, 64, &mut Init::new(1, &Device::cpu()))?;
    /// assert_eq!(words.weight().shape(), [1000, 64]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// The device is out of memory.
    #[track_caller]
    pub fn new(count: usize, width: usize, init: &mut Init) -> Result<Embedding> {
        let seed = init.seed();
        Embedding::from_tensor(&Tensor::randn([count, width], 0.0, 1.0, seed, init.device())?)
    }

    /// With this weight, `[count, width]`.
    ///
    /// # Errors
    /// A weight not of rank 2, or a tensor of ids.
    #[track_caller]
    pub fn from_tensor(weight: &Tensor) -> Result<Embedding> {
        if weight.rank() != 2 {
            let message = format!("a table of shape {}, should be [count, width]", weight.shape());
            return Err(Error::shape("embedding", message));
        }
        Ok(Embedding { weight: Parameter::new(weight)? })
    }
}

impl Module for Embedding {
    fn parts(&self) -> Parts<'_> {
        Parts::new().with("weight", &self.weight)
    }

    fn describe(&self) -> String {
        let shape = self.weight.shape();
        format!("Embedding {} x {}", shape[0], shape[1])
    }
}

impl Layer for Embedding {
    #[track_caller]
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        traced(self, || self.weight.tensor().embedding(input))
    }
}

/// Dropout in training, by [`Tensor::dropout`]; the identity in evaluation.
///
/// Each call draws a new mask from the seed and the number of calls so far, so runs are reproducible bit for bit.
///
/// ```
/// # use gristmill::{Device, Tensor, nn::{Dropout, Layer, Module}};
/// let dropout = Dropout::new(0.5, 1)?;
/// let x = Tensor::ones([100], &Device::cpu())?;
/// let dropped = dropout.forward(&x)?.to_vec()?;
/// assert!(dropped.iter().all(|&x| x == 0.0 || x == 2.0)); // 2 = 1 / (1 - 0.5)
/// dropout.eval();
/// assert_eq!(dropout.forward(&x)?.to_vec()?, [1.0; 100]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct Dropout {
    probability: f32,
    seed: u64,
    calls: AtomicU64,
    mode: Mode,
}

impl Dropout {
    /// Drops each element with this probability. The layers of a model need different seeds: see [`Init::seed`].
    ///
    /// # Errors
    /// A probability outside `0..=1`.
    #[track_caller]
    pub fn new(probability: f32, seed: u64) -> Result<Dropout> {
        if !(0.0..=1.0).contains(&probability) {
            return Err(Error::argument("dropout", format!("probability {probability} is not in 0..=1")));
        }
        Ok(Dropout { probability, seed, calls: AtomicU64::new(0), mode: Mode::new() })
    }

    /// The seed and the offset of the next mask; `None` in evaluation. A dry run draws none.
    pub(super) fn next(&self) -> Option<(u64, u64)> {
        let drawn = u64::from(!dry_run::is_active());
        self.mode.is_training().then(|| (self.seed, self.calls.fetch_add(drawn, Ordering::Relaxed)))
    }

    /// The probability of dropping an element.
    pub(super) fn probability(&self) -> f32 {
        self.probability
    }
}

impl Module for Dropout {
    fn parts(&self) -> Parts<'_> {
        Parts::new().with("mode", &self.mode)
    }

    fn describe(&self) -> String {
        format!("Dropout {}", self.probability)
    }
}

impl Layer for Dropout {
    #[track_caller]
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        traced(self, || match self.next() {
            None => Ok(input.clone()),
            Some((seed, offset)) => input.dropout(self.probability, seed, offset),
        })
    }
}

/// Joins all axes but the first: `[n, c, h, w]` to `[n, c·h·w]`.
///
/// ```
/// # use gristmill::{Device, Tensor, nn::{Flatten, Layer}};
/// let x = Tensor::zeros([2, 3, 4, 5], &Device::cpu())?;
/// assert_eq!(Flatten.forward(&x)?.shape(), [2, 60]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Module)]
pub struct Flatten;

impl Layer for Flatten {
    #[track_caller]
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        traced(self, || input.flatten(1, -1))
    }
}

macro_rules! activations {
    ($($(#[$doc:meta])* $name:ident $(($attribute:ident))? => $method:ident),* $(,)?) => {$(
        $(#[$doc])*
        pub struct $name $((
            #[doc = concat!("Its ", stringify!($attribute), ".")]
            pub f32
        ))?;

        impl Module for $name {
            fn parts(&self) -> Parts<'_> {
                Parts::new()
            }

            fn describe(&self) -> String {
                $(let $name($attribute) = self;)?
                [stringify!($name).to_string() $(, $attribute.to_string())?].join(" ")
            }
        }

        impl Layer for $name {
            #[track_caller]
            fn forward(&self, input: &Tensor) -> Result<Tensor> {
                $(let $name($attribute) = self;)?
                traced(self, || input.$method($(*$attribute)?))
            }
        }
    )*};
}

activations! {
    /// [`Tensor::relu`] as a layer. After a dense layer or a convolution, `with_activation` is faster: it saves a pass
    /// over memory.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Layer, Relu}};
    /// let x = Tensor::from_slice(&[-1.0, 2.0], [2], &Device::cpu())?;
    /// assert_eq!(Relu.forward(&x)?.to_vec()?, [0.0, 2.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    Relu => relu,
    /// [`Tensor::sigmoid`] as a layer.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Layer, Sigmoid}};
    /// let x = Tensor::from_slice(&[0.0, 20.0], [2], &Device::cpu())?;
    /// assert_eq!(Sigmoid.forward(&x)?.to_vec()?, [0.5, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    Sigmoid => sigmoid,
    /// [`Tensor::tanh`] as a layer.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Layer, Tanh}};
    /// let x = Tensor::from_slice(&[0.0, 20.0], [2], &Device::cpu())?;
    /// assert_eq!(Tanh.forward(&x)?.to_vec()?, [0.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    Tanh => tanh,
    /// [`Tensor::gelu`] as a layer.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Gelu, Layer}};
    /// let x = Tensor::from_slice(&[0.0, 20.0], [2], &Device::cpu())?;
    /// assert_eq!(Gelu.forward(&x)?.to_vec()?, [0.0, 20.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    Gelu => gelu,
    /// [`Tensor::silu`] as a layer.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Layer, Silu}};
    /// let x = Tensor::from_slice(&[0.0, 20.0], [2], &Device::cpu())?;
    /// assert_eq!(Silu.forward(&x)?.to_vec()?, [0.0, 20.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    Silu => silu,
    /// [`Tensor::hardswish`] as a layer.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Hardswish, Layer}};
    /// let x = Tensor::from_slice(&[-3.0, 3.0], [2], &Device::cpu())?;
    /// assert_eq!(Hardswish.forward(&x)?.to_vec()?, [0.0, 3.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    Hardswish => hardswish,
    /// [`Tensor::softplus`] as a layer.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Layer, Softplus}};
    /// let x = Tensor::from_slice(&[0.0, 20.0], [2], &Device::cpu())?;
    /// assert!((Softplus.forward(&x)?.to_vec()?[0] - 2f32.ln()).abs() < 1e-6); // ln (1 + e⁰)
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    Softplus => softplus,
    /// [`Tensor::leaky_relu`] as a layer; PyTorch's default is a slope of 0.01.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Layer, LeakyRelu}};
    /// let x = Tensor::from_slice(&[-1.0, 2.0], [2], &Device::cpu())?;
    /// assert_eq!(LeakyRelu(0.5).forward(&x)?.to_vec()?, [-0.5, 2.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    LeakyRelu(slope) => leaky_relu,
    /// [`Tensor::elu`] as a layer; PyTorch's default is an alpha of 1.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Elu, Layer}};
    /// let x = Tensor::from_slice(&[-20.0, 2.0], [2], &Device::cpu())?;
    /// assert_eq!(Elu(1.0).forward(&x)?.to_vec()?, [-1.0, 2.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    Elu(alpha) => elu,
}
