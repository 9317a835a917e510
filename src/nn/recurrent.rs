//! Recurrent layers: a plain RNN, LSTM, GRU.

use super::init::{Init, layers};
use super::module::{Layer, Module, Part, Parts};
use super::parameter::Parameter;
use super::summary::traced_as;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Activation, Error, Result};

/// The options of a recurrent layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecurrentOptions {
    /// Stacked layers: each reads the states of the one before.
    pub layers: usize,
    /// Whether each layer also processes the steps in reverse, with separate weights. The states of both directions are
    /// concatenated.
    pub bidirectional: bool,
    /// Whether the layers have biases.
    pub bias: bool,
}

impl Default for RecurrentOptions {
    /// One layer, one direction, with biases.
    fn default() -> RecurrentOptions {
        RecurrentOptions { layers: 1, bidirectional: false, bias: true }
    }
}

/// The kind of cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Plain(Activation),
    Lstm,
    Gru,
}

impl Cell {
    fn gates(self) -> usize {
        match self {
            Cell::Plain(_) => 1,
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }

    fn op(self) -> &'static str {
        match self {
            Cell::Plain(_) => "rnn",
            Cell::Lstm => "lstm",
            Cell::Gru => "gru",
        }
    }
}

/// One direction of a layer.
struct Direction {
    /// `[gates · hidden, in]`, `[gates · hidden, hidden]`.
    weights: [Parameter; 2],
    /// `[gates · hidden]` for each weight.
    biases: Option<[Parameter; 2]>,
}

impl Direction {
    /// The states after each step of `x`, `[steps, n, in]`, in order, and the final states.
    fn run(
        &self,
        cell: Cell,
        x: &Tensor,
        [mut h, mut c]: [Tensor; 2],
        backwards: bool,
    ) -> Result<(Vec<Tensor>, [Tensor; 2])> {
        let [from_x, from_h] = [0, 1].map(|at| self.weights[at].tensor());
        let biases = self.biases.as_ref().map(|pair| [0, 1].map(|at| pair[at].tensor()));
        let bias = |at: usize| biases.as_ref().map(|pair| &pair[at]);
        // The input's part of the gates is one product for all steps.
        let gates = x.linear(&from_x, bias(0), Activation::None)?;
        let mut steps = gates.chunk(x.shape()[0], 0)?;
        if backwards {
            steps.reverse();
        }
        let mut states = Vec::with_capacity(steps.len());
        for step in steps {
            let (given, own) = (step.squeeze(0)?, h.linear(&from_h, bias(1), Activation::None)?);
            match cell {
                Cell::Plain(Activation::Relu) => h = given.add(&own)?.relu()?,
                Cell::Plain(_) => h = given.add(&own)?.tanh()?,
                Cell::Lstm => [h, c] = given.lstm_cell(&own, &c)?,
                Cell::Gru => h = given.gru_cell(&own, &h)?,
            }
            states.push(h.clone());
        }
        if backwards {
            states.reverse();
        }
        Ok((states, [h, c]))
    }
}

/// The common implementation of the recurrent layers.
struct Stack {
    cell: Cell,
    inputs: usize,
    hidden: usize,
    /// The directions of each layer, one or two.
    layers: Vec<Vec<Direction>>,
}

impl Stack {
    /// # Errors
    /// No layers or no units, or the device is out of memory.
    #[track_caller]
    fn new(
        cell: Cell,
        inputs: usize,
        hidden: usize,
        options: RecurrentOptions,
        init: &mut Init,
    ) -> Result<Stack> {
        if options.layers == 0 || hidden == 0 {
            let message = format!("{} layers of {hidden} units", options.layers);
            return Err(Error::argument(cell.op(), message));
        }
        layers(cell.op(), options.layers)?;
        let directions = 1 + usize::from(options.bidirectional);
        // As in PyTorch: uniform over ±1/√hidden, biases too.
        let bound = 1.0 / (hidden as f32).sqrt();
        let rows = cell.gates().saturating_mul(hidden);
        let mut drawn = |shape: &[usize]| {
            let seed = init.seed();
            Parameter::new(&Tensor::uniform(shape, -bound, bound, seed, init.device())?)
        };
        let mut direction = |inputs: usize| {
            let weights = [drawn(&[rows, inputs])?, drawn(&[rows, hidden])?];
            let biases = if options.bias { Some([drawn(&[rows])?, drawn(&[rows])?]) } else { None };
            Ok(Direction { weights, biases })
        };
        let layer = |layer: usize| {
            let inputs = if layer == 0 { inputs } else { directions.saturating_mul(hidden) };
            (0..directions).map(|_| direction(inputs)).collect::<Result<Vec<Direction>>>()
        };
        let layers = (0..options.layers).map(layer).collect::<Result<_>>()?;
        Ok(Stack { cell, inputs, hidden, layers })
    }

    fn directions(&self) -> usize {
        self.layers[0].len()
    }

    /// The initial states of each layer and direction: `given`, or zeros.
    fn start(&self, input: Shape, given: Option<&Tensor>, x: &Tensor) -> Result<Vec<Tensor>> {
        let each = [input[0], self.hidden];
        let count = self.layers.len() * self.directions();
        match given {
            None => Ok(vec![Tensor::zeros(each, x.device())?; count]),
            Some(state) if state.shape() == [count, each[0], each[1]] => {
                state.chunk(count, 0)?.iter().map(|state| state.squeeze(0)).collect()
            }
            Some(state) => {
                let message = format!(
                    "a state of shape {} for input {input}, should be {:?}",
                    state.shape(),
                    [count, each[0], each[1]]
                );
                Err(Error::shape(self.cell.op(), message))
            }
        }
    }

    /// The states of the last layer after each step, and the final states of all layers.
    fn run(&self, input: &Tensor, given: [Option<&Tensor>; 2]) -> Result<(Tensor, [Tensor; 2])> {
        let shape = input.shape();
        match *shape {
            [_, steps, inputs] if inputs == self.inputs && steps > 0 => {}
            _ => {
                let message = format!("input {shape}, should be [n, steps, {}], steps not 0", self.inputs);
                return Err(Error::shape(self.cell.op(), message));
            }
        }
        let [h, c] = given.map(|given| self.start(shape, given, input));
        let mut start = h?.into_iter().zip(c?);
        // The step axis first, so that a step is contiguous.
        let mut x = input.transpose(0, 1)?;
        let mut last = [Vec::new(), Vec::new()];
        for layer in &self.layers {
            let mut sides = Vec::with_capacity(layer.len());
            for ((direction, backwards), (h, c)) in layer.iter().zip([false, true]).zip(&mut start) {
                let (states, ends) = direction.run(self.cell, &x, [h, c], backwards)?;
                sides.push(Tensor::stack(&states.iter().collect::<Vec<_>>(), 0)?);
                last.iter_mut().zip(ends).for_each(|(last, end)| last.push(end));
            }
            x = match &sides[..] {
                [one] => one.clone(),
                both => Tensor::cat(&both.iter().collect::<Vec<_>>(), 2)?,
            };
        }
        let [h, c] = last.map(|states| Tensor::stack(&states.iter().collect::<Vec<_>>(), 0));
        Ok((x.transpose(0, 1)?, [h?, c?]))
    }

    fn describe(&self, name: &str) -> String {
        let layers =
            if self.layers.len() == 1 { String::new() } else { format!(", {} layers", self.layers.len()) };
        let directions = if self.directions() == 1 { "" } else { ", both ways" };
        format!("{name} {} -> {}{layers}{directions}", self.inputs, self.hidden)
    }

    fn parts(&self) -> Parts<'_> {
        let mut all = Parts::new();
        for (number, layer) in self.layers.iter().enumerate() {
            for (direction, side) in layer.iter().zip(["", "_reverse"]) {
                let biases = direction.biases.iter().flatten().zip(["bias_ih", "bias_hh"]);
                for (parameter, name) in
                    direction.weights.iter().zip(["weight_ih", "weight_hh"]).chain(biases)
                {
                    parameter.add_to(&format!("{name}_l{number}{side}"), &mut all);
                }
            }
        }
        all
    }
}

macro_rules! recurrent {
    ($($(#[$doc:meta])* $name:ident, $cell:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// Parameters have PyTorch's names and shapes, such as `weight_ih_l0`, and start uniform over `±1/√hidden`. As
        /// a [`Layer`] it starts from zero states and returns the states after each step: `[n, steps, in]` to
        /// `[n, steps, hidden]`, or `[n, steps, 2 hidden]` if bidirectional.
        pub struct $name(Stack);

        impl $name {
            /// One layer, one direction, with biases.
            ///
            /// # Errors
            /// No units, or the device is out of memory.
            #[track_caller]
            pub fn new(inputs: usize, hidden: usize, init: &mut Init) -> Result<$name> {
                $name::with_options(inputs, hidden, RecurrentOptions::default(), init)
            }

            /// As `new`, with these options.
            ///
            /// # Errors
            /// No layers, no units, or the device is out of memory.
            #[track_caller]
            pub fn with_options(
                inputs: usize,
                hidden: usize,
                options: RecurrentOptions,
                init: &mut Init,
            ) -> Result<$name> {
                Ok($name(Stack::new($cell, inputs, hidden, options, init)?))
            }
        }

        impl Module for $name {
            fn parts(&self) -> Parts<'_> {
                self.0.parts()
            }

            fn describe(&self) -> String {
                self.0.describe(stringify!($name))
            }
        }

        impl Layer for $name {
            #[track_caller]
            fn forward(&self, input: &Tensor) -> Result<Tensor> {
                Ok(self.run(input, [None; 2])?.0)
            }
        }

        impl $name {
            fn run(&self, input: &Tensor, given: [Option<&Tensor>; 2]) -> Result<(Tensor, [Tensor; 2])> {
                traced_as(self, || self.0.run(input, given), |(output, _)| output)
            }
        }
    )*};
}

recurrent! {
    /// A plain recurrent network ([Elman](https://doi.org/10.1207/s15516709cog1402_1)): `h' = tanh(W x + b + U h + d)`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Init, Layer, Module, RecurrentOptions, Rnn}};
    /// # let device = Device::cpu();
    /// # let mut init = Init::new(1, &device);
    /// let options = RecurrentOptions { bias: false, ..RecurrentOptions::default() };
    /// let rnn = Rnn::with_options(1, 1, options, &mut init)?.with_relu();
    /// rnn.parameters().iter().try_for_each(|weight| weight.set(&Tensor::ones([1, 1], &device)?))?;
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [1, 3, 1], &device)?;
    /// assert_eq!(rnn.forward(&x)?.to_vec()?, [1.0, 3.0, 6.0]); // h' = relu(x + h)
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    Rnn, Cell::Plain(Activation::Tanh);
    /// Long short-term memory ([Hochreiter & Schmidhuber](https://doi.org/10.1162/neco.1997.9.8.1735)), by
    /// [`Tensor::lstm_cell`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Init, Lstm}};
    /// # let mut init = Init::new(1, &Device::cpu());
    /// let lstm = Lstm::new(2, 8, &mut init)?;
    /// let x = Tensor::zeros([4, 5, 2], &Device::cpu())?; // four sequences of five steps
    /// let (states, last) = lstm.forward_from(&x, None)?;
    /// assert_eq!((states.shape()[..].to_vec(), last.c.shape()[..].to_vec()), (vec![4, 5, 8], vec![1, 4, 8]));
    /// assert_eq!(states.slice(1, 4..5)?.to_vec()?, last.h.to_vec()?);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    Lstm, Cell::Lstm;
    /// Gated recurrent units ([Cho et al.](https://arxiv.org/abs/1406.1078)), by [`Tensor::gru_cell`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Gru, Init, RecurrentOptions}};
    /// # let mut init = Init::new(1, &Device::cpu());
    /// let options = RecurrentOptions { layers: 3, bidirectional: true, bias: true };
    /// let gru = Gru::with_options(2, 8, options, &mut init)?;
    /// let x = Tensor::zeros([4, 5, 2], &Device::cpu())?; // four sequences of five steps
    /// let (states, last) = gru.forward_from(&x, None)?;
    /// assert_eq!((states.shape()[..].to_vec(), last.shape()[..].to_vec()), (vec![4, 5, 16], vec![6, 4, 8]));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    Gru, Cell::Gru;
}

impl Rnn {
    /// With ReLU in place of tanh.
    pub fn with_relu(mut self) -> Rnn {
        self.0.cell = Cell::Plain(Activation::Relu);
        self
    }

    /// Runs from an initial state, `[layers · directions, n, hidden]`, or from zeros.
    ///
    /// Returns the states of the last layer after each step, and the final states of all layers.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Init, Layer, Module, RecurrentOptions, Rnn}};
    /// # let device = Device::cpu();
    /// # let mut init = Init::new(1, &device);
    /// # let options = RecurrentOptions { bias: false, ..RecurrentOptions::default() };
    /// # let rnn = Rnn::with_options(1, 1, options, &mut init)?.with_relu();
    /// # rnn.parameters().iter().try_for_each(|weight| weight.set(&Tensor::ones([1, 1], &device)?))?;
    /// // With weights of 1, h' = relu(x + h).
    /// let x = Tensor::from_slice(&[1.0, 2.0], [1, 2, 1], &device)?;
    /// let (states, last) = rnn.forward_from(&x, None)?;
    /// assert_eq!(states.to_vec()?, [1.0, 3.0]);
    /// let (states, _) = rnn.forward_from(&x, Some(&last))?;
    /// assert_eq!(states.to_vec()?, [4.0, 6.0]); // on from 3
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Shapes that do not fit, or the device fails.
    #[track_caller]
    pub fn forward_from(&self, input: &Tensor, state: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let (output, [h, _]) = self.run(input, [state, None])?;
        Ok((output, h))
    }
}

impl Gru {
    /// As [`Rnn::forward_from`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Gru, Init}};
    /// # let mut init = Init::new(1, &Device::cpu());
    /// # let (net, x) = (Gru::new(2, 8, &mut init)?, Tensor::randn([1, 5, 2], 0.0, 1.0, 1, &Device::cpu())?);
    /// let (whole, _) = net.forward_from(&x, None)?;
    /// let (_, state) = net.forward_from(&x.slice(1, 0..3)?, None)?;
    /// let (rest, _) = net.forward_from(&x.slice(1, 3..5)?, Some(&state))?; // goes on where the last call ended
    /// assert!(rest.sub(&whole.slice(1, 3..5)?)?.abs()?.max_all()?.item()? < 1e-6);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Rnn::forward_from`].
    #[track_caller]
    pub fn forward_from(&self, input: &Tensor, state: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let (output, [h, _]) = self.run(input, [state, None])?;
        Ok((output, h))
    }
}

/// The states of an LSTM, each `[layers · directions, n, hidden]`.
#[derive(Debug, Clone)]
pub struct LstmState {
    /// The hidden state, which is also the output.
    pub h: Tensor,
    /// The cell state.
    pub c: Tensor,
}

impl Lstm {
    /// As [`Rnn::forward_from`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Init, Lstm}};
    /// # let mut init = Init::new(1, &Device::cpu());
    /// # let (net, x) = (Lstm::new(2, 8, &mut init)?, Tensor::randn([1, 5, 2], 0.0, 1.0, 1, &Device::cpu())?);
    /// let (whole, _) = net.forward_from(&x, None)?;
    /// let (_, state) = net.forward_from(&x.slice(1, 0..3)?, None)?;
    /// let (rest, _) = net.forward_from(&x.slice(1, 3..5)?, Some(&state))?; // goes on where the last call ended
    /// assert!(rest.sub(&whole.slice(1, 3..5)?)?.abs()?.max_all()?.item()? < 1e-6);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Rnn::forward_from`].
    #[track_caller]
    pub fn forward_from(&self, input: &Tensor, state: Option<&LstmState>) -> Result<(Tensor, LstmState)> {
        let (output, [h, c]) = self.run(input, [state.map(|state| &state.h), state.map(|state| &state.c)])?;
        Ok((output, LstmState { h, c }))
    }
}
