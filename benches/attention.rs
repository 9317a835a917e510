//! Scaled-dot-product attention and its gradients, compared with matrix products and a softmax; and one query over a
//! long cache.

mod common;

use common::{Bench, Case, EPS, Work, dot, random};
use gristmill::{AttentionOptions, Result, Tensor};

const HEADS: usize = 8;
const SIZE: usize = 64;

type Attend = fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>;

fn fused(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    q.scaled_dot_product_attention(k, v, &AttentionOptions::default())
}

fn causal(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    q.scaled_dot_product_attention(k, v, &AttentionOptions { causal: true, ..AttentionOptions::default() })
}

fn composed(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    q.matmul(&k.t()?)?.mul_scalar(1.0 / (SIZE as f32).sqrt())?.softmax(-1)?.matmul(v)
}

fn main() -> Result<()> {
    common::run("attention", |bench| {
        for [n, m] in [[512, 512], [1024, 1024], [1, 4096]] {
            cases(bench, n, m, "fused", fused);
            if n > 1 {
                cases(bench, n, m, "causal", causal);
            }
            cases(bench, n, m, "composed", composed);
        }
        Ok(())
    })
}

fn cases(bench: &mut Bench, n: usize, m: usize, name: &str, attend: Attend) {
    let product = 2 * HEADS * n * m * SIZE;
    let is_causal = name == "causal";
    let own = move |device: &_| -> Result<_> {
        let q = random(&[1, HEADS, n, SIZE], 1, device)?;
        let k = random(&[1, HEADS, m, SIZE], 2, device)?;
        let v = random(&[1, HEADS, m, SIZE], 3, device)?;
        Ok([q, k, v])
    };
    // Causal attention counts the full work too, so that times compare.
    bench.case(&format!("1x8x{n}x64 over {m}, {name}"), Work::Flops(2 * product), move |device| {
        let [(q, qs), (k, ks), (v, vs)] = own(device)?;
        let check = move |got: &[f32]| {
            for at in (0..97).map(|part| (got.len() - 1) * part / 96) {
                let (row, c) = (at / SIZE, at % SIZE);
                let (head, i) = (row / n, row % n);
                let seen = if is_causal { i + 1 + m - n } else { m };
                let scores: Vec<f64> = (0..seen)
                    .map(|j| {
                        let terms = (0..SIZE).map(|c| (qs[row * SIZE + c], ks[(head * m + j) * SIZE + c]));
                        dot(terms).0 / (SIZE as f64).sqrt()
                    })
                    .collect();
                let top = scores.iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - top).exp()).sum();
                let terms = scores.iter().enumerate().map(|(j, s)| {
                    let weight = (s - top).exp() / sum;
                    (weight, vs[(head * m + j) * SIZE + c])
                });
                // The error of the products of a score, of the exponential of its weight, and of the rescaling per
                // tile.
                let (want, bound) = dot(terms);
                let weights = (4 * SIZE + m / 2 + 64) as f64 * 2.0 * EPS;
                assert!(
                    (f64::from(got[at]) - want).abs() <= bound + weights,
                    "element {at}: {} for {want}",
                    got[at]
                );
            }
        };
        Ok(Case::new(move || attend(&q, &k, &v), check))
    });
    if n == 1 {
        return;
    }
    // Five products if the scores are recomputed, four if they are kept.
    bench.case(&format!("1x8x{n}x64 over {m}, {name}, gradients"), Work::Flops(4 * product), move |device| {
        let [(q, _), (k, _), (v, vs)] = own(device)?;
        let (grad, gs) = random(&[1, HEADS, n, SIZE], 4, device)?;
        let (k, v) = (k.requires_grad()?, v.requires_grad()?);
        // The tests check gradients against the reference; this only checks that they are plausible.
        let most = vs.iter().chain(gs.iter()).fold(0.0f64, |most, x| most.max(x.abs())) * SIZE as f64;
        let check = move |got: &[f32]| assert!(got.iter().all(|&g| f64::from(g.abs()) <= most));
        Ok(Case::gradient(q, grad, move |q| attend(q, &k, &v), check))
    });
}
