//! Products of square matrices, by every kernel.

mod common;

use common::{Bench, Case, Work, dot, random, sampled};
use gristmill::{Activation, MatMulKernel, Result};

fn main() -> Result<()> {
    common::run("matmul", cases)
}

/// The kernels that the device supports for products of this size. The CPU has one.
fn ladder(bench: &Bench, n: usize) -> Vec<(&'static str, MatMulKernel)> {
    if !bench.device.is_gpu() {
        return vec![("gemm", MatMulKernel::Auto)];
    }
    let quick = n < 1024 || !bench.is_software();
    [
        ("naive", MatMulKernel::Naive, quick),
        ("registers", MatMulKernel::Registers, true),
        ("subgroup", MatMulKernel::Subgroup, bench.has_small_subgroups()),
        ("tiled", MatMulKernel::Tiled, quick),
    ]
    .into_iter()
    .filter_map(|(name, kernel, runs)| runs.then_some((name, kernel)))
    .collect()
}

fn cases(bench: &mut Bench) -> Result<()> {
    for n in [256, 512, 1024] {
        for (name, kernel) in ladder(bench, n) {
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
