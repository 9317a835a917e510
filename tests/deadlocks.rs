//! No lock of the crate is held while code of the program runs on the same thread: tasks that rayon runs on a waiting
//! thread, or the `gpu` method of a custom op.

mod common;

use common::works::{double, gpu, tensor};
use common::*;
use gristmill::gpu::{GpuOptions, Recorder};
use gristmill::nn::{BatchNorm1d, Init, Layer, Module, Parameter};
use gristmill::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, apply};
use gristmill::optim::{Adam, Optimizer, Sgd};
use gristmill::{CpuDevice, Device, Gradients, Result, Tensor};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Runs `work` on a new thread and fails after a minute; it should take a second.
fn within_a_minute(what: &str, work: impl FnOnce() + Send + 'static) {
    let (done, waited_for) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    match waited_for.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: a deadlock"),
        _ => thread.join().unwrap(),
    }
}

/// Runs `work` on a thread of a pool, and tasks that use `parameters` on the others. Some of those help with `work`,
/// whose thread then waits for them and runs a task meanwhile. Each task takes `task`.
fn beside_tasks_that_use(parameters: &[Parameter], task: Duration, mut work: impl FnMut() + Send) {
    for threads in [3, 5, 8] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let begun = AtomicBool::new(false);
        pool.scope(|scope| {
            scope.spawn(|_| {
                begun.store(true, Ordering::Release);
                work();
            });
            while !begun.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            for _ in 0..1000 {
                scope.spawn(|_| {
                    std::thread::sleep(task);
                    for parameter in parameters {
                        assert_eq!(parameter.tensor().shape(), parameter.shape());
                    }
                });
            }
        });
    }
}

fn gradient(parameter: &Parameter) -> Gradients {
    parameter.tensor().sum_all().unwrap().backward().unwrap()
}

#[test]
fn an_optimizer_step_does_not_deadlock_with_tasks_that_use_its_parameter() {
    let device = device();
    within_a_minute("a step beside tasks", move || {
        // Only the CPU uses rayon.
        let count = if device.is_gpu() { 1 << 16 } else { 4 << 20 };
        let parameter = Parameter::new(&Tensor::zeros([count], &device).unwrap()).unwrap();
        let gradients = gradient(&parameter);
        let all = || [parameter.clone()];
        let optimizers: [Box<dyn Optimizer + Send>; 3] = [
            Box::new(Adam::new(all(), 0.1)),
            Box::new(Sgd::new(all(), 0.1)),
            Box::new(Sgd::new(all(), 0.1).momentum(0.9)),
        ];
        for mut optimizer in optimizers {
            beside_tasks_that_use(std::slice::from_ref(&parameter), Duration::ZERO, || {
                optimizer.step(&gradients).unwrap();
            });
        }
    });
}

#[test]
fn batch_norm_does_not_deadlock_with_tasks_that_use_its_statistics() {
    let device = device();
    within_a_minute("batch norm beside tasks", move || {
        const CHANNELS: usize = 1 << 18;
        let norm = BatchNorm1d::new(CHANNELS, &Init::new(1, &device)).unwrap();
        let input = Tensor::uniform([4, CHANNELS], -1.0, 1.0, 2, &device).unwrap();
        let buffers: Vec<Parameter> =
            norm.named_state().into_iter().skip(2).map(|(_, buffer)| buffer).collect();
        beside_tasks_that_use(&buffers, Duration::from_micros(200), || {
            // Parameters with another handle can't be updated in place.
            let _held: Vec<Tensor> = buffers.iter().map(Parameter::tensor).collect();
            norm.forward(&input).unwrap();
        });
    });
}

#[test]
fn threads_that_step_one_parameter_do_not_deadlock() {
    let device = device();
    within_a_minute("steps on eight threads", move || {
        let parameter = Parameter::new(&tensor(&[300, 300], 1, &device)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut optimizer = Adam::new([parameter.clone()], 0.1);
                    for _ in 0..10 {
                        optimizer.step(&gradient(&parameter)).unwrap();
                    }
                });
            }
        });
        assert!(parameter.tensor().to_vec().unwrap().iter().all(|w| w.is_finite()));
    });
}

/// Doubles its input, with tensors of the same device that it uses while it records.
struct Nested;

impl Op for Nested {
    fn name(&self) -> &'static str {
        "nested"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        Ok(inputs.to_vec())
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        0
    }

    fn cpu(&self, _: &Arc<CpuDevice>, _: &[CpuView], _: &mut [CpuOut]) -> Result<()> {
        unreachable!("it is run on GPUs")
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let device = Device::Gpu(rec.device().clone());
        let two = Tensor::full(inputs[0].layout.shape, 2.0, &device)?.add_scalar(0.0)?;
        assert_eq!(two.to_vec()?, vec![2.0; inputs[0].layout.shape.numel()]);
        double(rec, &inputs[0], &outputs[0])
    }
}

#[test]
fn an_op_may_use_tensors_of_its_own_device_while_it_records() {
    let Some(device) = opened(&GpuOptions::default()) else { return };
    within_a_minute("an op within an op", move || {
        let x = tensor(&[64], 1, &device);
        let doubled: Vec<f32> = x.to_vec().unwrap().iter().map(|x| 2.0 * x).collect();
        assert_eq!(apply(Nested, &[&x]).unwrap().to_vec().unwrap(), doubled);
        assert!(gpu(&device).counts().dispatches > 0);
    });
}
