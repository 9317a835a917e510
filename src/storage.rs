//! The memory of a tensor.

use crate::Result;
use crate::cpu::CpuBuffer;
use crate::device::Device;
use crate::gpu::GpuBuffer;
use crate::shape::Shape;

/// A buffer on one of the devices.
#[derive(Debug)]
pub(crate) enum Buffer {
    Cpu(CpuBuffer),
    Gpu(GpuBuffer),
}

/// Memory for a tensor of `shape`, with stale content.
pub(crate) fn allocate(device: &Device, shape: Shape) -> Result<Buffer> {
    match device {
        Device::Cpu(cpu) => cpu.allocate(shape.numel()).map(Buffer::Cpu),
        Device::Gpu(gpu) => gpu.allocate(shape.numel()).map(Buffer::Gpu),
    }
}
