//! A row of the table, and a case drawn from one.

use super::array::Array;
use super::r#gen::{Gen, Values};
use crate::Result;
use crate::device::Device;
use crate::tensor::Tensor;

/// Draws the case that is timed.
pub type Bench = fn(&mut Gen) -> (Work, Case);

/// One op, or one way to use it.
#[derive(Clone, Copy)]
pub struct Row {
    /// What reports and tests call it: the op's name, and where it has several rows what is special in this.
    pub name: &'static str,
    /// The public functions that it proves: methods of [`Tensor`] and functions of [`nn`](crate::nn).
    pub covers: &'static [&'static str],
    /// Draws a case.
    pub draw: fn(&mut Gen) -> Case,
    /// The case to time, with the work that the algorithm must do at least.
    pub bench: Option<Bench>,
}

impl Row {
    /// The case that follows from a seed.
    pub fn case(&self, seed: u64, size: usize, values: Values) -> Case {
        (self.draw)(&mut Gen::new(seed, size, values))
    }
}

/// What an algorithm must do at least, whatever a kernel does: the numerator of its rate.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// Floating-point operations, where arithmetic bounds it.
    Flops(usize),
    /// Bytes read and written, each once, where memory bounds it.
    Bytes(usize),
}

/// What an input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Numbers that the op is differentiable in.
    Variable,
    /// Numbers that it is not differentiated in.
    Constant,
    /// Ids, `u32`.
    Ids,
}

/// An input of a case.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its elements.
    pub array: Array,
    /// What it is.
    pub kind: Kind,
}

impl Input {
    /// The input as a contiguous tensor.
    ///
    /// # Errors
    /// The device has no room.
    pub fn to_tensor(&self, device: &Device) -> Result<Tensor> {
        let values = self.array.data.iter().map(|x| x.value());
        match self.kind {
            Kind::Ids => {
                Tensor::from_ids(&values.map(|x| x as u32).collect::<Vec<_>>(), &self.array.shape, device)
            }
            _ => Tensor::from_slice(&values.map(|x| x as f32).collect::<Vec<_>>(), &self.array.shape, device),
        }
    }
}

type Run = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;
type Reference = Box<dyn Fn(&[Array]) -> Array>;
type GradientReference = Box<dyn Fn(&[Array], &Array) -> Vec<Option<Array>>>;

/// One call of an op with everything that judges it.
pub struct Case {
    /// Its attributes, for messages.
    pub label: String,
    /// Its inputs.
    pub inputs: Vec<Input>,
    /// The call, on tensors that show the inputs.
    pub run: Run,
    /// The output that is right.
    pub reference: Reference,
    /// The right gradients with regard to the inputs, given the inputs and the gradient of the output; `None` where
    /// there is none.
    pub gradient: Option<GradientReference>,
}

impl Case {
    /// A case of an op that is not differentiable, unless [`Case::gradient`] follows.
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

    /// With the reference of its gradients.
    pub fn gradient(self, gradient: impl Fn(&[Array], &Array) -> Vec<Option<Array>> + 'static) -> Case {
        Case { gradient: Some(Box::new(gradient)), ..self }
    }

    /// The inputs' elements.
    pub fn arrays(&self) -> Vec<Array> {
        self.inputs.iter().map(|input| input.array.clone()).collect()
    }
}
