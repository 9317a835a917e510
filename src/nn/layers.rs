//! Layers: dense, embedding, dropout, flatten, activations.

use super::init::Init;
use super::module::Module;
use super::parameter::Parameter;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Activation, Error, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

    /// With an activation, fused into the matrix product.
    pub fn with_activation(self, activation: Activation) -> Linear {
        Linear { activation, ..self }
    }
}

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

/// A layer's parameters under PyTorch's names.
pub(super) fn named(weight: &Parameter, bias: &Option<Parameter>) -> Vec<(String, Parameter)> {
    let weight = [("weight".to_string(), weight.clone())];
    weight.into_iter().chain(bias.iter().map(|bias| ("bias".to_string(), bias.clone()))).collect()
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

/// The FLOPs of a layer whose `outputs` are sums of `products` products in total.
pub(super) fn product_flops(outputs: Shape, products: usize, biased: bool, activation: Activation) -> u64 {
    let outputs = outputs.numel() as u64;
    let sums = (products as u64).saturating_mul(2).saturating_sub(if biased { 0 } else { outputs });
    sums.saturating_add(if activation == Activation::None { 0 } else { outputs })
}

impl Module for Linear {
    fn describe(&self) -> String {
        let shape = self.weight.shape();
        format!("Linear {} -> {}{}", shape[1], shape[0], suffix(self.activation))
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Parameter::tensor);
        input.linear(&self.weight.tensor(), bias.as_ref(), self.activation)
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let weight = self.weight.shape();
        match input.last() {
            Some(&last) if last == weight[1] => input.with(input.rank() - 1, weight[0]),
            _ => Err(Error::shape("linear", format!("input {input} for a weight of shape {weight}"))),
        }
    }

    fn flops(&self, input: Shape) -> Result<u64> {
        let outputs = self.output_shape(input)?;
        let products = outputs.numel().saturating_mul(self.weight.shape()[1]);
        Ok(product_flops(outputs, products, self.bias.is_some(), self.activation))
    }

    fn own_parameters(&self) -> Vec<(String, Parameter)> {
        named(&self.weight, &self.bias)
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
    fn describe(&self) -> String {
        let shape = self.weight.shape();
        format!("Embedding {} x {}", shape[0], shape[1])
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        self.weight.tensor().embedding(input)
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        Shape::new([&input[..], &self.weight.shape()[1..]].concat())
    }

    fn own_parameters(&self) -> Vec<(String, Parameter)> {
        named(&self.weight, &None)
    }
}

/// Dropout in training, by [`Tensor::dropout`]; the identity in evaluation.
///
/// Each call draws a new mask from the seed and the number of calls so far, so runs are reproducible bit for bit.
pub struct Dropout {
    probability: f32,
    seed: u64,
    calls: AtomicU64,
    training: AtomicBool,
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
        Ok(Dropout { probability, seed, calls: AtomicU64::new(0), training: AtomicBool::new(true) })
    }
}

impl Module for Dropout {
    fn describe(&self) -> String {
        format!("Dropout {}", self.probability)
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        if !self.training.load(Ordering::Relaxed) {
            return Ok(input.clone());
        }
        input.dropout(self.probability, self.seed, self.calls.fetch_add(1, Ordering::Relaxed))
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        Ok(input)
    }

    fn set_training(&self, training: bool) {
        self.training.store(training, Ordering::Relaxed);
    }
}

/// Joins all axes but the first: `[n, c, h, w]` to `[n, c·h·w]`.
pub struct Flatten;

impl Module for Flatten {
    fn describe(&self) -> String {
        "Flatten".to_string()
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        input.flatten(1)
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let start = input.axis("flatten", 1)?;
        Shape::new([input[0], input[start..].iter().product()])
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
            fn describe(&self) -> String {
                $(let $name($attribute) = self;)?
                [stringify!($name).to_string() $(, $attribute.to_string())?].join(" ")
            }

            fn forward(&self, input: &Tensor) -> Result<Tensor> {
                $(let $name($attribute) = self;)?
                input.$method($(*$attribute)?)
            }

            fn output_shape(&self, input: Shape) -> Result<Shape> {
                Ok(input)
            }

            fn flops(&self, input: Shape) -> Result<u64> {
                Ok(input.numel() as u64)
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
