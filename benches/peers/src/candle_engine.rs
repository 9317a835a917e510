//! candle on the CPU. It computes eagerly, so there is nothing to wait for.

use std::time::{Duration, Instant};

use candle_core::{D, Device, Tensor, Var};
use candle_nn::{AdamW, Conv2d, Linear, Module, Optimizer, ParamsAdamW, loss, ops};

use crate::cases::{Array, BATCH, BATCHES, Case, EPSILON, LEARNING_RATE, LOSSES, Op, batch};
use crate::engine::{Engine, Job, Result};
use crate::version;

type CandleResult<T> = candle_core::Result<T>;

pub struct Candle;

pub fn cpu() -> Result<Box<dyn Engine>> {
    Ok(Box::new(Candle))
}

fn tensor(array: &Array) -> CandleResult<Tensor> {
    Tensor::from_slice(&array.data, &array.shape[..], &Device::Cpu)
}

fn host(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

impl Engine for Candle {
    fn about(&self) -> String {
        format!("candle {} (CPU)", version("candle-core"))
    }

    fn start(&mut self, case: &Case) -> Result<Box<dyn Job>> {
        if case.op == Op::TrainStep {
            return Ok(Box::new(TrainJob::new(case)?));
        }
        let mut inputs = case.inputs.iter().map(tensor).collect::<CandleResult<Vec<_>>>()?;
        if matches!(case.op, Op::Conv2d { .. } | Op::Conv2dBackward { .. }) {
            inputs[2] = inputs[2].reshape((1, (), 1, 1))?;
        }
        if let Op::Conv2dBackward { pad } = case.op {
            let vars = inputs.iter().map(Var::from_tensor).collect::<CandleResult<Vec<_>>>()?;
            let y = conv2d(&vars, pad)?;
            return Ok(Box::new(BackwardJob { vars, y, grads: Vec::new() }));
        }
        Ok(Box::new(OpJob { op: case.op, inputs, output: None }))
    }
}

fn conv2d(inputs: &[impl std::ops::Deref<Target = Tensor>], pad: usize) -> CandleResult<Tensor> {
    inputs[0].conv2d(&inputs[1], pad, 1, 1, 1)?.broadcast_add(&inputs[2])
}

struct OpJob {
    op: Op,
    inputs: Vec<Tensor>,
    output: Option<Tensor>,
}

impl OpJob {
    fn work(&self) -> CandleResult<Tensor> {
        let x = &self.inputs;
        match self.op {
            Op::Matmul => x[0].matmul(&x[1]),
            Op::Conv2d { pad } => conv2d(&x.iter().collect::<Vec<_>>(), pad),
            Op::MaxPool2d => x[0].max_pool2d(2),
            Op::Softmax => ops::softmax_last_dim(&x[0]),
            Op::Attention => {
                let scale = (x[0].dim(D::Minus1)? as f64).powf(-0.5);
                ops::softmax_last_dim(&(x[0].matmul(&x[1].t()?)? * scale)?)?.matmul(&x[2])
            }
            Op::Add => &x[0] + &x[1],
            Op::Sum => x[0].sum_all(),
            Op::GeluMulAdd => ((&x[0] * &x[1])? + 1.0)?.gelu_erf(),
            Op::Conv2dBackward { .. } | Op::TrainStep => unreachable!("these have a job of their own"),
        }
    }
}

impl Job for OpJob {
    fn run(&mut self) -> Result<Duration> {
        let start = Instant::now();
        let output = self.work()?;
        let time = start.elapsed();
        self.output = Some(output);
        Ok(time)
    }

    fn output(&mut self) -> Result<Vec<Vec<f32>>> {
        Ok(vec![host(self.output.as_ref().ok_or("not run yet")?)?])
    }
}

struct BackwardJob {
    vars: Vec<Var>,
    y: Tensor,
    grads: Vec<Tensor>,
}

impl Job for BackwardJob {
    fn run(&mut self) -> Result<Duration> {
        let start = Instant::now();
        let grads = self.y.backward()?;
        let time = start.elapsed();
        let grad = |var: &Var| grads.get(var).cloned().ok_or("no gradient");
        self.grads = self.vars.iter().map(grad).collect::<std::result::Result<_, _>>()?;
        Ok(time)
    }

    fn output(&mut self) -> Result<Vec<Vec<f32>>> {
        self.grads.iter().map(host).collect()
    }
}

struct TrainJob {
    conv: Conv2d,
    hidden: Linear,
    last: Linear,
    adam: AdamW,
    batches: Vec<(Vec<f32>, Vec<u32>)>,
    step: usize,
    losses: Vec<f32>,
}

impl TrainJob {
    fn new(case: &Case) -> CandleResult<Self> {
        let mut vars = Vec::new();
        for (i, array) in case.inputs[..6].iter().enumerate() {
            let value = tensor(array)?;
            // candle stores dense weights as [out, in].
            let value = if i == 2 || i == 4 { value.t()?.contiguous()? } else { value };
            vars.push(Var::from_tensor(&value)?);
        }
        let [conv_weight, conv_bias, weight_1, bias_1, weight_2, bias_2] =
            [0, 1, 2, 3, 4, 5].map(|i| vars[i].as_tensor().clone());
        let adam = ParamsAdamW { lr: LEARNING_RATE, eps: EPSILON, weight_decay: 0.0, ..Default::default() };
        let owned = |(x, y): (&[f32], Vec<i32>)| (x.to_vec(), y.iter().map(|&label| label as u32).collect());
        Ok(TrainJob {
            conv: Conv2d::new(conv_weight, Some(conv_bias), Default::default()),
            hidden: Linear::new(weight_1, Some(bias_1)),
            last: Linear::new(weight_2, Some(bias_2)),
            adam: AdamW::new(vars, adam)?,
            batches: (0..BATCHES).map(|i| owned(batch(case, i))).collect(),
            step: 0,
            losses: Vec::new(),
        })
    }

    fn work(&mut self) -> CandleResult<Tensor> {
        let (images, labels) = &self.batches[self.step % BATCHES];
        let images = Tensor::from_slice(images, (BATCH, 1, 28, 28), &Device::Cpu)?;
        let labels = Tensor::from_slice(labels, BATCH, &Device::Cpu)?;
        let x = self.conv.forward(&images)?.relu()?.max_pool2d(2)?.flatten_from(1)?;
        let x = self.hidden.forward(&x)?.relu()?;
        let loss = loss::cross_entropy(&self.last.forward(&x)?, &labels)?;
        self.adam.backward_step(&loss)?;
        Ok(loss)
    }
}

impl Job for TrainJob {
    fn run(&mut self) -> Result<Duration> {
        let start = Instant::now();
        let loss = self.work()?;
        let time = start.elapsed();
        self.step += 1;
        if self.losses.len() < LOSSES {
            self.losses.push(loss.to_scalar()?);
        }
        Ok(time)
    }

    fn output(&mut self) -> Result<Vec<Vec<f32>>> {
        Ok(vec![self.losses.clone()])
    }
}
