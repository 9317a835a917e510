//! The cases: one table for all engines.

use crate::random::Random;

/// The operation of a case. Everything is f32 and row-major.
#[derive(Clone, Copy, PartialEq)]
pub enum Op {
    /// `[m, k] x [k, n]`
    Matmul,
    /// x `[n, c, h, w]`, weight `[o, c, kh, kw]` and bias `[o]`; stride 1.
    Conv2d {
        pad: usize,
    },
    /// The gradients of x, weight and bias of that convolution, for an output gradient of ones. The forward pass is not
    /// timed.
    Conv2dBackward {
        pad: usize,
    },
    /// 2x2 windows, stride 2.
    MaxPool2d,
    /// Over the last axis.
    Softmax,
    /// Scaled-dot-product attention of q, k and v, each `[1, heads, length, size]`, without a mask.
    Attention,
    Add,
    /// The sum of all elements.
    Sum,
    /// `gelu(a * b + 1)`, with the exact GELU (erf).
    GeluMulAdd,
    /// One training step: see [`train_inputs`].
    TrainStep,
}

impl Op {
    /// The name in the Python scripts, and the padding.
    pub fn for_python(self) -> (&'static str, usize) {
        match self {
            Op::Matmul => ("matmul", 0),
            Op::Conv2d { pad } => ("conv2d", pad),
            Op::Conv2dBackward { pad } => ("conv2d_backward", pad),
            Op::MaxPool2d => ("max_pool2d", 0),
            Op::Softmax => ("softmax", 0),
            Op::Attention => ("attention", 0),
            Op::Add => ("add", 0),
            Op::Sum => ("sum", 0),
            Op::GeluMulAdd => ("gelu_mul_add", 0),
            Op::TrainStep => ("train_step", 0),
        }
    }
}

pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

impl Array {
    /// The shape as an array, for APIs with a static rank.
    pub fn dims<const D: usize>(&self) -> [usize; D] {
        self.shape[..].try_into().expect("a case of another rank")
    }
}

pub struct Case {
    pub name: &'static str,
    pub op: Op,
    pub inputs: Vec<Array>,
}

type Fill = fn() -> (Op, Vec<Array>);

/// Names and constructors, so that only the selected cases allocate data.
pub const CASES: &[(&str, Fill)] = &[
    ("matmul 256", || (Op::Matmul, uniform(&[&[256, 256], &[256, 256]]))),
    ("matmul 512", || (Op::Matmul, uniform(&[&[512, 512], &[512, 512]]))),
    ("matmul 1024", || (Op::Matmul, uniform(&[&[1024, 1024], &[1024, 1024]]))),
    ("conv2d 64x1x28x28, 32 of 3x3", || (Op::Conv2d { pad: 0 }, uniform(SMALL_CONV))),
    ("conv2d 8x64x56x56, 64 of 3x3, pad 1", || {
        (Op::Conv2d { pad: 1 }, uniform(&[&[8, 64, 56, 56], &[64, 64, 3, 3], &[64]]))
    }),
    ("conv2d backward 64x1x28x28, 32 of 3x3", || (Op::Conv2dBackward { pad: 0 }, uniform(SMALL_CONV))),
    ("max-pool 64x32x26x26, 2x2", || (Op::MaxPool2d, uniform(&[&[64, 32, 26, 26]]))),
    ("softmax 4096x1024", || (Op::Softmax, uniform(&[&[4096, 1024]]))),
    ("softmax 256x32768", || (Op::Softmax, uniform(&[&[256, 32768]]))),
    ("attention 1x8x512x64", || (Op::Attention, uniform(&[&[1, 8, 512, 64][..]; 3]))),
    ("attention 1x8x1024x64", || (Op::Attention, uniform(&[&[1, 8, 1024, 64][..]; 3]))),
    ("add 4M", || (Op::Add, uniform(&[&[1 << 22], &[1 << 22]]))),
    ("sum 4M", || (Op::Sum, positive(&[1 << 22]))),
    ("gelu(a*b+1) 4M", || (Op::GeluMulAdd, uniform(&[&[1 << 22], &[1 << 22]]))),
    ("training step, batch 64", || (Op::TrainStep, train_inputs())),
];

const SMALL_CONV: &[&[usize]] = &[&[64, 1, 28, 28], &[32, 1, 3, 3], &[32]];

/// Numbers in [-1, 1).
fn uniform(shapes: &[&[usize]]) -> Vec<Array> {
    let mut random = Random::new(1);
    shapes.iter().map(|shape| random.array(shape, -1.0, 1.0)).collect()
}

/// Numbers in [0, 1), whose sum does not cancel.
fn positive(shape: &[usize]) -> Vec<Array> {
    vec![Random::new(1).array(shape, 0.0, 1.0)]
}

/// The number of batches that the training steps cycle through.
pub const BATCHES: usize = 4;
pub const BATCH: usize = 64;
pub const LEARNING_RATE: f64 = 1e-3;
/// Adam's epsilon, as in PyTorch; burn's default is 1e-5.
pub const EPSILON: f64 = 1e-8;
/// The output of a training job: the losses of this many first steps.
pub const LOSSES: usize = 5;

/// The network and its data: conv 32 of 3x3, relu, max-pool 2x2, flatten (5408), dense 128, relu, dense 10, softmax
/// cross-entropy, Adam. The inputs are the six parameters (dense weights as `[in, out]`), the images `[BATCHES, BATCH,
/// 1, 28, 28]` and the labels `[BATCHES, BATCH]`, whole numbers. A step uploads batch `step % BATCHES` and runs
/// forward, backward and the optimizer.
fn train_inputs() -> Vec<Array> {
    let mut random = Random::new(2);
    let mut inputs = Vec::new();
    for (weight, bias, fan_in) in
        [(&[32, 1, 3, 3][..], 32, 9), (&[5408, 128], 128, 5408), (&[128, 10], 10, 128)]
    {
        let bound = 1.0 / (fan_in as f32).sqrt();
        inputs.push(random.array(weight, -bound, bound));
        inputs.push(random.array(&[bias], -bound, bound));
    }
    inputs.push(random.array(&[BATCHES, BATCH, 1, 28, 28], 0.0, 1.0));
    let mut labels = random.array(&[BATCHES, BATCH], 0.0, 10.0);
    labels.data.iter_mut().for_each(|label| *label = label.floor());
    inputs.push(labels);
    inputs
}

/// A batch of a training case: images and labels.
pub fn batch(case: &Case, step: usize) -> (&[f32], Vec<i32>) {
    let index = step % BATCHES;
    let images = &case.inputs[6].data[index * BATCH * 784..][..BATCH * 784];
    let labels = &case.inputs[7].data[index * BATCH..][..BATCH];
    (images, labels.iter().map(|&label| label as i32).collect())
}
