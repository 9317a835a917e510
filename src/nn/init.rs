//! Initialisation of weights.

use crate::device::Device;
use crate::random::{self, Generator};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// The distribution of initial weights.
///
/// `fan_in` is the second axis of a weight times the window of the kernel, `fan_out` the first axis times the window, as
/// `torch.nn.init` counts them. For a weight `[out, in, ..]` these are the inputs that an output sums over, and the outputs
/// that an input contributes to. A uniform distribution over `±b` has the variance `b²/3`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Scheme {
    /// PyTorch's default for each layer. Dense layers and convolutions: weights and biases uniform over
    /// `±1 / √fan_in`. Multi-head attention: the input projection as [`Scheme::XavierUniform`], biases 0.
    #[default]
    Default,
    /// Uniform over `±√(6 / fan_in)`, biases 0: `kaiming_uniform_` in PyTorch. By He, Zhang, Ren & Sun,
    /// [arXiv:1502.01852](https://arxiv.org/abs/1502.01852), equation 10, for layers followed by ReLU.
    HeUniform,
    /// Normal with variance `2 / fan_in`, biases 0: `kaiming_normal_` in PyTorch.
    HeNormal,
    /// Uniform over `±√(6 / (fan_in + fan_out))`, biases 0. By Glorot & Bengio,
    /// [AISTATS 2010](https://proceedings.mlr.press/v9/glorot10a.html), equation 16, for tanh and sigmoid.
    XavierUniform,
    /// Normal with variance `2 / (fan_in + fan_out)`, biases 0.
    XavierNormal,
    /// Normal with this standard deviation, biases 0: 0.02 in BERT and GPT-2.
    Normal(f32),
}

/// Draws the weights of a model's layers, in order, from one seed.
///
/// The same seed, scheme and order of layers give the same weights on every device. The scheme is for dense layers,
/// convolutions and attention; embeddings are drawn from N(0, 1) and recurrent layers uniformly over `±1 / √hidden`, as
/// in PyTorch.
///
/// ```
/// # use gristmill::{Device, Tensor};
/// # use gristmill::nn::{Init, Linear, Module, Scheme};
/// let mut init = Init::new(1, &Device::cpu());
/// let first = Linear::new(16, 8, &mut init)?; // uniform over ±1/√16
/// assert!(first.parameters()[0].tensor().abs()?.to_vec()?.iter().all(|&w| w <= 0.25));
/// let mut init = Init::new(1, &Device::cpu()).with_scheme(Scheme::HeNormal);
/// let second = Linear::new(16, 8, &mut init)?;
/// assert_eq!(second.parameters()[1].tensor().to_vec()?, [0.0; 8]); // the bias
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Init {
    generator: Generator,
    scheme: Scheme,
    device: Device,
}

impl Init {
    /// An initialiser with [`Scheme::Default`] for a model on this device.
    pub fn new(seed: u64, device: &Device) -> Init {
        // Other numbers than those of a generator of data with the same seed.
        let generator = Generator::new(random::derive(seed, u64::MAX));
        Init { generator, scheme: Scheme::default(), device: device.clone() }
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
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Dropout, Init, Layer}};
    /// let mut init = Init::new(1, &Device::cpu());
    /// let (first, second) = (Dropout::new(0.5, init.seed())?, Dropout::new(0.5, init.seed())?);
    /// let x = Tensor::ones([100], &Device::cpu())?;
    /// assert_ne!(first.forward(&x)?.to_vec()?, second.forward(&x)?.to_vec()?); // other elements are dropped
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn seed(&mut self) -> u64 {
        self.generator.seed()
    }

    /// Draws a weight `[out, in, ..]` by the scheme. A fan of 0 counts as 1.
    ///
    /// ```
    /// # use gristmill::{Device, nn::Init};
    /// let mut init = Init::new(1, &Device::cpu());
    /// let weight = init.weights([8, 4])?; // uniform over ±1/√4
    /// let bias = init.bias(8, weight.shape())?; // likewise
    /// assert!([weight, bias].iter().all(|x| x.to_vec().unwrap().iter().all(|x| x.abs() <= 0.5)));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A standard deviation that is negative or not finite, a rank over 6, or the device is out of memory.
    #[track_caller]
    pub fn weights(&mut self, shape: impl AsRef<[usize]>) -> Result<Tensor> {
        self.drawn_by(self.scheme, Shape::new(shape)?)
    }

    /// As [`Init::weights`], but where the scheme is the default, by another one.
    pub(super) fn weights_or(&mut self, default: Scheme, shape: impl AsRef<[usize]>) -> Result<Tensor> {
        let scheme = if self.scheme == Scheme::Default { default } else { self.scheme };
        self.drawn_by(scheme, Shape::new(shape)?)
    }

    fn drawn_by(&mut self, scheme: Scheme, shape: Shape) -> Result<Tensor> {
        let seed = self.seed();
        let [fan_in, fan_out] = fans(shape).map(|fan| fan.max(1) as f64);
        // The variance, and whether the distribution is normal.
        let (variance, normal) = match scheme {
            Scheme::Default => (1.0 / (3.0 * fan_in), false),
            Scheme::HeUniform => (2.0 / fan_in, false),
            Scheme::HeNormal => (2.0 / fan_in, true),
            Scheme::XavierUniform => (2.0 / (fan_in + fan_out), false),
            Scheme::XavierNormal => (2.0 / (fan_in + fan_out), true),
            Scheme::Normal(std) => return Tensor::randn(shape, 0.0, std, seed, &self.device),
        };
        if normal {
            return Tensor::randn(shape, 0.0, variance.sqrt() as f32, seed, &self.device);
        }
        let bound = (3.0 * variance).sqrt() as f32;
        Tensor::uniform(shape, -bound, bound, seed, &self.device)
    }

    /// Draws the bias of a layer with this weight by the scheme, `[outputs]`; see the example of [`Init::weights`].
    ///
    /// # Errors
    /// The device is out of memory.
    #[track_caller]
    pub fn bias(&mut self, outputs: usize, weight: Shape) -> Result<Tensor> {
        let [fan_in, _] = fans(weight);
        if self.scheme != Scheme::Default || fan_in == 0 {
            return self.zeros([outputs]);
        }
        let (bound, seed) = (1.0 / (fan_in as f64).sqrt() as f32, self.seed());
        Tensor::uniform([outputs], -bound, bound, seed, &self.device)
    }

    /// Zeros, for biases.
    ///
    /// ```
    /// # use gristmill::{Device, nn::Init};
    /// let init = Init::new(1, &Device::cpu());
    /// let bias = init.zeros([3])?;
    /// assert_eq!(bias.to_vec()?, [0.0; 3]);
    /// assert!(bias.device().same(init.device()));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Init::weights`].
    #[track_caller]
    pub fn zeros(&self, shape: impl AsRef<[usize]>) -> Result<Tensor> {
        Tensor::zeros(shape, &self.device)
    }
}

/// `fan_in` and `fan_out` of a weight `[out, in, ..]`.
fn fans(weight: Shape) -> [usize; 2] {
    let window = weight.iter().skip(2).fold(1, |product: usize, &side| product.saturating_mul(side));
    [1, 0].map(|axis: usize| weight.get(axis).map_or(1, |&fan| fan.saturating_mul(window)))
}

/// The most layers per stack. A larger number is a mistake, and would use up all memory layer by layer.
const MOST_LAYERS: usize = 4096;

/// Checks the number of layers of a stack.
#[track_caller]
pub(super) fn layers(op: &'static str, count: usize) -> Result<()> {
    if count <= MOST_LAYERS {
        return Ok(());
    }
    Err(Error::argument(op, format!("{count} layers are more than {MOST_LAYERS}")))
}
