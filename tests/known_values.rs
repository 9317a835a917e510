//! Values that a person can check, with the arithmetic beside them: the result of each op, and its gradients for the
//! given dy, on every device.
//!
//! `golden.rs` has many more values, from PyTorch and JAX. Some known values are in the suite of their op: more
//! functions, rounding, comparisons and selection in `elementwise.rs`; more products, convolutions and poolings in
//! `matmul.rs`, `conv2d.rs`, `conv_transpose.rs`, `pool2d.rs`, `avg_pool_upsample.rs`; concatenation, padding,
//! gathering and sorting in `indexing.rs`; normalization in `norms.rs`; special values of losses in `losses.rs`;
//! dropout masks in `dropout.rs`; views in `views.rs`; Philox in `random.rs`; layers in `nn.rs`; optimizers and
//! schedules in `optim.rs`.

mod common;

use common::*;
use gristmill::nn::{Loss, Reduction};
use gristmill::{
    Activation, AttentionOptions, AvgPool2dOptions, Conv1dOptions, Conv2dOptions, CrossEntropyOptions, DType,
    Pool2dOptions, Result, RotaryPairs, Tensor,
};
use std::f64::consts::{E, LN_2};

/// A function of tensors at one point: its result, and its gradients if the gradient of the result is `dy`.
struct Known {
    what: &'static str,
    call: fn(&[Tensor]) -> Result<Tensor>,
    inputs: Vec<Array>,
    y: Array,
    dy: Vec<f64>,
    dx: Vec<Vec<f64>>,
    /// The error allowed: relative, and absolute.
    within: [f64; 2],
}

/// Whole numbers and binary fractions, which f32 computes exactly.
const EXACT: [f64; 2] = [0.0, 0.0];
/// This many ulp, the unit of WGSL's accuracy table. An input that f32 does not hold adds its rounding.
const fn ulp(count: f64) -> [f64; 2] {
    [2.0 * count * EPS, 0.0]
}

fn a(shape: &[usize], data: &[f64]) -> Array {
    Array::new(shape, data.to_vec())
}

/// A one-dimensional array.
fn v(data: &[f64]) -> Array {
    a(&[data.len()], data)
}

fn hold(all: Vec<Known>) {
    for device in devices() {
        for Known { what, call, inputs, y, dy, dx, within: [share, rest] } in &all {
            let bound = |want: &Array, at: usize| share * want.data[at].abs() + rest;
            let leaves: Vec<Tensor> =
                inputs.iter().map(|x| x.to_tensor(&device).requires_grad().unwrap()).collect();
            let got = call(&leaves).unwrap_or_else(|error| panic!("{what} on {}: {error}", device.id()));
            assert_within(what, &got, y, |at| bound(y, at));
            let dy = Array::new(y.shape.clone(), dy.clone()).to_tensor(&device);
            let grads = got.backward_from(&dy).unwrap();
            for (at, (leaf, want)) in leaves.iter().zip(dx).enumerate() {
                let want = Array::new(leaf.shape().to_vec(), want.clone());
                let what = format!("{what}, gradient {at}");
                assert_within(&what, grads.get(leaf).expect(&what), &want, |at| bound(&want, at));
            }
        }
    }
}

#[test]
fn binary() {
    hold(vec![
        Known {
            what: "add",
            call: |x| x[0].add(&x[1]),
            inputs: vec![v(&[1., 2.]), v(&[10.])],
            y: v(&[11., 12.]),
            dy: vec![1., 2.],
            dx: vec![vec![1., 2.], vec![1. + 2.]], // b was used twice
            within: EXACT,
        },
        Known {
            what: "sub",
            call: |x| x[0].sub(&x[1]),
            inputs: vec![v(&[5., 7.]), a(&[], &[2.])],
            y: v(&[3., 5.]),
            dy: vec![1., 10.],
            dx: vec![vec![1., 10.], vec![-1. - 10.]],
            within: EXACT,
        },
        Known {
            what: "mul",
            call: |x| x[0].mul(&x[1]),
            inputs: vec![a(&[2, 1], &[2., 3.]), v(&[4., 5.])],
            y: a(&[2, 2], &[8., 10., 12., 15.]),
            dy: vec![1., 10., 100., 1000.],
            // 4 · 1 + 5 · 10, 4 · 100 + 5 · 1000; 2 · 1 + 3 · 100, 2 · 10 + 3 · 1000
            dx: vec![vec![54., 5400.], vec![302., 3020.]],
            within: EXACT,
        },
        Known {
            what: "div",
            call: |x| x[0].div(&x[1]),
            inputs: vec![v(&[6., 1.]), v(&[2., 4.])],
            y: v(&[3., 0.25]),
            dy: vec![1., 8.],
            dx: vec![vec![1. / 2., 8. / 4.], vec![-6. / 4., -8. / 16.]], // dy / b, -dy a / b²
            within: ulp(6.0),
        },
        Known {
            what: "maximum",
            call: |x| x[0].maximum(&x[1]),
            inputs: vec![v(&[1., 5., 2.]), v(&[4., 3., 2.])],
            y: v(&[4., 5., 2.]),
            dy: vec![1., 2., 4.],
            dx: vec![vec![0., 2., 2.], vec![1., 0., 2.]], // equal elements share the gradient
            within: EXACT,
        },
        Known {
            what: "minimum",
            call: |x| x[0].minimum(&x[1]),
            inputs: vec![v(&[1., 5., 2.]), v(&[4., 3., 2.])],
            y: v(&[1., 3., 2.]),
            dy: vec![1., 2., 4.],
            dx: vec![vec![1., 0., 2.], vec![0., 2., 2.]],
            within: EXACT,
        },
        Known {
            what: "pow",
            call: |x| x[0].pow(&x[1]),
            inputs: vec![v(&[2., 4.]), v(&[3., 0.5])],
            y: v(&[8., 2.]),
            dy: vec![1., 1.],
            // b a^(b - 1): 3 · 2², 0.5 / √4; a^b ln a: 8 ln 2, 2 ln 4
            dx: vec![vec![12., 0.25], vec![8. * LN_2, 4. * LN_2]],
            within: ulp(20.0),
        },
        Known {
            what: "with numbers",
            call: |x| x[0].mul_scalar(3.0)?.add_scalar(1.0)?.pow_scalar(2.0),
            inputs: vec![v(&[1., -2.])],
            y: v(&[16., 25.]), // (3 + 1)², (-6 + 1)²
            dy: vec![1., 1.],
            dx: vec![vec![24., -30.]], // 2 · 4 · 3, 2 · -5 · 3
            within: ulp(20.0),
        },
    ]);
}

/// Ids have no gradients.
#[test]
fn casts_and_comparisons_of_ids() {
    for device in devices_and_hardware() {
        let of = |ids: &[u32]| Tensor::from_ids(ids, [ids.len()], &device).unwrap();
        let numbers = |x: Result<Tensor>| x.unwrap().to_vec().unwrap();

        // Above 2^24, f32 holds every second id, then every fourth; of two as near, the one with an even last digit.
        let ids = of(&[
            0,
            1,
            3,
            (1 << 24) - 1,
            (1 << 24) + 1,
            (1 << 24) + 3,
            (1 << 25) + 3,
            u32::MAX - 128,
            u32::MAX,
        ]);
        let near = [
            0.0,
            1.0,
            3.0,
            16_777_215.0,
            16_777_216.0,
            16_777_220.0,
            33_554_436.0,
            4_294_967_040.0,
            4_294_967_296.0,
        ];
        assert_eq!(numbers(ids.to_dtype(DType::F32)), near);
        assert_eq!(ids.to_dtype(DType::U32).unwrap().to_ids().unwrap(), ids.to_ids().unwrap());

        // Toward zero. 4294967040 is the largest f32 below 2^32.
        let cast = [
            (0.99, 0),
            (1.0, 1),
            (2.5, 2),
            (16_777_215.0, 16_777_215),
            (4_294_967_040.0, 4_294_967_040),
            (4_294_967_296.0, u32::MAX),
            (f32::INFINITY, u32::MAX),
            (-0.0, 0),
            (-1.0, 0),
            (f32::NEG_INFINITY, 0),
            (f32::NAN, 0),
            (-f32::NAN, 0),
            (1e-45, 0),
        ];
        let x = Tensor::from_slice(&cast.map(|(x, _)| x), [cast.len()], &device).unwrap();
        let x = x.requires_grad().unwrap();
        assert_eq!(x.to_dtype(DType::U32).unwrap().to_ids().unwrap(), cast.map(|(_, id)| id));
        assert!(!x.to_dtype(DType::U32).unwrap().to_dtype(DType::F32).unwrap().is_differentiable());
        assert!(x.to_dtype(DType::F32).unwrap().is_differentiable(), "the same handle");

        // As f32 these would all be 2^24.
        let (a, b) = (of(&[1 << 24, (1 << 24) + 1]).reshape([2, 1]).unwrap(), of(&[1 << 24, (1 << 24) + 1]));
        assert_eq!(numbers(a.eq(&b)), [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(numbers(a.ne(&b)), [0.0, 1.0, 1.0, 0.0]);
        assert_eq!(numbers(a.lt(&b)), [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(numbers(a.le(&b)), [1.0, 1.0, 0.0, 1.0]);
        assert_eq!(numbers(a.gt(&b)), [0.0, 0.0, 1.0, 0.0]);
        assert_eq!(numbers(a.ge(&b)), [1.0, 0.0, 1.0, 1.0]);

        // With numbers: an id, none, one between two ids, and those on either side of all ids.
        let ids = of(&[0, 2, 3, u32::MAX]);
        let with = |value: f32| {
            let masks = [
                ids.eq_scalar(value),
                ids.ne_scalar(value),
                ids.lt_scalar(value),
                ids.le_scalar(value),
                ids.gt_scalar(value),
                ids.ge_scalar(value),
            ];
            masks.map(|mask| {
                numbers(mask).iter().map(|&held| if held == 1.0 { '1' } else { '0' }).collect::<String>()
            })
        };
        assert_eq!(with(2.0), ["0100", "1011", "1000", "1100", "0011", "0111"]);
        assert_eq!(with(-0.0), ["1000", "0111", "0000", "1000", "0111", "1111"]);
        assert_eq!(with(2.5), ["0000", "1111", "1100", "1100", "0011", "0011"]);
        for above in [4_294_967_296.0, f32::INFINITY] {
            assert_eq!(with(above), ["0000", "1111", "1111", "1111", "0000", "0000"]);
        }
        for below in [-0.5, f32::NEG_INFINITY] {
            assert_eq!(with(below), ["0000", "1111", "0000", "0000", "1111", "1111"]);
        }
        assert_eq!(with(f32::NAN), ["0000", "1111", "0000", "0000", "0000", "0000"]);

        // What is not padding stays, whatever the bits mean as a number.
        let kept = ids.ne_scalar(3.0).unwrap().where_cond(&ids, &of(&[0x7fc0_0001])).unwrap();
        assert_eq!(kept.to_ids().unwrap(), [0, 2, 0x7fc0_0001, u32::MAX]);
    }
}

#[test]
fn unary() {
    let of = |what, call, x: &[f64], y: &[f64], dx: &[f64], within| Known {
        what,
        call,
        inputs: vec![v(x)],
        y: v(y),
        dy: vec![1.0; x.len()],
        dx: vec![dx.to_vec()],
        within,
    };
    let third = 3f64.ln();
    hold(vec![
        of("neg", |x| x[0].neg(), &[2., -3.], &[-2., 3.], &[-1., -1.], EXACT),
        of("exp", |x| x[0].exp(), &[0., 1., LN_2], &[1., E, 2.], &[1., E, 2.], ulp(6.0)),
        // log 1 may be off by 2^-21 absolute.
        of("log", |x| x[0].log(), &[1., 2., 0.5], &[0., LN_2, -LN_2], &[1., 0.5, 2.], [0.0, 8.0 * EPS]),
        of("sqrt", |x| x[0].sqrt(), &[9., 0.25], &[3., 0.5], &[1. / 6., 1.], ulp(8.0)), // 1 / 2y
        of("recip", |x| x[0].recip(), &[4., -0.5], &[0.25, -2.], &[-1. / 16., -4.], ulp(6.0)), // -y²
        of("abs", |x| x[0].abs(), &[2., -3., 0.], &[2., 3., 0.], &[1., -1., 0.], EXACT),
        of("relu", |x| x[0].relu(), &[2., -3., 0.], &[2., 0., 0.], &[1., 0., 0.], EXACT),
        // 1 / (1 + 1/3), and y (1 - y): 1/2 · 1/2, 3/4 · 1/4.
        of("sigmoid", |x| x[0].sigmoid(), &[0., third], &[0.5, 0.75], &[0.25, 0.1875], ulp(24.0)),
        // (2 - 1/2) / (2 + 1/2), and 1 - y²; tanh is within 1e-5.
        of("tanh", |x| x[0].tanh(), &[0., LN_2, -LN_2], &[0., 0.6, -0.6], &[1., 0.64, 0.64], [0.0, 2e-5]),
        // x Φ(x), and Φ(x) + x φ(x), by a table of the normal distribution: Φ(1) = 0.8413447, φ(1) = 0.2419707.
        of(
            "gelu",
            |x| x[0].gelu(),
            &[0., 1., -1.],
            &[0., 0.8413447, -0.1586553],
            &[0.5, 1.0833154, -0.0833154],
            [0.0, 1e-6],
        ),
        of("square", |x| x[0].square(), &[3., -0.5], &[9., 0.25], &[6., -1.], EXACT),
    ]);
}

#[test]
fn reductions() {
    let x = || a(&[2, 3], &[1., 2., 3., 5., 5., -4.]);
    hold(vec![
        Known {
            what: "sum of each row",
            call: |x| x[0].sum(&[-1], false),
            inputs: vec![x()],
            y: v(&[6., 6.]),
            dy: vec![1., 10.],
            dx: vec![vec![1., 1., 1., 10., 10., 10.]],
            within: EXACT,
        },
        Known {
            what: "sum of each column, kept",
            call: |x| x[0].sum(&[0], true),
            inputs: vec![x()],
            y: a(&[1, 3], &[6., 7., -1.]),
            dy: vec![1., 10., 100.],
            dx: vec![vec![1., 10., 100., 1., 10., 100.]],
            within: EXACT,
        },
        Known {
            what: "mean of all",
            call: |x| x[0].mean_all(),
            inputs: vec![x()],
            y: a(&[], &[2.]), // 12 / 6
            dy: vec![3.],
            dx: vec![vec![0.5; 6]],
            within: ulp(4.0),
        },
        Known {
            what: "max of each row",
            call: |x| x[0].max(&[1], false),
            inputs: vec![x()],
            y: v(&[3., 5.]),
            dy: vec![1., 10.],
            dx: vec![vec![0., 0., 1., 5., 5., 0.]], // both fives share the gradient
            within: ulp(3.0),
        },
        Known {
            what: "min of each column",
            call: |x| x[0].min(&[0], false),
            inputs: vec![x()],
            y: v(&[1., 2., -4.]),
            dy: vec![1., 10., 100.],
            dx: vec![vec![1., 10., 0., 0., 0., 100.]],
            within: ulp(3.0),
        },
        Known {
            what: "sum_to undoes a broadcast",
            call: |x| x[0].sum_to(gristmill::Shape::new([2, 1])?),
            inputs: vec![x()],
            y: a(&[2, 1], &[6., 6.]),
            dy: vec![1., 2.],
            dx: vec![vec![1., 1., 1., 2., 2., 2.]],
            within: EXACT,
        },
    ]);
}

/// Scores of ln 3 and 0 give weights of 3/4 and 1/4.
#[test]
fn attention() {
    fn attend(x: &[Tensor], causal: bool) -> Result<Tensor> {
        let options = AttentionOptions { scale: Some(1.0), causal, ..AttentionOptions::default() };
        x[0].scaled_dot_product_attention(&x[1], &x[2], &options)
    }
    let ln_3 = 3f64.ln();
    hold(vec![
        Known {
            what: "attention",
            call: |x| attend(x, false),
            inputs: vec![a(&[1, 1, 1], &[1.]), a(&[1, 2, 1], &[ln_3, 0.]), a(&[1, 2, 2], &[4., 0., 8., 4.])],
            y: a(&[1, 1, 2], &[5., 1.]),
            dy: vec![1., 2.],
            // do · v is 4 and 16, delta is 7: 3/4 (4 - 7) and 1/4 (16 - 7). The gradient of v is the weights.
            dx: vec![vec![-2.25 * ln_3], vec![-2.25, 2.25], vec![0.75, 1.5, 0.25, 0.5]],
            within: [ATTENTION, ATTENTION],
        },
        Known {
            what: "attention, causal, two heads on one",
            call: |x| attend(x, true),
            inputs: vec![a(&[2, 1, 1], &[0., 1.]), a(&[1, 2, 1], &[0., ln_3]), a(&[1, 2, 1], &[2., 6.])],
            y: a(&[2, 1, 1], &[4., 5.]),
            dy: vec![1., 4.],
            // Weights 1/2, 1/2 and 1/4, 3/4; delta 4 and 20: slopes -1, 1 and 1/4 (8 - 20), 3/4 (24 - 20).
            dx: vec![vec![ln_3, 3. * ln_3], vec![-3., 3.], vec![0.5 + 1., 0.5 + 3.]],
            within: [ATTENTION, ATTENTION],
        },
        Known {
            what: "attention, a query before the first key",
            call: |x| attend(x, true),
            inputs: vec![a(&[1, 2, 1], &[1., 1.]), a(&[1, 1, 1], &[5.]), a(&[1, 1, 1], &[7.])],
            y: a(&[1, 2, 1], &[0., 7.]),
            dy: vec![3., 2.],
            dx: vec![vec![0., 0.], vec![0.], vec![2.]],
            within: [ATTENTION, ATTENTION],
        },
    ]);
}

/// Exponentials of up to 5 err by 13 ulp, a rescaling for each of two tiles by 4; sums and a quotient, twice; of values
/// up to 24.
const ATTENTION: f64 = 24.0 * 64.0 * 2.0 * EPS;

#[test]
fn softmax() {
    let third = 3f64.ln();
    hold(vec![
        Known {
            what: "softmax",
            call: |x| x[0].softmax(-1),
            inputs: vec![a(&[2, 2], &[7., 7., 0., third])],
            y: a(&[2, 2], &[0.5, 0.5, 0.25, 0.75]), // 1 and 3 of 4
            dy: vec![1., 0., 16., 0.],
            // y (dy - sum y dy): 1/2 (1 - 1/2), -1/2 · 1/2; 1/4 (16 - 4), 3/4 · -4
            dx: vec![vec![0.25, -0.25, 3., -3.]],
            within: ulp(30.0),
        },
        Known {
            what: "log_softmax",
            call: |x| x[0].log_softmax(0),
            inputs: vec![a(&[2, 1], &[0., third])],
            y: a(&[2, 1], &[-2. * LN_2, third - 2. * LN_2]), // ln 1/4, ln 3/4
            dy: vec![4., 0.],
            dx: vec![vec![3., -3.]], // dy - y sum dy: 4 - 1/4 · 4, -3/4 · 4
            within: ulp(40.0),
        },
        Known {
            what: "cross_entropy",
            call: |x| x[0].cross_entropy(&Tensor::from_ids(&[0, 1], [2], x[0].device())?),
            inputs: vec![a(&[2, 2], &[0., third, 0., third])],
            y: a(&[], &[2. * LN_2 - third / 2.]), // the mean of -ln 1/4 and -ln 3/4
            dy: vec![2.],
            dx: vec![vec![0.25 - 1., 0.75, 0.25, 0.75 - 1.]], // the probabilities, minus 1 at the targets
            within: ulp(40.0),
        },
    ]);
}

#[test]
fn products() {
    hold(vec![
        Known {
            what: "matmul",
            call: |x| x[0].matmul(&x[1]),
            inputs: vec![a(&[2, 2], &[1., 2., 3., 4.]), a(&[2, 1], &[5., 6.])],
            y: a(&[2, 1], &[17., 39.]), // 5 + 12, 15 + 24
            dy: vec![1., 10.],
            // dy bᵀ; aᵀ dy: 1 + 30, 2 + 40
            dx: vec![vec![5., 6., 50., 60.], vec![31., 42.]],
            within: EXACT,
        },
        Known {
            what: "matmul of one matrix with each of two",
            call: |x| x[0].matmul(&x[1]),
            inputs: vec![a(&[1, 2], &[1., 2.]), a(&[2, 2, 1], &[1., 1., 3., -1.])],
            y: a(&[2, 1, 1], &[3., 1.]),
            dy: vec![1., 10.],
            // 1 · (1, 1) + 10 · (3, -1); each b has its own gradient
            dx: vec![vec![31., -9.], vec![1., 2., 10., 20.]],
            within: EXACT,
        },
        Known {
            what: "linear and relu",
            call: |x| x[0].linear(&x[1], Some(&x[2]), Activation::Relu),
            inputs: vec![a(&[1, 2], &[1., 2.]), a(&[2, 2], &[3., 4., 5., -6.]), v(&[100., -1.])],
            y: a(&[1, 2], &[111., 0.]), // 3 + 8 + 100; 5 - 12 - 1 is negative, so relu stops its gradient
            dy: vec![2., 7.],
            dx: vec![vec![6., 8.], vec![2., 4., 0., 0.], vec![2., 0.]],
            within: EXACT,
        },
    ]);
}

#[test]
fn planes() {
    hold(vec![
        Known {
            what: "conv2d over a border",
            call: |x| {
                let options = Conv2dOptions { padding: [0, 1], stride: [1, 2], ..Conv2dOptions::default() };
                x[0].conv2d(&x[1], Some(&x[2]), options)
            },
            inputs: vec![a(&[1, 1, 1, 3], &[1., 2., 3.]), a(&[1, 1, 1, 2], &[10., 1.]), v(&[0.5])],
            y: a(&[1, 1, 1, 2], &[1.5, 23.5]), // 10 · 0 + 1 · 1, 10 · 2 + 1 · 3: the kernel is not flipped
            dy: vec![1., 2.],
            // x0 by 1, x1 by 10 · 2, x2 by 1 · 2; w0 by 0 · 1 + 2 · 2, w1 by 1 · 1 + 3 · 2
            dx: vec![vec![1., 20., 2.], vec![4., 7.], vec![3.]],
            within: EXACT,
        },
        Known {
            what: "max_pool2d",
            call: |x| x[0].max_pool2d(Pool2dOptions::new([1, 2])),
            inputs: vec![a(&[1, 1, 2, 4], &[1., 3., 2., 2., -5., -4., 0., -1.])],
            y: a(&[1, 1, 2, 2], &[3., 2., -4., 0.]),
            dy: vec![1., 2., 3., 4.],
            dx: vec![vec![0., 1., 2., 0., 0., 3., 4., 0.]], // the first of the two twos
            within: EXACT,
        },
        Known {
            what: "conv1d by two steps",
            call: |x| x[0].conv1d(&x[1], None, Conv1dOptions { dilation: 2, ..Conv1dOptions::default() }),
            inputs: vec![a(&[1, 1, 4], &[1., 2., 3., 4.]), a(&[1, 1, 2], &[10., 1.])],
            y: a(&[1, 1, 2], &[13., 24.]), // 10 · 1 + 3, 10 · 2 + 4
            dy: vec![1., 2.],
            dx: vec![vec![10., 20., 1., 2.], vec![5., 11.]], // 1 + 2 · 2, 3 + 2 · 4
            within: EXACT,
        },
        Known {
            what: "avg_pool2d, the border not counted",
            call: |x| {
                let options = AvgPool2dOptions::new([1, 2]);
                x[0].avg_pool2d(AvgPool2dOptions { padding: [0, 1], count_include_pad: false, ..options })
            },
            inputs: vec![a(&[1, 1, 1, 4], &[5., 2., 4., 7.])],
            y: a(&[1, 1, 1, 3], &[5., 3., 7.]), // 5 / 1, (2 + 4) / 2, 7 / 1
            dy: vec![1., 8., 3.],
            dx: vec![vec![1., 4., 4., 3.]],
            within: ulp(4.0),
        },
        Known {
            what: "adaptive_avg_pool2d",
            call: |x| x[0].adaptive_avg_pool2d([1, 2]),
            inputs: vec![a(&[1, 1, 1, 3], &[1., 3., 7.])],
            y: a(&[1, 1, 1, 2], &[2., 5.]), // from 0 to ceil(3/2), from floor(3/2) to 3: both contain the 3
            dy: vec![2., 4.],
            dx: vec![vec![1., 1. + 2., 2.]],
            within: ulp(4.0),
        },
        Known {
            what: "upsample_nearest2d",
            call: |x| x[0].upsample_nearest2d([1, 5]),
            inputs: vec![a(&[1, 1, 1, 2], &[3., 4.])],
            y: a(&[1, 1, 1, 5], &[3., 3., 3., 4., 4.]), // the floor of 0, 0.4, 0.8, 1.2, 1.6
            dy: vec![1., 10., 100., 1000., 10000.],
            dx: vec![vec![111., 11000.]],
            within: EXACT,
        },
        Known {
            what: "upsample_bilinear2d",
            call: |x| x[0].upsample_bilinear2d([1, 4], false),
            inputs: vec![a(&[1, 1, 1, 2], &[0., 4.])],
            // At (i + 1/2) / 2 - 1/2 = -1/4, 1/4, 3/4, 5/4, clamped to the axis.
            y: a(&[1, 1, 1, 4], &[0., 1., 3., 4.]),
            dy: vec![1., 4., 8., 16.],
            dx: vec![vec![1. + 3. + 2., 1. + 6. + 16.]],
            within: ulp(8.0),
        },
        Known {
            what: "upsample_bilinear2d, corners aligned",
            call: |x| x[0].upsample_bilinear2d([1, 4], true),
            inputs: vec![a(&[1, 1, 1, 2], &[0., 3.])],
            y: a(&[1, 1, 1, 4], &[0., 1., 2., 3.]), // at 0, 1/3, 2/3, 1
            dy: vec![1., 3., 6., 9.],
            dx: vec![vec![1. + 2. + 2., 1. + 4. + 9.]],
            within: ulp(8.0),
        },
    ]);
}

#[test]
fn losses() {
    let third = 3f64.ln();
    let pair = |what, call, x: &[f64], t: &[f64], y: &[f64], [dx, dt]: [&[f64]; 2]| Known {
        what,
        call,
        inputs: vec![v(x), v(t)],
        y: v(y),
        dy: vec![1.; y.len()],
        dx: vec![dx.to_vec(), dt.to_vec()],
        within: ulp(24.0),
    };
    hold(vec![
        // (3 - 1)², (1 - 2)²; 2 (x - t)
        pair(
            "mse_loss",
            |x| Loss::Mse.of(&x[0], &x[1], Reduction::None),
            &[3., 1.],
            &[1., 2.],
            &[4., 1.],
            [&[4., -2.], &[-4., 2.]],
        ),
        pair(
            "l1_loss",
            |x| Loss::L1.of(&x[0], &x[1], Reduction::None),
            &[3., 1., 5.],
            &[1., 2., 5.],
            &[2., 1., 0.],
            [&[1., -1., 0.], &[-1., 1., 0.]],
        ),
        // 0.5² / 2; 2 (3 - 1) with a slope of 2
        pair(
            "huber_loss",
            |x| Loss::Huber { delta: 2. }.of(&x[0], &x[1], Reduction::None),
            &[1.5, 4.],
            &[1., 1.],
            &[0.125, 4.],
            [&[0.5, 2.], &[-0.5, -2.]],
        ),
        // 1 - 0.5, 1 + 2, and 0 beyond the margin
        pair(
            "hinge_loss",
            |x| Loss::Hinge.of(&x[0], &x[1], Reduction::None),
            &[0.5, 2., 3.],
            &[1., -1., 1.],
            &[0.5, 3., 0.],
            [&[-1., 1., 0.], &[-0.5, -2., 0.]],
        ),
        // The probability is 3/4: -ln 3/4, -ln 1/4, half of each; σ(x) - t, -x.
        pair(
            "bce_with_logits",
            |x| Loss::BceWithLogits { pos_weight: None }.of(&x[0], &x[1], Reduction::None),
            &[third, third, third],
            &[1., 0., 0.5],
            &[2. * LN_2 - third, 2. * LN_2, 2. * LN_2 - third / 2.],
            [&[-0.25, 0.75, 0.25], &[-third, -third, -third]],
        ),
        // 1/4 (ln 1/4 - ln 1/2), 1 (ln 1 - ln 1/2); -t, ln t - x + 1
        pair(
            "kl_div",
            |x| Loss::KlDiv { log_target: false }.of(&x[0], &x[1], Reduction::None),
            &[-LN_2, -LN_2],
            &[0.25, 1.],
            &[-LN_2 / 4., LN_2],
            [&[-0.25, -1.], &[1. - LN_2, 1. + LN_2]],
        ),
        Known {
            what: "the mean over a batch",
            call: |x| Loss::Mse.of(&x[0], &x[1], Reduction::BatchMean),
            inputs: vec![a(&[2, 2], &[3., 1., 2., 2.]), a(&[2, 2], &[1., 2., 2., 5.])],
            y: a(&[], &[7.]), // (4 + 1 + 0 + 9) / 2
            dy: vec![2.],
            dx: vec![vec![4., -2., 0., -6.], vec![-4., 2., 0., 6.]],
            within: ulp(4.0),
        },
        Known {
            what: "cross_entropy, smoothed",
            call: |x| {
                let options = CrossEntropyOptions { label_smoothing: 0.5, ..CrossEntropyOptions::default() };
                x[0].cross_entropy_with(&Tensor::from_ids(&[0], [1], x[0].device())?, &options)
            },
            inputs: vec![a(&[1, 2], &[0., third])],
            y: a(&[], &[2. * LN_2 - third / 4.]), // 3/4 of -ln 1/4, 1/4 of -ln 3/4
            dy: vec![1.],
            dx: vec![vec![0.25 - 0.75, 0.75 - 0.25]],
            within: ulp(40.0),
        },
        Known {
            what: "cross_entropy, weighted, a row ignored",
            call: |x| {
                let weight = Some(Tensor::from_slice(&[3., 1.], [2], x[0].device())?);
                let options =
                    CrossEntropyOptions { weight, ignore_index: Some(9), ..CrossEntropyOptions::default() };
                x[0].cross_entropy_with(&Tensor::from_ids(&[0, 9, 1], [3], x[0].device())?, &options)
            },
            inputs: vec![a(&[3, 2], &[0., third, 5., 6., 0., third])],
            y: a(&[], &[2. * LN_2 - third / 4.]), // (3 · -ln 1/4 + 1 · -ln 3/4) / (3 + 1)
            dy: vec![4.],
            dx: vec![vec![3. * (0.25 - 1.), 3. * 0.75, 0., 0., 0.25, 0.75 - 1.]],
            within: ulp(40.0),
        },
    ]);
}

#[test]
fn gated_units_and_rotary_embedding() {
    hold(vec![
        Known {
            what: "glu",
            call: |x| x[0].glu(1),
            inputs: vec![a(&[1, 2], &[6., 0.])],
            y: a(&[1, 1], &[3.]), // 6 · 1/2
            dy: vec![2.],
            dx: vec![vec![1., 3.]], // 2 · 1/2, 2 · 6 · 1/4
            within: ulp(24.0),
        },
        Known {
            what: "swiglu",
            call: |x| x[0].swiglu(-1),
            inputs: vec![v(&[0., 4.])],
            y: v(&[0.]),
            dy: vec![1.],
            dx: vec![vec![2., 0.]], // 4 · 1/2, silu(0)
            within: ulp(24.0),
        },
        Known {
            what: "geglu",
            call: |x| x[0].geglu(0),
            inputs: vec![a(&[2, 1], &[0., 4.])],
            y: a(&[1, 1], &[0.]),
            dy: vec![3.],
            dx: vec![vec![6., 0.]], // 3 · 4 · 1/2, gelu(0)
            within: ulp(24.0),
        },
        Known {
            what: "reglu",
            call: |x| x[0].reglu(-1),
            inputs: vec![v(&[2., -1., 3., 5.])],
            y: v(&[6., 0.]),
            dy: vec![1., 10.],
            dx: vec![vec![3., 0., 2., 0.]],
            within: EXACT,
        },
        Known {
            what: "rotary_embedding, halves",
            call: |x| quarter(RotaryPairs::Halves, x),
            inputs: vec![a(&[1, 3], &[3., 4., 7.])],
            y: a(&[1, 3], &[-4., 3., 7.]), // (3, 4) rotated by 90 degrees
            dy: vec![1., 10., 100.],
            dx: vec![vec![10., -1., 100.]], // and rotated back
            within: EXACT,
        },
        Known {
            what: "rotary_embedding, of two pairs of neighbours the first at rest",
            call: |x| {
                let table = |data: [f32; 2]| Tensor::from_slice(&data, [1, 2], x[0].device());
                x[0].rotary_embedding(&table([1., 0.])?, &table([0., 1.])?, RotaryPairs::Neighbours)
            },
            inputs: vec![a(&[1, 4], &[1., 2., 3., 4.])],
            y: a(&[1, 4], &[1., 2., -4., 3.]),
            dy: vec![1., 10., 100., 1000.],
            dx: vec![vec![1., 10., 1000., -100.]],
            within: EXACT,
        },
        Known {
            what: "add_rms_norm, and its sum",
            call: |x| {
                let [y, sum] = x[0].add_rms_norm(&x[1], 1, None, 0.0)?;
                y.add(&sum)
            },
            inputs: vec![a(&[1, 2], &[3., 3.]), a(&[1, 2], &[-2., 4.])],
            y: a(&[1, 2], &[0.2 + 1., 1.4 + 7.]), // (1 + 49) / 2 = 5²
            dy: vec![5., 0.],
            // (dy - y mean(y dy)) / 5 with mean 1/2, plus dy of the sum; the same for both inputs
            dx: vec![vec![0.98 + 5., -0.14], vec![0.98 + 5., -0.14]],
            within: ulp(10.0),
        },
        Known {
            what: "lstm_cell, h",
            call: |x| Ok(x[0].lstm_cell(&x[1], &x[2])?[0].clone()),
            inputs: vec![
                a(&[1, 4], &[1., 0., 2., 0.]),
                a(&[1, 4], &[-1., 0., -2., 0.]),
                a(&[1, 1], &[2. * LN_2]),
            ],
            // All gates are 0: c' = 1/2 · 2 ln 2 + 1/2 · 0, h' = 1/2 tanh(ln 2) = 1/2 · 3/5
            y: a(&[1, 1], &[0.3]),
            dy: vec![1.],
            // of c' 1/2 · 16/25 = 8/25; of i and g times 0 and 1/2, of f times 2 ln 2 · 1/4; of o 3/5 · 1/4; of c 8/25 · 1/2
            dx: vec![vec![0., 0.16 * LN_2, 0.16, 0.15], vec![0., 0.16 * LN_2, 0.16, 0.15], vec![0.16]],
            within: ulp(30.0),
        },
        Known {
            what: "lstm_cell, c",
            call: |x| Ok(x[0].lstm_cell(&x[1], &x[2])?[1].clone()),
            inputs: vec![v(&[0.; 4]), v(&[0., 0., LN_2, 0.]), v(&[4.])],
            y: v(&[2.3]), // 1/2 · 4 + 1/2 · 3/5
            dy: vec![1.],
            // 3/5 · 1/4, 4 · 1/4, 1/2 · 16/25, nothing, 1/2
            dx: vec![vec![0.15, 1., 0.32, 0.], vec![0.15, 1., 0.32, 0.], vec![0.5]],
            within: ulp(30.0),
        },
        Known {
            what: "gru_cell",
            call: |x| x[0].gru_cell(&x[1], &x[2]),
            inputs: vec![v(&[0.; 3]), v(&[0.; 3]), v(&[3.])],
            y: v(&[1.5]), // 1/2 · 0 + 1/2 · 3
            dy: vec![1.],
            // r has no gradient; (3 - 0) · 1/4; 1/2; the gradient of the state's part is halved by r
            dx: vec![vec![0., 0.75, 0.5], vec![0., 0.75, 0.25], vec![0.5]],
            within: ulp(30.0),
        },
    ]);
}

/// Rotates the only pair by 90 degrees.
fn quarter(pairs: RotaryPairs, x: &[Tensor]) -> Result<Tensor> {
    let [cos, sin] = [0.0, 1.0].map(|value| Tensor::full([1, 1], value, x[0].device()));
    x[0].rotary_embedding(&cos?, &sin?, pairs)
}
