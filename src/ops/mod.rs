//! The ops, a file or a directory each: shape rule, CPU twin, GPU dispatch and gradient. What several share is in
//! `reduction.rs`, `slicing.rs`, `sort_rows.rs` and here.

pub mod arg;
pub mod attention;
pub mod avg_pool2d;
mod avg_pool_upsample;
pub mod binary;
mod cast;
mod cat;
mod construct;
pub mod conv2d;
pub mod copy;
pub mod cross_entropy;
pub mod cumsum;
pub mod dropout;
mod einsum;
mod gather;
mod glu;
pub mod index;
pub mod logsumexp;
pub mod loss;
pub mod matmul;
pub mod moments;
pub mod norm;
pub mod normalize;
mod one_hot;
pub mod pad;
pub(crate) mod pointwise;
pub mod pool2d;
mod recurrent;
pub mod reduce;
pub(crate) mod reduction;
pub mod rotary;
mod scatter;
mod slicing;
pub mod softmax;
mod sort;
mod sort_rows;
pub mod unary;
mod upsample2d;
pub mod view;
pub mod where_cond;

use crate::gpu::{Kernel, Recorder};
use crate::op::{GpuOut, GpuView, Meta};
use crate::ops::unary::Activation;
pub(crate) use crate::shape::to_u32;
use crate::shape::{Layout, MAX_RANK, Shape, collapse};
use crate::{Error, Result, params};

/// The FLOPs of `outputs` that are sums of products, each of the `factors` numbers with so many others.
pub(crate) fn product_flops(
    outputs: Meta,
    factors: u64,
    others: usize,
    biased: bool,
    activation: Activation,
) -> u64 {
    let sums = factors.saturating_mul(others as u64).saturating_mul(2);
    let sums = sums.saturating_sub(if biased { 0 } else { outputs.numel() });
    sums.saturating_add(if activation == Activation::None { 0 } else { outputs.numel() })
}

/// The kernels of all ops.
pub(crate) const KERNELS: &[&[&Kernel]] = &[
    arg::KERNELS,
    attention::KERNELS,
    binary::KERNELS,
    cast::KERNELS,
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
    pad::KERNELS,
    pool2d::KERNELS,
    recurrent::KERNELS,
    reduce::KERNELS,
    scatter::KERNELS,
    avg_pool_upsample::KERNELS,
    rotary::KERNELS,
    slicing::KERNELS,
    softmax::KERNELS,
    sort_rows::KERNELS,
    normalize::KERNELS,
    unary::KERNELS,
    where_cond::KERNELS,
];

/// Invocations per workgroup of the element-wise kernels: half of WebGPU's default limit, so that weaker adapters work
/// too.
pub(crate) const WG: u32 = 128;

params! {
    /// Strides and offsets of up to three operands of one shape, for `shared/strided.wgsl`.
    pub(crate) struct StridedIndexer { axes: [[u32; 4]; MAX_RANK], offsets: [u32; 3], rank: u32 }
}

impl StridedIndexer {
    /// # Errors
    /// More elements than a `u32` counts.
    pub(crate) fn new<const N: usize>(op: &'static str, operands: [Layout; N]) -> Result<StridedIndexer> {
        to_u32(op, operands[0].shape.numel())?;
        let operands = collapse(operands);
        let shape = operands[0].shape;
        let mut indexer =
            StridedIndexer { axes: [[0; 4]; MAX_RANK], offsets: [0; 3], rank: shape.rank() as u32 };
        for (at, operand) in operands.iter().enumerate() {
            indexer.offsets[at] = to_u32(op, operand.offset)?;
            for axis in 0..shape.rank() {
                indexer.axes[axis][at] = to_u32(op, operand.strides[axis])?;
                indexer.axes[axis][3] = to_u32(op, shape[axis])?;
            }
        }
        Ok(indexer)
    }
}

params! {
    /// The parameters of every element-wise kernel; the layout is that of `shared/elementwise.wgsl`.
    pub(crate) struct Elementwise {
        indexer: StridedIndexer,
        count: u32,
        /// Bit i is set if operand i is a single element, broadcast.
        scalars: u32,
        /// Parameters of the function, such as a slope.
        attributes: [f32; 2],
    }
}

impl Elementwise {
    /// Parameters for operands that broadcast to `shape`, and whether their layouts allow the `vector` entry.
    ///
    /// # Errors
    /// A shape that does not broadcast, or more elements than a `u32` counts.
    pub(crate) fn planned(
        op: &'static str,
        mut layouts: [Layout; 3],
        shape: Shape,
        attributes: [f32; 2],
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
        let (indexer, count) = (StridedIndexer::new(op, layouts)?, to_u32(op, shape.numel())?);
        Ok((Elementwise { indexer, count, scalars, attributes }, fits))
    }
}

/// The two entry points of an element-wise kernel: one or four elements per invocation.
pub(crate) struct ElementwiseKernels {
    pub(crate) strided: &'static Kernel,
    pub(crate) vector: &'static Kernel,
}

impl ElementwiseKernels {
    /// Computes all elements of `y` from operands that broadcast to its shape, four per invocation if the layouts allow
    /// it.
    pub(crate) fn dispatch(
        &self,
        rec: &mut Recorder,
        name: &'static str,
        constants: &[u32],
        attributes: [f32; 2],
        operands: &[GpuView],
        y: GpuOut,
    ) -> Result<()> {
        let operands = three(operands);
        let (params, fits) = Elementwise::planned(name, operands.map(|o| o.layout), y.shape, attributes)?;
        let [a, b, c] = operands.map(|operand| operand.buffer);
        let (kernel, handled) = if fits { (self.vector, 4 * WG) } else { (self.strided, WG) };
        let groups = y.shape.numel().div_ceil(handled as usize);
        rec.dispatch(kernel, constants, &[a, b, c, y.buffer], &params, groups)
    }
}

/// Three operands from one to three. The first is bound in place of those that are missing, which are not read.
pub(crate) fn three<T: Copy>(operands: &[T]) -> [T; 3] {
    std::array::from_fn(|at| operands.get(at).copied().unwrap_or(operands[0]))
}

/// Converts layouts of one shape for a kernel that moves four adjacent elements as one `vec4u`: the last axis, and the
/// offsets and strides of the operands marked in `moved`, are in units of four. The other operands have one element for
/// all four. `None` if the elements are not adjacent, or if a length, offset or stride is not a multiple of 4.
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
pub(crate) fn arity<const N: usize>(op: &'static str, inputs: &[Meta]) -> Result<[Meta; N]> {
    let wrong = |_| Error::shape(op, format!("takes {N} inputs, got {}", inputs.len()));
    inputs.try_into().map_err(wrong)
}

/// Checks that all inputs hold `f32`.
pub(crate) fn floats(op: &'static str, inputs: &[Meta]) -> Result<()> {
    match inputs.iter().find(|meta| meta.dtype != crate::DType::F32) {
        None => Ok(()),
        Some(meta) => Err(Error::shape(op, format!("wants f32, got u32 of shape {}", meta.shape))),
    }
}

/// Checks that two inputs hold the same type.
pub(crate) fn alike(op: &'static str, a: &Meta, b: &Meta) -> Result<()> {
    if a.dtype == b.dtype {
        return Ok(());
    }
    let got = format!("got {:?} of shape {} and {:?} of shape {}", a.dtype, a.shape, b.dtype, b.shape);
    Err(Error::shape(op, format!("{got}; convert one with to_dtype")))
}
