//! Class ids as vectors.

use super::gather::{check, fits};
use super::{WG, Walk, arity, word};
use crate::cpu::walk::GRAIN;
use crate::gpu::{Kernel, Recorder};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, apply};
use crate::shape::{MAX_RANK, Shape};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result, kernel, params};
use rayon::prelude::*;

pub(crate) const KERNELS: &[&Kernel] = &[&ONE_HOT];

const NAME: &str = "one_hot";

static ONE_HOT: Kernel = kernel!("one_hot.wgsl", "one_hot", reads: 1, writes: 2, params: Params, "WG": &[WG]);

params! {
    struct Params {
        walk: Walk,
        count: u32,
        classes: u32,
        code: u32,
        pad: u32,
    }
}

/// `y[.., c] = 1` where c is the id, else 0. The input's last axis was expanded to the classes.
struct OneHot;

impl Op for OneHot {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [ids] = arity(NAME, inputs)?;
        fits(NAME, ids.shape.axis(NAME, -1)?, ids.shape, ids)?;
        Ok(vec![Meta::f32(ids.shape)])
    }

    fn cpu(&self, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (ids, y) = (inputs[0], &mut outputs[0]);
        let last = y.shape.rank() - 1;
        check(NAME, last, y.shape, &ids)?;
        let (words, classes): (&[u32], _) = (bytemuck::cast_slice(ids.data), y.shape[last]);
        let each = ids.layout.permute(&(0..last).collect::<Vec<_>>())?;
        let rows = y.data.par_chunks_mut(classes).with_min_len(GRAIN.div_ceil(classes));
        rows.enumerate().for_each(|(row, y)| {
            y.fill(0.0);
            y[words[each.position(row)] as usize] = 1.0;
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (ids, y) = (inputs[0], outputs[0]);
        let (status, code) = rec.status(NAME)?;
        let count = y.shape.numel();
        let params = Params {
            walk: Walk::new(NAME, [ids.layout])?,
            count: word(NAME, count)?,
            classes: word(NAME, y.shape[y.shape.rank() - 1])?,
            code,
            pad: 0,
        };
        rec.dispatch(&ONE_HOT, &[WG], &[ids.buffer, y.buffer, &*status], &params, count.div_ceil(WG as usize))
    }
}

impl Tensor {
    /// Class ids as vectors: `u32 [..]` to `f32 [.., classes]`, 1 at the id and 0 elsewhere.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let ids = Tensor::from_ids(&[2, 0], [2], &Device::cpu())?;
    /// assert_eq!(ids.one_hot(3)?.to_vec()?, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A tensor of `f32`, of rank 6, or the device fails; ids that are no class as in [`Tensor::gather`].
    pub fn one_hot(&self, classes: usize) -> Result<Tensor> {
        self.expect(DType::U32, NAME)?;
        if self.rank() == MAX_RANK {
            let message = format!("ids of shape {} have no room for another axis", self.shape());
            return Err(Error::shape(NAME, message));
        }
        let shape = Shape::new([&self.shape()[..], &[classes]].concat())?;
        // No class at all: the ids would vanish unchecked.
        if classes == 0 && self.numel() > 0 {
            return Err(Error::argument(NAME, format!("0 classes for ids of shape {}", self.shape())));
        }
        apply(OneHot, &[&self.unsqueeze(-1)?.expand(shape)?])
    }
}
