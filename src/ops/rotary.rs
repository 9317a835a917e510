//! Rotary position embedding.

use super::{StridedIndexer, arity, floats, to_u32};
use crate::cpu::CpuDevice;
use crate::cpu::strided::GRAIN;
use crate::gpu::{Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, Saved, Saves, apply};
use crate::shape::Layout;
use crate::tensor::Tensor;
use crate::{Error, Result, params};
use rayon::prelude::*;
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&ROTARY];

const NAME: &str = "rotary_embedding";

static ROTARY: Kernel =
    kernel!("rotary.wgsl", "rotary", reads: 3, writes: 1, params: Params, "WG": &[super::WG]);

params! {
    struct Params {
        indexer: StridedIndexer, count: u32, slots: u32, pairs: u32, cols: u32, length: u32,
        step: u32, near: u32, far: u32, cos_offset: u32, sin_offset: u32, sign: f32, pad: u32,
    }
}

/// Which elements of a row form a pair; `d` is twice the number of pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RotaryPairs {
    /// i and i + d/2, as in GPT-NeoX and Llama.
    #[default]
    Halves,
    /// 2i and 2i + 1, as in the paper and GPT-J.
    Neighbours,
}

/// Inputs: x, then cosines and sines, `[n, pairs]` each.
#[derive(Debug, Clone, Copy)]
struct Rotary {
    pairs: RotaryPairs,
    back: bool,
}

impl Rotary {
    /// The distance between pairs, and between the two elements of a pair.
    fn steps(&self, pairs: usize) -> [usize; 2] {
        match self.pairs {
            RotaryPairs::Halves => [1, pairs],
            RotaryPairs::Neighbours => [2, 1],
        }
    }

    fn sign(&self) -> f32 {
        if self.back { -1.0 } else { 1.0 }
    }
}

/// The layout of the rows of x, and the stride along a row.
fn rows(x: &Layout) -> Result<(Layout, usize)> {
    let last = x.shape.rank() - 1;
    Ok((x.permute(&(0..last).collect::<Vec<_>>())?, x.strides[last]))
}

impl Op for Rotary {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x, cos, sin] = arity(NAME, inputs)?;
        floats(NAME, inputs)?;
        let wrong = |message: String| Err(Error::shape(NAME, message));
        let [.., length, cols] = *x.shape else {
            return wrong(format!("shape {}, should be [.., n, d]", x.shape));
        };
        match *cos.shape {
            _ if cos.shape != sin.shape => {
                wrong(format!("cosines of shape {} and sines of {}", cos.shape, sin.shape))
            }
            [positions, pairs] if positions == length && 2 * pairs <= cols => Ok(vec![Meta::f32(x.shape)]),
            _ => wrong(format!(
                "angles of shape {} for {}, should be [{length}, pairs] with at most {} pairs",
                cos.shape,
                x.shape,
                cols / 2
            )),
        }
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        // Of each element of a pair: two products and a sum.
        outputs[0].numel().saturating_mul(3)
    }

    fn layout(&self, input: usize) -> Layouts {
        if input == 0 { Layouts::Any } else { Layouts::Contiguous }
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (x, [cos, sin]) = (inputs[0], [inputs[1].slice(), inputs[2].slice()]);
        let [.., length, pairs] = *inputs[1].shape() else { return Ok(()) };
        let (rows, step) = rows(&x.layout)?;
        let ([near, far], sign) = (self.steps(pairs), self.sign());
        let cols = x.shape()[rows.shape.rank()];
        let each = GRAIN.div_ceil(cols);
        outputs[0].data.par_chunks_mut(each * cols).enumerate().for_each(|(part, y)| {
            for (row, y) in (part * each..).zip(y.chunks_exact_mut(cols)) {
                let x = &x.data[rows.position(row)..];
                let angles = row % length * pairs;
                let angles = cos[angles..][..pairs].iter().zip(&sin[angles..][..pairs]);
                for (first, (&cos, &sin)) in (0..).step_by(near).zip(angles) {
                    let (a, b, sin) = (x[first * step], x[(first + far) * step], sin * sign);
                    y[first] = a * cos - b * sin;
                    y[first + far] = b * cos + a * sin;
                }
                (2 * pairs..cols).for_each(|c| y[c] = x[c * step]);
            }
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let [x, cos, sin] = [inputs[0], inputs[1], inputs[2]];
        let [.., length, pairs] = *cos.layout.shape else { return Ok(()) };
        let (rows, step) = rows(&x.layout)?;
        let cols = x.layout.shape[rows.shape.rank()];
        let slots = cols - pairs;
        let count = rows.shape.numel() * slots;
        let [near, far] = self.steps(pairs);
        to_u32(NAME, rows.shape.numel() * cols)?;
        let params = Params {
            indexer: StridedIndexer::new(NAME, [rows])?,
            count: to_u32(NAME, count)?,
            slots: to_u32(NAME, slots)?,
            pairs: to_u32(NAME, pairs)?,
            cols: to_u32(NAME, cols)?,
            length: to_u32(NAME, length)?,
            step: to_u32(NAME, step)?,
            near: to_u32(NAME, near)?,
            far: to_u32(NAME, far)?,
            cos_offset: to_u32(NAME, cos.layout.offset)?,
            sin_offset: to_u32(NAME, sin.layout.offset)?,
            sign: self.sign(),
            pad: 0,
        };
        let buffers = [x.buffer, cos.buffer, sin.buffer, outputs[0].buffer];
        rec.dispatch(&ROTARY, &[super::WG], &buffers, &params, count.div_ceil(super::WG as usize))
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[1, 2], outputs: &[] }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let rotated = apply(Rotary { back: !self.back, ..*self }, &[grad, saved.input(1)?, saved.input(2)?])?;
        Ok(vec![Some(rotated), None, None])
    }
}

impl Tensor {
    /// Rotary position embedding of `[.., n, d]` ([Su et al.](https://arxiv.org/abs/2104.09864)).
    ///
    /// Rotates pair i of the row at position m by the angle whose cosine and sine are `cos[m, i]` and `sin[m, i]`, both
    /// `[n, pairs]`. Elements beyond the first `2 pairs` of a row are copied. Not differentiable in the angles.
    ///
    /// [`nn::Rotary`](crate::nn::Rotary) computes the tables, and slices them for positions that follow those in a key
    /// cache.
    ///
    /// ```
    /// # use gristmill::{Device, RotaryPairs, Tensor};
    /// let x = Tensor::from_slice(&[3.0, 4.0, 7.0], [1, 3], &Device::cpu())?;
    /// let [cos, sin] = [0.0, 1.0].map(|value| Tensor::full([1, 1], value, x.device()));
    /// let y = x.rotary_embedding(&cos?, &sin?, RotaryPairs::Halves)?; // a quarter turn
    /// assert_eq!(y.to_vec()?, [-4.0, 3.0, 7.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A rank below 2, angles of another shape, tensors of ids, or the device fails.
    #[track_caller]
    pub fn rotary_embedding(&self, cos: &Tensor, sin: &Tensor, pairs: RotaryPairs) -> Result<Tensor> {
        apply(Rotary { pairs, back: false }, &[self, &cos.detach(), &sin.detach()])
    }
}
