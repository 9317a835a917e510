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
pub struct Linear {
    weight: Parameter,
    bias: Option<Parameter>,
    activation: Activation,
}

impl Linear {
    /// Weights and biases drawn by `init`, no activation.
    ///
    /// # Errors
    /// The device is out of memory.
    pub fn new(inputs: usize, outputs: usize, init: &mut Init) -> Result<Linear> {
        let weight = init.weights([outputs, inputs])?;
        Linear::from_tensors(&weight, Some(&init.bias(outputs, weight.shape())?))
    }

    /// With these parameters; no bias if `None`.
    ///
    /// # Errors
    /// A weight not of rank 2, a bias that does not fit it, or a tensor of ids.
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
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Parameter::tensor);
        traced(self, || input.linear(&self.weight.tensor(), bias.as_ref(), self.activation))
    }
}

/// An embedding table, looked up by [`Tensor::embedding`]: `u32 [..]` to `[.., width]`.
///
/// Weight `[count, width]`.
pub struct Embedding {
    weight: Parameter,
}

impl Embedding {
    /// Weights from the standard normal distribution, as in PyTorch.
    ///
    /// # Errors
    /// The device is out of memory.
    pub fn new(count: usize, width: usize, init: &mut Init) -> Result<Embedding> {
        let seed = init.seed();
        Embedding::from_tensor(&Tensor::randn([count, width], 0.0, 1.0, seed, init.device())?)
    }

    /// With this weight, `[count, width]`.
    ///
    /// # Errors
    /// A weight not of rank 2, or a tensor of ids.
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
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        traced(self, || self.weight.tensor().embedding(input))
    }
}

/// Dropout in training, by [`Tensor::dropout`]; the identity in evaluation.
///
/// Each call draws a new mask from the seed and the number of calls so far, so runs are reproducible bit for bit.
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
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        traced(self, || match self.next() {
            None => Ok(input.clone()),
            Some((seed, offset)) => input.dropout(self.probability, seed, offset),
        })
    }
}

/// Joins all axes but the first: `[n, c, h, w]` to `[n, c·h·w]`.
#[derive(Module)]
pub struct Flatten;

impl Layer for Flatten {
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        traced(self, || input.flatten(1))
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
    Relu => relu,
    /// [`Tensor::sigmoid`] as a layer.
    Sigmoid => sigmoid,
    /// [`Tensor::tanh`] as a layer.
    Tanh => tanh,
    /// [`Tensor::gelu`] as a layer.
    Gelu => gelu,
    /// [`Tensor::silu`] as a layer.
    Silu => silu,
    /// [`Tensor::hardswish`] as a layer.
    Hardswish => hardswish,
    /// [`Tensor::softplus`] as a layer.
    Softplus => softplus,
    /// [`Tensor::leaky_relu`] as a layer; PyTorch's default is a slope of 0.01.
    LeakyRelu(slope) => leaky_relu,
    /// [`Tensor::elu`] as a layer; PyTorch's default is an alpha of 1.
    Elu(alpha) => elu,
}
