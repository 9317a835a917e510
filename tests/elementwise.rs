//! Element-wise functions: values worked by hand or in 50-digit arithmetic, special values by the standards, and
//! errors. `tests/table.rs` has the rest.

mod common;

use common::*;
use gristmill::{Device, Error, Result, RotaryPairs, Tensor};
use std::f64::consts::{FRAC_1_SQRT_2, LN_2};

type Unary = fn(&Tensor) -> Result<Tensor>;
type Binary = fn(&Tensor, &Tensor) -> Result<Tensor>;

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;

fn row(values: &[f32], device: &Device) -> Tensor {
    Tensor::from_slice(values, [values.len()], device).unwrap()
}

/// Asserts values on every device and on the worst-case one: non-finite ones by class, others within a relative and an
/// absolute error.
fn assert_values(
    what: &str,
    f: impl Fn(&Device) -> Result<Tensor>,
    want: &[f64],
    relative: f64,
    absolute: f64,
) {
    for device in devices().into_iter().chain(worst_case()) {
        let want = Array::new([want.len()], want.to_vec());
        assert_within(what, &f(&device).unwrap(), &want, |at| relative * want.data[at].abs() + absolute);
    }
}

/// The gradient of `f` at `x` for a gradient of ones.
fn slopes(f: impl Fn(&Tensor) -> Result<Tensor>, x: &[f32], device: &Device) -> Result<Tensor> {
    let x = row(x, device).requires_grad()?;
    let y = f(&x)?;
    let grads = y.backward_from(&Tensor::ones(y.shape(), device)?)?;
    Ok(grads.get(&x).unwrap().clone())
}

#[test]
fn unary_functions_by_hand() {
    // Ten ulp: more than the error of any of them near these numbers.
    let close = 10.0 * 2.0 * EPS;
    let values = |name: &str, f: Unary, x: &[f32], want: &[f64]| {
        assert_values(name, |device| f(&row(x, device)), want, close, 0.0);
    };
    values(
        "erf",
        Tensor::erf,
        &[0.5, 1.0, 2.0, -3.0, 0.0],
        &[0.520499877813, 0.84270079295, 0.995322265019, -0.999977909503, 0.0],
    );
    values(
        "tanh",
        Tensor::tanh,
        &[1e-4, 1.0, -2.0, 200.0],
        &[9.99999996667e-5, 0.761594155956, -0.964027580076, 1.0],
    );
    values("rsqrt", Tensor::rsqrt, &[4.0, 0.0625, 2.0], &[0.5, 4.0, FRAC_1_SQRT_2]);
    values("silu", Tensor::silu, &[1.0, -2.0, 0.0], &[0.73105857863, -0.238405844044, 0.0]);
    values(
        "softplus",
        Tensor::softplus,
        &[0.0, 1.0, -2.0, -20.0],
        &[LN_2, 1.31326168752, 0.126928011043, 2.06115362031e-9],
    );
    values(
        "hardswish",
        Tensor::hardswish,
        &[-4.0, -3.0, -1.0, 1.0, 3.0, 4.0],
        &[0.0, 0.0, -1.0 / 3.0, 2.0 / 3.0, 3.0, 4.0],
    );
    values("leaky_relu", |x| x.leaky_relu(0.25), &[-2.0, 0.0, 3.0], &[-0.5, 0.0, 3.0]);
    values("elu", |x| x.elu(1.5), &[-2.0, -1e-5, 0.0, 3.0], &[-1.29699707514, -1.4999925e-5, 0.0, 3.0]);
    values("gelu", Tensor::gelu, &[1.0, 0.0], &[0.841344746069, 0.0]);
}

#[test]
fn sin_and_cos_of_large_numbers() {
    // The last one is the f32 closest to a multiple of π/2.
    let x = [1e6, 131_072.02, 1e22, f32::MAX, -3.0, -100_000.5, 16_367_173.0 * 2f32.powi(72)];
    let sin = [
        -0.349993502171,
        -0.998334187072,
        -0.734081535296,
        -0.521876523334,
        -0.14112000806,
        0.447746571657,
        1.0,
    ];
    let cos = [
        0.936752127533,
        0.0576961950565,
        0.679061337095,
        0.85302103983,
        -0.9899924966,
        -0.894160504367,
        -1.61476979825e-9,
    ];
    // The accuracy in the docs of `sin`.
    let (relative, absolute) = (2f64.powi(-21), 2f64.powi(-28));
    assert_values("sin", |device| row(&x, device).sin(), &sin, relative, absolute);
    assert_values("cos", |device| row(&x, device).cos(), &cos, relative, absolute);
}

#[test]
fn rounding_as_in_ieee_754() {
    let x = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.4, -2.6, 0.0, 8_388_609.0, 3e38, INF, -INF, NAN];
    let rest = [8_388_609.0, 3e38f32.into(), f64::INFINITY, -f64::INFINITY, f64::NAN];
    let values = |name: &str, f: Unary, want: [f64; 9]| {
        assert_values(name, |device| f(&row(&x, device)), &[&want[..], &rest].concat(), 0.0, 0.0);
    };
    values("round", Tensor::round, [-2.0, -2.0, 0.0, 0.0, 2.0, 2.0, 2.0, -3.0, 0.0]);
    values("floor", Tensor::floor, [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 2.0, -3.0, 0.0]);
    values("ceil", Tensor::ceil, [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 3.0, -2.0, 0.0]);
    let signs = [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0, -1.0, 0.0, 1.0, 1.0, 1.0, -1.0, f64::NAN];
    assert_values("sign", |device| row(&x, device).sign(), &signs, 0.0, 0.0);
    let small = [1e-40, -1e-40];
    assert_values("sign", |device| row(&small, device).sign(), &[1.0, -1.0], 0.0, 0.0);
    for (name, f) in [
        ("round", Tensor::round as Unary),
        ("floor", Tensor::floor),
        ("ceil", Tensor::ceil),
        ("sign", Tensor::sign),
    ] {
        assert_values(name, |device| slopes(f, &[0.5, NAN, -7.0], device), &[0.0; 3], 0.0, 0.0);
    }
}

#[test]
fn gradients_at_corners_are_pytorch_s() {
    let corner = |name: &str, f: fn(&Tensor) -> Result<Tensor>, x: &[f32], want: &[f64]| {
        assert_values(name, |device| slopes(f, x, device), want, 2.0 * EPS, 0.0);
    };
    corner("relu", Tensor::relu, &[-1.0, 0.0, 1.0], &[0.0, 0.0, 1.0]);
    corner("pow's exponent", |b| Tensor::zeros([2], b.device())?.pow(b), &[0.0, 2.0], &[0.0, 0.0]);
    corner("abs", Tensor::abs, &[-2.0, 0.0, 2.0], &[-1.0, 0.0, 1.0]);
    corner("leaky_relu", |x| x.leaky_relu(0.25), &[-1.0, 0.0, 1.0], &[0.25, 0.25, 1.0]);
    corner("elu", |x| x.elu(0.5), &[0.0, 1.0], &[0.5, 1.0]);
    corner("hardswish", Tensor::hardswish, &[-3.0, 0.0, 3.0], &[0.0, 0.5, 1.0]);
    corner(
        "clamp",
        |x| x.clamp(-1.0, 2.0),
        &[-1.5, -1.0, 0.0, 2.0, 2.5, NAN],
        &[0.0, 1.0, 1.0, 1.0, 0.0, 0.0],
    );
    corner("pow", |x| x.pow_scalar(0.0), &[0.0, 2.0], &[0.0, 0.0]);
    // Ties of a maximum split the gradient; with a NaN both sides get all of it.
    let y = |x: &Tensor| row(&[1.0, 1.0, 1.0, NAN], x.device());
    let x = [0.0, 1.0, 2.0, 1.0];
    assert_values("maximum", |d| slopes(|x| x.maximum(&y(x)), &x, d), &[0.0, 0.5, 1.0, 1.0], 0.0, 0.0);
    assert_values("minimum", |d| slopes(|x| x.minimum(&y(x)), &x, d), &[1.0, 0.5, 0.0, 1.0], 0.0, 0.0);
}

#[test]
fn comparisons_of_special_values() {
    let a = [1.0, 2.0, 3.0, NAN, NAN, INF, -INF, 0.0, 1e-40, -1e-40];
    let b = [2.0, 2.0, 2.0, NAN, 1.0, INF, INF, -0.0, 0.0, 1e-40];
    let table: [(&str, Binary, [u8; 10]); 9] = [
        ("eq", Tensor::eq, [0, 1, 0, 0, 0, 1, 0, 1, 0, 0]),
        ("ne", Tensor::ne, [1, 0, 1, 1, 1, 0, 1, 0, 1, 1]),
        ("lt", Tensor::lt, [1, 0, 0, 0, 0, 0, 1, 0, 0, 1]),
        ("le", Tensor::le, [1, 1, 0, 0, 0, 1, 1, 1, 0, 1]),
        ("gt", Tensor::gt, [0, 0, 1, 0, 0, 0, 0, 0, 1, 0]),
        ("ge", Tensor::ge, [0, 1, 1, 0, 0, 1, 0, 1, 1, 0]),
        ("logical_and", Tensor::logical_and, [1, 1, 1, 1, 1, 1, 1, 0, 0, 1]),
        ("logical_or", Tensor::logical_or, [1, 1, 1, 1, 1, 1, 1, 0, 1, 1]),
        ("logical_xor", Tensor::logical_xor, [0, 0, 0, 0, 0, 0, 0, 0, 1, 0]),
    ];
    for (name, f, want) in table {
        assert_values(name, |d| f(&row(&a, d), &row(&b, d)), &want.map(f64::from), 0.0, 0.0);
    }
    assert_values(
        "logical_not",
        |d| row(&b, d).logical_not(),
        &[0., 0., 0., 0., 0., 0., 0., 1., 1., 0.],
        0.0,
        0.0,
    );
}

#[test]
fn a_comparison_ends_the_graph() {
    for device in devices() {
        let x = row(&[-1.0, 2.0], &device).requires_grad().unwrap();
        let mask = x.gt(&Tensor::scalar(0.0, &device).unwrap()).unwrap();
        assert!(!mask.is_differentiable() && !x.logical_not().unwrap().is_differentiable());
        // So a mask may be multiplied by: relu, by hand.
        let grads = x.mul(&mask).unwrap().sum(&[0], false).unwrap().backward().unwrap();
        assert_eq!(grads.get(&x).unwrap().to_vec().unwrap(), [0.0, 1.0]);
    }
}

#[test]
fn where_cond_selects_and_ignores_the_rest() {
    for device in devices() {
        let c = Tensor::from_slice(&[1.0, 0.0, NAN, -0.0], [2, 2], &device).unwrap();
        let a = row(&[10.0, NAN], &device).requires_grad().unwrap();
        let b = Tensor::from_slice(&[NAN, 5.0], [2, 1], &device).unwrap().requires_grad().unwrap();
        let y = c.where_cond(&a, &b).unwrap();
        assert_within("where_cond", &y, &Array::new([2, 2], vec![10.0, f64::NAN, 10.0, 5.0]), |_| 0.0);
        let dy = Tensor::from_slice(&[1.0, 2.0, 4.0, 8.0], [2, 2], &device).unwrap();
        let grads = y.backward_from(&dy).unwrap();
        assert_eq!(grads.get(&a).unwrap().to_vec().unwrap(), [5.0, 0.0]);
        assert_eq!(grads.get(&b).unwrap().to_vec().unwrap(), [2.0, 8.0]);
        // The slope of the root at 0 is infinite, but not selected.
        let x = row(&[0.0, 4.0], &device).requires_grad().unwrap();
        let zero = Tensor::scalar(0.0, &device).unwrap();
        let y = x.gt(&zero).unwrap().where_cond(&x, &zero).unwrap().sum(&[0], false).unwrap();
        assert_eq!(y.backward().unwrap().get(&x).unwrap().to_vec().unwrap(), [0.0, 1.0]);
    }
}

#[test]
fn nan_and_infinities_keep_their_class() {
    let x = [NAN, INF, -INF, 0.0, 1e4, -1e4];
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let values = |name: &str, f: Unary, want: [f64; 6]| {
        assert_values(name, |device| f(&row(&x, device)), &want, 1e-6, 0.0);
    };
    values("neg", Tensor::neg, [nan, -inf, inf, 0.0, -1e4, 1e4]);
    values("exp", Tensor::exp, [nan, inf, 0.0, 1.0, inf, 0.0]);
    values("log", Tensor::log, [nan, inf, nan, -inf, 9.21034037198, nan]);
    values("sqrt", Tensor::sqrt, [nan, inf, nan, 0.0, 100.0, nan]);
    values("rsqrt", Tensor::rsqrt, [nan, 0.0, nan, inf, 0.01, nan]);
    values("recip", Tensor::recip, [nan, 0.0, 0.0, inf, 1e-4, -1e-4]);
    values("abs", Tensor::abs, [nan, inf, inf, 0.0, 1e4, 1e4]);
    values("square", Tensor::square, [nan, inf, inf, 0.0, 1e8, 1e8]);
    values("relu", Tensor::relu, [nan, inf, 0.0, 0.0, 1e4, 0.0]);
    values("sigmoid", Tensor::sigmoid, [nan, 1.0, 0.0, 0.5, 1.0, 0.0]);
    values("tanh", Tensor::tanh, [nan, 1.0, -1.0, 0.0, 1.0, -1.0]);
    values("erf", Tensor::erf, [nan, 1.0, -1.0, 0.0, 1.0, -1.0]);
    values("gelu", Tensor::gelu, [nan, inf, 0.0, 0.0, 1e4, 0.0]);
    values("silu", Tensor::silu, [nan, inf, 0.0, 0.0, 1e4, 0.0]);
    values("hardswish", Tensor::hardswish, [nan, inf, 0.0, 0.0, 1e4, 0.0]);
    values("softplus", Tensor::softplus, [nan, inf, 0.0, LN_2, 1e4, 0.0]);
    values("leaky_relu", |x| x.leaky_relu(0.5), [nan, inf, -inf, 0.0, 1e4, -5e3]);
    values("elu", |x| x.elu(2.0), [nan, inf, -2.0, 0.0, 1e4, -2.0]);
    values("clamp", |x| x.clamp(-1.0, 2.0), [nan, 2.0, -1.0, 0.0, 2.0, -1.0]);
    values("clamp", |x| x.clamp(-INF, INF), [nan, inf, -inf, 0.0, 1e4, -1e4]);
    values("sin", |x| x.sin()?.mul_scalar(0.0), [nan, nan, nan, 0.0, 0.0, 0.0]);
    values("cos", |x| x.cos()?.mul_scalar(0.0), [nan, nan, nan, 0.0, 0.0, 0.0]);
    let y = [1.0, NAN, 2.0, NAN, 3.0, INF];
    assert_values("maximum", |d| row(&x, d).maximum(&row(&y, d)), &[nan, nan, 2.0, nan, 1e4, inf], 0.0, 0.0);
    assert_values(
        "minimum",
        |d| row(&x, d).minimum(&row(&y, d)),
        &[nan, nan, -inf, nan, 3.0, -1e4],
        0.0,
        0.0,
    );
}

#[test]
fn pow_has_the_special_values_of_ieee_754() {
    let cases = [
        (-2.0, 3.0, -8.0),
        (-2.0, 2.0, 4.0),
        (-2.0, 0.5, f64::NAN),
        (0.0, 0.0, 1.0),
        (0.0, 2.0, 0.0),
        (0.0, 0.5, 0.0),
        (-0.0, -0.5, f64::INFINITY),
        (0.0, -1.0, f64::INFINITY),
        (1e-20, 8.0, 0.0),
        (-1e-20, 9.0, 0.0),
        (-1e20, 9.0, -f64::INFINITY),
        (2.0, 128.0, f64::INFINITY),
        (2.0, 140.0, f64::INFINITY),
        (-0.0, -3.0, -f64::INFINITY),
        (INF, -1.0, 0.0),
        (0.5, INF, 0.0),
        (2.0, -INF, 0.0),
        (NAN, 0.0, 1.0),
        (1.0, NAN, 1.0),
    ];
    let (a, b, want) = (cases.map(|c| c.0), cases.map(|c| c.1), cases.map(|c| c.2));
    // Exponents up to 3 and base 2: exp2 is within 9 ulp.
    assert_values("pow", |d| row(&a, d).pow(&row(&b, d)), &want, 9.0 * 2.0 * EPS, 0.0);
}

/// An input or output that the gradient uses is an expanded element.
#[test]
fn gradients_through_expanded_operands() {
    for device in devices() {
        let x = row(&[0.0, 0.0, 0.0, 3.0], &device).slice(0, 3..4).unwrap().requires_grad().unwrap();
        let y = x.expand([10]).unwrap().square().unwrap();
        assert_eq!(y.to_vec().unwrap(), [9.0; 10]);
        let dy = row(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], &device);
        let grads = y.backward_from(&dy).unwrap();
        assert_eq!(grads.get(&x).unwrap().to_vec().unwrap(), [6.0 * 45.0]);
    }
}

/// Loads four elements at a time if the operands are aligned to four or have stride 0; else one.
#[test]
fn slices_at_any_offset_and_scalars_match() {
    let x: Vec<f32> = (0..70).map(|i| i as f32).collect();
    for device in devices() {
        let (tx, ty) = (row(&x, &device), row(&x, &device).mul_scalar(100.0).unwrap());
        for (from_x, from_y) in [(0, 0), (4, 8), (3, 4), (8, 1), (64, 0)] {
            for len in [0, 1, 3, 4, 5, 6] {
                let slice = |t: &Tensor, from: usize, len: usize| t.slice(0, from..from + len).unwrap();
                let (a, b) = (slice(&tx, from_x, len), slice(&ty, from_y, len));
                let one = slice(&ty, from_y, 1);
                let place = |from: usize, i: usize| (from + i) as f64;
                let expect = |what: &str, got: Result<Tensor>, want: &dyn Fn(usize) -> f64| {
                    assert_within(
                        what,
                        &got.unwrap(),
                        &Array::new([len], (0..len).map(want).collect()),
                        |_| 0.0,
                    );
                };
                expect("neg", a.neg(), &|i| -place(from_x, i));
                expect("add", a.add(&b), &|i| place(from_x, i) + 100.0 * place(from_y, i));
                expect("sub", a.sub(&one), &|i| place(from_x, i) - 100.0 * place(from_y, 0));
                expect("sub", one.sub(&a), &|i| 100.0 * place(from_y, 0) - place(from_x, i));
                expect("where_cond", a.where_cond(&one, &b), &|i| match place(from_x, i) {
                    0.0 => 100.0 * place(from_y, i),
                    _ => 100.0 * place(from_y, 0),
                });
            }
        }
    }
}

#[test]
fn errors_name_the_op_and_what_is_wrong() {
    let message = |result: Result<Tensor>| match result {
        Err(error @ (Error::Shape { .. } | Error::Argument { .. })) => error.to_string(),
        other => panic!("{other:?}"),
    };
    for device in devices() {
        let (x, ids) = (row(&[1.0, 2.0], &device), Tensor::from_ids(&[0, 1], [2], &device).unwrap());
        let three = row(&[1.0, 2.0, 3.0], &device);
        let refused = |result: Result<Tensor>, parts: &[&str]| {
            let text = message(result);
            assert!(parts.iter().all(|part| text.contains(part)), "{text}, without one of {parts:?}");
        };
        refused(x.lt(&three), &["lt", "[2]", "[3]"]);
        refused(x.logical_and(&ids), &["logical_and", "u32"]);
        refused(ids.silu(), &["silu", "u32"]);
        refused(x.where_cond(&x, &three), &["where_cond", "[2]", "[3]"]);
        refused(three.where_cond(&x, &x), &["where_cond", "[2]", "[3]"]);
        refused(ids.where_cond(&x, &x), &["where_cond", "u32"]);
        refused(x.where_cond(&x, &ids), &["where_cond", "F32", "U32", "to_dtype"]);
        refused(ids.eq(&x), &["eq", "F32", "U32", "[2]", "to_dtype"]);
        refused(x.lt(&ids), &["lt", "F32", "U32", "[2]", "to_dtype"]);
        refused(ids.ge(&Tensor::from_ids(&[0; 3], [3], &device).unwrap()), &["ge", "[2]", "[3]"]);
        refused(x.clamp(2.0, 1.0), &["clamp", "2", "1"]);
        refused(x.clamp(NAN, 1.0), &["clamp", "NaN"]);
        refused(x.leaky_relu(INF), &["leaky_relu", "slope", "inf"]);
        refused(x.elu(NAN), &["elu", "alpha", "NaN"]);
        refused(three.glu(0), &["glu", "axis 0", "[3]"]);
        refused(x.swiglu(1), &["swiglu", "axis 1"]);
        refused(ids.geglu(0), &["geglu", "u32"]);
        let (matrix, turns) = (x.reshape([1, 2]).unwrap(), RotaryPairs::Halves);
        refused(x.rotary_embedding(&matrix, &matrix, turns), &["rotary_embedding", "[2]", "[.., n, d]"]);
        refused(matrix.rotary_embedding(&matrix, &matrix, turns), &["angles", "[1, 2]", "at most 1 pairs"]);
        refused(matrix.rotary_embedding(&matrix, &x, turns), &["cosines", "[1, 2]", "[2]"]);
        // An empty tensor needs no dispatch, but has the right shape.
        let none = Tensor::zeros([0, 2], &device).unwrap();
        assert_eq!(none.elu(1.0).unwrap().shape(), [0, 2]);
        assert_eq!(none.lt(&x).unwrap().shape(), [0, 2]);
        assert_eq!(none.reglu(1).unwrap().shape(), [0, 1]);
        let angles = none.slice(1, 0..1).unwrap();
        assert_eq!(none.rotary_embedding(&angles, &angles, turns).unwrap().shape(), [0, 2]);
        assert_eq!(x.where_cond(&none, &x).unwrap().shape(), [0, 2]);
    }
}
