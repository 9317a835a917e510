//! Element-wise functions and broadcasting: against f64 on every device, gradients by central differences.

mod common;

use common::*;
use gristmill::{Result, Tensor};
use proptest::prelude::*;

type Binary = fn(&Tensor, &Tensor) -> Result<Tensor>;
type Unary = fn(&Tensor) -> Result<Tensor>;
type Of1 = fn(f64) -> f64;
type Of2 = fn(f64, f64) -> f64;
type UnaryRow = (&'static str, Unary, Of1, (f64, f64), Of2);
type BinaryRow = (&'static str, Binary, Of2, Of3);
type Of3 = fn(f64, f64, f64) -> f64;

/// Name, op, reference, rounding error as a function of the operands and the result, and whether it is smooth.
const BINARY: &[BinaryRow] = &[
    // WGSL: addition, subtraction and multiplication are correctly rounded, up to flushed subnormals.
    ("add", Tensor::add, |a, b| a + b, |_, _, y| EPS * y.abs() + TINY),
    ("sub", Tensor::sub, |a, b| a - b, |_, _, y| EPS * y.abs() + TINY),
    ("mul", Tensor::mul, |a, b| a * b, |_, _, y| EPS * y.abs() + TINY),
    // WGSL: division is within 2.5 ULP.
    ("div", Tensor::div, |a, b| a / b, |_, _, y| 2.5 * 2.0 * EPS * y.abs() + TINY),
    ("maximum", Tensor::maximum, f64::max, |_, _, _| 0.0),
    ("minimum", Tensor::minimum, f64::min, |_, _, _| 0.0),
    // WGSL: pow(x, y) is exp2(y * log2(x)). log2 is within 3 ULP, or 2^-21 absolutely near 1; exp2 within
    // 3 + 2|x| ULP; an absolute error d of the exponent is a relative one of d ln 2 of the result.
    ("pow", Tensor::pow, f64::powf, |a, b, y| {
        let e = b * a.abs().log2();
        let exponent = b.abs() * (2f64.powi(-21) + 6.0 * EPS * a.abs().log2().abs()) + EPS * e.abs();
        y.abs() * (exponent * 0.7 + (3.0 + 2.0 * e.abs()) * 2.0 * EPS) + TINY
    }),
];

/// The smallest normal number: anything below may flush to 0.
const TINY: f64 = 1.2e-38;

fn broadcast_shape(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |s: &[usize], back: usize| if back > s.len() { 1 } else { s[s.len() - back] };
    (1..=rank)
        .rev()
        .map(|back| match (dim(a, back), dim(b, back)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

fn binary_reference(a: &Array, b: &Array, f: fn(f64, f64) -> f64) -> Array {
    let shape = broadcast_shape(&a.shape, &b.shape).unwrap();
    Array::from_fn(shape, |index| f(a.broadcast_at(index), b.broadcast_at(index)))
}

/// A shape, and one that broadcasts with it.
fn broadcast_pair() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    shape(5, 3000).prop_flat_map(|a| {
        let rank = a.len();
        (Just(a), prop::collection::vec(any::<bool>(), rank), 0..=rank, any::<bool>()).prop_map(
            |(a, ones, cut, swap)| {
                let b: Vec<usize> =
                    a.iter().zip(ones).map(|(&d, one)| if one { 1 } else { d }).skip(cut).collect();
                if swap { (b, a) } else { (a, b) }
            },
        )
    })
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn binary_ops_match_f64((a, b) in broadcast_pair(), seed: u64, ways: (u8, u8)) {
        for (name, op, f, bound) in BINARY {
            let positive = if *name == "pow" { 0.05 } else { -3.0 };
            let (a, b) = (Array::random(a.clone(), seed, positive, 3.0), Array::random(b.clone(), seed ^ 1, -3.0, 3.0));
            let want = binary_reference(&a, &b, *f);
            let (wide_a, wide_b) = (binary_reference(&a, &b, |a, _| a), binary_reference(&a, &b, |_, b| b));
            for device in devices() {
                let got = op(&laid_out(&a, ways.0, &device), &laid_out(&b, ways.1, &device)).unwrap();
                assert_within(name, &got, &want, |at| bound(wide_a.data[at], wide_b.data[at], want.data[at]));
            }
        }
    }

    #[test]
    fn binary_gradients_match_differences((a, b) in broadcast_pair(), seed: u64) {
        for (name, op, f, _) in BINARY {
            // Away from the poles of division and of the logarithm in pow.
            let (a, b) = (Array::random(a.clone(), seed, 0.5, 2.0), Array::random(b.clone(), seed ^ 1, 0.6, 2.0));
            if a.numel().max(b.numel()) > 64 || binary_reference(&a, &b, *f).numel() > 64 {
                continue; // differences take a pass an element
            }
            // Each element's rounding error is a few EPS of values below 10; a gradient sums at most 64 of them.
            check_gradients(name, &[a, b], |x| op(&x[0], &x[1]), |x| binary_reference(&x[0], &x[1], *f), 64.0 * 40.0 * EPS);
        }
    }
}

/// f64's error function, by its series and its continued fraction.
fn erf(x: f64) -> f64 {
    if x.abs() < 3.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        return sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let z = x.abs();
    let fraction = (1..80).rev().fold(z, |f, k| z + k as f64 / 2.0 / f);
    ((-z * z).exp() / std::f64::consts::PI.sqrt() / fraction - 1.0) * -x.signum()
}

/// Name, op, reference, the domain, and the absolute error by WGSL's accuracy table.
const UNARY: &[UnaryRow] = &[
    ("neg", Tensor::neg, |x| -x, (-9.0, 9.0), |_, _| 0.0),
    // 3 + 2|x| ULP.
    ("exp", Tensor::exp, f64::exp, (-20.0, 20.0), |x, y| (3.0 + 2.0 * x.abs()) * 2.0 * EPS * y),
    // 3 ULP, or 2^-21 absolutely for x in [0.5, 2].
    ("log", Tensor::log, f64::ln, (0.01, 20.0), |_, y| 2f64.powi(-21) + 6.0 * EPS * y.abs()),
    // Inherited from 1 / inverseSqrt(x): 2 ULP and 2.5 ULP.
    ("sqrt", Tensor::sqrt, f64::sqrt, (0.0, 20.0), |_, y| 4.5 * 2.0 * EPS * y),
    ("recip", Tensor::recip, f64::recip, (0.1, 9.0), |_, y| 2.5 * 2.0 * EPS * y.abs()),
    ("abs", Tensor::abs, f64::abs, (-9.0, 9.0), |_, _| 0.0),
    ("relu", Tensor::relu, |x| x.max(0.0), (-9.0, 9.0), |_, _| 0.0),
    // e = exp(-|x|) errs by (3 + 2|x|) ULP of itself, the quotient by 2.5 ULP, the sum by half.
    (
        "sigmoid",
        Tensor::sigmoid,
        |x| 1.0 / (1.0 + (-x).exp()),
        (-20.0, 20.0),
        |x, y| ((3.0 + 2.0 * x.abs()) + 3.0) * 2.0 * EPS * y.max((-x.abs()).exp()),
    ),
    // WGSL allows tanh max(1e-5 absolute, what sinh/cosh inherits); adapters use (e - 1/e) / (e + 1/e).
    ("tanh", Tensor::tanh, f64::tanh, (-9.0, 9.0), |_, _| 1e-5),
    // The polynomial's 1.5e-7 and exp's error, times |x| / 2, and a handful of roundings.
    (
        "gelu",
        Tensor::gelu,
        |x| 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        (-9.0, 9.0),
        |x, _| 0.5 * x.abs() * (1.5e-7 + 12.0 * 2.0 * EPS) + TINY,
    ),
    ("square", Tensor::square, |x| x * x, (-9.0, 9.0), |_, y| EPS * y + TINY),
];

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn unary_ops_match_f64(dims in shape(4, 3000), seed: u64, way: u8) {
        for (name, op, f, (low, high), bound) in UNARY {
            let x = Array::random(dims.clone(), seed, *low, *high);
            let want = x.map(f);
            for device in devices() {
                assert_within(name, &op(&laid_out(&x, way, &device)).unwrap(), &want, |at| bound(x.data[at], want.data[at]));
            }
        }
    }

    #[test]
    fn unary_gradients_match_differences(len in 0usize..20, seed: u64) {
        for (name, op, f, _, _) in UNARY {
            // Away from 0, where abs and relu have a corner.
            let x = Array::random([len], seed, 0.3, 2.5);
            // gelu's polynomial is off by 1.5e-7, tanh by 1e-5 (as above); the others by a few EPS.
            let slack = if *name == "tanh" { 4e-5 } else { 40.0 * EPS };
            check_gradients(name, std::slice::from_ref(&x), |x| op(&x[0]), |x| x[0].map(f), slack);
            if !matches!(*name, "log" | "sqrt") {
                let x = x.map(|x| -x);
                check_gradients(name, &[x], |x| op(&x[0]), |x| x[0].map(f), slack);
            }
        }
    }
}

#[test]
fn nan_and_infinities_keep_their_class() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let x = Array::new([6], vec![nan, inf, -inf, 0.0, 1e4, -1e4]);
    for device in devices() {
        for (name, op, f, _, _) in UNARY {
            let want = match *name {
                // std's max drops NaN.
                "relu" => x.map(|x| if x.is_nan() { x } else { x.max(0.0) }),
                "gelu" => Array::new([6], vec![nan, inf, 0.0, 0.0, 1e4, 0.0]),
                _ => x.map(f),
            };
            let want = want.map(|y| if y.abs() > f64::from(f32::MAX) { y.signum() * inf } else { y });
            assert_within(name, &op(&x.to_tensor(&device)).unwrap(), &want, |at| 1e-6 * want.data[at].abs());
        }
        let y = Array::new([6], vec![1.0, nan, 2.0, nan, 3.0, inf]);
        let nan_wins = |f: fn(f64, f64) -> f64| {
            let pairs = x.data.iter().zip(&y.data);
            Array::new(
                [6],
                pairs.map(|(&a, &b)| if a.is_nan() || b.is_nan() { nan } else { f(a, b) }).collect(),
            )
        };
        let (a, b) = (x.to_tensor(&device), y.to_tensor(&device));
        assert_within("maximum", &a.maximum(&b).unwrap(), &nan_wins(f64::max), |_| 0.0);
        assert_within("minimum", &a.minimum(&b).unwrap(), &nan_wins(f64::min), |_| 0.0);
    }
}

#[test]
fn pow_has_the_special_values_of_ieee_754() {
    let inf = f64::INFINITY;
    let cases = [
        (-2.0, 3.0),
        (-2.0, 2.0),
        (-2.0, 0.5),
        (0.0, 0.0),
        (0.0, 2.0),
        (0.0, -1.0),
        (inf, -1.0),
        (0.5, inf),
        (2.0, -inf),
        (f64::NAN, 0.0),
        (1.0, f64::NAN),
    ];
    let a = Array::new([cases.len()], cases.iter().map(|c| c.0).collect());
    let b = Array::new([cases.len()], cases.iter().map(|c| c.1).collect());
    let want = binary_reference(&a, &b, f64::powf);
    for device in devices() {
        let got = a.to_tensor(&device).pow(&b.to_tensor(&device)).unwrap();
        // Exponents of at most 3 and bases of 2: exp2 within 9 ULP of at most 8.
        assert_within("pow", &got, &want, |_| 9.0 * 2.0 * EPS * 8.0);
    }
}

/// Four elements at a time where the operands start at a multiple of four, or stand still; one at a time elsewhere.
#[test]
fn slices_at_any_offset_and_scalars_match() {
    let (x, y) = (Array::random([70], 1, -1.0, 1.0), Array::random([70], 2, -1.0, 1.0));
    for device in devices() {
        let (tx, ty) = (x.to_tensor(&device), y.to_tensor(&device));
        for (from_x, from_y) in [(0, 0), (4, 8), (3, 4), (8, 1), (64, 0)] {
            for len in [0, 1, 3, 4, 5, 6] {
                let cut = |a: &Array, from: usize| Array::new([len], a.data[from..from + len].to_vec());
                let (a, b) = (cut(&x, from_x), cut(&y, from_y));
                let slice = |t: &Tensor, from: usize| t.slice(0, from..from + len).unwrap();
                let (ta, tb) = (slice(&tx, from_x), slice(&ty, from_y));
                let sum = binary_reference(&a, &b, |a, b| a + b);
                assert_within("add", &ta.add(&tb).unwrap(), &sum, |at| EPS * sum.data[at].abs());
                assert_within("neg", &ta.neg().unwrap(), &a.map(|a| -a), |_| 0.0);
                let one = y.data[from_y];
                let (left, right) = (a.map(|a| a - one), a.map(|a| one - a));
                let scalar = ty.slice(0, from_y..from_y + 1).unwrap();
                assert_within("sub", &ta.sub(&scalar).unwrap(), &left, |at| EPS * left.data[at].abs());
                assert_within("sub", &scalar.sub(&ta).unwrap(), &right, |at| EPS * right.data[at].abs());
            }
        }
    }
}
