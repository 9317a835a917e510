//! The index of the largest or smallest element along an axis.

use super::reduction::{Axes, CpuReduction, GpuReduction, LANES, Params, WG, reduce};
use crate::Result;
use crate::cpu::CpuDevice;
use crate::gpu::{Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, MaxId, Meta, Op};
use crate::tensor::Tensor;
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&ARG];

static ARG: Kernel = kernel!("arg.wgsl", "arg", reads: 1, writes: 1, params: Params,
    "OP": &[0, 1], "PARTS": &[0, 1], "FLAT": &[1], "WG": &[WG], "LANES": LANES);

/// The index of the largest or smallest element along the only axis of `axes`: the first one, and NaN before all
/// numbers.
struct Arg {
    smallest: bool,
    axes: Axes,
}

/// A number that orders as x does, with NaN the largest; both zeros are equal.
fn key_of(x: f32) -> u32 {
    match x.to_bits() {
        _ if x.is_nan() => u32::MAX,
        bits if x < 0.0 => !bits,
        bits => bits | 1 << 31,
    }
}

impl Op for Arg {
    fn name(&self) -> &'static str {
        if self.smallest { "argmin" } else { "argmax" }
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let shape = self.axes.infer(self.name(), inputs, true)?;
        Ok(vec![Meta { max_id: MaxId::positions(self.axes.length(inputs[0].shape)), ..Meta::u32(shape) }])
    }

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        inputs[0].numel()
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let key = |x: f32| key_of(if self.smallest { -x } else { x });
        // One comparison orders by the larger key, then by the smaller index.
        let pair = |x, i: u32| u64::from(key(x)) << 32 | u64::from(!i);
        let first =
            CpuReduction { identity: 0, update: |state: u64, x, i| state.max(pair(x, i)), merge: u64::max };
        let mut pairs = cpu.filled(0, outputs[0].shape.numel())?;
        reduce(cpu, first, inputs[0], &self.axes, &mut pairs)?;
        outputs[0].ids().iter_mut().zip(&*pairs).for_each(|(y, &pair)| *y = !(pair as u32));
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let op = u32::from(self.smallest);
        let constants = [&[op, 0][..], &[op, 1]];
        let reduction = GpuReduction { name: self.name(), kernel: &ARG, constants, words: 2, value: 0.0 };
        reduction.dispatch(rec, inputs[0], &self.axes, outputs[0].buffer)
    }
}

impl Tensor {
    /// The index of the largest element along `axis`, as ids.
    ///
    /// Of several equal ones it is the first, and the first NaN if there is one, as in PyTorch. `keepdim` keeps the
    /// axis with length 1. Not differentiable.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 5.0, 5.0, 0.0, -1.0, -2.0], [2, 3], &Device::cpu())?;
    /// assert_eq!(x.argmax(1, false)?.to_ids()?, [1, 0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, an empty one, a tensor of ids, or the device fails.
    #[track_caller]
    pub fn argmax(&self, axis: isize, keepdim: bool) -> Result<Tensor> {
        self.detach().reduce_by("argmax", &[axis], keepdim, |axes| Arg { smallest: false, axes })
    }

    /// As [`Tensor::argmax`], for the smallest element.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 5.0, 0.0, 4.0, -1.0, 2.0], [2, 3], &Device::cpu())?;
    /// assert_eq!(x.argmin(0, false)?.to_ids()?, [0, 1, 0]); // of each column
    /// assert_eq!(x.argmin(-1, true)?.to_ids()?, [2, 1]); // of each row
    /// assert_eq!(x.argmin(-1, true)?.shape(), [2, 1]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::argmax`].
    #[track_caller]
    pub fn argmin(&self, axis: isize, keepdim: bool) -> Result<Tensor> {
        self.detach().reduce_by("argmin", &[axis], keepdim, |axes| Arg { smallest: true, axes })
    }
}
