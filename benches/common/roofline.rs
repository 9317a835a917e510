//! The peak rates of a device, arithmetic and memory, measured in the run that quotes them.
//!
//! On a GPU, two kernels dispatched by ops defined here; ops need nothing private to the crate. On the CPU, a large
//! matrix product and a copy.

use super::Case;
use gristmill::gpu::{Kernel, Recorder};
use gristmill::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, apply};
use gristmill::{CpuDevice, Device, Result, Shape, Tensor, params};
use rayon::prelude::*;
use std::sync::Arc;

const WG: u32 = 64;
/// Invocations of the FMA kernel; doubled until a run takes [`LONG_ENOUGH`].
const INVOCATIONS: usize = 16 << 10;
const ITERATIONS: u32 = 512;
/// Operations of an invocation of the FMA kernel per iteration: 8 chains of 16 steps, two operations each.
const FLOPS_PER_TURN: f64 = 8.0 * 16.0 * 2.0;
/// Seconds; far above the resolution of any timestamp.
const LONG_ENOUGH: f64 = 5e-3;
/// Elements: 64 MiB, read and written. Larger than most caches, and within the smallest binding limit of WebGPU.
const COPIED: usize = 16 << 20;
/// The peak is the best of this many runs.
const RUNS: usize = 10;

/// The peak rates, in FLOP/s and bytes/s.
#[derive(Clone, Copy)]
pub struct Roofline {
    pub arithmetic: f64,
    pub bandwidth: f64,
}

impl Roofline {
    /// The higher of each rate.
    pub fn max(self, other: Roofline) -> Roofline {
        let arithmetic = self.arithmetic.max(other.arithmetic);
        Roofline { arithmetic, bandwidth: self.bandwidth.max(other.bandwidth) }
    }

    pub fn measure(device: &Device) -> Result<Roofline> {
        let arithmetic = if device.is_gpu() { fma_rate(device)? } else { gemm_rate(device)? };
        let x = Tensor::uniform([COPIED], -1.0, 1.0, 1, device)?;
        let source = x.to_vec()?;
        let mut copy = Case::new(move || apply(Copy, &[&x]), move |y| assert_eq!(y, source, "copy"));
        copy.first(device)?;
        Ok(Roofline { arithmetic, bandwidth: 8.0 * COPIED as f64 / best(&mut copy, device)? })
    }
}

fn best(case: &mut Case, device: &Device) -> Result<f64> {
    (0..RUNS).try_fold(f64::INFINITY, |best, _| Ok(best.min(case.time(device)?)))
}

fn fma_rate(device: &Device) -> Result<f64> {
    // An op takes its device from its inputs.
    let here = Tensor::zeros([1], device)?;
    let mut count = INVOCATIONS;
    loop {
        let anchor = here.clone();
        let check = |y: &[f32]| assert!(y.iter().all(|&y| y == 16.0), "fma chains end at 2 each");
        let mut case = Case::new(move || apply(FmaChains { count }, &[&anchor]), check);
        case.first(device)?;
        let seconds = best(&mut case, device)?;
        if seconds > LONG_ENOUGH {
            return Ok(count as f64 * f64::from(ITERATIONS) * FLOPS_PER_TURN / seconds);
        }
        count *= 2;
    }
}

fn gemm_rate(device: &Device) -> Result<f64> {
    const N: usize = 1024;
    let a = Tensor::uniform([N, N], -1.0, 1.0, 1, device)?;
    let mut case = Case::new(move || a.matmul(&a), |_| ());
    case.first(device)?;
    Ok(2.0 * (N * N * N) as f64 / best(&mut case, device)?)
}

static FMA: Kernel = Kernel::new("fma.wgsl", "fma_chains", include_str!("../shaders/fma.wgsl"))
    .buffers(0, 1)
    .params::<FmaParams>()
    .constants(&[("WG", &[WG])]);

params! {
    struct FmaParams {
        factor: f32,
        term: f32,
        turns: u32,
        count: u32,
    }
}

/// An op that runs `count` invocations of `shaders/fma.wgsl`.
struct FmaChains {
    count: usize,
}

impl Op for FmaChains {
    fn name(&self) -> &'static str {
        "fma_chains"
    }

    fn infer(&self, _: &[Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta::f32(Shape::new([self.count])?)])
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        0
    }

    /// The sum of the converged chains; never timed.
    fn cpu(&self, _: &Arc<CpuDevice>, _: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        outputs[0].data.fill(16.0);
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, _: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let params = FmaParams { factor: 0.5, term: 1.0, turns: ITERATIONS, count: self.count as u32 };
        rec.dispatch(&FMA, &[WG], &[outputs[0].buffer], &params, self.count.div_ceil(WG as usize))
    }
}

static COPY: Kernel = Kernel::new("copy.wgsl", "copy", include_str!("../shaders/copy.wgsl"))
    .buffers(1, 1)
    .params::<CopyParams>()
    .constants(&[("WG", &[WG])]);

params! {
    struct CopyParams {
        count: u32,
        pad: [u32; 3],
    }
}

/// A contiguous copy. The number of elements is divisible by four.
struct Copy;

impl Op for Copy {
    fn name(&self) -> &'static str {
        "roofline_copy"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        Ok(vec![inputs[0]])
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        0
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        const PART: usize = 64 << 10;
        let parts = outputs[0].data.par_chunks_mut(PART).zip(inputs[0].slice().par_chunks(PART));
        parts.for_each(|(y, x)| y.copy_from_slice(x));
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let count = outputs[0].shape.numel() / 4;
        let params = CopyParams { count: count as u32, pad: [0; 3] };
        let buffers = [inputs[0].buffer, outputs[0].buffer];
        rec.dispatch(&COPY, &[WG], &buffers, &params, count.div_ceil(WG as usize))
    }
}
