//! Reductions over any axes: against f64 on every device, gradients by central differences.

mod common;

use common::*;
use gristmill::{Error, Result, Shape, Tensor};
use proptest::prelude::*;

/// Name, op, reference over the elements of one reduction.
type Case = (&'static str, fn(&Tensor, &[isize], bool) -> Result<Tensor>, fn(&[f64]) -> f64);

const REDUCTIONS: &[Case] = &[
    ("sum", Tensor::sum, |x| x.iter().sum()),
    ("mean", Tensor::mean, |x| x.iter().sum::<f64>() / x.len() as f64),
    ("max", Tensor::max, |x| x.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
    ("min", Tensor::min, |x| x.iter().copied().fold(f64::INFINITY, f64::min)),
];

/// The axes that the bits of `mask` name.
fn axes(mask: u8, rank: usize) -> Vec<usize> {
    (0..rank).filter(|axis| mask >> axis & 1 == 1).collect()
}

/// `f` of each reduction's elements in row-major order; the reduced axes stay with length 1.
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

fn without(shape: &[usize], axes: &[usize]) -> Vec<usize> {
    shape.iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, &d)| d).collect()
}

/// Some axes counted from the front, some from the back.
fn signed(axes: &[usize], rank: usize) -> Vec<isize> {
    let back = |&axis: &usize| axis as isize - if axis % 2 == 0 { rank as isize } else { 0 };
    axes.iter().map(back).collect()
}

/// Name of a reduction without an element to start from.
fn chooses(name: &str) -> bool {
    matches!(name, "max" | "min")
}

proptest! {
    #![proptest_config(cases())]

    /// On small whole numbers every sum is exact in f32, so one element lost or read twice shows.
    #[test]
    fn reductions_match_f64(dims in shape(6, 4000), mask: u8, keepdim: bool, way: u8, seed: u64, whole: bool) {
        let rank = dims.len();
        let axes = axes(mask, rank);
        let x = Array::random(dims, seed, -9.0, 9.0);
        let x = if whole { x.map(f64::round) } else { x };
        let length: usize = axes.iter().map(|&axis| x.shape[axis]).product();
        let sizes = reduced(&x, &axes, |group| group.iter().map(|x| x.abs()).sum());
        for (name, op, f) in REDUCTIONS {
            let mut want = reduced(&x, &axes, f);
            let empty = x.numel() == 0 && want.numel() > 0;
            if !keepdim {
                want.shape = without(&x.shape, &axes);
            }
            for device in devices() {
                let got = op(&laid_out(&x, way, &device), &signed(&axes, rank), keepdim);
                if empty && chooses(name) {
                    let message = got.unwrap_err().to_string();
                    prop_assert!(message.contains(name), "{message}");
                    continue;
                }
                assert_within(name, &got.unwrap(), &want, |at| {
                    // Each of the additions, in whatever order, rounds by at most EPS of the sizes' sum.
                    let sum = if whole { 0.0 } else { length as f64 * EPS * sizes.data[at] };
                    match *name {
                        "sum" => sum,
                        // WGSL: division is within 2.5 ULP.
                        "mean" => sum / length as f64 + 2.5 * 2.0 * EPS * want.data[at].abs(),
                        _ => 0.0,
                    }
                });
            }
        }
    }

    #[test]
    fn gradients_match_differences(dims in shape(4, 48), mask: u8, keepdim: bool, seed: u64) {
        let rank = dims.len();
        let axes = axes(mask, rank);
        let count: usize = dims.iter().product();
        // All different by more than the differences' step: an extreme with a tie has a corner.
        let x = Array::from_fn(dims.clone(), |index| {
            let at = ravel(index, &dims) as u64;
            ((at * 31 + seed % 1000) % 48) as f64 / 16.0 - 1.5 + at as f64 / 1024.0
        });
        prop_assume!(count > 0);
        for (name, op, f) in REDUCTIONS {
            let reference = |x: &[Array]| {
                let mut y = reduced(&x[0], &axes, f);
                if !keepdim {
                    y.shape = without(&x[0].shape, &axes);
                }
                y
            };
            // A gradient is a weight, divided at most once by the length: 2.5 ULP and a rounding.
            check_gradients(name, std::slice::from_ref(&x), |x| op(&x[0], &signed(&axes, rank), keepdim), reference, 8.0 * EPS);
        }
    }

    #[test]
    fn sum_to_undoes_a_broadcast(dims in shape(4, 1000), ones: u8, cut in 0usize..4, seed: u64) {
        let cut = cut.min(dims.len());
        let to: Vec<usize> =
            dims.iter().enumerate().skip(cut).map(|(axis, &d)| if ones >> axis & 1 == 1 { 1 } else { d }).collect();
        let x = Array::random(dims, seed, -9.0, 9.0).map(f64::round);
        let axes: Vec<usize> =
            (0..x.shape.len()).filter(|&axis| axis < cut || (to[axis - cut] == 1)).collect();
        let mut want = reduced(&x, &axes, |x| x.iter().sum());
        want.shape = to.clone();
        for device in devices() {
            let got = x.to_tensor(&device).sum_to(Shape::new(&to).unwrap()).unwrap();
            assert_within("sum_to", &got, &want, |_| 0.0);
        }
    }
}

/// Rows, columns and planes long enough that each kernel cuts them into slices, once and twice: of whole numbers, whose
/// sums f32 holds exactly.
#[test]
fn long_reductions_lose_nothing() {
    let shapes: &[(&[usize], &[usize])] = &[
        (&[(1 << 20) + 3], &[0]),
        (&[3, 70_001], &[1]),
        (&[70_001, 3], &[0]),
        (&[300, 100, 3], &[0, 1]),
        (&[100, 3, 300], &[0, 2]),
        (&[65, 1025], &[1]),
        (&[1025, 65], &[0]),
        (&[129, 33], &[1]),
    ];
    for (dims, axes) in shapes {
        let count: usize = dims.iter().product();
        let data: Vec<f64> = (0..count).map(|at| ((at * 7 + at / 31) % 13) as f64 - 5.0).collect();
        let x = Array::new(*dims, data);
        let signed = signed(axes, dims.len());
        for (name, op, f) in REDUCTIONS {
            let want = reduced(&x, axes, f);
            for device in devices() {
                for way in 0..2 {
                    let got = op(&laid_out(&x, way, &device), &signed, true).unwrap();
                    // Exact, but for the division of a mean: 2.5 ULP.
                    let ulp = if *name == "mean" { 2.0 * EPS } else { 0.0 };
                    assert_within(&format!("{name} of {dims:?}"), &got, &want, |at| {
                        2.5 * ulp * want.data[at].abs()
                    });
                }
            }
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
        // 2^24 of them without the memory.
        let ones = Tensor::ones([1, 1], &device).unwrap().expand([1 << 12, 1 << 12]).unwrap();
        assert_eq!(ones.sum_all().unwrap().item().unwrap(), (1 << 24) as f32, "{}", device.id());
        let rows = ones.sum(&[0], false).unwrap();
        assert!(rows.to_vec().unwrap().iter().all(|&sum| sum == 4096.0), "{}", device.id());
    }
}

/// An extreme is found wherever it lies: at the first and last element of slices, lanes and strands.
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

/// By hand: the extreme 2 stands three times in [2, 1, 2, 2] and once in [0, 2, 1, 1].
#[test]
fn ties_share_the_gradient_evenly() {
    for device in devices() {
        let x = Tensor::from_slice(&[2.0, 1.0, 2.0, 2.0, 0.0, 2.0, 1.0, 1.0], [2, 4], &device).unwrap();
        let x = x.requires_grad().unwrap();
        let weights = Tensor::from_slice(&[3.0, 5.0], [2], &device).unwrap();
        let want = Array::new([2, 4], vec![1.0, 0.0, 1.0, 1.0, 0.0, 5.0, 0.0, 0.0]);
        // 3 / 3: division within 2.5 ULP.
        let grads = x.max(&[1], false).unwrap().backward_from(&weights).unwrap();
        assert_within("max", grads.get(&x).unwrap(), &want, |_| 5.0 * EPS);
        let y = x.neg().unwrap().min(&[1], false).unwrap();
        let grads = y.backward_from(&weights).unwrap();
        assert_within("min", grads.get(&x).unwrap(), &want.map(|g| -g), |_| 5.0 * EPS);
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
