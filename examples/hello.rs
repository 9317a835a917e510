//! The first steps: a device, tensors, a product, softmax, a gradient.
//!
//! `cargo run --release --example hello`, or with `GRISTMILL_DEVICE=cpu` on the CPU.

#[path = "common/output.rs"]
mod output;

use gristmill::{Chain, Device, Result, Tensor};
use output::say;
use std::process::ExitCode;

fn main() -> ExitCode {
    output::exit(hello())
}

fn hello() -> Result<()> {
    // The best GPU of the machine, or the CPU where there is none.
    let device = Device::best()?;
    say(format!("on {device}"));

    // Two rows of three numbers, and a weight that takes three numbers to two.
    let x = Tensor::from_slice(&[1.0, 2.0, 3.0, -1.0, 0.0, 1.0], [2, 3], &device)?;
    let weight = Tensor::from_slice(&[0.5, -0.5, 0.25, 0.0, -1.0, 1.0], [3, 2], &device)?.requires_grad()?;

    // Each op runs one kernel, or a few. Nothing is waited for until a result is read.
    let logits = x.matmul(&weight)?;
    say(format!("probabilities:\n{}", logits.softmax(-1)?));

    // The loss of the classes 1 and 0, and its gradient with respect to the weight.
    let classes = Tensor::from_ids(&[1, 0], [2], &device)?;
    let loss = logits.cross_entropy(&classes)?;
    let gradients = loss.backward()?;
    say(format!("loss: {:.4}", loss.item()?));
    let gradient = gradients.get(&weight)?;
    say(format!("gradient of the weight:\n{gradient}"));

    // One step of gradient descent.
    let better = (weight.detach() - 0.5 * gradient).eval()?;
    say(format!("loss after a step: {:.4}", x.matmul(&better).cross_entropy(&classes)?.item()?));
    Ok(())
}
