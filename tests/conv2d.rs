//! Convolutions: every kernel of the ladder against f64, epilogues, gradients, long sums, special values.

mod common;

use common::*;
use gristmill::gpu::GpuOptions;
use gristmill::{Activation, Conv2dKernel, Conv2dOptions, Device, Error, Tensor};
use proptest::prelude::*;

// Auto is the subgroup kernel on the software adapters that have subgroups.
const KERNELS: [Conv2dKernel; 3] = [Conv2dKernel::Auto, Conv2dKernel::Naive, Conv2dKernel::Registers];

/// The kernels for the tests that SwiftShader takes minutes for: there the small one. The others meet it in the properties.
fn ladder(device: &Device) -> &'static [Conv2dKernel] {
    if device.id().contains("swiftshader") { &KERNELS[1..2] } else { &KERNELS }
}

/// A convolution's shapes and options.
#[derive(Debug, Clone)]
struct Case {
    x: [usize; 4],
    weight: [usize; 4],
    options: Conv2dOptions,
}

impl Case {
    /// The output's shape; `None` where the kernel does not fit.
    fn out(&self) -> Option<[usize; 4]> {
        let o = &self.options;
        let side = |axis: usize| {
            let reach = (self.weight[axis + 2] - 1) * o.dilation[axis] + 1;
            let room = (self.x[axis + 2] + 2 * o.padding[axis]).checked_sub(reach)?;
            Some(room / o.stride[axis] + 1)
        };
        Some([self.x[0], self.weight[0], side(0)?, side(1)?])
    }

    fn macs(&self) -> usize {
        self.out().map_or(0, |out| out.iter().product::<usize>() * self.weight[1..].iter().product::<usize>())
    }

    /// Calls `f` with the places in x, the weight and y of every product that is summed.
    fn products(&self, mut f: impl FnMut(usize, usize, usize)) {
        let (o, out) = (&self.options, self.out().unwrap());
        let [_, depth, kh, kw] = self.weight;
        for at in 0..out.iter().product() {
            let [n, channel, oy, ox] = unravel(at, &out)[..] else { unreachable!() };
            let group = channel / (self.weight[0] / o.groups);
            for tap in 0..depth * kh * kw {
                let [c, ky, kx] = unravel(tap, &[depth, kh, kw])[..] else { unreachable!() };
                let place = |axis: usize, out: usize, tap: usize| {
                    let at = (out * o.stride[axis] + tap * o.dilation[axis]).checked_sub(o.padding[axis])?;
                    (at < self.x[axis + 2]).then_some(at)
                };
                if let (Some(iy), Some(ix)) = (place(0, oy, ky), place(1, ox, kx)) {
                    let from = ravel(&[n, group * depth + c, iy, ix], &self.x);
                    f(from, channel * depth * kh * kw + tap, at);
                }
            }
        }
    }

    fn sum(&self, x: &Array, w: &Array, bias: Option<&Array>, f: impl Fn(f64) -> f64) -> Array {
        let out = self.out().unwrap();
        let mut y = Array::from_fn(out, |at| bias.map_or(0.0, |bias| f(bias.data[at[1]])));
        self.products(|from, weight, to| y.data[to] += f(x.data[from] * w.data[weight]));
        y
    }

    /// The sum, and for its bound the sum of the absolute values.
    fn reference(&self, x: &Array, w: &Array, bias: Option<&Array>) -> (Array, Array) {
        (self.sum(x, w, bias, |v| v), self.sum(x, w, bias, f64::abs))
    }

    /// The gradients with regard to x and the weight.
    fn gradients(&self, x: &Array, w: &Array, dy: &Array) -> (Array, Array) {
        let (mut dx, mut dw) = (x.map(|_| 0.0), w.map(|_| 0.0));
        self.products(|from, weight, to| {
            dx.data[from] += w.data[weight] * dy.data[to];
            dw.data[weight] += x.data[from] * dy.data[to];
        });
        (dx, dw)
    }

    /// Products in the longest sum of y.
    fn depth(&self) -> usize {
        self.weight[1..].iter().product()
    }
}

fn apply(activation: Activation, y: f64) -> f64 {
    match activation {
        Activation::None => y,
        Activation::Relu => y.max(0.0),
        Activation::Sigmoid => 1.0 / (1.0 + (-y).exp()),
        Activation::Tanh => y.tanh(),
    }
}

const ACTIVATIONS: [Activation; 4] =
    [Activation::None, Activation::Relu, Activation::Sigmoid, Activation::Tanh];

/// What an activation adds to an error of `err`: none is steeper than 1. sigmoid's exponential errs by (3 + 2|y|) ULP, its
/// quotient by 2.5, the sum by half; tanh by 1e-5 in WGSL's table.
fn after(activation: Activation, y: f64, err: f64) -> f64 {
    match activation {
        Activation::None | Activation::Relu => err,
        Activation::Sigmoid => err / 4.0 + (6.0 + 2.0 * y.abs()) * 2.0 * EPS,
        Activation::Tanh => err + 1e-5,
    }
}

/// A sum of k products and a bias, in any order, errs by at most k + 1 roundings of each partial sum.
fn bound(k: usize, magnitude: f64) -> f64 {
    (k as f64 + 2.0) * EPS * magnitude * 1.0001
}

/// Whole numbers, of which sums are exact.
fn whole(shape: impl Into<Vec<usize>>, seed: u64) -> Array {
    Array::random(shape, seed, -3.0, 3.0).map(f64::round)
}

/// Two numbers below `most` and at least `least`.
fn pair(least: usize, most: usize) -> impl Strategy<Value = [usize; 2]> {
    [least..most, least..most]
}

/// Cases of at most `macs` multiply-adds, around the tiles of 8 and 16 channels and of 8, 32 and 64 pixels, with at most
/// `rows` output channels a group.
fn case(macs: usize, rows: &'static [usize]) -> impl Strategy<Value = Case> {
    let sides = [
        prop_oneof![1 => Just(0usize), 6 => 1usize..9, 2 => prop::sample::select(vec![13usize, 16, 17])],
        prop_oneof![1 => Just(0usize), 6 => 1usize..9, 2 => prop::sample::select(vec![31usize, 32, 33])],
    ];
    let channels = (1usize..4, prop::sample::select(rows), prop::sample::select(vec![0usize, 1, 1, 2, 3, 5]));
    let slide = (pair(1, 4), pair(0, 4), pair(1, 3), 0usize..4);
    (prop::sample::select(vec![0usize, 1, 1, 2, 3]), channels, sides, pair(1, 6), slide)
        .prop_map(|(n, (groups, rows, depth), [h, w], [kh, kw], (stride, padding, dilation, which))| Case {
            x: [n, groups * depth, h, w],
            weight: [groups * rows, depth, kh, kw],
            options: Conv2dOptions { stride, padding, dilation, groups, activation: ACTIVATIONS[which] },
        })
        .prop_filter("does not fit, or too large", move |case| case.out().is_some() && case.macs() <= macs)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_kernel_matches_f64(case in case(100_000, &[1, 2, 7, 8, 9, 15, 16, 17]), seed: u64, ways: (u8, u8), bias: bool) {
        let (x, w) = (Array::random(case.x, seed, -1.0, 1.0), Array::random(case.weight, seed ^ 1, -1.0, 1.0));
        let bias = bias.then(|| Array::random([case.weight[0]], seed ^ 2, -1.0, 1.0));
        let (sum, size) = case.reference(&x, &w, bias.as_ref());
        let activation = case.options.activation;
        let want = sum.map(|y| apply(activation, y));
        for device in devices() {
            let (x, w) = (laid_out(&x, ways.0, &device), laid_out(&w, ways.1, &device));
            let bias = bias.as_ref().map(|bias| laid_out(bias, ways.0, &device));
            for kernel in KERNELS {
                let got = x.conv2d_with(&w, bias.as_ref(), case.options, kernel).unwrap();
                assert_within(&format!("{kernel:?}"), &got, &want, |at| {
                    after(activation, sum.data[at], bound(case.depth(), size.data[at]))
                });
            }
        }
    }

    /// Sums of whole numbers are exact, so a single term too many or too few shows.
    #[test]
    fn whole_numbers_are_exact(case in case(100_000, &[1, 3, 8, 9, 17]), seed: u64, ways: (u8, u8)) {
        let options = Conv2dOptions { activation: Activation::None, ..case.options };
        let (x, w, b) = (whole(case.x, seed), whole(case.weight, seed ^ 1), whole([case.weight[0]], seed ^ 2));
        let want = case.reference(&x, &w, Some(&b)).0;
        let dy = whole(want.shape.clone(), seed ^ 3);
        let (dx, dw) = case.gradients(&x, &w, &dy);
        let mut db = b.map(|_| 0.0);
        dy.data.iter().enumerate().for_each(|(at, dy)| db.data[unravel(at, &want.shape)[1]] += dy);
        for device in devices() {
            for kernel in KERNELS {
                let [x, w, b] = [(&x, ways.0), (&w, ways.1), (&b, 0)]
                    .map(|(t, way)| laid_out(t, way, &device).requires_grad().unwrap());
                let y = x.conv2d_with(&w, Some(&b), options, kernel).unwrap();
                assert_within(&format!("{kernel:?}"), &y, &want, |_| 0.0);
                let grads = y.backward_from(&laid_out(&dy, ways.0, &device)).unwrap();
                for (what, leaf, want) in [("dx", &x, &dx), ("dw", &w, &dw), ("db", &b, &db)] {
                    assert_within(&format!("{kernel:?} {what}"), grads.get(leaf).unwrap(), want, |_| 0.0);
                }
            }
        }
    }

    #[test]
    fn gradients_match_differences(case in case(400, &[1, 2, 3]), seed: u64, naive: bool) {
        // Differences take a pass an element.
        let elements: usize = case.x.iter().product::<usize>() + case.weight.iter().product::<usize>();
        prop_assume!(elements <= 250);
        let kernel = if naive { Conv2dKernel::Naive } else { Conv2dKernel::Auto };
        let activation = case.options.activation;
        // Multiples of 1/8, and of 1/64 and a half of that: no sum is nearer to relu's corner than 1/128.
        let eighths = |shape: &[usize], seed: u64| Array::random(shape, seed, -1.0, 1.0).map(|v| (v * 8.0).round() / 8.0);
        let x = eighths(&case.x, seed);
        let w = eighths(&case.weight, seed ^ 1);
        let b = eighths(&[case.weight[0]], seed ^ 2).map(|v| v + 1.0 / 128.0);
        // A gradient sums at most as many products as there are multiply-adds (the bias's, as many terms as outputs), each
        // below 1 and off by a few roundings; tanh
        // and sigmoid are off as in `after`, and their slopes with them.
        let outputs: usize = case.out().map_or(0, |out| out.iter().product());
        let terms = (case.macs() + outputs) as f64 + 1.0;
        let slope = match activation {
            Activation::None | Activation::Relu => 0.0,
            // |y| is at most the longest sum.
            _ => 2.0 * after(activation, case.depth() as f64 + 2.0, bound(case.depth(), case.depth() as f64 + 2.0)),
        };
        let slack = terms * ((terms + 4.0) * EPS + slope);
        check_gradients("conv2d", &[x, w, b],
            |t| t[0].conv2d_with(&t[1], Some(&t[2]), case.options, kernel),
            |t| case.sum(&t[0], &t[1], Some(&t[2]), |v| v).map(|y| apply(activation, y)),
            slack);
    }
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
            // Only the lower two pixels pass relu.
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

/// PyTorch 1.13, in f64, of values that f32 holds exactly:
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

/// A NaN at one pixel reaches every output whose window has it, and no other; so for the input's gradient. That of the
/// weight has it wherever the output's gradient meets x, and at most in the other weights of that channel, whose taps
/// meet the zeros of the padding.
#[test]
fn nan_reaches_what_it_touches_and_no_more() {
    for (stride, padding, dilation, groups) in [([1, 1], [1, 2], [1, 1], 1), ([2, 3], [2, 0], [2, 1], 2)] {
        let options = Conv2dOptions { stride, padding, dilation, groups, activation: Activation::Relu };
        let case = Case { x: [2, 4, 7, 8], weight: [6, 4 / groups, 3, 3], options };
        let out = case.out().unwrap();
        for at in [0, 7, 2 * 56 + 3 * 8 + 4, 4 * 56 - 1, 8 * 56 - 1] {
            let mut x = Array::from_fn(case.x, |_| 1.0);
            x.data[at] = f64::NAN;
            let w = Array::from_fn(case.weight, |_| 1.0);
            let mut nan_y = vec![false; out.iter().product()];
            case.products(|from, _, to| nan_y[to] |= from == at);
            // The same place in the output's gradient, as far as there is one.
            let bad = at % nan_y.len();
            let (mut nan_x, mut nan_w) = (vec![false; x.numel()], vec![false; w.numel()]);
            case.products(|from, weight, to| {
                nan_x[from] |= to == bad;
                nan_w[weight] |= to == bad;
            });
            let mut dy = Array::from_fn(out, |_| 1.0);
            dy.data[bad] = f64::NAN;
            for device in devices() {
                for &kernel in ladder(&device) {
                    let what = format!("{kernel:?} on {}, NaN at {at}, {options:?}", device.id());
                    let is_nan =
                        |t: &Tensor| t.to_vec().unwrap().iter().map(|v| v.is_nan()).collect::<Vec<_>>();
                    let (x, w) = (x.to_tensor(&device), w.to_tensor(&device));
                    let y = x.conv2d_with(&w, None, options, kernel).unwrap();
                    assert_eq!(is_nan(&y), nan_y, "{what}");
                    let x = Tensor::ones(case.x, &device).unwrap().requires_grad().unwrap();
                    let w = w.requires_grad().unwrap();
                    let y = x.conv2d_with(&w, None, options, kernel).unwrap();
                    let grads = y.backward_from(&dy.to_tensor(&device)).unwrap();
                    assert_eq!(is_nan(grads.get(&x).unwrap()), nan_x, "{what}, dx");
                    let channel = |weight: usize| weight / case.depth();
                    for (weight, is_nan) in is_nan(grads.get(&w).unwrap()).into_iter().enumerate() {
                        let may = channel(weight) == bad / (out[2] * out[3]) % out[1];
                        assert!(if nan_w[weight] { is_nan } else { may || !is_nan }, "{what}, dw");
                    }
                }
            }
        }
    }
}

/// Sums past the 65,535 iterations at which some adapters end a loop; whole numbers make any lost term show.
#[test]
fn long_sums_are_whole() {
    for device in devices() {
        for &kernel in ladder(&device) {
            let what = format!("{kernel:?} on {}", device.id());
            let conv = |x: [usize; 4], weight: [usize; 4], padding: usize| {
                let x = Tensor::ones(x, &device).unwrap().requires_grad().unwrap();
                let w = Tensor::ones(weight, &device).unwrap().requires_grad().unwrap();
                let b = Tensor::full([weight[0]], 5.0, &device).unwrap();
                let options = Conv2dOptions { padding: [padding; 2], ..Conv2dOptions::default() };
                let y = x.conv2d_with(&w, Some(&b), options, kernel).unwrap();
                let grads = y.backward_from(&Tensor::ones(y.shape(), &device).unwrap()).unwrap();
                [&y, grads.get(&x).unwrap(), grads.get(&w).unwrap()].map(|t| t.to_vec().unwrap())
            };
            // Pixels: the gradient with regard to the weight.
            let [.., dw] = conv([2, 1, 211, 191], [1, 1, 3, 3], 1);
            let sides = |n: usize| [n - 1, n, n - 1];
            let want: Vec<f32> =
                sides(211).iter().flat_map(|h| sides(191).map(|w| (2 * h * w) as f32)).collect();
            assert_eq!(dw, want, "{what}");
            // Input channels, output channels, taps.
            assert_eq!(conv([1, 70_001, 1, 1], [2, 70_001, 1, 1], 0)[0], [70_006.0; 2], "{what}");
            assert_eq!(conv([1, 2, 1, 1], [70_001, 2, 1, 1], 0)[1], [70_001.0; 2], "{what}");
            assert_eq!(conv([1, 1, 300, 250], [1, 1, 300, 250], 0)[0], [75_005.0], "{what}");
        }
    }
}

#[test]
fn empty_axes_are_ordinary() {
    for device in devices() {
        let leaf = |shape: [usize; 4]| Tensor::ones(shape, &device).unwrap().requires_grad().unwrap();
        for kernel in KERNELS {
            // No images: the weight's gradient is zero.
            let (x, w) = (leaf([0, 2, 5, 5]), leaf([3, 2, 3, 3]));
            let bias = Tensor::ones([3], &device).unwrap().requires_grad().unwrap();
            let y = x.conv2d_with(&w, Some(&bias), Conv2dOptions::default(), kernel).unwrap();
            assert_eq!(y.shape(), [0, 3, 3, 3]);
            let grads = y.sum_all().unwrap().backward().unwrap();
            assert_eq!(grads.get(&w).unwrap().to_vec().unwrap(), [0.0; 54]);
            assert_eq!(grads.get(&bias).unwrap().to_vec().unwrap(), [0.0; 3]);
            assert_eq!(grads.get(&x).unwrap().shape(), [0, 2, 5, 5]);
            // No input channels: the bias alone. No output channels: the input's gradient is zero.
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
            // Nothing but padding.
            let padded = Conv2dOptions { padding: [1, 1], ..Conv2dOptions::default() };
            let y = leaf([1, 1, 0, 2]).conv2d_with(&leaf([3, 1, 2, 2]), Some(&bias), padded, kernel).unwrap();
            assert_eq!(y.to_vec().unwrap(), [1.0; 9]);
        }
    }
}

/// The first layer's input gradient is never computed.
#[test]
fn only_what_is_needed_is_computed() {
    let tested = device();
    // Devices of its own, whose counts no other test changes.
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

/// A grid that is folded because a dimension holds few workgroups.
#[test]
fn folded_grids_cover_all() {
    let tested = device();
    if !tested.is_gpu() {
        return; // the CPU has no grids
    }
    let options = GpuOptions { max_workgroups: Some(20), ..GpuOptions::default() };
    let device = Device::open_with(tested.id(), &options).unwrap();
    let case = Case { x: [3, 2, 17, 33], weight: [9, 2, 3, 2], options: Conv2dOptions::default() };
    let (x, w) = (whole(case.x, 1), whole(case.weight, 2));
    let (want, _) = case.reference(&x, &w, None);
    let dy = whole(want.shape.clone(), 3);
    let (dx, dw) = case.gradients(&x, &w, &dy);
    for kernel in KERNELS {
        let (x, w) =
            (x.to_tensor(&device).requires_grad().unwrap(), w.to_tensor(&device).requires_grad().unwrap());
        let y = x.conv2d_with(&w, None, case.options, kernel).unwrap();
        let grads = y.backward_from(&dy.to_tensor(&device)).unwrap();
        for (got, want) in [(&y, &want), (grads.get(&x).unwrap(), &dx), (grads.get(&w).unwrap(), &dw)] {
            assert_within(&format!("{kernel:?}"), got, want, |_| 0.0);
        }
    }
}

/// The CPU's sums have one order, however many threads there are.
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
    assert!(conv(&fits, &[3, 3, 3, 3], plain).contains("do not divide into 1 groups"));
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
