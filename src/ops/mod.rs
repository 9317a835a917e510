//! The ops, one file each: shape rule, CPU twin, GPU dispatch and gradient side by side.

pub mod arg;
pub mod binary;
pub mod conv2d;
pub mod copy;
pub mod cross_entropy;
pub mod cumsum;
pub mod dropout;
pub(crate) mod fold;
pub mod logsumexp;
pub mod matmul;
pub mod moments;
pub mod norm;
pub mod pool2d;
pub mod reduce;
pub mod softmax;
pub mod unary;
mod view;

use crate::gpu::{GpuBuffer, Kernel, Recorder};
use crate::op::{GpuOut, GpuView};
use crate::optim;
use crate::shape::{Layout, MAX_RANK, collapse};
use crate::{Error, Result, params};

/// Every kernel of the crate, for the tests that compile each with all its constants.
pub fn kernels() -> Vec<&'static Kernel> {
    [
        arg::KERNELS,
        binary::KERNELS,
        conv2d::KERNELS,
        copy::KERNELS,
        cross_entropy::KERNELS,
        cumsum::KERNELS,
        dropout::KERNELS,
        logsumexp::KERNELS,
        matmul::KERNELS,
        moments::KERNELS,
        norm::KERNELS,
        optim::KERNELS,
        pool2d::KERNELS,
        reduce::KERNELS,
        softmax::KERNELS,
        unary::KERNELS,
    ]
    .concat()
}

/// Invocations a workgroup of the element-wise kernels.
pub(crate) const WG: u32 = 256;

params! {
    /// Up to three strided operands, as `shared/strided.wgsl` walks them.
    pub(crate) struct Walk {
        axes: [[u32; 4]; MAX_RANK],
        offsets: [u32; 3],
        rank: u32,
    }
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

params! {
    /// The parameters of every element-wise kernel, as `shared/elementwise.wgsl` has them.
    pub(crate) struct Elementwise {
        walk: Walk,
        count: u32,
        /// Bit i: operand i is one element throughout.
        scalars: u32,
        pad: [u32; 2],
    }
}

impl Elementwise {
    /// # Errors
    /// More elements than a `u32` counts.
    pub(crate) fn new<const N: usize>(
        op: &'static str,
        operands: [Layout; N],
        count: usize,
    ) -> Result<Elementwise> {
        Ok(Elementwise { walk: Walk::new(op, operands)?, count: word(op, count)?, scalars: 0, pad: [0; 2] })
    }
}

/// The two entries of an element-wise kernel.
pub(crate) struct ElementwiseKernels {
    pub(crate) strided: &'static Kernel,
    pub(crate) vector: &'static Kernel,
}

impl ElementwiseKernels {
    /// Computes every element of `y` from operands that `y`'s shape was broadcast from, by four at a time where
    /// their layouts allow it. `op` is the kernel's constant OP.
    pub(crate) fn dispatch<const N: usize>(
        &self,
        rec: &mut Recorder,
        name: &'static str,
        op: u32,
        operands: [GpuView; N],
        y: GpuOut,
    ) -> Result<()> {
        let mut layouts = operands.map(|operand| operand.layout);
        for layout in &mut layouts {
            *layout = layout.expand(y.shape, name)?;
        }
        let buffers: Vec<&GpuBuffer> = operands.iter().map(|o| o.buffer).chain([y.buffer]).collect();
        let collapsed = collapse(layouts);
        let scalar = |layout: &Layout| {
            layout.shape.rank() == 0 || (layout.shape.rank() == 1 && layout.strides[0] == 0)
        };
        let run = |layout: &Layout| {
            layout.shape.rank() == 1 && layout.strides[0] == 1 && layout.offset.is_multiple_of(4)
        };
        // The first operand sets the pace; only the others may stand still.
        let fits = run(&collapsed[0]) && collapsed[1..].iter().all(|layout| run(layout) || scalar(layout))
            || (N > 1 && scalar(&collapsed[0]) && collapsed[1..].iter().all(run));
        let scalars = (0..).zip(&collapsed).map(|(at, layout)| u32::from(scalar(layout)) << at).sum();
        let count = y.shape.numel();
        let params = Elementwise { scalars, ..Elementwise::new(name, layouts, count)? };
        let (kernel, handled) = if fits { (self.vector, 4 * WG) } else { (self.strided, WG) };
        rec.dispatch(kernel, &[op, WG], &buffers, &params, count.div_ceil(handled as usize))
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
