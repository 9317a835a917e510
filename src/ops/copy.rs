//! Copying, which makes views contiguous, and filling, which makes constants.

use super::{StridedIndexer, WG, arity, in_fours, to_u32};
use crate::cpu::CpuDevice;
use crate::cpu::strided::rows;
use crate::device::Device;
use crate::gpu::{Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, apply, update};
use crate::shape::{Layout, Shape, collapse};
use crate::tensor::Tensor;
use crate::{DType, Error, Result, params};
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&STRIDED, &VECTOR, &FILL];

static STRIDED: Kernel =
    kernel!("copy.wgsl", "strided", reads: 1, writes: 1, params: CopyParams, "WG": &[WG]);
static VECTOR: Kernel = kernel!("copy.wgsl", "vector", reads: 1, writes: 1, params: CopyParams, "WG": &[WG]);
static FILL: Kernel = kernel!("fill.wgsl", "fill", reads: 0, writes: 1, params: FillParams, "WG": &[WG]);

params! {
    struct CopyParams { indexer: StridedIndexer, count: u32 }
}

params! {
    struct FillParams { count: u32, bits: u32 }
}

/// Copies the elements of any view in row-major order.
struct Copy;

impl Op for Copy {
    fn name(&self) -> &'static str {
        "copy"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        arity::<1>("copy", inputs).map(Vec::from)
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        0
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let x = inputs[0];
        rows(outputs[0].data, [x.layout], |out, [start], [step]| {
            for (j, out) in out.iter_mut().enumerate() {
                *out = x.data[start + j * step];
            }
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        copy_to(rec, inputs[0], outputs[0], Layout::contiguous(outputs[0].shape))
    }

    fn backward(&self, _: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(grad.clone())])
    }
}

/// Copies `x` to the part `to` of the output.
pub(super) fn copy_to(rec: &mut Recorder, x: GpuView, y: GpuOut, to: Layout) -> Result<()> {
    if to.shape.numel() == 0 {
        return Ok(());
    }
    let operands = [x.layout, to];
    let (kernel, operands) = match in_fours(operands, [true; 2]) {
        Some(fours) => (&VECTOR, fours),
        None => (&STRIDED, operands),
    };
    let count = operands[0].shape.numel();
    let params =
        CopyParams { indexer: StridedIndexer::new("copy", operands)?, count: to_u32("copy", count)? };
    rec.dispatch(kernel, &[WG], &[x.buffer, y.buffer], &params, count.div_ceil(WG as usize))
}

/// The CPU twin of [`copy_to`].
pub(super) fn copy_to_on_cpu(x: CpuView, y: &mut [f32], to: Layout) {
    let [from, to] = collapse([x.layout, to]);
    // A single element collapses to no axis.
    let run = from.shape.last().copied().unwrap_or(1);
    let last = from.shape.rank().saturating_sub(1);
    let steps = [from.strides[last], to.strides[last]];
    for first in (0..from.shape.numel()).step_by(run.max(1)) {
        let (x, y) = (&x.data[from.position(first)..], &mut y[to.position(first)..]);
        match steps {
            [1, 1] => y[..run].copy_from_slice(&x[..run]),
            [sx, sy] => (0..run).for_each(|j| y[j * sy] = x[j * sx]),
        }
    }
}

/// Sets every element of the output to the same bits. No inputs.
pub(crate) struct Fill {
    pub(crate) shape: Shape,
    pub(crate) bits: u32,
    pub(crate) dtype: DType,
}

impl Fill {
    /// Records the dispatch, for ops that fill their output.
    pub(crate) fn dispatch(rec: &mut Recorder, y: GpuOut, bits: u32) -> Result<()> {
        let count = y.shape.numel();
        let params = FillParams { count: to_u32("fill", count)?, bits };
        rec.dispatch(&FILL, &[WG], &[y.buffer], &params, count.div_ceil(4 * WG as usize))
    }
}

impl Op for Fill {
    fn name(&self) -> &'static str {
        "fill"
    }

    fn infer(&self, _: &[Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta { dtype: self.dtype, ..Meta::f32(self.shape) }])
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        0
    }

    fn cpu(&self, _: &Arc<CpuDevice>, _: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        outputs[0].data.fill(f32::from_bits(self.bits));
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, _: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        Fill::dispatch(rec, outputs[0], self.bits)
    }
}

/// A tensor of numbers or of ids, all with these bits.
///
/// # Errors
/// The device has no room.
pub(super) fn filled(shape: Shape, bits: u32, dtype: DType, device: &Device) -> Result<Tensor> {
    let mut out = Tensor::stale(shape, dtype, device)?;
    update(Fill { shape, bits, dtype }, &[], &mut [&mut out])?;
    Ok(out)
}

/// The gradient of a slice: `x` in the sliced part, 0 elsewhere.
pub(crate) struct SliceGrad {
    /// The shape that was sliced.
    pub(crate) whole: Shape,
    /// The slice's layout in a contiguous tensor of that shape.
    pub(crate) part: Layout,
}

impl Op for SliceGrad {
    fn name(&self) -> &'static str {
        "slice_grad"
    }

    fn infer(&self, _: &[Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta::f32(self.whole)])
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        0
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        outputs[0].data.fill(0.0);
        copy_to_on_cpu(inputs[0], outputs[0].data, self.part);
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        Fill::dispatch(rec, outputs[0], 0)?;
        copy_to(rec, inputs[0], outputs[0], self.part)
    }
}

/// Writes `x` into a part of a tensor and keeps the rest. Only for states, whose content is kept.
struct Put {
    whole: Shape,
    part: Layout,
}

impl Op for Put {
    fn name(&self) -> &'static str {
        "put"
    }

    fn infer(&self, _: &[Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta::f32(self.whole)])
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        0
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        if self.part.shape.numel() > 0 {
            copy_to_on_cpu(inputs[0], outputs[0].data, self.part);
        }
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        copy_to(rec, inputs[0], outputs[0], self.part)
    }
}

/// Writes `x` into `held`, from index `start` of an axis on; in place if the buffer has one owner.
///
/// # Errors
/// `x` does not fit there, or the device fails.
#[track_caller]
pub(crate) fn slice_scatter(x: &Tensor, held: &mut Tensor, axis: usize, start: usize) -> Result<()> {
    let whole = held.shape();
    let end = start.saturating_add(x.shape().get(axis).copied().unwrap_or(0));
    let fits = axis < whole.rank() && end <= whole[axis] && whole.with(axis, end - start)? == x.shape();
    if !fits {
        let message = format!("{} does not go into {whole} from {start} of axis {axis} on", x.shape());
        return Err(Error::shape("put", message));
    }
    let layout = Layout::contiguous(whole);
    let part = Layout { shape: x.shape(), offset: start * layout.strides[axis], ..layout };
    update(Put { whole, part }, &[x], &mut [held])
}

impl Tensor {
    /// A tensor of rank 0.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// let half = Tensor::scalar(0.5, &Device::cpu())?;
    /// assert_eq!((half.rank(), half.item()?), (0, 0.5));
    /// assert_eq!(x.mul(&half)?.to_vec()?, [0.5, 1.0, 1.5]); // it broadcasts to every shape
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// The device has no room.
    #[track_caller]
    pub fn scalar(value: f32, device: &Device) -> Result<Tensor> {
        // Filled, not uploaded: an upload would end the pass that is being recorded.
        Tensor::full(Shape::SCALAR, value, device)
    }

    /// A tensor filled with `value`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::full([2, 3], 7.0, &Device::cpu())?;
    /// assert_eq!(x.shape(), [2, 3]);
    /// assert_eq!(x.to_vec()?, [7.0; 6]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A rank over 6, or no room.
    #[track_caller]
    pub fn full(shape: impl AsRef<[usize]>, value: f32, device: &Device) -> Result<Tensor> {
        filled(Shape::new(shape)?, value.to_bits(), DType::F32, device)
    }

    /// A tensor of zeros.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::zeros([2, 3], &Device::cpu())?;
    /// assert_eq!(x.shape(), [2, 3]);
    /// assert_eq!(x.to_vec()?, [0.0; 6]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::full`].
    #[track_caller]
    pub fn zeros(shape: impl AsRef<[usize]>, device: &Device) -> Result<Tensor> {
        Tensor::full(shape, 0.0, device)
    }

    /// A tensor of ones.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::ones([2, 3], &Device::cpu())?;
    /// assert_eq!(x.shape(), [2, 3]);
    /// assert_eq!(x.to_vec()?, [1.0; 6]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::full`].
    #[track_caller]
    pub fn ones(shape: impl AsRef<[usize]>, device: &Device) -> Result<Tensor> {
        Tensor::full(shape, 1.0, device)
    }

    /// A contiguous copy in a buffer of its own.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0], [2, 2], &Device::cpu())?;
    /// let columns = x.t()?.copy()?;
    /// assert_eq!(columns.to_vec()?, [1.0, 3.0, 2.0, 4.0]);
    /// assert!(columns.layout().is_contiguous()); // x.t() is not
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// The device is out of memory.
    #[track_caller]
    pub fn copy(&self) -> Result<Tensor> {
        apply(Copy, &[self])
    }
}
