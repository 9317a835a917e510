//! Transposed and one-dimensional convolutions: values worked by hand and from PyTorch, long sums, edge cases, errors.
//! The table (tests/table.rs) compares them with f64.

mod common;

use common::*;
use gristmill::{
    Activation, Conv1dOptions, Conv2dKernel, Conv2dOptions, ConvTranspose1dOptions, ConvTranspose2dOptions,
    Device, Error, Tensor,
};

const KERNELS: [Conv2dKernel; 3] = [Conv2dKernel::Auto, Conv2dKernel::Naive, Conv2dKernel::Registers];

fn fill(f: fn(usize) -> f32, shape: &[usize], device: &Device) -> Tensor {
    let data: Vec<f32> = (0..shape.iter().product()).map(f).collect();
    Tensor::from_slice(&data, shape, device).unwrap()
}

#[test]
fn a_transposed_convolution_worked_by_hand() {
    for device in devices() {
        let t = |data: &[f32], shape: &[usize]| {
            Tensor::from_slice(data, shape, &device).unwrap().requires_grad().unwrap()
        };
        let x = t(&[1., 2., 3., 4.], &[1, 1, 2, 2]);
        let w = t(&[1., 10., 100., 1000.], &[1, 1, 2, 2]);
        let b = t(&[-50.], &[1]);
        for kernel in KERNELS {
            let plain = ConvTranspose2dOptions::default();
            let y = x.conv_transpose2d_with(&w, None, plain, kernel).unwrap();
            // Four copies of the kernel, shifted by one.
            assert_eq!(y.to_vec().unwrap(), [1., 12., 20., 103., 1234., 2040., 300., 3400., 4000.]);
            let far = ConvTranspose2dOptions { stride: [2, 2], output_padding: [0, 1], ..plain };
            let y = x.conv_transpose2d_with(&w, None, far, kernel).unwrap();
            assert_eq!(y.shape(), [1, 1, 4, 5]);
            assert_eq!(
                y.to_vec().unwrap(),
                [
                    1., 10., 2., 20., 0., 100., 1000., 200., 2000., 0., 3., 30., 4., 40., 0., 300., 3000.,
                    400., 4000., 0.
                ]
            );
            // Only the center, through relu.
            let cut = ConvTranspose2dOptions { padding: [1, 1], activation: Activation::Relu, ..plain };
            let y = x.conv_transpose2d_with(&w, Some(&b), cut, kernel).unwrap();
            assert_eq!(y.to_vec().unwrap(), [1184.]);
            let grads = y.backward_from(&Tensor::full([1, 1, 1, 1], 2.0, &device).unwrap()).unwrap();
            assert_eq!(grads.get(&x).unwrap().to_vec().unwrap(), [2000., 200., 20., 2.]);
            assert_eq!(grads.get(&w).unwrap().to_vec().unwrap(), [8., 6., 4., 2.]);
            assert_eq!(grads.get(&b).unwrap().to_vec().unwrap(), [2.]);
        }
    }
}

/// PyTorch 1.13, in f64, with values that f32 holds exactly; `fill` as in tests/conv2d.rs:
///
/// ```python
/// x = fill(lambda i: (i * 7 % 11 - 5) / 4, (2, 4, 3, 2)); w = fill(lambda i: (i * 5 % 7 - 3) / 2, (4, 3, 2, 3))
/// y = F.conv_transpose2d(x, w, torch.tensor([0.5, -1, 0.25, 2, -0.75, 1]), (2, 1), (1, 0), (1, 1), 2, (1, 2))
/// y.backward(fill(lambda i: i * 3 % 11 - 5, y.shape))
/// ```
#[test]
fn pytorch_agrees_on_stride_padding_output_padding_dilation_and_groups() {
    let options = ConvTranspose2dOptions {
        stride: [2, 1],
        padding: [1, 0],
        output_padding: [1, 1], // less than the dilation, but not less than the stride
        dilation: [1, 2],
        groups: 2,
        activation: Activation::None,
    };
    for device in devices() {
        let leaf = |t: Tensor| t.requires_grad().unwrap();
        let x = leaf(fill(|i| ((i * 7 % 11) as f32 - 5.0) / 4.0, &[2, 4, 3, 2], &device));
        let w = leaf(fill(|i| ((i * 5 % 7) as f32 - 3.0) / 2.0, &[4, 3, 2, 3], &device));
        let b = leaf(Tensor::from_slice(&[0.5, -1.0, 0.25, 2.0, -0.75, 1.0], [6], &device).unwrap());
        for kernel in KERNELS {
            let y = x.conv_transpose2d_with(&w, Some(&b), options, kernel).unwrap();
            assert_eq!(y.shape(), [2, 6, 5, 7]);
            let values = y.to_vec().unwrap();
            // y[0, 1] and y[1, 4].
            assert_eq!(
                values[35..70],
                [
                    -1.5, -1.0, -1.25, -1.5, -1.875, -0.25, -1.0, 0.25, -2.375, -1.75, -1.75, -2.0, 0.625,
                    -1.0, -0.5, -1.375, 1.0, -3.375, -2.75, 1.625, -1.0, -0.875, 0.625, -1.75, -1.75, -0.875,
                    -2.375, -1.0, -0.875, -0.375, -0.875, 1.625, -0.875, -3.375, -1.0
                ]
            );
            assert_eq!(
                values[350..385],
                [
                    -3.125, -0.625, 1.875, -0.625, -0.125, -0.625, -0.75, -1.5, -1.5, -2.125, 0.5, -0.125,
                    -1.0, -0.75, 1.875, -2.5, -3.125, 1.25, -1.125, -0.25, -0.75, -1.5, 2.625, -1.0, -1.125,
                    -0.5, -1.375, -0.75, 0.0, -1.625, -1.25, -1.0, -0.75, -1.25, -0.75
                ]
            );
            let dy = fill(|i| (i * 3 % 11) as f32 - 5.0, &[2, 6, 5, 7], &device);
            let grads = y.backward_from(&dy).unwrap();
            let grad = |leaf: &Tensor| grads.get(leaf).unwrap().to_vec().unwrap();
            // dx[1, 2], dw[3], db.
            assert_eq!(grad(&x)[36..42], [-4.0, -11.5, 15.5, -29.5, 23.5, 6.0]);
            assert_eq!(
                grad(&w)[54..72],
                [
                    0.25, -6.75, -13.75, 0.0, -7.25, 2.0, -6.75, -13.75, 6.75, -7.25, 2.0, -8.0, -13.75,
                    6.75, 2.5, 2.0, -8.0, -12.5
                ]
            );
            assert_eq!(grad(&b), [-8.0, 5.0, -4.0, 9.0, 0.0, -9.0]);
        }
    }
}

/// As above: `F.conv1d(x, w, b, 2, 2, 2, 2)` of `(2, 4, 7)` by `(6, 2, 3)`, and
/// `F.conv_transpose1d(x, w, None, 3, 1, 2, 2, 2)` of `(1, 2, 4)` by `(2, 1, 3)`; `dy` is `i * 3 % 5 - 2`.
#[test]
fn pytorch_agrees_in_one_dimension() {
    for device in devices() {
        let leaf = |t: Tensor| t.requires_grad().unwrap();
        let x = |shape: &[usize]| leaf(fill(|i| ((i * 7 % 11) as f32 - 5.0) / 4.0, shape, &device));
        let w = |shape: &[usize]| leaf(fill(|i| ((i * 5 % 7) as f32 - 3.0) / 2.0, shape, &device));
        let dy = |y: &Tensor| fill(|i| (i * 3 % 5) as f32 - 2.0, &y.shape(), &device);

        let (a, k) = (x(&[2, 4, 7]), w(&[6, 2, 3]));
        let b = leaf(Tensor::from_slice(&[0.5, -1.0, 0.25, 2.0, -0.75, 1.0], [6], &device).unwrap());
        let options =
            Conv1dOptions { stride: 2, padding: 2, dilation: 2, groups: 2, activation: Activation::None };
        let y = a.conv1d(&k, Some(&b), options).unwrap();
        assert_eq!(y.shape(), [2, 6, 4]);
        assert_eq!(
            y.to_vec().unwrap()[..24],
            [
                -0.375, 2.375, -1.375, 1.625, 1.5, -2.0, 0.375, -2.125, 0.875, 0.75, -0.375, -1.375, 2.75,
                4.375, 1.0, -0.25, 1.625, -2.5, -2.5, 0.875, -2.0, -0.5, 2.875, 1.25
            ]
        );
        let grads = y.backward_from(&dy(&y)).unwrap();
        let grad = |leaf: &Tensor| grads.get(leaf).unwrap().to_vec().unwrap();
        assert_eq!(
            grad(&a)[28..],
            [
                1.5, 0.0, 0.0, 0.0, 1.0, 0.0, -3.5, 2.0, 0.0, 0.0, 0.0, -0.5, 0.0, -5.0, -5.0, 0.0, 5.5, 0.0,
                -5.5, 0.0, 4.0, 4.0, 0.0, -5.5, 0.0, 5.5, 0.0, -5.0
            ]
        );
        assert_eq!(grads.get(&k).unwrap().shape(), [6, 2, 3]);
        assert_eq!(grad(&k)[24..30], [-1.75, 0.25, 2.5, 2.0, 0.0, -0.25]);
        assert_eq!(grad(&b), [-2.0, -1.0, 0.0, 1.0, 2.0, -2.0]);

        let (a, k) = (x(&[1, 2, 4]), w(&[2, 1, 3]));
        let options = ConvTranspose1dOptions {
            stride: 3,
            padding: 1,
            output_padding: 2,
            dilation: 2,
            groups: 2,
            activation: Activation::None,
        };
        let y = a.conv_transpose1d(&k, None, options).unwrap();
        assert_eq!(y.shape(), [1, 2, 14]);
        assert_eq!(
            y.to_vec().unwrap(),
            [
                0.0, -1.25, -0.75, 0.0, 0.5, 0.75, 0.0, -0.5, -1.875, 0.0, 1.25, 0.0, 0.0, 0.0, 0.0, 0.375,
                0.75, 0.125, -1.125, -1.0, -0.375, 1.5, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0
            ]
        );
        let grads = y.backward_from(&dy(&y)).unwrap();
        let grad = |leaf: &Tensor| grads.get(leaf).unwrap().to_vec().unwrap();
        assert_eq!(grad(&a), [1.0, 1.5, 2.0, -5.0, -3.5, 1.0, 2.5, 1.5]);
        assert_eq!(grad(&k), [3.0, -3.25, -3.25, -0.75, -1.0, 3.25]);
    }
}

/// The gradient of a convolution with respect to x equals the transposed convolution of the output's gradient, bitwise.
#[test]
fn conv_and_conv_transpose_are_each_others_gradient() {
    for device in devices() {
        let x = Array::random([2, 3, 9, 8], 1, -1.0, 1.0).to_tensor(&device).requires_grad().unwrap();
        let w = Array::random([4, 3, 3, 2], 2, -1.0, 1.0).to_tensor(&device);
        let options = Conv2dOptions { stride: [2, 3], padding: [1, 0], ..Conv2dOptions::default() };
        let y = x.conv2d(&w, None, options).unwrap();
        let dy = Array::random(y.shape().to_vec(), 3, -1.0, 1.0).to_tensor(&device);
        let dx = y.backward_from(&dy).unwrap().get(&x).unwrap().to_vec().unwrap();
        let back = ConvTranspose2dOptions {
            stride: [2, 3],
            padding: [1, 0],
            output_padding: [0, 0],
            ..ConvTranspose2dOptions::default()
        };
        let dy = dy.requires_grad().unwrap();
        let again = dy.conv_transpose2d(&w, None, back).unwrap();
        assert_eq!(again.shape(), x.shape());
        assert_eq!(again.to_vec().unwrap(), dx);
        let grads = again.backward_from(&x.detach()).unwrap();
        assert_eq!(grads.get(&dy).unwrap().to_vec().unwrap(), y.to_vec().unwrap());
    }
}

/// Sums of more than 65,535 terms, after which some adapters end a loop. With whole numbers any missing term shows.
#[test]
fn long_sums_are_whole() {
    for device in devices() {
        let ones = |shape: [usize; 4]| Tensor::ones(shape, &device).unwrap().requires_grad().unwrap();
        let b = Tensor::full([2], 5.0, &device).unwrap();
        for kernel in KERNELS {
            let run = |x: [usize; 4], w: [usize; 4], bias: Option<&Tensor>| {
                let (x, w) = (ones(x), ones(w));
                let y = x.conv_transpose2d_with(&w, bias, ConvTranspose2dOptions::default(), kernel).unwrap();
                let grads = y.backward_from(&Tensor::ones(y.shape(), &device).unwrap()).unwrap();
                [&y, grads.get(&x).unwrap(), grads.get(&w).unwrap()].map(|t| t.to_vec().unwrap())
            };
            // Input channels, output channels, and pixels.
            assert_eq!(run([1, 70_001, 1, 1], [70_001, 2, 1, 1], Some(&b))[0], [70_006.0; 2]);
            assert_eq!(run([1, 2, 1, 1], [2, 70_001, 1, 1], None)[1], [70_001.0; 2]);
            assert_eq!(run([2, 1, 211, 191], [1, 1, 1, 1], None)[2], [(2 * 211 * 191) as f32]);
            // The taps of the only pixel inside the padding. Skipped on the CPU, which computes the others too and
            // takes long.
            if !device.is_gpu() {
                continue;
            }
            let options = ConvTranspose2dOptions { padding: [299, 249], ..ConvTranspose2dOptions::default() };
            let (x, w) = (ones([1, 1, 300, 250]), ones([1, 2, 300, 250]));
            let y = x.conv_transpose2d_with(&w, Some(&b), options, kernel).unwrap();
            assert_eq!(y.to_vec().unwrap(), [75_005.0; 2]);
        }
    }
}

#[test]
fn empty_axes_are_ordinary() {
    for device in devices() {
        let leaf = |shape: [usize; 4]| Tensor::ones(shape, &device).unwrap().requires_grad().unwrap();
        let b = Tensor::ones([3], &device).unwrap().requires_grad().unwrap();
        for kernel in KERNELS {
            let run = |x: &Tensor, w: &Tensor| {
                x.conv_transpose2d_with(w, Some(&b), ConvTranspose2dOptions::default(), kernel).unwrap()
            };
            // No images.
            let (x, w) = (leaf([0, 2, 4, 4]), leaf([2, 3, 2, 2]));
            let y = run(&x, &w);
            assert_eq!(y.shape(), [0, 3, 5, 5]);
            let grads = y.sum_all().unwrap().backward().unwrap();
            assert_eq!(grads.get(&w).unwrap().to_vec().unwrap(), [0.0; 24]);
            assert_eq!(grads.get(&x).unwrap().shape(), [0, 2, 4, 4]);
            // No input channels: the result is the bias.
            assert_eq!(run(&leaf([1, 0, 1, 1]), &leaf([0, 3, 1, 2])).to_vec().unwrap(), [1.0; 6]);
        }
        // No output channels: the gradient of the input is zero.
        let x = leaf([1, 2, 2, 2]);
        let y = x.conv_transpose2d(&leaf([2, 0, 2, 2]), None, ConvTranspose2dOptions::default()).unwrap();
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&x).unwrap().to_vec().unwrap(), [0.0; 8]);
    }
}

#[test]
fn errors_name_the_op_and_the_shapes() {
    let device = device();
    let t = |shape: &[usize]| Tensor::zeros(shape, &device).unwrap();
    let message = |r: gristmill::Result<Tensor>| match r {
        Err(error @ (Error::Shape { .. } | Error::Argument { .. })) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let plain = ConvTranspose2dOptions::default();
    let back = |x: &[usize], w: &[usize], options| message(t(x).conv_transpose2d(&t(w), None, options));
    let (fits, by) = ([1, 4, 5, 5], [4, 3, 3, 3]);
    assert_eq!(
        back(&[4, 5, 5], &by, plain),
        "conv_transpose2d: input [4, 5, 5] and weight [4, 3, 3, 3]: wants [n, c, h, w] and \
         [c, c_out / groups, kh, kw]"
    );
    assert!(back(&fits, &[3, 4, 3, 3], plain).contains("channels, weight [3, 4, 3, 3] takes 3"));
    assert!(back(&fits, &by, ConvTranspose2dOptions { groups: 3, ..plain }).contains("into 3 groups"));
    for zero in [
        ConvTranspose2dOptions { stride: [0, 1], ..plain },
        ConvTranspose2dOptions { dilation: [1, 0], ..plain },
        ConvTranspose2dOptions { groups: 0, ..plain },
    ] {
        assert!(back(&fits, &by, zero).contains("must be positive"));
    }
    let extra = ConvTranspose2dOptions { stride: [2, 1], output_padding: [1, 1], ..plain };
    assert!(back(&fits, &by, extra).contains("output padding [1, 1] is not below the stride [2, 1]"));
    let cut = ConvTranspose2dOptions { padding: [0, 4], ..plain };
    assert!(back(&fits, &by, cut).contains("padding [0, 4] leaves nothing of input [1, 4, 5, 5]"));
    assert!(back(&[1, 4, 0, 5], &by, plain).contains("an empty plane"));
    assert!(back(&fits, &[4, 3, 0, 3], plain).contains("an empty plane"));
    for vast in [
        ConvTranspose2dOptions { stride: [usize::MAX, 1], ..plain },
        ConvTranspose2dOptions { stride: [1 << 30, 1], ..plain },
        ConvTranspose2dOptions { dilation: [1, usize::MAX], ..plain },
        ConvTranspose2dOptions { dilation: [1, usize::MAX], output_padding: [0, usize::MAX - 1], ..plain },
    ] {
        assert!(back(&fits, &by, vast).contains("larger than a kernel can count"), "{vast:?}");
    }
    assert!(
        back(&fits, &by, ConvTranspose2dOptions { padding: [usize::MAX; 2], ..plain })
            .contains("leaves nothing")
    );
    let bias = message(t(&fits).conv_transpose2d(&t(&by), Some(&t(&[4])), plain));
    assert!(bias.starts_with("conv_transpose2d: a bias of shape [4] for weight [4, 3, 3, 3]"), "{bias}");
    let ids = Tensor::from_ids(&[0; 100], fits, &device).unwrap();
    assert!(message(ids.conv_transpose2d(&t(&by), None, plain)).starts_with("conv_transpose2d: wants f32"));

    let one = Conv1dOptions::default();
    let conv = |x: &[usize], w: &[usize], options| message(t(x).conv1d(&t(w), None, options));
    assert_eq!(
        conv(&[1, 2, 3, 4], &[2, 2, 3], one),
        "conv1d: input [1, 2, 3, 4] and weight [2, 2, 3]: wants [n, c, l] and [c_out, c / groups, k]"
    );
    let wide = Conv1dOptions { dilation: 4, padding: 1, ..one };
    assert_eq!(
        conv(&[1, 2, 6], &[2, 2, 3], wide),
        "conv1d: weight [2, 2, 3] with dilation [4] does not fit in input [1, 2, 6] with padding [1]"
    );
    let zero = message(t(&[1, 2, 6]).conv_transpose1d(
        &t(&[2, 2, 3]),
        None,
        ConvTranspose1dOptions { stride: 0, ..ConvTranspose1dOptions::default() },
    ));
    assert_eq!(zero, "conv_transpose1d: stride [0], dilation [1] and groups 1 must be positive");
}
