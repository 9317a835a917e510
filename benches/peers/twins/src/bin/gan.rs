//! A GAN that learns eight points on a circle.

use gristmill::nn::{Init, Layer, LeakyRelu, Linear, Module, Sequential, bce_with_logits_loss as bce};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Device, Result, Tensor};

fn mlp(inputs: usize, outputs: usize, init: &mut Init) -> Result<Sequential> {
    let (first, second) = (Linear::new(inputs, 64, init)?, Linear::new(64, 64, init)?);
    let hidden = Sequential::new().push(first).push(LeakyRelu(0.2)).push(second).push(LeakyRelu(0.2));
    Ok(hidden.push(Linear::new(64, outputs, init)?))
}

fn main() -> Result<()> {
    let device = Device::best()?;
    let init = &mut Init::new(1, &device);
    let (generator, critic) = (mlp(8, 2, init)?, mlp(2, 1, init)?);
    let data = twins::start(&[("g.", &generator), ("c.", &critic)], &device)?;

    let mut g_adam = Adam::new(generator.parameters(), 1e-3).betas(0.5, 0.999);
    let mut c_adam = Adam::new(critic.parameters(), 1e-3).betas(0.5, 0.999);
    let (ones, zeros) = (Tensor::ones([64, 1], &device)?, Tensor::zeros([64, 1], &device)?);
    for step in 0..100 {
        let fake = generator.forward(&data["noise"].i(step)?)?;
        let of_real = bce(&critic.forward(&data["real"].i(step)?)?, &ones)?;
        let c_loss = of_real.add(&bce(&critic.forward(&fake.detach())?, &zeros)?)?;
        c_adam.step(&c_loss.backward()?)?;
        let frozen = critic.frozen();
        let g_loss = bce(&critic.forward(&fake)?, &ones)?;
        g_adam.step(&g_loss.backward()?)?;
        drop(frozen);
        println!("{} {}", c_loss.item()?, g_loss.item()?);
    }
    Ok(())
}
