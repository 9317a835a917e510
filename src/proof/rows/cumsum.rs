//! Running sums.

use super::reduce::Fold;
use crate::ops::cumsum as scan;
use crate::proof::{Approx, Array, Case, Gen, Input, Row, TINY, ULP, Work};

pub(super) const ROWS: &[Row] =
    &[Row { name: "cumsum", covers: &["cumsum"], draw: cumsum, bench: Some(timed_cumsum) }];

fn cumsum(g: &mut Gen) -> Case {
    let (fold, axis) = Fold::draw_axis(g);
    cumsum_of(g.values(&fold.shape, -3.0, 3.0), fold, axis)
}

fn timed_cumsum(g: &mut Gen) -> (Work, Case) {
    let shape = [4096, 1024];
    let fold = Fold { shape: shape.to_vec(), reduced: vec![false, true], keepdim: false };
    (Work::Bytes(8 * shape[0] * shape[1]), cumsum_of(g.values(&shape, -3.0, 3.0), fold, 1))
}

fn cumsum_of(x: Input, fold: Fold, axis: isize) -> Case {
    let depth = scan::depth(fold.outputs(), fold.length());
    let label = format!("axis {axis} of {:?}", fold.shape);
    let over = move |fold: &Fold, x: &Array, backward: bool| {
        let mut y = Array::zeros(x.shape.clone());
        for mut group in fold.groups() {
            if backward {
                group.reverse();
            }
            // As `Approx::sum_by`, of every beginning.
            let (mut value, mut error, mut magnitude) = (0.0, 0.0, 0.0);
            for (before, &at) in group.iter().enumerate() {
                let (term, roundings) = (x.data[at], depth.min(before) as f64);
                value += term.value();
                error += term.error();
                magnitude += term.value().abs() + term.error();
                let gamma = roundings * ULP / (1.0 - roundings * ULP);
                y.data[at] = Approx::new(value, error + gamma * magnitude + TINY * roundings);
            }
        }
        y
    };
    let same = fold.clone();
    Case::new(label, vec![x], move |t| t[0].cumsum(axis), move |x| over(&fold, &x[0], false))
        .gradient(move |_, dy| vec![Some(over(&same, dy, true))])
}
