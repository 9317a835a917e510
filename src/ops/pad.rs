//! Padding by a constant or by reflection.

use super::copy::{Fill, copy_to, copy_to_on_cpu};
use super::{WG, arity, floats, to_u32};
use crate::cpu::CpuDevice;
use crate::cpu::strided::GRAIN;
use crate::gpu::{Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, Saved, apply};
use crate::shape::{Layout, MAX_RANK, Shape};
use crate::tensor::Tensor;
use crate::{Error, Result, params};
use rayon::prelude::*;
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&REFLECT, &REFLECT_GRAD];

const NAME: &str = "pad";

static REFLECT: Kernel =
    kernel!("reflect.wgsl", "reflect", reads: 1, writes: 1, params: ReflectParams, "WG": &[WG]);
static REFLECT_GRAD: Kernel =
    kernel!("reflect.wgsl", "reflect_grad", reads: 1, writes: 1, params: ReflectParams, "WG": &[WG]);

params! {
    struct ReflectParams { count: u32, inner: u32, length: u32, before: u32, after: u32, x_offset: u32 }
}

/// The values that [`Tensor::pad`] adds.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum PadMode {
    /// This value.
    Constant(f32),
    /// A reflection about the outermost elements, which are not repeated: `1 2 3` padded by two on both sides is
    /// `3 2 1 2 3 2 1`.
    Reflect,
}

/// Constant padding by `pads`, before and after, along each axis.
struct Pad {
    pads: [(usize, usize); MAX_RANK],
    value: f32,
}

impl Pad {
    /// The layout of the elements within the output.
    fn inside(&self, x: Shape, whole: Shape) -> Layout {
        let whole = Layout::contiguous(whole);
        let offset = (0..x.rank()).map(|axis| self.pads[axis].0 * whole.strides[axis]).sum();
        Layout { shape: x, offset, ..whole }
    }
}

/// The length of a padded axis.
#[track_caller]
fn padded(length: usize, (before, after): (usize, usize)) -> Result<usize> {
    let sum = before.checked_add(after).and_then(|around| around.checked_add(length));
    sum.ok_or_else(|| Error::argument(NAME, format!("{before} before and {after} after are too many")))
}

impl Op for Pad {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x] = arity(NAME, inputs)?;
        floats(NAME, inputs)?;
        let dims = x.shape.iter().zip(self.pads).map(|(&length, pad)| padded(length, pad));
        Ok(vec![Meta::f32(Shape::new(dims.collect::<Result<Vec<_>>>()?)?)])
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        0
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let inside = self.inside(inputs[0].shape(), outputs[0].shape);
        outputs[0].data.fill(self.value);
        copy_to_on_cpu(inputs[0], outputs[0].data, inside);
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let inside = self.inside(inputs[0].layout.shape, outputs[0].shape);
        Fill::dispatch(rec, outputs[0], self.value.to_bits())?;
        copy_to(rec, inputs[0], outputs[0], inside)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let shape = saved.shape(0)?;
        let inside = |grad: Tensor, axis: usize| {
            let before = self.pads[axis].0;
            grad.slice(axis as isize, before..before + shape[axis])
        };
        Ok(vec![Some((0..shape.rank()).try_fold(grad.clone(), inside)?)])
    }
}

/// Reflection along one axis.
#[derive(Debug, Clone, Copy)]
struct Reflect {
    axis: usize,
    pad: (usize, usize),
}

/// The gradient of a [`Reflect`]: sums dy over the one to three copies of each element.
struct ReflectGrad(Reflect);

impl Reflect {
    /// Dispatches either kernel over the elements of `y`. `length` is the axis before padding.
    fn dispatch(
        &self,
        rec: &mut Recorder,
        kernel: &'static Kernel,
        length: usize,
        x: GpuView,
        y: GpuOut,
    ) -> Result<()> {
        let (count, of) = (y.shape.numel(), x.layout.shape.numel());
        // The largest indices in the kernels.
        to_u32(NAME, (x.layout.offset + of).max(count).max(length + self.pad.0 + self.pad.1))?;
        let params = ReflectParams {
            count: to_u32(NAME, count)?,
            inner: to_u32(NAME, inner(y.shape, self.axis))?,
            length: to_u32(NAME, length)?,
            before: to_u32(NAME, self.pad.0)?,
            after: to_u32(NAME, self.pad.1)?,
            x_offset: to_u32(NAME, x.layout.offset)?,
        };
        rec.dispatch(kernel, &[WG], &[x.buffer, y.buffer], &params, count.div_ceil(WG as usize))
    }
}

/// The contiguous stride of the axis.
fn inner(shape: Shape, axis: usize) -> usize {
    shape[axis + 1..].iter().product()
}

impl Op for Reflect {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x] = arity(NAME, inputs)?;
        floats(NAME, inputs)?;
        let (before, after) = self.pad;
        let length = x.shape[self.axis];
        if before.max(after) >= length {
            let message = format!(
                "axis {} of shape {} is too short to be reflected by {before} and {after}",
                self.axis, x.shape
            );
            return Err(Error::shape(NAME, message));
        }
        Ok(vec![Meta::f32(x.shape.with(self.axis, padded(length, self.pad)?)?)])
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        0
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (x, y) = (inputs[0].slice(), &mut outputs[0]);
        let (before, after) = self.pad;
        let (length, inner) = (inputs[0].shape()[self.axis], inner(y.shape, self.axis));
        let planes =
            y.data.par_chunks_mut((before + length + after) * inner).zip(x.par_chunks(length * inner));
        planes.with_min_len(GRAIN.div_ceil(length * inner)).for_each(|(y, x)| {
            y[before * inner..][..x.len()].copy_from_slice(x);
            let mut image = |j: usize, k: usize| {
                y[j * inner..][..inner].copy_from_slice(&x[k * inner..][..inner]);
            };
            (0..before).for_each(|j| image(j, before - j));
            (0..after).for_each(|j| image(before + length + j, length - 2 - j));
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        self.dispatch(rec, &REFLECT, inputs[0].layout.shape[self.axis], inputs[0], outputs[0])
    }

    fn backward(&self, _: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(apply(ReflectGrad(*self), &[grad])?)])
    }
}

impl Op for ReflectGrad {
    fn name(&self) -> &'static str {
        "pad_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [dy] = arity(self.name(), inputs)?;
        let Reflect { axis, pad: (before, after) } = self.0;
        Ok(vec![Meta::f32(dy.shape.with(axis, dy.shape[axis] - before - after)?)])
    }

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        inputs[0].numel()
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let Reflect { axis, pad: (before, after) } = self.0;
        let (dy, dx) = (inputs[0].slice(), &mut outputs[0]);
        let (length, inner) = (dx.shape[axis], inner(dx.shape, axis));
        let whole = before + length + after;
        let planes = dx.data.par_chunks_mut(length * inner).zip(dy.par_chunks(whole * inner));
        planes.with_min_len(GRAIN.div_ceil(whole * inner)).for_each(|(dx, dy)| {
            dx.copy_from_slice(&dy[before * inner..][..dx.len()]);
            let mut image = |j: usize, k: usize| {
                dx[k * inner..][..inner].iter_mut().zip(&dy[j * inner..]).for_each(|(dx, dy)| *dx += dy);
            };
            (0..before).for_each(|j| image(j, before - j));
            (0..after).for_each(|j| image(before + length + j, length - 2 - j));
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        self.0.dispatch(rec, &REFLECT_GRAD, outputs[0].shape[self.0.axis], inputs[0], outputs[0])
    }
}

impl Tensor {
    /// Pads the last axes. `pads` holds the number of elements before and after, one pair for each of the last axes in
    /// order: `[(1, 1), (2, 2)]` pads an image by one row above and below and by two columns on both sides.
    ///
    /// ```
    /// # use gristmill::{Device, PadMode, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// assert_eq!(x.pad(&[(1, 2)], PadMode::Constant(0.0))?.to_vec()?, [0.0, 1.0, 2.0, 3.0, 0.0, 0.0]);
    /// assert_eq!(x.pad(&[(1, 2)], PadMode::Reflect)?.to_vec()?, [2.0, 1.0, 2.0, 3.0, 2.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// More pairs than axes, a reflection by the length of the axis or more, a tensor of ids, or the device fails.
    #[track_caller]
    pub fn pad(&self, pads: &[(usize, usize)], mode: PadMode) -> Result<Tensor> {
        let Some(first) = self.rank().checked_sub(pads.len()) else {
            let message = format!("{} pairs for shape {}", pads.len(), self.shape());
            return Err(Error::shape(NAME, message));
        };
        match mode {
            PadMode::Constant(value) => {
                let mut all = [(0, 0); MAX_RANK];
                all[first..self.rank()].copy_from_slice(pads);
                apply(Pad { pads: all, value }, &[self])
            }
            // Reflections along different axes are independent, so one axis after the other.
            PadMode::Reflect => (first..)
                .zip(pads)
                .filter(|(_, pad)| **pad != (0, 0))
                .try_fold(self.clone(), |x, (axis, &pad)| apply(Reflect { axis, pad }, &[&x])),
        }
    }
}
