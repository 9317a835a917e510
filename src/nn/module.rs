//! The traits of all layers and models, and what a module is made of.

use super::parameter::{Frozen, Parameter};
use crate::device::Device;
use crate::tensor::Tensor;
use crate::{Activation, Result};
use std::any::type_name;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

pub use gristmill_derive::Module;

/// What has parameters: a layer, or a model made of layers.
///
/// `#[derive(Module)]` implements it: the fields that are modules or [`Parameter`]s become its parts, under the names of
/// the fields, which form the paths of the parameters, `block.weight`, as in PyTorch. A module whose `forward` takes one
/// tensor and gives one implements [`Layer`] too; others have a `forward` of their own.
///
/// ```
/// use gristmill::nn::{Init, Layer, Linear, Module};
/// # use gristmill::{Device, Result, Tensor};
///
/// #[derive(Module)]
/// struct Residual {
///     inner: Linear,
/// }
///
/// impl Layer for Residual {
///     fn forward(&self, x: &Tensor) -> Result<Tensor> {
///         self.inner.forward(x)?.relu()?.add(x)
///     }
/// }
///
/// let model = Residual { inner: Linear::new(2, 2, &mut Init::new(1, &Device::cpu()))? };
/// let names: Vec<String> = model.named_parameters().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["inner.weight", "inner.bias"]);
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// Fields may be `Option`, `Vec` or arrays of parts (`layers.0.weight`); numbers, flags, strings and an [`Activation`]
/// are passed over. Any other field needs an attribute:
///
/// | attribute of a field | effect |
/// |---|---|
/// | `#[module(skip)]` | it has no parameters |
/// | `#[module(name = "self_attn")]` | another name than the field's |
/// | `#[module(flatten)]` | its parts have no name of their own in the paths |
///
/// An enum whose variants hold one module each is that module.
pub trait Module: Send + Sync {
    /// The parameters, buffers and submodules.
    fn parts(&self) -> Parts<'_>;

    /// Kind and sizes, for summaries: `Linear 784 -> 128, relu`. By default the name of the type.
    fn describe(&self) -> String {
        let name = type_name::<Self>();
        let name = name.split('<').next().unwrap_or(name);
        name.rsplit("::").next().unwrap_or(name).to_string()
    }

    /// The submodules, by name.
    ///
    /// ```
    /// # use gristmill::nn::{Flatten, Module, Relu, Sequential};
    /// let model = Sequential::new().push(Flatten).push(Relu);
    /// let kinds = model.children().into_iter().map(|(name, layer)| format!("{name}: {}", layer.describe()));
    /// assert_eq!(kinds.collect::<Vec<_>>(), ["0: Flatten", "1: Relu"]);
    /// ```
    fn children(&self) -> Vec<(String, &dyn Module)> {
        self.parts().children
    }

    /// All parameters with their paths, named as in PyTorch: `0.weight`. A parameter shared by several layers is listed
    /// once, under its first path.
    fn named_parameters(&self) -> Vec<(String, Parameter)> {
        let mut all = self.named_state();
        all.retain(|(_, parameter)| !parameter.is_buffer());
        all
    }

    /// All parameters and buffers with their paths: the contents of a checkpoint.
    ///
    /// ```
    /// # use gristmill::{Device, nn::{BatchNorm1d, Init, Module, Parameter}};
    /// let norm = BatchNorm1d::new(3, &Init::new(1, &Device::cpu()))?;
    /// let names = |all: Vec<(String, Parameter)>| all.into_iter().map(|(name, _)| name).collect::<Vec<String>>();
    /// assert_eq!(names(norm.named_parameters()), ["weight", "bias"]);
    /// assert_eq!(names(norm.named_state()), ["weight", "bias", "running_mean", "running_var"]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    fn named_state(&self) -> Vec<(String, Parameter)> {
        let mut all = Collected::default();
        all.collect("", self.parts());
        all.named
    }

    /// The present elements of all parameters and buffers, by path, as they are now: later updates do not change them.
    /// [`load_state_dict`](super::load_state_dict) restores them.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// # use gristmill::nn::{self, Init, Linear, LoadOptions, Module};
    /// let model = Linear::new(2, 1, &mut Init::new(1, &Device::cpu()))?;
    /// let best = model.state_dict();
    /// model.parameters()[0].set(&Tensor::zeros([1, 2], &Device::cpu())?)?; // training goes on, and gets worse
    /// nn::load_state_dict(&model, &best, &LoadOptions::new())?;
    /// assert_eq!(model.parameters()[0].tensor().to_vec()?, best[0].1.to_vec()?);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    fn state_dict(&self) -> Vec<(String, Tensor)> {
        self.named_state().into_iter().map(|(name, parameter)| (name, parameter.tensor().detach())).collect()
    }

    /// The device of the parameters and buffers, by the first; the CPU if there are none.
    ///
    /// ```
    /// # use gristmill::{Device, nn::{Init, Linear, Module}};
    /// let device = Device::cpu_with_budget(1 << 20);
    /// assert!(Linear::new(2, 1, &mut Init::new(1, &device))?.device().same(&device));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    fn device(&self) -> Device {
        let first = self.named_state().into_iter().next();
        first.map_or_else(Device::cpu, |(_, parameter)| parameter.tensor().device().clone())
    }

    /// All parameters, in the order of [`Module::named_parameters`], for an optimizer.
    fn parameters(&self) -> Vec<Parameter> {
        self.named_parameters().into_iter().map(|(_, parameter)| parameter).collect()
    }

    /// Freezes all parameters, as [`Parameter::freeze`]: to train only a head, or an adapter.
    ///
    /// ```
    /// # use gristmill::{Device, nn::{Init, Linear, Module}};
    /// let backbone = Linear::new(2, 2, &mut Init::new(1, &Device::cpu()))?;
    /// backbone.freeze();
    /// assert!(backbone.parameters().iter().all(|parameter| parameter.is_frozen()));
    /// backbone.unfreeze();
    /// assert!(!backbone.parameters().iter().any(|parameter| parameter.is_frozen()));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    fn freeze(&self) {
        self.parameters().iter().for_each(Parameter::freeze);
    }

    /// Undoes [`Module::freeze`].
    fn unfreeze(&self) {
        self.parameters().iter().for_each(Parameter::unfreeze);
    }

    /// Freezes the parameters until the guard is dropped, such as those of a GAN's discriminator while the generator
    /// learns: its gradient flows through the discriminator, but none is computed for the discriminator's weights. Those
    /// frozen before stay frozen.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// # use gristmill::nn::{Init, Layer, Linear, Module};
    /// # let mut init = Init::new(1, &Device::cpu());
    /// let (generator, discriminator) = (Linear::new(2, 8, &mut init)?, Linear::new(8, 1, &mut init)?);
    /// let noise = Tensor::randn([4, 2], 0.0, 1.0, 1, &Device::cpu())?;
    /// let gradients = {
    ///     let _guard = discriminator.frozen();
    ///     discriminator.forward(&generator.forward(&noise)?)?.mean_all()?.backward()?
    /// };
    /// assert!(gradients.get(&generator.parameters()[0].tensor()).is_ok());
    /// assert!(gradients.get(&discriminator.parameters()[0].tensor()).is_err());
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    fn frozen(&self) -> Frozen {
        Frozen::new(self.parameters())
    }

    /// Switches to training mode, for dropout and batch normalization. New modules are in it.
    fn train(&self) {
        set_training(self.parts(), true);
    }

    /// Switches to evaluation mode.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Dropout, Layer, Module}};
    /// # let x = Tensor::ones([8], &Device::cpu())?;
    /// let model = Dropout::new(0.5, 1)?;
    /// model.eval();
    /// assert_eq!(model.forward(&x)?.to_vec()?, [1.0; 8]); // all of x
    /// model.train();
    /// assert_ne!(model.forward(&x)?.to_vec()?, [1.0; 8]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    fn eval(&self) {
        set_training(self.parts(), false);
    }

    /// Which module it is, for summaries.
    #[doc(hidden)]
    fn identity(&self) -> (usize, &'static str) {
        (std::ptr::from_ref(self).cast::<()>().addr(), type_name::<Self>())
    }
}

/// A module whose forward pass takes a tensor and gives one.
///
/// Layers form a [`Sequential`](super::Sequential).
pub trait Layer: Module {
    /// Computes the output for an input.
    ///
    /// # Errors
    /// An input shape that the module does not accept, or the device fails.
    fn forward(&self, input: &Tensor) -> Result<Tensor>;
}

fn set_training(parts: Parts, training: bool) {
    parts.modes.iter().for_each(|mode| mode.0.store(training, Ordering::Relaxed));
    parts.children.into_iter().for_each(|(_, child)| set_training(child.parts(), training));
}

/// What a module is made of, by name: [`Module::parts`].
///
/// ```
/// # use gristmill::{Device, Tensor};
/// # use gristmill::nn::{Module, Parameter, Parts};
/// struct Scale(Parameter);
///
/// impl Module for Scale {
///     fn parts(&self) -> Parts<'_> {
///         Parts::new().with("scale", &self.0)
///     }
/// }
///
/// let module = Scale(Parameter::new(&Tensor::ones([1], &Device::cpu())?)?);
/// assert_eq!(module.named_parameters()[0].0, "scale");
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Default)]
pub struct Parts<'a> {
    own: Vec<(String, Parameter)>,
    buffers: Vec<(String, Parameter)>,
    children: Vec<(String, &'a dyn Module)>,
    modes: Vec<&'a Mode>,
}

impl<'a> Parts<'a> {
    /// Nothing.
    pub fn new() -> Parts<'a> {
        Parts::default()
    }

    /// With a parameter, a buffer, a module, or a list of these.
    pub fn with(mut self, name: &str, part: &'a (impl Part + ?Sized)) -> Parts<'a> {
        part.add_to(name, &mut self);
        self
    }

    /// With another module's parts under their own names.
    ///
    /// ```
    /// # use gristmill::{Device, nn::{Init, Linear, Module, Parts}};
    /// # struct Wrapper(Linear);
    /// impl Module for Wrapper {
    ///     fn parts(&self) -> Parts<'_> {
    ///         Parts::new().and(self.0.parts())
    ///     }
    /// }
    /// # let model = Wrapper(Linear::new(2, 1, &mut Init::new(1, &Device::cpu()))?);
    /// assert_eq!(model.named_parameters()[0].0, "weight"); // by `with("inner", &self.0)`: inner.weight
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn and(mut self, other: Parts<'a>) -> Parts<'a> {
        self.own.extend(other.own);
        self.buffers.extend(other.buffers);
        self.children.extend(other.children);
        self.modes.extend(other.modes);
        self
    }
}

/// A type that a field of a module may have.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a module nor a parameter",
    note = "derive Module for it, or mark the field with #[module(skip)] if it has no parameters"
)]
pub trait Part {
    /// Adds it to a module's parts, under this name.
    fn add_to<'a>(&'a self, name: &str, parts: &mut Parts<'a>);
}

impl<M: Module> Part for M {
    fn add_to<'a>(&'a self, name: &str, parts: &mut Parts<'a>) {
        parts.children.push((name.to_string(), self));
    }
}

impl Part for dyn Module {
    fn add_to<'a>(&'a self, name: &str, parts: &mut Parts<'a>) {
        parts.children.push((name.to_string(), self));
    }
}

impl Part for Parameter {
    fn add_to<'a>(&'a self, name: &str, parts: &mut Parts<'a>) {
        let to = if self.is_buffer() { &mut parts.buffers } else { &mut parts.own };
        to.push((name.to_string(), self.clone()));
    }
}

impl<P: Part> Part for Option<P> {
    fn add_to<'a>(&'a self, name: &str, parts: &mut Parts<'a>) {
        self.iter().for_each(|part| part.add_to(name, parts));
    }
}

impl<P: Part> Part for [P] {
    fn add_to<'a>(&'a self, name: &str, parts: &mut Parts<'a>) {
        self.iter().enumerate().for_each(|(at, part)| part.add_to(&join(name, &at.to_string()), parts));
    }
}

impl<P: Part> Part for Vec<P> {
    fn add_to<'a>(&'a self, name: &str, parts: &mut Parts<'a>) {
        self[..].add_to(name, parts);
    }
}

impl<P: Part, const N: usize> Part for [P; N] {
    fn add_to<'a>(&'a self, name: &str, parts: &mut Parts<'a>) {
        self[..].add_to(name, parts);
    }
}

/// Fields without parameters.
macro_rules! no_parts {
    ($($type:ty),*) => {$(
        impl Part for $type {
            fn add_to<'a>(&'a self, _: &str, _: &mut Parts<'a>) {}
        }
    )*};
}

no_parts!(bool, i32, i64, isize, u8, u32, u64, usize, f32, f64, String, &'static str, Activation);

/// Whether a module trains or is evaluated, for layers that differ: [`Module::train`] and [`Module::eval`] set it.
///
/// ```
/// # use gristmill::nn::{Mode, Module};
/// #[derive(Module)]
/// struct Noise { mode: Mode }
///
/// let layer = Noise { mode: Mode::new() };
/// assert!(layer.mode.is_training());
/// layer.eval();
/// assert!(!layer.mode.is_training());
/// ```
#[derive(Debug)]
pub struct Mode(AtomicBool);

impl Mode {
    /// Training, in which all modules start.
    pub fn new() -> Mode {
        Mode(AtomicBool::new(true))
    }

    /// Whether the module trains.
    pub fn is_training(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Mode {
    fn default() -> Mode {
        Mode::new()
    }
}

impl Part for Mode {
    fn add_to<'a>(&'a self, _: &str, parts: &mut Parts<'a>) {
        parts.modes.push(self);
    }
}

/// Cells in the order of traversal, each once.
#[derive(Default)]
struct Collected {
    named: Vec<(String, Parameter)>,
    seen: HashSet<u64>,
}

impl Collected {
    /// Adds a module's own cells, then those of the modules below it.
    fn collect(&mut self, prefix: &str, parts: Parts) {
        for (name, parameter) in parts.own.into_iter().chain(parts.buffers) {
            if self.seen.insert(parameter.id()) {
                self.named.push((join(prefix, &name), parameter));
            }
        }
        for (name, child) in parts.children {
            self.collect(&join(prefix, &name), child.parts());
        }
    }
}

/// `prefix.name`.
pub(super) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") }
}

impl<M: Module + ?Sized> Module for Box<M> {
    fn parts(&self) -> Parts<'_> {
        (**self).parts()
    }

    fn describe(&self) -> String {
        (**self).describe()
    }

    fn identity(&self) -> (usize, &'static str) {
        (**self).identity()
    }
}

impl<L: Layer + ?Sized> Layer for Box<L> {
    #[track_caller]
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        (**self).forward(input)
    }
}
