//! Operators and chains: every kind of operand, the values of the methods they stand for, and the first error.
#![allow(clippy::unwrap_used)] // also in helpers, which clippy does not take for tests

mod common;

use common::*;
use gristmill::{Chain, Device, Error, Expr, Result, Tensor};

fn pair(device: &Device) -> [Tensor; 2] {
    [[1.5, -2.0, 0.25], [4.0, 0.5, -8.0]].map(|data| Tensor::from_slice(&data, [3], device).unwrap())
}

fn bits(expr: Expr) -> Vec<u32> {
    expr.eval().unwrap().to_vec().unwrap().into_iter().map(f32::to_bits).collect()
}

#[test]
fn operators_take_every_kind_of_operand() {
    for device in devices() {
        let [a, b] = &pair(&device);
        macro_rules! same {
            ($operator:tt, $method:ident, $by_number:ident) => {{
                let want = a.$method(b).unwrap().to_vec().unwrap();
                let want: Vec<u32> = want.into_iter().map(f32::to_bits).collect();
                let expr = |x: &Tensor| x + 0.0;
                let result = |x: &Tensor| x.add_scalar(0.0);
                assert_eq!(bits(a $operator b), want);
                assert_eq!(bits(a $operator b.clone()), want);
                assert_eq!(bits(a $operator expr(b)), want);
                assert_eq!(bits(a $operator result(b)), want);
                assert_eq!(bits(a.clone() $operator b), want);
                assert_eq!(bits(a.clone() $operator b.clone()), want);
                assert_eq!(bits(a.clone() $operator expr(b)), want);
                assert_eq!(bits(a.clone() $operator result(b)), want);
                assert_eq!(bits(expr(a) $operator b), want);
                assert_eq!(bits(expr(a) $operator b.clone()), want);
                assert_eq!(bits(expr(a) $operator expr(b)), want);
                assert_eq!(bits(expr(a) $operator result(b)), want);
                assert_eq!(bits(result(a) $operator b), want);
                assert_eq!(bits(result(a) $operator b.clone()), want);
                assert_eq!(bits(result(a) $operator expr(b)), want);
                let two = Tensor::scalar(2.0, &device).unwrap();
                let right = bits(a $operator &two);
                assert_eq!(bits(a $operator 2.0), right);
                assert_eq!(bits(a.clone() $operator 2.0), right);
                assert_eq!(bits(expr(a) $operator 2.0), right);
                let by_number = a.$by_number(2.0).unwrap().to_vec().unwrap();
                assert_eq!(by_number.into_iter().map(f32::to_bits).collect::<Vec<_>>(), right);
                let left = bits(&two $operator a);
                assert_eq!(bits(2.0 $operator a), left);
                assert_eq!(bits(2.0 $operator a.clone()), left);
                assert_eq!(bits(2.0 $operator expr(a)), left);
            }};
        }
        same!(+, add, add_scalar);
        same!(-, sub, sub_scalar);
        same!(*, mul, mul_scalar);
        same!(/, div, div_scalar);
        let negative = [-1.5f32, 2.0, -0.25].map(f32::to_bits);
        assert_eq!(bits(-a), negative);
        assert_eq!(bits(-a.clone()), negative);
        assert_eq!(bits(-(a + 0.0)), negative);
    }
}

#[test]
fn expressions_have_gradients() {
    for device in devices() {
        let [a, b] = pair(&device).map(|x| x.requires_grad().unwrap());
        // d/da of Σ (2 (a + b) - b / 2)² is 4 (2a + 1.5b), d/db is 3 (2a + 1.5b).
        let inner = (&a + &b) * 2.0 - &b / 2.0;
        let gradients = inner.square().sum_all().unwrap().backward().unwrap();
        let of = |x: &Tensor| gradients.get(x).unwrap().to_vec().unwrap();
        assert_eq!(of(&a), [36.0, -13.0, -46.0]);
        assert_eq!(of(&b), [27.0, -9.75, -34.5]);
    }
}

#[test]
fn the_first_error_is_kept() {
    for device in devices() {
        let [a, b] = &pair(&device);
        let long = Tensor::ones([4], &device).unwrap();
        let wrong = |result: Result<Tensor>| match result.unwrap_err() {
            Error::Shape { op, message, .. } => {
                assert!(message.contains("[3]") && message.contains("[4]"), "{message}");
                op
            }
            other => panic!("{other}"),
        };
        assert_eq!(wrong((a * &long - b + &long).eval()), "mul");
        assert_eq!(wrong((1.0 / (b - a * &long)).eval()), "mul");
        assert_eq!(wrong((a - &long).relu().softmax(0)), "sub");
        assert_eq!(wrong(a.div(&long).exp().sum_all()), "div");
        assert_eq!(wrong((-(a + &long) * 2.0).into()), "add");
    }
}

#[test]
fn a_chain_needs_one_question_mark() -> Result<()> {
    for device in devices() {
        let [a, b] = &pair(&device);
        let x = a.add(b).mul(b).relu().sum_all()?;
        // (1.5 + 4) · 4 = 22, (-2 + 0.5) · 0.5 < 0, (0.25 - 8) · -8 = 62
        assert_eq!(x.item()?, 84.0);
        assert_eq!((a - b).abs().lt_scalar(3.0)?.to_vec()?, [1.0, 1.0, 0.0]);
    }
    Ok(())
}
