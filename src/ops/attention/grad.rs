//! The gradients of attention, as in FlashAttention-2: the scores are computed again, not stored.

use super::geometry::{Geometry, Wrt};
use super::{MaskKind, NAME, ScoreModifiers, cpu, gpu};
use crate::Result;
use crate::cpu::CpuDevice;
use crate::gpu::Recorder;
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, Saved, apply, apply_all};
use crate::shape::Shape;
use crate::tensor::Tensor;
use std::sync::Arc;

pub(super) fn backward(
    modifiers: ScoreModifiers,
    saved: &Saved,
    grad: &Tensor,
    needs: &[bool],
) -> Result<Vec<Option<Tensor>>> {
    let delta = apply(Delta, &[saved.output(0)?, saved.output(1)?, grad])?;
    let mask = if modifiers.mask == MaskKind::None { None } else { Some(saved.input(3)?) };
    let inputs: Vec<&Tensor> =
        [saved.input(0)?, saved.input(1)?, saved.input(2)?, grad, &delta].into_iter().chain(mask).collect();
    let part =
        |wrt: Wrt| apply_all(Gradient { modifiers, wrt }, &inputs).map(|all| all.into_iter().map(Some));
    let mut grads = vec![None; needs.len()];
    if needs[1] || needs[2] {
        grads.splice(..3, part(Wrt::All)?);
    } else if needs[0] {
        grads[0] = part(Wrt::Queries)?.next().flatten();
    }
    if modifiers.mask == MaskKind::Additive && needs[3] {
        grads[3] = part(Wrt::Mask)?.next().flatten();
    }
    Ok(grads)
}

/// `[.., 2]`: the log-sum-exp of each row, and delta = Σ o do, the part of the gradient that comes from the division by
/// the sum of the weights. Inputs: o, the log-sum-exps, and do.
struct Delta;

impl Op for Delta {
    fn name(&self) -> &'static str {
        "scaled_dot_product_attention_delta"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta::f32(Shape::new([&inputs[1].shape[..], &[2]].concat())?)])
    }

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        inputs[0].numel().saturating_mul(2)
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        cpu::delta(inputs, outputs);
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        gpu::delta(rec, inputs, outputs)
    }
}

/// The gradients that `wrt` names. Inputs: q, k, v, do, the result of [`Delta`], and optionally the mask.
struct Gradient {
    modifiers: ScoreModifiers,
    wrt: Wrt,
}

impl Gradient {
    /// The sizes of the forward pass.
    fn geometry(inputs: &[Meta]) -> Result<Geometry> {
        Geometry::new(&[inputs[0], inputs[1], inputs[2]])
    }
}

impl Op for Gradient {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let geometry = Gradient::geometry(inputs)?;
        Ok(match self.wrt {
            Wrt::Queries => vec![Meta::f32(inputs[0].shape)],
            Wrt::All => (0..3).map(|at| Meta::f32(inputs[at].shape)).collect(),
            Wrt::Mask => vec![Meta::f32(geometry.queries(&[geometry.m])?)],
        })
    }

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        // The scores again, the gradients of the weights, then those of q, k and v.
        let of = |geometry: Geometry| {
            let (d, dv) = (geometry.d, geometry.dv);
            geometry.flops(match self.wrt {
                Wrt::Queries => (d + dv) + d,
                Wrt::All => (d + dv) + (d + d + dv),
                Wrt::Mask => d + dv,
            })
        };
        Gradient::geometry(inputs).map_or(0, of)
    }

    fn layout(&self, input: usize) -> Layouts {
        if input == 3 { Layouts::Contiguous } else { Layouts::Any }
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        cpu::backward(cpu, self.modifiers, self.wrt, inputs, outputs)
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        gpu::backward(rec, self.modifiers, self.wrt, inputs, outputs)
    }
}
