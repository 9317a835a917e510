//! Copying and filling: what views need to become contiguous, and what constants are made by.

use super::{Elementwise, WG, arity, word};
use crate::cpu::walk::rows;
use crate::gpu::{Kernel, Recorder};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, apply};
use crate::shape::{Layout, Shape};
use crate::tensor::{DType, Tensor};
use crate::{Result, kernel, params};

pub(crate) const KERNELS: &[&Kernel] = &[&COPY, &FILL];

static COPY: Kernel = kernel!("copy.wgsl", "copy", reads: 1, writes: 1, params: Elementwise, "WG": &[WG]);
static FILL: Kernel = kernel!("fill.wgsl", "fill", reads: 0, writes: 1, params: FillParams, "WG": &[WG]);

params! {
    struct FillParams {
        count: u32,
        bits: u32,
    }
}

/// The elements of any view, as they are, in row-major order.
struct Copy;

impl Op for Copy {
    fn name(&self) -> &'static str {
        "copy"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        arity::<1>("copy", inputs).map(Vec::from)
    }

    fn cpu(&self, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let x = inputs[0];
        rows(outputs[0].data, [x.layout], |out, [start], [step]| {
            for (j, out) in out.iter_mut().enumerate() {
                *out = x.data[start + j * step];
            }
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        scatter(rec, inputs[0], outputs[0], Layout::contiguous(outputs[0].shape))
    }

    fn backward(&self, _: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(grad.clone())])
    }
}

/// Copies `x` to the places of `to` in the output.
fn scatter(rec: &mut Recorder, x: GpuView, y: GpuOut, to: Layout) -> Result<()> {
    let count = to.shape.numel();
    let params = Elementwise::new("copy", [x.layout, to], count)?;
    rec.dispatch(&COPY, &[WG], &[x.buffer, y.buffer], &params, count.div_ceil(WG as usize))
}

/// Every element the same bits. No inputs: it fills what it is given.
pub(crate) struct Fill {
    pub(crate) shape: Shape,
    pub(crate) bits: u32,
    pub(crate) dtype: DType,
}

impl Fill {
    /// Records the filling alone, for ops that fill their output.
    pub(crate) fn dispatch(rec: &mut Recorder, y: GpuOut, bits: u32) -> Result<()> {
        let count = y.shape.numel();
        let params = FillParams { count: word("fill", count)?, bits };
        rec.dispatch(&FILL, &[WG], &[y.buffer], &params, count.div_ceil(4 * WG as usize))
    }
}

impl Op for Fill {
    fn name(&self) -> &'static str {
        "fill"
    }

    fn infer(&self, _: &[Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta { shape: self.shape, dtype: self.dtype, max_id: None }])
    }

    fn cpu(&self, _: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        outputs[0].data.fill(f32::from_bits(self.bits));
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, _: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        Fill::dispatch(rec, outputs[0], self.bits)
    }
}

/// The gradient of a slice: `x` at the places that the slice showed, 0 elsewhere.
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

    fn cpu(&self, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let x = inputs[0];
        let y = &mut outputs[0].data;
        y.fill(0.0);
        let mut index = [0; crate::shape::MAX_RANK];
        let shape = self.part.shape;
        let at = |layout: &Layout, index: &[usize]| -> usize {
            layout.offset + index.iter().zip(layout.strides).map(|(i, stride)| i * stride).sum::<usize>()
        };
        for _ in 0..shape.numel() {
            y[at(&self.part, &index)] = x.data[at(&x.layout, &index)];
            for axis in (0..shape.rank()).rev() {
                index[axis] += 1;
                if index[axis] < shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        Fill::dispatch(rec, outputs[0], 0)?;
        scatter(rec, inputs[0], outputs[0], self.part)
    }
}

impl Tensor {
    /// A row-major copy in a buffer of its own.
    ///
    /// # Errors
    /// The device has no room.
    pub fn copy(&self) -> Result<Tensor> {
        apply(Copy, &[self])
    }
}
