//! Optimizers, learning-rate schedules and gradient clipping.
//!
//! An optimizer's step is one fused kernel a parameter, which updates the parameter and the optimizer's own state
//! in place in a single pass over memory.

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

use crate::autograd::Gradients;
use crate::gpu::Kernel;
use crate::nn::Parameter;
use crate::op::Meta;
use crate::ops::{WG, floats};
use crate::tensor::Tensor;
use crate::{Error, Result};

pub(crate) const KERNELS: &[&Kernel] = &[&sgd::SGD, &sgd::SGD_MOMENTUM, &adam::ADAM];

/// A rule by which gradients change parameters.
///
/// ```
/// use gristmill::optim::{AdamW, Optimizer, Schedule};
/// use gristmill::{Device, Tensor, nn::Parameter};
///
/// let w = Parameter::new(&Tensor::full([3], 5.0, &Device::cpu())?)?;
/// let mut optimizer = AdamW::new(0.1).weight_decay(0.0);
/// let schedule = Schedule::cosine(0.1, 0.0, 200).warm_up(10);
/// for step in 0..200 {
///     optimizer.set_learning_rate(schedule.lr_at(step));
///     let loss = w.tensor().square()?.sum_all()?;
///     optimizer.step(&[w.clone()], &loss.backward()?)?;
/// }
/// assert!(w.tensor().to_vec()?.iter().all(|w| w.abs() < 0.1));
/// # Ok::<(), gristmill::Error>(())
/// ```
pub trait Optimizer {
    /// Updates each parameter that has a gradient; the others are left alone, as in PyTorch. The optimizer's state
    /// belongs to the places in the list, so every call gets the parameters in the same order.
    ///
    /// A parameter's buffer is updated in place where nobody else holds it, else the parameter moves to a new one,
    /// and the other holders see no change.
    ///
    /// # Errors
    /// A hyperparameter out of its range, a parameter given twice, a gradient or a state of another shape: nothing is
    /// changed then. Where the device fails, some parameters may be updated and others not.
    fn step(&mut self, parameters: &[Parameter], gradients: &Gradients) -> Result<()>;

    /// The learning rate of the next step.
    fn learning_rate(&self) -> f32;

    /// Sets the learning rate of the next step.
    fn set_learning_rate(&mut self, rate: f32);

    /// What a checkpoint has to keep besides the hyperparameters, by PyTorch's names after the parameter's place:
    /// `0.exp_avg`. Parameters that were never updated have none.
    ///
    /// # Errors
    /// The device fails.
    fn state(&self) -> Result<Vec<(String, Tensor)>>;

    /// Takes up the state that [`Optimizer::state`] gave, for these parameters; it moves to their devices.
    ///
    /// # Errors
    /// Names that are missing or not known, other shapes or element types: all are listed, and nothing is changed.
    fn load_state(&mut self, parameters: &[Parameter], state: &[(String, Tensor)]) -> Result<()>;
}

/// The workgroups of an update of `count` elements: an invocation takes four neighbours as a vector, which costs
/// less than half the time of four scalars on a software rasteriser.
fn workgroups(count: usize) -> usize {
    count.div_ceil(4 * WG as usize)
}

/// The shape rule of all updates: the gradient, and on the CPU the parameter as it was, give the parameter and the
/// optimizer's state, `states` tensors in all.
fn infer(op: &'static str, inputs: &[Meta], states: usize) -> Result<Vec<Meta>> {
    floats(op, inputs)?;
    match inputs {
        [grad] => Ok(vec![*grad; states]),
        [grad, before] if grad.shape == before.shape => Ok(vec![*grad; states]),
        _ => Err(Error::shape(op, format!("{} inputs", inputs.len()))),
    }
}

/// A hyperparameter's check.
///
/// # Errors
/// Not `ok`.
fn demand(op: &'static str, ok: bool, name: &str, value: impl std::fmt::Display, range: &str) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(Error::argument(op, format!("{name} of {value} is not {range}")))
}
