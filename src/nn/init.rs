//! Initialisation of weights.

use crate::device::Device;
use crate::random;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// The distribution of initial weights, which preserves the variance of activations from layer to layer.
///
/// `fan_in` is the number of inputs that an output sums over, `fan_out` the number of outputs that an input contributes
/// to. For a convolution both include the kernel's window.
///
/// He: by He, Zhang, Ren & Sun, [arXiv:1502.01852](https://arxiv.org/abs/1502.01852), equation 10, for layers followed
/// by ReLU. Xavier: by Glorot & Bengio, [AISTATS 2010](https://proceedings.mlr.press/v9/glorot10a.html), equation 16,
/// for tanh and sigmoid. A uniform distribution over `±b` has the variance `b²/3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Scheme {
    /// Uniform over `±√(6 / fan_in)`.
    #[default]
    HeUniform,
    /// Normal with variance `2 / fan_in`.
    HeNormal,
    /// Uniform over `±√(6 / (fan_in + fan_out))`.
    XavierUniform,
    /// Normal with variance `2 / (fan_in + fan_out)`.
    XavierNormal,
}

/// Draws the weights of a model's layers, in order, from one seed.
///
/// The same seed, scheme and order of layers give the same weights on every device.
#[derive(Debug, Clone)]
pub struct Init {
    seed: u64,
    drawn: u64,
    scheme: Scheme,
    device: Device,
}

impl Init {
    /// An initialiser with [`Scheme::HeUniform`] for a model on this device.
    pub fn new(seed: u64, device: &Device) -> Init {
        Init { seed, drawn: 0, scheme: Scheme::default(), device: device.clone() }
    }

    /// Sets the scheme of the layers created from now on.
    pub fn with_scheme(mut self, scheme: Scheme) -> Init {
        self.scheme = scheme;
        self
    }

    /// The device of the weights.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A seed that no earlier call returned, for a layer that draws random numbers itself, such as dropout.
    pub fn seed(&mut self) -> u64 {
        self.drawn += 1;
        random::derive(self.seed, self.drawn)
    }

    /// Draws weights of this shape by the scheme. A fan of 0 counts as 1.
    ///
    /// # Errors
    /// A rank over 6, or the device is out of memory.
    pub fn weights(&mut self, shape: impl AsRef<[usize]>, fan_in: usize, fan_out: usize) -> Result<Tensor> {
        let fan = match self.scheme {
            Scheme::HeUniform | Scheme::HeNormal => fan_in,
            Scheme::XavierUniform | Scheme::XavierNormal => fan_in.saturating_add(fan_out),
        };
        let variance = 2.0 / fan.max(1) as f64;
        let (seed, std) = (self.seed(), variance.sqrt() as f32);
        match self.scheme {
            Scheme::HeNormal | Scheme::XavierNormal => Tensor::randn(shape, 0.0, std, seed, &self.device),
            Scheme::HeUniform | Scheme::XavierUniform => {
                let bound = (3.0 * variance).sqrt() as f32;
                Tensor::uniform(shape, -bound, bound, seed, &self.device)
            }
        }
    }

    /// Zeros, for biases.
    ///
    /// # Errors
    /// As [`Init::weights`].
    pub fn zeros(&self, shape: impl AsRef<[usize]>) -> Result<Tensor> {
        Tensor::zeros(shape, &self.device)
    }
}

/// The most layers per stack. A larger number is a mistake, and would use up all memory layer by layer.
const MOST_LAYERS: usize = 4096;

/// Checks the number of layers of a stack.
pub(super) fn layers(op: &'static str, count: usize) -> Result<()> {
    if count <= MOST_LAYERS {
        return Ok(());
    }
    Err(Error::argument(op, format!("{count} layers are more than {MOST_LAYERS}")))
}
