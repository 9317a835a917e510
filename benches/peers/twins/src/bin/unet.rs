//! A small U-Net that marks the discs in pictures of noise.

use gristmill::nn::{
    BatchNorm2d, Conv2d, ConvTranspose2d, Init, Layer, MaxPool2d, Module, Relu, Sequential,
    bce_with_logits_loss,
};
use gristmill::optim::{AdamW, Optimizer};
use gristmill::{Conv2dOptions, ConvTranspose2dOptions, Device, Result, Tensor};

fn block(inputs: usize, outputs: usize, init: &mut Init) -> Result<Sequential> {
    let same = Conv2dOptions { padding: [1, 1], ..Default::default() };
    let conv = Conv2d::with_options(inputs, outputs, [3, 3], same, init)?.without_bias();
    Ok(Sequential::new().push(conv).push(BatchNorm2d::new(outputs, init)?).push(Relu))
}

fn up(inputs: usize, outputs: usize, init: &mut Init) -> Result<ConvTranspose2d> {
    let double = ConvTranspose2dOptions { stride: [2, 2], ..Default::default() };
    ConvTranspose2d::with_options(inputs, outputs, [2, 2], double, init)
}

#[derive(Module)]
struct UNet {
    down1: Sequential,
    down2: Sequential,
    bottom: Sequential,
    up2: ConvTranspose2d,
    merge2: Sequential,
    up1: ConvTranspose2d,
    merge1: Sequential,
    head: Conv2d,
    pool: MaxPool2d,
}

impl UNet {
    fn new(init: &mut Init) -> Result<UNet> {
        let (down1, down2, bottom) = (block(1, 8, init)?, block(8, 16, init)?, block(16, 32, init)?);
        let (up2, merge2) = (up(32, 16, init)?, block(32, 16, init)?);
        let (up1, merge1) = (up(16, 8, init)?, block(16, 8, init)?);
        let (head, pool) = (Conv2d::new(8, 1, [1, 1], init)?, MaxPool2d::new([2, 2]));
        Ok(UNet { down1, down2, bottom, up2, merge2, up1, merge1, head, pool })
    }
}

impl Layer for UNet {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let a = self.down1.forward(x)?;
        let b = self.down2.forward(&self.pool.forward(&a)?)?;
        let c = self.bottom.forward(&self.pool.forward(&b)?)?;
        let b = self.merge2.forward(&Tensor::cat(&[&self.up2.forward(&c)?, &b], 1)?)?;
        let a = self.merge1.forward(&Tensor::cat(&[&self.up1.forward(&b)?, &a], 1)?)?;
        self.head.forward(&a)
    }
}

fn main() -> Result<()> {
    let device = Device::best()?;
    let model = UNet::new(&mut Init::new(1, &device))?;
    let data = twins::start(&[("m.", &model)], &device)?;
    let mut optimizer = AdamW::new(model.parameters(), 1e-3);
    for step in 0..100 {
        let loss = bce_with_logits_loss(&model.forward(&data["x"].i(step)?)?, &data["disc"].i(step)?)?;
        optimizer.step(&loss.backward()?)?;
        println!("{}", loss.item()?);
    }
    Ok(())
}
