//! gristmill on a GPU and on its CPU twins. GPU work is recorded, so the time includes waiting for its end.

use std::time::{Duration, Instant};

use gristmill::nn::{Layer, Module, Sequential};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{AttentionOptions, Conv2dOptions, Device, Pool2dOptions, Tensor};

use crate::cases::{Array, BATCH, BATCHES, Case, LEARNING_RATE, LOSSES, Op, batch};
use crate::engine::{Engine, Job, Result};
use crate::version;

#[path = "../../../examples/common/network.rs"]
mod network;

pub struct Gristmill(Device);

pub fn gpu() -> Result<Box<dyn Engine>> {
    Ok(Box::new(Gristmill(Device::gpu()?)))
}

pub fn cpu() -> Result<Box<dyn Engine>> {
    Ok(Box::new(Gristmill(Device::cpu())))
}

impl Engine for Gristmill {
    fn about(&self) -> String {
        format!("gristmill {} on {}", version("gristmill"), self.0)
    }

    fn start(&mut self, case: &Case) -> Result<Box<dyn Job>> {
        if case.op == Op::TrainStep {
            return Ok(Box::new(TrainJob::new(case, &self.0)?));
        }
        let inputs = case.inputs.iter().map(|array| tensor(array, &self.0)).collect::<Result<Vec<_>>>()?;
        if let Op::Conv2dBackward { pad } = case.op {
            let leaves = inputs.iter().map(Tensor::requires_grad).collect::<gristmill::Result<Vec<_>>>()?;
            return Ok(Box::new(BackwardJob { leaves, pad, grads: Vec::new() }));
        }
        Ok(Box::new(OpJob { op: case.op, inputs, output: None }))
    }
}

fn tensor(array: &Array, device: &Device) -> Result<Tensor> {
    Ok(Tensor::from_slice(&array.data, &array.shape, device)?)
}

fn conv2d(x: &[Tensor], pad: usize) -> gristmill::Result<Tensor> {
    x[0].conv2d(&x[1], Some(&x[2]), Conv2dOptions { padding: [pad; 2], ..Default::default() })
}

struct OpJob {
    op: Op,
    inputs: Vec<Tensor>,
    output: Option<Tensor>,
}

impl OpJob {
    fn work(&self) -> gristmill::Result<Tensor> {
        let x = &self.inputs;
        match self.op {
            Op::Matmul => x[0].matmul(&x[1]),
            Op::Conv2d { pad } => conv2d(x, pad),
            Op::MaxPool2d => x[0].max_pool2d(Pool2dOptions::new([2, 2])),
            Op::Softmax => x[0].softmax(-1),
            Op::Attention => x[0].scaled_dot_product_attention(&x[1], &x[2], &AttentionOptions::default()),
            Op::Add => x[0].add(&x[1]),
            Op::Sum => x[0].sum_all(),
            Op::GeluMulAdd => x[0].mul(&x[1])?.add_scalar(1.0)?.gelu(),
            Op::Conv2dBackward { .. } | Op::TrainStep => unreachable!("these have a job of their own"),
        }
    }
}

impl Job for OpJob {
    fn run(&mut self) -> Result<Duration> {
        let start = Instant::now();
        let output = self.work()?;
        output.device().synchronize()?;
        let time = start.elapsed();
        self.output = Some(output);
        Ok(time)
    }

    fn output(&mut self) -> Result<Vec<Vec<f32>>> {
        Ok(vec![self.output.as_ref().ok_or("not run yet")?.to_vec()?])
    }
}

struct BackwardJob {
    leaves: Vec<Tensor>,
    pad: usize,
    grads: Vec<Tensor>,
}

impl Job for BackwardJob {
    fn run(&mut self) -> Result<Duration> {
        // backward() frees the graph, so each run needs its own forward pass.
        let y = conv2d(&self.leaves, self.pad)?;
        y.device().synchronize()?;

        let start = Instant::now();
        let grads = y.backward_from(&Tensor::ones(y.shape(), y.device())?)?;
        y.device().synchronize()?;
        let time = start.elapsed();
        self.grads = self.leaves.iter().map(|leaf| grads.get(leaf).cloned()).collect::<gristmill::Result<_>>()?;
        Ok(time)
    }

    fn output(&mut self) -> Result<Vec<Vec<f32>>> {
        Ok(self.grads.iter().map(Tensor::to_vec).collect::<gristmill::Result<_>>()?)
    }
}

struct TrainJob {
    device: Device,
    net: Sequential,
    adam: Adam,
    batches: Vec<(Vec<f32>, Vec<u32>)>,
    step: usize,
    losses: Vec<f32>,
}

impl TrainJob {
    fn new(case: &Case, device: &Device) -> Result<Self> {
        let net = network::mnist_cnn(device, 1, 0.0)?;
        let parameters = net.parameters();
        for (i, (parameter, array)) in parameters.iter().zip(&case.inputs).enumerate() {
            let value = tensor(array, device)?;
            // gristmill stores dense weights as [out, in].
            parameter.set(&if i == 2 || i == 4 { value.t()? } else { value })?;
        }
        let owned = |(x, y): (&[f32], Vec<i32>)| (x.to_vec(), y.iter().map(|&label| label as u32).collect());
        Ok(TrainJob {
            device: device.clone(),
            net,
            adam: Adam::new(parameters, LEARNING_RATE as f32),
            batches: (0..BATCHES).map(|i| owned(batch(case, i))).collect(),
            step: 0,
            losses: Vec::new(),
        })
    }

    fn work(&mut self) -> gristmill::Result<Tensor> {
        let (images, labels) = &self.batches[self.step % BATCHES];
        let images = Tensor::from_slice(images, [BATCH, 1, 28, 28], &self.device)?;
        let labels = Tensor::from_ids(labels, [BATCH], &self.device)?;
        let loss = self.net.forward(&images)?.cross_entropy(&labels)?;
        self.adam.step(&loss.backward()?)?;
        Ok(loss)
    }
}

impl Job for TrainJob {
    fn run(&mut self) -> Result<Duration> {
        let start = Instant::now();
        let loss = self.work()?;
        self.device.synchronize()?;
        let time = start.elapsed();
        self.step += 1;
        if self.losses.len() < LOSSES {
            self.losses.push(loss.item()?);
        }
        Ok(time)
    }

    fn output(&mut self) -> Result<Vec<Vec<f32>>> {
        Ok(vec![self.losses.clone()])
    }
}
