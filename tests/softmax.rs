//! Softmax, its logarithm and cross-entropy: against f64 and PyTorch on every device, gradients by differences.

mod common;

use common::*;
use gristmill::gpu::GpuOptions;
use gristmill::{Device, Error, Result, Tensor};
use proptest::prelude::*;

/// The smallest normal number: anything below may flush to 0.
const TINY: f64 = 1.2e-38;

/// Calls `f` with the places of each row along `axis`.
fn each_row(shape: &[usize], axis: usize, mut f: impl FnMut(&[usize])) {
    let inner: usize = shape[axis + 1..].iter().product();
    let cols = shape[axis];
    let rows = shape.iter().product::<usize>().checked_div(cols).unwrap_or(0);
    for row in 0..rows {
        let start = row / inner * cols * inner + row % inner;
        f(&(0..cols).map(|c| start + c * inner).collect::<Vec<_>>());
    }
}

/// Softmax along `axis` and its logarithm, with the largest element and the sum of the exponentials by row.
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

/// How far softmax may be off relatively, in rows of `cols` elements within `range` of each other: in EPS, an
/// exponential errs by WGSL's 3 + 2|x| ULP (an ULP being 2 EPS) and by |x| for the rounding of its argument, together
/// 6 + 5|x|. The sum adds that of its terms, one rounding an addition, and for each of at most `cols` times that a new
/// maximum scales it down 6 + 5|x| and a rounding, the x adding up to the range. A division is within 2.5 ULP.
fn relative(cols: usize, range: f64) -> f64 {
    let exponential = 6.0 + 5.0 * range;
    let sum = exponential + cols as f64 * (1.0 + 7.0) + 5.0 * range;
    (exponential + sum + 5.0) * EPS
}

/// As `relative`, of the logarithm, absolutely: the sum's error, that of log (3 ULP, or 2^-21 near 1), and the roundings
/// of two subtractions.
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
        for device in devices() {
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
        // A gradient subtracts a sum of `cols` products from one: it errs by a few times the output's error.
        let slack = 4.0 * (absolute(cols, 3.0) + cols as f64 * EPS);
        let x = [x];
        check_gradients("softmax", &x, |x| x[0].softmax(axis as isize), |x| reference(&x[0], axis).0, slack);
        check_gradients("log_softmax", &x, |x| x[0].log_softmax(axis as isize), |x| reference(&x[0], axis).1, slack);
    }

    #[test]
    fn cross_entropy_matches_f64(n in 1usize..70, classes in prop_oneof![1usize..20, 60usize..70, 255usize..260], way: u8, range in 0.1f64..40.0, seed: u64) {
        let x = Array::random([n, classes], seed, -range / 2.0, range / 2.0);
        let ids = ids(n, classes, seed);
        let log = reference(&x, 1).1;
        let losses: Vec<f64> = ids.iter().enumerate().map(|(row, &id)| -log.at(&[row, id as usize])).collect();
        let mean = losses.iter().sum::<f64>() / n as f64;
        for device in devices() {
            let targets = Tensor::from_ids(&ids, [n], &device).unwrap();
            let got = laid_out(&x, way, &device).cross_entropy(&targets).unwrap();
            // Each loss errs as log_softmax does; then the mean's n additions and its division.
            let bound = absolute(classes, range) + (n as f64 + 5.0) * EPS * mean;
            assert_within("cross_entropy", &got, &Array::new([], vec![mean]), |_| bound);
        }
    }

    #[test]
    fn cross_entropy_gradients_match_differences(n in 1usize..8, classes in 1usize..9, seed: u64) {
        let x = Array::random([n, classes], seed, -1.5, 1.5);
        let ids = ids(n, classes, seed);
        let mean = |x: &[Array]| {
            let log = reference(&x[0], 1).1;
            let losses = ids.iter().enumerate().map(|(row, &id)| -log.at(&[row, id as usize]));
            Array::new([], vec![losses.sum::<f64>() / n as f64])
        };
        let f = |x: &[Tensor]| x[0].cross_entropy(&Tensor::from_ids(&ids, [n], x[0].device())?);
        check_gradients("cross_entropy", &[x], f, mean, 2.0 * relative(classes, 3.0));
    }
}

fn ids(n: usize, classes: usize, seed: u64) -> Vec<u32> {
    Array::random([n], seed ^ 7, 0.0, classes as f64).data.iter().map(|&id| id as u32).collect()
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
    for device in devices() {
        let x = x.to_tensor(&device);
        for (axis, want) in &want {
            // PyTorch's own f32 error is below this bound's.
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
    for device in devices() {
        let x = Tensor::from_slice(&[0.5, -1.0, 2.0, 0.0], [1, 4], &device).unwrap().requires_grad().unwrap();
        let w = Tensor::from_slice(&[1.0, -2.0, 0.5, 3.0], [1, 4], &device).unwrap();
        // Weights of at most 3, four of them.
        let bound = 12.0 * absolute(4, 3.0);
        let grads = x.softmax(1).unwrap().backward_from(&w).unwrap();
        assert_within("softmax", grads.get(&x).unwrap(), &want, |_| bound);
        let grads = x.log_softmax(1).unwrap().backward_from(&w).unwrap();
        assert_within("log_softmax", grads.get(&x).unwrap(), &log, |_| bound);
    }
}

/// As PyTorch 1.13: NaN and +inf anywhere, and -inf everywhere, make a row NaN; other -inf are shares of 0.
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
    // In long rows the rest is so small that it has no share.
    let long = |x: &Array, rest: f64| {
        Array::from_fn([8, 1000], |i| if i[1] % 499 == 0 { x.at(&[i[0], i[1] / 499]) } else { rest })
    };
    for device in devices() {
        check(&x.to_tensor(&device), -1, &share, &log);
        check(&turn(&x).to_tensor(&device), 0, &turn(&share), &turn(&log));
        // Of a broken row each element is NaN, the rest too.
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

/// Rows of 0 and -inf, of every length and place that makes the kernels cut them up differently. Each share is 1 in the
/// number of zeros, so one element lost or read twice shows: exponentials of 0 are 1, the sum is a whole number, and one
/// division follows.
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
        for device in devices() {
            let what = format!("softmax of {dims:?}");
            let x = x.to_tensor(&device).requires_grad().unwrap();
            let y = x.softmax(*axis as isize).unwrap();
            assert_within(&what, &y, &share, |at| 2.5 * 2.0 * EPS * share.data[at]);
            // sum(y) is 1 up to its roundings, so that a gradient of ones goes to 0: at most 16,384 of a row's
            // elements pass through one sum after the other, and each y errs by 2.5 ULP.
            let grads = y.backward_from(&Tensor::ones(*dims, &device).unwrap()).unwrap();
            let zero = share.map(|_| 0.0);
            assert_within(&what, grads.get(&x).unwrap(), &zero, |at| {
                (16_384.0 + 10.0) * EPS * share.data[at]
            });
            let y = x.log_softmax(*axis as isize).unwrap();
            // log is within 3 ULP here.
            assert_within(&what, &y, &log, |at| 6.0 * EPS * log.data[at].abs() + 2f64.powi(-21));
            // dy - exp(y) * cols = 0 where nothing is masked: here 1 - cols / zeros.
            let grads = y.backward_from(&Tensor::ones(*dims, &device).unwrap()).unwrap();
            let want = share.map(|s| 1.0 - s * cols as f64);
            // exp errs by 3 + 2|y| ULP, and by the error of y itself.
            assert_within(&what, grads.get(&x).unwrap(), &want, |at| {
                let y = if seen(at) { log.data[at].abs() } else { 0.0 };
                2.0 * ((6.0 + 4.0 * y + 6.0 * y + 10.0) * EPS + 2f64.powi(-21))
            });
        }
    }
}

/// A row whose maximum grows from part to part: each sum so far has to be scaled down.
#[test]
fn growing_rows_are_scaled_down() {
    for (dims, axis) in [([1, 262_144], 1), ([3, 20_000], 1), ([20_000, 3], 0)] {
        let cols = dims[axis];
        let x = Array::from_fn(dims, |i| (i[axis] * 8 / cols) as f64 * 0.75);
        let (share, _) = reference(&x, axis);
        for device in devices() {
            let got = x.to_tensor(&device).softmax(axis as isize).unwrap();
            // At most 1 in 16 elements pass one after the other, and the maximum grows 8 times; no merge is missing,
            // which would change every share by far more.
            let bound = relative(16, 6.0) + (cols / 16 + 400) as f64 * EPS;
            assert_within("softmax", &got, &share, |at| bound * share.data[at]);
        }
    }
}

#[test]
fn an_empty_tensor_and_an_axis_of_one_are_ordinary() {
    for device in devices() {
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
    for device in devices() {
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

/// From PyTorch 1.13 in f64: `torch.nn.functional.cross_entropy` and its gradient.
#[test]
fn cross_entropy_has_pytorchs_values() {
    #[rustfmt::skip]
    let want = Array::new([3, 3], vec![
        0.030010191, 0.081576157, -0.111586348, -0.296180843, 0.166505910, 0.129674933, 1.0 / 3.0, -1.0 / 3.0, 0.0,
    ]);
    for device in devices() {
        let x =
            Tensor::from_slice(&[1.0, 2.0, 3.0, -1.0, 0.5, 0.25, 1e4, 0.0, -1e4], [3, 3], &device).unwrap();
        let x = x.requires_grad().unwrap();
        let targets = Tensor::from_ids(&[2, 0, 1], [3], &device).unwrap();
        let loss = x.cross_entropy(&targets).unwrap();
        let mean = Array::new([], vec![3334.200572716949]);
        // Three additions and a division of losses up to 1e4.
        assert_within("cross_entropy", &loss, &mean, |_| 10.0 * EPS * 1e4);
        let grads = loss.backward().unwrap();
        assert_within("cross_entropy", grads.get(&x).unwrap(), &want, |_| relative(3, 4.0));
    }
}

/// As PyTorch 1.13: a target of -inf costs inf, a broken row makes the mean NaN.
#[test]
fn cross_entropy_has_pytorchs_special_values() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let rows = [
        ([-inf, -inf, -inf], nan),
        ([inf, 0.0, 1.0], nan),
        ([0.0, nan, 1.0], nan),
        ([-inf, 0.0, 0.0], inf),
        ([0.0, -inf, -3e38], 0.0),
        ([3e38, -3e38, 0.0], 0.0),
    ];
    for device in devices() {
        let target = Tensor::from_ids(&[0], [1], &device).unwrap();
        for (row, want) in rows {
            let x = Tensor::from_slice(&row, [1, 3], &device).unwrap().requires_grad().unwrap();
            let loss = x.cross_entropy(&target).unwrap();
            let got = loss.item().unwrap();
            assert!(got == want || (got.is_nan() && want.is_nan()), "{row:?}: {got} on {}", device.id());
            let grad = loss.backward().unwrap().get(&x).unwrap().to_vec().unwrap();
            assert!(grad.iter().all(|g| g.is_nan() == want.is_nan()), "{row:?}: {grad:?} on {}", device.id());
        }
        let x = Tensor::from_slice(&[-inf, 0.0, 0.0], [1, 3], &device).unwrap().requires_grad().unwrap();
        let grads = x.cross_entropy(&target).unwrap().backward().unwrap();
        let want = Array::new([1, 3], vec![-1.0, 0.5, 0.5]);
        assert_within("cross_entropy", grads.get(&x).unwrap(), &want, |_| relative(2, 0.0));
    }
}

/// By hand: equal logits cost ln(classes), whatever the targets; the gradient is 1 / (n classes), less 1 / n at them.
#[test]
fn long_and_many_rows_are_all_counted() {
    for [n, classes] in [[1, 262_144], [3, 70_001], [70_001, 2], [40, 1025], [300, 33]] {
        let ids: Vec<u32> = (0..n).map(|row| ((row * 7919 + 13) % classes) as u32).collect();
        let grad = Array::from_fn([n, classes], |i| {
            (1.0 / classes as f64 - f64::from(i[1] == ids[i[0]] as usize)) / n as f64
        });
        for device in devices() {
            let what = format!("cross_entropy of {:?}", [n, classes]);
            let x = Tensor::full([n, classes], 2.5, &device).unwrap().requires_grad().unwrap();
            let loss = x.cross_entropy(&Tensor::from_ids(&ids, [n], &device).unwrap()).unwrap();
            let cost = (classes as f64).ln();
            // log is within 3 ULP or 2^-21, the mean of equal numbers adds a rounding for each in a row: at most
            // 8192 or n, and a division.
            let bound = 2f64.powi(-21) + (6.0 + n.min(8192) as f64 + 5.0) * EPS * cost;
            assert_within(&what, &loss, &Array::new([], vec![cost]), |_| bound);
            let grads = loss.backward().unwrap();
            // The share and the scale each divide within 2.5 ULP; a subtraction and a product round.
            assert_within(&what, grads.get(&x).unwrap(), &grad, |at| 16.0 * EPS * grad.data[at].abs());
        }
    }
}

#[test]
fn cross_entropy_reads_views_in_their_place() {
    let x = Array::random([7, 5], 3, -2.0, 2.0);
    let want = |rows: std::ops::Range<usize>, ids: &[u32]| {
        let log = reference(&x, 1).1;
        let sum: f64 = rows.clone().zip(ids).map(|(row, &id)| -log.at(&[row, id as usize])).sum();
        Array::new([], vec![sum / rows.len() as f64])
    };
    let ids = [9, 4, 0, 3, 9, 1];
    for device in devices() {
        let targets = Tensor::from_ids(&ids, [6], &device).unwrap();
        let x = x.to_tensor(&device).requires_grad().unwrap();
        let loss = x.slice(0, 2..5).unwrap().cross_entropy(&targets.slice(0, 1..4).unwrap()).unwrap();
        assert_within("cross_entropy", &loss, &want(2..5, &ids[1..4]), |_| absolute(5, 4.0));
        // A scaled loss: the gradient that comes in is not 1, and lies in a buffer with others.
        let scale = Tensor::from_slice(&[9.0, 3.0], [2], &device).unwrap().slice(0, 1..2).unwrap();
        let grads = loss.reshape([1]).unwrap().backward_from(&scale).unwrap();
        let sum = grads.get(&x).unwrap().abs().unwrap().sum(&[1], false).unwrap().to_vec().unwrap();
        assert!(sum[..2].iter().chain(&sum[5..]).all(|&s| s == 0.0), "{sum:?}");
        // |p - 1| and the other p: 2 (1 - p), times 3 / 3.
        let p = reference(&Array::random([7, 5], 3, -2.0, 2.0), 1).0;
        let slopes = (2..5).zip(&ids[1..4]).map(|(row, &id)| 2.0 * (1.0 - p.at(&[row, id as usize])));
        for (got, want) in sum[2..5].iter().zip(slopes) {
            // Five terms of size at most 1.
            assert!((f64::from(*got) - want).abs() <= 5.0 * relative(5, 4.0), "{got} {want}");
        }
    }
}

#[test]
fn cross_entropy_refuses_what_does_not_fit() {
    for device in devices() {
        let logits = |dims: &[usize]| Tensor::zeros(dims, &device).unwrap();
        let targets = |ids: &[u32]| Tensor::from_ids(ids, [ids.len()], &device).unwrap();
        let refused = |x: Tensor, t: Tensor, about: &[&str]| {
            let message = x.cross_entropy(&t).unwrap_err().to_string();
            assert!(message.starts_with("cross_entropy: "), "{message}");
            assert!(about.iter().all(|about| message.contains(about)), "{message}");
        };
        refused(logits(&[2, 3]), targets(&[0, 1, 2]), &["[2, 3]", "[3]"]);
        refused(logits(&[6]), targets(&[0]), &["[6]", "[1]"]);
        refused(logits(&[1, 2, 3]), targets(&[0]), &["[1, 2, 3]"]);
        refused(logits(&[2, 3]), logits(&[2]), &["F32", "[2]"]);
        refused(logits(&[2, 3]), targets(&[0, 1]).reshape([2, 1]).unwrap(), &["[2, 1]"]);
        refused(logits(&[0, 3]), targets(&[]), &["[0, 3]", "[0]"]);
        refused(logits(&[2, 0]), targets(&[0, 0]), &["[2, 0]"]);
        refused(logits(&[2, 3]), targets(&[2, 3]), &["class id 3", "[2, 3]", "3 classes"]);
        refused(logits(&[1, 3]), targets(&[u32::MAX]), &["class id 4294967295"]);
        // Right after an error the device works on.
        assert_eq!(logits(&[2, 1]).cross_entropy(&targets(&[0, 0])).unwrap().item().unwrap(), 0.0);
    }
}

/// Of a part of the ids only the device knows the largest: there the kernel reports it, at the next read-back.
#[test]
fn a_stray_class_id_on_the_device_is_an_error_of_the_read_back() {
    // Devices of their own: a report goes to whoever reads next.
    let name = std::env::var("GRISTMILL_DEVICE").unwrap_or_else(|_| "gpu".to_string());
    let own =
        if name == "cpu" { None } else { Some(Device::open_with(&name, &GpuOptions::default()).unwrap()) };
    for device in own.into_iter().chain([Device::cpu()]) {
        for [n, classes] in [[2, 3], [40, 3], [40, 300], [2, 70_001]] {
            let mut ids = vec![0; n + 1];
            let computed = |ids: &[u32]| {
                let all = Tensor::from_ids(ids, [n + 1], &device).unwrap();
                all.slice(0, 0..n).unwrap().copy().unwrap()
            };
            let x = Tensor::zeros([n, classes], &device).unwrap().requires_grad().unwrap();
            let check = |error: Error| {
                let message = error.to_string();
                assert!(message.starts_with("cross_entropy: ") && message.contains("class id"), "{message}");
            };

            // Past the end in a part that is not seen: no error.
            ids[n] = classes as u32;
            x.cross_entropy(&computed(&ids)).unwrap().item().unwrap();

            for id in [classes as u32, u32::MAX] {
                ids[n - 1] = id;
                match x.cross_entropy(&computed(&ids)) {
                    Err(error) => {
                        assert!(!device.is_gpu(), "{error}");
                        check(error);
                    }
                    Ok(loss) => {
                        assert!(device.is_gpu());
                        let grads = loss.backward().unwrap();
                        check(grads.get(&x).unwrap().to_vec().unwrap_err());
                        // Reported once; the device works on.
                        grads.get(&x).unwrap().to_vec().unwrap();
                    }
                }
                let fine = x.cross_entropy(&computed(&vec![0; n + 1])).unwrap().item().unwrap();
                assert!((f64::from(fine) - (classes as f64).ln()).abs() < 1e-4, "{fine}");
            }
        }
    }
}
