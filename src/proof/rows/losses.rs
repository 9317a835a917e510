//! Losses of a prediction and a target, and cross-entropy.

use super::pointwise::{sigmoid, softplus};
use crate::nn::{self, Loss, Reduction};
use crate::proof::{Array, Bounded, Case, Gen, Input, Kind, Row, TINY, ULP, Work};
use crate::tensor::Tensor;
use crate::{CrossEntropyOptions, Result};

pub(super) const ROWS: &[Row] = &[
    Row { name: "mse_loss", covers: &["mse_loss"], draw: mse, bench: Some(mse_bench) },
    Row { name: "l1_loss", covers: &["l1_loss"], draw: l1, bench: None },
    Row { name: "huber_loss", covers: &["huber_loss"], draw: huber, bench: None },
    Row { name: "hinge_loss", covers: &["hinge_loss"], draw: hinge, bench: None },
    Row {
        name: "bce_with_logits_loss",
        covers: &["bce_with_logits_loss"],
        draw: bce,
        bench: Some(bce_bench),
    },
    Row { name: "bce_with_logits_loss weighted", covers: &[], draw: weighted_bce, bench: None },
    Row { name: "kl_div_loss", covers: &["kl_div_loss"], draw: kl, bench: None },
    Row { name: "kl_div_loss of logarithms", covers: &[], draw: log_kl, bench: None },
    Row {
        name: "cross_entropy",
        covers: &["cross_entropy"],
        draw: plain_cross_entropy,
        bench: Some(cross_entropy_bench),
    },
    Row {
        name: "cross_entropy with options",
        covers: &["cross_entropy_with"],
        draw: cross_entropy,
        bench: Some(smoothed_cross_entropy_bench),
    },
];

/// Reduces losses. In a sum of n losses each passes through at most n / 16 + 32 additions. The CPU has sixteen
/// accumulators and then adds these. On a GPU an invocation adds 8, a workgroup has 8 levels, and the sums of the
/// workgroups are reduced in the same way; a kernel that reduces alone needs 64 / 4 and a few more.
fn reduced(losses: Array, reduction: Reduction) -> Array {
    let divisor = divisor(&losses.shape, reduction);
    if reduction == Reduction::None {
        return losses;
    }
    let sum = Bounded::sum_by(losses.numel() / 16 + 32, losses.data);
    Array::scalar(if divisor == 1.0 { sum } else { sum / divisor })
}

fn divisor(losses: &[usize], reduction: Reduction) -> f64 {
    match reduction {
        Reduction::Mean => losses.iter().product::<usize>() as f64,
        Reduction::BatchMean => losses[0] as f64,
        Reduction::Sum | Reduction::None => 1.0,
    }
}

/// A derivative as a function of prediction, target and weight.
type Slope = Box<dyn Fn(Bounded, Bounded, Bounded) -> Bounded>;

/// A case of a loss of a prediction and a target. `inputs` are the prediction, the target and optionally the weight.
/// `f` is the loss of one element, `slopes` its derivatives with respect to the prediction and the target.
fn pair(
    reduction: Reduction,
    inputs: Vec<Input>,
    run: impl Fn(&[Tensor], Reduction) -> Result<Tensor> + 'static,
    f: impl Fn(Bounded, Bounded, Bounded) -> Bounded + Copy + 'static,
    slopes: [Slope; 2],
) -> Case {
    let each = |x: &[Array], f: &dyn Fn(&[usize], [Bounded; 3]) -> Bounded| {
        Array::from_fn(x[0].shape.clone(), |at| {
            let weight = x.get(2).map_or(Bounded::ONE, |w| w.broadcast_at(at));
            f(at, [x[0].at(at), x[1].at(at), weight])
        })
    };
    let label = format!("{reduction:?} of {:?}", inputs[0].array.shape);
    let run = move |t: &[Tensor]| run(t, reduction);
    Case::new(label, inputs, run, move |x| reduced(each(x, &|_, [x, t, w]| f(x, t, w)), reduction)).gradient(
        move |x, dy| {
            let divisor = divisor(&x[0].shape, reduction);
            let scale = if divisor == 1.0 { Bounded::ONE } else { Bounded::rounded(1.0 / divisor) };
            let part = |slope: &dyn Fn(Bounded, Bounded, Bounded) -> Bounded| {
                Some(each(x, &|at, [x, t, w]| {
                    let dy = if reduction == Reduction::None { dy.at(at) } else { dy.data[0] };
                    dy * scale * slope(x, t, w)
                }))
            };
            let mut grads = vec![part(&slopes[0]), part(&slopes[1])];
            grads.resize(x.len(), None);
            grads
        },
    )
}

/// A reduction and a shape that it accepts; one in four is so large that several workgroups reduce it.
fn reduction(g: &mut Gen) -> (Reduction, Vec<usize>) {
    let reduction = g.choose(&[Reduction::Mean, Reduction::Sum, Reduction::BatchMean, Reduction::None]);
    let rank = g.range(usize::from(reduction == Reduction::BatchMean)..=4);
    let shape = match g.one_in(4) {
        true => vec![g.size / 3, 3],
        false => g.shape_of_rank(rank),
    };
    (reduction, shape)
}

/// A reduction, and two inputs of the same shape with numbers in these ranges.
fn drawn(g: &mut Gen, ranges: [(f64, f64); 2]) -> (Reduction, Vec<Input>) {
    let (reduction, shape) = reduction(g);
    let inputs = ranges.map(|(low, high)| g.values(&shape, low, high));
    (reduction, inputs.into())
}

fn mse(g: &mut Gen) -> Case {
    let (reduction, inputs) = drawn(g, [(-3.0, 3.0); 2]);
    mse_of(reduction, inputs)
}

fn mse_of(reduction: Reduction, inputs: Vec<Input>) -> Case {
    let slope = |sign: f64| move |x: Bounded, t: Bounded, _| (x - t) * (2.0 * sign);
    pair(
        reduction,
        inputs,
        |t, reduction| match reduction {
            Reduction::Mean => nn::mse_loss(&t[0], &t[1]),
            other => Loss::Mse.of(&t[0], &t[1], other),
        },
        |x, t, _| (x - t).square(),
        [Box::new(slope(1.0)), Box::new(slope(-1.0))],
    )
}

fn mse_bench(g: &mut Gen) -> (Work, Case) {
    let shape = [1 << 11, 1 << 10];
    let inputs = vec![g.values(&shape, -3.0, 3.0), g.values(&shape, -3.0, 3.0)];
    (Work::Bytes(2 * 4 * shape[0] * shape[1]), mse_of(Reduction::Mean, inputs))
}

/// -1, 0 or 1; no bound if the sign may change within the error.
fn sign(x: Bounded) -> Bounded {
    match x.value() {
        v if v.is_nan() => x,
        v if v == 0.0 && x.error() == 0.0 => Bounded::ZERO,
        v if v.abs() <= x.error() => Bounded::UNKNOWN,
        v => Bounded::exact(v.signum()),
    }
}

fn l1(g: &mut Gen) -> Case {
    let (reduction, inputs) = drawn(g, [(-3.0, 3.0); 2]);
    let slopes: [Slope; 2] = [Box::new(|x, t, _| sign(x - t)), Box::new(|x, t, _| sign(t - x))];
    pair(
        reduction,
        inputs,
        |t, reduction| match reduction {
            Reduction::Mean => nn::l1_loss(&t[0], &t[1]),
            other => Loss::L1.of(&t[0], &t[1], other),
        },
        |x, t, _| (x - t).abs(),
        slopes,
    )
}

fn huber(g: &mut Gen) -> Case {
    let delta = g.number(0.25, 3.0);
    let (reduction, inputs) = drawn(g, [(-3.0, 3.0); 2]);
    let f = move |x: Bounded, t: Bounded, _| {
        let d = (x - t).abs();
        if d.value() < delta { d * 0.5 * d } else { (d - Bounded::exact(delta) * 0.5) * delta }
    };
    let clamped = move |d: Bounded| d.min(Bounded::exact(delta)).max(Bounded::exact(-delta));
    pair(
        reduction,
        inputs,
        move |t, reduction| match reduction {
            Reduction::Mean => nn::huber_loss(&t[0], &t[1], delta as f32),
            other => Loss::Huber { delta: delta as f32 }.of(&t[0], &t[1], other),
        },
        f,
        [Box::new(move |x, t, _| clamped(x - t)), Box::new(move |x, t, _| clamped(t - x))],
    )
}

fn hinge(g: &mut Gen) -> Case {
    let (reduction, inputs) = drawn(g, [(-3.0, 3.0), (-1.5, 1.5)]);
    let margin = |x: Bounded, t: Bounded| Bounded::ONE - t * x;
    // -t on one side of the corner, 0 on the other, and no bound near it.
    let slope = move |x: Bounded, t: Bounded| {
        let side = sign(margin(x, t));
        match side.value() {
            v if v.is_nan() || side.error() == f64::INFINITY => side,
            v if v > 0.0 => -t,
            _ => Bounded::ZERO,
        }
    };
    pair(
        reduction,
        inputs,
        |t, reduction| match reduction {
            Reduction::Mean => nn::hinge_loss(&t[0], &t[1]),
            other => Loss::Hinge.of(&t[0], &t[1], other),
        },
        move |x, t, _| margin(x, t).max(Bounded::ZERO),
        [Box::new(move |x, t, _| slope(x, t)), Box::new(move |x, t, _| slope(t, x))],
    )
}

fn bce(g: &mut Gen) -> Case {
    let (reduction, inputs) = drawn(g, [(-8.0, 8.0), (0.0, 1.0)]);
    bce_of(reduction, inputs)
}

fn weighted_bce(g: &mut Gen) -> Case {
    let (reduction, mut inputs) = drawn(g, [(-8.0, 8.0), (0.0, 1.0)]);
    // The weight broadcasts: its axes are the last ones, some of length 1.
    let shape = &inputs[0].array.shape;
    let cut = g.below(shape.len() + 1);
    let all = g.flag();
    let weights: Vec<usize> = shape[cut..].iter().map(|&d| if all || g.flag() { d } else { 1 }).collect();
    inputs.push(g.constants(&weights, 0.5, 3.0));
    bce_of(reduction, inputs)
}

fn bce_of(reduction: Reduction, inputs: Vec<Input>) -> Case {
    let f = |x: Bounded, t: Bounded, w: Bounded| (Bounded::ONE - t) * softplus(x) + w * t * softplus(-x);
    let of_x = |x: Bounded, t: Bounded, w: Bounded| (Bounded::ONE - t) * sigmoid(x) - w * t * sigmoid(-x);
    let of_t = |x: Bounded, _, w: Bounded| {
        (if w.value() == 1.0 { Bounded::ZERO } else { (w - 1.0) * softplus(-x) }) - x
    };
    let run = |t: &[Tensor], reduction| match (reduction, t.get(2)) {
        (Reduction::Mean, None) => nn::bce_with_logits_loss(&t[0], &t[1]),
        (_, weight) => Loss::BceWithLogits { pos_weight: weight.cloned() }.of(&t[0], &t[1], reduction),
    };
    pair(reduction, inputs, run, f, [Box::new(of_x), Box::new(of_t)])
}

fn bce_bench(g: &mut Gen) -> (Work, Case) {
    let shape = [1 << 11, 1 << 10];
    let inputs = vec![g.values(&shape, -8.0, 8.0), g.values(&shape, 0.0, 1.0)];
    (Work::Bytes(2 * 4 * shape[0] * shape[1]), bce_of(Reduction::Mean, inputs))
}

/// 0 if the target's probability is 0, unless the prediction is NaN; no bound if the probability may be flushed to 0.
fn unless_zero(value: Bounded, probability: Bounded, x: Bounded) -> Bounded {
    match probability.value() {
        _ if x.value().is_nan() => x,
        0.0 => Bounded::ZERO,
        p if p.abs() < TINY => Bounded::UNKNOWN,
        _ => value,
    }
}

fn kl(g: &mut Gen) -> Case {
    let (reduction, inputs) = drawn(g, [(-4.0, 0.0), (0.05, 1.0)]);
    pair(
        reduction,
        inputs,
        |t, reduction| match reduction {
            Reduction::BatchMean => nn::kl_div_loss(&t[0], &t[1]),
            other => Loss::KlDiv { log_target: false }.of(&t[0], &t[1], other),
        },
        |x, t, _| unless_zero(t * (t.ln() - x), t, x),
        [Box::new(|_, t, _| -t), Box::new(|x, t, _| unless_zero(t.ln() - x + 1.0, t, x))],
    )
}

fn log_kl(g: &mut Gen) -> Case {
    let (reduction, inputs) = drawn(g, [(-4.0, 0.0); 2]);
    pair(
        reduction,
        inputs,
        |t, reduction| Loss::KlDiv { log_target: true }.of(&t[0], &t[1], reduction),
        |x, t, _| unless_zero(t.exp() * (t - x), t.exp(), x),
        [Box::new(|_, t, _| -t.exp()), Box::new(|x, t, _| unless_zero(t.exp() * (t - x + 1.0), t.exp(), x))],
    )
}

/// The maximum of a row, and the sum of the exponentials relative to it, with a bound that holds for all kernels. Both
/// are NaN if the softmax is NaN.
fn online_softmax(row: &[Bounded]) -> [Bounded; 2] {
    let max = row.iter().copied().fold(Bounded::exact(f64::NEG_INFINITY), Bounded::max);
    if !max.value().is_finite() {
        return [Bounded::exact(f64::NAN); 2];
    }
    // An invocation visits every `lanes`-th element. Counts how often it rescales its sum because its maximum grows.
    let growths = |lanes: usize| {
        let of_lane = |lane: usize| {
            let (mut top, mut count) = (f64::NEG_INFINITY, 0);
            for x in row.iter().skip(lane).step_by(lanes) {
                count += usize::from(x.value() > top);
                top = top.max(x.value());
            }
            count
        };
        (0..lanes.min(row.len())).map(of_lane).max().unwrap_or(0) + lanes.ilog2() as usize
    };
    let most = [1, 16, 64].map(growths).into_iter().max().unwrap_or(0) as f64;
    let term = |x: &Bounded| {
        let below = (max.value() - x.value()).abs();
        if below == f64::INFINITY {
            return Bounded::ZERO;
        }
        // A product of one exponential, and one more per rescaling, whose arguments add up to `below`. Each errs by 3 +
        // 2|argument| ulp, by the rounding of its argument, and by the rounding of its product.
        let units = (4.0 * most + 3.0 + 3.0 * below) * ULP;
        let power = (-below).exp();
        Bounded::new(power, power * units / (1.0 - units).max(ULP) + (most + 1.0) * TINY)
    };
    [max, Bounded::sum(row.iter().map(term))]
}

/// The attributes of a case of cross-entropy.
#[derive(Clone, Copy)]
struct Settings {
    smoothing: f64,
    ignored: Option<usize>,
    reduction: Reduction,
}

impl Settings {
    fn keep(&self) -> Bounded {
        if self.smoothing == 0.0 { Bounded::ONE } else { Bounded::rounded(1.0 - self.smoothing) }
    }

    fn spread(&self, classes: usize) -> Bounded {
        if self.smoothing == 0.0 { Bounded::ZERO } else { Bounded::rounded(self.smoothing / classes as f64) }
    }

    /// The loss of a row with class `id` and class weights `w`.
    fn loss(&self, row: &[Bounded], id: usize, w: &[Bounded]) -> Bounded {
        let [max, sum] = online_softmax(row);
        let log_sum = sum.ln();
        let loss = self.keep() * w[id] * (log_sum - (row[id] - max));
        if self.smoothing == 0.0 || max.value().is_nan() {
            return loss;
        }
        let origin = if row[id].value().abs() < 1e30 { row[id] } else { Bounded::ZERO };
        let dot = Bounded::sum(row.iter().zip(w).map(|(&x, &w)| w * (x - origin)));
        let total = Bounded::sum(w.iter().copied());
        loss + self.spread(row.len()) * (total * (log_sum + (max - origin)) - dot)
    }

    /// The gradient of a row, without the factor dy and the divisor.
    fn slopes(&self, row: &[Bounded], id: usize, w: &[Bounded]) -> Vec<Bounded> {
        let [max, sum] = online_softmax(row);
        let spread = self.spread(row.len());
        let total = Bounded::sum(w.iter().copied());
        let target = self.keep() * w[id];
        let factor = (if self.smoothing == 0.0 { target } else { target + spread * total }) / sum;
        (0..row.len())
            .map(|c| {
                let slope = (row[c] - max).exp() * factor - if c == id { target } else { Bounded::ZERO };
                if self.smoothing == 0.0 { slope } else { slope - spread * w[c] }
            })
            .collect()
    }

    /// The divisor of the sum of the losses.
    fn divisor(&self, ids: &Array, w: &[Bounded], weighted: bool) -> Bounded {
        if self.reduction == Reduction::Mean && (weighted || self.ignored.is_some()) {
            let counting =
                ids.data.iter().map(|id| id.value() as usize).filter(|&id| Some(id) != self.ignored);
            return Bounded::sum_by(ids.numel() / 16 + 32, counting.map(|id| w[id]));
        }
        Bounded::exact(divisor(&ids.shape, self.reduction))
    }
}

fn over(x: Bounded, divisor: Bounded) -> Bounded {
    if divisor.value() == 1.0 && divisor.error() == 0.0 { x } else { x / divisor }
}

/// Calls `f` for each row of logits `[n, classes, ..]` with the position of its first element, the stride of its
/// elements, the elements, and the class id.
fn each_row(x: &Array, ids: &Array, mut f: impl FnMut(usize, usize, Vec<Bounded>, usize)) {
    let (classes, inner) = (x.shape[1], x.shape[2..].iter().product::<usize>());
    for (row, id) in ids.data.iter().enumerate() {
        let start = row / inner * classes * inner + row % inner;
        let elements = (0..classes).map(|c| x.data[start + c * inner]).collect();
        f(start, inner, elements, id.value() as usize);
    }
}

/// A case of cross-entropy. Inputs: logits, class ids and optionally class weights.
fn cross_entropy_of(settings: Settings, inputs: Vec<Input>) -> Case {
    let weights =
        |x: &[Array]| x.get(2).map_or_else(|| vec![Bounded::ONE; x[0].shape[1]], |w| w.data.clone());
    let Settings { smoothing, ignored, reduction } = settings;
    let run = move |t: &[Tensor]| -> Result<Tensor> {
        if smoothing == 0.0 && ignored.is_none() && t.len() == 2 && reduction == Reduction::Mean {
            return t[0].cross_entropy(&t[1]);
        }
        let options = CrossEntropyOptions {
            label_smoothing: smoothing as f32,
            ignore_index: ignored.map(|id| id as u32),
            weight: t.get(2).cloned(),
            reduction,
        };
        t[0].cross_entropy_with(&t[1], &options)
    };
    let reference = move |x: &[Array]| {
        let w = weights(x);
        let mut losses = Vec::new();
        each_row(&x[0], &x[1], |_, _, row, id| {
            losses.push(if Some(id) == ignored { Bounded::ZERO } else { settings.loss(&row, id, &w) });
        });
        let losses = Array { shape: x[1].shape.clone(), data: losses };
        if reduction == Reduction::None {
            return losses;
        }
        let sum = reduced(losses, Reduction::Sum).data[0];
        Array::scalar(over(sum, settings.divisor(&x[1], &w, x.len() == 3)))
    };
    let label =
        format!("{reduction:?} of {:?}, smoothing {smoothing}, ignoring {ignored:?}", inputs[0].array.shape);
    Case::new(label, inputs, run, reference).gradient(move |x, dy| {
        let w = weights(x);
        let divisor = settings.divisor(&x[1], &w, x.len() == 3);
        let (mut dx, mut number) = (Array::zeros(x[0].shape.clone()), 0);
        each_row(&x[0], &x[1], |start, step, row, id| {
            let scale = over(dy.data[if reduction == Reduction::None { number } else { 0 }], divisor);
            number += 1;
            if Some(id) != ignored {
                for (c, slope) in settings.slopes(&row, id, &w).into_iter().enumerate() {
                    dx.data[start + c * step] = slope * scale;
                }
            }
        });
        let mut grads = vec![Some(dx)];
        grads.resize(x.len(), None);
        grads
    })
}

/// A shape of logits, of rank 2 to 4: long rows, many rows, or neither.
fn logits(g: &mut Gen) -> Vec<usize> {
    let rank = g.choose(&[2, 2, 3, 4]);
    let mut shape: Vec<usize> = (0..rank).map(|_| g.some_length()).collect();
    if g.one_in(3) {
        // Either a few rows of so many classes that every lane has more than one iteration, but so few that a missing
        // one shows; or many rows of a few classes.
        let few = g.range(1..=3);
        shape = if g.flag() { vec![few, g.range(257..=520)] } else { vec![(g.size / few).max(1), few] };
    }
    while shape.iter().product::<usize>() > g.size {
        let longest = (0..shape.len()).max_by_key(|&axis| shape[axis]).unwrap_or(0);
        shape[longest] = shape[longest].div_ceil(2);
    }
    shape
}

fn targets(shape: &[usize]) -> Vec<usize> {
    [&shape[..1], &shape[2..]].concat()
}

fn plain_cross_entropy(g: &mut Gen) -> Case {
    let shape = logits(g);
    let inputs = vec![g.values(&shape, -3.0, 3.0), g.ids(&targets(&shape), shape[1])];
    cross_entropy_of(Settings { smoothing: 0.0, ignored: None, reduction: Reduction::Mean }, inputs)
}

fn cross_entropy(g: &mut Gen) -> Case {
    let shape = logits(g);
    let classes = shape[1];
    let reduction =
        g.choose(&[Reduction::Mean, Reduction::Mean, Reduction::Sum, Reduction::BatchMean, Reduction::None]);
    let smoothing = if g.flag() { g.number(0.05, 1.0) } else { 0.0 };
    let mut ids = g.ids(&targets(&shape), classes);
    // One of the classes, or an id out of range.
    let ignored = g.flag().then(|| if g.flag() { g.below(classes) } else { classes + 3 });
    if let Some(ignored) = ignored {
        for id in ids.array.data.iter_mut() {
            if g.one_in(3) {
                *id = Bounded::exact(ignored as f64);
            }
        }
    }
    let mut inputs = vec![g.values(&shape, -3.0, 3.0), ids];
    if g.flag() {
        // No special values: there is no bound for an infinite weight times a loss near 0.
        let weights: Vec<f64> = (0..classes).map(|_| g.number(0.5, 2.0)).collect();
        inputs.push(Input { array: Array::exact([classes], &weights), kind: Kind::Constant });
    }
    cross_entropy_of(Settings { smoothing, ignored, reduction }, inputs)
}

fn cross_entropy_bench(g: &mut Gen) -> (Work, Case) {
    bench_of(g, 0.0)
}

fn smoothed_cross_entropy_bench(g: &mut Gen) -> (Work, Case) {
    bench_of(g, 0.125)
}

fn bench_of(g: &mut Gen, smoothing: f64) -> (Work, Case) {
    let [rows, classes] = [4096, 1000];
    let inputs = vec![g.values(&[rows, classes], -3.0, 3.0), g.ids(&[rows], classes)];
    let settings = Settings { smoothing, ignored: None, reduction: Reduction::Mean };
    (Work::Bytes(4 * rows * classes), cross_entropy_of(settings, inputs))
}
