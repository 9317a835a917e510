#![doc = include_str!("../README.md")]
// No user input may panic; tests may.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod autograd;
mod budget;
mod cpu;
pub mod data;
mod device;
mod error;
pub mod gpu;
pub mod io;
mod kernels;
mod meta;
pub mod metrics;
pub mod naive;
pub mod nn;
pub mod op;
pub mod ops;
pub mod optim;
mod pool;
pub mod proof;
mod random;
mod shape;
mod storage;
mod tensor;

pub use autograd::{Gradients, no_grad};
pub use cpu::{CpuBuffer, CpuDevice};
pub use device::{Counts, Device};
pub use error::{Error, Result};
pub use kernels::kernels;
pub use meta::DType;
pub use ops::attention::{AttentionMask, AttentionOptions};
pub use ops::avg_pool2d::AvgPool2dOptions;
pub use ops::conv2d::{
    Conv1dOptions, Conv2dKernel, Conv2dOptions, ConvTranspose1dOptions, ConvTranspose2dOptions,
};
pub use ops::cross_entropy::CrossEntropyOptions;
pub use ops::matmul::MatMulKernel;
pub use ops::normalize::BatchNorm;
pub use ops::pad::PadMode;
pub use ops::pool2d::Pool2dOptions;
pub use ops::rotary::RotaryPairs;
pub use ops::unary::Activation;
pub use pool::MemoryUse;
pub use shape::{Layout, MAX_RANK, Shape};
pub use tensor::Tensor;
