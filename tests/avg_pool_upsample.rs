//! Average pooling and upsampling: PyTorch's values, windows of any length, exactness, edge cases, errors. The table
//! (tests/table.rs) compares them with f64.

mod common;

use common::*;
use gristmill::{AvgPool2dOptions, Device, Error, Result, Tensor};

type Run = fn(&Tensor) -> Result<Tensor>;

/// Compares with values and gradients of PyTorch 1.13 in f64, for `x[i] = 37 i mod 101` and `dy = 1, 2, 3, ...`. Each
/// is a sum of at most nine products with a weight, and errs by at most 14 roundings.
fn known(dims: [usize; 4], run: Run, out: [usize; 4], y: &[f64], dx: &[f64]) {
    let x = Array::from_fn(dims, |i| (ravel(i, &dims) * 37 % 101) as f64);
    let dy = Array::from_fn(out, |i| (ravel(i, &out) + 1) as f64);
    for device in devices() {
        let x = x.to_tensor(&device).requires_grad().unwrap();
        let got = run(&x).unwrap();
        // The reference was printed with six decimals.
        let near = |want: &[f64], at: usize| 14.0 * EPS * want[at].abs() + 6e-7;
        assert_within("output", &got, &Array::new(out, y.to_vec()), |at| near(y, at));
        let grads = got.backward_from(&dy.to_tensor(&device)).unwrap();
        assert_within("gradient", grads.get(&x).unwrap(), &Array::new(dims, dx.to_vec()), |at| near(dx, at));
    }
}

fn pool(count_include_pad: bool, ceil_mode: bool, divisor_override: Option<usize>) -> AvgPool2dOptions {
    AvgPool2dOptions {
        kernel: [3, 2],
        stride: [2, 2],
        padding: [1, 1],
        ceil_mode,
        count_include_pad,
        divisor_override,
    }
}

#[test]
#[rustfmt::skip]
fn average_pooling_is_pytorchs() {
    known([1, 1, 5, 6], |x| x.avg_pool2d(pool(true, true, None)), [1, 1, 3, 4],
        &[3.333333, 43.666667, 25.666667, 14.5, 20.0, 61.833333, 51.666667, 11.5, 23.333333, 33.166667, 32.0, 17.666667],
        &[0.166667, 0.333333, 0.333333, 0.5, 0.5, 0.666667, 1.0, 1.333333, 1.333333, 1.666667, 1.666667, 2.0, 0.833333,
          1.0, 1.0, 1.166667, 1.166667, 1.333333, 2.333333, 2.666667, 2.666667, 3.0, 3.0, 3.333333, 1.5, 1.666667,
          1.666667, 1.833333, 1.833333, 2.0]);
    known([1, 1, 5, 6], |x| x.avg_pool2d(pool(false, true, None)), [1, 1, 3, 4],
        &[10.0, 65.5, 38.5, 43.5, 40.0, 61.833333, 51.666667, 23.0, 70.0, 49.75, 48.0, 53.0],
        &[0.5, 0.5, 0.5, 0.75, 0.75, 2.0, 2.166667, 1.5, 1.5, 1.916667, 1.916667, 4.666667, 1.666667, 1.0, 1.0, 1.166667,
          1.166667, 2.666667, 6.166667, 3.5, 3.5, 3.916667, 3.916667, 8.666667, 4.5, 2.5, 2.5, 2.75, 2.75, 6.0]);
    known([1, 1, 5, 6], |x| x.avg_pool2d(pool(true, false, Some(4))), [1, 1, 3, 4],
        &[5.0, 65.5, 38.5, 21.75, 30.0, 92.75, 77.5, 17.25, 35.0, 49.75, 48.0, 26.5],
        &[0.25, 0.5, 0.5, 0.75, 0.75, 1.0, 1.5, 2.0, 2.0, 2.5, 2.5, 3.0, 1.25, 1.5, 1.5, 1.75, 1.75, 2.0, 3.5, 4.0, 4.0,
          4.5, 4.5, 5.0, 2.25, 2.5, 2.5, 2.75, 2.75, 3.0]);
    // A last row of windows that extends past the input, and a last column that extends past the padding too.
    let ceil = |x: &Tensor| {
        x.avg_pool2d(AvgPool2dOptions { kernel: [3, 3], padding: [0, 1], ..pool(true, true, None) })
    };
    known([1, 1, 4, 5], ceil, [1, 1, 2, 3],
        &[23.444444, 45.777778, 30.111111, 34.5, 48.333333, 41.166667],
        &[0.111111, 0.333333, 0.222222, 0.555556, 0.333333, 0.111111, 0.333333, 0.222222, 0.555556, 0.333333, 0.777778,
          1.833333, 1.055556, 2.388889, 1.333333, 0.666667, 1.5, 0.833333, 1.833333, 1.0]);
}

#[test]
#[rustfmt::skip]
fn adaptive_pooling_is_pytorchs() {
    known([1, 1, 5, 7], |x| x.adaptive_avg_pool2d([2, 3]), [1, 1, 2, 3],
        &[49.111111, 44.555556, 51.222222, 50.888889, 57.555556, 53.0],
        &[0.111111, 0.111111, 0.333333, 0.222222, 0.555556, 0.333333, 0.333333, 0.111111, 0.111111, 0.333333, 0.222222,
          0.555556, 0.333333, 0.333333, 0.555556, 0.555556, 1.333333, 0.777778, 1.777778, 1.0, 1.0, 0.444444, 0.444444,
          1.0, 0.555556, 1.222222, 0.666667, 0.666667, 0.444444, 0.444444, 1.0, 0.555556, 1.222222, 0.666667, 0.666667]);
    // More windows than elements.
    known([1, 1, 2, 3], |x| x.adaptive_avg_pool2d([3, 5]), [1, 1, 3, 5],
        &[0.0, 18.5, 37.0, 55.5, 74.0, 5.0, 23.5, 42.0, 60.5, 79.0, 10.0, 28.5, 47.0, 65.5, 84.0],
        &[6.75, 14.0, 14.25, 21.75, 34.0, 29.25]);
}

#[test]
#[rustfmt::skip]
fn resizing_is_pytorchs() {
    known([1, 1, 3, 4], |x| x.upsample_nearest2d([5, 3]), [1, 1, 5, 3],
        &[0.0, 37.0, 74.0, 0.0, 37.0, 74.0, 47.0, 84.0, 20.0, 47.0, 84.0, 20.0, 94.0, 30.0, 67.0],
        &[5.0, 7.0, 9.0, 0.0, 17.0, 19.0, 21.0, 0.0, 13.0, 14.0, 15.0, 0.0]);
    known([1, 1, 3, 4], |x| x.upsample_bilinear2d([5, 3], false), [1, 1, 5, 3],
        &[6.166667, 55.5, 20.666667, 24.966667, 54.1, 32.733333, 53.166667, 52.0, 50.833333, 71.266667, 49.9, 28.533333,
          83.333333, 48.5, 13.666667],
        &[2.833333, 3.066667, 3.6, 5.5, 10.5, 9.3, 9.9, 13.5, 15.833333, 13.466667, 14.0, 18.5]);
    known([1, 1, 3, 4], |x| x.upsample_bilinear2d([5, 7], true), [1, 1, 5, 7],
        &[0.0, 18.5, 37.0, 55.5, 74.0, 42.0, 10.0, 23.5, 42.0, 60.5, 53.75, 47.0, 40.25, 33.5, 47.0, 65.5, 84.0, 52.0,
          20.0, 38.5, 57.0, 70.5, 63.75, 57.0, 50.25, 43.5, 36.75, 30.0, 94.0, 62.0, 30.0, 48.5, 67.0, 35.0, 3.0],
        &[8.25, 16.0, 22.0, 20.25, 46.0, 68.0, 76.0, 62.0, 60.75, 86.0, 92.0, 72.75]);
    known([1, 1, 3, 4], |x| x.upsample_bilinear2d([1, 2], true), [1, 1, 1, 2],
        &[0.0, 10.0],
        &[1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

/// Windows longer than one invocation sums, along either axis and both. With whole numbers any missing term shows.
#[test]
fn windows_of_any_length() {
    for device in devices() {
        let check = |dims: [usize; 4], run: &dyn Fn(&Tensor) -> Result<Tensor>, y: f32, dx: f32| {
            let x = Tensor::ones(dims, &device).unwrap().requires_grad().unwrap();
            let got = run(&x).unwrap();
            assert!(got.to_vec().unwrap().iter().all(|&got| got == y), "{dims:?} on {device:?}");
            let grads = got.backward_from(&Tensor::ones(got.shape(), &device).unwrap()).unwrap();
            let got = grads.get(&x).unwrap().to_vec().unwrap();
            assert!(got.iter().all(|&got| got == dx), "{dims:?} on {device:?}: {:?}", &got[..8]);
        };
        // Sums of all elements. With more than 2^20, the partial sums are reduced in two levels.
        let all = |x: &Tensor| {
            let kernel = [x.shape()[2], x.shape()[3]];
            x.avg_pool2d(AvgPool2dOptions { divisor_override: Some(1), ..AvgPool2dOptions::new(kernel) })
        };
        for plane in [[1, 1025], [70_001, 1], [300, 400], [1, 1 << 20], [1 << 21, 1], [2, (1 << 20) + 1]] {
            check([1, 1, plane[0], plane[1]], &all, (plane[0] * plane[1]) as f32, 1.0);
        }
        check([3, 2, 64, 128], &all, 8192.0, 1.0);
        // Many outputs of one input, so that the windows of the gradient are long.
        check([1, 2, 1, 1], &|x| x.upsample_nearest2d([1, 70_001]), 1.0, 70_001.0);
        check([1, 1, 1, 1], &|x| x.upsample_nearest2d([300, 200]), 1.0, 60_000.0);
        check([1, 1, 2, 1], &|x| x.upsample_bilinear2d([8192, 3], false), 1.0, 12_288.0);
        // Long windows that overlap: sums over 2,000 of 4,000 elements; each element is part of 2,001 sums.
        let overlap = AvgPool2dOptions {
            stride: [1, 1],
            divisor_override: Some(1),
            ..AvgPool2dOptions::new([1, 2000])
        };
        let x = Tensor::ones([1, 1, 1, 4000], &device).unwrap().requires_grad().unwrap();
        let y = x.avg_pool2d(overlap).unwrap();
        assert_eq!(y.to_vec().unwrap(), [2000.0; 2001]);
        let grads = y.backward_from(&Tensor::ones(y.shape(), &device).unwrap()).unwrap();
        let want: Vec<f32> = (0..4000usize).map(|i| (i + 1).min(4000 - i).min(2000) as f32).collect();
        assert_eq!(grads.get(&x).unwrap().to_vec().unwrap(), want);
    }
}

/// Sizes for which PyTorch's f32 scale is off by one position. With 41 outputs of 43 inputs `i · 43 / 41` is whole only
/// at i = 0, with 6 of 10 `i · 10 / 6` is whole at 3. Large sizes must not round positions either.
#[test]
fn source_positions_are_exact() {
    for device in devices() {
        for (from, to) in [(10, 6), (43, 41), (5, 12), (100_003, 3), (7, 70_000), (65_537, 65_536)] {
            let x: Vec<f32> = (0..from).map(|i| i as f32).collect();
            let want: Vec<f32> = (0..to).map(|i| (i * from / to) as f32).collect();
            let x = Tensor::from_slice(&x, [1, 1, 1, from], &device).unwrap();
            assert_eq!(x.upsample_nearest2d([1, to]).unwrap().to_vec().unwrap(), want);
            // A linear ramp stays linear: its ends are aligned, and t is rounded once.
            let line = x.upsample_bilinear2d([1, to], true).unwrap();
            let want = Array::from_fn([1, 1, 1, to], |i| (i[3] * (from - 1)) as f64 / (to - 1) as f64);
            assert_within("line", &line, &want, |at| 4.0 * EPS * (want.data[at] + 1.0));
        }
        // Resizing to the same size is the identity.
        let x = Array::random([2, 3, 5, 7], 3, -1.0, 1.0).to_tensor(&device);
        for same in [
            x.upsample_nearest2d([5, 7]),
            x.upsample_bilinear2d([5, 7], false),
            x.upsample_bilinear2d([5, 7], true),
            x.adaptive_avg_pool2d([5, 7]),
            x.avg_pool2d(AvgPool2dOptions::new([1, 1])),
        ] {
            assert_eq!(same.unwrap().to_vec().unwrap(), x.to_vec().unwrap());
        }
    }
}

/// NaN propagates to the outputs whose windows contain it, with nonzero weight, and to no others.
#[test]
fn nan_reaches_only_the_windows_that_contain_it() {
    for device in devices() {
        let mut x = vec![1.0; 16];
        x[5] = f32::NAN;
        let x = Tensor::from_slice(&x, [1, 1, 4, 4], &device).unwrap();
        let nans = |y: Result<Tensor>| -> Vec<usize> {
            let y = y.unwrap().to_vec().unwrap();
            (0..y.len()).filter(|&at| y[at].is_nan()).collect()
        };
        assert_eq!(nans(x.avg_pool2d(AvgPool2dOptions::new([2, 2]))), [0]);
        assert_eq!(nans(x.adaptive_avg_pool2d([3, 3])), [0, 1, 3, 4]);
        assert_eq!(nans(x.upsample_nearest2d([2, 2])), [0usize; 0]);
        assert_eq!(nans(x.upsample_bilinear2d([7, 7], true)), [8, 9, 10, 15, 16, 17, 22, 23, 24]);
    }
}

#[test]
fn empty_planes_give_empty_results() {
    for device in devices() {
        for dims in [[0, 2, 4, 4], [2, 0, 4, 4]] {
            let x = Tensor::ones(dims, &device).unwrap().requires_grad().unwrap();
            let y = x.avg_pool2d(AvgPool2dOptions::new([2, 2])).unwrap();
            assert_eq!(y.shape(), [dims[0], dims[1], 2, 2]);
            let grads = y.sum_all().unwrap().backward().unwrap();
            assert_eq!(grads.get(&x).unwrap().shape(), dims);
            assert_eq!(x.upsample_nearest2d([3, 9]).unwrap().shape(), [dims[0], dims[1], 3, 9]);
        }
        let x = Tensor::ones([1, 2, 3, 3], &device).unwrap().requires_grad().unwrap();
        let none = x.adaptive_avg_pool2d([2, 0]).unwrap();
        assert_eq!(none.shape(), [1, 2, 2, 0]);
        let grads = none.sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&x).unwrap().to_vec().unwrap(), [0.0; 18]);
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    for device in devices() {
        let t = |dims: &[usize]| Tensor::zeros(dims, &device).unwrap();
        let refused = |op: &str, run: Result<Tensor>| {
            let error = run.unwrap_err();
            assert!(matches!(error, Error::Shape { .. } | Error::Argument { .. }), "{error:?}");
            let message = error.to_string();
            assert!(message.starts_with(op), "{message}");
            message
        };
        let two = AvgPool2dOptions::new([2, 2]);
        let pooled = |dims: &[usize], o: AvgPool2dOptions| refused("avg_pool2d: ", t(dims).avg_pool2d(o));
        assert!(pooled(&[4, 4], two).contains("[4, 4]"));
        assert!(pooled(&[1, 1, 1, 4], two).contains("[1, 1, 1, 4]"));
        assert!(pooled(&[1, 1, 4, 0], two).contains("[1, 1, 4, 0]"));
        assert!(pooled(&[1, 1, 4, 4], AvgPool2dOptions::new([0, 2])).contains("of 0"));
        assert!(pooled(&[1, 1, 4, 4], AvgPool2dOptions { stride: [2, 0], ..two }).contains("of 0"));
        assert!(
            pooled(&[1, 1, 4, 4], AvgPool2dOptions { divisor_override: Some(0), ..two })
                .contains("divisor of 0")
        );
        assert!(
            pooled(&[1, 1, 4, 4], AvgPool2dOptions { padding: [0, 2], ..two }).contains("half the kernel")
        );
        pooled(&[1, 1, 4, 4], AvgPool2dOptions { stride: [usize::MAX, 1], ..two });

        let adaptive =
            |dims: &[usize], size| refused("adaptive_avg_pool2d: ", t(dims).adaptive_avg_pool2d(size));
        assert!(adaptive(&[2, 3, 4], [1, 1]).contains("[2, 3, 4]"));
        assert!(adaptive(&[1, 1, 0, 4], [1, 1]).contains("[1, 1, 0, 4]"));
        adaptive(&[1, 1, 4, 4], [usize::MAX, 1]);
        let nearest =
            |dims: &[usize], size| refused("upsample_nearest2d: ", t(dims).upsample_nearest2d(size));
        assert!(nearest(&[2, 3, 4], [1, 1]).contains("[2, 3, 4]"));
        assert!(nearest(&[1, 1, 4, 4], [0, 3]).contains("[0, 3]"));
        nearest(&[1, 1, 4, 4], [1 << 40, 3]);
        let bilinear =
            |dims: &[usize], size| refused("upsample_bilinear2d: ", t(dims).upsample_bilinear2d(size, true));
        assert!(bilinear(&[1, 1, 4, 0], [1, 1]).contains("[1, 1, 4, 0]"));
        assert!(bilinear(&[1, 1, 4, 4], [3, 0]).contains("[3, 0]"));
        let ids = Tensor::from_ids(&[1; 16], [1, 1, 4, 4], &device).unwrap();
        assert!(refused("avg_pool2d", ids.avg_pool2d(two)).contains("u32"));
    }
}

/// Two-dimensional grids, because a dimension holds few workgroups.
#[test]
fn grids_of_two_dimensions_cover_all() {
    let tested = device();
    if !tested.is_gpu() {
        return; // the CPU has no grids
    }
    let options = gristmill::gpu::GpuOptions { max_workgroups: Some(11), ..Default::default() };
    let few = Device::open_with(tested.id(), &options).unwrap();
    let x = Array::random([3, 3, 17, 33], 1, -1.0, 1.0);
    let run = |device: &Device| x.to_tensor(device).upsample_nearest2d([34, 99]).unwrap().to_vec().unwrap();
    assert_eq!(run(&few), run(&Device::cpu()));
}
