//! Scaled-dot-product attention with all its options.

use super::pointwise::tanh;
use crate::ops::attention::most_rescales;
use crate::proof::{Array, Bounded, Case, Gen, Input, Kind, Row, TINY, ULP};
use crate::random::{Use, words};
use crate::tensor::Tensor;
use crate::{AttentionMask, AttentionOptions};
use std::sync::Arc;

pub(super) const ROWS: &[Row] = &[Row {
    name: "scaled_dot_product_attention",
    covers: &["scaled_dot_product_attention"],
    draw: attention,
    bench: None,
}];

/// The sizes and the options, except the mask, which is input 3.
#[derive(Clone, Debug)]
struct Call {
    lead: Vec<usize>,
    kv_heads: usize,
    group: usize,
    n: usize,
    m: usize,
    d: usize,
    dv: usize,
    additive: bool,
    options: AttentionOptions,
}

/// A query and a key that it sees.
#[derive(Clone, Copy)]
struct Pair {
    key: usize,
    score: Bounded,
    /// The derivative of the score with respect to the scaled dot product.
    slope: Bounded,
    /// The dropout factor of the weight; `None` if it is dropped.
    keep: Option<Bounded>,
}

/// The scores of a query, and the results of the forward pass.
struct Scores {
    pairs: Vec<Pair>,
    /// exp(score - largest score).
    weights: Vec<Bounded>,
    sum: Bounded,
    log: Bounded,
}

impl Call {
    fn batches(&self) -> usize {
        self.lead.iter().product()
    }

    fn heads(&self) -> usize {
        self.kv_heads * self.group
    }

    /// The shape `[.., heads, n, last]`.
    fn by_query(&self, last: usize) -> Vec<usize> {
        [&self.lead[..], &[self.heads(), self.n, last]].concat()
    }

    fn by_key(&self, last: usize) -> Vec<usize> {
        [&self.lead[..], &[self.kv_heads, self.m, last]].concat()
    }

    fn scale(&self) -> f64 {
        let scale = |scale: f32| f64::from(scale);
        self.options.scale.map_or(f64::from((1.0 / (self.d.max(1) as f64).sqrt()) as f32), scale)
    }

    /// Row `i` of a tensor whose rows have `width` elements.
    fn row(x: &Array, i: usize, width: usize) -> &[Bounded] {
        &x.data[i * width..][..width]
    }

    /// The row in k and v of key `key`, for query row `query`.
    fn key_row(&self, query: usize, key: usize) -> usize {
        query / self.n / self.group * self.m + key
    }

    fn is_near(&self, i: usize, j: usize) -> bool {
        let away = j as i64 - (i as i64 + self.m as i64 - self.n as i64);
        let [left, right] = self.options.window;
        let within = |reach: Option<usize>, away: i64| reach.is_none_or(|reach| away <= reach as i64);
        within(left, -away) && within(right, away) && !(self.options.causal && away > 0)
    }

    fn pair(&self, x: &[Array], query: usize, key: usize) -> Option<Pair> {
        let i = query % self.n;
        if !self.is_near(i, key) {
            return None;
        }
        let (q, k) = (Call::row(&x[0], query, self.d), Call::row(&x[1], self.key_row(query, key), self.d));
        let mut score = Bounded::sum(q.iter().zip(k).map(|(&q, &k)| q * k)) * self.scale();
        let mut slope = Bounded::ONE;
        if let Some(cap) = self.options.softcap {
            let t = tanh(score / f64::from(cap));
            slope = (Bounded::ONE - t) * (Bounded::ONE + t);
            score = t * f64::from(cap);
        }
        if let Some(mask) = x.get(3) {
            let batch = query / self.n / self.heads();
            let mut index: Vec<usize> = crate::proof::unravel(batch, &self.lead);
            index.extend([query / self.n % self.heads(), i, key]);
            let mask = mask.broadcast_at(&index);
            if mask.value() == if self.additive { f64::NEG_INFINITY } else { 0.0 } {
                return None;
            }
            score = if self.additive { score + mask } else { score };
        }
        Some(Pair { key, score, slope, keep: self.keep(query, key) })
    }

    fn keep(&self, query: usize, key: usize) -> Option<Bounded> {
        let probability = f64::from(self.options.dropout);
        if probability == 0.0 {
            return Some(Bounded::ONE);
        }
        let at = query * self.m + key;
        let word = words(self.options.seed, Use::Dropout, self.options.offset, (at / 4) as u32)[at % 4];
        let kept = f64::from(word) >= (probability * 4_294_967_296.0).floor() && probability < 1.0;
        kept.then(|| Bounded::rounded(1.0 / (1.0 - probability)))
    }

    /// The scores of a query, and their maximum and sum by online softmax, as the kernels compute it: tile by tile;
    /// when the maximum grows by d, the sum so far is scaled by exp(-d).
    ///
    /// In ulp, exp errs by 3 + 2d, and the rounding of d adds another d. The d that apply to a weight add up to its
    /// distance from the largest score. Each rescaling costs at least 3 for exp(0), and one for the product. The error
    /// of the largest score is a common factor of all weights, which cancels in the division.
    fn scores(&self, x: &[Array], query: usize) -> Scores {
        let pairs: Vec<Pair> = (0..self.m).filter_map(|key| self.pair(x, query, key)).collect();
        let largest = pairs.iter().fold(f64::NEG_INFINITY, |most, pair| most.max(pair.score.value()));
        let lost = pairs.iter().any(|pair| pair.score.value().is_nan()) || largest.is_infinite();
        let known = pairs.iter().all(|pair| pair.score.error() < f64::INFINITY);
        let rescales = most_rescales(self.m) as f64;
        let weight = |pair: &Pair| {
            let (score, error) = (pair.score.value(), pair.score.error());
            let below = largest - score + error;
            // A weight below the normal numbers may be flushed.
            let own = if below.is_finite() { (4.0 * rescales + 3.0 + 3.0 * below) * ULP * 1.01 } else { 0.0 };
            let value = (score - largest).exp();
            Bounded::new(value, value * (error.exp_m1() + own * error.exp()) + 2.0 * TINY)
        };
        let of = |value: Bounded| if lost { Bounded::exact(f64::NAN) } else { value };
        let of = |value: Bounded| if known || lost { of(value) } else { Bounded::UNKNOWN };
        let weights: Vec<Bounded> = pairs.iter().map(|pair| of(weight(pair))).collect();
        let sum = Bounded::sum(weights.iter().copied());
        // The sum is at least 1, up to its error.
        let log = of(Bounded::new(largest, 0.0) + sum.ln());
        Scores { pairs, weights, sum, log }
    }

    fn output(&self, x: &[Array]) -> Array {
        let mut o = Array::zeros(self.by_query(self.dv));
        for query in 0..self.batches() * self.heads() * self.n {
            let scores = self.scores(x, query);
            if scores.pairs.is_empty() {
                continue;
            }
            for c in 0..self.dv {
                let terms = scores.pairs.iter().zip(&scores.weights).filter_map(|(pair, &w)| {
                    pair.keep.map(|keep| w * keep * x[2].data[self.key_row(query, pair.key) * self.dv + c])
                });
                // An empty sum is 0, or NaN if the sum of the weights is NaN.
                o.data[query * self.dv + c] = Bounded::sum(terms) / scores.sum;
            }
        }
        o
    }

    fn gradients(&self, x: &[Array], dy: &Array) -> Vec<Option<Array>> {
        let o = self.output(x);
        let mut terms: [Vec<Vec<Bounded>>; 3] = [0, 1, 2].map(|at| vec![Vec::new(); x[at].numel()]);
        let mut dmask = Array::zeros(self.by_query(self.m));
        for query in 0..self.batches() * self.heads() * self.n {
            let Scores { pairs, log, .. } = self.scores(x, query);
            let dy = Call::row(dy, query, self.dv);
            let sum = |other: &[Bounded]| Bounded::sum(dy.iter().zip(other).map(|(&a, &b)| a * b));
            let delta = sum(Call::row(&o, query, self.dv));
            for pair in pairs {
                let key = self.key_row(query, pair.key);
                let w = (pair.score - log).exp();
                let w =
                    if w.value().is_finite() { Bounded::new(w.value(), w.error() + 2.0 * TINY) } else { w };
                let through =
                    pair.keep.map_or(Bounded::ZERO, |keep| sum(Call::row(&x[2], key, self.dv)) * keep);
                let du = w * (through - delta);
                dmask.data[query * self.m + pair.key] = du;
                let ds = du * pair.slope;
                for c in 0..self.d {
                    terms[0][query * self.d + c].push(weighted(ds, x[1].data[key * self.d + c]));
                    terms[1][key * self.d + c].push(weighted(ds, x[0].data[query * self.d + c]));
                }
                if let Some(keep) = pair.keep {
                    (0..self.dv).for_each(|c| terms[2][key * self.dv + c].push(w * keep * dy[c]));
                }
            }
        }
        let scale = self.scale();
        let mut at = 0;
        let mut grads: Vec<Option<Array>> = terms
            .into_iter()
            .zip(x)
            .map(|(terms, x)| {
                let factor = if at < 2 { scale } else { 1.0 };
                at += 1;
                let data = terms.into_iter().map(|terms| match factor {
                    1.0 => Bounded::sum(terms),
                    factor => Bounded::sum(terms) * factor,
                });
                Some(Array { shape: x.shape.clone(), data: data.collect() })
            })
            .collect();
        if let Some(mask) = x.get(3) {
            grads.push(self.additive.then(|| dmask.sum_to(&mask.shape)));
        }
        grads
    }
}

/// A product with a weight. A kernel may skip a term of weight 0, so 0 times infinity has no bound.
fn weighted(w: Bounded, x: Bounded) -> Bounded {
    let none = w.value() == 0.0 && w.error() == 0.0;
    if none && x.value().is_infinite() { Bounded::UNKNOWN } else { w * x }
}

/// Multiplications per unit of a case's `size`. With fewer, most cases would have fewer than three queries or four
/// keys.
const WORK: usize = 16;

/// Random sizes with at most `WORK * size` multiplications in all.
fn call(g: &mut Gen) -> Call {
    let lead: Vec<usize> = (0..g.below(3)).map(|_| g.range(1..=2)).collect();
    let [kv_heads, group] = [0; 2].map(|_| g.choose(&[1, 1, 2, 3]));
    let in_fours = g.flag();
    let mut sizes = [g.length(), g.length(), g.length(), g.length()];
    if g.one_in(4) {
        // Many keys and few queries: the keys are cut into slices (split-K).
        sizes = [1, g.choose(&[257, 600, 1030]), 1, g.range(0..=1)];
    }
    let most = (WORK * g.size / (lead.iter().product::<usize>() * kv_heads * group)).max(1);
    let work = |[n, m, d, dv]: [usize; 4]| n.max(1) * m.max(1) * (d + dv).max(1);
    while work(sizes) > most && sizes.iter().any(|&size| size > 1) {
        let longest = (0..4).max_by_key(|&axis| sizes[axis]).unwrap_or(0);
        sizes[longest] = sizes[longest].div_ceil(2);
    }
    let [n, m, d, dv] = sizes;
    // Half of the cases have widths divisible by four, because some kernels load four elements at once.
    let fours = |size: usize| if in_fours { size.next_multiple_of(4).min(256) } else { size.min(256) };
    let (d, dv) = (fours(d), fours(dv));
    let reach = |g: &mut Gen| g.one_in(3).then(|| g.below(m + 2));
    let window = [reach(g), reach(g)];
    let options = AttentionOptions {
        causal: g.one_in(3),
        mask: None,
        scale: g.one_in(3).then(|| g.number(-1.5, 1.5) as f32),
        softcap: g.one_in(4).then(|| g.number(0.5, 4.0) as f32),
        window: if g.one_in(3) { window } else { [None; 2] },
        dropout: if g.one_in(4) { g.choose(&[1e-9, 0.25, 0.5, 0.9, 1.0]) } else { 0.0 },
        seed: g.bits(),
        offset: g.bits(),
    };
    let options = if g.one_in(3) { AttentionOptions::default() } else { options };
    Call { lead, kv_heads, group, n, m, d, dv, additive: g.flag(), options }
}

fn mask(g: &mut Gen, call: &Call) -> Input {
    let whole = call.by_query(call.m);
    let shape: Vec<usize> = whole.iter().map(|&d| if g.one_in(3) { 1 } else { d }).collect();
    let shape = &shape[if g.flag() { g.below(shape.len() + 1) } else { 0 }..];
    let mut mask = if call.additive { g.values(shape, -2.0, 2.0) } else { g.constants(shape, -1.0, 1.0) };
    let rare = g.choose(&[2, 8]);
    for x in mask.array.data.iter_mut() {
        let hides = g.one_in(rare);
        match call.additive {
            true if hides => *x = Bounded::exact(f64::NEG_INFINITY),
            false if hides => *x = Bounded::ZERO,
            _ => {}
        }
    }
    Input { kind: if call.additive { Kind::Variable } else { Kind::Constant }, ..mask }
}

fn attention(g: &mut Gen) -> Case {
    let call = Arc::new(call(g));
    let range = g.choose(&[1.0, 2.0]);
    let mut inputs = vec![
        g.values(&call.by_query(call.d), -range, range),
        g.values(&call.by_key(call.d), -range, range),
        g.values(&call.by_key(call.dv), -range, range),
    ];
    if g.one_in(3) {
        inputs.push(mask(g, &call));
    }
    let label = format!("{call:?}, mask {:?}", inputs.get(3).map(|mask| mask.array.shape.clone()));
    let (run, reference, gradient) = (call.clone(), call.clone(), call);
    let run = move |t: &[Tensor]| {
        let kind = if run.additive { AttentionMask::Additive } else { AttentionMask::Boolean };
        let options = AttentionOptions { mask: t.get(3).cloned().map(kind), ..run.options.clone() };
        t[0].scaled_dot_product_attention(&t[1], &t[2], &options)
    };
    Case::new(label, inputs, run, move |x| reference.output(x))
        .gradient(move |x, dy| gradient.gradients(x, dy))
}
