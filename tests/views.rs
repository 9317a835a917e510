//! Views, copies and constants: values worked by hand, unchanged bits, errors. The table tests chains of views.

mod common;

use common::*;
use gristmill::{DType, Device, Error, MAX_RANK, Result, Shape, Tensor};

#[test]
fn known_views() {
    for device in devices() {
        let x = Tensor::from_slice(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [2, 3], &device).unwrap();
        let show = |y: Result<Tensor>| y.unwrap().to_vec().unwrap();
        assert_eq!(show(x.t()), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(show(x.permute(&[1, 0])), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(show(x.slice(1, 1..3)), [1.0, 2.0, 4.0, 5.0]);
        assert_eq!(show(x.slice_step(-1, 0..3, 2)), [0.0, 2.0, 3.0, 5.0]);
        assert_eq!(show(x.slice(0, 1..1)), [0.0; 0]);
        // Empty slices at the end of each axis.
        assert_eq!(show(x.slice(0, 2..2).unwrap().slice(1, 3..3).unwrap().sum_all().unwrap().exp()), [1.0]);
        assert_eq!(show(x.t().unwrap().reshape([6])), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(show(x.slice(0, 1..2).unwrap().expand([2, 3])), [3.0, 4.0, 5.0, 3.0, 4.0, 5.0]);
        assert_eq!(show(x.flatten(0, -1)), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(x.unsqueeze(-1).unwrap().shape(), [2, 3, 1]);
        assert_eq!(x.unsqueeze(0).unwrap().squeeze(0).unwrap().shape(), [2, 3]);
        assert_eq!(Tensor::scalar(7.0, &device).unwrap().expand([3]).unwrap().to_vec().unwrap(), [7.0; 3]);
        assert_eq!(Tensor::scalar(7.0, &device).unwrap().reshape([1, 1]).unwrap().item().unwrap(), 7.0);
    }
}

#[test]
fn a_step_larger_than_the_axis_selects_the_first_element() {
    for device in devices() {
        let x = Tensor::from_slice(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [2, 3], &device).unwrap();
        let x = x.requires_grad().unwrap();
        for step in [3, 1 << 40, isize::MAX as usize, usize::MAX] {
            // Regression: the stride overflowed usize, or did not fit a kernel.
            let y = x.slice_step(0, 0..2, step).unwrap().slice_step(1, 1..3, step).unwrap();
            assert_eq!((y.shape().to_vec(), y.to_vec().unwrap()), (vec![1, 1], vec![1.0]), "step {step}");
            let product = y.matmul(&Tensor::ones([1, 2], &device).unwrap()).unwrap();
            assert_eq!(product.to_vec().unwrap(), [1.0, 1.0]);
            let grads = product.sum_all().unwrap().backward().unwrap();
            assert_eq!(grads.get(&x).unwrap().to_vec().unwrap(), [0.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
        }
    }
}

#[test]
fn views_launch_nothing_and_own_nothing() {
    for device in devices().iter().map(fresh) {
        let x = Tensor::from_slice(&[1.0; 24], [2, 3, 4], &device).unwrap();
        let before = (device.counts(), device.memory().in_use);
        let y = x.permute(&[2, 0, 1]).unwrap().slice_step(0, 1..4, 2).unwrap().unsqueeze(1).unwrap();
        let y = y.expand([2, 5, 2, 3]).unwrap().transpose(0, -1).unwrap();
        let z = x.reshape([4, 6]).unwrap();
        assert_eq!((device.counts(), device.memory().in_use), before, "on {device}");
        drop((x, y));
        assert_eq!(z.to_vec().unwrap(), [1.0; 24], "a view outlives what it was made from");
    }
}

/// Bit patterns that arithmetic might change: NaN payloads of both kinds and signs, -0.0, subnormals, infinities.
const BITS: [u32; 10] = [
    0x7fc0_1234,
    0x7f80_0001,
    0xffc0_0000,
    0xff81_2345,
    0x8000_0000,
    0x0000_0001,
    0x807f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x3f80_0000,
];

fn bits(x: &Tensor) -> Vec<u32> {
    x.to_vec().unwrap().into_iter().map(f32::to_bits).collect()
}

#[test]
fn copies_and_moves_keep_every_bit() {
    let data = BITS.map(f32::from_bits);
    for device in devices() {
        let x = Tensor::from_slice(&data, [2, 5], &device).unwrap();
        assert_eq!(bits(&x), BITS, "there and back on {device}");
        let turned: Vec<u32> = (0..10).map(|i| BITS[i % 2 * 5 + i / 2]).collect();
        assert_eq!(bits(&x.t().unwrap()), turned, "reading a transposed view on {device}");
        assert_eq!(bits(&x.t().unwrap().copy().unwrap()), turned, "copying a transposed view on {device}");
        for other in devices() {
            let moved = x.t().unwrap().to(&other).unwrap();
            assert!(moved.device().same(&other));
            assert_eq!((moved.shape(), bits(&moved)), (x.t().unwrap().shape(), turned.clone()));
        }
        for (pattern, value) in BITS.into_iter().zip(data) {
            assert_eq!(bits(&Tensor::full([3], value, &device).unwrap()), [pattern; 3], "full on {device}");
        }
    }
}

#[test]
fn constants_fill_shapes_of_every_size() {
    for device in devices() {
        for dims in [&[][..], &[0], &[1], &[3, 0, 2], &[255], &[1023], &[1024], &[1025], &[3, 5, 7, 2, 1, 2]]
        {
            let count = dims.iter().product();
            assert_eq!(Tensor::zeros(dims, &device).unwrap().to_vec().unwrap(), vec![0.0; count]);
            assert_eq!(Tensor::ones(dims, &device).unwrap().to_vec().unwrap(), vec![1.0; count]);
            let filled = Tensor::full(dims, -2.5, &device).unwrap();
            assert_eq!(filled.shape().to_vec(), dims);
            assert_eq!(filled.to_vec().unwrap(), vec![-2.5; count]);
        }
    }
}

#[test]
fn ids_and_tensors_of_no_element_move_between_devices() {
    for device in devices() {
        for other in devices() {
            let ids = Tensor::from_ids(&[7, u32::MAX, 0], [3, 1], &device).unwrap().to(&other).unwrap();
            assert_eq!((ids.dtype(), ids.to_ids().unwrap()), (DType::U32, vec![7, u32::MAX, 0]));
            let none = Tensor::zeros([2, 0], &device).unwrap().to(&other).unwrap();
            assert_eq!((none.shape().to_vec(), none.to_vec().unwrap()), (vec![2, 0], vec![]));
        }
    }
}

/// Asserts that a shape error names the op and contains all of `parts`.
fn refused<T: std::fmt::Debug>(result: Result<T>, op: &str, parts: &[&str]) {
    match result {
        Err(ref error @ Error::Shape { op: found, .. }) => {
            let text = error.to_string();
            assert_eq!(found, op, "{text}");
            assert!(parts.iter().all(|part| text.contains(part)), "`{text}` does not say {parts:?}");
        }
        other => panic!("{op}: {other:?} instead of an error of shapes"),
    }
}

#[test]
fn errors_name_the_op_and_the_shapes() {
    for device in devices() {
        let x = Tensor::zeros([2, 3], &device).unwrap();
        refused(x.reshape([4, 2]), "reshape", &["[2, 3]", "[4, 2]"]);
        refused(x.flatten(2, -1), "flatten", &["axis 2", "[2, 3]"]);
        refused(x.flatten(1, 0), "flatten", &["axis 0 of shape [2, 3] is before axis 1"]);
        refused(x.permute(&[0]), "permute", &["[0]", "[2, 3]"]);
        refused(x.permute(&[0, 0]), "permute", &["[0, 0]", "[2, 3]"]);
        refused(x.permute(&[0, 2]), "permute", &["[0, 2]", "[2, 3]"]);
        refused(x.transpose(0, 2), "transpose", &["axis 2", "[2, 3]"]);
        refused(x.transpose(-3, 0), "transpose", &["axis -3", "[2, 3]"]);
        refused(Tensor::scalar(1.0, &device).unwrap().t(), "transpose", &["[]"]);
        refused(x.slice(2, 0..1), "slice", &["axis 2", "[2, 3]"]);
        refused(x.slice(1, 1..4), "slice", &["1..4", "[2, 3]"]);
        #[allow(clippy::reversed_empty_ranges)]
        let backwards = 2..1;
        refused(x.slice(1, backwards), "slice", &["2..1", "[2, 3]"]);
        refused(x.slice_step(1, 0..3, 0), "slice", &["by 0", "[2, 3]"]);
        refused(x.expand([2, 4]), "expand", &["[2, 3]", "[2, 4]"]);
        refused(x.expand([3]), "expand", &["[2, 3]", "[3]"]);
        refused(x.unsqueeze(3), "unsqueeze", &["axis 3"]);
        refused(x.squeeze(0), "squeeze", &["axis 0", "[2, 3]"]);
        refused(x.squeeze(2), "squeeze", &["axis 2", "[2, 3]"]);
        refused(x.item(), "item", &["[2, 3]"]);
        refused(Tensor::zeros([0], &device).unwrap().item(), "item", &["[0]"]);
        refused(Tensor::from_slice(&[1.0; 5], [2, 3], &device), "from_slice", &["5", "[2, 3]"]);
        refused(Tensor::from_ids(&[1; 5], [2, 3], &device), "from_ids", &["5", "[2, 3]"]);
    }
}

#[test]
fn element_types_do_not_mix() {
    for device in devices() {
        let x = Tensor::zeros([2], &device).unwrap();
        let ids = Tensor::from_ids(&[1, 2], [2], &device).unwrap();
        refused(x.to_ids(), "to_ids", &["U32", "F32", "[2]"]);
        refused(ids.to_vec(), "to_vec", &["F32", "U32", "[2]"]);
        refused(ids.item(), "item", &["F32", "U32", "[2]"]);
        refused(ids.requires_grad(), "requires_grad", &["F32", "U32", "[2]"]);
    }
}

#[test]
fn rank_seven_is_refused_everywhere() {
    let seven = [1usize; MAX_RANK + 1];
    refused(Shape::new(seven), "shape", &["7", "over 6"]);
    for device in devices() {
        let six = Tensor::ones([1; MAX_RANK], &device).unwrap();
        refused(Tensor::zeros(seven, &device), "shape", &["7"]);
        refused(Tensor::from_slice(&[1.0], seven, &device), "shape", &["7"]);
        refused(six.reshape(seven), "shape", &["7"]);
        refused(six.expand(seven), "shape", &["7"]);
        refused(six.unsqueeze(0), "unsqueeze", &["[1, 1, 1, 1, 1, 1]", "6"]);
        // Six is ordinary.
        assert_eq!(six.expand([2, 1, 1, 3, 1, 1]).unwrap().copy().unwrap().to_vec().unwrap(), [1.0; 6]);
    }
}

#[test]
fn a_device_is_its_own_and_no_other() {
    let [a, b] = [Device::cpu(), Device::cpu_with_budget(1 << 20)];
    assert!(a.same(&Device::cpu()) && !a.same(&b) && !a.same(&fresh(&a)));
    let x = Tensor::ones([3], &a).unwrap();
    assert!(x.to(&b).unwrap().device().same(&b));
    assert!(matches!(x.add(&x.to(&b).unwrap()), Err(Error::MixedDevices { op: "add", .. })));
}

#[test]
fn an_index_or_a_range_per_axis() {
    for device in devices() {
        let x = Tensor::arange(0.0, 24.0, 1.0, &device).unwrap().reshape([2, 3, 4]).unwrap();
        let same = |part: Tensor, shape: &[usize], values: &[f32]| {
            assert_eq!((&part.shape()[..], part.to_vec().unwrap()), (shape, values.to_vec()));
        };
        // NumPy's x[:, 0, 1:3], x[-1, 2], x[1, 2, 3], x[:1, 1:, ::][..., :2], x[1][0].
        same(x.i((.., 0, 1..3)).unwrap(), &[2, 2], &[1.0, 2.0, 13.0, 14.0]);
        same(x.i((-1, 2)).unwrap(), &[4], &[20.0, 21.0, 22.0, 23.0]);
        same(x.i((1, 2, 3)).unwrap(), &[], &[23.0]);
        same(x.i((..1, 1.., ..2)).unwrap(), &[1, 2, 2], &[4.0, 5.0, 8.0, 9.0]);
        same(x.i((1, ..=1, 3)).unwrap(), &[2], &[15.0, 19.0]);
        same(x.i((1, 1..=2, 3)).unwrap(), &[2], &[19.0, 23.0]);
        same(x.i(1usize).unwrap().i(0).unwrap(), &[4], &[12.0, 13.0, 14.0, 15.0]);
        same(x.i((.., 3..3)).unwrap(), &[2, 0, 4], &[]);
        let refused = |part: Result<Tensor>, text: &str| {
            let error = part.unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("[2, 3, 4]"), "{error}");
        };
        refused(x.i(2), "2 does not lie in axis 0 of 2");
        refused(x.i((0, -4)), "-4 does not lie in axis 1 of 3");
        refused(x.i((0, 0, 0, 0)), "4 indices");
        refused(x.i((0, .., 2..5)), "2..5 does not lie in axis 2 of 4");
        refused(x.i(3..), "3..2 does not lie in axis 0 of 2");
        // Gradients flow through it.
        let leaf = x.requires_grad().unwrap();
        let gradients = leaf.i((.., 1, 1..3)).unwrap().sum_all().unwrap().backward().unwrap();
        let grad = gradients.get(&leaf).unwrap().to_vec().unwrap();
        assert_eq!(grad.iter().sum::<f32>(), 4.0);
        assert_eq!([grad[5], grad[6], grad[17], grad[18]], [1.0; 4]);
    }
}

#[test]
fn ranges_and_triangles() {
    for device in devices() {
        let arange = |a, b, c| Tensor::arange(a, b, c, &device).map(|x| x.to_vec().unwrap());
        assert_eq!(arange(0.0, 1.0, 0.25), Ok(vec![0.0, 0.25, 0.5, 0.75]));
        assert_eq!(arange(1.0, -1.0, -0.75), Ok(vec![1.0, 0.25, -0.5]));
        assert_eq!(arange(2.0, 2.0, 1.0), Ok(vec![]));
        // NumPy 2.4: np.arange(0, 1, 0.1, np.float32) has 10 numbers, the last 0.9.
        assert_eq!(arange(0.0, 1.0, 0.1).unwrap().len(), 10);
        // In f32 the quotient of these would be above 100 and 3.
        assert_eq!((arange(0.0, 1.0, 0.01).unwrap().len(), arange(0.0, 0.3, 0.1).unwrap().len()), (100, 3));
        for (a, b, c) in [(0.0, 1.0, 0.0), (0.0, 1.0, -1.0), (f64::NAN, 1.0, 1.0), (0.0, f64::MAX, 1.0)] {
            let error = arange(a, b, c).unwrap_err().to_string();
            assert!(error.contains("arange"), "{error}");
        }
        let linspace = |a, b, n| Tensor::linspace(a, b, n, &device).map(|x| x.to_vec().unwrap());
        assert_eq!(linspace(-1.0, 1.0, 5), Ok(vec![-1.0, -0.5, 0.0, 0.5, 1.0]));
        assert_eq!(linspace(3.0, 9.0, 1), Ok(vec![3.0]));
        assert_eq!(linspace(3.0, 9.0, 0), Ok(vec![]));
        assert_eq!(linspace(0.1, 0.7, 7).unwrap()[6], 0.7);
        assert!(linspace(0.0, f64::INFINITY, 2).is_err());
        let eye = Tensor::eye(3, &device).unwrap();
        assert_eq!(eye.to_vec().unwrap(), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(Tensor::eye(0, &device).unwrap().shape(), [0, 0]);

        // np.tril and np.triu of arange(1, 13).reshape(3, 4); an infinity outside is 0, not NaN.
        let x = Tensor::arange(1.0, 13.0, 1.0, &device).unwrap().reshape([3, 4]).unwrap();
        let tril = |k| x.tril(k).unwrap().to_vec().unwrap();
        let triu = |k| x.triu(k).unwrap().to_vec().unwrap();
        assert_eq!(tril(0), [1.0, 0.0, 0.0, 0.0, 5.0, 6.0, 0.0, 0.0, 9.0, 10.0, 11.0, 0.0]);
        assert_eq!(tril(-1), [0.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 9.0, 10.0, 0.0, 0.0]);
        assert_eq!(triu(1), [0.0, 2.0, 3.0, 4.0, 0.0, 0.0, 7.0, 8.0, 0.0, 0.0, 0.0, 12.0]);
        assert_eq!((tril(isize::MAX), triu(isize::MIN)), (x.to_vec().unwrap(), x.to_vec().unwrap()));
        let wild = Tensor::full([2, 2], f32::INFINITY, &device).unwrap().tril(0).unwrap();
        assert_eq!(wild.to_vec().unwrap(), [f32::INFINITY, 0.0, f32::INFINITY, f32::INFINITY]);
        assert!(Tensor::ones([3], &device).unwrap().tril(0).unwrap_err().to_string().contains("tril"));

        let leaf = x.requires_grad().unwrap();
        let filled = leaf.masked_fill(&x.gt_scalar(6.0).unwrap(), -1.0).unwrap();
        assert_eq!(filled.to_vec().unwrap()[4..8], [5.0, 6.0, -1.0, -1.0]);
        let gradients = filled.sum_all().unwrap().backward().unwrap();
        assert_eq!(gradients.get(&leaf).unwrap().to_vec().unwrap()[4..8], [1.0, 1.0, 0.0, 0.0]);
    }
}

#[test]
fn one_length_is_inferred() {
    for device in devices() {
        let x = Tensor::arange(0.0, 24.0, 1.0, &device).unwrap();
        let shape = |y: Result<Tensor>| y.unwrap().shape().to_vec();
        assert_eq!(shape(x.reshape([-1, 4])), [6, 4]);
        assert_eq!(shape(x.reshape([2, -1, 3])), [2, 4, 3]);
        assert_eq!(shape(x.reshape([24, -1])), [24, 1]);
        assert_eq!(shape(x.reshape(vec![-1, 3])), [8, 3]);
        assert_eq!(shape(x.reshape(vec![4, 6])), [4, 6]);
        assert_eq!(shape(x.reshape(&[2, 12][..])), [2, 12]);
        assert_eq!(shape(x.reshape(vec![-1isize])), [24]);
        assert_eq!(shape(x.slice(0, 0..1).unwrap().reshape(Shape::SCALAR)), [0usize; 0]);
        assert_eq!(shape(x.reshape(Shape::new([4, 6]).unwrap())), [4, 6]);
        assert_eq!(shape(Tensor::zeros([0, 3], &device).unwrap().reshape([-1, 3])), [0, 3]);
        let refused = |y: Result<Tensor>, text: &str| {
            let error = y.unwrap_err().to_string();
            assert!(error.contains("reshape") && error.contains(text), "{error}");
        };
        refused(x.reshape([-1, 5]), "no length of the axis -1 fits 24 elements");
        refused(x.reshape([-1, -1]), "-1 appears twice");
        refused(x.reshape([-2, 12]), "only one length may be negative");
        // Any length would do.
        refused(Tensor::zeros([0, 3], &device).unwrap().reshape([-1, 0]), "no length");
        assert!(x.reshape([usize::MAX, 2]).is_err());
    }
}
