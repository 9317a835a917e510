//! GPU compute kernels written by hand in WGSL, and a small tensor and autograd runtime that dispatches them through wgpu:
//! on any Vulkan, Metal or DX12 device. Every kernel has a CPU twin in rayon, which runs where there is no GPU.
//!
//! ```
//! use gristmill::{Activation, Device, Tensor};
//!
//! let device = Device::best()?; // a GPU, or the CPU twins
//! let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0], [2, 2], &device)?;
//! let w = Tensor::from_slice(&[0.5, -1.0, 2.0, 0.0, 1.0, 1.0], [3, 2], &device)?.requires_grad()?;
//! let labels = Tensor::from_ids(&[2, 0], [2], &device)?;
//!
//! let logits = x.linear(&w, None, Activation::None)?;
//! let loss = logits.cross_entropy(&labels)?;
//! let gradients = loss.backward()?;
//! assert_eq!(gradients.get(&w)?.shape(), w.shape());
//! # Ok::<(), gristmill::Error>(())
//! ```
//!
//! | to | see |
//! |---|---|
//! | choose a device | [`Device`], the environment variable `GRISTMILL_DEVICE` |
//! | compute | [`Tensor`], whose methods follow PyTorch and NumPy |
//! | take gradients | [`Tensor::requires_grad`], [`Tensor::backward`], [`Gradients`], [`no_grad`] |
//! | build and train a network | [`nn`], [`optim`], [`train`], [`metrics`] |
//! | read, split, prepare and load data | [`data`] |
//! | save and load | [`io`], [`optim::save_checkpoint`] |
//! | log a training for TensorBoard | `tensorboard`, with the feature of that name |
//! | time kernels, count FLOPs | [`gpu::GpuDevice::profile`], [`dry_run`] |
//! | read the plainest kernels | [`naive`] |
//! | write an op with a kernel of your own | [`Pointwise`], [`op::Op`], [`gpu::Kernel`], the example `custom_op` |
//! | test ops against f64 references | [`proof`] |
//!
//! Every op returns a [`Result`]. Ops run in the order of the calls, and the host waits only where a result is read.
//!
//! The feature `cli` builds the program `gristmill`, whose `doctor` checks the GPU of a machine. The feature `images` reads PNG
//! and JPEG, for `data::ImageFolder`.

// rustdoc follows a model's tensors through all of wgpu's types to learn whether they are Sync.
#![recursion_limit = "256"]
// No user input may panic; tests may.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

/// The examples of the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

// The derive macro names the crate from outside.
extern crate self as gristmill;

pub mod autograd;
mod budget;
mod cpu;
pub mod data;
mod device;
mod display;
mod dry_run;
mod error;
mod expr;
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
#[cfg(feature = "tensorboard")]
pub mod tensorboard;
pub mod train;

pub use autograd::{Gradients, no_grad};
/// Named by the expansion of [`params!`].
#[doc(hidden)]
pub use bytemuck;
pub use cpu::{CpuBuffer, CpuDevice};
pub use device::{Counts, Device};
pub use dry_run::dry_run;
pub use error::{Error, Line, Result};
pub use expr::{Chain, Expr};
pub use kernels::kernels;
pub use meta::DType;
pub use ops::attention::{AttentionMask, AttentionOptions};
pub use ops::avg_pool2d::AvgPool2dOptions;
pub use ops::conv2d::{
    Conv1dOptions, Conv2dKernel, Conv2dOptions, ConvTranspose1dOptions, ConvTranspose2dOptions,
};
pub use ops::cross_entropy::CrossEntropyOptions;
pub use ops::index::{Index, Indices};
pub use ops::matmul::MatMulKernel;
pub use ops::normalize::BatchNorm;
pub use ops::pad::PadMode;
pub use ops::pointwise::{Pointwise, parallel_map};
pub use ops::pool2d::Pool2dOptions;
pub use ops::rotary::RotaryPairs;
pub use ops::unary::Activation;
pub use ops::view::Dims;
pub use pool::MemoryUse;
pub use random::Generator;
pub use shape::{Layout, MAX_RANK, Shape};
pub use tensor::Tensor;
