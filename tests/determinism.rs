//! The same program on the same device gives the same bits. A small training run is repeated in separate processes,
//! which share neither compiled kernels, nor the contents of buffers, nor the number of threads.

use gristmill::data::{Batch, DataLoader, ImageTransform, Normalization, Split, parse_idx};
use gristmill::nn::{self, Conv2d, Dropout, Flatten, Init, Layer, Linear, MaxPool2d, Module, Sequential};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Activation, Device, Result};
use std::path::Path;
use std::process::Command;

/// Set for a child process: the device to train on.
const CHILD: &str = "GRISTMILL_TEST_TRAIN_ON";
/// Images per batch, and number of batches.
const BATCH: usize = 12;
const STEPS: usize = 6;

/// The first digits of MNIST's test set.
fn digits() -> Split {
    let read = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/mnist").join(name);
        parse_idx(&std::fs::read(path).unwrap()).unwrap().data
    };
    let (images, labels) = (read("t10k-images-idx3-ubyte.gz"), read("t10k-labels-idx1-ubyte.gz"));
    let count = BATCH * STEPS;
    Split {
        images: images[..count * 28 * 28].to_vec(),
        labels: labels[..count].to_vec(),
        rows: 28,
        cols: 28,
        classes: 10,
    }
}

/// Trains a convolutional network for a few steps. Returns a line with the bits of each loss, then the hash of all
/// parameters.
fn train(device: &Device, seed: u64) -> Result<String> {
    let mut init = Init::new(seed, device);
    let network = Sequential::new()
        .push(Conv2d::new(1, 6, [3, 3], &mut init)?.with_activation(Activation::Relu))
        .push(MaxPool2d::new([2, 2]))
        .push(Flatten)
        .push(Linear::new(6 * 13 * 13, 24, &mut init)?.with_activation(Activation::Tanh))
        .push(Dropout::new(0.4, init.seed())?)
        .push(Linear::new(24, 10, &mut init)?);
    let transform = ImageTransform::new().normalize(&[Normalization::MNIST]);
    let digits = DataLoader::new(digits().into_dataset()?.transform(transform), BATCH)?.device(device);
    let mut adam = Adam::new(network.parameters(), 3e-3);
    let mut lines = String::new();
    for batch in digits.epoch(0)? {
        let Batch { inputs, targets } = batch?;
        let loss = network.forward(&inputs)?.cross_entropy(&targets)?;
        adam.step(&loss.backward()?)?;
        lines += &format!("trained: loss {:08x}\n", loss.item()?.to_bits());
    }
    Ok(lines + &format!("trained: parameters {:016x}\n", nn::hash_parameters(&network)?))
}

/// The output of a child process that trains on a device, with `threads` threads for the CPU twins.
fn trained_in_a_process(device: &str, seed: u64, threads: usize) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "the_same_program_gives_the_same_bits_in_every_process", "--nocapture"]);
    child.env(CHILD, format!("{seed} {device}")).env("RAYON_NUM_THREADS", threads.to_string());
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    // The harness prints its own text before our first line, without a newline.
    let lines: Vec<&str> = text.lines().filter_map(|line| Some(&line[line.find("trained: ")?..])).collect();
    assert!(
        output.status.success() && lines.len() == STEPS + 1,
        "training on {device}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    lines.join("\n")
}

#[test]
fn the_same_program_gives_the_same_bits_in_every_process() {
    if let Ok(wanted) = std::env::var(CHILD) {
        let (seed, device) = wanted.split_once(' ').unwrap();
        print!("{}", train(&Device::open(device).unwrap(), seed.parse().unwrap()).unwrap());
        return;
    }
    let tested = std::env::var("GRISTMILL_DEVICE").unwrap_or_else(|_| "gpu".to_string());
    let first = trained_in_a_process(&tested, 1, 2);
    assert_eq!(trained_in_a_process(&tested, 1, 2), first, "a second process on {tested}");
    assert_ne!(trained_in_a_process(&tested, 2, 2), first, "another seed on {tested}");
    // The CPU twins split their work for rayon; the number of threads must not change the result.
    let first = trained_in_a_process("cpu", 1, 1);
    for threads in [1, 2, 3, 8] {
        assert_eq!(trained_in_a_process("cpu", 1, threads), first, "{threads} threads on the CPU");
    }
}
