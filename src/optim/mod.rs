//! Optimizers, learning-rate schedules and gradient clipping.
//!
//! An optimizer's step is one fused kernel per parameter, which updates the parameter and the optimizer's state in a
//! single pass over memory.

mod adam;
mod checkpoint;
mod clip;
pub mod schedule;
mod sgd;
mod state;

pub use adam::{Adam, AdamW};
pub use checkpoint::{load_checkpoint, save_checkpoint};
pub use clip::clip_grad_norm;
pub use schedule::Schedule;
pub use sgd::Sgd;
pub use state::ParameterGroup;

use crate::autograd::Gradients;
use crate::gpu::Kernel;
use crate::nn::Parameter;
use crate::op::Meta;
use crate::ops::{WG, floats};
use crate::tensor::Tensor;
use crate::{Error, Result};

pub(crate) const KERNELS: &[&Kernel] = &[&sgd::SGD, &sgd::SGD_MOMENTUM, &adam::ADAM];

/// Updates parameters by their gradients.
///
/// ```
/// use gristmill::optim::{AdamW, Optimizer, Schedule};
/// use gristmill::{Device, Tensor, nn::Parameter};
///
/// let w = Parameter::new(&Tensor::full([3], 5.0, &Device::cpu())?)?;
/// let mut optimizer = AdamW::new([w.clone()], 0.1).weight_decay(0.0);
/// let schedule = Schedule::cosine(0.1, 0.0, 200).warm_up(10);
/// for step in 0..200 {
///     optimizer.set_learning_rate(schedule.lr_at(step));
///     let loss = w.tensor().square()?.sum_all()?;
///     optimizer.step(&loss.backward()?)?;
/// }
/// assert!(w.tensor().to_vec()?.iter().all(|w| w.abs() < 0.1));
/// # Ok::<(), gristmill::Error>(())
/// ```
pub trait Optimizer {
    /// Updates each parameter that has a gradient, and skips the others, as in PyTorch.
    ///
    /// On a GPU a parameter's buffer is updated in place if nobody else holds it. Otherwise the parameter moves to a
    /// new buffer, and other holders see no change.
    ///
    /// # Errors
    /// A hyperparameter out of its range, a parameter given twice, or a gradient of another shape: nothing is changed
    /// then. If the device fails, some parameters may be updated and others not.
    fn step(&mut self, gradients: &Gradients) -> Result<()>;

    /// Adds parameters with rates of their own.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::Parameter, optim::{Optimizer, ParameterGroup, Sgd}};
    /// # let ones = Tensor::ones([1], &Device::cpu())?;
    /// # let (w, b) = (Parameter::new(&ones)?, Parameter::new(&ones)?);
    /// let mut sgd = Sgd::new([w.clone()], 0.1);
    /// sgd.add_group(ParameterGroup::new([b]).learning_rate(0.01))?;
    /// assert!(sgd.add_group(ParameterGroup::new([w])).is_err()); // it has w already
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A parameter that the optimizer has already.
    fn add_group(&mut self, group: ParameterGroup) -> Result<()>;

    /// The learning rate of the next step.
    fn learning_rate(&self) -> f32;

    /// Sets the learning rate of the next step. The rate of a group with one of its own changes by the same factor, counted
    /// from the rate that the optimizer was made with, as under PyTorch's `LambdaLR`; if that was 0, it stays.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::Parameter, optim::{Optimizer, Sgd}};
    /// # let w = Parameter::new(&Tensor::ones([1], &Device::cpu())?)?;
    /// let mut sgd = Sgd::new([w.clone()], 0.5);
    /// sgd.set_learning_rate(sgd.learning_rate() / 2.0);
    /// sgd.step(&w.tensor().backward()?)?; // the gradient is 1
    /// assert_eq!(w.tensor().item()?, 0.75); // 1 - 0.25
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    fn set_learning_rate(&mut self, rate: f32);

    /// The state for a checkpoint, without hyperparameters.
    ///
    /// Names are those of the parameters, as [`Module::named_parameters`](crate::nn::Module::named_parameters) gives
    /// them, and PyTorch's: `0.weight.exp_avg`. Parameters that were never updated have no state.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{Init, Layer, Linear, Module}, optim::{Adam, Optimizer}};
    /// # let model = Linear::new(4, 2, &mut Init::new(1, &Device::cpu()))?;
    /// # let mut adam = Adam::new(model.parameters(), 0.1);
    /// # adam.step(&model.forward(&Tensor::ones([1, 4], &Device::cpu())?)?.sum_all()?.backward()?)?;
    /// let state = adam.state(&model.named_parameters())?; // after a step
    /// let names: Vec<&str> = state.iter().map(|(name, _)| &**name).collect();
    /// assert_eq!(names[..3], ["weight.step", "weight.exp_avg", "weight.exp_avg_sq"]);
    /// let mut other = Adam::new(model.parameters(), 0.1);
    /// other.load_state(&model.named_parameters(), &state)?;
    /// assert_eq!(other.state(&model.named_parameters())?[1].1.to_vec()?, state[1].1.to_vec()?);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A parameter of the optimizer is not in `names`, or the device fails.
    fn state(&self, names: &[(String, Parameter)]) -> Result<Vec<(String, Tensor)>>;

    /// Restores a state from [`Optimizer::state`], and moves it to the devices of the parameters.
    ///
    /// # Errors
    /// A parameter of the optimizer is not in `names`, some but not all names of a parameter, unknown names, other shapes or
    /// element types. The error lists all; nothing is changed.
    fn load_state(&mut self, names: &[(String, Parameter)], state: &[(String, Tensor)]) -> Result<()>;
}

/// The methods of [`Optimizer`] that the common state answers.
macro_rules! by_state {
    ($($state:tt)+) => {
        fn add_group(&mut self, group: ParameterGroup) -> Result<()> {
            self.$($state)+.add_group(group)
        }

        fn learning_rate(&self) -> f32 {
            self.$($state)+.rate
        }

        fn set_learning_rate(&mut self, rate: f32) {
            self.$($state)+.rate = rate;
        }

        fn state(&self, names: &[(String, Parameter)]) -> Result<Vec<(String, Tensor)>> {
            self.$($state)+.export(names)
        }

        fn load_state(&mut self, names: &[(String, Parameter)], state: &[(String, Tensor)]) -> Result<()> {
            self.$($state)+.import(names, state)
        }
    };
}
use by_state;

/// The workgroups for an update of `count` elements. An invocation updates four adjacent elements as a vector, which
/// takes less than half the time of four scalars on a software rasterizer.
fn workgroups(count: usize) -> usize {
    count.div_ceil(4 * WG as usize)
}

/// The shape rule of all updates. Inputs: the gradient, and on the CPU the old parameter. Outputs: the parameter and
/// the optimizer's state, `states` tensors in total.
fn infer(op: &'static str, inputs: &[Meta], states: usize) -> Result<Vec<Meta>> {
    floats(op, inputs)?;
    match inputs {
        [grad] => Ok(vec![*grad; states]),
        [grad, before] if grad.shape == before.shape => Ok(vec![*grad; states]),
        _ => Err(Error::shape(op, format!("{} inputs", inputs.len()))),
    }
}

/// Checks a hyperparameter.
///
/// # Errors
/// Not `ok`.
fn demand(op: &'static str, ok: bool, name: &str, value: impl std::fmt::Display, range: &str) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(Error::argument(op, format!("{name} of {value} is not {range}")))
}
