//! One training step of the MNIST network, from pixels on the host to updated parameters: upload, forward, loss,
//! backward, Adam. Measured by wall clock, since the work of the host counts. On a GPU a second table shows the time
//! per kernel.
//!
//! Also the generator's step of a GAN, with its critic frozen and not: what freezing saves.

mod common;
#[path = "../examples/common/network.rs"]
mod network;

use common::{Bench, Case, Work};
use gristmill::nn::{Init, Layer, LeakyRelu, Linear, Module, Sequential, Sigmoid, bce_with_logits_loss};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Device, Result, Tensor};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

const BATCH: usize = 64;
/// Operations of a step: the convolution forward and its weight gradient, and the dense layers forward and both
/// gradients.
const FLOPS: usize = 2 * BATCH * (2 * 32 * 26 * 26 * 9 + 3 * 32 * 13 * 13 * 128 + 3 * 128 * 10);

/// A network that trains on one batch.
struct Training {
    device: Device,
    network: Sequential,
    adam: RefCell<Adam>,
    pixels: Vec<f32>,
    labels: Vec<u32>,
}

impl Training {
    fn new(device: &Device) -> Result<Training> {
        let network = network::mnist_cnn(device, 1, 0.0)?;
        Ok(Training {
            device: device.clone(),
            adam: RefCell::new(Adam::new(network.parameters(), 1e-3)),
            network,
            pixels: Tensor::uniform([BATCH * 28 * 28], -1.0, 1.0, 2, &Device::cpu())?.to_vec()?,
            labels: (0..BATCH as u32).map(|i| i * 7 % 10).collect(),
        })
    }

    /// Runs a step; returns the loss before the update.
    fn step(&self) -> Result<Tensor> {
        let x = Tensor::from_slice(&self.pixels, [BATCH, 1, 28, 28], &self.device)?;
        let labels = Tensor::from_ids(&self.labels, [BATCH], &self.device)?;
        let loss = self.network.forward(&x)?.cross_entropy(&labels)?;
        self.adam.borrow_mut().step(&loss.backward()?)?;
        Ok(loss)
    }
}

fn main() -> Result<()> {
    common::run("training_step", |bench| {
        step(bench);
        generator_step(bench, "GAN generator, critic frozen", true);
        generator_step(bench, "GAN generator, critic not frozen", false);
        kernels(&bench.device)
    })
}

fn step(bench: &mut Bench) {
    bench.case("MNIST, batch 64", Work::Flops(FLOPS), |device| {
        let training = Rc::new(Training::new(device)?);
        // The same network with the same seed, on the CPU.
        let want = Training::new(&Device::cpu())?.step()?.item()?;
        let later = training.clone();
        let check = move |loss: &[f32]| {
            // Logits are sums of up to 5408 products of values near 1, added in different orders.
            assert!((loss[0] - want).abs() < 1e-3, "the first loss is {}, on the CPU {want}", loss[0]);
            let losses =
                (0..20).map(|_| later.step()?.item()).collect::<Result<Vec<f32>>>().expect("20 steps");
            assert!(losses[19] < 0.5 * want, "the loss does not fall: {losses:?}");
        };
        Ok(Case::new(move || training.step(), check).by_wall_clock())
    });
}

/// Widths of the generator and the critic: noise to digits, digits to one number.
const GENERATOR: [usize; 3] = [64, 512, 784];
const CRITIC: [usize; 3] = [784, 512, 1];

/// A generator that learns from a critic.
struct Gan {
    generator: Sequential,
    critic: Sequential,
    adam: RefCell<Adam>,
    noise: Tensor,
    ones: Tensor,
}

impl Gan {
    fn new(device: &Device) -> Result<Gan> {
        let mut init = Init::new(1, device);
        let mut mlp = |[a, b, c]: [usize; 3]| -> Result<Sequential> {
            let hidden = Sequential::new().push(Linear::new(a, b, &mut init)?).push(LeakyRelu(0.2));
            Ok(hidden.push(Linear::new(b, c, &mut init)?))
        };
        let (generator, critic) = (mlp(GENERATOR)?.push(Sigmoid), mlp(CRITIC)?);
        Ok(Gan {
            adam: RefCell::new(Adam::new(generator.parameters(), 1e-3)),
            generator,
            critic,
            noise: Tensor::randn([BATCH, GENERATOR[0]], 0.0, 1.0, 2, device)?,
            ones: Tensor::ones([BATCH, 1], device)?,
        })
    }

    /// The generator's step; returns the loss before the update.
    fn step(&self, freeze: bool) -> Result<Tensor> {
        let _frozen = freeze.then(|| self.critic.frozen());
        let judged = self.critic.forward(&self.generator.forward(&self.noise)?)?;
        let loss = bce_with_logits_loss(&judged, &self.ones)?;
        self.adam.borrow_mut().step(&loss.backward()?)?;
        Ok(loss)
    }
}

fn generator_step(bench: &mut Bench, name: &str, freeze: bool) {
    // Forward and both gradients of the generator, whose noise needs none; forward and the gradient of the critic's input.
    let [[a, b, c], [d, e, f]] = [GENERATOR, CRITIC];
    let flops = 2 * BATCH * (2 * a * b + 3 * b * c + 2 * (d * e + e * f));
    bench.case(name, Work::Flops(flops), |device| {
        let gan = Gan::new(device)?;
        let want = Gan::new(&Device::cpu())?.step(false)?.item()?;
        let check = move |loss: &[f32]| {
            // A mean of numbers near ln 2 of sums of up to 784 products below 1, added in different orders.
            assert!((loss[0] - want).abs() < 1e-4, "the first loss is {}, on the CPU {want}", loss[0]);
        };
        Ok(Case::new(move || gan.step(freeze), check).by_wall_clock())
    });
}

/// Prints the kernels of a step with their GPU time: the median over several steps.
fn kernels(device: &Device) -> Result<()> {
    const STEPS: usize = 9;
    let Device::Gpu(gpu) = device else { return Ok(()) };
    let training = Training::new(device)?;
    training.step()?;
    let mut times: BTreeMap<String, (usize, Vec<f64>)> = BTreeMap::new();
    for _ in 0..STEPS {
        let (_, profile) = gpu.profile(|| training.step())?;
        let mut sums: BTreeMap<String, (usize, f64)> = BTreeMap::new();
        for timing in profile.timings {
            let Some(nanoseconds) = timing.nanoseconds else { return Ok(()) };
            let (count, sum) = sums.entry(timing.kernel).or_default();
            (*count, *sum) = (*count + 1, *sum + nanoseconds * 1e-6);
        }
        for (kernel, (count, sum)) in sums {
            let entry = times.entry(kernel).or_default();
            entry.0 = count;
            entry.1.push(sum);
        }
    }
    let mut rows: Vec<(String, usize, f64)> = times
        .into_iter()
        .map(|(kernel, (count, mut sums))| {
            sums.sort_by(f64::total_cmp);
            (kernel, count, sums[sums.len() / 2])
        })
        .collect();
    rows.sort_by(|a, b| b.2.total_cmp(&a.2));
    let total: f64 = rows.iter().map(|row| row.2).sum();
    println!("\n| kernel on {} | dispatches a step | GPU time, ms | share |\n|---|--:|--:|--:|", device.id());
    for (kernel, count, time) in rows {
        println!("| {kernel} | {count} | {time:.3} | {:.1} % |", 100.0 * time / total);
    }
    println!("| all | | {total:.3} | 100 % |");
    Ok(())
}
