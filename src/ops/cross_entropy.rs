//! Cross-entropy of logits against class ids, fused with the softmax.

use super::reduce::mean_of;
use super::softmax::{Teams, larger};
use super::{arity, word};
use crate::cpu::simd::{exp_below, fold_run, wide};
use crate::cpu::walk::GRAIN;
use crate::gpu::{Kernel, Recorder};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, Saved, Saves, apply};
use crate::shape::Shape;
use crate::tensor::{DType, Tensor};
use crate::{Error, Result, kernel, params};
use rayon::prelude::*;

pub(crate) const KERNELS: &[&Kernel] = &[&CROSS_ENTROPY, &CROSS_ENTROPY_GRAD];

const NAME: &str = "cross_entropy";

static CROSS_ENTROPY: Kernel = kernel!("cross_entropy.wgsl", "cross_entropy", reads: 2, writes: 3, params: Params,
    "WG": &[Teams::WG], "LANES": Teams::LANES);
static CROSS_ENTROPY_GRAD: Kernel = kernel!("cross_entropy_grad.wgsl", "cross_entropy_grad", reads: 4, writes: 1,
    params: GradParams, "WG": &[Teams::WG], "LANES": Teams::LANES);

params! {
    struct Params {
        rows: u32,
        classes: u32,
        x_offset: u32,
        t_offset: u32,
        code: u32,
    }
}

params! {
    struct GradParams {
        rows: u32,
        classes: u32,
        x_offset: u32,
        t_offset: u32,
        n_offset: u32,
        dy_offset: u32,
    }
}

/// The mean over rows r of `ln(s_r) - (x[r, t_r] - m_r)`, where m_r is the row's maximum and s_r the sum of
/// `exp(x[r, c] - m_r)`; these two are kept for the gradient.
struct CrossEntropy;

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x, t] = arity(NAME, inputs)?;
        let (logits, targets) = (x.shape, t.shape);
        let fits = logits.rank() == 2 && targets.rank() == 1 && logits[0] == targets[0];
        if !fits || x.dtype != DType::F32 || t.dtype != DType::U32 {
            let message = format!(
                "wants f32 logits [n, classes] and u32 targets [n], got {:?} {logits} and {:?} {targets}",
                x.dtype, t.dtype
            );
            return Err(Error::shape(NAME, message));
        }
        if logits.numel() == 0 {
            let message = format!("nothing to average in logits {logits} with targets {targets}");
            return Err(Error::shape(NAME, message));
        }
        match t.max_id {
            Some(id) if id as usize >= logits[1] => Err(stray(id, logits)),
            _ => Ok(vec![Meta::f32(Shape::SCALAR), Meta::f32(Shape::new([logits[0], 2])?)]),
        }
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (shape, ids) = (inputs[0].shape(), inputs[1].ids());
        let classes = shape[1];
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= classes) {
            return Err(stray(id, shape));
        }
        let (mean, normalisers) = outputs.split_at_mut(1);
        let mut losses = vec![0.0; ids.len()];
        let rows = inputs[0].slice().par_chunks(classes).zip(ids).zip(normalisers[0].data.par_chunks_mut(2));
        rows.zip(&mut losses).with_min_len(GRAIN.div_ceil(classes)).for_each(|(((row, &id), kept), loss)| {
            let max = fold_run(f32::NEG_INFINITY, larger, |x| x, row);
            let sum = wide(
                #[inline(always)]
                || fold_run(0.0, |a, b| a + b, |x| exp_below(x - max), row),
            );
            kept.copy_from_slice(&[max, sum]);
            *loss = sum.ln() - (row[id as usize] - max);
        });
        mean[0].data[0] = fold_run(0.0, |a, b| a + b, |x| x, &losses) / losses.len() as f32;
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (x, t) = (inputs[0], inputs[1]);
        let [rows, classes] = [x.layout.shape[0], x.layout.shape[1]];
        let teams = Teams::of_whole_rows(rec, NAME, rows, classes)?;
        let (status, code) = rec.status(NAME)?;
        let losses = rec.scratch(rows)?;
        let params = Params {
            rows: word(NAME, rows)?,
            classes: word(NAME, classes)?,
            x_offset: word(NAME, x.layout.offset)?,
            t_offset: word(NAME, t.layout.offset)?,
            code,
        };
        let buffers = [x.buffer, t.buffer, &losses, outputs[1].buffer, &*status];
        rec.dispatch(&CROSS_ENTROPY, &[Teams::WG, teams.lanes], &buffers, &params, teams.groups(rows))?;
        mean_of(rec, &losses, rows, outputs[0].buffer)
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[0, 1], outputs: &[1] }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let inputs = [saved.input(0)?, saved.input(1)?, saved.output(1)?, grad];
        Ok(vec![Some(apply(CrossEntropyGrad, &inputs)?), None])
    }
}

fn stray(id: u32, logits: Shape) -> Error {
    Error::argument(
        NAME,
        format!("class id {id} among the targets, but logits {logits} have {} classes", logits[1]),
    )
}

/// The gradient of [`CrossEntropy`] with regard to the logits: `(softmax - one_hot) dy / n`. Inputs: logits, targets,
/// each row's maximum and sum, and dy.
struct CrossEntropyGrad;

impl Op for CrossEntropyGrad {
    fn name(&self) -> &'static str {
        "cross_entropy_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x, ..] = arity::<4>(self.name(), inputs)?;
        Ok(vec![x])
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (x, ids, kept) = (inputs[0].slice(), inputs[1].ids(), inputs[2].slice());
        let classes = outputs[0].shape[1];
        let scale = inputs[3].slice()[0] / ids.len() as f32;
        let rows = outputs[0].data.par_chunks_mut(classes).zip(x.par_chunks(classes));
        let rows = rows.zip(ids.par_iter().zip(kept.par_chunks(2))).with_min_len(GRAIN.div_ceil(classes));
        rows.for_each(|((dx, x), (&id, kept))| {
            let (max, factor) = (kept[0], scale / kept[1]);
            wide(
                #[inline(always)]
                || dx.iter_mut().zip(x).for_each(|(dx, &x)| *dx = exp_below(x - max) * factor),
            );
            dx[id as usize] -= scale;
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let name = self.name();
        let [rows, classes] = [outputs[0].shape[0], outputs[0].shape[1]];
        let teams = Teams::of_whole_rows(rec, name, rows, classes)?;
        let offset = |input: usize| word(name, inputs[input].layout.offset);
        let params = GradParams {
            rows: word(name, rows)?,
            classes: word(name, classes)?,
            x_offset: offset(0)?,
            t_offset: offset(1)?,
            n_offset: offset(2)?,
            dy_offset: offset(3)?,
        };
        let buffers =
            [inputs[0].buffer, inputs[1].buffer, inputs[2].buffer, inputs[3].buffer, outputs[0].buffer];
        rec.dispatch(&CROSS_ENTROPY_GRAD, &[Teams::WG, teams.lanes], &buffers, &params, teams.groups(rows))
    }
}

impl Tensor {
    /// The mean over the rows of `-log_softmax(logits)[target]`, of rank 0: this tensor holds logits `[n, classes]`,
    /// `targets` the class ids, `u32 [n]`. One pass over the logits, which keeps two numbers a row for the gradient
    /// `(softmax - one_hot) / n`; the online normaliser is that of
    /// [Milakov & Gimelshein](https://arxiv.org/abs/1805.02867).
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let logits = Tensor::zeros([3, 10], &Device::cpu())?;
    /// let targets = Tensor::from_ids(&[7, 0, 9], [3], &Device::cpu())?;
    /// assert!((logits.cross_entropy(&targets)?.item()? - 10f32.ln()).abs() < 1e-6);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Other shapes or types, an empty batch, no classes, or the device fails. A class id past the end is an error at
    /// once where the ids were uploaded or live on the CPU; of ids computed on a GPU it is one of the next read-back.
    pub fn cross_entropy(&self, targets: &Tensor) -> Result<Tensor> {
        apply(CrossEntropy, &[self, targets])
    }
}
