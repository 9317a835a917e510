//! Sequence to sequence: a GRU reads digits, a GRU with attention writes them in reverse.

use gristmill::nn::{Embedding, Gru, Init, Layer, Linear, Module};
use gristmill::optim::{Adam, Optimizer, clip_grad_norm};
use gristmill::{AttentionOptions, Chain, Device, Result, Tensor};

#[derive(Module)]
struct Seq2Seq {
    words: Embedding,
    encoder: Gru,
    decoder: Gru,
    head: Linear,
}

impl Seq2Seq {
    fn forward(&self, source: &Tensor, target: &Tensor) -> Result<Tensor> {
        let (memory, state) = self.encoder.forward_from(&self.words.forward(source)?, None)?;
        let (y, _) = self.decoder.forward_from(&self.words.forward(target)?, Some(&state))?;
        let (query, keys) = (y.unsqueeze(1)?, memory.unsqueeze(1)?);
        let seen = query.scaled_dot_product_attention(&keys, &keys, &AttentionOptions::default());
        self.head.forward(&Tensor::cat(&[&y, &seen.squeeze(1)?], -1)?)
    }
}

fn main() -> Result<()> {
    let device = Device::best()?;
    let init = &mut Init::new(1, &device);
    let model = Seq2Seq {
        words: Embedding::new(11, 32, init)?,
        encoder: Gru::new(32, 32, init)?,
        decoder: Gru::new(32, 32, init)?,
        head: Linear::new(64, 11, init)?,
    };
    let data = twins::start(&[("m.", &model)], &device)?;
    let mut optimizer = Adam::new(model.parameters(), 5e-3);
    for step in 0..100 {
        let logits = model.forward(&data["source"].i(step)?, &data["in"].i(step)?)?;
        let loss = logits.reshape([-1, 11]).cross_entropy(&data["out"].i(step).reshape([-1])?)?;
        let mut gradients = loss.backward()?;
        clip_grad_norm(&mut gradients, 1.0)?;
        optimizer.step(&gradients)?;
        println!("{}", loss.item()?);
    }
    Ok(())
}
