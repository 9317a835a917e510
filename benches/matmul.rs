//! Matrix products of square matrices: every rung of the ladder from one invocation an element up.

mod common;

use common::{Bench, Case, Work, dot, random, sampled};
use gristmill::gpu::AdapterKind;
use gristmill::{Activation, Device, MatMulKernel, Result};

fn main() -> Result<()> {
    common::run("matmul", cases)
}

/// The kernels that the device has for products of this size; the CPU has one.
fn ladder(device: &Device, n: usize) -> Vec<(&'static str, MatMulKernel)> {
    let Device::Gpu(gpu) = device else { return vec![("gemm", MatMulKernel::Auto)] };
    let (least, most) = gpu.adapter().subgroup_size;
    let small_subgroups = least == most && [4, 8].contains(&least);
    // A rasteriser takes seconds for the largest product on the rungs that are not meant for it.
    let quick = n < 1024 || gpu.adapter().kind == AdapterKind::Hardware;
    [
        ("naive", MatMulKernel::Naive, quick),
        ("registers", MatMulKernel::Registers, true),
        ("subgroup", MatMulKernel::Subgroup, small_subgroups),
        ("tiled", MatMulKernel::Tiled, quick),
    ]
    .into_iter()
    .filter_map(|(name, kernel, runs)| runs.then_some((name, kernel)))
    .collect()
}

fn cases(bench: &mut Bench) -> Result<()> {
    for n in [256, 512, 1024] {
        for (name, kernel) in ladder(&bench.device, n) {
            bench.case(&format!("{n} {name}"), Work::Flops(2 * n * n * n), |device| {
                let ((a, a_values), (b, b_values)) =
                    (random(&[n, n], 1, device)?, random(&[n, n], 2, device)?);
                Ok(Case::new(
                    move || a.matmul_with(&b, None, Activation::None, kernel),
                    sampled(move |at| {
                        let (row, col) = (at / n, at % n);
                        dot((0..n).map(|k| (a_values[row * n + k], b_values[k * n + col])))
                    }),
                ))
            });
        }
    }
    Ok(())
}
