//! Fine-tuning with LoRA: a frozen Transformer encoder and classifier, low-rank additions to its feed-forward layers.

use gristmill::nn::{BlockOptions, Embedding, Init, Layer, Linear, Module, Parameter, TransformerBlock};
use gristmill::optim::{AdamW, Optimizer};
use gristmill::{Chain, Device, Result, Tensor};

#[derive(Module)]
struct Lora {
    base: Linear,
    a: Parameter,
    b: Parameter,
}

impl Lora {
    fn new(base: Linear, rank: usize, init: &mut Init) -> Result<Lora> {
        base.freeze();
        let [outputs, inputs] = [0, 1].map(|axis| base.weight().shape()[axis]);
        let a = Parameter::new(&init.weights([rank, inputs])?)?;
        Ok(Lora { base, a, b: Parameter::new(&init.zeros([outputs, rank])?)? })
    }
}

impl Layer for Lora {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let low = x.matmul(&self.a.tensor().t()?).matmul(&self.b.tensor().t()?)?;
        (self.base.forward(x)? + 2.0 * low).eval()
    }
}

#[derive(Module)]
struct Classifier {
    words: Embedding,
    encoder: TransformerBlock,
    up: Lora,
    head: Linear,
}

impl Layer for Classifier {
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let x = self.encoder.forward(&self.words.forward(ids)?).mean(&[1], false)?;
        self.head.forward(&self.up.forward(&x).relu()?)
    }
}

fn main() -> Result<()> {
    let device = Device::best()?;
    let init = &mut Init::new(1, &device);
    let model = Classifier {
        words: Embedding::new(50, 32, init)?,
        encoder: TransformerBlock::new(32, &BlockOptions::new(4, 64), init)?,
        up: Lora::new(Linear::new(32, 64, init)?, 4, init)?,
        head: Linear::new(64, 3, init)?,
    };
    model.words.freeze();
    model.encoder.freeze();
    let data = twins::start(&[("m.", &model)], &device)?;
    let mut optimizer = AdamW::new(model.parameters(), 1e-2);
    for step in 0..100 {
        let logits = model.forward(&data["ids"].i(step)?)?;
        let loss = logits.cross_entropy(&data["classes"].i(step)?)?;
        optimizer.step(&loss.backward()?)?;
        println!("{}", loss.item()?);
    }
    Ok(())
}
