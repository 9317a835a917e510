//! The trait of all layers.

use super::parameter::{Frozen, Parameter};
use crate::Result;
use crate::shape::Shape;
use crate::tensor::Tensor;
use std::collections::HashSet;

/// One line of [`summary`](super::summary).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The layer's path, such as `0.2`; empty for a model of one layer.
    pub path: String,
    /// The layer's description.
    pub layer: String,
    /// The shape of the output.
    pub output: Shape,
    /// The number of elements of all parameters.
    pub parameters: u64,
    /// The floating-point operations of a forward pass.
    pub flops: u64,
}

/// A layer, or a model made of layers.
///
/// A layer implements `describe`, `forward` and `output_shape`, and lists its parameters; a module made of others lists
/// them as `children`. The other methods have defaults.
pub trait Module: Send + Sync {
    /// Kind and sizes, for summaries: `Linear 784 -> 128, relu`.
    fn describe(&self) -> String;

    /// Computes the output for an input.
    ///
    /// # Errors
    /// An input shape that the module does not accept, or the device fails.
    fn forward(&self, input: &Tensor) -> Result<Tensor>;

    /// The shape of the output for an input of this shape.
    ///
    /// # Errors
    /// A shape that the module does not accept.
    fn output_shape(&self, input: Shape) -> Result<Shape>;

    /// The floating-point operations of [`Module::forward`], by the definition of the algorithm: a multiply-add counts
    /// as two, an activation or a comparison as one.
    ///
    /// # Errors
    /// As [`Module::output_shape`].
    fn flops(&self, input: Shape) -> Result<u64> {
        let _ = input;
        Ok(0)
    }

    /// The parameters of this module without its children, by name: `weight`, `bias`.
    fn own_parameters(&self) -> Vec<(String, Parameter)> {
        Vec::new()
    }

    /// The buffers of this module without its children, by name: saved but not trained, such as `running_mean`.
    fn own_buffers(&self) -> Vec<(String, Parameter)> {
        Vec::new()
    }

    /// The submodules, by name. The names form the paths of parameters.
    fn children(&self) -> Vec<(String, &dyn Module)> {
        Vec::new()
    }

    /// Switches between training and evaluation mode, for dropout and batch normalization. New modules are in training
    /// mode.
    fn set_training(&self, training: bool) {
        for (_, child) in self.children() {
            child.set_training(training);
        }
    }

    /// Appends the rows of [`summary`](super::summary) for this module or its parts; returns the output's shape.
    ///
    /// `path` is the module's path: empty, or such as `0.2`.
    ///
    /// # Errors
    /// As [`Module::output_shape`].
    fn summarize(&self, path: &str, input: Shape, rows: &mut Vec<Row>) -> Result<Shape> {
        let output = self.output_shape(input)?;
        rows.push(Row {
            path: path.to_string(),
            layer: self.describe(),
            output,
            parameters: self.parameters().iter().map(|parameter| parameter.numel() as u64).sum(),
            flops: self.flops(input)?,
        });
        Ok(output)
    }

    /// All parameters with their paths, named as in PyTorch: `0.weight`. A parameter shared by several layers is listed
    /// once, under its first path.
    fn named_parameters(&self) -> Vec<(String, Parameter)> {
        let mut all = Collected::default();
        all.collect("", self.own_parameters(), self.children(), |module| module.own_parameters());
        all.named
    }

    /// All parameters and buffers with their paths: the contents of a checkpoint.
    fn named_state(&self) -> Vec<(String, Parameter)> {
        let mut all = Collected::default();
        let own = [self.own_parameters(), self.own_buffers()].concat();
        all.collect("", own, self.children(), |module| {
            [module.own_parameters(), module.own_buffers()].concat()
        });
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

    /// All parameters, in the order of [`Module::named_parameters`], for an optimizer.
    fn parameters(&self) -> Vec<Parameter> {
        self.named_parameters().into_iter().map(|(_, parameter)| parameter).collect()
    }

    /// Freezes all parameters, as [`Parameter::freeze`]: to train only a head, or an adapter.
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
    /// # use gristmill::nn::{Init, Linear, Module};
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

    /// Switches to training mode.
    fn train(&self) {
        self.set_training(true);
    }

    /// Switches to evaluation mode.
    fn eval(&self) {
        self.set_training(false);
    }
}

/// Cells in the order of traversal, each once.
#[derive(Default)]
struct Collected {
    named: Vec<(String, Parameter)>,
    seen: HashSet<u64>,
}

impl Collected {
    /// Adds a module's `own` cells, then those that `of` returns for all modules below it.
    fn collect(
        &mut self,
        prefix: &str,
        own: Vec<(String, Parameter)>,
        children: Vec<(String, &dyn Module)>,
        of: fn(&dyn Module) -> Vec<(String, Parameter)>,
    ) {
        for (name, parameter) in own {
            if self.seen.insert(parameter.id()) {
                self.named.push((join(prefix, &name), parameter));
            }
        }
        for (name, child) in children {
            self.collect(&join(prefix, &name), of(child), child.children(), of);
        }
    }
}

/// `prefix.name`.
pub(super) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") }
}

impl<M: Module + ?Sized> Module for Box<M> {
    fn describe(&self) -> String {
        (**self).describe()
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        (**self).forward(input)
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        (**self).output_shape(input)
    }

    fn flops(&self, input: Shape) -> Result<u64> {
        (**self).flops(input)
    }

    fn own_parameters(&self) -> Vec<(String, Parameter)> {
        (**self).own_parameters()
    }

    fn own_buffers(&self) -> Vec<(String, Parameter)> {
        (**self).own_buffers()
    }

    fn children(&self) -> Vec<(String, &dyn Module)> {
        (**self).children()
    }

    fn set_training(&self, training: bool) {
        (**self).set_training(training);
    }

    fn summarize(&self, path: &str, input: Shape, rows: &mut Vec<Row>) -> Result<Shape> {
        (**self).summarize(path, input, rows)
    }
}
