//! Max-pooling of the MNIST network and its gradient, both memory bound.

mod common;

use common::{Bench, Case, Work, random, sampled};
use gristmill::{Pool2dOptions, Result};

const PLANES: usize = 64 * 32;
const SIDE: usize = 26;
const X: usize = PLANES * SIDE * SIDE;
const Y: usize = X / 4;

fn main() -> Result<()> {
    common::run("pool2d", cases)
}

/// The positions of the four inputs of window `at`.
fn window(at: usize) -> [usize; 4] {
    let half = SIDE / 2;
    let first = at / half * 2 * SIDE + at % half * 2;
    [first, first + 1, first + SIDE, first + SIDE + 1]
}

fn cases(bench: &mut Bench) -> Result<()> {
    let options = Pool2dOptions::new([2, 2]);
    bench.case("max 64x32x26x26 2x2", Work::Bytes(4 * (X + Y)), |device| {
        let (x, values) = random(&[64, 32, SIDE, SIDE], 1, device)?;
        let check = sampled(move |at| (window(at).map(|i| values[i]).into_iter().fold(-1.0, f64::max), 0.0));
        Ok(Case::new(move || x.max_pool2d(options), check))
    });
    // Reads the gradient of the output and the argmax.
    bench.case("max 64x32x26x26 2x2, gradient", Work::Bytes(4 * (X + 2 * Y)), |device| {
        let (x, values) = random(&[64, 32, SIDE, SIDE], 1, device)?;
        let (grad, gradients) = random(&[64, 32, SIDE / 2, SIDE / 2], 2, device)?;
        let check = sampled(move |at| {
            let (row, col) = (at / SIDE, at % SIDE);
            let out = row / 2 * (SIDE / 2) + col / 2;
            // The first of equal elements.
            let max = window(out).into_iter().reduce(|a, b| if values[b] > values[a] { b } else { a });
            (if max == Some(at) { gradients[out] } else { 0.0 }, 0.0)
        });
        Ok(Case::gradient(x, grad, move |x| x.max_pool2d(options), check))
    });
    Ok(())
}
