//! The MNIST network, for the example, the tests and the benches.

use gristmill::nn::{Conv2d, Dropout, Flatten, Init, Linear, MaxPool2d, Sequential};
use gristmill::{Activation, Device, Result};

/// conv 32 of 3x3, relu - max-pool 2x2 - flatten - dense 128, relu - dropout - dense 10, on `[n, 1, 28, 28]`. The
/// dropout layer exists even if `dropout` is 0, so that the layers keep their names.
pub fn mnist_cnn(device: &Device, seed: u64, dropout: f32) -> Result<Sequential> {
    let mut init = Init::new(seed, device);
    Ok(Sequential::new()
        .push(Conv2d::new(1, 32, [3, 3], &mut init)?.with_activation(Activation::Relu))
        .push(MaxPool2d::new([2, 2]))
        .push(Flatten)
        .push(Linear::new(32 * 13 * 13, 128, &mut init)?.with_activation(Activation::Relu))
        .push(Dropout::new(dropout, init.seed())?)
        .push(Linear::new(128, 10, &mut init)?))
}
