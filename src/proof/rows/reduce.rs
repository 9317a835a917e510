//! Reductions.

use crate::proof::{Approx, Array, Case, Gen, Row};

pub(super) const ROWS: &[Row] = &[Row { name: "sum", covers: &["sum"], draw: sum, bench: None }];

/// The terms of each output of a reduction that keeps the reduced axes with length 1.
fn folded(x: &Array, reduced: &[bool], f: impl Fn(&[Approx]) -> Approx) -> Array {
    let shape: Vec<usize> = x.shape.iter().zip(reduced).map(|(&d, &r)| if r { 1 } else { d }).collect();
    let place = Array::zeros(shape.clone());
    let mut terms = vec![Vec::new(); place.numel()];
    let mut at = 0;
    Array::from_fn(x.shape.clone(), |index| {
        terms[place.broadcast_place(index)].push(x.data[at]);
        at += 1;
        Approx::ZERO
    });
    Array { shape, data: terms.iter().map(|terms| f(terms)).collect() }
}

fn sum(g: &mut Gen) -> Case {
    let shape = g.shape(6);
    let reduced: Vec<bool> = shape.iter().map(|_| g.flag()).collect();
    let axes: Vec<isize> = (0..shape.len()).filter(|&axis| reduced[axis]).map(|axis| axis as isize).collect();
    let x = g.values(&shape, -3.0, 3.0);
    let label = format!("axes {axes:?} of {shape:?}");
    let run = move |t: &[crate::Tensor]| t[0].sum(&axes, true);
    let over = reduced.clone();
    Case::new(label, vec![x], run, move |x| folded(&x[0], &over, |terms| Approx::sum(terms.iter().copied())))
        .gradient(move |x, dy| vec![Some(Array::from_fn(x[0].shape.clone(), |index| dy.broadcast_at(index)))])
}
