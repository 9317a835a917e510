//! The ops, one file each: shape rule, CPU twin, GPU dispatch and gradient side by side.

pub mod binary;
pub mod copy;
pub mod cross_entropy;

pub mod reduce;
pub mod softmax;
pub mod unary;
mod view;

use crate::gpu::Kernel;
use crate::shape::{Layout, MAX_RANK, collapse};
use crate::{Error, Result};

/// Every kernel of the crate, for the tests that compile each with all its constants.
pub fn kernels() -> Vec<&'static Kernel> {
    [
        copy::KERNELS,
        binary::KERNELS,
        unary::KERNELS,
        reduce::KERNELS,
        softmax::KERNELS,
        cross_entropy::KERNELS,
    ]
    .concat()
}

/// Invocations a workgroup of the element-wise kernels.
pub(crate) const WG: u32 = 256;
/// Elements an invocation of the element-wise kernels.
pub(crate) const PER: u32 = 4;

/// The workgroups that cover `count` elements, element-wise.
pub(crate) fn covering(count: usize) -> usize {
    count.div_ceil((WG * PER) as usize)
}

/// Up to three strided operands, as `shared/strided.wgsl` walks them.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Walk {
    axes: [[u32; 4]; MAX_RANK],
    offsets: [u32; 3],
    rank: u32,
}

impl Walk {
    /// # Errors
    /// More elements than a `u32` counts.
    pub(crate) fn new<const N: usize>(op: &'static str, operands: [Layout; N]) -> Result<Walk> {
        word(op, operands[0].shape.numel())?;
        let operands = collapse(operands);
        let shape = operands[0].shape;
        let mut walk = Walk { axes: [[0; 4]; MAX_RANK], offsets: [0; 3], rank: shape.rank() as u32 };
        for (at, operand) in operands.iter().enumerate() {
            walk.offsets[at] = word(op, operand.offset)?;
            for axis in 0..shape.rank() {
                walk.axes[axis][at] = word(op, operand.strides[axis])?;
                walk.axes[axis][3] = word(op, shape[axis])?;
            }
        }
        Ok(walk)
    }
}

/// A size or position as the kernels count it.
///
/// # Errors
/// It does not fit a `u32`.
pub(crate) fn word(op: &'static str, value: usize) -> Result<u32> {
    u32::try_from(value)
        .map_err(|_| Error::shape(op, format!("{value} elements are more than a kernel can count")))
}

/// Checks the number of inputs.
pub(crate) fn arity<const N: usize>(
    op: &'static str,
    inputs: &[crate::op::Meta],
) -> Result<[crate::op::Meta; N]> {
    let wrong = |_| Error::shape(op, format!("takes {N} inputs, got {}", inputs.len()));
    inputs.try_into().map_err(wrong)
}

/// Checks that an input holds `f32`.
pub(crate) fn floats(op: &'static str, inputs: &[crate::op::Meta]) -> Result<()> {
    match inputs.iter().find(|meta| meta.dtype != crate::DType::F32) {
        None => Ok(()),
        Some(meta) => Err(Error::shape(op, format!("wants f32, got u32 of shape {}", meta.shape))),
    }
}
