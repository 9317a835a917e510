//! Losses: PyTorch's values, values worked by hand, special values, long rows and many elements, errors. The table
//! (`tests/table.rs`) compares every option with f64.

mod common;

use common::*;
use gristmill::gpu::GpuOptions;
use gristmill::nn::{self, Loss, Reduction};
use gristmill::{CrossEntropyOptions, Device, Error, Result, Tensor};

/// Asserts PyTorch's f64 results, printed to nine digits. The table has the derived bounds; a larger difference here
/// means another formula.
fn assert_pytorch(what: &str, got: &Tensor, want: &[f64]) {
    let shape = got.shape().to_vec();
    assert_within(what, got, &Array::new(shape, want.to_vec()), |at| 1e-6 * want[at].abs().max(2.0));
}

fn tensor(data: &[f32], shape: &[usize], device: &Device) -> Tensor {
    Tensor::from_slice(data, shape, device).unwrap()
}

/// From PyTorch 1.13 in f64: `torch.nn.functional.cross_entropy` and its gradient.
#[test]
fn cross_entropy_has_pytorchs_values() {
    #[rustfmt::skip]
    let want = [
        0.030010191, 0.081576157, -0.111586348, -0.296180843, 0.166505910, 0.129674933, 1.0 / 3.0, -1.0 / 3.0, 0.0,
    ];
    for device in devices_and_hardware() {
        let x =
            Tensor::from_slice(&[1.0, 2.0, 3.0, -1.0, 0.5, 0.25, 1e4, 0.0, -1e4], [3, 3], &device).unwrap();
        let x = x.requires_grad().unwrap();
        let targets = Tensor::from_ids(&[2, 0, 1], [3], &device).unwrap();
        let loss = x.cross_entropy(&targets).unwrap();
        let mean = Array::new([], vec![3334.200572716949]);
        // The error of three additions and a division of losses up to 1e4.
        assert_within("cross_entropy", &loss, &mean, |_| 10.0 * EPS * 1e4);
        let grads = loss.backward().unwrap();
        assert_pytorch("cross_entropy", grads.get(&x).unwrap(), &want);
    }
}

/// As in PyTorch 1.13: a target logit of -inf gives an infinite loss; a NaN row makes the mean NaN.
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
    for device in devices_and_hardware() {
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
        assert_pytorch("cross_entropy", grads.get(&x).unwrap(), &[-1.0, 0.5, 0.5]);
    }
}

/// By hand: equal logits have loss ln(classes), for any targets and smoothing. The gradient is (1 - smoothing) / (n
/// classes), minus (1 - smoothing) / n at the targets.
#[test]
fn long_rows_and_many_rows_are_complete() {
    for [n, classes] in [[1, 262_144], [3, 70_001], [16, 70_001], [70_001, 2], [40, 1025], [300, 33]] {
        let ids: Vec<u32> = (0..n).map(|row| ((row * 7919 + 13) % classes) as u32).collect();
        for (device, smoothing) in
            devices_and_hardware().into_iter().flat_map(|d| [(d.clone(), 0.0), (d, 0.25)])
        {
            let grad = Array::from_fn([n, classes], |i| {
                (1.0 - smoothing) * (1.0 / classes as f64 - f64::from(i[1] == ids[i[0]] as usize)) / n as f64
            });
            let what = format!("cross_entropy of {:?}, smoothed by {smoothing}", [n, classes]);
            let options =
                CrossEntropyOptions { label_smoothing: smoothing as f32, ..CrossEntropyOptions::default() };
            let x = Tensor::full([n, classes], 2.5, &device).unwrap().requires_grad().unwrap();
            let targets = Tensor::from_ids(&ids, [n], &device).unwrap();
            let loss = x.cross_entropy_with(&targets, &options).unwrap();
            let cost = (classes as f64).ln();
            // log is within 3 ulp or 2^-21. The mean of equal numbers adds one rounding per sequential addition, at
            // most 8192 or n, and a division. Smoothing adds two products and a sum; the sum of the weights is exact.
            let bound = 2f64.powi(-21) + (16.0 + n.min(8192) as f64) * EPS * cost;
            assert_within(&what, &loss, &Array::new([], vec![cost]), |_| bound);
            let grads = loss.backward().unwrap();
            // Probability, spread and scale are each divided within 2.5 ulp, and subtracted.
            let slack = 16.0 * EPS * (1.0 / classes as f64) / n as f64;
            assert_within(&what, grads.get(&x).unwrap(), &grad, |at| {
                16.0 * EPS * grad.data[at].abs() + slack
            });
        }
    }
}

#[test]
fn cross_entropy_refuses_invalid_arguments() {
    for device in devices_and_hardware() {
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
        // After an error the device works on.
        assert_eq!(logits(&[2, 1]).cross_entropy(&targets(&[0, 0])).unwrap().item().unwrap(), 0.0);
    }
}

/// For some of the ids only the device knows the largest; there the kernel checks them.
#[test]
fn a_class_id_out_of_range_on_the_device_is_an_error_of_what_is_computed_from_it() {
    for device in devices_and_hardware() {
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

            // An id out of range in the part that the view omits is no error.
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
                        for _ in 0..2 {
                            check(loss.item().unwrap_err());
                            check(grads.get(&x).unwrap().to_vec().unwrap_err());
                        }
                        x.to_vec().unwrap();
                    }
                }
                let fine = x.cross_entropy(&computed(&vec![0; n + 1])).unwrap().item().unwrap();
                assert!((f64::from(fine) - (classes as f64).ln()).abs() < 1e-4, "{fine}");
            }
        }
    }
}

/// From PyTorch 1.13 in f64: the loss and the gradient of the logits. Unreduced losses are weighted by 1, -2 and 0.5.
#[test]
fn cross_entropy_options_are_pytorchs() {
    #[rustfmt::skip]
    let logits = [1.0, 2.0, 3.0, -1.0,   0.5, 0.25, -2.0, 0.0,   4.0, 0.0, -4.0, 2.0];
    type Case = (f32, bool, Option<u32>, Reduction, &'static [f64], [f64; 12]);
    #[rustfmt::skip]
    let cases: [Case; 8] = [
        (0.25, false, None, Reduction::Mean, &[1.493911881],
            [0.008815606, 0.059760839, -0.051755659, -0.016820786, -0.135739262, 0.084378035, -0.009744137, 0.061105363, 0.26802045, -0.015542792, -0.020736434, -0.231741225]),
        (0.0, true, None, Reduction::Mean, &[1.622437682],
            [0.019765959, 0.053729448, -0.076170439, 0.002675032, -0.066079754, 0.035070456, 0.003696399, 0.027312899, 0.577707567, 0.010581083, 0.000193799, -0.588482449]),
        (0.25, true, None, Reduction::Mean, &[1.925574361],
            [0.015909946, 0.034346897, -0.011683182, -0.038573661, -0.019916282, 0.02701981, -0.008113266, 0.001009738, 0.504567464, -0.01840911, -0.013717296, -0.472441058]),
        (0.0, false, Some(7), Reduction::Mean, &[1.281469508],
            [0.044473409, 0.120891259, -0.171383489, 0.006018821, 0.0, 0.0, 0.0, 0.0, 0.433280675, 0.007935812, 0.000145349, -0.441361837]),
        (0.25, true, Some(7), Reduction::Mean, &[1.919557948],
            [0.017898689, 0.038640259, -0.013143579, -0.043395369, 0.0, 0.0, 0.0, 0.0, 0.567638397, -0.020710249, -0.015431958, -0.53149619]),
        (0.25, true, Some(7), Reduction::Sum, &[7.678231792],
            [0.071594758, 0.154561035, -0.052574317, -0.173581476, 0.0, 0.0, 0.0, 0.0, 2.270553587, -0.082840997, -0.061727831, -2.12598476]),
        (0.25, true, Some(7), Reduction::None, &[1.422797372, 0.0, 6.25543442],
            [0.071594758, 0.154561035, -0.052574317, -0.173581476, 0.0, 0.0, 0.0, 0.0, 1.135276794, -0.041420498, -0.030863915, -1.06299238]),
        (1.0, false, None, Reduction::Mean, &[2.509536881],
            [-0.053684394, -0.002739161, 0.135744341, -0.079320786, 0.051760738, 0.021878035, -0.072244137, -0.001394637, 0.20552045, -0.078042792, -0.083236434, -0.044241225]),
    ];
    for device in devices_and_hardware() {
        for (label_smoothing, weighted, ignore_index, reduction, want, gradient) in cases {
            let weight = weighted.then(|| tensor(&[0.5, 2.0, 1.0, 3.0], &[4], &device));
            let options = CrossEntropyOptions { label_smoothing, ignore_index, weight, reduction };
            let what = format!("cross_entropy with {options:?}");
            let x = tensor(&logits, &[3, 4], &device).requires_grad().unwrap();
            let targets = Tensor::from_ids(&[2, ignore_index.unwrap_or(0), 3], [3], &device).unwrap();
            let loss = x.cross_entropy_with(&targets, &options).unwrap();
            assert_pytorch(&what, &loss, want);
            let dy = if want.len() == 1 {
                tensor(&[1.0], &[], &device)
            } else {
                tensor(&[1.0, -2.0, 0.5], &[3], &device)
            };
            assert_pytorch(&what, loss.backward_from(&dy).unwrap().get(&x).unwrap(), &gradient);
        }
    }
}

/// Label smoothing, whether there are class weights, the reduction, the losses and the gradient.
type ByProbabilities = (f32, bool, Reduction, &'static [f64], [f64; 6]);

/// torch 2.15, `cross_entropy` of f64 logits and probabilities; the gradient is of the sum of the losses.
#[rustfmt::skip]
const BY_PROBABILITIES: &[ByProbabilities] = &[
    (0.0, false, Reduction::Mean, &[1.6359919530],
        [-0.0123548039, -0.1304437134, 0.1427985173, 0.3592201706, -0.2720816980, -0.0871384726]),
    (0.1, false, Reduction::Mean, &[1.6343252864],
        [-0.0190214706, -0.1321103800, 0.1511318506, 0.3425535039, -0.2512483647, -0.0913051392]),
    (0.1, true, Reduction::Mean, &[2.4899188278],
        [-0.0136166835, -0.2825710757, 0.2961877592, 0.5506018527, -0.5458081814, -0.0047936713]),
    (0.0, true, Reduction::Sum, &[5.0469698518],
        [-0.0159450883, -0.5589317981, 0.5748768863, 1.1674655544, -1.1655155185, -0.0019500359]),
    (0.1, true, Reduction::BatchMean, &[2.4899188278],
        [-0.0136166835, -0.2825710757, 0.2961877592, 0.5506018527, -0.5458081814, -0.0047936713]),
    (0.1, true, Reduction::None, &[2.3961921600, 2.5836454957],
        [-0.0272333670, -0.5651421514, 0.5923755184, 1.1012037054, -1.0916163629, -0.0095873425]),
];

#[test]
fn cross_entropy_against_probabilities_is_pytorch_s() {
    for device in devices() {
        let targets = tensor(&[0.2, 0.3, 0.5, 0.0, 0.75, 0.25], &[2, 3], &device);
        for &(label_smoothing, weighted, reduction, want, gradient) in BY_PROBABILITIES {
            let weight = weighted.then(|| tensor(&[1.0, 2.0, 0.5], &[3], &device));
            let options = CrossEntropyOptions { label_smoothing, weight, reduction, ..Default::default() };
            let what = format!("cross_entropy by probabilities, {options:?}");
            let x = tensor(&[0.5, -1.0, 2.0, 1.5, 0.25, -0.75], &[2, 3], &device).requires_grad().unwrap();
            let loss = x.cross_entropy_with(&targets, &options).unwrap();
            assert_pytorch(&what, &loss, want);
            let gradients = loss.sum_all().unwrap().backward().unwrap();
            assert_pytorch(&what, gradients.get(&x).unwrap(), &gradient);
        }
        // Rows along other axes than the first, and one-hot probabilities as class ids.
        let x = Array::random([2, 3, 4], 1, -2.0, 2.0).to_tensor(&device);
        let ids = Tensor::from_ids(&[0, 2, 1, 1, 2, 2, 0, 1], [2, 4], &device).unwrap();
        let hot = ids.one_hot(3).unwrap().transpose(1, 2).unwrap();
        let [by_ids, by_hot] = [&ids, &hot].map(|t| x.cross_entropy(t).unwrap().item().unwrap());
        assert!((by_ids - by_hot).abs() <= 1e-6 * by_ids, "{by_ids} {by_hot}"); // a few roundings each

        let refused = |x: &Tensor, t: &Tensor, options: CrossEntropyOptions, text: &str| {
            let error = x.cross_entropy_with(t, &options).unwrap_err().to_string();
            assert!(error.contains("cross_entropy") && error.contains(text), "{error}");
        };
        let default = CrossEntropyOptions::default;
        refused(&x, &targets, default(), "must have the shape of the logits, [2, 3, 4], got [2, 3]");
        let flat = tensor(&[0.5, 0.5], &[2], &device);
        refused(&flat, &flat, default(), "should be [n, classes, ..]");
        refused(&targets, &targets, CrossEntropyOptions { ignore_index: Some(0), ..default() }, "class ids");
        refused(&targets, &targets, CrossEntropyOptions { label_smoothing: 2.0, ..default() }, "0..=1");
        let weight = Some(tensor(&[1.0; 2], &[2], &device));
        refused(&targets, &targets, CrossEntropyOptions { weight, ..default() }, "[2]");
    }
}

/// A NaN logit at any position makes its row's loss and gradient NaN, even if the device's exponential of NaN is a
/// number.
#[test]
fn a_nan_is_found_in_every_place() {
    for device in devices_and_hardware().into_iter().chain(worst_case()) {
        for n in [7, 300, 1100] {
            let x = Array::from_fn([n, n], |at| if at[0] == at[1] { f64::NAN } else { (at[1] % 5) as f64 });
            let x = x.to_tensor(&device).requires_grad().unwrap();
            let targets = Tensor::from_ids(&vec![3; n], [n], &device).unwrap();
            for label_smoothing in [0.0, 0.25] {
                let options = CrossEntropyOptions {
                    label_smoothing,
                    reduction: Reduction::None,
                    ..CrossEntropyOptions::default()
                };
                let loss = x.cross_entropy_with(&targets, &options).unwrap();
                let nan = Array::new([n], vec![f64::NAN; n]);
                assert_within(&format!("{n} with {options:?}"), &loss, &nan, |_| 0.0);
                let grads = loss.backward_from(&Tensor::ones([n], &device).unwrap()).unwrap();
                let nan = Array::new([n, n], vec![f64::NAN; n * n]);
                assert_within(&format!("{n} with {options:?}"), grads.get(&x).unwrap(), &nan, |_| 0.0);
            }
        }
    }
}

/// From PyTorch 1.13 in f64, for logits `[2, 3, 2]`.
#[test]
fn classes_are_on_the_second_axis() {
    let data = [1.0, 2.0, 3.0, -1.0, 0.5, 0.0, 0.0, -2.0, 2.0, 1.0, 1.0, 1.5];
    #[rustfmt::skip]
    let gradient = [
        0.077832289, 0.179077198, 0.788075686, -0.017353466, -0.865907975, -0.161723732, 0.02834862, 0.0, -0.134046189,
        0.0, 0.105697569, 0.0,
    ];
    let options = CrossEntropyOptions {
        label_smoothing: 0.1,
        ignore_index: Some(9),
        reduction: Reduction::None,
        ..CrossEntropyOptions::default()
    };
    for device in devices_and_hardware() {
        let x = tensor(&data, &[2, 3, 2], &device).requires_grad().unwrap();
        let targets = Tensor::from_ids(&[2, 0, 1, 9], [2, 2], &device).unwrap();
        let loss = x.cross_entropy_with(&targets, &options).unwrap();
        assert_eq!(loss.shape(), [2, 2]);
        assert_pytorch("cross_entropy", &loss, &[2.596734097, 0.336512686, 0.507605964, 0.0]);
        let dy = tensor(&[1.0, -2.0, 0.5, 3.0], &[2, 2], &device);
        assert_pytorch("cross_entropy", loss.backward_from(&dy).unwrap().get(&x).unwrap(), &gradient);
        // The mean over all rows, in any layout: the same as for a matrix.
        let rows = x.permute(&[0, 2, 1]).unwrap().reshape([4, 3]).unwrap();
        let options = CrossEntropyOptions { reduction: Reduction::Mean, ..options.clone() };
        let [of_images, of_rows] = [(&x, &targets), (&rows, &targets.reshape([4]).unwrap())]
            .map(|(x, targets)| x.cross_entropy_with(targets, &options).unwrap().item().unwrap());
        assert!((of_images - of_rows).abs() < 1e-6, "{of_images} {of_rows}");
    }
}

/// As in PyTorch: the mean over no rows is NaN, the sum is 0. Unlike in PyTorch, the gradient of an ignored row is 0
/// even if the row has NaN.
#[test]
fn ignored_rows_have_no_loss_and_no_gradient() {
    for device in devices_and_hardware() {
        let targets = Tensor::from_ids(&[u32::MAX; 3], [3], &device).unwrap();
        let options = |reduction| CrossEntropyOptions {
            ignore_index: Some(u32::MAX),
            reduction,
            ..CrossEntropyOptions::default()
        };
        let x = Tensor::full([3, 5], f32::NAN, &device).unwrap().requires_grad().unwrap();
        let loss = |reduction| x.cross_entropy_with(&targets, &options(reduction)).unwrap();
        assert!(loss(Reduction::Mean).item().unwrap().is_nan());
        assert_eq!(loss(Reduction::Sum).item(), Ok(0.0));
        assert_eq!(loss(Reduction::BatchMean).item(), Ok(0.0));
        assert_eq!(loss(Reduction::None).to_vec().unwrap(), [0.0; 3]);
        for reduction in [Reduction::Mean, Reduction::Sum] {
            let grads = loss(reduction).backward().unwrap();
            assert_eq!(grads.get(&x).unwrap().to_vec().unwrap(), [0.0; 15]);
        }
        // Only one row counts: the ignored id may also be one of the classes.
        let x = tensor(&[f32::NAN, 1.0, 0.0, 0.0, 2.0, f32::INFINITY], &[3, 2], &device);
        let targets = Tensor::from_ids(&[1, 0, 1], [3], &device).unwrap();
        let options = CrossEntropyOptions { ignore_index: Some(1), ..CrossEntropyOptions::default() };
        let loss = x.cross_entropy_with(&targets, &options).unwrap();
        assert!((loss.item().unwrap() - 2f32.ln()).abs() < 1e-6);
    }
}

/// As in PyTorch: with smoothing every class contributes, so a masked one makes the loss infinite.
#[test]
fn smoothed_rows_have_pytorchs_special_values() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let rows = [
        ([0.0, -inf, 0.0], inf),
        ([-inf, 0.0, 0.0], inf),
        ([-inf, -inf, -inf], nan),
        ([0.0, nan, 0.0], nan),
        ([inf, 0.0, 0.0], nan),
    ];
    for device in devices_and_hardware() {
        for (row, want) in rows {
            let x = tensor(&row, &[1, 3], &device).requires_grad().unwrap();
            let options = CrossEntropyOptions { label_smoothing: 0.1, ..CrossEntropyOptions::default() };
            let target = Tensor::from_ids(&[0], [1], &device).unwrap();
            let loss = x.cross_entropy_with(&target, &options).unwrap();
            let got = loss.item().unwrap();
            assert!(got == want || (got.is_nan() && want.is_nan()), "{row:?}: {got} on {}", device.id());
            let grad = loss.backward().unwrap().get(&x).unwrap().to_vec().unwrap();
            assert!(grad.iter().all(|g| g.is_nan() == want.is_nan()), "{row:?}: {grad:?} on {}", device.id());
        }
        // The target has a very large negative logit, or the logits are far from 0: no overflow and no cancellation.
        let x = tensor(&[-3e38, 0.0, 0.0, 5e4, 5e4 + 1.0, 5e4], &[2, 3], &device);
        let options = CrossEntropyOptions {
            label_smoothing: 0.3,
            reduction: Reduction::None,
            ..CrossEntropyOptions::default()
        };
        let targets = Tensor::from_ids(&[0, 1], [2], &device).unwrap();
        let losses = x.cross_entropy_with(&targets, &options).unwrap().to_vec().unwrap();
        let log_sum = (1.0 + 2.0 * (-1f64).exp()).ln();
        let want = [3e38 * 0.8, log_sum + 0.1 * 2.0];
        for (got, want) in losses.iter().zip(want) {
            assert!((f64::from(*got) - want).abs() <= 1e-6 * want, "{got} {want} on {}", device.id());
        }
        // The same if the target has weight 0: the rest of the loss is smaller by thirty orders of magnitude.
        let x = tensor(&[-1e30, 1.0, 2.0], &[1, 3], &device);
        let options =
            CrossEntropyOptions { weight: Some(tensor(&[0.0, 1.0, 1.0], &[3], &device)), ..options };
        let target = Tensor::from_ids(&[0], [1], &device).unwrap();
        let got = f64::from(x.cross_entropy_with(&target, &options).unwrap().to_vec().unwrap()[0]);
        let want = 0.1 * (2.0 * (1f64.exp() + 2f64.exp()).ln() - 3.0);
        assert!((got - want).abs() <= 1e-6 * want, "{got} {want} on {}", device.id());
    }
}

/// Five workgroups in a grid of three by two: the sixth has no work, and there is room behind the buffer for what it
/// would write.
#[test]
fn an_idle_workgroup_of_a_loss_writes_nothing() {
    let options = GpuOptions { max_workgroups: Some(3), guarded: true, ..GpuOptions::default() };
    let Some(device) = opened(&options) else { return };
    let [x, t] = [3.0, 1.0].map(|value| tensor(&[value; 5 * 1024], &[5 * 1024], &device));
    assert_eq!(Loss::Mse.of(&x, &t, Reduction::Sum).unwrap().item().unwrap(), 20_480.0);
}

#[test]
fn options_that_do_not_fit_are_refused() {
    for device in devices_and_hardware() {
        let refused = |options: CrossEntropyOptions, ids: &[u32], about: &[&str]| {
            let x = Tensor::zeros([2, 3], &device).unwrap();
            let targets = Tensor::from_ids(ids, [2], &device).unwrap();
            let message = x.cross_entropy_with(&targets, &options).unwrap_err().to_string();
            assert!(message.starts_with("cross_entropy: "), "{message}");
            assert!(about.iter().all(|about| message.contains(about)), "{message}");
        };
        let plain = CrossEntropyOptions::default;
        for label_smoothing in [-0.1, 1.1, f32::NAN] {
            refused(CrossEntropyOptions { label_smoothing, ..plain() }, &[0, 0], &["smoothing", "0..=1"]);
        }
        let weight = |shape: &[usize]| Some(Tensor::ones(shape, &device).unwrap());
        refused(CrossEntropyOptions { weight: weight(&[2]), ..plain() }, &[0, 0], &["[3]", "[2]"]);
        refused(CrossEntropyOptions { weight: weight(&[]), ..plain() }, &[0, 0], &["[3]", "[]"]);
        let ids = Tensor::from_ids(&[1, 1, 1], [3], &device).unwrap();
        refused(CrossEntropyOptions { weight: Some(ids), ..plain() }, &[0, 0], &["f32", "U32"]);
        // Of the ids out of range, only the ignored one is valid.
        refused(CrossEntropyOptions { ignore_index: Some(5), ..plain() }, &[0, 6], &["class id 6"]);
        // An empty batch has a sum and unreduced losses.
        let (none, no_ids) =
            (Tensor::zeros([0, 3], &device).unwrap(), Tensor::from_ids(&[], [0], &device).unwrap());
        let of = |reduction| {
            none.cross_entropy_with(&no_ids, &CrossEntropyOptions { reduction, ..plain() }).unwrap()
        };
        assert_eq!(of(Reduction::Sum).item(), Ok(0.0));
        assert_eq!(of(Reduction::None).shape(), [0]);
    }
}

/// A loss, predictions, targets, losses, and the gradients of both for a sum weighted by 1, -2, 0.5, 3.
type Known = (Loss, [f32; 4], [f32; 4], [f64; 4], [[f64; 4]; 2]);

/// From PyTorch 1.13 in f64; hinge by hand.
#[rustfmt::skip]
fn known(device: &Device) -> Vec<Known> {
    let x = [0.5, -1.0, 2.0, 0.0];
    let log = [-0.5, -1.0, -2.0, -3.0];
    let (t, share) = ([1.0, -1.5, -1.0, 0.25], [1.0, 0.0, 0.25, 0.5]);
    let pos_weight = Some(tensor(&[2.0, 3.0, 1.0, 4.0], &[4], device));
    vec![
        (Loss::Mse, x, t, [0.25, 0.25, 9.0, 0.0625], [[-1.0, -2.0, 3.0, -1.5], [1.0, 2.0, -3.0, 1.5]]),
        (Loss::L1, x, t, [0.5, 0.5, 3.0, 0.25], [[-1.0, -2.0, 0.5, -3.0], [1.0, 2.0, -0.5, 3.0]]),
        (Loss::Huber { delta: 0.5 }, x, t, [0.125, 0.125, 1.375, 0.03125],
            [[-0.5, -1.0, 0.25, -0.75], [0.5, 1.0, -0.25, 0.75]]),
        (Loss::Hinge, x, [1.0, 1.0, 1.0, -1.0], [0.5, 2.0, 0.0, 1.0],
            [[-1.0, 2.0, 0.0, 3.0], [-0.5, -2.0, 0.0, 0.0]]),
        // The first element is at the corner, where the gradient is 0.
        (Loss::Hinge, x, [2.0, 1.0, 1.0, -1.0], [0.0, 2.0, 0.0, 1.0],
            [[0.0, 2.0, 0.0, 3.0], [0.0, -2.0, 0.0, 0.0]]),
        (Loss::BceWithLogits { pos_weight: None }, x, share, [0.474076984, 0.313261688, 1.626928011, std::f64::consts::LN_2],
            [[-0.377540669, -0.537882843, 0.315398539, 0.0], [-0.5, -2.0, -1.0, 0.0]]),
        (Loss::BceWithLogits { pos_weight }, x, share, [0.948153968, 0.313261688, 1.626928011, 1.732867951],
            [[-0.755081338, -0.537882843, 0.315398539, -2.25], [-0.025923016, -7.25304675, -1.0, 6.238324625]]),
        (Loss::KlDiv { log_target: false }, log, [0.1, 0.2, 0.3, 0.4],
            [-0.180258509, -0.121887582, 0.238808159, 0.833483707],
            [[-0.1, 0.4, -0.15, -1.2], [-0.802585093, -0.781124175, 0.898013598, 9.251127804]]),
        (Loss::KlDiv { log_target: true }, log, [-2.0, -1.0, -0.5, -4.0],
            [-0.203002925, 0.0, 0.90979599, -0.018315639],
            [[-0.135335283, 0.735758882, -0.30326533, -0.054946917], [-0.067667642, -0.735758882, 0.758163325, 0.0]]),
    ]
}

#[test]
fn losses_of_pairs_are_pytorchs() {
    for device in devices() {
        for (loss, x, t, want, gradients) in known(&device) {
            let [x, t] = [x, t].map(|data| tensor(&data, &[2, 2], &device));
            let loss = match loss {
                Loss::BceWithLogits { pos_weight: Some(w) } => {
                    Loss::BceWithLogits { pos_weight: Some(w.reshape([2, 2]).unwrap()) }
                }
                loss => loss,
            };
            let what = format!("{loss:?}");
            let [x, t] = [x, t].map(|leaf| leaf.requires_grad().unwrap());
            let losses = loss.of(&x, &t, Reduction::None).unwrap();
            assert_eq!(losses.shape(), [2, 2]);
            assert_pytorch(&what, &losses, &want);
            let grads = losses.backward_from(&tensor(&[1.0, -2.0, 0.5, 3.0], &[2, 2], &device)).unwrap();
            for (leaf, gradient) in [&x, &t].into_iter().zip(gradients) {
                assert_pytorch(&what, grads.get(leaf).unwrap(), &gradient);
            }
            let sum: f64 = want.iter().sum();
            for (reduction, divisor) in
                [(Reduction::Sum, 1.0), (Reduction::Mean, 4.0), (Reduction::BatchMean, 2.0)]
            {
                let reduced = loss.of(&x, &t, reduction).unwrap();
                assert_pytorch(&what, &reduced, &[sum / divisor]);
                // The gradient of the reduced loss is that of the summed losses, divided.
                let ones = loss.of(&x, &t, Reduction::None).unwrap().sum_all().unwrap().backward().unwrap();
                let whole = ones.get(&x).unwrap().to_vec().unwrap();
                let whole: Vec<f64> = whole.iter().map(|&dx| f64::from(dx) / divisor).collect();
                assert_pytorch(&what, reduced.backward().unwrap().get(&x).unwrap(), &whole);
            }
        }
    }
}

#[test]
fn functions_give_the_mean() {
    for device in devices() {
        let x = tensor(&[0.5, -1.0, 2.0, 0.0, -3.0, 1.0], &[2, 3], &device);
        let t = tensor(&[1.0, 0.0, 0.25, 0.5, 0.125, 1.0], &[2, 3], &device);
        let same = |got: Result<Tensor>, loss: Loss, reduction| {
            assert_eq!(got.unwrap().item(), loss.of(&x, &t, reduction).unwrap().item(), "{loss:?}");
        };
        same(nn::mse_loss(&x, &t), Loss::Mse, Reduction::Mean);
        same(nn::l1_loss(&x, &t), Loss::L1, Reduction::Mean);
        same(nn::huber_loss(&x, &t, 0.75), Loss::Huber { delta: 0.75 }, Reduction::Mean);
        same(nn::hinge_loss(&x, &t), Loss::Hinge, Reduction::Mean);
        same(nn::bce_with_logits_loss(&x, &t), Loss::BceWithLogits { pos_weight: None }, Reduction::Mean);
        same(nn::kl_div_loss(&x, &t), Loss::KlDiv { log_target: false }, Reduction::BatchMean);
    }
}

/// A confident logit has loss e^-x, precise although it is far below an ulp of 1.
#[test]
fn binary_cross_entropy_is_precise_for_confident_logits() {
    for device in devices() {
        let x = tensor(&[20.0, -20.0, 50.0, -50.0, 1e4, -1e4, -1e4], &[7], &device).requires_grad().unwrap();
        let t = tensor(&[1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0], &[7], &device);
        let losses = Loss::BceWithLogits { pos_weight: None }.of(&x, &t, Reduction::None).unwrap();
        let [some, few] = [2.061153620314381e-9, 1.9287498479639178e-22];
        let want = Array::new([7], vec![some, some, few, few, 0.0, 0.0, 1e4]);
        // An exponential of -50 errs by WGSL's 3 + 2 * 50 ulp.
        assert_within("bce_with_logits_loss", &losses, &want, |at| 220.0 * EPS * want.data[at]);
        let grads = losses.backward_from(&Tensor::ones([7], &device).unwrap()).unwrap();
        let want = Array::new([7], vec![-some, some, -few, few, 0.0, 0.0, -1.0]);
        assert_within("bce_with_logits_loss", grads.get(&x).unwrap(), &want, |at| {
            220.0 * EPS * want.data[at].abs()
        });
    }
}

#[test]
fn a_target_of_probability_zero_adds_nothing() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let x = [-1.0, -inf, inf, nan, -inf];
    for device in devices() {
        for (log_target, t) in [(false, [0.0, 0.0, 0.0, 0.0, 0.5]), (true, [-inf, -inf, -inf, -inf, -1.0])] {
            let [x, t] = [&x, &t].map(|data| tensor(data, &[5], &device).requires_grad().unwrap());
            let losses = Loss::KlDiv { log_target }.of(&x, &t, Reduction::None).unwrap();
            let same = |got: &Tensor, want: [f32; 5]| {
                for (got, want) in got.to_vec().unwrap().into_iter().zip(want) {
                    assert!(got == want || (got.is_nan() && want.is_nan()), "{got} for {want} on {device:?}");
                }
            };
            same(&losses, [0.0, 0.0, 0.0, nan, inf]);
            let grads = losses.backward_from(&Tensor::ones([5], &device).unwrap()).unwrap();
            same(grads.get(&t).unwrap(), [0.0, 0.0, 0.0, nan, inf]);
        }
        // A negative probability gives NaN, as in PyTorch.
        let [x, t] = [tensor(&[-1.0], &[1], &device), tensor(&[-0.5], &[1], &device)];
        assert!(nn::kl_div_loss(&x, &t).unwrap().item().unwrap().is_nan());
    }
}

/// More elements than a workgroup reduces, and more partial sums than an invocation adds, in layouts that select each
/// kernel. With whole numbers any missing element shows.
#[test]
fn every_element_enters_the_sum() {
    for device in devices() {
        let sum = |x: &Tensor, t: &Tensor| Loss::Mse.of(x, t, Reduction::Sum).unwrap().item().unwrap();
        for n in [2047, 2048, 2049, 70_001, 1 << 20] {
            let (x, t) = (Tensor::full([n], 3.0, &device).unwrap(), Tensor::ones([n], &device).unwrap());
            assert_eq!(sum(&x, &t), 4.0 * n as f32, "{n} on {device:?}");
            // Not aligned to four elements, so the kernel loads one at a time.
            let (x, t) = (x.slice(0, 1..n).unwrap(), t.slice(0, 1..n).unwrap());
            assert_eq!(sum(&x, &t), 4.0 * (n - 1) as f32, "{n} on {device:?}");
        }
        let wide = |value| Tensor::full([1, 1], value, &device).unwrap().expand([4096, 1024]).unwrap();
        assert_eq!(sum(&wide(3.0), &wide(1.0)), 16_777_216.0);
        let turned = Tensor::full([300, 70], 3.0, &device).unwrap().t().unwrap();
        assert_eq!(sum(&turned, &Tensor::ones([70, 300], &device).unwrap()), 84_000.0);
    }
}

#[test]
fn pairs_that_do_not_fit_are_refused() {
    for device in devices() {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, &device).unwrap();
        let losses = [
            ("mse_loss", Loss::Mse),
            ("l1_loss", Loss::L1),
            ("huber_loss", Loss::Huber { delta: 1.0 }),
            ("hinge_loss", Loss::Hinge),
            ("bce_with_logits_loss", Loss::BceWithLogits { pos_weight: None }),
            ("kl_div_loss", Loss::KlDiv { log_target: false }),
            ("kl_div_loss", Loss::KlDiv { log_target: true }),
        ];
        for (name, loss) in losses {
            let refused = |x: &Tensor, t: &Tensor, reduction, about: &[&str]| {
                let error = loss.of(x, t, reduction).unwrap_err();
                assert!(matches!(error, Error::Shape { op, .. } if op == name), "{error}");
                assert!(about.iter().all(|about| error.to_string().contains(about)), "{error}");
            };
            refused(&zeros(&[2, 2]), &zeros(&[4]), Reduction::Mean, &["[2, 2]", "[4]"]);
            refused(&zeros(&[2, 1]), &zeros(&[2]), Reduction::None, &["[2, 1]", "[2]"]);
            refused(&zeros(&[]), &zeros(&[]), Reduction::BatchMean, &["rank 0"]);
            let ids = Tensor::from_ids(&[0, 1], [2], &device).unwrap();
            refused(&zeros(&[2]), &ids, Reduction::Mean, &["u32", "[2]"]);
            // Without elements the sum is 0, the mean is NaN, and there are no losses.
            let none = zeros(&[0, 3]);
            assert_eq!(loss.of(&none, &none, Reduction::Sum).unwrap().item(), Ok(0.0));
            assert!(loss.of(&none, &none, Reduction::Mean).unwrap().item().unwrap().is_nan());
            assert!(loss.of(&none, &none, Reduction::BatchMean).unwrap().item().unwrap().is_nan());
            assert_eq!(loss.of(&none, &none, Reduction::None).unwrap().shape(), [0, 3]);
        }
        let pair = zeros(&[2, 3]);
        for delta in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let error = nn::huber_loss(&pair, &pair, delta).unwrap_err();
            assert!(matches!(error, Error::Argument { op: "huber_loss", .. }), "{error}");
        }
        for shape in [&[2][..], &[4, 2, 3], &[3, 1]] {
            let loss = Loss::BceWithLogits { pos_weight: Some(zeros(shape)) };
            let message = loss.of(&pair, &pair, Reduction::Mean).unwrap_err().to_string();
            assert!(message.starts_with("bce_with_logits_loss") && message.contains("[2, 3]"), "{message}");
        }
    }
}

/// Regression: expanded logits, with stride 0 along the classes. The CPU twin read past the number.
#[test]
fn cross_entropy_of_logits_expanded_along_the_classes_is_the_logarithm_of_their_number() {
    for device in devices() {
        let logits = Tensor::from_slice(&[1.0, -2.0, 7.0], [3, 1], &device).unwrap().expand([3, 5]).unwrap();
        let ids = Tensor::from_ids(&[4, 0, 2], [3], &device).unwrap();
        let loss = logits.cross_entropy(&ids).unwrap().item().unwrap();
        assert!((loss - 5f32.ln()).abs() < 1e-5, "{loss} on {}", device.id());
    }
}
