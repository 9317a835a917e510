//! gristmill: GPU compute kernels written by hand in WGSL, behind a small tensor and autograd runtime.

pub mod autograd;
mod cpu;
pub mod data;
mod device;
mod error;
pub mod gpu;
pub mod metrics;
pub mod op;
pub mod ops;
mod pool;
mod shape;
mod tensor;

pub use autograd::{Gradients, no_grad};
pub use cpu::CpuDevice;
pub use device::{Counts, Device};
pub use error::{Error, Result};
pub use ops::conv2d::{Conv2dKernel, Conv2dOptions};
pub use ops::matmul::MatMulKernel;
pub use ops::unary::Activation;
pub use pool::MemoryUse;
pub use shape::{Layout, MAX_RANK, Shape};
pub use tensor::{DType, Tensor};
