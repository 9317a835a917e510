//! Softmax.

use crate::proof::{Approx, Array, Case, Gen, Row};

pub(super) const ROWS: &[Row] = &[Row { name: "softmax", covers: &["softmax"], draw: softmax, bench: None }];

/// The softmax of one row.
fn shares(row: &[Approx]) -> Vec<Approx> {
    let max = row.iter().copied().fold(Approx::exact(f64::NEG_INFINITY), Approx::max);
    let powers: Vec<Approx> = row.iter().map(|&x| (x - max).exp()).collect();
    let sum = Approx::sum(powers.iter().copied());
    powers.iter().map(|&power| power / sum).collect()
}

fn softmax(g: &mut Gen) -> Case {
    let rank = g.range(1..=2);
    let shape = g.shape_of_rank(rank);
    let x = g.values(&shape, -3.0, 3.0);
    let cols = shape[rank - 1].max(1);
    let rows = move |x: &Array| -> Vec<Approx> { x.data.chunks(cols).flat_map(shares).collect() };
    Case::new(
        format!("{shape:?}"),
        vec![x],
        |t| t[0].softmax(-1),
        move |x| Array { shape: x[0].shape.clone(), data: rows(&x[0]) },
    )
    .gradient(move |x, dy| {
        let y = rows(&x[0]);
        let mut dx = Vec::new();
        for (y, dy) in y.chunks(cols).zip(dy.data.chunks(cols)) {
            let dot = Approx::sum(y.iter().zip(dy).map(|(&y, &dy)| y * dy));
            dx.extend(y.iter().zip(dy).map(|(&y, &dy)| y * (dy - dot)));
        }
        vec![Some(Array { shape: x[0].shape.clone(), data: dx })]
    })
}
