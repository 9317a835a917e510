//! Clipping gradients by their common norm.

use super::demand;
use crate::Result;
use crate::autograd::{Gradients, no_grad};

/// Scales all gradients by `min(1, max_norm / (norm + 1e-6))`, `norm` being the Euclidean norm of all of them taken
/// as one vector (Pascanu, Mikolov & Bengio, [arXiv:1211.5063](https://arxiv.org/abs/1211.5063), in the form of
/// PyTorch's `clip_grad_norm_`), and gives that norm, as it was before. Waits for the device.
///
/// A norm that is not finite is given back as it is, and so shows that the step is lost: as in PyTorch, NaN makes
/// every gradient NaN, and infinity makes them 0, or NaN where they are infinite themselves.
///
/// # Errors
/// A negative or NaN `max_norm`, or the device fails.
pub fn clip_grad_norm(gradients: &mut Gradients, max_norm: f32) -> Result<f32> {
    demand("clip_grad_norm", max_norm >= 0.0, "max_norm", max_norm, "at least 0")?;
    let squares = no_grad(|| {
        let mut sum = None;
        for grad in gradients.iter() {
            let own = grad.square()?.sum_all()?;
            sum = Some(match sum {
                None => own,
                Some(sum) => own.add(&sum)?,
            });
        }
        sum.map_or(Ok(0.0), |sum| sum.item())
    })?;
    let norm = squares.sqrt();
    let factor = max_norm / (norm + 1e-6);
    // Written so that NaN is scaled by, too.
    if factor < 1.0 || factor.is_nan() {
        gradients.scale(factor)?;
    }
    Ok(norm)
}
