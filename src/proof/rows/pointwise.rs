//! Element-wise functions.

use crate::Result;
use crate::proof::{Approx, Array, Case, Gen, Row, broadcast};
use crate::tensor::Tensor;

pub(super) const ROWS: &[Row] = &[
    Row { name: "add", covers: &["add"], draw: add, bench: None },
    Row { name: "mul", covers: &["mul"], draw: mul, bench: None },
    Row { name: "exp", covers: &["exp"], draw: exp, bench: None },
    Row { name: "relu", covers: &["relu"], draw: relu, bench: None },
];

/// A function of one operand; `slope` is its derivative.
fn unary(
    g: &mut Gen,
    (low, high): (f64, f64),
    run: fn(&Tensor) -> Result<Tensor>,
    f: fn(Approx) -> Approx,
    slope: fn(Approx) -> Approx,
) -> Case {
    let shape = g.shape(4);
    let x = g.values(&shape, low, high);
    Case::new("", vec![x], move |t| run(&t[0]), move |x| x[0].map(f))
        .gradient(move |x, dy| vec![Some(x[0].zip(dy, |x, dy| dy * slope(x)))])
}

/// A function of two operands, broadcast; `slopes` are its derivatives.
fn binary(
    g: &mut Gen,
    ranges: [(f64, f64); 2],
    run: fn(&Tensor, &Tensor) -> Result<Tensor>,
    f: fn(Approx, Approx) -> Approx,
    slopes: [fn(Approx, Approx) -> Approx; 2],
) -> Case {
    let (a, b) = g.broadcast_pair(5);
    let out = broadcast(&a, &b).unwrap_or_default();
    let inputs = vec![g.values(&a, ranges[0].0, ranges[0].1), g.values(&b, ranges[1].0, ranges[1].1)];
    let label = format!("{a:?} and {b:?}");
    let wide = out.clone();
    let reference = move |x: &[Array]| {
        Array::from_fn(out.clone(), |index| f(x[0].broadcast_at(index), x[1].broadcast_at(index)))
    };
    Case::new(label, inputs, move |t| run(&t[0], &t[1]), reference).gradient(move |x, dy| {
        let part = |which: usize| {
            let whole = Array::from_fn(wide.clone(), |index| {
                dy.at(index) * slopes[which](x[0].broadcast_at(index), x[1].broadcast_at(index))
            });
            Some(whole.sum_to(&x[which].shape))
        };
        vec![part(0), part(1)]
    })
}

fn add(g: &mut Gen) -> Case {
    binary(g, [(-3.0, 3.0); 2], Tensor::add, |a, b| a + b, [|_, _| Approx::ONE; 2])
}

fn mul(g: &mut Gen) -> Case {
    binary(g, [(-3.0, 3.0); 2], Tensor::mul, |a, b| a * b, [|_, b| b, |a, _| a])
}

fn exp(g: &mut Gen) -> Case {
    unary(g, (-20.0, 20.0), Tensor::exp, Approx::exp, Approx::exp)
}

fn relu(g: &mut Gen) -> Case {
    let step = |x: Approx| if x.value() > 0.0 || x.value().is_nan() { Approx::ONE } else { Approx::ZERO };
    unary(g, (-3.0, 3.0), Tensor::relu, |x| x.max(Approx::ZERO), step)
}
