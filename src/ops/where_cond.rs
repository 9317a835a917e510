//! Element-wise selection between two tensors by a condition.

use super::{Elementwise, ElementwiseKernels, WG, alike, arity, floats};
use crate::Result;
use crate::cpu::CpuDevice;
use crate::cpu::strided::rows;
use crate::gpu::{Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves, apply};
use crate::shape::Shape;
use crate::tensor::Tensor;
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&STRIDED, &VECTOR];

static STRIDED: Kernel =
    kernel!("where_cond.wgsl", "strided", reads: 3, writes: 1, params: Elementwise, "WG": &[WG]);
static VECTOR: Kernel =
    kernel!("where_cond.wgsl", "vector", reads: 3, writes: 1, params: Elementwise, "WG": &[WG]);
const WHERE: ElementwiseKernels = ElementwiseKernels { strided: &STRIDED, vector: &VECTOR };

/// Inputs: the condition, the values where it is true, and the values elsewhere.
struct Where;

impl Op for Where {
    fn name(&self) -> &'static str {
        "where_cond"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [c, a, b] = arity(self.name(), inputs)?;
        floats(self.name(), &[c])?;
        alike(self.name(), &a, &b)?;
        let picked = a.shape.broadcast(&b.shape, self.name())?;
        let shape = c.shape.broadcast(&picked, self.name())?;
        Ok(vec![Meta { shape, dtype: a.dtype, max_id: a.max_id.max(b.max_id).of_some() }])
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        0
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let out = &mut outputs[0];
        let [c, a, b] = [0, 1, 2].map(|at| inputs[at].layout.expand(out.shape, self.name()));
        let [from_c, from_a, from_b] = [0, 1, 2].map(|at| inputs[at].data);
        rows(out.data, [c?, a?, b?], |y, [c0, a0, b0], [sc, sa, sb]| {
            for (j, y) in y.iter_mut().enumerate() {
                *y = if from_c[c0 + j * sc] != 0.0 { from_a[a0 + j * sa] } else { from_b[b0 + j * sb] };
            }
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        WHERE.dispatch(rec, self.name(), &[WG], [0.0; 2], inputs, outputs[0])
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[0], outputs: &[] }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (c, zero) = (saved.input(0)?, Tensor::zeros(Shape::SCALAR, grad.device())?);
        let da = needs[1].then(|| c.where_cond(grad, &zero)).transpose()?;
        let db = needs[2].then(|| c.where_cond(&zero, grad)).transpose()?;
        Ok(vec![None, da, db])
    }
}

impl Tensor {
    /// `a` where this tensor is not 0, `b` elsewhere; all three broadcast. `a` and `b` hold numbers, or both ids.
    ///
    /// A NaN condition counts as not 0. Selected elements are copied exactly. Others get a gradient of 0, even if they
    /// are NaN. Not differentiable in the condition.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[-1.0, f32::NAN, 4.0], [3], &Device::cpu())?;
    /// let zero = Tensor::scalar(0.0, x.device())?;
    /// assert_eq!(x.gt(&zero)?.where_cond(&x.sqrt()?, &zero)?.to_vec()?, [0.0, 0.0, 2.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// The shapes do not broadcast, a condition of ids, numbers beside ids, the devices differ, or the device fails.
    #[track_caller]
    pub fn where_cond(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        apply(Where, &[&self.detach(), a, b])
    }
}
