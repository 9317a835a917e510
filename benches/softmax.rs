//! Softmax over the last axis and its gradient: memory bound if exponentials are cheap.

mod common;

use common::{Bench, Case, EPS, Work, dot, random, sampled};
use gristmill::Result;

fn main() -> Result<()> {
    common::run("softmax", cases)
}

/// The softmax of one row.
fn reference(row: &[f64]) -> Vec<f64> {
    let max = row.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
    row.iter().map(|x| (x - max).exp() / sum).collect()
}

/// The relative error of an output: each term of the sum has one rounding, in any order, and an exponential of an
/// argument up to 2 errs by 3 + 2·2 ulp by WGSL's table.
fn error(cols: usize) -> f64 {
    (cols + 2 * 14 + 8) as f64 * EPS
}

fn cases(bench: &mut Bench) -> Result<()> {
    for [rows, cols] in [[4096, 1024], [256, 32768]] {
        let elements = rows * cols;
        bench.case(&format!("{rows}x{cols}"), Work::Bytes(2 * 4 * elements), |device| {
            let (x, values) = random(&[rows, cols], 1, device)?;
            let check = sampled(move |at| {
                let want = reference(&values[at / cols * cols..][..cols])[at % cols];
                (want, error(cols) * want)
            });
            Ok(Case::new(move || x.softmax(-1), check))
        });
        // Reads the output and its gradient.
        bench.case(&format!("{rows}x{cols}, gradient"), Work::Bytes(3 * 4 * elements), |device| {
            let (x, values) = random(&[rows, cols], 1, device)?;
            let (grad, gradients) = random(&[rows, cols], 2, device)?;
            let check = sampled(move |at| {
                let first = at / cols * cols;
                let y = reference(&values[first..][..cols]);
                let dy = &gradients[first..][..cols];
                let (sum, sum_error) = dot(y.iter().copied().zip(dy.iter().copied()));
                let (y, dy) = (y[at % cols], dy[at % cols]);
                (y * (dy - sum), y * (sum_error + 3.0 * error(cols) * (dy.abs() + 1.0)))
            });
            Ok(Case::gradient(x, grad, |x| x.softmax(-1), check))
        });
    }
    Ok(())
}
