//! Two tasks of one trunk: a class, and a number.

use gristmill::nn::{Gelu, Init, Layer, LayerNorm, Linear, Module, Sequential, mse_loss};
use gristmill::optim::{Optimizer, ParameterGroup, Sgd};
use gristmill::{Device, Result, Tensor};

#[derive(Module)]
struct MultiTask {
    trunk: Sequential,
    classes: Linear,
    value: Linear,
}

impl MultiTask {
    fn forward(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let h = self.trunk.forward(x)?;
        Ok((self.classes.forward(&h)?, self.value.forward(&h)?))
    }
}

fn main() -> Result<()> {
    let device = Device::best()?;
    let init = &mut Init::new(1, &device);
    let trunk = Sequential::new().push(Linear::new(10, 64, init)?).push(LayerNorm::new([64], init)?);
    let trunk = trunk.push(Gelu).push(Linear::new(64, 64, init)?).push(Gelu);
    let model = MultiTask { trunk, classes: Linear::new(64, 4, init)?, value: Linear::new(64, 1, init)? };
    let data = twins::start(&[("m.", &model)], &device)?;
    let mut optimizer = Sgd::new(model.trunk.parameters(), 0.05).momentum(0.9).weight_decay(1e-3);
    let heads = [model.classes.parameters(), model.value.parameters()].concat();
    optimizer.add_group(ParameterGroup::new(heads).learning_rate(0.1))?;
    for step in 0..100 {
        let (logits, value) = model.forward(&data["x"].i(step)?)?;
        let of_class = logits.cross_entropy(&data["class"].i(step)?)?;
        let of_value = mse_loss(&value, &data["value"].i(step)?)?;
        let loss = (of_class + 0.5 * of_value).eval()?;
        optimizer.step(&loss.backward()?)?;
        println!("{}", loss.item()?);
    }
    Ok(())
}
