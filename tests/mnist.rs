//! The first steps of the MNIST example, on real digits: GPU and CPU agree, the same seed gives the same bits, and a
//! GPU run does not use the CPU twins.

mod common;
#[path = "../examples/common/mnist_data.rs"]
mod mnist_data;
#[path = "../examples/common/network.rs"]
mod network;

use common::*;
use gristmill::Device;
use gristmill::data::{Batch, DataLoader, ImageTransform, Normalization};
use gristmill::nn::{self, Layer, Module};
use gristmill::optim::{Adam, Optimizer};

/// The losses of the first steps, and the hash of the parameters after them.
fn train(device: &Device, steps: usize, seed: u64, dropout: f32) -> (Vec<f32>, u64) {
    let (train, _) = mnist_data::load(None).unwrap();
    let network = network::mnist_cnn(device, seed, dropout).unwrap();
    network.train();
    let mut adam = Adam::new(network.parameters(), 1e-3);
    let transform =
        ImageTransform::new().normalize(&[Normalization::MNIST]).random_crop([28, 28], 1).seed(seed);
    let train = DataLoader::new(train.into_dataset().unwrap().transform(transform), 64).unwrap();
    let mut losses = Vec::new();
    for batch in train.shuffle(seed).workers(2).device(device).epoch(0).unwrap().take(steps) {
        let Batch { inputs, targets } = batch.unwrap();
        let loss = network.forward(&inputs).unwrap().cross_entropy(&targets).unwrap();
        adam.step(&loss.backward().unwrap()).unwrap();
        losses.push(loss);
    }
    (losses.iter().map(|loss| loss.item().unwrap()).collect(), nn::hash_parameters(&network).unwrap())
}

/// Reduces the number of steps on SwiftShader, where a step takes seconds.
fn steps(device: &Device, wanted: usize) -> usize {
    if device.id().contains("swiftshader") { wanted / 20 } else { wanted }
}

#[test]
fn gpu_and_cpu_losses_agree_over_the_first_60_steps() {
    let device = device();
    let steps = steps(&device, 60);
    let (ours, _) = train(&device, steps, 1, 0.5);
    let (cpu, _) = train(&Device::cpu(), steps, 1, 0.5);
    // At first it knows nothing of the ten digits.
    assert!((ours[0] / 10f32.ln() - 1.0).abs() < 0.05, "a first loss of {}", ours[0]);
    for (step, (a, b)) in ours.iter().zip(&cpu).enumerate() {
        // Both round each sum differently, by about 1e-6, and training amplifies the difference.
        assert!((a - b).abs() <= 1e-3 * b.abs(), "step {step}: {a} on {}, {b} on the CPU", device.id());
    }
    if steps == 60 {
        let late = ours[40..].iter().sum::<f32>() / 20.0;
        assert!(late < 0.6 * ours[0], "no progress: {} at first, {late} after 40 steps", ours[0]);
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_twice() {
    for device in devices() {
        let steps = steps(&device, 20);
        let (first, second) = (train(&device, steps, 7, 0.5), train(&device, steps, 7, 0.5));
        assert_eq!(first.1, second.1, "parameters differ on {}", device.id());
        assert_eq!(first.0, second.0, "losses differ on {}", device.id());
        assert_ne!(
            first.1,
            train(&device, steps, 8, 0.5).1,
            "another seed gives the same on {}",
            device.id()
        );
    }
}
