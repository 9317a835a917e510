//! Sorting along an axis, in full or for the first k elements.

use super::arity;
use super::gather::GatherGrad;
use super::slicing::rows_along;
use super::sort_rows::Sort;
use crate::cpu::CpuDevice;
use crate::cpu::strided::GRAIN;
use crate::gpu::Recorder;
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, MaxId, Meta, Op, Saved, Saves, apply, apply_all};
use crate::tensor::Tensor;
use crate::{DType, Error, Result};
use rayon::prelude::*;
use std::sync::Arc;

/// As `key_of` in `shared/order.wgsl`.
fn key_of(bits: u32, dtype: DType) -> u32 {
    match (dtype, bits) {
        (DType::U32, bits) => bits,
        (_, bits) if f32::from_bits(bits).is_nan() => u32::MAX,
        (_, 0x8000_0001..) => !bits,
        (_, bits) => bits | 0x8000_0000,
    }
}

/// As `bits_of` in `shared/order.wgsl`.
fn bits_of(key: u32, dtype: DType) -> u32 {
    match (dtype, key) {
        (DType::U32, key) => key,
        (_, 0x8000_0000..) => key & 0x7fff_ffff,
        (_, key) => !key,
    }
}

impl Op for Sort {
    fn name(&self) -> &'static str {
        self.name
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x] = arity(self.name, inputs)?;
        let last = x.shape.axis(self.name, -1)?;
        let shape = x.shape.with(last, self.keep)?;
        let places = Meta { max_id: MaxId::positions(x.shape[last]), ..Meta::u32(shape) };
        Ok(vec![Meta { shape, dtype: self.dtype, max_id: x.max_id.of_some() }, places])
    }

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        // Comparisons of a merge sort.
        let comparisons =
            |x: &Meta| x.numel().saturating_mul(x.shape.last().map_or(0, |n| n.max(&1).ilog2() + 1).into());
        inputs.first().map_or(0, comparisons)
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let Sort { keep, dtype, .. } = *self;
        let (x, flip) = (inputs[0], self.flip());
        let last = x.layout.shape.rank() - 1;
        let (rows, stride) = rows_along(&x.layout, last)?;
        let length = x.layout.shape[last];
        let (values, places) = outputs.split_at_mut(1);
        let rows_out = values[0].data.par_chunks_mut(keep).zip(places[0].ids().par_chunks_mut(keep));
        rows_out.with_min_len(GRAIN.div_ceil(length)).enumerate().try_for_each(|(row, (values, places))| {
            let start = rows.position(row);
            let pair = |place: usize| {
                let key = key_of(x.data[start + place * stride].to_bits(), dtype) ^ flip;
                u64::from(key) << 32 | place as u64
            };
            let mut pairs = cpu.list(length, (0..length).map(pair))?;
            let mut pairs = &mut pairs[..];
            if keep < length {
                pairs.select_nth_unstable(keep);
                pairs = &mut pairs[..keep];
            }
            // No two pairs are equal, so the order is that of a stable sort.
            pairs.par_sort_unstable();
            for ((&mut pair, value), place) in pairs.iter_mut().zip(values).zip(places) {
                *value = f32::from_bits(bits_of((pair >> 32) as u32 ^ flip, dtype));
                *place = pair as u32;
            }
            Ok(())
        })
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        self.dispatch(rec, inputs[0], outputs[0].buffer, outputs[1].buffer)
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[], outputs: &[1] }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let shape = saved.shape(0)?;
        let op = GatherGrad { axis: shape.rank() - 1, shape, distinct: true };
        Ok(vec![Some(apply(op, &[saved.output(1)?, grad])?)])
    }
}

impl Tensor {
    /// The first `keep` elements along an axis in order (all if `None`), and their positions along the axis.
    #[track_caller]
    fn ordered(
        &self,
        name: &'static str,
        axis: isize,
        keep: Option<usize>,
        descending: bool,
    ) -> Result<(Tensor, Tensor)> {
        let length = self.shape()[self.shape().axis(name, axis)?];
        let keep = keep.unwrap_or(length);
        if keep > length {
            let message = format!("{keep} elements of axis {axis} of shape {}", self.shape());
            return Err(Error::shape(name, message));
        }
        let op = Sort { name, keep, descending, dtype: self.dtype() };
        let outputs = apply_all(op, &[&self.transpose(axis, -1)?])?;
        Ok((outputs[0].transpose(axis, -1)?, outputs[1].transpose(axis, -1)?))
    }

    /// Sorts along an axis; returns the elements and their positions along the axis (`u32`).
    ///
    /// The sort is stable. NaN is larger than every number, as in PyTorch, and -0 equals 0. The axis may have any
    /// length: tiles are sorted in workgroup memory by Batcher's bitonic network (1968), then merged.
    ///
    /// The gradient goes back to the original positions.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[3.0, 1.0, 2.0], [3], &Device::cpu())?;
    /// let (values, places) = x.sort(0, false)?;
    /// assert_eq!(values.to_vec()?, [1.0, 2.0, 3.0]);
    /// assert_eq!(places.to_ids()?, [1, 2, 0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, or the device fails.
    #[track_caller]
    pub fn sort(&self, axis: isize, descending: bool) -> Result<(Tensor, Tensor)> {
        self.ordered("sort", axis, None, descending)
    }

    /// The positions (`u32`) of [`Tensor::sort`] alone.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[3.0, 1.0, 2.0], [3], &Device::cpu())?;
    /// assert_eq!(x.argsort(0, false)?.to_ids()?, [1, 2, 0]);
    /// assert_eq!(x.argsort(0, true)?.to_ids()?, [0, 2, 1]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::sort`].
    #[track_caller]
    pub fn argsort(&self, axis: isize, descending: bool) -> Result<Tensor> {
        Ok(self.detach().ordered("argsort", axis, None, descending)?.1)
    }

    /// The `k` largest or smallest elements along an axis, and their positions (`u32`).
    ///
    /// They are the first of [`Tensor::sort`], in its order; of equal elements the first are taken. A long axis is not
    /// sorted in full: only the first `k` of each tile are merged.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[0.1, 0.7, 0.2, 0.7], [1, 4], &Device::cpu())?;
    /// let (values, places) = x.topk(2, -1, true)?;
    /// assert_eq!((values.to_vec()?, places.to_ids()?), (vec![0.7, 0.7], vec![1, 3]));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, `k` larger than its length, or the device fails.
    #[track_caller]
    pub fn topk(&self, k: usize, axis: isize, largest: bool) -> Result<(Tensor, Tensor)> {
        self.ordered("topk", axis, Some(k), largest)
    }
}
