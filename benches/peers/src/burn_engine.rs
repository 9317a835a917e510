//! burn, on wgpu (with fusion and autotune) and on its two CPU backends.

use std::time::{Duration, Instant};

use burn::module::Param;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::prelude::*;
use burn::tensor::activation::{gelu, relu, softmax};
use burn::tensor::module::{attention, conv2d, max_pool2d};
use burn::tensor::ops::{AttentionModuleOptions, ConvOptions, MaxPoolOptions};

use crate::cases::{Array, BATCH, Case, EPSILON, LEARNING_RATE, LOSSES, Op, batch};
use crate::engine::{Engine, Job, Result};
use crate::version;

pub struct Burn {
    device: Device,
    about: String,
}

pub fn wgpu() -> Result<Box<dyn Engine>> {
    let (device, setup) = Device::wgpu_options().init_with_setup()?;
    let adapter = setup.adapter.get_info();
    let on =
        format!("wgpu, {:?}: {} ({} {})", adapter.backend, adapter.name, adapter.driver, adapter.driver_info);
    Ok(Box::new(Burn::new(device, &on)))
}

pub fn flex() -> Result<Box<dyn Engine>> {
    Ok(Box::new(Burn::new(Device::flex(), "flex, CPU")))
}

#[allow(deprecated)]
pub fn ndarray() -> Result<Box<dyn Engine>> {
    Ok(Box::new(Burn::new(Device::ndarray(), "ndarray, CPU")))
}

impl Burn {
    fn new(device: Device, on: &str) -> Self {
        Burn { device, about: format!("burn {} ({on})", version("burn")) }
    }

    /// A job that calls `work` for each run.
    fn job<const D: usize>(&self, work: impl Fn() -> Tensor<D> + 'static) -> Box<dyn Job> {
        Box::new(OpJob { device: self.device.clone(), work, output: None })
    }
}

fn tensor<const D: usize>(array: &Array, device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(array.data.clone(), array.dims::<D>()), device)
}

fn host<const D: usize>(tensor: &Tensor<D>) -> Result<Vec<f32>> {
    let data = tensor.to_data();
    Ok(data.as_slice::<f32>().map_err(|error| format!("{error:?}"))?.to_vec())
}

impl Engine for Burn {
    fn about(&self) -> String {
        self.about.clone()
    }

    fn start(&mut self, case: &Case) -> Result<Box<dyn Job>> {
        let inputs = &case.inputs;
        let device = &self.device;
        Ok(match case.op {
            Op::Matmul => {
                let (a, b) = (tensor::<2>(&inputs[0], device), tensor::<2>(&inputs[1], device));
                self.job(move || a.clone().matmul(b.clone()))
            }
            Op::Conv2d { pad } => {
                let x = tensor::<4>(&inputs[0], device);
                let (weight, bias) = (tensor::<4>(&inputs[1], device), tensor::<1>(&inputs[2], device));
                self.job(move || conv2d(x.clone(), weight.clone(), Some(bias.clone()), conv_options(pad)))
            }
            Op::Conv2dBackward { pad } => {
                let device = device.clone().autodiff();
                let x = tensor(&inputs[0], &device).require_grad();
                let weight = tensor(&inputs[1], &device).require_grad();
                let bias = tensor(&inputs[2], &device).require_grad();
                Box::new(BackwardJob { device, x, weight, bias, pad, grads: None })
            }
            Op::MaxPool2d => {
                let x = tensor::<4>(&inputs[0], device);
                self.job(move || max_pool2d(x.clone(), MaxPoolOptions::new([2, 2])))
            }
            Op::Softmax => {
                let x = tensor::<2>(&inputs[0], device);
                self.job(move || softmax(x.clone(), 1))
            }
            Op::Attention => {
                let [q, k, v] = [0, 1, 2].map(|i| tensor::<4>(&inputs[i], device));
                let options = AttentionModuleOptions::default();
                self.job(move || attention(q.clone(), k.clone(), v.clone(), None, None, options))
            }
            Op::Add => {
                let (a, b) = (tensor::<1>(&inputs[0], device), tensor::<1>(&inputs[1], device));
                self.job(move || a.clone() + b.clone())
            }
            Op::Sum => {
                let x = tensor::<1>(&inputs[0], device);
                self.job(move || x.clone().sum())
            }
            Op::GeluMulAdd => {
                let (a, b) = (tensor::<1>(&inputs[0], device), tensor::<1>(&inputs[1], device));
                self.job(move || gelu(a.clone() * b.clone() + 1.0))
            }
            Op::TrainStep => Box::new(TrainJob::new(case, device.clone().autodiff())),
        })
    }
}

fn conv_options(pad: usize) -> ConvOptions<2> {
    ConvOptions::new([1, 1], [pad, pad], [1, 1], 1)
}

struct OpJob<F, const D: usize> {
    device: Device,
    work: F,
    output: Option<Tensor<D>>,
}

impl<F: Fn() -> Tensor<D>, const D: usize> Job for OpJob<F, D> {
    fn run(&mut self) -> Result<Duration> {
        let start = Instant::now();
        let output = (self.work)();
        self.device.sync()?;
        let time = start.elapsed();
        self.output = Some(output);
        Ok(time)
    }

    fn output(&mut self) -> Result<Vec<Vec<f32>>> {
        Ok(vec![host(self.output.as_ref().ok_or("not run yet")?)?])
    }
}

struct BackwardJob {
    device: Device,
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    pad: usize,
    grads: Option<(Tensor<4>, Tensor<4>, Tensor<1>)>,
}

impl Job for BackwardJob {
    fn run(&mut self) -> Result<Duration> {
        // backward() consumes the graph, so each run needs its own forward pass.
        let bias = Some(self.bias.clone());
        let y = conv2d(self.x.clone(), self.weight.clone(), bias, conv_options(self.pad));
        self.device.sync()?;

        let start = Instant::now();
        let grads = y.backward();
        let missing = "no gradient";
        let x = self.x.grad(&grads).ok_or(missing)?;
        let weight = self.weight.grad(&grads).ok_or(missing)?;
        let bias = self.bias.grad(&grads).ok_or(missing)?;
        self.device.sync()?;
        let time = start.elapsed();
        self.grads = Some((x, weight, bias));
        Ok(time)
    }

    fn output(&mut self) -> Result<Vec<Vec<f32>>> {
        let (x, weight, bias) = self.grads.as_ref().ok_or("not run yet")?;
        Ok(vec![host(x)?, host(weight)?, host(bias)?])
    }
}

#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    hidden: Linear,
    last: Linear,
}

impl Net {
    fn new(inputs: &[Array], device: &Device) -> Self {
        let mut net = Net {
            conv: Conv2dConfig::new([1, 32], [3, 3]).init(device),
            hidden: LinearConfig::new(5408, 128).init(device),
            last: LinearConfig::new(128, 10).init(device),
        };
        net.conv.weight = Param::from_tensor(tensor(&inputs[0], device));
        net.conv.bias = Some(Param::from_tensor(tensor(&inputs[1], device)));
        net.hidden.weight = Param::from_tensor(tensor(&inputs[2], device));
        net.hidden.bias = Some(Param::from_tensor(tensor(&inputs[3], device)));
        net.last.weight = Param::from_tensor(tensor(&inputs[4], device));
        net.last.bias = Some(Param::from_tensor(tensor(&inputs[5], device)));
        net
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = relu(self.conv.forward(images));
        let x = max_pool2d(x, MaxPoolOptions::new([2, 2])).flatten(1, 3);
        self.last.forward(relu(self.hidden.forward(x)))
    }
}

struct TrainJob {
    device: Device,
    batches: Vec<(Vec<f32>, Vec<i32>)>,
    /// `None` only while the optimizer has it, or after a failed step.
    net: Option<Net>,
    adam: ModuleOptimizer,
    step: usize,
    losses: Vec<f32>,
}

impl TrainJob {
    fn new(case: &Case, device: Device) -> Self {
        let batches =
            (0..crate::cases::BATCHES).map(|i| batch(case, i)).map(|(x, y)| (x.to_vec(), y)).collect();
        let net = Some(Net::new(&case.inputs, &device));
        let adam = AdamConfig::new().with_epsilon(EPSILON as f32).init();
        TrainJob { device, batches, net, adam, step: 0, losses: Vec::new() }
    }
}

impl Job for TrainJob {
    fn run(&mut self) -> Result<Duration> {
        let (images, labels) = self.batches[self.step % self.batches.len()].clone();
        let net = self.net.take().ok_or("a step failed before")?;

        let start = Instant::now();
        let images = Tensor::from_data(TensorData::new(images, [BATCH, 1, 28, 28]), &self.device);
        let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [BATCH]), &self.device);
        let logits = net.forward(images);
        let loss = CrossEntropyLossConfig::new().init(&self.device).forward(logits, labels);
        let grads = GradientsParams::from_grads(loss.backward(), &net);
        let net = self.adam.step(LEARNING_RATE, net, grads);
        self.device.sync()?;
        let time = start.elapsed();

        self.net = Some(net);
        self.step += 1;
        if self.losses.len() < LOSSES {
            self.losses.extend(host(&loss)?);
        }
        Ok(time)
    }

    fn output(&mut self) -> Result<Vec<Vec<f32>>> {
        Ok(vec![self.losses.clone()])
    }
}
