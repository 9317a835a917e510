//! Casts between numbers and ids, and element-wise functions of ids.

use super::pointwise::{one_if, pairs};
use crate::proof::{Array, Bounded, Case, Gen, Input, Kind, Row, broadcast};
use crate::tensor::Tensor;
use crate::{DType, Result};

pub(super) const ROWS: &[Row] = &[
    Row { name: "to_dtype of ids", covers: &["to_dtype"], draw: to_f32, bench: None },
    Row { name: "to_dtype of numbers", covers: &["to_dtype"], draw: to_u32, bench: None },
    Row { name: "eq of ids", covers: &["eq", "eq_scalar"], draw: eq, bench: None },
    Row { name: "ne of ids", covers: &["ne", "ne_scalar"], draw: ne, bench: None },
    Row { name: "lt of ids", covers: &["lt", "lt_scalar"], draw: lt, bench: None },
    Row { name: "le of ids", covers: &["le", "le_scalar"], draw: le, bench: None },
    Row { name: "gt of ids", covers: &["gt", "gt_scalar"], draw: gt, bench: None },
    Row { name: "ge of ids", covers: &["ge", "ge_scalar"], draw: ge, bench: None },
    Row { name: "where_cond of ids", covers: &["where_cond"], draw: where_cond, bench: None },
];

/// The most that a u32 holds.
const MOST: u32 = u32::MAX;

fn to_f32(g: &mut Gen) -> Case {
    let (shape, bound) = (g.shape(4), g.choose(&[3, 1 << 24, 1 << 26, MOST]));
    let ids = g.ids(&shape, bound as usize);
    // The nearest f32, on every device.
    let nearest = |id: Bounded| Bounded::exact(f64::from(id.value() as f32));
    Case::new(format!("below {bound}"), vec![ids], |t| t[0].to_dtype(DType::F32), move |x| x[0].map(nearest))
}

fn to_u32(g: &mut Gen) -> Case {
    let (shape, most) = (g.shape(4), g.choose(&[3.0, 300.0, 2f64.powi(33)]));
    let x = g.constants(&shape, -0.3 * most, most);
    // 2^32 - 1 is compared as f32, which is 2^32. `max` gives 0 of NaN.
    let toward_zero = |x: Bounded| Bounded::exact(x.value().trunc().max(0.0).min(2f64.powi(32)));
    Case::new(format!("up to {most}"), vec![x], |t| t[0].to_dtype(DType::U32), move |x| x[0].map(toward_zero))
}

/// Four ids in a row, so that there are ties; f32 does not hold all of the larger ones.
fn close_ids(g: &mut Gen, shape: &[usize], first: u32) -> Input {
    let ids = g.ids(shape, 4);
    Input { array: ids.array.map(|id| Bounded::exact(id.value() + f64::from(first))), ..ids }
}

/// A comparison of two tensors of ids, or of one with a number.
fn comparison(
    g: &mut Gen,
    of_two: fn(&Tensor, &Tensor) -> Result<Tensor>,
    with_number: fn(&Tensor, f32) -> Result<Tensor>,
    holds: fn(f64, f64) -> bool,
) -> Case {
    let first = g.choose(&[0, (1 << 24) - 2, MOST - 3]);
    let (a, b) = g.broadcast_pair(5);
    let x = close_ids(g, &a, first);
    if g.flag() {
        let y = close_ids(g, &b, first);
        let reference = move |x: &[Array]| pairs(x, |a, b| one_if(holds(a.value(), b.value())));
        return Case::new(format!("{a:?} and {b:?}"), vec![x, y], move |t| of_two(&t[0], &t[1]), reference);
    }
    let near = first as f32 + g.choose(&[0.0, 1.0, 1.5, 2.0]);
    let value = g.choose(&[near, near, near, -0.5, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
    let reference = move |x: &[Array]| x[0].map(|id| one_if(holds(id.value(), f64::from(value))));
    Case::new(format!("{a:?} with {value}"), vec![x], move |t| with_number(&t[0], value), reference)
}

fn eq(g: &mut Gen) -> Case {
    comparison(g, Tensor::eq, Tensor::eq_scalar, |a, b| a == b)
}

fn ne(g: &mut Gen) -> Case {
    comparison(g, Tensor::ne, Tensor::ne_scalar, |a, b| a != b)
}

fn lt(g: &mut Gen) -> Case {
    comparison(g, Tensor::lt, Tensor::lt_scalar, |a, b| a < b)
}

fn le(g: &mut Gen) -> Case {
    comparison(g, Tensor::le, Tensor::le_scalar, |a, b| a <= b)
}

fn gt(g: &mut Gen) -> Case {
    comparison(g, Tensor::gt, Tensor::gt_scalar, |a, b| a > b)
}

fn ge(g: &mut Gen) -> Case {
    comparison(g, Tensor::ge, Tensor::ge_scalar, |a, b| a >= b)
}

fn where_cond(g: &mut Gen) -> Case {
    let (a, b) = g.broadcast_pair(5);
    let out = broadcast(&a, &b).unwrap_or_default();
    let mask = g.ids(&out, 2);
    let inputs = vec![Input { kind: Kind::Constant, ..mask }, g.ids(&a, 1 << 24), g.ids(&b, 1 << 24)];
    Case::new(
        format!("{a:?} and {b:?}"),
        inputs,
        |t| t[0].where_cond(&t[1], &t[2]),
        move |x| {
            let picked = |index: &[usize]| &x[if x[0].at(index).value() != 0.0 { 1 } else { 2 }];
            Array::from_fn(out.clone(), |index| picked(index).broadcast_at(index))
        },
    )
}
