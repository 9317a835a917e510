//! Softmax and log-softmax: compared with f64 and PyTorch on every device, gradients with finite differences.

mod common;

use common::*;
use gristmill::{Error, Result, Tensor};
use proptest::prelude::*;

/// The smallest normal number: anything below may flush to 0.
const TINY: f64 = 1.2e-38;

/// Calls `f` with the positions of each row along `axis`.
fn each_row(shape: &[usize], axis: usize, mut f: impl FnMut(&[usize])) {
    let inner: usize = shape[axis + 1..].iter().product();
    let cols = shape[axis];
    let rows = shape.iter().product::<usize>().checked_div(cols).unwrap_or(0);
    for row in 0..rows {
        let start = row / inner * cols * inner + row % inner;
        f(&(0..cols).map(|c| start + c * inner).collect::<Vec<_>>());
    }
}

/// Softmax and log-softmax along `axis`.
fn reference(x: &Array, axis: usize) -> (Array, Array) {
    let (mut share, mut log) = (x.clone(), x.clone());
    each_row(&x.shape, axis, |row| {
        let max = row.iter().map(|&at| x.data[at]).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|&at| (x.data[at] - max).exp()).sum();
        for &at in row {
            share.data[at] = (x.data[at] - max).exp() / sum;
            log.data[at] = x.data[at] - max - sum.ln();
        }
    });
    (share, log)
}

/// The relative error of softmax, in rows of `cols` elements within `range` of each other. In EPS, an exponential errs
/// by WGSL's 3 + 2|x| ulp (an ulp is 2 EPS), and by |x| for the rounding of its argument: together 6 + 5|x|. The sum
/// adds the errors of its terms and one rounding per addition. Each of at most `cols` rescalings by a new maximum adds
/// 6 + 5|x| and a rounding, where the x add up to the range. A division errs by 2.5 ulp.
fn relative(cols: usize, range: f64) -> f64 {
    let exponential = 6.0 + 5.0 * range;
    let sum = exponential + cols as f64 * (1.0 + 7.0) + 5.0 * range;
    (exponential + sum + 5.0) * EPS
}

/// The absolute error of log-softmax: the error of the sum, that of log (3 ulp, or 2^-21 near 1), and two subtractions.
fn absolute(cols: usize, range: f64) -> f64 {
    let log_sum = (cols as f64).ln();
    relative(cols, range) + 2f64.powi(-21) + EPS * (6.0 * log_sum + 2.0 * range + log_sum)
}

/// A shape of rank 1 to 4 and one of its axes.
fn shape_and_axis() -> impl Strategy<Value = (Vec<usize>, usize)> {
    (shape(4, 2000), any::<prop::sample::Index>())
        .prop_filter("rank 0 has no axis", |(dims, _)| !dims.is_empty())
        .prop_map(|(dims, axis)| (dims.clone(), axis.index(dims.len())))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn softmax_matches_f64((dims, axis) in shape_and_axis(), way: u8, back: bool, range in 0.1f64..40.0, seed: u64) {
        let x = Array::random(dims, seed, -range / 2.0, range / 2.0);
        let (share, log) = reference(&x, axis);
        let cols = x.shape[axis];
        let signed = axis as isize - if back { x.shape.len() as isize } else { 0 };
        for device in devices_and_hardware() {
            let x = laid_out(&x, way, &device);
            assert_within("softmax", &x.softmax(signed).unwrap(), &share, |at| relative(cols, range) * share.data[at] + TINY);
            assert_within("log_softmax", &x.log_softmax(signed).unwrap(), &log, |_| absolute(cols, range));
        }
    }

    #[test]
    fn gradients_match_differences((dims, axis) in shape_and_axis(), seed: u64) {
        prop_assume!(dims.iter().product::<usize>() <= 64);
        let x = Array::random(dims, seed, -1.5, 1.5);
        let cols = x.shape[axis];
        // The gradient subtracts a sum of `cols` products, so it errs by a few times the error of the output.
        let slack = 4.0 * (absolute(cols, 3.0) + cols as f64 * EPS);
        let x = [x];
        check_gradients("softmax", &x, |x| x[0].softmax(axis as isize), |x| reference(&x[0], axis).0, slack);
        check_gradients("log_softmax", &x, |x| x[0].log_softmax(axis as isize), |x| reference(&x[0], axis).1, slack);
    }
}

/// A NaN at any position makes the row NaN, even if the device's exponential of NaN is a number.
#[test]
fn a_nan_is_found_in_every_place() {
    for device in devices_and_hardware().into_iter().chain(worst_case()) {
        for n in [7, 300, 1100] {
            let x = Array::from_fn([n, n], |at| if at[0] == at[1] { f64::NAN } else { (at[1] % 5) as f64 });
            let (x, nan) = (x.to_tensor(&device), Array::new([n, n], vec![f64::NAN; n * n]));
            for axis in [0, 1] {
                let what = format!("{n} along {axis}");
                assert_within(&format!("softmax of {what}"), &x.softmax(axis).unwrap(), &nan, |_| 0.0);
                assert_within(&format!("log_softmax of {what}"), &x.log_softmax(axis).unwrap(), &nan, |_| {
                    0.0
                });
                let nan = Array::new([n], vec![f64::NAN; n]);
                assert_within(
                    &format!("logsumexp of {what}"),
                    &x.logsumexp(&[axis], false).unwrap(),
                    &nan,
                    |_| 0.0,
                );
            }
        }
    }
}

/// From PyTorch 1.13: `torch.softmax` and `torch.log_softmax` of this matrix along both axes.
#[test]
fn softmax_has_pytorchs_values() {
    let x = Array::new([3, 3], vec![1.0, 2.0, 3.0, -1.0, 0.5, 0.25, 1e4, 0.0, -1e4]);
    let want = [
        (
            1,
            vec![0.090030573, 0.244728476, 0.665240943, 0.111457475, 0.499517739, 0.389024794, 1.0, 0.0, 0.0],
        ),
        (0, vec![0.0, 0.736124694, 0.939913332, 0.0, 0.164251626, 0.060086645, 1.0, 0.099623635, 0.0]),
    ];
    let log = [
        (
            1,
            vec![
                -2.407605886,
                -1.407605886,
                -0.407605946,
                -2.194112301,
                -0.694112182,
                -0.944112182,
                0.0,
                -1e4,
                -2e4,
            ],
        ),
        (
            0,
            vec![
                -9999.0,
                -0.306355804,
                -0.061967615,
                -10001.0,
                -1.806355834,
                -2.811967611,
                0.0,
                -2.306355715,
                -10003.0615234375,
            ],
        ),
    ];
    for device in devices_and_hardware() {
        let x = x.to_tensor(&device);
        for (axis, want) in &want {
            // PyTorch's own f32 error is within this bound.
            let want = Array::new([3, 3], want.clone());
            assert_within("softmax", &x.softmax(*axis).unwrap(), &want, |_| relative(3, 4.0));
        }
        for (axis, want) in &log {
            let want = Array::new([3, 3], want.clone());
            assert_within("log_softmax", &x.log_softmax(*axis).unwrap(), &want, |at| {
                absolute(3, 4.0) + 2.0 * EPS * want.data[at].abs()
            });
        }
    }
}

/// From PyTorch 1.13: the gradients of `(softmax(x) * w).sum()`, and with `log_softmax`.
#[test]
fn gradients_have_pytorchs_values() {
    let want = Array::new([1, 4], vec![0.042607091, -0.096554443, -0.164098218, 0.218045637]);
    let log = Array::new([1, 4], vec![0.603888273, -2.088384390, -1.275249720, 2.759746075]);
    for device in devices_and_hardware() {
        let x = Tensor::from_slice(&[0.5, -1.0, 2.0, 0.0], [1, 4], &device).unwrap().requires_grad().unwrap();
        let w = Tensor::from_slice(&[1.0, -2.0, 0.5, 3.0], [1, 4], &device).unwrap();
        // Four weights of at most 3.
        let bound = 12.0 * absolute(4, 3.0);
        let grads = x.softmax(1).unwrap().backward_from(&w).unwrap();
        assert_within("softmax", grads.get(&x).unwrap(), &want, |_| bound);
        let grads = x.log_softmax(1).unwrap().backward_from(&w).unwrap();
        assert_within("log_softmax", grads.get(&x).unwrap(), &log, |_| bound);
    }
}

/// As in PyTorch 1.13: a NaN, a +inf, or -inf in all elements make a row NaN; otherwise -inf has probability 0.
#[test]
fn special_values_are_pytorchs() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    #[rustfmt::skip]
    let x = vec![
        -inf, -inf, -inf,    inf, 0.0, 1.0,    nan, 0.0, 1.0,    -inf, 0.0, 0.0,
        0.0, -inf, -3e38,    1e4, 1e4, -1e4,   3e38, -3e38, 0.0,  inf, -inf, nan,
    ];
    #[rustfmt::skip]
    let share = vec![
        nan, nan, nan,       nan, nan, nan,    nan, nan, nan,    0.0, 0.5, 0.5,
        1.0, 0.0, 0.0,       0.5, 0.5, 0.0,    1.0, 0.0, 0.0,    nan, nan, nan,
    ];
    let half = 0.5f64.ln();
    #[rustfmt::skip]
    let log = vec![
        nan, nan, nan,       nan, nan, nan,    nan, nan, nan,    -inf, half, half,
        0.0, -inf, -3e38,    half, half, -20_000.693359375,    0.0, -inf, -3e38,    nan, nan, nan,
    ];
    let check = |x: &Tensor, axis: isize, share: &Array, log: &Array| {
        assert_within("softmax", &x.softmax(axis).unwrap(), share, |_| 2.0 * relative(2, 0.0));
        assert_within("log_softmax", &x.log_softmax(axis).unwrap(), log, |at| {
            absolute(2, 0.0) + 2.0 * EPS * log.data[at].abs()
        });
    };
    let [x, share, log] = [x, share, log].map(|data| Array::new([8, 3], data));
    let turn = |x: &Array| Array::from_fn([3, 8], |i| x.at(&[i[1], i[0]]));
    // In long rows the other elements are so small that their probability is 0.
    let long = |x: &Array, rest: f64| {
        Array::from_fn([8, 1000], |i| if i[1] % 499 == 0 { x.at(&[i[0], i[1] / 499]) } else { rest })
    };
    for device in devices_and_hardware() {
        check(&x.to_tensor(&device), -1, &share, &log);
        check(&turn(&x).to_tensor(&device), 0, &turn(&share), &turn(&log));
        // If a row is NaN, all its elements are, including the others.
        let rest = |y: &Array, rest: f64| {
            let mut y = long(y, rest);
            y.data.chunks_mut(1000).filter(|row| row[0].is_nan()).for_each(|row| row.fill(nan));
            y
        };
        check(&long(&x, -inf).to_tensor(&device), 1, &rest(&share, 0.0), &rest(&log, -inf));
        check(
            &turn_long(&long(&x, -inf)).to_tensor(&device),
            0,
            &turn_long(&rest(&share, 0.0)),
            &turn_long(&rest(&log, -inf)),
        );
    }
}

fn turn_long(x: &Array) -> Array {
    Array::from_fn([x.shape[1], x.shape[0]], |i| x.at(&[i[1], i[0]]))
}

/// Rows of 0 and -inf, of all lengths and positions for which the kernels divide the work differently. Each probability
/// is 1 over the number of zeros, so an element that is skipped or counted twice shows: exponentials of 0 are 1, the
/// sum is a whole number, and one division follows.
#[test]
fn long_masked_rows_lose_nothing() {
    let cases: &[(&[usize], usize)] = &[
        (&[1, 262_144], 1),
        (&[2, 262_147], 1),
        (&[17, 130_003], 1),
        (&[130_003, 3], 0),
        (&[2, 5_001, 3], 1),
        (&[33, 1025], 1),
        (&[40, 257], 1),
        (&[3, 256], 1),
        (&[20_000, 5], 1),
        (&[5, 20_000], 0),
    ];
    for (dims, axis) in cases {
        let cols = dims[*axis];
        let inner: usize = dims[axis + 1..].iter().product();
        let seen = |at: usize| at / inner % cols % 3 != 1;
        let zeros = (0..cols).filter(|c| c % 3 != 1).count() as f64;
        let place = Array::from_fn(*dims, |index| ravel(index, dims) as f64);
        let pick = |yes: f64, no: f64| place.map(|at| if seen(at as usize) { yes } else { no });
        let x = pick(0.0, f64::NEG_INFINITY);
        let share = pick(1.0 / zeros, 0.0);
        let log = pick(-zeros.ln(), f64::NEG_INFINITY);
        for device in devices_and_hardware() {
            let what = format!("softmax of {dims:?}");
            let x = x.to_tensor(&device).requires_grad().unwrap();
            let y = x.softmax(*axis as isize).unwrap();
            assert_within(&what, &y, &share, |at| 2.5 * 2.0 * EPS * share.data[at]);
            // sum(y) is 1 up to roundings, so the gradient for a dy of ones is 0: at most 16,384 elements of a row are
            // added sequentially, and each y errs by 2.5 ulp.
            let grads = y.backward_from(&Tensor::ones(*dims, &device).unwrap()).unwrap();
            let zero = share.map(|_| 0.0);
            assert_within(&what, grads.get(&x).unwrap(), &zero, |at| {
                (16_384.0 + 10.0) * EPS * share.data[at]
            });
            let y = x.log_softmax(*axis as isize).unwrap();
            // log is within 3 ulp here.
            assert_within(&what, &y, &log, |at| 6.0 * EPS * log.data[at].abs() + 2f64.powi(-21));
            // dy - exp(y) * cols is 0 if nothing is masked, else 1 - cols / zeros.
            let grads = y.backward_from(&Tensor::ones(*dims, &device).unwrap()).unwrap();
            let want = share.map(|s| 1.0 - s * cols as f64);
            // exp errs by 3 + 2|y| ulp, and by the error of y.
            assert_within(&what, grads.get(&x).unwrap(), &want, |at| {
                let y = if seen(at) { log.data[at].abs() } else { 0.0 };
                2.0 * ((6.0 + 4.0 * y + 6.0 * y + 10.0) * EPS + 2f64.powi(-21))
            });
        }
    }
}

/// So many and so long rows that one invocation per row would need 67,000 iterations; lavapipe ends longer loops
/// silently.
#[test]
fn loops_are_kept_short() {
    let [n, cols] = [250, 134_000];
    for device in devices_and_hardware() {
        let x = Tensor::zeros([1, 1], &device).unwrap().expand([n, cols]).unwrap().requires_grad().unwrap();
        let y = x.softmax(1).unwrap();
        // Each probability errs by a division's 2.5 ulp; at most a sixteenth of them are added sequentially.
        let ones = Array::new([n], vec![1.0; n]);
        let bound = (5 + cols / 16) as f64 * EPS;
        assert_within("softmax", &y.sum(&[1], false).unwrap(), &ones, |_| bound);
        let dy = Tensor::ones([1, 1], &device).unwrap().expand([n, cols]).unwrap();
        let grads = y.backward_from(&dy).unwrap();
        let largest = grads.get(&x).unwrap().abs().unwrap().max_all().unwrap().item().unwrap();
        assert!(f64::from(largest) <= 2.0 * bound / cols as f64, "{largest} on {}", device.id());
    }
}

/// A row so long that sixteen invocations would each need more iterations than lavapipe allows.
#[test]
fn a_row_of_millions_is_sliced() {
    let cols = 5_000_000;
    for device in devices() {
        let x = Tensor::zeros([1, cols], &device).unwrap().requires_grad().unwrap();
        let y = x.softmax(1).unwrap();
        // A division's 2.5 ulp, and a sum in which at most a sixteenth of the row is added sequentially.
        let bound = (5 + cols / 16) as f64 * EPS;
        let got = y.to_vec().unwrap();
        let share = 1.0 / cols as f64;
        let wrong = got.iter().find(|&&y| (f64::from(y) - share).abs() > bound * share);
        assert_eq!(wrong, None, "on {}", device.id());
        let dy = Tensor::ones([1, 1], &device).unwrap().expand([1, cols]).unwrap();
        let dx = y.backward_from(&dy).unwrap().get(&x).unwrap().to_vec().unwrap();
        let wrong = dx.iter().find(|&&dx| f64::from(dx.abs()) > 2.0 * bound * share || dx.is_nan());
        assert_eq!(wrong, None, "on {}", device.id());
    }
}

/// A row whose maximum grows from part to part, so that the sum is rescaled repeatedly.
#[test]
fn growing_maxima_rescale_the_sum() {
    for (dims, axis) in [([1, 262_144], 1), ([3, 20_000], 1), ([20_000, 3], 0)] {
        let cols = dims[axis];
        let x = Array::from_fn(dims, |i| (i[axis] * 8 / cols) as f64 * 0.75);
        let (share, _) = reference(&x, axis);
        for device in devices_and_hardware() {
            let got = x.to_tensor(&device).softmax(axis as isize).unwrap();
            // At most 1 in 16 elements are added sequentially, and the maximum grows 8 times. A missing merge would
            // change every probability by far more.
            let bound = relative(16, 6.0) + (cols / 16 + 400) as f64 * EPS;
            assert_within("softmax", &got, &share, |at| bound * share.data[at]);
        }
    }
}

#[test]
fn an_empty_tensor_and_an_axis_of_one_are_ordinary() {
    for device in devices_and_hardware() {
        for dims in [[0, 3], [3, 0]] {
            let x = Tensor::zeros(dims, &device).unwrap();
            for axis in [0, 1] {
                assert_eq!(x.softmax(axis).unwrap().shape(), dims);
                assert_eq!(x.log_softmax(axis).unwrap().shape(), dims);
            }
        }
        let x = Tensor::from_slice(&[3.0, -4.0, 1e30], [3, 1], &device).unwrap();
        assert_eq!(x.softmax(-1).unwrap().to_vec().unwrap(), [1.0; 3]);
        assert_eq!(x.log_softmax(-1).unwrap().to_vec().unwrap(), [0.0; 3]);
    }
}

#[test]
fn errors_name_the_op_and_the_shape() {
    type Along = fn(&Tensor, isize) -> Result<Tensor>;
    let ops: [(&str, Along); 2] = [("softmax", Tensor::softmax), ("log_softmax", Tensor::log_softmax)];
    for device in devices_and_hardware() {
        for (name, op) in ops {
            for axis in [2, -3] {
                let error = op(&Tensor::zeros([2, 3], &device).unwrap(), axis).unwrap_err();
                let message = error.to_string();
                assert!(matches!(error, Error::Shape { op, .. } if op == name), "{message}");
                assert!(message.contains("[2, 3]"), "{message}");
            }
            assert!(op(&Tensor::scalar(1.0, &device).unwrap(), 0).is_err());
            let ids = Tensor::from_ids(&[1, 2], [2], &device).unwrap();
            assert!(op(&ids, 0).unwrap_err().to_string().starts_with(name));
        }
    }
}
