//! Gradient clipping by the global norm.

use super::demand;
use crate::Result;
use crate::autograd::{Gradients, no_grad};

/// Clips the gradients of all leaves by their global norm, and returns that norm before clipping. Waits for the device.
///
/// Scales all gradients by `min(1, max_norm / (norm + 1e-6))`, where `norm` is the Euclidean norm of all gradients as
/// one vector (Pascanu, Mikolov & Bengio, [arXiv:1211.5063](https://arxiv.org/abs/1211.5063), in the form of PyTorch's
/// `clip_grad_norm_`).
///
/// A norm that is not finite is returned as it is; the caller should skip the step then. As in PyTorch, a NaN norm
/// makes every gradient NaN, and an infinite norm makes finite gradients 0 and infinite ones NaN.
///
/// ```
/// # use gristmill::{Device, Tensor, optim::clip_grad_norm};
/// # let device = Device::cpu();
/// let w = Tensor::zeros([2], &device)?.requires_grad()?;
/// let factors = Tensor::from_slice(&[3.0, 4.0], [2], &device)?;
/// let mut gradients = w.mul(&factors)?.sum_all()?.backward()?; // 3 and 4
/// assert_eq!(clip_grad_norm(&mut gradients, 1.0)?, 5.0);
/// let clipped = gradients.get(&w)?.to_vec()?;
/// assert!((clipped[0] - 0.6).abs() < 1e-5 && (clipped[1] - 0.8).abs() < 1e-5);
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// A negative or NaN `max_norm`, or the device fails.
#[track_caller]
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
    // NaN must scale too.
    if factor < 1.0 || factor.is_nan() {
        gradients.scale(factor)?;
    }
    Ok(norm)
}
