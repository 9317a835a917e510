//! softmax, log_softmax and logsumexp.

use super::reduce::{Reduction, timed};
use crate::Result;
use crate::ops::softmax::depth;
use crate::proof::{Array, Bounded, Case, Gen, Input, Row, TINY, ULP};
use crate::tensor::Tensor;

pub(super) const ROWS: &[Row] = &[
    Row { name: "softmax", covers: &["softmax"], draw: softmax, bench: None },
    Row { name: "log_softmax", covers: &["log_softmax"], draw: log_softmax, bench: None },
    Row {
        name: "logsumexp",
        covers: &["logsumexp"],
        draw: logsumexp,
        bench: Some(|g| timed(g, logsumexp_of)),
    },
];

/// The positions of the elements of each row along `axis`.
fn rows_along(shape: &[usize], axis: usize) -> Vec<Vec<usize>> {
    let inner: usize = shape[axis + 1..].iter().product();
    let cols = shape[axis];
    let count = shape.iter().product::<usize>().checked_div(cols).unwrap_or(0);
    let start = |row: usize| row / inner * cols * inner + row % inner;
    (0..count).map(|row| (0..cols).map(|c| start(row) + c * inner).collect()).collect()
}

/// Applies `f` to the corresponding rows of several arrays of the same shape.
fn by_row(axis: usize, x: &[&Array], f: impl Fn(&[Vec<Bounded>]) -> Vec<Bounded>) -> Array {
    let mut y = x[0].clone();
    for row in rows_along(&x[0].shape, axis) {
        let terms: Vec<Vec<Bounded>> = x.iter().map(|x| row.iter().map(|&at| x.data[at]).collect()).collect();
        row.iter().zip(f(&terms)).for_each(|(&at, value)| y.data[at] = value);
    }
    y
}

/// The softmax of one row.
fn shares(depth: usize, row: &[Bounded]) -> Vec<Bounded> {
    let (max, sum) = online_softmax(depth, row);
    let broken = !max.value().is_finite();
    let share = |&x: &Bounded| if broken { Bounded::exact(f64::NAN) } else { (x - max).exp() / sum };
    row.iter().map(share).collect()
}

/// The log-softmax of one row.
fn logarithms(depth: usize, row: &[Bounded]) -> Vec<Bounded> {
    let (max, sum) = online_softmax(depth, row);
    let broken = !max.value().is_finite();
    let share = |&x: &Bounded| if broken { Bounded::exact(f64::NAN) } else { x - max - sum.ln() };
    row.iter().map(share).collect()
}

fn drawn(
    g: &mut Gen,
    run: fn(&Tensor, isize) -> Result<Tensor>,
    value: fn(usize, &[Bounded]) -> Vec<Bounded>,
    slope: fn(Bounded, Bounded, Bounded) -> Bounded,
    term: fn(Bounded, Bounded) -> Bounded,
) -> Case {
    let rank = g.range(1..=4);
    let mut shape = g.shape_of_rank(rank);
    if g.one_in(3) {
        // Long and thin, so that the rows are cut into slices.
        let [outer, inner] = [0; 2].map(|_| g.range(1..=3).min(g.size));
        shape = vec![outer, g.range(1..=(g.size / (outer * inner)).max(1)), inner];
    }
    let axis = g.below(shape.len());
    let signed = axis as isize - if g.flag() { shape.len() as isize } else { 0 };
    let range = g.choose(&[1.0, 3.0, 20.0]);
    let x = g.values(&shape, -range, range);
    let cols = shape[axis];
    let depth = depth(shape.iter().product::<usize>().checked_div(cols).unwrap_or(0), cols);
    let label = format!("axis {signed} of {shape:?}");
    Case::new(
        label,
        vec![x],
        move |t| run(&t[0], signed),
        move |x| by_row(axis, &[&x[0]], |x| value(depth, &x[0])),
    )
    .gradient(move |x, dy| {
        let dx = by_row(axis, &[&x[0], dy], |row| {
            let (y, dy) = (value(depth, &row[0]), &row[1]);
            let sum = Bounded::sum_by(depth, y.iter().zip(dy).map(|(&y, &dy)| term(y, dy)));
            y.iter().zip(dy).map(|(&y, &dy)| slope(y, dy, sum)).collect()
        });
        vec![Some(dx)]
    })
}

fn softmax(g: &mut Gen) -> Case {
    drawn(g, Tensor::softmax, shares, |y, dy, sum| y * (dy - sum), |y, dy| y * dy)
}

fn log_softmax(g: &mut Gen) -> Case {
    drawn(g, Tensor::log_softmax, logarithms, |y, dy, sum| dy - y.exp() * sum, |_, dy| dy)
}

/// Online softmax, as the kernels compute it: the maximum, and the sum of the exponentials relative to it, by at most
/// `depth` merges of two sums, one of which is scaled by exp(-d).
///
/// In ulp, a merge errs by 3 + 2d (exp), by d (the rounding of the difference) and by 2 (a product and an addition).
/// The d of a term add up to its distance from the maximum. If exp is 0, the result is subnormal.
fn online_softmax(depth: usize, terms: &[Bounded]) -> (Bounded, Bounded) {
    let max = terms.iter().copied().fold(Bounded::exact(f64::NEG_INFINITY), Bounded::max);
    let (mut sum, mut error) = (0.0, 0.0);
    for x in terms {
        let below = max.value() - x.value();
        let term = (-below).exp();
        sum += term;
        error += x.error()
            + TINY
            + if below.is_finite() { term * (5.0 * depth as f64 + 3.0 * below) * ULP * 1.01 } else { 0.0 };
    }
    (max, Bounded::new(sum, error + max.error() * sum))
}

fn logsumexp(g: &mut Gen) -> Case {
    let reduction = Reduction::draw(g, false);
    let range = g.choose(&[1.0, 3.0, 30.0]);
    logsumexp_of(g.values(&reduction.shape, -range, range), reduction)
}

fn logsumexp_of(x: Input, reduction: Reduction) -> Case {
    let depth = reduction.depth();
    let value = move |terms: &[Bounded]| {
        let (max, sum) = online_softmax(depth, terms);
        if max.value().is_finite() { max + sum.ln() } else { max }
    };
    reduction.clone().case(x, Tensor::logsumexp, value).gradient(reduction.gradient(move |terms, dy| {
        // The error of y is a common factor of all powers, which cancels in the division.
        let y = Bounded::exact(value(terms).value());
        let powers: Vec<Bounded> = terms.iter().map(|&x| (x - y).exp()).collect();
        let scale = dy / Bounded::sum_by(depth, powers.iter().copied());
        powers.iter().map(|&power| power * scale).collect()
    }))
}
