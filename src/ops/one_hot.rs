//! One-hot vectors of class ids.

use super::copy::Fill;
use super::{StridedIndexer, WG, arity, to_u32};
use crate::cpu::CpuDevice;
use crate::cpu::strided::GRAIN;
use crate::gpu::{Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, apply};
use crate::shape::{MAX_RANK, Shape};
use crate::tensor::Tensor;
use crate::{DType, Error, Result, params};
use rayon::prelude::*;
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&ONE_HOT];

const NAME: &str = "one_hot";

static ONE_HOT: Kernel = kernel!("one_hot.wgsl", "one_hot", reads: 1, writes: 2, params: Params, "WG": &[WG]);

params! {
    struct Params { indexer: StridedIndexer, count: u32, classes: u32, check: u32, pad: u32 }
}

/// `y[.., c] = 1` where c is the id, else 0.
struct OneHot {
    classes: usize,
}

impl Op for OneHot {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [ids] = arity(NAME, inputs)?;
        let shape = ids.shape;
        if ids.dtype != DType::U32 || shape.rank() == MAX_RANK {
            let message = format!("{:?} of shape {shape}, wants ids of a rank below {MAX_RANK}", ids.dtype);
            return Err(Error::shape(NAME, message));
        }
        let largest = ids.max_id.known();
        // With 0 classes, no id is in range.
        let all_fit = largest.map_or(self.classes > 0, |id| (id as usize) < self.classes);
        if !all_fit && shape.numel() > 0 {
            let largest = largest.map_or(String::new(), |id| format!(" up to {id}"));
            let message = format!("ids{largest} of shape {shape} for {} classes", self.classes);
            return Err(Error::argument(NAME, message));
        }
        Ok(vec![Meta::f32(Shape::new([&shape[..], &[self.classes]].concat())?)])
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        0
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (ids, classes) = (inputs[0], self.classes);
        let words: &[u32] = bytemuck::cast_slice(ids.data);
        let each = |i: usize| words[ids.layout.position(i)] as usize;
        if let Some(id) = (0..ids.shape().numel()).map(each).find(|&id| id >= classes) {
            return Err(Error::argument(NAME, format!("index {id} is past the end of {classes} classes")));
        }
        let rows = outputs[0].data.par_chunks_mut(classes).with_min_len(GRAIN.div_ceil(classes));
        rows.enumerate().for_each(|(i, row)| {
            row.fill(0.0);
            row[each(i)] = 1.0;
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (ids, y) = (inputs[0], outputs[0]);
        Fill::dispatch(rec, y, 0)?;
        let (status, check) = rec.id_check(NAME, &ids, self.classes)?;
        let count = ids.layout.shape.numel();
        let params = Params {
            indexer: StridedIndexer::new(NAME, [ids.layout])?,
            count: to_u32(NAME, count)?,
            classes: to_u32(NAME, self.classes)?,
            check,
            pad: 0,
        };
        rec.dispatch(&ONE_HOT, &[WG], &[ids.buffer, y.buffer, &*status], &params, count.div_ceil(WG as usize))
    }
}

impl Tensor {
    /// One-hot vectors of class ids: `u32 [..]` to `f32 [.., classes]`, 1 at the id and 0 elsewhere.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let ids = Tensor::from_ids(&[2, 0], [2], &Device::cpu())?;
    /// assert_eq!(ids.one_hot(3)?.to_vec()?, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A tensor of `f32`, a rank of 6, or the device fails; ids out of range, reported as in [`Tensor::gather`].
    #[track_caller]
    pub fn one_hot(&self, classes: usize) -> Result<Tensor> {
        apply(OneHot { classes }, &[self])
    }
}
