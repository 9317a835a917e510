//! Cumulative sums.

use super::reduce::Reduction;
use crate::ops::cumsum as scan;
use crate::proof::{Array, Bounded, Case, Gen, Input, Row, TINY, ULP, Work};

pub(super) const ROWS: &[Row] =
    &[Row { name: "cumsum", covers: &["cumsum"], draw: cumsum, bench: Some(timed_cumsum) }];

fn cumsum(g: &mut Gen) -> Case {
    let (reduction, axis) = Reduction::draw_axis(g);
    cumsum_of(g.values(&reduction.shape, -3.0, 3.0), reduction, axis)
}

fn timed_cumsum(g: &mut Gen) -> (Work, Case) {
    let shape = [4096, 1024];
    let reduction = Reduction { shape: shape.to_vec(), reduced: vec![false, true], keepdim: false };
    (Work::Bytes(8 * shape[0] * shape[1]), cumsum_of(g.values(&shape, -3.0, 3.0), reduction, 1))
}

fn cumsum_of(x: Input, reduction: Reduction, axis: isize) -> Case {
    let depth = scan::depth(reduction.outputs(), reduction.length());
    let label = format!("axis {axis} of {:?}", reduction.shape);
    let over = move |reduction: &Reduction, x: &Array, backward: bool| {
        let mut y = Array::zeros(x.shape.clone());
        for mut group in reduction.groups() {
            if backward {
                group.reverse();
            }
            // As in `Bounded::sum_by`, for every prefix.
            let (mut value, mut error, mut magnitude) = (0.0, 0.0, 0.0);
            for (before, &at) in group.iter().enumerate() {
                let (term, roundings) = (x.data[at], depth.min(before) as f64);
                value += term.value();
                error += term.error();
                magnitude += term.value().abs() + term.error();
                let gamma = roundings * ULP / (1.0 - roundings * ULP);
                y.data[at] = Bounded::new(value, error + gamma * magnitude + TINY * roundings);
            }
        }
        y
    };
    let same = reduction.clone();
    Case::new(label, vec![x], move |t| t[0].cumsum(axis), move |x| over(&reduction, &x[0], false))
        .gradient(move |_, dy| vec![Some(over(&same, dy, true))])
}
