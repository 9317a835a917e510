//! Element-wise functions and a reduction over 2^22 elements, all memory bound.

mod common;

use common::{Bench, Case, EPS, Work, random, sampled};
use gristmill::{Result, Tensor};

const N: usize = 4 << 20;

fn main() -> Result<()> {
    common::run("elementwise", cases)
}

fn cases(bench: &mut Bench) -> Result<()> {
    bench.case("add 4M", Work::Bytes(3 * 4 * N), |device| {
        let ((a, x), (b, y)) = (random(&[N], 1, device)?, random(&[N], 2, device)?);
        Ok(Case::new(move || a.add(&b), sampled(move |i| (x[i] + y[i], EPS * (x[i] + y[i]).abs()))))
    });
    bench.case("gelu 4M", Work::Bytes(2 * 4 * N), |device| {
        let (a, x) = random(&[N], 1, device)?;
        Ok(Case::new(move || a.gelu(), sampled(move |i| (gelu(x[i]), gelu_error(x[i])))))
    });
    // Three kernels, but the minimum traffic is one pass over memory.
    bench.case("gelu(a * b + 1) 4M", Work::Bytes(3 * 4 * N), |device| {
        let ((a, x), (b, y)) = (random(&[N], 1, device)?, random(&[N], 2, device)?);
        Ok(Case::new(
            move || a.mul(&b)?.add_scalar(1.0)?.gelu(),
            sampled(move |i| {
                let z = x[i] * y[i] + 1.0;
                // The slope of GELU is below 1.13, and its argument has two roundings of values up to 2.
                (gelu(z), gelu_error(z) + 1.13 * 4.0 * EPS)
            }),
        ))
    });
    bench.case("sum 4M", Work::Bytes(4 * N), |device| {
        // Sums of ones are exact in f32, so every order gives the same result, and a missing part shows.
        let ones = Tensor::ones([N], device)?;
        Ok(Case::new(move || ones.sum_all(), |y| assert_eq!(y, [N as f32], "sum")))
    });
    Ok(())
}

/// `x Φ(x)` by the power series of the error function, for |x| up to 2.
fn gelu(x: f64) -> f64 {
    let z = x / 2f64.sqrt();
    let (mut term, mut sum) = (z, z);
    for n in 1..40 {
        term *= -z * z / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    0.5 * x * (1.0 + sum * 2.0 / std::f64::consts::PI.sqrt())
}

/// The error function errs by at most 4 ulp, which is 8 EPS; a few roundings of values up to 2 are added.
fn gelu_error(x: f64) -> f64 {
    0.5 * x.abs() * 8.0 * EPS + 16.0 * EPS * x.abs()
}
