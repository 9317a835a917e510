//! Reductions over any axes: values worked by hand or taken from PyTorch, reductions so long that they are sliced
//! several times, special values, errors. The table (tests/table.rs) tests random shapes, gradients and bounds.

mod common;

use common::*;
use gristmill::{Error, Result, Shape, Tensor};

/// Name, op, reference over the elements of one reduction.
type Case = (&'static str, fn(&Tensor, &[isize], bool) -> Result<Tensor>, fn(&[f64]) -> f64);

const REDUCTIONS: &[Case] = &[
    ("sum", Tensor::sum, |x| x.iter().sum()),
    ("mean", Tensor::mean, |x| x.iter().sum::<f64>() / x.len() as f64),
    ("max", Tensor::max, |x| x.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
    ("min", Tensor::min, |x| x.iter().copied().fold(f64::INFINITY, f64::min)),
];

/// Applies `f` to the elements of each reduction in row-major order; the reduced axes keep length 1.
fn reduced(x: &Array, axes: &[usize], f: impl Fn(&[f64]) -> f64) -> Array {
    let kept = |index: &[usize]| -> Vec<usize> {
        index.iter().enumerate().map(|(axis, &i)| if axes.contains(&axis) { 0 } else { i }).collect()
    };
    let shape: Vec<usize> =
        x.shape.iter().enumerate().map(|(axis, &d)| if axes.contains(&axis) { 1 } else { d }).collect();
    let mut groups = vec![Vec::new(); shape.iter().product()];
    for (at, &value) in x.data.iter().enumerate() {
        groups[ravel(&kept(&unravel(at, &x.shape)), &shape)].push(value);
    }
    Array::new(shape, groups.iter().map(|group| f(group)).collect())
}

/// Turns some axes into negative ones.
fn signed(axes: &[usize], rank: usize) -> Vec<isize> {
    let back = |&axis: &usize| axis as isize - if axis % 2 == 0 { rank as isize } else { 0 };
    axes.iter().map(back).collect()
}

/// Rows, columns and planes so long that each kernel cuts them into slices, once or twice: shape and reduced axes.
const LONG: &[(&[usize], &[usize])] = &[
    (&[(1 << 20) + 3], &[0]),
    (&[3, 70_001], &[1]),
    (&[70_001, 3], &[0]),
    (&[300, 100, 3], &[0, 1]),
    (&[100, 3, 300], &[0, 2]),
    (&[65, 1025], &[1]),
    (&[1025, 65], &[0]),
    (&[129, 33], &[1]),
];

/// Uses whole numbers, whose sums f32 holds exactly.
#[test]
fn long_reductions_lose_nothing() {
    for (dims, axes) in LONG {
        let count: usize = dims.iter().product();
        let data: Vec<f64> = (0..count).map(|at| ((at * 7 + at / 31) % 13) as f64 - 5.0).collect();
        let x = Array::new(*dims, data);
        let signed = signed(axes, dims.len());
        for (name, op, f) in REDUCTIONS {
            let want = reduced(&x, axes, f);
            for device in devices() {
                for way in 0..2 {
                    let got = op(&laid_out(&x, way, &device), &signed, true).unwrap();
                    // Exact, except the division of a mean: 2.5 ulp.
                    let ulp = if *name == "mean" { 2.0 * EPS } else { 0.0 };
                    assert_within(&format!("{name} of {dims:?}"), &got, &want, |at| {
                        2.5 * ulp * want.data[at].abs()
                    });
                }
            }
        }
    }
}

/// By hand: products of powers of two are exact. Sums of squares of whole numbers are exact, and their roots within 4.5
/// ulp. The exponentials of zeros and -inf count the zeros.
#[test]
fn long_products_norms_and_exponentials_lose_nothing() {
    for (dims, axes) in LONG {
        let count: usize = dims.iter().product();
        let choose = |of: &[f64]| {
            let data = (0..count).map(|at| of[(at * 7 + at / 31) % of.len()]).collect();
            Array::new(*dims, data)
        };
        let axes_given = signed(axes, dims.len());
        for device in devices() {
            let check =
                |x: &Array, f: fn(&[f64]) -> f64, op: &dyn Fn(&Tensor) -> Result<Tensor>, ulps: f64| {
                    let want = reduced(x, axes, f);
                    for way in 0..2 {
                        let got = op(&laid_out(x, way, &device)).unwrap();
                        assert_within(&format!("{dims:?}"), &got, &want, |at| {
                            ulps * 2.0 * EPS * want.data[at].abs()
                        });
                    }
                };
            // In any order, no partial product leaves f32's range.
            let mut factors = choose(&[1.0, -1.0, 1.0, -1.0, -1.0]);
            factors.data.iter_mut().skip(5).step_by(9973).for_each(|x| *x *= 2.0);
            check(&factors, |x| x.iter().product(), &|x| x.prod(&axes_given, true), 0.0);
            let whole = choose(&[3.0, -1.0, 0.0, 4.0, -2.0, 1.0, 1.0]);
            let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
            check(&whole, norm, &|x| x.norm(2.0, &axes_given, true), 5.5);
            check(&whole, |x| x.iter().map(|x| x.abs()).sum(), &|x| x.norm(1.0, &axes_given, true), 0.0);
            check(
                &whole,
                |x| x.iter().filter(|x| **x != 0.0).count() as f64,
                &|x| x.norm(0.0, &axes_given, true),
                0.0,
            );
            let masked = choose(&[0.0, f64::NEG_INFINITY, 0.0]);
            let log = |x: &[f64]| (x.iter().filter(|x| x.is_finite()).count() as f64).ln();
            // 3 ulp, or 2^-21 for numbers up to 2; here the result is at least 20.
            check(&masked, log, &|x| x.logsumexp(&axes_given, true), 4.0);
        }
    }
}

#[test]
fn millions_of_ones_are_counted() {
    for device in devices() {
        for count in [1 << 22, (1 << 20) + 3] {
            let ones = Tensor::ones([count], &device).unwrap();
            assert_eq!(ones.sum_all().unwrap().item().unwrap(), count as f32, "{}", device.id());
            assert_eq!(ones.mean_all().unwrap().item().unwrap(), 1.0, "{}", device.id());
        }
        // 2^24 elements without the memory.
        let ones = Tensor::ones([1, 1], &device).unwrap().expand([1 << 12, 1 << 12]).unwrap();
        assert_eq!(ones.sum_all().unwrap().item().unwrap(), (1 << 24) as f32, "{}", device.id());
        let rows = ones.sum(&[0], false).unwrap();
        assert!(rows.to_vec().unwrap().iter().all(|&sum| sum == 4096.0), "{}", device.id());
    }
}

/// Extremes at the first and last element of slices, lanes and accumulators.
#[test]
fn an_extreme_is_found_in_every_place() {
    let count = 70_001;
    for device in devices() {
        for place in [0, 1, 15, 16, 255, 256, 8191, 8192, 8193, 65_535, 65_536, count - 1] {
            let data: Vec<f32> = (0..count).map(|at| if at == place { 2.0 } else { -1.0 }).collect();
            let x = Tensor::from_slice(&data, [count], &device).unwrap();
            assert_eq!(x.max_all().unwrap().item().unwrap(), 2.0, "{place} on {}", device.id());
            assert_eq!(
                x.neg().unwrap().min_all().unwrap().item().unwrap(),
                -2.0,
                "{place} on {}",
                device.id()
            );
        }
    }
}

#[test]
fn nan_wins_and_infinities_are_ordinary() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    for device in devices() {
        for count in [5, 40, 300, 70_001] {
            for place in [0, count / 2, count - 1] {
                let with = |value: f64| {
                    let mut x = Array::new([count], vec![1.0; count]);
                    x.data[place] = value;
                    x.to_tensor(&device)
                };
                let check = |what: &str, got: Result<Tensor>, want: f64| {
                    let what = format!("{what} of {count} with one at {place}");
                    assert_within(&what, &got.unwrap(), &Array::new([], vec![want]), |_| 0.0);
                };
                for (name, op, _) in REDUCTIONS {
                    check(name, op(&with(nan), &[0], false), nan);
                }
                check("max", with(inf).max_all(), inf);
                check("max", with(-inf).max_all(), 1.0);
                check("min", with(-inf).min_all(), -inf);
                check("min", with(inf).min_all(), 1.0);
                check("sum", with(inf).sum_all(), inf);
                check("mean", with(-inf).mean_all(), -inf);
            }
            let all = Tensor::full([count], f32::NEG_INFINITY, &device).unwrap();
            assert_eq!(all.max_all().unwrap().item().unwrap(), f32::NEG_INFINITY);
            let both = Array::from_fn([count], |i| if i[0] % 2 == 0 { inf } else { -inf }).to_tensor(&device);
            assert!(both.sum_all().unwrap().item().unwrap().is_nan());
        }
    }
}

#[test]
fn an_empty_axis_sums_to_zero_and_has_no_extreme() {
    for device in devices() {
        let x = Tensor::zeros([3, 0, 2], &device).unwrap();
        assert_eq!(x.sum(&[1], false).unwrap().to_vec().unwrap(), [0.0; 6]);
        assert!(x.mean(&[1], false).unwrap().to_vec().unwrap().iter().all(|mean| mean.is_nan()));
        assert!(x.mean_all().unwrap().item().unwrap().is_nan());
        assert_eq!(x.sum(&[0], true).unwrap().shape(), [1, 0, 2]);
        assert_eq!(x.max(&[0], false).unwrap().shape(), [0, 2]);
        for message in
            [x.max(&[1], false), x.min(&[0, -2], true), x.max_all()].map(|y| y.unwrap_err().to_string())
        {
            assert!(
                message.contains("[3, 0, 2]") && (message.starts_with("max") || message.starts_with("min")),
                "{message}"
            );
        }
    }
}

/// The second image would begin past the end of the (empty) tensor.
#[test]
fn many_outputs_of_an_empty_axis_are_ordinary() {
    for device in devices() {
        let x = Tensor::zeros([7, 0, 8, 8], &device).unwrap();
        assert_eq!(x.sum(&[1], false).unwrap().to_vec().unwrap(), [0.0; 7 * 64]);
        assert!(x.std(&[1], 0, false).unwrap().to_vec().unwrap().iter().all(|std| std.is_nan()));
    }
}

/// By hand: the maximum 2 occurs three times in [2, 1, 2, 2] and once in [0, 2, 1, 1].
#[test]
fn ties_share_the_gradient_evenly() {
    for device in devices() {
        let x = Tensor::from_slice(&[2.0, 1.0, 2.0, 2.0, 0.0, 2.0, 1.0, 1.0], [2, 4], &device).unwrap();
        let x = x.requires_grad().unwrap();
        let weights = Tensor::from_slice(&[3.0, 5.0], [2], &device).unwrap();
        let want = Array::new([2, 4], vec![1.0, 0.0, 1.0, 1.0, 0.0, 5.0, 0.0, 0.0]);
        // 3 / 3: the division is within 2.5 ulp.
        let grads = x.max(&[1], false).unwrap().backward_from(&weights).unwrap();
        assert_within("max", grads.get(&x).unwrap(), &want, |_| 5.0 * EPS);
        let y = x.neg().unwrap().min(&[1], false).unwrap();
        let grads = y.backward_from(&weights).unwrap();
        assert_within("min", grads.get(&x).unwrap(), &want.map(|g| -g), |_| 5.0 * EPS);
        // The smallest normal number does not equal 0.
        let x = Tensor::from_slice(&[0.0, f32::MIN_POSITIVE], [2], &device).unwrap().requires_grad().unwrap();
        let grads = x.max_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&x).unwrap().to_vec().unwrap(), [0.0, 1.0], "{}", device.id());
    }
}

#[test]
fn no_axes_reduce_nothing() {
    for device in devices() {
        let x = Array::random([3, 5], 1, -9.0, 9.0);
        for (name, op, _) in REDUCTIONS {
            assert_within(name, &op(&x.to_tensor(&device), &[], false).unwrap(), &x, |_| 0.0);
        }
    }
}

#[test]
fn errors_name_the_op_and_the_shape() {
    for device in devices() {
        let x = Tensor::ones([2, 3], &device).unwrap();
        for (name, op, _) in REDUCTIONS {
            for (axes, about) in [
                (&[2][..], "axis 2"),
                (&[-3], "axis -3"),
                (&[0, 0], "named twice"),
                (&[1, -1], "named twice"),
            ] {
                let error = op(&x, axes, false).unwrap_err();
                let message = error.to_string();
                assert!(matches!(error, Error::Shape { op, .. } if op == *name), "{message}");
                assert!(message.contains(about) && message.contains("[2, 3]"), "{message}");
            }
            let ids = Tensor::from_ids(&[1, 2], [2], &device).unwrap();
            assert!(op(&ids, &[0], false).unwrap_err().to_string().starts_with(name));
        }
        let message = x.sum_to(Shape::new([2, 2]).unwrap()).unwrap_err().to_string();
        assert!(message.starts_with("sum_to") && message.contains("[2, 3]"), "{message}");
    }
}

/// Name, op over the last axis, values of three rows, gradients of all elements.
type Known = (&'static str, fn(&Tensor) -> Result<Tensor>, [f64; 3], [f64; 12]);

/// From PyTorch 1.13 in f64; the results of the rows of `x` are weighted 1, -2 and 0.5.
#[rustfmt::skip]
const KNOWN: &[Known] = &[
    ("var", |x| x.var(&[1], 0, false), [3.171875, 5.1875, 1.25],
        [0.1875, -1.3125, 1.1875, -0.0625, -2.25, -2.25, 2.75, 1.75, -0.125, 0.125, 0.375, -0.375]),
    ("var", |x| x.var(&[-1], 1, false), [4.229166666667, 6.916666666667, 1.666666666667],
        [0.25, -1.75, 1.583333333, -0.083333333, -3.0, -3.0, 3.666666667, 2.333333333, -0.166666667, 0.166666667, 0.5, -0.5]),
    ("var", |x| x.var(&[1], 3, true)?.reshape([3]), [12.6875, 20.75, 5.0],
        [0.75, -5.25, 4.75, -0.25, -9.0, -9.0, 11.0, 7.0, -0.5, 0.5, 1.5, -1.5]),
    ("std", |x| x.std(&[1], 1, false), [2.056493779876, 2.629955639677, 1.290994448736],
        [0.060783067, -0.425481472, 0.384959427, -0.020261022, -0.570351825, -0.570351825, 0.697096676, 0.443606975,
         -0.064549722, 0.064549722, 0.193649167, -0.193649167]),
    ("norm", |x| x.norm(0.5, &[1], false), [23.555211530607, 25.0, 160007.999500025],
        [4.853371151, -3.431851653, 2.802095141, 6.863703305, -5.0, -5.0, 10.0, 0.0, 2.000049996, 1.999950001, 1.999850021, 2.000150006]),
    ("norm", |x| x.norm(1.0, &[1], false), [6.5, 9.0, 40002.0],
        [1.0, -1.0, 1.0, 1.0, -2.0, -2.0, 2.0, 0.0, 0.5, 0.5, 0.5, 0.5]),
    ("norm", |x| x.norm(1.5, &[1], false), [4.447107111128, 6.611489018458, 25199.680997688472],
        [0.474199624, -0.670619539, 0.821337841, 0.33530977, -1.555644475, -1.555644475, 0.777822237, 0.0,
         0.314972388, 0.314988136, 0.315003883, 0.314956639]),
    ("norm", |x| x.norm(2.0, &[-1], false), [3.774917217635, 5.744562646538, 20001.00012499375],
        [0.264906471, -0.529812943, 0.794719414, 0.132453236, -1.392621248, -1.392621248, 0.348155312, 0.0,
         0.249987499, 0.250012498, 0.250037497, 0.2499625]),
    ("norm", |x| x.norm(3.0, &[1], false), [3.305744509229, 5.052774347209, 15874.804418623178],
        [0.091508499, -0.366033994, 0.823576487, 0.022877125, -1.253401388, -1.253401388, 0.078337587, 0.0,
         0.198405286, 0.198444969, 0.198484656, 0.198365606]),
    ("norm", |x| x.norm(f32::INFINITY, &[1], false), [3.0, 4.0, 10002.0],
        [0.0, 0.0, 1.0, 0.0, -1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0]),
    ("norm", |x| x.norm(0.0, &[1], false), [4.0, 3.0, 4.0], [0.0; 12]),
    ("logsumexp", |x| x.logsumexp(&[1], false), [3.202253447679, 4.705596162375, 10002.440189698562],
        [0.11055375, 0.005504147, 0.816887863, 0.067054239, -0.987628186, -0.987628186, -0.006654586, -0.018089041,
         0.043572159, 0.118441409, 0.32195713, 0.016029302]),
    ("prod", |x| x.prod(&[1], false), [-3.0, 0.0, 1.000199989998e16],
        [-3.0, 1.5, -1.0, -6.0, 0.0, 0.0, 0.0, 32.0, 500099994999.0, 500049990000.0, 499999995000.0, 500150010000.0]),
];

/// The table derives exact bounds; here 1e-4 suffices to detect a wrong formula. (Differences from 10,000 are known to
/// 2^-11, which affects the gradients of logsumexp and variance.)
#[test]
fn values_and_gradients_are_pytorchs() {
    let x =
        Array::new([3, 4], vec![1.0, -2.0, 3.0, 0.5, 4.0, 4.0, -1.0, 0.0, 1e4, 10_001.0, 10_002.0, 9_999.0]);
    let weights = Array::new([3], vec![1.0, -2.0, 0.5]);
    for device in devices() {
        for (name, op, values, slopes) in KNOWN {
            let near = |want: f64| 1e-4 * want.abs() + 1e-6;
            let x = x.to_tensor(&device).requires_grad().unwrap();
            let y = op(&x).unwrap();
            let values = Array::new([3], values.to_vec());
            assert_within(name, &y, &values, |at| near(values.data[at]));
            let grads = y.backward_from(&weights.to_tensor(&device)).unwrap();
            let slopes = Array::new([3, 4], slopes.to_vec());
            assert_within(&format!("{name}'s gradient"), grads.get(&x).unwrap(), &slopes, |at| {
                near(slopes.data[at])
                    + if *name == "logsumexp" && at >= 8 { 1e-3 * slopes.data[at] } else { 0.0 }
            });
        }
    }
}

/// By hand: with one zero, only the zero has a gradient, the product of the others; with two, none has.
#[test]
fn a_product_of_zeros_has_a_gradient() {
    for device in devices() {
        let x = Tensor::from_slice(&[2.0, 0.0, 3.0, 0.0, 0.0, 5.0, 2.0, -3.0, 4.0], [3, 3], &device).unwrap();
        let x = x.requires_grad().unwrap();
        let y = x.prod(&[1], false).unwrap();
        assert_within("prod", &y, &Array::new([3], vec![0.0, 0.0, -24.0]), |_| 0.0);
        let grads = y.backward_from(&Tensor::ones([3], &device).unwrap()).unwrap();
        let want = Array::new([3, 3], vec![0.0, 6.0, 0.0, 0.0, 0.0, 0.0, -12.0, 8.0, -6.0]);
        // The division is within 2.5 ulp.
        assert_within("prod", grads.get(&x).unwrap(), &want, |at| 5.0 * EPS * want.data[at].abs());
    }
}

/// As in PyTorch 1.13, except that the sign of NaN is NaN here.
#[test]
fn special_values_are_pytorchs() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let norm = |p: f32| move |x: &Tensor| x.norm(p, &[0], false);
    let check = |what: &str, op: &dyn Fn(&Tensor) -> Result<Tensor>, cases: &[(&[f32], f32)]| {
        for device in devices() {
            for (x, want) in cases {
                let x = Tensor::from_slice(x, [x.len()], &device).unwrap();
                let want = Array::new([], vec![f64::from(*want)]);
                assert_within(&format!("{what} of {x:?}"), &op(&x).unwrap(), &want, |_| {
                    4.0 * EPS * want.data[0].abs()
                });
            }
        }
    };
    for correction in [2, 5] {
        let var = |x: &Tensor| x.var(&[0], correction, false);
        check("var", &var, &[(&[1.0, 2.0], inf), (&[1.0, 1.0], nan), (&[3.0], nan), (&[], nan)]);
    }
    let var = |x: &Tensor| x.var(&[0], 0, false);
    check(
        "var",
        &var,
        &[(&[1.0], 0.0), (&[1.0, inf], nan), (&[-inf, 1.0], nan), (&[nan, 1.0], nan), (&[], nan)],
    );
    let std = |x: &Tensor| x.std(&[0], 1, false);
    check("std", &std, &[(&[7.0], nan), (&[7.0, 7.0], 0.0), (&[1.0, inf], nan), (&[2.0, nan], nan)]);
    let logsumexp = |x: &Tensor| x.logsumexp(&[0], false);
    #[rustfmt::skip]
    check("logsumexp", &logsumexp, &[
        (&[-inf, -inf], -inf), (&[], -inf), (&[inf, 0.0], inf), (&[inf, inf], inf), (&[inf, -inf], inf),
        (&[nan, inf], nan), (&[-inf, nan], nan), (&[-inf, 1.0], 1.0), (&[-3.4e38, -inf], -3.4e38),
    ]);
    for p in [1.0, 1.5, 2.0, 3.0, 64.0] {
        #[rustfmt::skip]
        check(&format!("norm {p}"), &norm(p), &[
            (&[nan, 1.0], nan), (&[inf, nan], nan), (&[inf, 1.0], inf), (&[1e38, -inf, inf], inf), (&[0.0, -0.0], 0.0), (&[], 0.0),
        ]);
    }
    // The squares and cubes of these over- and underflow f32.
    check(
        "norm 2",
        &norm(2.0),
        &[
            (&[3e-30, 4e-30], 5e-30),
            (&[-3e30, 4e30], 5e30),
            (&[3e38, 1.0], 3e38),
            (&[1.5e-38, 0.0, 2e-38], 2.5e-38),
        ],
    );
    check("norm inf", &norm(inf), &[(&[nan, 1.0], nan), (&[-inf, 1.0], inf), (&[1e-30, -3e-30], 3e-30)]);
    check("norm 0", &norm(0.0), &[(&[nan, 1.0, 0.0, -0.0], 2.0), (&[inf, -inf], 2.0), (&[], 0.0)]);
    let prod = |x: &Tensor| x.prod(&[0], false);
    check("prod", &prod, &[(&[], 1.0), (&[inf, 0.0], nan), (&[inf, -2.0], -inf), (&[nan, 0.0], nan)]);
}

/// By hand, as in PyTorch: the slope of the 1-norm is the sign, in any row; the slope of the 2-norm is x over the norm,
/// also for a row of one element.
#[test]
fn slopes_of_norms_at_special_rows() {
    for device in devices() {
        let slopes = |x: &[f32], p: f32| {
            let x = Tensor::from_slice(x, [x.len()], &device).unwrap().requires_grad().unwrap();
            x.norm(p, &[0], false).unwrap().backward().unwrap().get(&x).unwrap().clone()
        };
        let want = Array::new([3], vec![1.0, f64::NAN, -1.0]);
        assert_within("norm 1", &slopes(&[0.5, f32::NAN, -2.0], 1.0), &want, |_| 0.0);
        for p in [2.0, 3.0] {
            let want = Array::new([3], vec![0.0, -1.0, 0.0]);
            assert_within(&format!("norm {p}"), &slopes(&[0.0, -1.0, 0.0], p), &want, |_| 0.0);
        }
    }
}

/// Squares are exact and the root undoes them, so the norm of one number equals its magnitude bitwise.
#[test]
fn the_norm_of_one_number_is_its_size() {
    for device in devices() {
        let x = Array::random([256, 1], 3, -4.0, 4.0);
        let sizes: Vec<f32> = x.data.iter().map(|x| x.abs() as f32).collect();
        let got = x.to_tensor(&device).norm(2.0, &[1], false).unwrap().to_vec().unwrap();
        assert_eq!(got, sizes, "on {}", device.id());
    }
}

/// The variance of numbers far below 1 is as precise as that of larger numbers.
#[test]
fn a_variance_of_tiny_numbers_keeps_its_digits() {
    for device in devices() {
        let x = Array::from_fn([8], |i| i[0] as f64 * 1e-10).to_tensor(&device);
        let want = Array::new([], vec![5.25e-20]);
        let got = x.var(&[0], 0, false).unwrap();
        // The inputs have one rounding, their differences two, and the squares and sums a few.
        assert_within("var", &got, &want, |_| 40.0 * EPS * 5.25e-20);
    }
}

/// The variance is precise if the mean is large: 1 and -1 about a million have variance 1, though sums of squares near
/// 1e12 cannot resolve 1 in f32.
#[test]
fn a_variance_survives_a_large_mean() {
    for device in devices() {
        for dims in [[1, 70_001], [70_001, 1], [300, 300]] {
            let x = Array::from_fn(dims, |i| 1e6 + if (i[0] + i[1]) % 2 == 0 { 1.0 } else { -1.0 });
            let x = x.to_tensor(&device);
            let n = x.numel() as f64;
            let odd = if n as usize % 2 == 1 { 1.0 - 1.0 / (n * n) } else { 1.0 };
            let want = Array::new([], vec![odd]);
            let got = x.var(&[0, 1], 0, false).unwrap();
            // Means relative to the first element are within 2 of 0, and each merge errs by a few ulp of that.
            assert_within(&format!("var of {dims:?}"), &got, &want, |_| 2e-4);
        }
    }
}

/// The position of an extreme, and of the first of several: at the ends of slices, lanes and accumulators.
#[test]
fn the_first_extreme_is_found_in_every_place() {
    let count = 70_001;
    for device in devices() {
        for place in [0, 1, 15, 16, 127, 128, 255, 8191, 8192, 8193, 65_535, count - 1] {
            let lone = |at: usize, value: f32| match at {
                at if at == place || at > place && at % 977 == 5 => value,
                _ => -1.0,
            };
            let data: Vec<f32> = (0..count).map(|at| lone(at, 2.0)).collect();
            let x = Tensor::from_slice(&data, [count], &device).unwrap();
            let wide = x.reshape([count, 1]).unwrap().expand([count, 2]).unwrap();
            assert_eq!(x.argmax(0, false).unwrap().to_ids().unwrap(), [place as u32], "{}", device.id());
            assert_eq!(wide.argmax(0, true).unwrap().to_ids().unwrap(), [place as u32; 2], "{}", device.id());
            assert_eq!(wide.argmax(0, true).unwrap().shape(), [1, 2]);
            let least = x.neg().unwrap().argmin(0, false).unwrap();
            assert_eq!(least.to_ids().unwrap(), [place as u32], "{}", device.id());
            let data: Vec<f32> =
                (0..count).map(|at| if at == 3 { f32::INFINITY } else { lone(at, f32::NAN) }).collect();
            let x = Tensor::from_slice(&data, [count], &device).unwrap();
            for found in [x.argmax(0, false), x.argmin(0, false)] {
                assert_eq!(
                    found.unwrap().to_ids().unwrap(),
                    [place.max(if place == 3 { 4 } else { 0 }) as u32]
                );
            }
        }
    }
}

/// As in PyTorch 1.13.
#[test]
fn ties_zeros_and_infinities_have_a_first() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let cases: &[(&[f32], u32, u32)] = &[
        (&[1.0, nan, 5.0, nan], 1, 1),
        (&[0.0, -0.0], 0, 0),
        (&[-0.0, 0.0], 0, 0),
        (&[2.0, 2.0, 1.0, 1.0], 0, 2),
        (&[-inf, -inf], 0, 0),
        (&[inf, -inf], 0, 1),
        (&[-inf, nan, inf], 1, 1),
        (&[-2.0, -1.0, -3.0], 1, 2),
        (&[3.4e38, inf, -3.4e38], 1, 2),
    ];
    for device in devices() {
        // Rows and columns that are cut into slices.
        for (dims, axis) in [([70, 129], 1), ([129, 70], 0), ([3, 5000], 1)] {
            let x = Array::from_fn(dims, |i| ((i[0] * 31 + i[1] * 17) % 257 / 2) as f64);
            let first = |row: &[f64]| {
                let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                row.iter().position(|&x| x == largest).unwrap() as f64
            };
            let want: Vec<u32> = reduced(&x, &[axis], first).data.iter().map(|&i| i as u32).collect();
            let got = x.to_tensor(&device).argmax(axis as isize, false).unwrap();
            assert_eq!(got.to_ids().unwrap(), want, "{dims:?} on {}", device.id());
        }
        for (x, largest, smallest) in cases {
            let t = Tensor::from_slice(x, [x.len()], &device).unwrap();
            let places = [t.argmax(-1, false), t.argmin(-1, false)].map(|y| y.unwrap().to_ids().unwrap()[0]);
            assert_eq!(places, [*largest, *smallest], "{x:?} on {}", device.id());
        }
        // Ids have no gradient; their source keeps its own.
        let x = Tensor::ones([3], &device).unwrap().requires_grad().unwrap();
        assert!(!x.argmax(0, false).unwrap().is_differentiable());
    }
}

#[test]
fn invalid_norms_and_empty_extremes_are_refused() {
    for device in devices() {
        let x = Tensor::ones([2, 3], &device).unwrap();
        for p in [-1.0, f32::NAN, f32::NEG_INFINITY, 64.5] {
            let error = x.norm(p, &[0], false).unwrap_err();
            let message = error.to_string();
            assert!(matches!(error, Error::Argument { op: "norm", .. }), "{message}");
            assert!(message.contains("[2, 3]"), "{message}");
        }
        let none = Tensor::zeros([3, 0], &device).unwrap();
        let refused = [none.argmax(1, false), none.argmin(-1, true), none.norm(f32::INFINITY, &[1], false)];
        for message in refused.map(|y| y.unwrap_err().to_string()) {
            assert!(message.contains("[3, 0]"), "{message}");
        }
        for message in [x.argmax(2, false), x.argmin(-3, false)].map(|y| y.unwrap_err().to_string()) {
            assert!(message.starts_with("arg") && message.contains("[2, 3]"), "{message}");
        }
        assert_eq!(none.argmax(0, false).unwrap().shape(), [0]);
        let ids = Tensor::from_ids(&[1, 2], [2], &device).unwrap();
        assert!(ids.argmax(0, false).unwrap_err().to_string().starts_with("argmax"));
    }
}
