//! Cumulative sums: values worked by hand, rows so long that several levels of slices scan them, errors.

mod common;

use common::*;
use gristmill::{Error, Tensor};

#[test]
fn sums_run_along_any_axis() {
    let x = Array::new([2, 3], vec![1.0, 2.0, 3.0, -4.0, 0.5, 10.0]);
    let rows = Array::new([2, 3], vec![1.0, 3.0, 6.0, -4.0, -3.5, 6.5]);
    let columns = Array::new([2, 3], vec![1.0, 2.0, 3.0, -3.0, 2.5, 13.0]);
    for device in devices_and_hardware() {
        let x = x.to_tensor(&device);
        for axis in [1, -1] {
            assert_within("cumsum", &x.cumsum(axis).unwrap(), &rows, |_| 0.0);
        }
        assert_within("cumsum", &x.cumsum(0).unwrap(), &columns, |_| 0.0);
        let turned = x.t().unwrap().cumsum(0).unwrap().t().unwrap();
        assert_within("cumsum of a view", &turned, &rows, |_| 0.0);
    }
}

/// By hand: element k is part of all sums from k on.
#[test]
fn gradients_are_reversed_running_sums() {
    let weights = Array::new([4], vec![1.0, 10.0, 100.0, 1000.0]);
    let want = Array::new([4], vec![1111.0, 1110.0, 1100.0, 1000.0]);
    for device in devices_and_hardware() {
        let x = Tensor::zeros([4], &device).unwrap().requires_grad().unwrap();
        let grads = x.cumsum(0).unwrap().backward_from(&weights.to_tensor(&device)).unwrap();
        assert_within("cumsum", grads.get(&x).unwrap(), &want, |_| 0.0);
    }
}

/// Rows, columns and planes of whole numbers, whose sums f32 holds exactly. They are so long that they are cut into
/// slices once, twice and three times; forward and backward.
#[test]
fn long_rows_lose_nothing() {
    let shapes: &[(&[usize], usize)] = &[
        (&[(1 << 21) + 3], 0),
        (&[3, 140_001], 1),
        (&[140_001, 3], 0),
        (&[300, 1025], 1),
        (&[1025, 300], 0),
        (&[70, 129, 3], 1),
        (&[5000, 17], 1),
    ];
    for &(dims, axis) in shapes {
        let count: usize = dims.iter().product();
        let x = Array::new(dims, (0..count).map(|at| ((at * 7 + at / 31) % 13) as f64 - 6.0).collect());
        let inner: usize = dims[axis + 1..].iter().product();
        let last = dims[axis] - 1;
        let (mut forward, mut backward) = (x.clone(), x.clone());
        for at in 0..count {
            if !(at / inner).is_multiple_of(dims[axis]) {
                forward.data[at] += forward.data[at - inner];
            }
            let back = count - 1 - at;
            if back / inner % dims[axis] < last {
                backward.data[back] += backward.data[back + inner];
            }
        }
        for device in devices_and_hardware() {
            let what = format!("cumsum along {axis} of {dims:?}");
            let dy = x.to_tensor(&device);
            let x = dy.requires_grad().unwrap();
            let y = x.cumsum(axis as isize).unwrap();
            assert_within(&what, &y, &forward, |_| 0.0);
            assert_within(&what, y.backward_from(&dy).unwrap().get(&x).unwrap(), &backward, |_| 0.0);
        }
    }
}

#[test]
fn nan_and_infinities_affect_only_later_sums() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    for device in devices_and_hardware() {
        for count in [5, 300, 5000] {
            let place = count / 2;
            for (special, then) in [(nan, nan), (inf, inf), (-inf, -inf)] {
                let with = |i: usize, value: f64| if i == place { value } else { 0.0 };
                let x = Array::from_fn([count], |i| with(i[0], special));
                let want = Array::from_fn([count], |i| if i[0] < place { 0.0 } else { then });
                assert_within("cumsum", &x.to_tensor(&device).cumsum(0).unwrap(), &want, |_| 0.0);
            }
        }
    }
}

#[test]
fn an_empty_tensor_is_ordinary_and_errors_name_the_shape() {
    for device in devices_and_hardware() {
        for dims in [[0, 3], [3, 0]] {
            let x = Tensor::zeros(dims, &device).unwrap();
            for axis in [0, 1] {
                assert_eq!(x.cumsum(axis).unwrap().shape(), dims);
            }
        }
        let x = Tensor::zeros([2, 3], &device).unwrap();
        for axis in [2, -3] {
            let error = x.cumsum(axis).unwrap_err();
            let message = error.to_string();
            assert!(
                matches!(error, Error::Shape { op: "cumsum", .. }) && message.contains("[2, 3]"),
                "{message}"
            );
        }
        assert!(Tensor::scalar(1.0, &device).unwrap().cumsum(0).is_err());
        let ids = Tensor::from_ids(&[1, 2], [2], &device).unwrap();
        assert!(ids.cumsum(0).unwrap_err().to_string().starts_with("cumsum"));
    }
}
