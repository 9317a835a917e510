//! Memory stays flat in a long training run. This file has one test, so that nothing else runs in the process.

mod common;
#[path = "../examples/common/network.rs"]
mod network;

use common::*;
use gristmill::nn::{Layer, Module};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Device, Tensor};

/// Resident bytes of this process, if the system reports them.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split_whitespace().nth(1)?.parse::<u64>().ok()? * 4096)
}

#[test]
fn memory_is_flat_over_a_training_run() {
    // Not `device()`, which is guarded and does not reuse buffers.
    let name = std::env::var("GRISTMILL_DEVICE").unwrap_or_else(|_| "gpu".to_string());
    let device = Device::open(&name).unwrap_or_else(|error| panic!("{error}"));
    // A step takes 0.1 s on lavapipe and SwiftShader, 8 ms on the CPU twins.
    let (early, late) = match device.id() {
        id if id.contains("swiftshader") => (30, 90),
        id if id.contains("llvmpipe") => (100, 400),
        _ => (200, 1100),
    };
    let [at_early, at_late, at_last] = run(&device, [early, late, 2 * late - early]);
    // Twins take scratch memory for each task, so that the CPU's pool holds as much as tasks happened to run at once: by chance one
    // task's more. A leak of a word per step and parameter would be larger.
    let ((in_use, cached, peak), (in_use_late, cached_late, peak_late)) = (at_early.0, at_late.0);
    let slack = if device.is_gpu() { 0 } else { peak / 16 };
    assert!(
        in_use == in_use_late && cached_late <= cached + slack && peak_late <= peak + slack,
        "pool of {} after {early} and {late} steps: {:?} and {:?}",
        device.id(),
        at_early.0,
        at_late.0
    );
    // What an allocator or a driver's thread takes once is not taken again: a leak grows in both stretches.
    if let (Some(before), Some(after), Some(last)) = (at_early.1, at_late.1, at_last.1) {
        let grown = (after as f64 / before as f64).min(last as f64 / after as f64);
        assert!(
            grown < 1.02,
            "{}: {before} bytes resident after {early} steps, {after} after {late}, then {last}",
            device.id()
        );
    }
}

type Memory = ((u64, u64, u64), Option<u64>);

/// Trains, and measures after each of these steps.
fn run(device: &Device, steps: [usize; 3]) -> [Memory; 3] {
    let network = network::mnist_cnn(device, 1, 0.5).unwrap();
    network.train();
    let mut adam = Adam::new(network.parameters(), 1e-3);
    let pixels = Array::random([4, 1, 28, 28], 3, -1.0, 1.0);
    let measure = || {
        device.synchronize().unwrap();
        let memory = device.memory();
        ((memory.in_use, memory.cached, memory.peak), resident())
    };
    let mut measured = Vec::new();
    for step in 1..=steps[2] {
        let x = pixels.to_tensor(device);
        let y = Tensor::from_ids(&[1, 2, 3, 4], [4], device).unwrap();
        let loss = network.forward(&x).unwrap().cross_entropy(&y).unwrap();
        adam.step(&loss.backward().unwrap()).unwrap();
        if step % 20 == 0 {
            assert!(loss.item().unwrap().is_finite());
        }
        if steps.contains(&step) {
            drop((loss, x, y));
            measured.push(measure());
        }
    }
    measured.try_into().unwrap()
}
