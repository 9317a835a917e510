//! A row of the table, and a case drawn from it.

use super::array::Array;
use super::r#gen::{Gen, Values};
use super::input::Input;
use crate::Result;
use crate::tensor::Tensor;

/// Draws the case to time.
pub type Bench = fn(&mut Gen) -> (Work, Case);

/// One op, or one way to use an op.
#[derive(Clone, Copy)]
pub struct Row {
    /// Name in reports and tests: the op, and the variant if the op has several rows.
    pub name: &'static str,
    /// The public functions that this row tests: methods of [`Tensor`] and functions of [`nn`](crate::nn).
    pub covers: &'static [&'static str],
    /// Draws a case.
    pub draw: fn(&mut Gen) -> Case,
    /// Draws the case to time, with the minimum work of the algorithm.
    pub bench: Option<Bench>,
}

impl Row {
    /// The case that `seed` determines. `size` and `values` are those of [`Gen::new`].
    pub fn case(&self, seed: u64, size: usize, values: Values) -> Case {
        (self.draw)(&mut Gen::new(seed, size, values))
    }
}

/// The minimum work of an algorithm, whatever the kernel: the numerator of its rate.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// Floating-point operations, for a compute-bound op.
    Flops(usize),
    /// Bytes read and written, each counted once, for a memory-bound op.
    Bytes(usize),
}

type Run = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;
type Reference = Box<dyn Fn(&[Array]) -> Array>;
type GradientReference = Box<dyn Fn(&[Array], &Array) -> Vec<Option<Array>>>;

/// One call of an op, with its references.
pub struct Case {
    /// The attributes, for messages.
    pub label: String,
    /// The inputs.
    pub inputs: Vec<Input>,
    /// The call, on tensors that hold the inputs in any layout.
    pub run: Run,
    /// The expected output.
    pub reference: Reference,
    /// The expected gradients, from the inputs and the gradient of the output; `None` for an input without a gradient.
    pub gradient: Option<GradientReference>,
}

impl Case {
    /// A case of an op that is not differentiable, unless [`Case::gradient`] is called on it.
    pub fn new(
        label: impl Into<String>,
        inputs: Vec<Input>,
        run: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
        reference: impl Fn(&[Array]) -> Array + 'static,
    ) -> Case {
        Case {
            label: label.into(),
            inputs,
            run: Box::new(run),
            reference: Box::new(reference),
            gradient: None,
        }
    }

    /// Adds the reference of the gradients.
    pub fn gradient(self, gradient: impl Fn(&[Array], &Array) -> Vec<Option<Array>> + 'static) -> Case {
        Case { gradient: Some(Box::new(gradient)), ..self }
    }

    /// The elements of the inputs.
    pub fn arrays(&self) -> Vec<Array> {
        self.inputs.iter().map(|input| input.array.clone()).collect()
    }
}
