//! Numbers within f32's range whose squares exceed it: every op that squares gives the same result on every device
//! ("Special values" in ARCHITECTURE.md). A sum of squared deviations that exceeds the range is +inf, and so are the
//! variance and the standard deviation. A row normalized by it is `0 * weight + bias`, with gradient 0.

mod common;

use common::{devices, devices_and_hardware};
use gristmill::nn::{self, Loss, Parameter, Reduction};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Device, Result, Tensor};

/// Rows of six kinds: 1. no square overflows; 2. single squares overflow; 3. only the sum of the squares overflows; 4.
/// the sum of squares does not overflow, but the square of the largest difference would; 5. the largest differences
/// overflow; 6. the sum of the elements overflows.
fn rows(n: usize) -> Vec<Vec<f32>> {
    let large: [&[f32]; 6] = [
        &[],
        &[3e19, -3e19],
        &[1.2e19, -1.2e19, 1.2e19, -1.2e19],
        &[1.2e19, -1.2e19],
        &[-3e38, 3e38, 3e38, 3e38],
        &[3e38, 3e38, 2e38],
    ];
    let row = |large: &[f32]| {
        let mut row: Vec<f32> = (0..n).map(|i| (i * 37 % 11) as f32 * 0.5 - 2.0).collect();
        // Far from each other, so that different invocations and slices process them.
        large.iter().enumerate().for_each(|(at, &x)| row[at * n / large.len()] = x);
        row
    };
    large.map(row).to_vec()
}

/// Row lengths that are reduced by one invocation, several invocations, and several slices.
const LENGTHS: [usize; 4] = [4, 5, 300, 20_000];

fn overflows(x: f64) -> bool {
    x > f64::from(f32::MAX)
}

/// The mean of a row, and the sum of squared distances from it.
fn moments(row: &[f32], centred: bool) -> (f64, f64) {
    let values = || row.iter().map(|&x| f64::from(x));
    let mean = if centred { values().sum::<f64>() / row.len() as f64 } else { 0.0 };
    (mean, values().map(|x| (x - mean).powi(2)).sum())
}

/// Asserts the class of each number, and that finite numbers are close. Rounding errors are 1e-7 of a number times the
/// length of a sum in one invocation, at most a few hundred. If terms cancel, they are relative to the largest term,
/// `scale`.
fn assert_alike(what: &str, device: &Device, got: &[f32], want: &[f64], scale: f64) {
    assert_eq!(got.len(), want.len());
    for (at, (&got, &want)) in got.iter().zip(want).enumerate() {
        let (got, near) = (f64::from(got), 1e-4 * (want.abs() + scale));
        let same = got == want || (got.is_nan() && want.is_nan()) || (got - want).abs() <= near;
        assert!(same, "{what} on {}: element {at} is {got:e}, should be {want:e}", device.id());
    }
}

#[test]
fn variance_and_deviation_that_overflow_are_infinite() {
    for n in LENGTHS {
        let rows = rows(n);
        let squares: Vec<f64> = rows.iter().map(|row| moments(row, true).1).collect();
        let divided = |root: bool, freedom: usize| -> Vec<f64> {
            let variance = |&s: &f64| if overflows(s) { f64::INFINITY } else { s / freedom as f64 };
            squares.iter().map(variance).map(|v| if root { v.sqrt() } else { v }).collect()
        };
        for device in devices_and_hardware() {
            let x = Tensor::from_slice(&rows.concat(), [6, n], &device).unwrap();
            let columns = x.t().unwrap().copy().unwrap();
            for correction in [0, 1] {
                let [var, std] = [false, true].map(|root| divided(root, n - correction));
                for (x, axis) in [(&x, 1), (&columns, 0)] {
                    let got = x.var(&[axis], correction, false).unwrap().to_vec().unwrap();
                    assert_alike(&format!("var of {n}"), &device, &got, &var, 0.0);
                    let got = x.std(&[axis], correction, false).unwrap().to_vec().unwrap();
                    assert_alike(&format!("std of {n}"), &device, &got, &std, 0.0);
                }
            }
        }
    }
}

#[test]
fn a_deviation_that_overflows_has_a_gradient_of_zero() {
    for n in LENGTHS {
        // Except the rows whose sum overflows: they have the mean of `Tensor::mean`.
        let rows = rows(n)[..4].to_vec();
        let slopes = |row: &Vec<f32>| -> Vec<f64> {
            let (mean, squares) = moments(row, true);
            let std = if overflows(squares) { f64::INFINITY } else { (squares / (n - 1) as f64).sqrt() };
            row.iter().map(|&x| (f64::from(x) - mean) / ((n - 1) as f64 * std)).collect()
        };
        let want: Vec<f64> = rows.iter().flat_map(slopes).collect();
        for device in devices() {
            let x = Tensor::from_slice(&rows.concat(), [4, n], &device).unwrap().requires_grad().unwrap();
            let grads = x.std(&[1], 1, false).unwrap().sum_all().unwrap().backward().unwrap();
            let got = grads.get(&x).unwrap().to_vec().unwrap();
            assert_alike(&format!("std's gradient of {n}"), &device, &got, &want, 1e-2);
        }
    }
}

/// A difference that exceeds f32's range is infinite.
#[test]
fn variance_is_infinite_if_differences_overflow() {
    for device in devices_and_hardware() {
        for values in [[3e38f32, -3e38, 0.0], [0.0, 3e38, -3e38], [-3e38, 3e38, 3e38], [1.0, 2e38, 1.5]] {
            let x = Tensor::from_slice(&values, [3], &device).unwrap();
            assert_eq!(x.var(&[0], 1, false).unwrap().item().unwrap(), f32::INFINITY, "{values:?}");
            assert_eq!(x.std(&[0], 1, false).unwrap().item().unwrap(), f32::INFINITY, "{values:?}");
        }
        // The distance of an infinity from the mean is NaN, at any position.
        for place in 0..3 {
            let mut values = [1.0f32, 3e38, -3e38];
            values[place] = f32::INFINITY;
            let x = Tensor::from_slice(&values, [3], &device).unwrap();
            assert!(x.var(&[0], 1, false).unwrap().item().unwrap().is_nan(), "{values:?}");
        }
    }
}

/// A normalization: its name, whether it subtracts the mean, and the call on the rows of a tensor `[6, n]` with a
/// constant weight and bias.
type Norm = (&'static str, bool, fn(&Tensor, [f32; 2]) -> Result<Tensor>);

fn full(shape: &[usize], value: f32, x: &Tensor) -> Result<Tensor> {
    Tensor::full(shape, value, x.device())
}

const EPS: f32 = 1e-5;

const NORMS: &[Norm] = &[
    ("layer_norm", true, |x, [w, b]| {
        let n = x.shape()[1];
        x.layer_norm(1, Some(&full(&[n], w, x)?), Some(&full(&[n], b, x)?), EPS)
    }),
    ("rms_norm", false, |x, [w, b]| x.rms_norm(1, Some(&full(&[x.shape()[1]], w, x)?), EPS)?.add_scalar(b)),
    ("add_layer_norm", true, |x, [w, b]| {
        let n = x.shape()[1];
        let zeros = Tensor::zeros(x.shape(), x.device())?;
        let [y, _] = x.add_layer_norm(&zeros, 1, Some(&full(&[n], w, x)?), Some(&full(&[n], b, x)?), EPS)?;
        Ok(y)
    }),
    ("add_rms_norm", false, |x, [w, b]| {
        let zeros = Tensor::zeros(x.shape(), x.device())?;
        let [y, _] = x.add_rms_norm(&zeros, 1, Some(&full(&[x.shape()[1]], w, x)?), EPS)?;
        y.add_scalar(b)
    }),
    ("group_norm", true, |x, [w, b]| {
        let n = x.shape()[1];
        let channels = [2, 4, 1].into_iter().find(|c| n % c == 0).unwrap_or(1);
        let (w, b) = (full(&[channels], w, x)?, full(&[channels], b, x)?);
        x.reshape([6, channels, n / channels])?.group_norm(1, Some(&w), Some(&b), EPS)?.reshape([6, n])
    }),
    ("instance_norm", true, |x, [w, b]| {
        let n = x.shape()[1];
        let (w, b) = (full(&[2], w, x)?, full(&[2], b, x)?);
        x.reshape([3, 2, n])?.instance_norm(Some(&w), Some(&b), EPS)?.reshape([6, n])
    }),
    ("batch_norm", true, |x, [w, b]| {
        x.t()?.batch_norm(Some(&full(&[6], w, x)?), Some(&full(&[6], b, x)?), EPS)?.output.t()
    }),
    ("batch_norm of planes", true, |x, [w, b]| {
        let n = x.shape()[1];
        let y = x.reshape([1, 6, n])?.batch_norm(Some(&full(&[6], w, x)?), Some(&full(&[6], b, x)?), EPS)?;
        y.output.reshape([6, n])
    }),
];

#[test]
fn a_row_whose_variance_overflows_is_normalized_to_its_bias() {
    const WEIGHT: f32 = 2.0;
    const BIAS: f32 = 0.25;
    for n in LENGTHS {
        let rows = rows(n);
        for &(name, centred, run) in NORMS {
            // The gradient of the output is 1 in the first half of each row, and -1 in the second half.
            let sign = |at: usize| if at < n / 2 { 1.0f32 } else { -1.0 };
            let (mut want, mut slopes) = (Vec::new(), Vec::new());
            for row in &rows {
                let (mean, squares) = moments(row, centred);
                let overflown = overflows(squares);
                let scale = if overflown { 0.0 } else { 1.0 / (squares / n as f64 + f64::from(EPS)).sqrt() };
                let h: Vec<f64> = row.iter().map(|&x| (f64::from(x) - mean) * scale).collect();
                let g: Vec<f64> = (0..n).map(|at| f64::from(WEIGHT * sign(at))).collect();
                let mean_g = if centred { g.iter().sum::<f64>() / n as f64 } else { 0.0 };
                let mean_gh = g.iter().zip(&h).map(|(g, h)| g * h).sum::<f64>() / n as f64;
                want.extend(h.iter().map(|h| h * f64::from(WEIGHT) + f64::from(BIAS)));
                slopes.extend(g.iter().zip(&h).map(|(g, h)| (g - mean_g - h * mean_gh) * scale));
            }
            for device in devices_and_hardware() {
                let x = Tensor::from_slice(&rows.concat(), [6, n], &device).unwrap();
                let x = x.requires_grad().unwrap();
                let y = run(&x, [WEIGHT, BIAS]).unwrap();
                assert_alike(&format!("{name} of {n}"), &device, &y.to_vec().unwrap(), &want, 1.0);
                let signs: Vec<f32> = (0..6 * n).map(|at| sign(at % n)).collect();
                let grads = y.backward_from(&Tensor::from_slice(&signs, [6, n], &device).unwrap()).unwrap();
                let got = grads.get(&x).unwrap().to_vec().unwrap();
                assert_alike(&format!("{name}'s gradient of {n}"), &device, &got, &slopes, 1.0);
            }
        }
    }
}

/// With an infinite variance as input, the output is the bias, whatever the mean.
#[test]
fn a_given_infinite_variance_gives_the_bias() {
    for device in devices_and_hardware() {
        let tensor = |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, &device).unwrap();
        let x = tensor(&[1.0, 3e38, 2.0, 4.0], &[2, 2]).requires_grad().unwrap();
        let (mean, variance) = (tensor(&[0.0, -3e38], &[2]), tensor(&[f32::INFINITY; 2], &[2]));
        let (w, b) = (tensor(&[2.0; 2], &[2]), tensor(&[0.5, 0.25], &[2]));
        let y = x.batch_norm_by(&mean, &variance, Some(&w), Some(&b), EPS).unwrap();
        assert_eq!(y.to_vec().unwrap(), [0.5, 0.25, 0.5, 0.25], "{}", device.id());
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&x).unwrap().to_vec().unwrap(), [0.0; 4], "{}", device.id());
    }
}

/// A norm scales elements before it squares them, so it overflows only if its result does.
#[test]
fn a_norm_overflows_only_where_its_result_does() {
    for n in LENGTHS {
        let rows = rows(n);
        let rounded = |norm: f64| if overflows(norm) { f64::INFINITY } else { norm };
        let norms: Vec<f64> = rows.iter().map(|row| rounded(moments(row, false).1.sqrt())).collect();
        for device in devices_and_hardware() {
            let x = Tensor::from_slice(&rows.concat(), [6, n], &device).unwrap().requires_grad().unwrap();
            let y = x.norm(2.0, &[1], false).unwrap();
            assert_alike(&format!("norm of {n}"), &device, &y.to_vec().unwrap(), &norms, 0.0);
            let grads = y.sum_all().unwrap().backward().unwrap();
            let slopes: Vec<f64> = rows
                .iter()
                .zip(&norms)
                .flat_map(|(row, norm)| row.iter().map(move |&x| f64::from(x) / norm))
                .collect();
            assert_alike(
                "norm's gradient",
                &device,
                &grads.get(&x).unwrap().to_vec().unwrap(),
                &slopes,
                1e-2,
            );
        }
    }
}

/// A loss is +inf if a square or the sum of squares overflows; its gradient needs no squares.
#[test]
fn a_loss_whose_squares_overflow_is_infinite() {
    let values = |row: usize| rows(300)[row].clone();
    for device in devices_and_hardware() {
        for (row, infinite) in [(0, false), (1, true), (2, true), (3, false), (4, true), (5, true)] {
            let x = Tensor::from_slice(&values(row), [300], &device).unwrap().requires_grad().unwrap();
            let t = Tensor::zeros([300], &device).unwrap();
            for reduction in [Reduction::Mean, Reduction::Sum] {
                let loss = Loss::Mse.of(&x, &t, reduction).unwrap();
                let value = loss.item().unwrap();
                assert_eq!(value == f32::INFINITY, infinite, "mse of row {row} on {}: {value}", device.id());
                assert!(infinite || value.is_finite());
                let divisor = if reduction == Reduction::Mean { 300.0 } else { 1.0 };
                let want: Vec<f64> = values(row).iter().map(|&x| 2.0 * f64::from(x) / divisor).collect();
                if want.iter().any(|slope| overflows(slope.abs())) {
                    continue;
                }
                let grads = loss.backward().unwrap();
                assert_alike(
                    "mse's gradient",
                    &device,
                    &grads.get(&x).unwrap().to_vec().unwrap(),
                    &want,
                    0.0,
                );
            }
            // Huber's loss is linear long before that, but the sum of the differences of the last two rows overflows.
            if row > 3 {
                continue;
            }
            let value = nn::huber_loss(&x, &t, 1.0).unwrap().item().unwrap();
            assert!(value.is_finite(), "huber of row {row} on {}: {value}", device.id());
        }
    }
}

/// Adam's running mean of squares becomes infinite, so the step is 0.
#[test]
fn adam_does_not_move_where_the_square_of_a_gradient_overflows() {
    for device in devices_and_hardware() {
        let parameter = Parameter::new(&Tensor::ones([3], &device).unwrap()).unwrap();
        let slopes = Tensor::from_slice(&[1e22, 1.0, -1e22], [3], &device).unwrap();
        let mut adam = Adam::new([parameter.clone()], 0.1);
        for _ in 0..2 {
            let grads = parameter.tensor().backward_from(&slopes).unwrap();
            adam.step(&grads).unwrap();
        }
        let moved = parameter.tensor().to_vec().unwrap();
        assert_alike("adam", &device, &moved, &[1.0, 0.8, 1.0], 0.0);
    }
}
