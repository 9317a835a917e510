//! Reductions.

use crate::Result;
use crate::ops::reduction;
use crate::proof::{Array, Bounded, Case, Gen, Input, Row, TINY, ULP, Work};
use crate::shape::Shape;
use crate::tensor::Tensor;

pub(super) const ROWS: &[Row] = &[
    Row { name: "sum", covers: &["sum"], draw: sum, bench: Some(|g| timed(g, sum_of)) },
    Row { name: "mean", covers: &["mean"], draw: mean, bench: None },
    Row { name: "prod", covers: &["prod"], draw: prod, bench: None },
    Row { name: "max", covers: &["max"], draw: max, bench: None },
    Row { name: "min", covers: &["min"], draw: min, bench: None },
    Row {
        name: "of all elements",
        covers: &["sum_all", "mean_all", "max_all", "min_all"],
        draw: of_all,
        bench: None,
    },
    Row { name: "sum_to", covers: &["sum_to"], draw: sum_to, bench: None },
    Row { name: "argmax", covers: &["argmax"], draw: argmax, bench: None },
    Row { name: "argmin", covers: &["argmin"], draw: argmin, bench: None },
    Row { name: "var", covers: &["var"], draw: var, bench: None },
    Row { name: "std", covers: &["std"], draw: std, bench: Some(|g| timed(g, std_of)) },
    Row {
        name: "norm",
        covers: &["norm"],
        draw: norm,
        bench: Some(|g| timed(g, |x, reduction| norm_of(2.0, x, reduction))),
    },
];

/// The arguments of a reduction.
#[derive(Clone)]
pub(super) struct Reduction {
    pub(super) shape: Vec<usize>,
    pub(super) reduced: Vec<bool>,
    pub(super) keepdim: bool,
}

impl Reduction {
    /// A random reduction over any axes. `chooses`: the op needs at least one element, as max does.
    pub(super) fn draw(g: &mut Gen, chooses: bool) -> Reduction {
        let mut shape = g.shape(6);
        if g.one_in(3) {
            // Long and thin, so that the reduction is cut into slices.
            let [outer, inner] = [0; 2].map(|_| g.range(1..=3).min(g.size));
            let long = g.range(1..=(g.size / (outer * inner)).max(1));
            shape = vec![outer, long, inner];
        }
        let reduced = shape.iter().map(|_| g.flag()).collect();
        if chooses {
            shape.iter_mut().for_each(|d| *d = (*d).max(1));
        }
        Reduction { shape, reduced, keepdim: g.flag() }
    }

    /// A random reduction over one axis, and the axis, which may be negative.
    pub(super) fn draw_axis(g: &mut Gen) -> (Reduction, isize) {
        let mut reduction = Reduction::draw(g, true);
        if reduction.shape.is_empty() {
            reduction.shape = vec![g.some_length().min(g.size)];
        }
        let rank = reduction.shape.len();
        let axis = g.below(rank);
        reduction.reduced = (0..rank).map(|k| k == axis).collect();
        (reduction, axis as isize - if g.flag() { rank as isize } else { 0 })
    }

    fn axes(&self) -> Vec<isize> {
        (0..self.shape.len()).filter(|&axis| self.reduced[axis]).map(|axis| axis as isize).collect()
    }

    /// The shape, with the reduced axes set to 1.
    fn kept(&self) -> Vec<usize> {
        self.shape.iter().zip(&self.reduced).map(|(&d, &reduced)| if reduced { 1 } else { d }).collect()
    }

    pub(super) fn out(&self) -> Vec<usize> {
        let stays = |axis: &usize| self.keepdim || !self.reduced[*axis];
        (0..self.shape.len()).filter(stays).map(|axis| self.kept()[axis]).collect()
    }

    pub(super) fn outputs(&self) -> usize {
        self.kept().iter().product()
    }

    pub(super) fn length(&self) -> usize {
        self.shape.iter().zip(&self.reduced).filter(|(_, reduced)| **reduced).map(|(&d, _)| d).product()
    }

    pub(super) fn depth(&self) -> usize {
        reduction::depth(self.outputs(), self.length())
    }

    /// For each output, the row-major positions of the elements that it is reduced from.
    pub(super) fn groups(&self) -> Vec<Vec<usize>> {
        let kept = Array::zeros(self.kept());
        let mut groups = vec![Vec::new(); kept.numel()];
        let mut at = 0;
        Array::from_fn(self.shape.clone(), |index| {
            groups[kept.broadcast_place(index)].push(at);
            at += 1;
            Bounded::ZERO
        });
        groups
    }

    /// A case whose output is `value` of the terms of each output element.
    pub(super) fn case(
        self,
        x: Input,
        run: impl Fn(&Tensor, &[isize], bool) -> Result<Tensor> + 'static,
        value: impl Fn(&[Bounded]) -> Bounded + 'static,
    ) -> Case {
        let Reduction { shape, keepdim, .. } = &self;
        let (axes, keepdim) = (self.axes(), *keepdim);
        let label = format!("axes {axes:?} of {shape:?}, keepdim {keepdim}");
        let call = move |t: &[Tensor]| run(&t[0], &axes, keepdim);
        Case::new(label, vec![x], call, move |x| {
            let terms = |group: &Vec<usize>| group.iter().map(|&at| x[0].data[at]).collect::<Vec<_>>();
            Array {
                shape: self.out(),
                data: self.groups().iter().map(|group| value(&terms(group))).collect(),
            }
        })
    }

    /// The gradient reference: `slopes` maps the terms of an output and its gradient to the gradients of the terms.
    pub(super) fn gradient(
        self,
        slopes: impl Fn(&[Bounded], Bounded) -> Vec<Bounded> + 'static,
    ) -> impl Fn(&[Array], &Array) -> Vec<Option<Array>> + 'static {
        move |x, dy| {
            let mut dx = Array::zeros(self.shape.clone());
            for (group, &dy) in self.groups().iter().zip(&dy.data) {
                let terms: Vec<Bounded> = group.iter().map(|&at| x[0].data[at]).collect();
                group.iter().zip(slopes(&terms, dy)).for_each(|(&at, slope)| dx.data[at] = slope);
            }
            vec![Some(dx)]
        }
    }
}

/// A row-wise reduction of `[4096, 1024]`, for benches.
pub(super) fn timed(g: &mut Gen, case: fn(Input, Reduction) -> Case) -> (Work, Case) {
    let shape = [4096, 1024];
    let reduction = Reduction { shape: shape.to_vec(), reduced: vec![false, true], keepdim: false };
    let x = g.values(&shape, -3.0, 3.0);
    (Work::Bytes(4 * (shape[0] * shape[1] + shape[0])), case(x, reduction))
}

fn nan() -> Bounded {
    Bounded::exact(f64::NAN)
}

fn sum(g: &mut Gen) -> Case {
    let reduction = Reduction::draw(g, false);
    sum_of(g.values(&reduction.shape, -3.0, 3.0), reduction)
}

fn sum_of(x: Input, reduction: Reduction) -> Case {
    let depth = reduction.depth();
    reduction
        .clone()
        .case(x, Tensor::sum, move |terms| Bounded::sum_by(depth, terms.iter().copied()))
        .gradient(reduction.gradient(|terms, dy| vec![dy; terms.len()]))
}

fn mean(g: &mut Gen) -> Case {
    let reduction = Reduction::draw(g, false);
    let x = g.values(&reduction.shape, -3.0, 3.0);
    let depth = reduction.depth();
    reduction.clone().case(x, Tensor::mean, move |terms| average(depth, terms)).gradient(
        reduction.gradient(|terms, dy| vec![dy * Bounded::rounded(1.0 / terms.len() as f64); terms.len()]),
    )
}

fn average(depth: usize, terms: &[Bounded]) -> Bounded {
    Bounded::sum_by(depth, terms.iter().copied()) / terms.len() as f64
}

/// A product. Each multiplication errs by one ulp of its result, so of the whole product, in any order: there are as
/// many roundings as terms, and `more`. There is no bound if some of the terms together overflow or underflow, because
/// the result then depends on the order.
fn product<'a>(more: usize, terms: impl Iterator<Item = &'a Bounded> + Clone) -> Bounded {
    let sizes = terms.clone().map(|x| x.value().abs()).filter(|x| *x > 0.0 && x.is_finite());
    let (large, small) = sizes.fold((1.0, 1.0), |(large, small), x| (large * x.max(1.0), small * x.min(1.0)));
    let roundings = (terms.clone().count() + more) as f64;
    let value: f64 = terms.map(|x| x.value()).product();
    if !value.is_nan() && (large > f64::from(f32::MAX) / 2.0 || small < 2.0 * TINY) {
        return Bounded::UNKNOWN;
    }
    Bounded::new(value, ((roundings * ULP).exp() - 1.0) * if value.is_finite() { value.abs() } else { 0.0 })
}

fn prod(g: &mut Gen) -> Case {
    let reduction = Reduction::draw(g, false);
    // Close enough to 1 that few products overflow or vanish.
    let x = match reduction.length() {
        0..=40 => g.values(&reduction.shape, -1.5, 1.5),
        length => {
            let most = (60.0 / length as f64).exp();
            g.values(&reduction.shape, 1.0 / most, most)
        }
    };
    reduction.clone().case(x, Tensor::prod, move |terms| product(0, terms.iter())).gradient(
        reduction.gradient(move |terms, dy| {
            // The kernel divides the product of all nonzero terms by the element: two more roundings and a division,
            // and one for a product with 1 or 0. An infinity is divided by itself, which gives NaN.
            let slope = |at: usize| match terms[at].value().is_finite() {
                true => product(6, terms[..at].iter().chain(&terms[at + 1..])) * dy,
                false => nan(),
            };
            // If the product has no bound, no gradient has one.
            match product(0, terms.iter()).error() == f64::INFINITY {
                true => vec![Bounded::UNKNOWN; terms.len()],
                false => (0..terms.len()).map(slope).collect(),
            }
        }),
    )
}

/// The largest term for `sign` 1, the smallest for `sign` -1.
fn extreme(sign: f64, terms: &[Bounded]) -> Bounded {
    let turn = |x: Bounded| if sign < 0.0 { -x } else { x };
    turn(terms.iter().map(|&x| turn(x)).fold(Bounded::exact(f64::NEG_INFINITY), Bounded::max))
}

fn extremes(g: &mut Gen, sign: f64, run: fn(&Tensor, &[isize], bool) -> Result<Tensor>) -> Case {
    let reduction = Reduction::draw(g, true);
    let x = g.distinct(&reduction.shape, -3.0, 3.0);
    reduction
        .clone()
        .case(x, run, move |terms| extreme(sign, terms))
        .gradient(reduction.gradient(move |terms, dy| shared(terms, extreme(sign, terms), dy)))
}

/// The gradient of an extreme, divided evenly among all terms equal to it.
fn shared(terms: &[Bounded], top: Bounded, dy: Bounded) -> Vec<Bounded> {
    let equal = |x: &Bounded| x.value() == top.value() || (x.value().is_nan() && top.value().is_nan());
    // A subnormal may be flushed, and then equals zero.
    if terms.iter().any(|x| !equal(x) && (x.value() - top.value()).abs() <= x.error() + top.error()) {
        return vec![Bounded::UNKNOWN; terms.len()];
    }
    let count = terms.iter().filter(|x| equal(x)).count() as f64;
    terms.iter().map(|x| if equal(x) { dy / count } else { Bounded::ZERO }).collect()
}

fn max(g: &mut Gen) -> Case {
    extremes(g, 1.0, Tensor::max)
}

fn min(g: &mut Gen) -> Case {
    extremes(g, -1.0, Tensor::min)
}

fn of_all(g: &mut Gen) -> Case {
    let drawn = Reduction::draw(g, true);
    let reduction = Reduction { reduced: vec![true; drawn.shape.len()], keepdim: false, ..drawn };
    let x = g.distinct(&reduction.shape, -3.0, 3.0);
    let depth = reduction.depth();
    let length = reduction.length() as f64;
    type All = fn(&Tensor) -> Result<Tensor>;
    let which = g.below(4);
    let run: All = [Tensor::sum_all as All, Tensor::mean_all, Tensor::max_all, Tensor::min_all][which];
    reduction
        .clone()
        .case(
            x,
            move |x, _, _| run(x),
            move |terms| match which {
                0 => Bounded::sum_by(depth, terms.iter().copied()),
                1 => average(depth, terms),
                2 => extreme(1.0, terms),
                _ => extreme(-1.0, terms),
            },
        )
        .gradient(reduction.gradient(move |terms, dy| match which {
            0 => vec![dy; terms.len()],
            1 => vec![dy * Bounded::rounded(1.0 / length); terms.len()],
            2 => shared(terms, extreme(1.0, terms), dy),
            _ => shared(terms, extreme(-1.0, terms), dy),
        }))
}

fn sum_to(g: &mut Gen) -> Case {
    let drawn = Reduction::draw(g, false);
    // Some leading axes of length 1 are dropped.
    let mut to = drawn.kept();
    let leading = to.iter().take_while(|&&d| d == 1).count();
    to.drain(..g.below(leading + 1));
    let reduction = Reduction { keepdim: true, ..drawn };
    let x = g.values(&reduction.shape, -3.0, 3.0);
    let depth = reduction.depth();
    let out = to.clone();
    let case = reduction.clone().case(
        x,
        move |x, _, _| x.sum_to(Shape::new(&to)?),
        move |terms| Bounded::sum_by(depth, terms.iter().copied()),
    );
    let Case { reference, .. } = case;
    let case = Case { reference: Box::new(move |x| Array { shape: out.clone(), ..reference(x) }), ..case };
    case.gradient(reduction.gradient(|terms, dy| vec![dy; terms.len()]))
}

/// The index of the first of the largest terms, or of the first NaN.
fn first(sign: f64, terms: &[Bounded]) -> Bounded {
    let beats = |a: f64, b: f64| !b.is_nan() && (a.is_nan() || a > b);
    let mut best = 0;
    for at in 1..terms.len() {
        if beats(sign * terms[at].value(), sign * terms[best].value()) {
            best = at;
        }
    }
    Bounded::exact(best as f64)
}

fn argmax(g: &mut Gen) -> Case {
    let (reduction, axis) = Reduction::draw_axis(g);
    // Half of the cases have few distinct numbers, so that there are ties.
    let x = if g.flag() {
        g.distinct(&reduction.shape, -3.0, 3.0)
    } else {
        whole(g.values(&reduction.shape, -2.0, 2.0))
    };
    reduction.case(x, move |x, _, keepdim| x.argmax(axis, keepdim), |terms| first(1.0, terms))
}

fn argmin(g: &mut Gen) -> Case {
    let (reduction, axis) = Reduction::draw_axis(g);
    let x = if g.flag() {
        g.distinct(&reduction.shape, -3.0, 3.0)
    } else {
        whole(g.values(&reduction.shape, -2.0, 2.0))
    };
    reduction.case(x, move |x, _, keepdim| x.argmin(axis, keepdim), |terms| first(-1.0, terms))
}

/// Magnitudes in `low..high` with random signs.
fn signed(g: &mut Gen, shape: &[usize], low: f64, high: f64) -> Input {
    let x = g.values(shape, low, high);
    let values: Vec<f64> =
        x.array.data.iter().map(|x| if g.flag() { -x.value() } else { x.value() }).collect();
    Input { array: Array::exact(shape, &values), ..x }
}

/// Rounds the elements to whole numbers.
fn whole(x: Input) -> Input {
    let values: Vec<f64> = x.array.data.iter().map(|x| x.value().round()).collect();
    Input { array: Array::exact(x.array.shape, &values), ..x }
}

/// The sum of squared deviations from the mean. The kernel merges partial results: two sets with counts a and b, whose
/// means differ by d, add d²w to the sum, with the weight w = ab / (a + b).
///
/// Let all means be relative to the first element, and let Q be the range of the elements. A merge adds to the error of
/// a mean, in ulp: 4.5 of its step (a difference, a quotient, a product), and 1 of itself. The step is at most Q / 2,
/// because the second set is never the larger one, unless the first is empty. So after `depth` merges the means err by
/// at most E = (4 depth + 6) Q ulp. d²w errs by 7.5 ulp of itself (two differences, a quotient, four products), and by
/// w (4 E d + 4 E²). All d²w add up to S. No w exceeds the smaller count, so all w add up to W <= n log2(n) / 2. By
/// Cauchy-Schwarz all w d add up to at most sqrt(S W). The additions, two per merge, err by 2 depth ulp of S. (The CPU
/// twin computes in f64 and errs less.)
fn squares(depth: usize, terms: &[Bounded]) -> Bounded {
    let n = terms.len() as f64;
    let first = terms.first().map_or(0.0, |x| x.value());
    let distances = || terms.iter().map(|x| x.value() - first);
    let mean = distances().sum::<f64>() / n;
    let s: f64 = distances().map(|d| (d - mean).powi(2)).sum();
    let range = distances().fold(0.0, f64::max) - distances().fold(0.0, f64::min);
    // Subnormal terms may be flushed.
    let off = (4 * depth + 6) as f64 * ULP * range + terms.iter().map(|x| x.error()).fold(0.0, f64::max);
    let w = n * n.max(1.0).log2() / 2.0;
    let error = (7.5 + 2.0 * depth as f64) * ULP * s + 4.0 * off * (s * w).sqrt() + 4.0 * off * off * w;
    Bounded::new(s, error * 1.001)
}

/// Values for a variance, some of them far from 0, and the correction. There are at most 1000 terms per output, so that
/// a missing one exceeds the error of the means.
fn spread(g: &mut Gen) -> (Input, Reduction, usize) {
    let mut reduction = Reduction::draw(g, false);
    while reduction.length() > 1000 {
        let longest =
            (0..reduction.shape.len()).filter(|&k| reduction.reduced[k]).max_by_key(|&k| reduction.shape[k]);
        longest.into_iter().for_each(|axis| reduction.shape[axis] /= 2);
    }
    let shift = g.choose(&[0.0, 0.0, 100.0, -3000.0]);
    let x = g.values(&reduction.shape, shift - 3.0, shift + 3.0);
    let correction = g.below(reduction.length().clamp(1, 3));
    (x, reduction, correction)
}

fn variance(depth: usize, correction: usize, terms: &[Bounded]) -> Bounded {
    let freedom = terms.len().saturating_sub(correction) as f64;
    squares(depth, terms) / freedom
}

/// The distance of each term from the mean.
fn deviations(reduction: &Reduction) -> impl Fn(&[Bounded]) -> Vec<Bounded> + 'static {
    let depth = reduction.depth();
    move |terms| {
        let mean = average(depth, terms);
        terms.iter().map(|&x| x - mean).collect()
    }
}

fn var(g: &mut Gen) -> Case {
    let (x, reduction, correction) = spread(g);
    let depth = reduction::kernel_depth(reduction.outputs(), reduction.length());
    let deviations = deviations(&reduction);
    reduction
        .clone()
        .case(
            x,
            move |x, axes, keepdim| x.var(axes, correction, keepdim),
            move |terms| variance(depth, correction, terms),
        )
        .gradient(reduction.gradient(move |terms, dy| {
            let scale = dy * Bounded::rounded(2.0 / (terms.len() - correction) as f64);
            deviations(terms).into_iter().map(|d| d * scale).collect()
        }))
}

fn std(g: &mut Gen) -> Case {
    let (x, reduction, correction) = spread(g);
    std_by(correction, x, reduction)
}

fn std_of(x: Input, reduction: Reduction) -> Case {
    std_by(1, x, reduction)
}

fn std_by(correction: usize, x: Input, reduction: Reduction) -> Case {
    let depth = reduction::kernel_depth(reduction.outputs(), reduction.length());
    let deviations = deviations(&reduction);
    let deviation = move |terms: &[Bounded]| variance(depth, correction, terms).sqrt();
    reduction.clone().case(x, move |x, axes, keepdim| x.std(axes, correction, keepdim), deviation).gradient(
        reduction.gradient(move |terms, dy| {
            let s = deviation(terms);
            if s.value() == 0.0 && s.error() == 0.0 {
                return vec![Bounded::ZERO; terms.len()];
            }
            if s.value() <= s.error() {
                return vec![Bounded::UNKNOWN; terms.len()];
            }
            let scale = dy * Bounded::rounded(1.0 / (terms.len() - correction) as f64) / s;
            deviations(terms).into_iter().map(|d| d * scale).collect()
        }),
    )
}

/// 1, -1 or 0; no bound if the number may be flushed.
fn sign(x: Bounded) -> Bounded {
    match x.value() {
        v if v.is_nan() => nan(),
        0.0 => Bounded::ZERO,
        v if v.abs() <= x.error() => Bounded::UNKNOWN,
        v => sign_of(v),
    }
}

fn sign_of(x: f64) -> Bounded {
    Bounded::exact(x.signum())
}

/// The sum of |x|^p and its root, for a p that is not a plain reduction, as the kernel computes it.
///
/// Everything is relative to 2^e, where e is the largest exponent. A power errs by 1 ulp if p = 2; else its logarithm
/// errs by 2^-21, and by one ulp when multiplied by p, and exp2 by 3 + 2p. A term whose exponent is k below e is scaled
/// down at most k times. That is exact if p = 2; else the factors are 2^(-pj), whose j add up to k. Each factor errs by
/// 3 + 2pj ulp, by the rounding of pj, and by the rounding of the product. The terms pass through `depth` additions.
/// The root errs by 4.5 ulp if p = 2; else it is a logarithm, a division by p and an exp2. The product with 2^e adds
/// one ulp.
fn p_norm(p: f64, depth: usize, terms: &[Bounded]) -> Bounded {
    use std::f64::consts::LN_2;
    let size = |x: &Bounded| x.value().abs();
    if let Some(class) = terms.iter().map(size).filter(|x| !x.is_finite()).max_by(f64::total_cmp) {
        return Bounded::exact(class);
    }
    let largest = terms.iter().map(size).fold(0.0, f64::max);
    if largest < TINY {
        // Subnormals may be flushed.
        return Bounded::new(0.0, terms.iter().map(size).sum::<f64>());
    }
    let top = largest.log2().floor();
    let square = p == 2.0;
    let power = if square { 1.0 } else { LN_2 * p * (2f64.powi(-21) / ULP + 1.0) + 3.0 + 2.0 * p };
    let (mut sum, mut error) = (0.0, 0.0);
    for x in terms.iter().filter(|x| size(x) > 0.0) {
        let term = (size(x) / top.exp2()).powf(p);
        let below = top - size(x).log2().floor();
        let scaling = if square { 0.0 } else { below * (4.0 + (2.0 + LN_2) * p) };
        sum += term;
        error += term * if size(x) < TINY { 1.0 } else { (power + scaling + depth as f64) * ULP * 1.01 };
    }
    let sum = Bounded::new(sum, error);
    let root = match square {
        true => sum.sqrt(),
        false => {
            let log = sum.through(f64::log2);
            let near = if sum.value() - sum.error() <= 2.0 { 2f64.powi(-21) } else { 0.0 };
            (log.plus(near, 3.0) / p).through(f64::exp2).plus(0.0, 3.0 + 2.0 * log.value() / p + 1.0)
        }
    };
    root * top.exp2()
}

/// r^q for r in 0..=1, by exp2(q log2(r)): 3 ulp for the logarithm, or 2^-21 near 1; a product; 3 + 2|e| for exp2.
fn power(r: Bounded, q: f64) -> Bounded {
    let log = r.value().log2().abs().min(150.0) + 1.0;
    let exponent = q.abs() * (2f64.powi(-21) + 4.0 * ULP * log);
    let y = r.through(|r| r.powf(q));
    y.plus(y.value().abs() * exponent, 4.0 + 2.0 * q.abs() * log)
}

fn norm(g: &mut Gen) -> Case {
    let p = g.choose(&[2.0, 2.0, 1.0, f64::INFINITY, 0.0, 0.5, 1.5, 3.0, 7.25]);
    let reduction = Reduction::draw(g, p == f64::INFINITY);
    let x = match p {
        f64::INFINITY => g.distinct(&reduction.shape, -3.0, 3.0),
        0.0 => whole(g.constants(&reduction.shape, -1.0, 1.0)),
        2.0 => g.values(&reduction.shape, -3.0, 3.0),
        // Away from 0, where the slope has a corner or a pole.
        _ => signed(g, &reduction.shape, 0.3, 3.0),
    };
    norm_of(p, x, reduction)
}

fn norm_of(p: f64, x: Input, reduction: Reduction) -> Case {
    let depth = reduction.depth();
    let norm = move |terms: &[Bounded]| {
        let sizes = terms.iter().map(|x| x.abs());
        match p {
            0.0 => {
                let counts = terms
                    .iter()
                    .map(|x| Bounded::new(f64::from(x.value() != 0.0), f64::from(x.error() > 0.0)));
                Bounded::sum_by(0, counts)
            }
            1.0 => Bounded::sum_by(depth, sizes),
            f64::INFINITY => sizes.fold(Bounded::ZERO, Bounded::max),
            p => p_norm(p, depth, terms),
        }
    };
    let case = reduction.clone().case(x, move |x, axes, keepdim| x.norm(p as f32, axes, keepdim), norm);
    case.gradient(reduction.gradient(move |terms, dy| {
        let y = norm(terms);
        let slope = |&x: &Bounded| match (p, x.value()) {
            (0.0, _) => Bounded::ZERO,
            (1.0, _) => sign(x) * dy,
            _ if x.value().is_nan() || y.value().is_nan() => nan(),
            (_, 0.0) => Bounded::ZERO,
            (_, v) if v.is_infinite() => nan(),
            // A flushed x has gradient 0; otherwise the gradient may be infinite.
            (_, v) if v.abs() <= x.error() => Bounded::UNKNOWN,
            _ if y.value() <= y.error() => Bounded::UNKNOWN,
            (2.0, _) => x / y * dy,
            _ => sign_of(x.value()) * power(x.abs() / y, p - 1.0) * dy,
        };
        match p {
            f64::INFINITY => {
                let sizes: Vec<Bounded> = terms.iter().map(|x| x.abs()).collect();
                shared(&sizes, y, dy)
                    .into_iter()
                    .zip(terms)
                    .map(|(share, &x)| {
                        if share.value() == 0.0 && share.error() == 0.0 && !x.value().is_nan() {
                            share
                        } else {
                            share * sign(x)
                        }
                    })
                    .collect()
            }
            _ => terms.iter().map(slope).collect(),
        }
    }))
}
