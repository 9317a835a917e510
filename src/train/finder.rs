//! The search of a learning rate.

use crate::data::DataLoader;
use crate::nn::{Layer, LoadOptions, load_state_dict};
use crate::optim::Optimizer;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// A learning rate, and the loss of the batch before the step with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLoss {
    /// The learning rate.
    pub rate: f32,
    /// The loss.
    pub loss: f32,
}

/// The losses of steps whose learning rate grows from `from` to `to` by an equal factor, one a batch, over at most one epoch:
/// Smith, [arXiv:1506.01186](https://arxiv.org/abs/1506.01186), section 3.3. A good rate is below that at which the loss
/// falls fastest, and a factor of ten below that at which it grows.
///
/// It ends early when the loss exceeds four times its least so far, or is not finite. Parameters and buffers are as before
/// afterwards; the optimizer, whose state has seen the steps, should be made anew.
///
/// ```
/// # use gristmill::data::{DataLoader, TensorDataset};
/// # use gristmill::nn::{Init, Linear, Module, mse_loss};
/// # use gristmill::{Device, Tensor, optim::Sgd, train};
/// # let device = Device::cpu();
/// let model = Linear::new(1, 1, &mut Init::new(1, &device))?;
/// let x = Tensor::uniform([64, 1], -1.0, 1.0, 1, &device)?;
/// let data = DataLoader::new(TensorDataset::new(x.clone(), x.mul_scalar(3.0)?)?, 1)?;
/// let tried = train::find_learning_rate(&model, Sgd::new(model.parameters(), 1.0), mse_loss, &data, 1e-4, 100.0)?;
/// assert!(tried.len() < 64 && tried[0].rate == 1e-4); // it ends where the loss explodes
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// Rates that are not `0 < from < to`, no batches, or those of the model, the loss, the data and the optimizer.
pub fn find_learning_rate(
    model: &dyn Layer,
    mut optimizer: impl Optimizer,
    loss: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    data: &DataLoader,
    from: f32,
    to: f32,
) -> Result<Vec<RateLoss>> {
    if !(from > 0.0 && from < to && to.is_finite()) {
        let message = format!("rates from {from} to {to}, should be 0 < from < to");
        return Err(Error::argument("find_learning_rate", message));
    }
    if data.is_empty() {
        return Err(Error::argument("find_learning_rate", "no batches"));
    }
    let (before, device) = (model.state_dict(), model.device());
    model.train();
    let growth = (f64::from(to) / f64::from(from)).powf(1.0 / (data.len().max(2) - 1) as f64);
    let mut run = || {
        let (mut tried, mut least, mut rate) = (Vec::new(), f32::INFINITY, f64::from(from));
        for batch in data.epoch(0)? {
            let batch = batch?.to(&device)?;
            let loss = loss(&model.forward(&batch.inputs)?, &batch.targets)?;
            let value = loss.item()?;
            tried.push(RateLoss { rate: rate as f32, loss: value });
            least = least.min(value);
            if !value.is_finite() || value > 4.0 * least {
                break;
            }
            optimizer.set_learning_rate(rate as f32);
            optimizer.step(&loss.backward()?)?;
            rate *= growth;
        }
        Ok(tried)
    };
    let tried = run();
    load_state_dict(model, &before, &LoadOptions::new())?;
    tried
}
