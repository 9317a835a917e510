//! The memory of a tensor.

use crate::cpu::CpuBuffer;
use crate::device::Device;
use crate::dry_run;
use crate::error::caller;
use crate::gpu::GpuBuffer;
use crate::shape::Shape;
use crate::{Error, Result};

/// A buffer on one of the devices, or none: in a dry run.
#[derive(Debug)]
pub(crate) enum Buffer {
    Cpu(CpuBuffer),
    Gpu(GpuBuffer),
    Absent,
}

/// The error of using the elements of a tensor that has none.
#[track_caller]
pub(crate) fn absent(op: &'static str) -> Error {
    Error::argument(op, "a tensor of a dry run has a shape, but no elements")
}

/// Memory for a tensor of `shape`, with stale content.
#[track_caller]
pub(crate) fn allocate(device: &Device, shape: Shape) -> Result<Buffer> {
    let here = caller();
    let buffer = match device {
        _ if dry_run::is_active() => Ok(Buffer::Absent),
        Device::Cpu(cpu) => cpu.allocate(shape.numel()).map(Buffer::Cpu),
        Device::Gpu(gpu) => gpu.allocate(shape.numel()).map(Buffer::Gpu),
    };
    buffer.map_err(|error| error.or_at(here))
}
