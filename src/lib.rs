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
mod random;
mod shape;
mod tensor;

pub use autograd::{Gradients, no_grad};
pub use cpu::CpuDevice;
pub use device::{Counts, Device};
pub use error::{Error, Result};
pub use ops::pool2d::Pool2dOptions;
pub use ops::unary::Activation;
pub use pool::MemoryUse;
pub use shape::{Layout, MAX_RANK, Shape};
pub use tensor::{DType, Tensor};
