//! Convolutions: values worked by hand and from PyTorch, long sums, edge cases, errors. The table (tests/table.rs)
//! compares every kernel with f64.

mod common;

use common::*;
use gristmill::gpu::GpuOptions;
use gristmill::{Activation, Conv2dKernel, Conv2dOptions, Device, Error, Tensor};

// Auto is the subgroup kernel on software adapters with subgroups.
const KERNELS: [Conv2dKernel; 3] = [Conv2dKernel::Auto, Conv2dKernel::Naive, Conv2dKernel::Registers];

/// The kernels for tests that take minutes on SwiftShader: only the naive one there. The table tests the others.
fn ladder(device: &Device) -> &'static [Conv2dKernel] {
    if device.id().contains("swiftshader") { &KERNELS[1..2] } else { &KERNELS }
}

#[test]
fn a_convolution_worked_by_hand() {
    for device in devices() {
        let t = |data: &[f32], shape: &[usize]| Tensor::from_slice(data, shape, &device).unwrap();
        let x = t(&[1., 2., 3., 4., 5., 6., 7., 8., 9.], &[1, 1, 3, 3]).requires_grad().unwrap();
        let w = t(&[1., 2., 3., 4.], &[1, 1, 2, 2]).requires_grad().unwrap();
        let b = t(&[-50.], &[1]).requires_grad().unwrap();
        for kernel in KERNELS {
            // 1·1 + 2·2 + 3·4 + 4·5 = 37, and so on.
            let plain = x.conv2d_with(&w, None, Conv2dOptions::default(), kernel).unwrap();
            assert_eq!(plain.to_vec().unwrap(), [37., 47., 67., 77.]);
            let relu = Conv2dOptions { activation: Activation::Relu, ..Conv2dOptions::default() };
            let y = x.conv2d_with(&w, Some(&b), relu, kernel).unwrap();
            assert_eq!(y.to_vec().unwrap(), [0., 0., 17., 27.]);

            let grads = plain.backward_from(&Tensor::ones([1, 1, 2, 2], &device).unwrap()).unwrap();
            assert_eq!(grads.get(&w).unwrap().to_vec().unwrap(), [12., 16., 24., 28.]);
            assert_eq!(grads.get(&x).unwrap().to_vec().unwrap(), [1., 3., 2., 4., 10., 6., 3., 7., 4.]);
            // Only the lower two pixels are positive and pass relu.
            let grads = y.backward_from(&t(&[1., 10., 100., 1000.], &[1, 1, 2, 2])).unwrap();
            assert_eq!(grads.get(&b).unwrap().to_vec().unwrap(), [1100.]);
            assert_eq!(grads.get(&w).unwrap().to_vec().unwrap(), [5400., 6500., 8700., 9800.]);
            assert_eq!(
                grads.get(&x).unwrap().to_vec().unwrap(),
                [0., 0., 0., 100., 1200., 2000., 300., 3400., 4000.]
            );
        }
    }
}

/// PyTorch 1.13, in f64, with values that f32 holds exactly:
///
/// ```python
/// fill = lambda f, shape: torch.tensor([f(i) for i in range(math.prod(shape))], dtype=torch.float64).reshape(shape)
/// x = fill(lambda i: (i * 7 % 11 - 5) / 4, (2, 4, 5, 6)); w = fill(lambda i: (i * 5 % 7 - 3) / 2, (6, 2, 3, 2))
/// y = F.conv2d(x, w, torch.tensor([0.5, -1, 0.25, 2, -0.75, 1]), (2, 1), (1, 2), (1, 2), 2)
/// y.backward(fill(lambda i: i * 3 % 5 - 2, y.shape))
/// ```
#[test]
fn pytorch_agrees_on_stride_padding_dilation_and_groups() {
    let fill = |f: fn(usize) -> f32, shape: [usize; 4], device: &Device| {
        let data: Vec<f32> = (0..shape.iter().product()).map(f).collect();
        Tensor::from_slice(&data, shape, device).unwrap()
    };
    let options = Conv2dOptions {
        stride: [2, 1],
        padding: [1, 2],
        dilation: [1, 2],
        groups: 2,
        activation: Activation::None,
    };
    for device in devices() {
        let x = fill(|i| ((i * 7 % 11) as f32 - 5.0) / 4.0, [2, 4, 5, 6], &device).requires_grad().unwrap();
        let w = fill(|i| ((i * 5 % 7) as f32 - 3.0) / 2.0, [6, 2, 3, 2], &device).requires_grad().unwrap();
        let b = Tensor::from_slice(&[0.5, -1.0, 0.25, 2.0, -0.75, 1.0], [6], &device).unwrap();
        let b = b.requires_grad().unwrap();
        for kernel in KERNELS {
            let y = x.conv2d_with(&w, Some(&b), options, kernel).unwrap();
            assert_eq!(y.shape(), [2, 6, 3, 8]);
            let values = y.to_vec().unwrap();
            // y[0, 0] and y[1, 3].
            assert_eq!(
                values[..24],
                [
                    4.125, 0.375, -1.375, 1.625, -0.875, -2.0, 0.625, -0.875, -0.5, -1.0, -0.375, -1.75,
                    -0.375, -0.375, -0.5, 4.125, 0.625, -0.625, -0.875, 1.625, -1.375, -0.25, 4.125, -0.375
                ]
            );
            assert_eq!(
                values[9 * 24..10 * 24],
                [
                    2.0, 1.5, 2.0, 0.5, 0.375, 1.625, 1.75, 2.125, 1.5, 1.375, 1.0, 0.375, -0.25, 1.875,
                    5.25, 0.625, 1.25, 2.5, 0.25, 0.25, 3.0, 3.0, 1.75, 3.25
                ]
            );
            let dy = fill(|i| (i * 3 % 5) as f32 - 2.0, [2, 6, 3, 8], &device);
            let grads = y.backward_from(&dy).unwrap();
            // dw[4], dx[1, 2], db.
            assert_eq!(
                grads.get(&w).unwrap().to_vec().unwrap()[48..60],
                [-8.25, -12.75, -5.0, -18.25, 11.25, -8.25, -13.5, -6.75, -4.5, -18.0, -5.25, -13.5]
            );
            assert_eq!(
                grads.get(&x).unwrap().to_vec().unwrap()[6 * 30..7 * 30],
                [
                    -2.0, 4.0, 2.5, -1.5, -3.0, -2.0, -2.0, -4.5, 5.5, 0.5, 0.5, -2.0, -1.5, -3.0, -2.0, 4.0,
                    2.5, -1.5, 0.5, 0.5, -2.0, -4.5, 5.5, 0.5, 4.0, 2.5, -1.5, -3.0, -2.0, 4.0
                ]
            );
            assert_eq!(grads.get(&b).unwrap().to_vec().unwrap(), [-2.0, -1.0, 0.0, 1.0, 2.0, -2.0]);
        }
    }
}

/// Sums of more than 65,535 terms, after which some adapters end a loop. With whole numbers any missing term shows.
#[test]
fn long_sums_are_whole() {
    for device in devices() {
        for &kernel in ladder(&device) {
            let what = format!("{kernel:?} on {}", device.id());
            let ones = |shape: [usize; 4]| Tensor::ones(shape, &device).unwrap();
            let conv = |x: &Tensor, w: &Tensor, padding: usize| {
                let b = Tensor::full([w.shape()[0]], 5.0, &device).unwrap();
                let options = Conv2dOptions { padding: [padding; 2], ..Conv2dOptions::default() };
                x.conv2d_with(w, Some(&b), options, kernel).unwrap()
            };
            let grad = |y: Tensor, leaf: &Tensor| {
                let grads = y.backward_from(&Tensor::ones(y.shape(), &device).unwrap()).unwrap();
                grads.get(leaf).unwrap().to_vec().unwrap()
            };
            // Pixels: the gradient of the weight.
            let w = ones([1, 1, 3, 3]).requires_grad().unwrap();
            let dw = grad(conv(&ones([2, 1, 211, 191]), &w, 1), &w);
            let sides = |n: usize| [n - 1, n, n - 1];
            let want: Vec<f32> =
                sides(211).iter().flat_map(|h| sides(191).map(|w| (2 * h * w) as f32)).collect();
            assert_eq!(dw, want, "{what}");
            // Input channels, output channels, taps.
            let y = conv(&ones([1, 70_001, 1, 1]), &ones([2, 70_001, 1, 1]), 0);
            assert_eq!(y.to_vec().unwrap(), [70_006.0; 2], "{what}");
            // Several taps; the last channels have larger weights.
            let w = Array::from_fn([1, 35_001, 1, 2], |i| if i[1] < 20_000 { 1.0 } else { 2.0 })
                .to_tensor(&device);
            let y = conv(&ones([1, 35_001, 1, 2]), &w, 0);
            assert_eq!(y.to_vec().unwrap(), [100_009.0], "{what}");
            let x = ones([1, 2, 1, 1]).requires_grad().unwrap();
            assert_eq!(grad(conv(&x, &ones([70_001, 2, 1, 1]), 0), &x), [70_001.0; 2], "{what}");
            let y = conv(&ones([1, 1, 300, 250]), &ones([1, 1, 300, 250]), 0);
            assert_eq!(y.to_vec().unwrap(), [75_005.0], "{what}");
        }
    }
}

/// Eight channels per group fill a row of the weight gradient's tiles, and two groups a workgroup.
#[test]
fn groups_that_fill_a_tile_are_right() {
    for device in devices() {
        let x = Tensor::ones([1, 84, 3, 3], &device).unwrap();
        let w = Tensor::ones([16, 42, 3, 3], &device).unwrap().requires_grad().unwrap();
        let y = x.conv2d(&w, None, Conv2dOptions { groups: 2, ..Conv2dOptions::default() }).unwrap();
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&w).unwrap().to_vec().unwrap(), [1.0; 16 * 42 * 9], "{}", device.id());
    }
}

#[test]
fn empty_axes_are_ordinary() {
    for device in devices() {
        let leaf = |shape: [usize; 4]| Tensor::ones(shape, &device).unwrap().requires_grad().unwrap();
        for kernel in KERNELS {
            // No images: the gradient of the weight is zero.
            let (x, w) = (leaf([0, 2, 5, 5]), leaf([3, 2, 3, 3]));
            let bias = Tensor::ones([3], &device).unwrap().requires_grad().unwrap();
            let y = x.conv2d_with(&w, Some(&bias), Conv2dOptions::default(), kernel).unwrap();
            assert_eq!(y.shape(), [0, 3, 3, 3]);
            let grads = y.sum_all().unwrap().backward().unwrap();
            assert_eq!(grads.get(&w).unwrap().to_vec().unwrap(), [0.0; 54]);
            assert_eq!(grads.get(&bias).unwrap().to_vec().unwrap(), [0.0; 3]);
            assert_eq!(grads.get(&x).unwrap().shape(), [0, 2, 5, 5]);
            // No input channels: the result is the bias. No output channels: the gradient of the input is zero.
            let y = leaf([1, 0, 2, 2]).conv2d_with(
                &leaf([3, 0, 2, 2]),
                Some(&bias),
                Conv2dOptions::default(),
                kernel,
            );
            assert_eq!(y.unwrap().to_vec().unwrap(), [1.0; 3]);
            let x = leaf([1, 2, 2, 2]);
            let y = x.conv2d_with(&leaf([0, 2, 2, 2]), None, Conv2dOptions::default(), kernel).unwrap();
            let grads = y.sum_all().unwrap().backward().unwrap();
            assert_eq!(grads.get(&x).unwrap().to_vec().unwrap(), [0.0; 8]);
            // Only padding.
            let padded = Conv2dOptions { padding: [1, 1], ..Conv2dOptions::default() };
            let y = leaf([1, 1, 0, 2]).conv2d_with(&leaf([3, 1, 2, 2]), Some(&bias), padded, kernel).unwrap();
            assert_eq!(y.to_vec().unwrap(), [1.0; 9]);
        }
    }
}

/// The input gradient of the first layer is never computed.
#[test]
fn only_what_is_needed_is_computed() {
    let tested = device();
    // Its own device, since other tests would change the counts.
    let device = match tested.is_gpu() {
        true => Device::open_with(tested.id(), &GpuOptions::default()).unwrap(),
        false => Device::cpu_with_budget(1 << 30),
    };
    let ran = |device: &Device| device.counts().kernels + device.counts().cpu_twins;
    let x = Tensor::ones([2, 3, 4, 4], &device).unwrap();
    let w = Tensor::ones([2, 3, 3, 3], &device).unwrap();
    let steps = |x: &Tensor, w: &Tensor| {
        let y = x.conv2d(w, None, Conv2dOptions::default()).unwrap();
        let dy = Tensor::ones(y.shape(), &device).unwrap();
        let before = ran(&device);
        y.backward_from(&dy).unwrap();
        ran(&device) - before
    };
    let (leaf_x, leaf_w) = (x.requires_grad().unwrap(), w.requires_grad().unwrap());
    let both = steps(&leaf_x, &leaf_w);
    let weight = steps(&x, &leaf_w);
    assert_eq!(steps(&leaf_x, &w), 1);
    assert_eq!(both, weight + 1);
}

/// Two-dimensional grids, because a dimension holds few workgroups.
#[test]
fn grids_of_two_dimensions_cover_all() {
    let tested = device();
    if !tested.is_gpu() {
        return; // the CPU has no grids
    }
    let options = GpuOptions { max_workgroups: Some(20), ..GpuOptions::default() };
    let device = Device::open_with(tested.id(), &options).unwrap();
    // Whole numbers, so that sums are exact.
    let whole = |shape: &[usize], seed| Array::random(shape, seed, -3.0, 3.0).map(f64::round);
    let run = |device: &Device, kernel: Conv2dKernel| {
        let [x, w] = [whole(&[3, 2, 17, 33], 1), whole(&[9, 2, 3, 2], 2)]
            .map(|t| t.to_tensor(device).requires_grad().unwrap());
        let y = x.conv2d_with(&w, None, Conv2dOptions::default(), kernel).unwrap();
        let grads = y.backward_from(&whole(&y.shape(), 3).to_tensor(device)).unwrap();
        [&y, grads.get(&x).unwrap(), grads.get(&w).unwrap()].map(|t| t.to_vec().unwrap())
    };
    for kernel in KERNELS {
        assert!(run(&device, kernel) == run(&Device::cpu(), kernel), "{kernel:?}");
    }
}

/// The order of the CPU's sums does not depend on the number of threads.
#[test]
fn threads_do_not_change_the_bits() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let random =
                |shape: [usize; 4], seed| Array::random(shape, seed, -1.0, 1.0).to_tensor(&Device::cpu());
            let x = random([37, 3, 19, 23], 1).requires_grad().unwrap();
            let w = random([16, 3, 3, 3], 2).requires_grad().unwrap();
            let y = x.conv2d(&w, None, Conv2dOptions::default()).unwrap();
            let grads = y.square().unwrap().sum_all().unwrap().backward().unwrap();
            [&y, grads.get(&x).unwrap(), grads.get(&w).unwrap()]
                .map(|t| t.to_vec().unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>())
        })
    };
    let one = run(1);
    assert!(run(2) == one && run(5) == one);
}

#[test]
fn errors_name_the_op_and_the_shapes() {
    let device = device();
    let t = |shape: &[usize]| Tensor::zeros(shape, &device).unwrap();
    let plain = Conv2dOptions::default();
    let message = |r: gristmill::Result<Tensor>| match r {
        Err(error @ (Error::Shape { .. } | Error::Argument { .. })) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let conv = |x: &[usize], w: &[usize], options| message(t(x).conv2d(&t(w), None, options));
    let fits = [1, 2, 5, 5];
    assert!(
        conv(&[2, 5, 5], &[3, 2, 3, 3], plain).starts_with("conv2d: input [2, 5, 5] and weight [3, 2, 3, 3]")
    );
    assert!(conv(&fits, &[3, 2, 3], plain).contains("wants [n, c, h, w]"));
    assert!(conv(&fits, &[3, 3, 3, 3], plain).contains("channels, weight [3, 3, 3, 3] takes 3"));
    let two = Conv2dOptions { groups: 2, ..plain };
    assert!(
        conv(&fits, &[3, 1, 3, 3], two).starts_with("conv2d: input [1, 2, 5, 5] and weight [3, 1, 3, 3]")
    );
    assert!(conv(&fits, &[2, 2, 3, 3], two).contains("2 groups"));
    assert!(conv(&fits, &[3, 2, 6, 3], plain).contains("does not fit"));
    assert!(
        conv(&fits, &[3, 2, 3, 3], Conv2dOptions { dilation: [1, 3], ..plain }).contains("dilation [1, 3]")
    );
    assert!(conv(&fits, &[3, 2, 0, 3], plain).contains("does not fit"));
    assert!(conv(&[1, 2, 0, 5], &[3, 2, 1, 1], plain).contains("does not fit"));
    for zero in [
        Conv2dOptions { stride: [0, 1], ..plain },
        Conv2dOptions { dilation: [1, 0], ..plain },
        Conv2dOptions { groups: 0, ..plain },
    ] {
        assert!(conv(&fits, &[3, 2, 3, 3], zero).contains("must be positive"));
    }
    let vast = Conv2dOptions { padding: [0, usize::MAX / 2], ..plain };
    assert!(conv(&fits, &[3, 2, 3, 3], vast).starts_with("conv2d: "));
    assert!(
        conv(&fits, &[3, 2, 3, 3], Conv2dOptions { dilation: [usize::MAX; 2], ..plain })
            .contains("does not fit")
    );
    let bias = message(t(&fits).conv2d(&t(&[3, 2, 3, 3]), Some(&t(&[2])), plain));
    assert!(bias.starts_with("conv2d: a bias of shape [2]"), "{bias}");
    let ids = Tensor::from_ids(&[0; 50], fits, &device).unwrap();
    assert!(message(ids.conv2d(&t(&[3, 2, 3, 3]), None, plain)).contains("u32"));
    if device.is_gpu() {
        let wide = conv(&[1, 1, 1, 70_000], &[1, 1, 1, 70_000], plain);
        assert!(wide.starts_with("conv2d: a kernel of 70000 columns"), "{wide}");
        let other = t(&fits).conv2d(&Tensor::zeros([3, 2, 3, 3], &Device::cpu()).unwrap(), None, plain);
        assert!(matches!(other, Err(Error::MixedDevices { op: "conv2d", .. })));
    }
}
