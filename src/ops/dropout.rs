//! Dropout, whose mask is computed again for the gradient instead of saved.

use super::copy::Fill;
use super::{WG, arity, floats, to_u32};
use crate::cpu::CpuDevice;
use crate::cpu::strided::GRAIN;
use crate::gpu::{Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, Saved, apply};
use crate::random::{Use, words};
use crate::tensor::Tensor;
use crate::{DType, Error, Result, params};
use rayon::prelude::*;
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&DROPOUT];

static DROPOUT: Kernel = kernel!("dropout.wgsl", "dropout", reads: 1, writes: 1, params: Params, "WG": &[WG]);

params! {
    struct Params {
        seed: [u32; 2], offset: [u32; 2], count: u32, x_offset: u32, threshold: u32, scale: f32,
    }
}

#[derive(Debug, Clone, Copy)]
struct Dropout {
    probability: f32,
    seed: u64,
    offset: u64,
}

impl Dropout {
    /// A random word below this drops its element. Not for a probability of 1, whose threshold does not fit in a `u32`.
    fn threshold(&self) -> u32 {
        (f64::from(self.probability) * 4_294_967_296.0) as u32
    }

    /// The factor on kept elements, which preserves the expectation.
    fn scale(&self) -> f32 {
        (1.0 / (1.0 - f64::from(self.probability))) as f32
    }
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x] = arity(self.name(), inputs)?;
        floats(self.name(), inputs)?;
        if !(0.0..=1.0).contains(&self.probability) {
            let message = format!("probability {} is not in 0..=1", self.probability);
            return Err(Error::argument(self.name(), message));
        }
        Ok(vec![Meta::f32(x.shape)])
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        outputs[0].numel()
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (x, y) = (inputs[0].slice(), &mut outputs[0].data);
        if self.probability == 1.0 {
            y.fill(0.0);
            return Ok(());
        }
        let (threshold, scale) = (self.threshold(), self.scale());
        y.par_chunks_mut(GRAIN).zip(x.par_chunks(GRAIN)).enumerate().for_each(|(part, (y, x))| {
            let first = part * GRAIN / 4;
            for (at, (y, x)) in y.chunks_mut(4).zip(x.chunks(4)).enumerate() {
                let drawn = words(self.seed, Use::Dropout, self.offset, (first + at) as u32);
                for ((y, x), word) in y.iter_mut().zip(x).zip(drawn) {
                    // A bit mask instead of a branch, which would often be mispredicted.
                    let kept = u32::from(word >= threshold).wrapping_neg();
                    *y = f32::from_bits((x * scale).to_bits() & kept);
                }
            }
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (x, y) = (inputs[0], outputs[0]);
        if self.probability == 1.0 {
            return Fill::dispatch(rec, y, 0);
        }
        let halves = |n: u64| [n as u32, (n >> 32) as u32];
        let count = y.shape.numel();
        let params = Params {
            seed: halves(self.seed),
            offset: halves(self.offset),
            count: to_u32(self.name(), count)?,
            x_offset: to_u32(self.name(), x.layout.offset)?,
            threshold: self.threshold(),
            scale: self.scale(),
        };
        rec.dispatch(&DROPOUT, &[WG], &[x.buffer, y.buffer], &params, count.div_ceil(4 * WG as usize))
    }

    fn backward(&self, _: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(apply(*self, &[grad])?)])
    }
}

impl Tensor {
    /// Dropout ([Srivastava et al.](https://jmlr.org/papers/v15/srivastava14a.html)), for training only: sets each
    /// element to 0 with this probability, and divides the others by `1 - probability`.
    ///
    /// The mask depends only on `seed`, `offset` and an element's row-major index, and is the same on every device. Use
    /// another `offset` for each call, such as the number of calls so far. A dropped element is 0 even if it was NaN or
    /// infinite. Probability 0 returns this same handle, probability 1 all zeros.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::ones([1000], &Device::cpu())?;
    /// let y = x.dropout(0.5, 42, 0)?.to_vec()?;
    /// assert!(y.iter().all(|&y| y == 0.0 || y == 2.0));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A probability outside `0..=1`, a tensor of ids, or the device fails.
    #[track_caller]
    pub fn dropout(&self, probability: f32, seed: u64, offset: u64) -> Result<Tensor> {
        if probability == 0.0 {
            self.expect(DType::F32, "dropout")?;
            return Ok(self.clone());
        }
        apply(Dropout { probability, seed, offset }, &[self])
    }
}
