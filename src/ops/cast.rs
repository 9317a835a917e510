//! Casts between numbers and ids.

use super::{Elementwise, ElementwiseKernels, WG, arity};
use crate::cpu::CpuDevice;
use crate::cpu::strided::rows;
use crate::gpu::{Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, apply};
use crate::tensor::Tensor;
use crate::{DType, Result};
use bytemuck::Pod;
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&STRIDED, &VECTOR];

static STRIDED: Kernel = kernel!("cast.wgsl", "strided", reads: 3, writes: 1, params: Elementwise, "OP": OPS => NAMES, "WG": &[WG]);
static VECTOR: Kernel =
    kernel!("cast.wgsl", "vector", reads: 3, writes: 1, params: Elementwise, "OP": OPS => NAMES, "WG": &[WG]);
const CAST: ElementwiseKernels = ElementwiseKernels { strided: &STRIDED, vector: &VECTOR };

/// The types, and the casts to them, as in `op_NAME` of `cast.wgsl`.
const OPS: &[u32] = &[DType::F32 as u32, DType::U32 as u32];
const NAMES: &[&str] = &["to_f32", "to_u32"];

/// The elements as this type, from a tensor of the other.
struct Cast(DType);

fn each<A: Pod + Sync, B: Send>(y: &mut [B], x: CpuView, f: impl Fn(A) -> B + Sync) {
    let words: &[A] = bytemuck::cast_slice(x.data);
    rows(y, [x.layout], |y, [start], [step]| match step {
        1 => y.iter_mut().zip(&words[start..]).for_each(|(y, &x)| *y = f(x)),
        step => y.iter_mut().enumerate().for_each(|(j, y)| *y = f(words[start + j * step])),
    });
}

impl Op for Cast {
    fn name(&self) -> &'static str {
        "to_dtype"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x] = arity(self.name(), inputs)?;
        // Of ids made from numbers the largest is not known: whoever uses them as indices checks them.
        Ok(vec![Meta { dtype: self.0, ..Meta::f32(x.shape) }])
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        outputs[0].numel()
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        match self.0 {
            DType::F32 => each(outputs[0].data, inputs[0], |id: u32| id as f32),
            DType::U32 => each(outputs[0].ids(), inputs[0], |x: f32| x as u32),
        }
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        CAST.dispatch(rec, self.name(), &[self.0 as u32, WG], [0.0; 2], inputs, outputs[0])
    }
}

impl Tensor {
    /// The elements as another type, as PyTorch's `to(dtype)`; the same handle if they have it already.
    ///
    /// An id becomes the nearest f32, itself up to 2²⁴; ties go to even. A number becomes an id as by Rust's `as`: its
    /// fraction is dropped, NaN and what is negative become 0, what is above 2³² - 1 becomes that. Every device gives the
    /// same bits. Not differentiable: a cast ends the graph.
    ///
    /// ```
    /// # use gristmill::{DType, Device, Tensor};
    /// let x = Tensor::from_slice(&[1.7, -2.0, f32::NAN], [3], &Device::cpu())?;
    /// let ids = x.to_dtype(DType::U32)?;
    /// assert_eq!(ids.to_ids()?, [1, 0, 0]);
    /// assert_eq!(ids.to_dtype(DType::F32)?.to_vec()?, [1.0, 0.0, 0.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// The device fails.
    #[track_caller]
    pub fn to_dtype(&self, dtype: DType) -> Result<Tensor> {
        if self.dtype() == dtype {
            return Ok(self.clone());
        }
        apply(Cast(dtype), &[&self.detach()])
    }
}
