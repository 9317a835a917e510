//! Max pooling: known values from PyTorch, large planes and windows, ties, NaN, edge cases, errors. The table
//! (tests/table.rs) compares all options with f64.

mod common;

use common::*;
use gristmill::{Error, Pool2dOptions, Tensor};

fn options(
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    ceil_mode: bool,
) -> Pool2dOptions {
    Pool2dOptions { kernel, stride, padding, dilation, ceil_mode }
}

/// The number of windows along an axis: those that fit. With `ceil_mode` also those that start in the axis or in the
/// padding before it, and end less than one stride past the end.
fn windows(o: &Pool2dOptions, axis: usize, len: usize) -> usize {
    let [stride, padding, dilation] = [o.stride, o.padding, o.dilation].map(|pair| pair[axis] as i64);
    let (span, len) = ((o.kernel[axis] as i64 - 1) * dilation, len as i64);
    (0..)
        .map(|i| i * stride - padding)
        .take_while(|start| {
            let past = start + span - (len - 1 + padding);
            past <= 0 || (o.ceil_mode && past < stride && *start < len)
        })
        .count()
}

/// The outputs in f64, and the position in the input of each.
fn reference(x: &Array, o: &Pool2dOptions) -> (Array, Vec<Option<usize>>) {
    let &[n, c, h, w] = &x.shape[..] else { panic!("rank 4") };
    let mut found = Vec::new();
    let y = Array::from_fn([n, c, windows(o, 0, h), windows(o, 1, w)], |index| {
        let along = |axis: usize, len: usize| {
            let first = (index[2 + axis] * o.stride[axis]) as i64 - o.padding[axis] as i64;
            let places = (0..o.kernel[axis] as i64).map(move |k| first + k * o.dilation[axis] as i64);
            places.filter(move |place| (0..len as i64).contains(place)).map(|place| place as usize)
        };
        let mut best: Option<(f64, usize)> = None;
        for (row, col) in along(0, h).flat_map(|row| along(1, w).map(move |col| (row, col))) {
            let at = ravel(&[index[0], index[1], row, col], &x.shape);
            if best.is_none_or(|(value, _)| x.data[at] > value || x.data[at].is_nan()) {
                best = Some((x.data[at], at));
            }
        }
        found.push(best.map(|(_, at)| at));
        best.map_or(f64::NEG_INFINITY, |(value, _)| value)
    });
    (y, found)
}

/// The gradient of the input, from the gradient and the positions of the outputs.
fn reference_gradient(shape: &[usize], found: &[Option<usize>], dy: &Array) -> Array {
    let mut dx = Array::from_fn(shape, |_| 0.0);
    for (at, dy) in found.iter().zip(&dy.data) {
        if let Some(at) = at {
            dx.data[*at] += dy;
        }
    }
    dx
}

/// Checks outputs and gradients on every device.
fn check(x: &Array, o: Pool2dOptions) {
    let (want, found) = reference(x, &o);
    // Of similar size, so that each missing term shows.
    let dy = Array::random(want.shape.clone(), 5, 0.5, 1.0);
    let dx = reference_gradient(&x.shape, &found, &dy);
    let overlap: usize = (0..2).map(|k| (o.kernel[k] - 1) * o.dilation[k] / o.stride[k] + 1).product();
    for device in devices() {
        let leaf = x.to_tensor(&device).requires_grad().unwrap();
        let y = leaf.max_pool2d(o).unwrap();
        assert_within(&format!("{o:?}"), &y, &want, |_| 0.0);
        let grads = y.backward_from(&dy.to_tensor(&device)).unwrap();
        // A sum of at most `overlap` terms of the same sign; the first is exact.
        let bound = |at: usize| (overlap - 1) as f64 * EPS * dx.data[at] * (1.0 + 1e-4);
        assert_within(&format!("{o:?}, gradient"), grads.get(&leaf).unwrap(), &dx, bound);
    }
}

/// Small whole numbers, many of them equal, some of them NaN or -inf.
fn with_ties(shape: &[usize], seed: u64) -> Array {
    Array::random(shape, seed, -2.0, 3.5).map(|x| match x {
        x if x > 3.3 => f64::NAN,
        x if x < -1.5 => f64::NEG_INFINITY,
        x => x.floor(),
    })
}

/// x[i] = 37 i mod 101, and the gradient of the outputs is 1, 2, 3, ...; `dx` has the nonzero gradients of the input as
/// (position, value).
fn known(dims: [usize; 4], o: Pool2dOptions, out: [usize; 4], y: &[f32], dx: &[(usize, f32)]) {
    let x: Vec<f32> = (0..dims.iter().product::<usize>()).map(|i| (i * 37 % 101) as f32).collect();
    let dy: Vec<f32> = (1..=y.len()).map(|i| i as f32).collect();
    let mut want = vec![0.0; x.len()];
    dx.iter().for_each(|&(at, value)| want[at] = value);
    for device in devices() {
        let x = Tensor::from_slice(&x, dims, &device).unwrap().requires_grad().unwrap();
        let got = x.max_pool2d(o).unwrap();
        assert_eq!((got.shape().to_vec(), got.to_vec().unwrap()), (out.to_vec(), y.to_vec()));
        let grads = got.backward_from(&Tensor::from_slice(&dy, out, &device).unwrap()).unwrap();
        assert_eq!(grads.get(&x).unwrap().to_vec().unwrap(), want, "{device:?}");
    }
}

#[test]
#[rustfmt::skip]
fn known_values_of_pytorch() {
    // torch.nn.functional.max_pool2d and its backward pass, PyTorch 1.13.0. With ceil_mode there is one more window per
    // column, while the fourth window of a row would start in the padding.
    let o = options([3, 2], [2, 3], [1, 1], [2, 1], true);
    known([1, 2, 8, 7], o, [1, 2, 4, 3],
        &[70., 80., 90., 83., 93., 90., 96., 93., 90., 96., 93., 79.,
          21., 95., 92., 34., 95., 92., 47., 95., 67., 47., 57., 67.],
        &[(21, 1.), (24, 2.), (27, 18.), (35, 4.), (38, 24.), (49, 17.), (54, 12.), (68, 33.), (77, 13.), (79, 51.),
          (91, 16.), (105, 41.), (108, 23.), (111, 45.)]);
    known([1, 2, 8, 7], Pool2dOptions { ceil_mode: false, ..o }, [1, 2, 3, 3],
        &[70., 80., 90., 83., 93., 90., 96., 93., 90., 21., 95., 92., 34., 95., 92., 47., 95., 67.],
        &[(21, 1.), (24, 2.), (27, 18.), (35, 4.), (38, 13.), (49, 7.), (68, 27.), (77, 10.), (79, 42.), (91, 13.),
          (105, 16.), (111, 18.)]);
    // Overlapping windows.
    known([1, 1, 6, 6], options([3, 3], [2, 2], [1, 1], [1, 1], true), [1, 1, 4, 4],
        &[57., 94., 84., 84., 97., 97., 87., 43., 100., 97., 90., 83., 100., 73., 83., 83.],
        &[(5, 7.), (7, 1.), (8, 2.), (16, 7.), (19, 21.), (23, 8.), (27, 11.), (30, 22.), (32, 14.), (35, 43.)]);
    known([1, 1, 8, 7], options([2, 3], [3, 2], [0, 1], [1, 2], true), [1, 1, 3, 3],
        &[94., 94., 84., 80., 80., 80., 76., 79., 79.],
        &[(5, 3.), (8, 3.), (24, 15.), (43, 7.), (54, 17.)]);
}

#[test]
fn every_axis_longer_than_the_loop_stride_is_covered() {
    let two = Pool2dOptions::new([2, 2]);
    let three = options([3, 3], [1, 1], [1, 1], [1, 1], false);
    // More planes, rows or columns, in turn, than 256, the distance between two outputs of an invocation; and more than
    // a task of the CPU twin or a workgroup.
    for dims in [[700, 3, 2, 2], [5, 2, 600, 4], [2, 1, 3, 1300], [3, 5, 34, 34], [1, 2, 257, 257]] {
        for o in [two, three] {
            check(&with_ties(&dims, 7), o);
        }
    }
}

#[test]
fn ties_nan_and_infinities() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    // The first of equal numbers, the last NaN, the first -inf.
    let cases = [
        ([3.0, 3.0, 3.0, 3.0], 3.0, 0),
        ([1.0, 2.0, 2.0, 0.0], 2.0, 1),
        ([nan, 9.0, nan, inf], nan, 2),
        ([9.0, nan, 1.0, 1.0], nan, 1),
        ([nan, 1.0, inf, 2.0], nan, 0),
        ([-inf; 4], -inf, 0),
        ([-inf, inf, 1.0, inf], inf, 1),
        ([0.0, -0.0, 0.0, -0.0], 0.0, 0),
    ];
    // The same window in the fast and in the general kernel.
    for o in [Pool2dOptions::new([2, 2]), options([2, 2], [2, 2], [1, 1], [1, 1], false)] {
        for (values, largest, at) in &cases {
            let mut x = Array::new([1, 1, 2, 2], values.to_vec());
            if o.padding == [1, 1] {
                x = Array::from_fn([1, 1, 4, 4], |i| {
                    let inside = (1..3).contains(&i[2]) && (1..3).contains(&i[3]);
                    if inside { values[(i[2] - 1) * 2 + i[3] - 1] } else { 0.0 }
                });
            }
            let (y, found) = reference(&x, &o);
            let middle = y.numel() / 2;
            let same = y.data[middle] == *largest || (y.data[middle].is_nan() && largest.is_nan());
            let inside = if x.numel() == 4 { *at } else { 5 + at / 2 * 4 + at % 2 };
            assert!(same && found[middle] == Some(inside), "{values:?}");
            check(&x, o);
        }
    }
}

#[test]
fn a_window_outside_of_the_plane_chooses_nothing() {
    // Rows -1, 2 and 5 of an input with one row.
    let o = options([3, 1], [5, 1], [1, 0], [3, 1], true);
    let x = Array::new([1, 1, 1, 4], vec![1.0, 2.0, 3.0, 4.0]);
    assert_eq!(reference(&x, &o), (Array::new([1, 1, 1, 4], vec![f64::NEG_INFINITY; 4]), vec![None; 4]));
    check(&x, o);
    check(&x, Pool2dOptions { stride: [5, 1], kernel: [3, 2], dilation: [3, 2], ..o }); // and with overlapping windows
}

#[test]
fn single_elements_and_empty_planes() {
    for o in [
        Pool2dOptions::new([2, 2]),
        Pool2dOptions::new([1, 1]),
        options([2, 2], [1, 1], [1, 1], [1, 1], true),
    ] {
        for dims in [[0, 2, 4, 4], [2, 0, 4, 4]] {
            check(&with_ties(&dims, 1), o);
        }
    }
    check(&with_ties(&[1, 1, 1, 1], 1), Pool2dOptions::new([1, 1]));
    check(&with_ties(&[1, 1, 1, 1], 1), options([2, 2], [1, 1], [1, 1], [1, 1], false));
    check(&with_ties(&[1, 1, 1, 1], 1), Pool2dOptions { ceil_mode: true, ..Pool2dOptions::new([2, 2]) });
}

#[test]
fn windows_of_as_many_elements_as_a_kernel_may_loop() {
    // A kernel may loop at most 65,535 times; the iterations of both loops and their ends count.
    for kernel in [[1, 65_530], [21_844, 1], [254, 254]] {
        check(&with_ties(&[1, 1, kernel[0], kernel[1]], 2), Pool2dOptions::new(kernel));
    }
    // Overlapping windows, with sizes around the limit at which an invocation computes four elements.
    for kernel in [[243, 243], [126, 127], [127, 128], [1, 4094], [1, 16_379], [1, 16_380]] {
        let o = options(kernel, [1, 1], [0, 0], [1, 1], false);
        check(&with_ties(&[1, 2, kernel[0] + 2, kernel[1] + 3], 2), o);
    }
    // Windows of 2 elements that are far apart, so that many overlap.
    check(&with_ties(&[1, 1, 1, 3000], 2), options([1, 2], [1, 1], [0, 0], [1, 1400], false));
}

#[test]
fn invalid_arguments_are_refused() {
    for device in devices() {
        let refused = |dims: &[usize], o: Pool2dOptions| {
            let error = Tensor::zeros(dims, &device).unwrap().max_pool2d(o).unwrap_err();
            let named = matches!(
                error,
                Error::Shape { op: "max_pool2d", .. } | Error::Argument { op: "max_pool2d", .. }
            );
            assert!(named, "{error}");
            error.to_string()
        };
        let two = Pool2dOptions::new([2, 2]);
        assert!(refused(&[4, 4], two).contains("[4, 4]"));
        assert!(refused(&[1, 1, 1, 4, 4], two).contains("[1, 1, 1, 4, 4]"));
        assert!(refused(&[1, 1, 1, 4], two).contains("[1, 1, 1, 4]"));
        assert!(refused(&[1, 1, 0, 4], Pool2dOptions { padding: [1, 1], ..two }).contains("[1, 1, 0, 4]"));
        assert!(refused(&[1, 1, 4, 0], two).contains("[1, 1, 4, 0]"));
        assert!(refused(&[1, 1, 4, 4], Pool2dOptions { dilation: [1, 4], ..two }).contains("[1, 1, 4, 4]"));
        for zero in [
            Pool2dOptions::new([0, 2]),
            Pool2dOptions { stride: [2, 0], ..two },
            Pool2dOptions { dilation: [0, 1], ..two },
        ] {
            assert!(refused(&[1, 1, 4, 4], zero).contains("of 0"));
        }
        assert!(refused(&[1, 1, 4, 4], Pool2dOptions { padding: [0, 2], ..two }).contains("half the kernel"));
        // PyTorch limits the padding by the kernel size, whatever the dilation.
        let wide = Pool2dOptions { padding: [2, 0], dilation: [3, 1], ..two };
        assert!(refused(&[1, 1, 9, 9], wide).contains("half the kernel"));
        for kernel in [[1, 65_531], [21_845, 1], [255, 256]] {
            assert!(refused(&[1, 1, kernel[0], kernel[1]], Pool2dOptions::new(kernel)).contains("65535"));
        }
        let apart = options([1, 2], [1, 1], [0, 0], [1, 65_534], false);
        assert!(refused(&[1, 1, 1, 140_000], apart).contains("65535"));
        for huge in [usize::MAX, usize::MAX / 2, 1 << 32] {
            refused(&[1, 1, 4, 4], Pool2dOptions::new([huge, 2]));
            refused(&[1, 1, 4, 4], Pool2dOptions { dilation: [huge, 1], ..two });
            refused(&[1, 1, 4, 4], Pool2dOptions { stride: [huge, 1], ..two });
            refused(&[1, 1, 4, 4], Pool2dOptions { padding: [huge, 1], ..two });
        }
        let ids = Tensor::from_ids(&[1; 16], [1, 1, 4, 4], &device).unwrap();
        assert!(ids.max_pool2d(two).unwrap_err().to_string().contains("max_pool2d"));
    }
}
