//! What every layer is.

use super::parameter::Parameter;
use super::summary::Row;
use crate::Result;
use crate::shape::Shape;
use crate::tensor::Tensor;
use std::collections::HashSet;

/// A layer, or layers put together.
///
/// A layer says what it computes and which parameters it owns; one made of others lists them as its children, and
/// gets the rest for it.
pub trait Module: Send + Sync {
    /// Its kind and sizes, for summaries: `Linear 784 -> 128, relu`.
    fn describe(&self) -> String;

    /// The output for an input.
    ///
    /// # Errors
    /// An input of a shape that the module does not take, or the device fails.
    fn forward(&self, input: &Tensor) -> Result<Tensor>;

    /// The output's shape for an input's.
    ///
    /// # Errors
    /// A shape that the module does not take.
    fn output_shape(&self, input: Shape) -> Result<Shape>;

    /// The floating-point operations of [`Module::forward`], by the algorithm's definition: a multiplication and an
    /// addition are two, an activation or a comparison is one.
    ///
    /// # Errors
    /// As [`Module::output_shape`].
    fn flops(&self, input: Shape) -> Result<u64> {
        let _ = input;
        Ok(0)
    }

    /// The parameters of this module itself, without its children's, by name: `weight`, `bias`.
    fn own_parameters(&self) -> Vec<(String, Parameter)> {
        Vec::new()
    }

    /// What of this module itself is saved with the parameters but not trained, by name: `running_mean`.
    fn own_buffers(&self) -> Vec<(String, Parameter)> {
        Vec::new()
    }

    /// The modules it is made of, by name; a parameter's path is made of these.
    fn children(&self) -> Vec<(String, &dyn Module)> {
        Vec::new()
    }

    /// Switches between training and evaluation, for what behaves differently there: dropout, batch normalisation.
    /// New modules train.
    fn set_training(&self, training: bool) {
        for (_, child) in self.children() {
            child.set_training(training);
        }
    }

    /// The rows of [`summary`](super::summary), one for this module or one for each of its parts, appended; gives the
    /// output's shape. `path` is where the module is: empty, or such as `0.2`.
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

    /// All parameters with their paths, as PyTorch names them: `0.weight`. One that is shared by several layers is
    /// listed where it is met first.
    fn named_parameters(&self) -> Vec<(String, Parameter)> {
        let mut all = Collected::default();
        all.collect("", self.own_parameters(), self.children(), |module| module.own_parameters());
        all.named
    }

    /// All parameters and buffers with their paths: what a checkpoint holds.
    fn named_state(&self) -> Vec<(String, Parameter)> {
        let mut all = Collected::default();
        let own = [self.own_parameters(), self.own_buffers()].concat();
        all.collect("", own, self.children(), |module| {
            [module.own_parameters(), module.own_buffers()].concat()
        });
        all.named
    }

    /// All parameters, in the order of [`Module::named_parameters`]: what an optimizer wants.
    fn parameters(&self) -> Vec<Parameter> {
        self.named_parameters().into_iter().map(|(_, parameter)| parameter).collect()
    }

    /// [`Module::set_training`] to training.
    fn train(&self) {
        self.set_training(true);
    }

    /// [`Module::set_training`] to evaluation.
    fn eval(&self) {
        self.set_training(false);
    }
}

/// Cells in the order in which they are met, each once.
#[derive(Default)]
struct Collected {
    named: Vec<(String, Parameter)>,
    seen: HashSet<usize>,
}

impl Collected {
    /// A module's `own`, then what `of` gives for each module below.
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
