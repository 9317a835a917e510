//! Concatenating and splitting tensors along an axis.

use super::copy::{copy_to, copy_to_on_cpu};
use crate::cpu::CpuDevice;
use crate::gpu::Recorder;
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, apply, no_gradient};
use crate::shape::{Layout, Shape};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::sync::Arc;

/// Concatenates the inputs along an axis: each is copied into its part of the output.
struct Cat {
    name: &'static str,
    axis: usize,
}

impl Cat {
    /// The part of the output for each input, given their lengths along the axis.
    fn parts(&self, whole: Shape, lengths: impl Iterator<Item = usize>) -> Result<Vec<Layout>> {
        let whole = Layout::contiguous(whole);
        let mut start = 0;
        let part = |length: usize| {
            let offset = start * whole.strides[self.axis];
            start += length;
            Ok(Layout { shape: whole.shape.with(self.axis, length)?, offset, ..whole })
        };
        lengths.map(part).collect()
    }
}

impl Op for Cat {
    fn name(&self) -> &'static str {
        self.name
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let first = inputs[0];
        let (mut length, mut max_id) = (0, first.max_id);
        for input in inputs {
            let alike = input.shape.rank() == first.shape.rank()
                && (0..first.shape.rank()).all(|k| k == self.axis || input.shape[k] == first.shape[k]);
            if !alike || input.dtype != first.dtype {
                let message = format!(
                    "{:?} {} does not go with {:?} {} along axis {}",
                    input.dtype, input.shape, first.dtype, first.shape, self.axis
                );
                return Err(Error::shape(self.name, message));
            }
            length += input.shape[self.axis];
            max_id = max_id.max(input.max_id);
        }
        Ok(vec![Meta { shape: first.shape.with(self.axis, length)?, max_id, ..first }])
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        0
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let parts = self.parts(outputs[0].shape, inputs.iter().map(|x| x.layout.shape[self.axis]))?;
        for (&x, part) in inputs.iter().zip(parts) {
            copy_to_on_cpu(x, outputs[0].data, part);
        }
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let parts = self.parts(outputs[0].shape, inputs.iter().map(|x| x.layout.shape[self.axis]))?;
        inputs.iter().zip(parts).try_for_each(|(&x, part)| copy_to(rec, x, outputs[0], part))
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let lengths: Vec<usize> =
            (0..needs.len()).map(|at| Ok(saved.shape(at)?[self.axis])).collect::<Result<_>>()?;
        let parts = grad.split(&lengths, self.axis as isize)?;
        Ok(parts.into_iter().zip(needs).map(|(part, &needed)| needed.then_some(part)).collect())
    }
}

/// The most views that one call returns; each is a tensor.
const MOST_PARTS: usize = 1 << 20;

#[track_caller]
fn limited(op: &'static str, parts: usize) -> Result<()> {
    if parts <= MOST_PARTS {
        return Ok(());
    }
    Err(Error::argument(op, format!("{parts} parts are more than {MOST_PARTS}")))
}

impl Tensor {
    /// Concatenates tensors along an axis.
    ///
    /// Their shapes may differ only along that axis: `[2, 3]` and `[2, 5]` along axis 1 give `[2, 8]`. All are `f32`,
    /// or all are ids.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0], [2, 1], &Device::cpu())?;
    /// assert_eq!(Tensor::cat(&[&x, &x.neg()?], -1)?.to_vec()?, [1.0, -1.0, 2.0, -2.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No tensors, no such axis, shapes that differ along another axis, types that differ, or the device fails.
    #[track_caller]
    pub fn cat(tensors: &[&Tensor], axis: isize) -> Result<Tensor> {
        const NAME: &str = "cat";
        let first = tensors.first().ok_or_else(|| Error::argument(NAME, "no tensors to put together"))?;
        apply(Cat { name: NAME, axis: first.shape().axis(NAME, axis)? }, tensors)
    }

    /// Stacks tensors of one shape along a new axis at index `axis`: three of `[4]` give `[3, 4]` along axis 0 and
    /// `[4, 3]` along -1.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let a = Tensor::from_slice(&[1.0, 2.0], [2], &Device::cpu())?;
    /// let b = Tensor::from_slice(&[3.0, 4.0], [2], &Device::cpu())?;
    /// assert_eq!(Tensor::stack(&[&a, &b], 0)?.to_vec()?, [1.0, 2.0, 3.0, 4.0]); // as rows
    /// assert_eq!(Tensor::stack(&[&a, &b], -1)?.to_vec()?, [1.0, 3.0, 2.0, 4.0]); // as columns
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No tensors, no such axis, shapes or types that differ, a rank over 6, or the device fails.
    #[track_caller]
    pub fn stack(tensors: &[&Tensor], axis: isize) -> Result<Tensor> {
        const NAME: &str = "stack";
        let first = tensors.first().ok_or_else(|| Error::argument(NAME, "no tensors to put together"))?;
        if let Some(other) = tensors.iter().find(|other| other.shape() != first.shape()) {
            let message = format!("shape {} does not go with {}", other.shape(), first.shape());
            return Err(Error::shape(NAME, message));
        }
        let axis = Shape::new([&first.shape()[..], &[1]].concat())?.axis(NAME, axis)?;
        let layers = tensors.iter().map(|x| x.unsqueeze(axis as isize)).collect::<Result<Vec<_>>>()?;
        apply(Cat { name: NAME, axis }, &layers.iter().collect::<Vec<_>>())
    }

    /// Splits an axis into parts of these lengths.
    ///
    /// The parts are views, and their gradients are concatenated once.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], &Device::cpu())?;
    /// let parts = x.split(&[1, 2], 1)?; // of shapes [2, 1] and [2, 2]
    /// assert_eq!(parts[0].to_vec()?, [1.0, 4.0]);
    /// assert_eq!(parts[1].to_vec()?, [2.0, 3.0, 5.0, 6.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, lengths that do not sum to its own, or more than 1,048,576 of them.
    #[track_caller]
    pub fn split(&self, lengths: &[usize], axis: isize) -> Result<Vec<Tensor>> {
        let at = self.shape().axis("split", axis)?;
        limited("split", lengths.len())?;
        let sum = lengths.iter().try_fold(0usize, |sum, &length| sum.checked_add(length));
        if sum != Some(self.shape()[at]) {
            let message = format!("lengths {lengths:?} do not sum to axis {axis} of shape {}", self.shape());
            return Err(Error::shape("split", message));
        }
        let (whole, mut start) = (*self.layout(), 0);
        let part = |&length: &usize| {
            let shape = whole.shape.with(at, length)?;
            // The offset of an empty part might lie outside the buffer.
            let before = if shape.numel() == 0 { 0 } else { start * whole.strides[at] };
            start += length;
            Ok(Layout { shape, offset: whole.offset + before, ..whole })
        };
        let parts = lengths.iter().map(part).collect::<Result<Vec<Layout>>>()?;
        let shapes: Vec<Shape> = parts.iter().map(|part| part.shape).collect();
        Ok(self.views(parts, move |grads| {
            let device = grads.iter().flatten().next().ok_or_else(|| no_gradient("split"))?.device();
            let filled = grads.iter().zip(&shapes).map(|(grad, shape)| match grad {
                Some(grad) => Ok(grad.clone()),
                None => Tensor::scalar(0.0, device)?.expand(shape),
            });
            let filled = filled.collect::<Result<Vec<Tensor>>>()?;
            apply(Cat { name: "split_grad", axis: at }, &filled.iter().collect::<Vec<_>>())
        }))
    }

    /// Splits an axis into `count` parts of equal length, as PyTorch's `chunk`.
    ///
    /// If `count` does not divide the axis, the length is rounded up: the last part is shorter, and there may be fewer
    /// parts. The parts are views.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0], [5], &Device::cpu())?;
    /// let parts = x.chunk(2, 0)?;
    /// assert_eq!((parts[0].to_vec()?, parts[1].to_vec()?), (vec![1.0, 2.0, 3.0], vec![4.0, 5.0]));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, a count of 0, or more than 1,048,576 parts.
    #[track_caller]
    pub fn chunk(&self, count: usize, axis: isize) -> Result<Vec<Tensor>> {
        let whole = self.shape()[self.shape().axis("chunk", axis)?];
        if count == 0 {
            return Err(Error::argument("chunk", "0 parts"));
        }
        let each = whole.div_ceil(count);
        limited("chunk", whole.checked_div(each).map_or(count, |_| whole.div_ceil(each)))?;
        if each == 0 {
            return self.split(&vec![0; count], axis);
        }
        let lengths: Vec<usize> = (0..whole).step_by(each).map(|start| each.min(whole - start)).collect();
        self.split(&lengths, axis)
    }
}
