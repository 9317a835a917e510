//! The ops, one file each: shape rule, CPU twin, GPU dispatch and gradient side by side.

pub mod arg;
pub mod attention;
pub mod avg_pool2d;
pub mod binary;
mod cat;
pub mod conv2d;
pub mod copy;
pub mod cross_entropy;
pub mod cumsum;
pub mod dropout;
pub(crate) mod fold;
mod gather;
mod glu;
pub mod logsumexp;
pub mod loss;
pub mod matmul;
pub mod moments;
pub mod norm;
mod one_hot;
pub mod pad;
pub mod pool2d;
mod recurrent;
pub mod reduce;
mod resample;
pub mod rotary;
mod scatter;
pub mod softmax;
mod sort;
pub mod standardise;
pub mod unary;
mod upsample2d;
mod view;
pub mod where_cond;

use crate::gpu::{GpuBuffer, Kernel, Recorder};
use crate::op::{GpuOut, GpuView};
use crate::optim;
pub(crate) use crate::shape::word;
use crate::shape::{Layout, MAX_RANK, Shape, collapse};
use crate::{Error, Result, params};

/// Every kernel of the crate, for the tests that compile each with all its constants.
pub fn kernels() -> Vec<&'static Kernel> {
    [
        arg::KERNELS,
        attention::KERNELS,
        binary::KERNELS,
        conv2d::KERNELS,
        copy::KERNELS,
        cross_entropy::KERNELS,
        cumsum::KERNELS,
        dropout::KERNELS,
        gather::KERNELS,
        glu::KERNELS,
        loss::KERNELS,
        matmul::KERNELS,
        one_hot::KERNELS,
        logsumexp::KERNELS,
        moments::KERNELS,
        norm::KERNELS,
        optim::KERNELS,
        pad::KERNELS,
        pool2d::KERNELS,
        recurrent::KERNELS,
        reduce::KERNELS,
        scatter::KERNELS,
        resample::KERNELS,
        rotary::KERNELS,
        softmax::KERNELS,
        sort::KERNELS,
        standardise::KERNELS,
        unary::KERNELS,
        where_cond::KERNELS,
    ]
    .concat()
}

/// Invocations a workgroup of the element-wise kernels: half of what every WebGPU device takes, so that lesser ones do too.
pub(crate) const WG: u32 = 128;

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
        /// What a function has beside its operands, such as a slope.
        attributes: [f32; 2],
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
        let walk = Walk::new(op, operands)?;
        Ok(Elementwise { walk, count: word(op, count)?, scalars: 0, attributes: [0.0; 2] })
    }

    /// For operands that `shape` was broadcast from, and whether their layouts allow four elements at a time.
    ///
    /// # Errors
    /// A shape that does not broadcast, or more elements than a `u32` counts.
    pub(crate) fn planned<const N: usize>(
        op: &'static str,
        mut layouts: [Layout; N],
        shape: Shape,
    ) -> Result<(Elementwise, bool)> {
        for layout in &mut layouts {
            *layout = layout.expand(shape, op)?;
        }
        let collapsed = collapse(layouts);
        let scalar = |layout: &Layout| {
            layout.shape.rank() == 0 || (layout.shape.rank() == 1 && layout.strides[0] == 0)
        };
        let run = |layout: &Layout| {
            layout.shape.rank() == 1 && layout.strides[0] == 1 && layout.offset.is_multiple_of(4)
        };
        let fits = collapsed.iter().all(|layout| run(layout) || scalar(layout)) && collapsed.iter().any(run);
        let scalars = (0..).zip(&collapsed).map(|(at, layout)| u32::from(scalar(layout)) << at).sum();
        Ok((Elementwise { scalars, ..Elementwise::new(op, layouts, shape.numel())? }, fits))
    }
}

/// The two entries of an element-wise kernel.
pub(crate) struct ElementwiseKernels {
    pub(crate) strided: &'static Kernel,
    pub(crate) vector: &'static Kernel,
}

impl ElementwiseKernels {
    /// Computes every element of `y` from operands that `y`'s shape was broadcast from, by four at a time where
    /// their layouts allow it.
    pub(crate) fn dispatch<const N: usize>(
        &self,
        rec: &mut Recorder,
        name: &'static str,
        constants: &[u32],
        attributes: [f32; 2],
        operands: [GpuView; N],
        y: GpuOut,
    ) -> Result<()> {
        let (params, fits) = Elementwise::planned(name, operands.map(|operand| operand.layout), y.shape)?;
        let buffers: Vec<&GpuBuffer> = operands.iter().map(|o| o.buffer).chain([y.buffer]).collect();
        let (params, count) = (Elementwise { attributes, ..params }, y.shape.numel());
        let (kernel, handled) = if fits { (self.vector, 4 * WG) } else { (self.strided, WG) };
        rec.dispatch(kernel, constants, &buffers, &params, count.div_ceil(handled as usize))
    }
}

/// Layouts of the same shape for a kernel that moves four neighbours at a time, as one `vec4u`: the last axis counts
/// fours, and so do positions in the operands of `moved`. The others have one element for all four. `None` where that
/// does not fit: neighbours apart, a length or a start that is no multiple of 4.
pub(crate) fn in_fours<const N: usize>(operands: [Layout; N], moved: [bool; N]) -> Option<[Layout; N]> {
    let mut operands = collapse(operands);
    let shape = operands[0].shape;
    let last = shape.rank().checked_sub(1)?;
    let fits = |layout: &Layout, moved: bool| match moved {
        true => layout.strides[last] == 1 && layout.strides[..last].iter().all(|step| step.is_multiple_of(4)),
        false => layout.strides[last] == 0,
    };
    let all = operands
        .iter()
        .zip(moved)
        .all(|(layout, moved)| fits(layout, moved) && (!moved || layout.offset.is_multiple_of(4)));
    if !all || !shape[last].is_multiple_of(4) {
        return None;
    }
    let shape = shape.with(last, shape[last] / 4).ok()?;
    for (layout, moved) in operands.iter_mut().zip(moved) {
        layout.shape = shape;
        if moved {
            layout.offset /= 4;
            layout.strides[..last].iter_mut().for_each(|step| *step /= 4);
        }
    }
    Some(operands)
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
