//! The gradients of a normalization, by two ops with kernels of their own.

use super::{Kind, Normalization, Source, cpu, gpu};
use crate::Result;
use crate::cpu::CpuDevice;
use crate::gpu::Recorder;
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, apply, apply_all};
use crate::shape::Shape;
use crate::tensor::Tensor;
use std::sync::Arc;

/// The gradients with respect to x, weight and bias, as far as `needs` asks. `inputs`: x, dy, mean, variance, then the
/// optional weight.
pub(super) fn gradients(
    of: &Normalization,
    inputs: &[&Tensor],
    needs: [bool; 3],
) -> Result<[Option<Tensor>; 3]> {
    let (mut dx, mut sums) = (None, None);
    if needs[0] {
        let mut outputs = apply_all(Gradient { of: *of }, inputs)?.into_iter();
        (dx, sums) = (outputs.next(), outputs.next());
    }
    if sums.is_none() && (needs[1] || needs[2]) {
        sums = Some(apply(ChannelSums { of: *of }, &inputs[..4])?);
    }
    let shape = of.channels(inputs[0].shape())?;
    let row = |at: usize| match &sums {
        Some(sums) if needs[1 + at] => sums.slice(0, at..at + 1)?.reshape(shape).map(Some),
        _ => Ok(None),
    };
    Ok([dx, row(0)?, row(1)?])
}

/// The gradient with respect to x. Of batch normalization by the batch's own statistics also what [`ChannelSums`] gives,
/// since its rows are channels. Inputs: x, dy, mean, variance, then the optional weight.
struct Gradient {
    of: Normalization,
}

impl Op for Gradient {
    fn name(&self) -> &'static str {
        "norm_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let x = inputs[0].shape;
        let mut outputs = vec![Meta::f32(x)];
        if self.of.kind == Kind::Batch && self.of.source != Source::Given {
            outputs.push(Meta::f32(Shape::new([2, self.of.view(x)?.channels])?));
        }
        Ok(outputs)
    }

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        // The normalized element, two sums of products over each row, and the combination of the three.
        inputs[0].numel().saturating_mul(2 + 4 + 5)
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let inputs = cpu::GradInputs::new(cpu, &self.of, inputs)?;
        let [dx, sums @ ..] = outputs else { return Err(self.of.wrong("has no gradient".to_string())) };
        inputs.dx(cpu, sums.first_mut().map(|sums| &mut *sums.data), dx.data)
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        gpu::gradient(rec, &self.of, inputs, outputs)
    }
}

/// The gradients with respect to weight and bias, `[2, channels]`: the sums over each channel of
/// `dy (x - mean) / sqrt(variance + eps)` and of dy. Inputs: x, dy, mean, variance.
struct ChannelSums {
    of: Normalization,
}

impl Op for ChannelSums {
    fn name(&self) -> &'static str {
        "norm_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let channels = self.of.view(inputs[0].shape)?.channels;
        Ok(vec![Meta::f32(Shape::new([2, channels])?)])
    }

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        // The normalized element again, its product with dy, and the two sums.
        inputs[0].numel().saturating_mul(5)
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        cpu::GradInputs::new(cpu, &self.of, inputs)?.channel_sums(cpu, outputs[0].data)
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        gpu::channel_sums(rec, &self.of, inputs, outputs[0])
    }
}
