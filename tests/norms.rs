//! Normalization: values worked by hand, rows of every length, errors; the layers with their running statistics. The
//! table (`tests/table.rs`) compares the ops with f64.
#![allow(clippy::unwrap_used)] // also in helpers, which clippy does not take for tests

mod common;

use common::*;
use gristmill::nn::{
    self, BatchNorm1d, BatchNorm2d, GroupNorm, Init, Layer, LayerNorm, Linear, Module, RmsNorm, Sequential,
};
use gristmill::optim::{Optimizer, Sgd};
use gristmill::{Device, Error, Result, Tensor};

fn tensor(data: &[f32], shape: &[usize], device: &Device) -> Tensor {
    Tensor::from_slice(data, shape, device).unwrap()
}

/// Asserts values within a few roundings of numbers near `size`.
fn assert_near(what: &str, got: &Tensor, want: &[f64], size: f64) {
    let want = Array::new(got.shape().to_vec(), want.to_vec());
    assert_within(what, got, &want, |_| 16.0 * EPS * size);
}

/// Mean 5, standard deviation 2.
const EIGHT: [f32; 8] = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
const STANDARD: [f64; 8] = [-1.5, -0.5, -0.5, -0.5, 0.0, 0.0, 1.0, 2.0];

#[test]
fn layer_norm_by_hand() {
    for device in devices_and_hardware() {
        let x = tensor(&EIGHT, &[2, 4], &device).reshape([8]).unwrap();
        assert_near("layer_norm", &x.layer_norm(1, None, None, 0.0).unwrap(), &STANDARD, 2.0);
        // A variance of 4 and an eps of 5: the divisor is 3.
        let thirds = STANDARD.map(|y| y * 2.0 / 3.0);
        assert_near("eps", &x.layer_norm(1, None, None, 5.0).unwrap(), &thirds, 2.0);
        // Over both axes, with a weight and a bias per element.
        let x = x.reshape([1, 2, 4]).unwrap();
        let weight = tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &[2, 4], &device);
        let bias = tensor(&[0.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0], &[2, 4], &device);
        let y = x.layer_norm(2, Some(&weight), Some(&bias), 0.0).unwrap();
        assert_near("affine", &y, &[-1.5, 0.0, -1.5, -2.0, 0.0, -1.0, 7.0, 16.0], 16.0);
        // A row of one element equals its mean.
        let y = x.reshape([8, 1]).unwrap().layer_norm(1, None, None, 1e-5).unwrap();
        assert_eq!(y.to_vec().unwrap(), [0.0; 8]);
    }
}

/// dx = (g - mean(g) - h mean(g h)) / deviation for g = (0, .., 0, 1): the means are 1/8 and 2/8.
#[test]
fn the_gradient_by_hand() {
    let want = [0.125, 0.0, 0.0, 0.0, -0.0625, -0.0625, -0.1875, 0.1875];
    for device in devices_and_hardware() {
        let leaf = |data: &[f32], shape: &[usize]| tensor(data, shape, &device).requires_grad().unwrap();
        let (x, weight, bias) = (leaf(&EIGHT, &[1, 8]), leaf(&[1.0; 8], &[8]), leaf(&[0.0; 8], &[8]));
        let y = x.layer_norm(1, Some(&weight), Some(&bias), 0.0).unwrap();
        let dy = tensor(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], &[1, 8], &device);
        let grads = y.backward_from(&dy).unwrap();
        assert_near("dx", grads.get(&x).unwrap(), &want, 1.0);
        assert_near("dw", grads.get(&weight).unwrap(), &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0], 2.0);
        assert_near("db", grads.get(&bias).unwrap(), &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], 1.0);
    }
}

#[test]
fn rms_norm_by_hand() {
    for device in devices_and_hardware() {
        // A mean square of 25.
        let x = tensor(&[1.0, 7.0], &[1, 2], &device).requires_grad().unwrap();
        let weight = tensor(&[10.0, 100.0], &[2], &device).requires_grad().unwrap();
        let y = x.rms_norm(1, Some(&weight), 0.0).unwrap();
        assert_near("rms_norm", &y, &[2.0, 140.0], 140.0);
        // g = (10, 0), h = (0.2, 1.4), mean(g h) = 1: dx = (g - h) / 5.
        let grads = y.backward_from(&tensor(&[1.0, 0.0], &[1, 2], &device)).unwrap();
        assert_near("dx", grads.get(&x).unwrap(), &[1.96, -0.28], 2.0);
        assert_near("dw", grads.get(&weight).unwrap(), &[0.2, 0.0], 1.0);
        // With an infinity in the row: 1 / inf is 0, inf / inf is NaN. A NaN makes its row NaN.
        let x = tensor(&[1.0, f32::INFINITY, 1.0, f32::NAN], &[2, 2], &device);
        let y = x.rms_norm(1, None, 0.0).unwrap().to_vec().unwrap();
        assert!(y[0] == 0.0 && y[1..].iter().all(|y| y.is_nan()), "{y:?}");
    }
}

#[test]
fn group_norm_by_hand() {
    for device in devices_and_hardware() {
        // Four channels of two elements: groups with mean 2 and 15, deviation 1 and 5.
        let x = tensor(&[1.0, 3.0, 1.0, 3.0, 10.0, 20.0, 20.0, 10.0], &[1, 4, 2], &device);
        let weight = tensor(&[1.0, 2.0, 3.0, 4.0], &[4], &device);
        let bias = tensor(&[0.0, 0.0, 0.0, 10.0], &[4], &device);
        let y = x.group_norm(2, Some(&weight), Some(&bias), 0.0).unwrap();
        assert_near("group_norm", &y, &[-1.0, 1.0, -2.0, 2.0, -3.0, 3.0, 14.0, 6.0], 14.0);
        // Each channel alone is (-1, 1).
        let y = x.instance_norm(None, None, 0.0).unwrap();
        assert_near("instance_norm", &y, &[-1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0], 1.0);
        // One group equals layer normalization.
        let x = tensor(&EIGHT, &[1, 4, 2], &device);
        assert_near("one group", &x.group_norm(1, None, None, 0.0).unwrap(), &STANDARD, 2.0);
    }
}

#[test]
fn batch_norm_by_hand() {
    for device in devices_and_hardware() {
        // Channel 0 has `EIGHT`, channel 1 has mean 5 and deviation 5.
        let [a, b] = [&EIGHT[..4], &EIGHT[4..]];
        let other = [0.0, 10.0, 0.0, 10.0];
        let x = tensor(&[a, &other, b, &other].concat(), &[2, 2, 4], &device);
        let weight = tensor(&[1.0, 3.0], &[2], &device);
        let bias = tensor(&[0.0, 1.0], &[2], &device);
        let batch = x.batch_norm(Some(&weight), Some(&bias), 0.0).unwrap();
        let other = [-2.0, 4.0, -2.0, 4.0];
        let want = [&STANDARD[..4], &other, &STANDARD[4..], &other].concat();
        assert_near("batch_norm", &batch.output, &want, 4.0);
        assert_near("mean", &batch.mean, &[5.0, 5.0], 5.0);
        assert_near("variance", &batch.variance, &[4.0, 25.0], 25.0);
        // Unbiased: 32/7 and 200/7.
        let mut mean = Tensor::zeros([2], &device).unwrap();
        let mut variance = Tensor::ones([2], &device).unwrap();
        batch.update(&mut mean, &mut variance, 0.5).unwrap();
        assert_near("running mean", &mean, &[2.5, 2.5], 2.5);
        assert_near("running variance", &variance, &[0.5 + 16.0 / 7.0, 0.5 + 100.0 / 7.0], 15.0);

        let [mean, variance] = [[1.0, 0.0], [4.0, 100.0]].map(|data| tensor(&data, &[2], &device));
        let y = x.batch_norm_by(&mean, &variance, Some(&weight), Some(&bias), 0.0).unwrap();
        let other = [1.0, 4.0, 1.0, 4.0];
        let want = [&[0.5, 1.5, 1.5, 1.5][..], &other, &[2.0, 2.0, 3.0, 4.0], &other].concat();
        assert_near("batch_norm_by", &y, &want, 4.0);
    }
}

/// A mean a million times the spread: the variance is lost in the sum of squares, and the mean must be right to the
/// last bit.
#[test]
fn a_mean_far_above_the_spread() {
    for device in devices_and_hardware() {
        for dims in [[3, 8], [3, 1000], [40, 64], [1, 70_000]] {
            let x = Array::from_fn(dims, |at| 1e6 + if at[1] % 2 == 0 { -1.0 } else { 1.0 });
            let want = x.map(|x| x - 1e6);
            let y = x.to_tensor(&device).layer_norm(1, None, None, 0.0).unwrap();
            // At most half an ulp of the mean, 1/32.
            assert_within(&format!("{dims:?}"), &y, &want, |_| 0.04);
            let y = x.to_tensor(&device).t().unwrap().batch_norm(None, None, 0.0).unwrap().output;
            let want = Array::from_fn([dims[1], dims[0]], |at| want.at(&[at[1], at[0]]));
            assert_within(&format!("{dims:?} by column"), &y, &want, |_| 0.04);
        }
    }
}

/// The mean is computed relative to an element of its own row: the row above has values far away.
#[test]
fn rows_far_apart_keep_their_means() {
    for device in devices_and_hardware() {
        let sign = |at: &[usize]| if at[1].is_multiple_of(2) { 1.0 } else { -1.0 };
        // Adjacent floats of this size are 8 apart, so the row above has a spread of 8.
        let x =
            Array::from_fn(
                [2, 70_002],
                |at| if at[0] == 0 { 99_999_992.0 + 8.0 * sign(at) } else { sign(at) },
            );
        let want = Array::from_fn([2, 70_002], sign);
        // In the row above, half an ulp of the mean is half the spread; in the row below the mean is 0 up to roundings.
        let near = |at: usize| if at < 70_002 { 0.6 } else { 16.0 * EPS };
        let y = x.to_tensor(&device).layer_norm(1, None, None, 0.0).unwrap();
        assert_within("rows", &y, &want, near);
        let y = x.to_tensor(&device).t().unwrap().batch_norm(None, None, 0.0).unwrap().output;
        assert_within("columns", &y.t().unwrap(), &want, near);
    }
}

/// Op, by channel or by row, and shapes: all the ways in which kernels divide rows. Each row has as many -1 as 1, so
/// sums are small whole numbers, and an element that is skipped or counted twice shows.
#[test]
fn long_rows_lose_nothing() {
    type Op = fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>;
    let layer: Op = |x, w, b| x.layer_norm(1, Some(w), Some(b), 0.0);
    let rms: Op = |x, w, b| x.rms_norm(1, Some(w), 0.0)?.add(b);
    let group: Op = |x, w, b| x.group_norm(2, Some(w), Some(b), 0.0);
    // The normalization of the sum of two halves.
    let added: Op = |x, w, b| {
        let half = x.mul_scalar(0.5)?;
        Ok(half.add_layer_norm(&half, 1, Some(w), Some(b), 0.0)?[0].clone())
    };
    let batch: Op = |x, w, b| Ok(x.batch_norm(Some(w), Some(b), 0.0)?.output);
    let cases: &[(&str, Op, &[usize], usize)] = &[
        ("layer", layer, &[1, 262_144], 262_144),
        ("layer", layer, &[2, 262_148], 262_148),
        ("layer", layer, &[17, 13_004], 13_004),
        ("layer", layer, &[260, 40_000], 40_000),
        ("added", added, &[1, 262_144], 262_144),
        ("added", added, &[2, 262_148], 262_148),
        ("added", added, &[260, 1300], 1300),
        ("added", added, &[20_000, 10], 10),
        ("layer", layer, &[20_000, 10], 10),
        ("layer", layer, &[70_000, 2], 2),
        ("rms", rms, &[3, 70_002], 70_002),
        ("group", group, &[1, 6, 40_000], 6),
        ("group", group, &[300, 4, 26], 4),
        ("batch", batch, &[130_004, 3], 3),
        ("batch", batch, &[66, 300, 1], 300),
        ("batch", batch, &[2, 3, 65_538], 3),
        ("batch", batch, &[20_002, 2, 3], 2),
    ];
    for (name, op, dims, channels) in cases {
        // Alternating signs along the elements of each row and channel.
        let sign = |index: &[usize]| if index.iter().sum::<usize>() % 2 == 0 { 1.0 } else { -1.0 };
        let x = Array::from_fn(*dims, sign);
        let shape: &[usize] = &[*channels];
        for device in devices_and_hardware() {
            let what = format!("{name} of {dims:?}");
            let x_leaf = x.to_tensor(&device).requires_grad().unwrap();
            let w = Tensor::ones(shape, &device).unwrap().requires_grad().unwrap();
            let b = Tensor::zeros(shape, &device).unwrap().requires_grad().unwrap();
            let y = op(&x_leaf, &w, &b).unwrap();
            let rows = x.numel() / channels;
            // The mean is 0 and the deviation 1; a missing element shifts the mean of the whole row by 1 / n.
            let count = match *name {
                "layer" | "added" | "rms" => *channels,
                "group" => dims[1..].iter().product::<usize>() / 2,
                _ => rows,
            };
            assert_within(&what, &y, &x, |_| 8.0 * EPS + 0.25 / count as f64);
            let grads = y.backward_from(&Tensor::ones(*dims, &device).unwrap()).unwrap();
            let ones = Array::from_fn(shape, |_| rows as f64);
            assert_within(&format!("{what}: db"), grads.get(&b).unwrap(), &ones, |_| 0.0);
            if rows.is_multiple_of(2) {
                let zeros = ones.map(|_| 0.0);
                assert_within(&format!("{what}: dw"), grads.get(&w).unwrap(), &zeros, |_| 0.5);
            }
            if *name != "rms" {
                // 1 minus a mean of ones, which has the error of a division.
                let zeros = Array::from_fn(*dims, |_| 0.0);
                assert_within(&format!("{what}: dx"), grads.get(&x_leaf).unwrap(), &zeros, |_| {
                    16.0 * EPS + 0.25 / count as f64
                });
            }
        }
    }
}

#[test]
fn empty_inputs_are_ordinary() {
    for device in devices() {
        let [weight, bias] = [Tensor::ones([3], &device), Tensor::zeros([3], &device)]
            .map(|tensor| tensor.unwrap().requires_grad().unwrap());
        for (name, op) in [
            (
                "layer",
                (|x, w, b| x.layer_norm(1, Some(w), Some(b), 1e-5))
                    as fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
            ),
            ("group", |x, w, b| x.group_norm(3, Some(w), Some(b), 1e-5)),
            ("batch", |x, w, b| Ok(x.batch_norm(Some(w), Some(b), 1e-5)?.output)),
            ("by", |x, w, b| x.batch_norm_by(&w.detach(), &w.detach(), Some(w), Some(b), 1e-5)),
        ] {
            let x = Tensor::zeros([0, 3], &device).unwrap().requires_grad().unwrap();
            let y = op(&x, &weight, &bias).unwrap();
            assert_eq!(y.shape(), [0, 3], "{name}");
            let grads = y.backward_from(&Tensor::zeros([0, 3], &device).unwrap()).unwrap();
            assert_eq!(grads.get(&x).unwrap().shape(), [0, 3], "{name}");
            for leaf in [&weight, &bias] {
                assert_eq!(grads.get(leaf).unwrap().to_vec().unwrap(), [0.0; 3], "{name}");
            }
        }
        let x = Tensor::zeros([0, 3], &device).unwrap().requires_grad().unwrap();
        let [y, sum] = x.add_layer_norm(&x, 1, Some(&weight), Some(&bias), 1e-5).unwrap();
        assert_eq!((y.shape().to_vec(), sum.shape().to_vec()), (vec![0, 3], vec![0, 3]));
        let grads = y.add(&sum).unwrap().backward_from(&Tensor::zeros([0, 3], &device).unwrap()).unwrap();
        assert_eq!(grads.get(&bias).unwrap().to_vec().unwrap(), [0.0; 3]);
        // Empty rows.
        let x = Tensor::zeros([2, 0], &device).unwrap();
        assert_eq!(x.layer_norm(1, None, None, 1e-5).unwrap().shape(), [2, 0]);
        let batch = Tensor::zeros([0, 3, 2], &device).unwrap().batch_norm(None, None, 1e-5).unwrap();
        assert!(batch.mean.to_vec().unwrap().iter().all(|m| m.is_nan()));
        let mut running = [Tensor::zeros([3], &device).unwrap(), Tensor::ones([3], &device).unwrap()];
        let [mean, variance] = &mut running;
        batch.update(mean, variance, 0.1).unwrap();
        assert_eq!((mean.to_vec().unwrap(), variance.to_vec().unwrap()), (vec![0.0; 3], vec![1.0; 3]));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for device in devices() {
        let x = Tensor::zeros([2, 6, 4], &device).unwrap();
        let six = Tensor::ones([6], &device).unwrap();
        let ids = Tensor::from_ids(&[0; 6], [6], &device).unwrap();
        let message = |result: Result<Tensor>| match result.unwrap_err() {
            ref error @ (Error::Shape { .. } | Error::Argument { .. }) => without_line(error),
            other => panic!("{other}"),
        };
        let cases = [
            (
                x.layer_norm(0, None, None, 1e-5),
                "layer_norm: the last 0 axes of shape [2, 6, 4], should be 1 to 3",
            ),
            (
                x.layer_norm(4, None, None, 1e-5),
                "layer_norm: the last 4 axes of shape [2, 6, 4], should be 1 to 3",
            ),
            (
                x.layer_norm(1, Some(&six), None, 1e-5),
                "layer_norm: a weight of shape [6] for [2, 6, 4], should be [4]",
            ),
            (
                x.layer_norm(2, None, Some(&six), 1e-5),
                "layer_norm: a bias of shape [6] for [2, 6, 4], should be [6, 4]",
            ),
            (x.layer_norm(1, None, None, -1.0), "layer_norm: eps is -1, should be at least 0"),
            (x.rms_norm(1, None, f32::NAN), "rms_norm: eps is NaN, should be at least 0"),
            (ids.layer_norm(1, None, None, 1e-5), "layer_norm: wants f32, got u32 of shape [6]"),
            (x.layer_norm(1, Some(&ids), None, 1e-5), "layer_norm: wants f32, got u32 of shape [6]"),
            (
                x.group_norm(4, None, None, 1e-5),
                "group_norm: 4 groups do not divide the 6 channels of shape [2, 6, 4]",
            ),
            (
                x.group_norm(0, None, None, 1e-5),
                "group_norm: 0 groups do not divide the 6 channels of shape [2, 6, 4]",
            ),
            (six.group_norm(1, None, None, 1e-5), "group_norm: shape [6], should be [n, c, ..]"),
            (six.instance_norm(None, None, 1e-5), "instance_norm: shape [6], should be [n, c, ..]"),
            (
                x.add_layer_norm(&six, 1, None, None, 1e-5).map(|[y, _]| y),
                "add_layer_norm: a residual of shape [6] for [2, 6, 4]",
            ),
            (
                x.add_rms_norm(&x, 1, Some(&six), 1e-5).map(|[y, _]| y),
                "add_rms_norm: a weight of shape [6] for [2, 6, 4], should be [4]",
            ),
            (
                six.batch_norm(None, None, 1e-5).map(|b| b.output),
                "batch_norm: shape [6], should be [n, c, ..]",
            ),
            (
                Tensor::zeros([1, 6], &device).unwrap().batch_norm(None, None, 1e-5).map(|b| b.output),
                "batch_norm: one element a channel in shape [1, 6] has no variance to train with",
            ),
            (
                x.batch_norm_by(&six, &x, None, None, 1e-5),
                "batch_norm: statistics of shape [2, 6, 4] for [2, 6, 4], should be [6]",
            ),
        ];
        for (result, want) in cases {
            assert_eq!(message(result), want);
        }
        let batch = x.batch_norm(None, None, 1e-5).unwrap();
        let [mut three, mut right] = [3, 6].map(|n| Tensor::zeros([n], &device).unwrap());
        let error = batch.update(&mut three, &mut right, 0.1).unwrap_err();
        assert_eq!(without_line(&error), "batch_norm: states of shapes [[3], [6]] do not fit [[6], [6]]");
        let mut other = right.copy().unwrap();
        for momentum in [f32::NAN, f32::INFINITY, -0.1, 1.5] {
            let error = batch.update(&mut other, &mut right, momentum).unwrap_err();
            assert_eq!(without_line(&error), format!("batch_norm: momentum {momentum} is not in 0..=1"));
        }
        assert_eq!((other.to_vec(), right.to_vec()), (Ok(vec![0.0; 6]), Ok(vec![0.0; 6])));
    }
}

#[test]
fn layers_describe_themselves() {
    for device in devices() {
        let init = Init::new(1, &device);
        let x = Array::random([4, 6, 2, 3], 1, -1.0, 1.0).to_tensor(&device);
        let check =
            |layer: &dyn Layer, x: &Tensor, want: Tensor, describe: &str, flops: usize, parameters: usize| {
                assert_eq!(layer.describe(), describe);
                let y = layer.forward(x).unwrap();
                assert_eq!(y.to_vec(), want.to_vec(), "{describe}");
                // Batch normalization also updates the statistics of six channels, by six operations each.
                let update = if describe.starts_with("Batch") { 6 * 6 } else { 0 };
                let flops = (flops * x.numel() + update) as u64;
                assert_eq!(dry(layer, x), Ok((y.shape(), flops)), "{describe}");
                assert_eq!(layer.parameters().iter().map(|p| p.numel()).sum::<usize>(), parameters);
                assert!(layer.forward(&Tensor::zeros([4, 5], &device).unwrap()).is_err(), "{describe}");
            };
        let layer = LayerNorm::new([2, 3], &init).unwrap();
        check(&layer, &x, x.layer_norm(2, None, None, 1e-5).unwrap(), "LayerNorm [2, 3]", 8, 12);
        let layer = RmsNorm::new([3], &init).unwrap().with_eps(0.125).unwrap();
        check(&layer, &x, x.rms_norm(1, None, 0.125).unwrap(), "RmsNorm [3], eps 0.125", 5, 3);
        let layer = GroupNorm::new(3, 6, &init).unwrap();
        check(&layer, &x, x.group_norm(3, None, None, 1e-5).unwrap(), "GroupNorm 3 of 6", 8, 12);
        let layer = BatchNorm2d::new(6, &init).unwrap();
        check(&layer, &x, x.batch_norm(None, None, 1e-5).unwrap().output, "BatchNorm2d 6", 8, 12);
        let layer = BatchNorm1d::new(6, &init).unwrap();
        let flat = x.reshape([4, 6, 6]).unwrap();
        check(&layer, &flat, flat.batch_norm(None, None, 1e-5).unwrap().output, "BatchNorm1d 6", 8, 12);
        assert!(layer.forward(&x).is_err());

        let weight = Tensor::ones([3], &device).unwrap();
        let layer = LayerNorm::from_tensors(&weight, None).unwrap();
        assert_eq!(layer.parameters().len(), 1);
        assert!(LayerNorm::from_tensors(&weight, Some(&x)).is_err());
        assert!(GroupNorm::new(4, 6, &init).is_err() && GroupNorm::new(0, 6, &init).is_err());
        assert!(BatchNorm1d::new(6, &init).unwrap().with_momentum(1.5).is_err());
        assert!(LayerNorm::new([3], &init).unwrap().with_eps(-1.0).is_err());
    }
}

#[test]
fn a_huge_number_of_groups_without_channels_does_not_overflow() {
    for device in devices() {
        let x = Tensor::zeros([1 << 40, 0, 3], &device).unwrap();
        let error = x.group_norm(1 << 40, None, None, 1e-5).unwrap_err().to_string();
        assert!(error.contains("elements"), "{error}");
    }
}

/// The fields of the statistics are public, so they may be views of another tensor.
#[test]
fn statistics_that_are_views_are_followed() {
    for device in devices() {
        let x = Array::random([8, 2], 5, -1.0, 1.0).to_tensor(&device);
        let mut batch = x.batch_norm(None, None, 0.0).unwrap();
        let all = tensor(&[9.0, 1.0, 2.0, 3.5, 7.0], &[5], &device);
        batch.mean = all.slice(0, 1..3).unwrap();
        batch.variance = all.slice(0, 3..5).unwrap();
        let (mut mean, mut variance) = (all.slice(0, 0..2).unwrap(), tensor(&[0.0, 0.0], &[2], &device));
        batch.update(&mut mean, &mut variance, 0.5).unwrap();
        // By hand: half of the sums; the unbiased variance divides by 7 and not by 8.
        assert_near("mean", &mean, &[5.0, 1.5], 0.0);
        assert_near("variance", &variance, &[2.0, 4.0], 4.0);
    }
}

#[test]
fn running_statistics_follow_and_are_saved() {
    let path = std::env::temp_dir().join(format!("gristmill-norms-{}.safetensors", std::process::id()));
    for device in devices() {
        let model = |seed| {
            let mut init = Init::new(seed, &device);
            Sequential::new()
                .push(Linear::new(3, 4, &mut init).unwrap())
                .push(BatchNorm1d::new(4, &init).unwrap().with_momentum(0.25).unwrap())
        };
        let (model, other) = (model(1), model(2));
        let names =
            |all: Vec<(String, nn::Parameter)>| all.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(model.named_parameters()), ["0.weight", "0.bias", "1.weight", "1.bias"]);
        assert_eq!(
            names(model.named_state()),
            ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"]
        );

        // Three steps; the statistics are tracked in f64 as well.
        let mut optimizer = Sgd::new(model.parameters(), 0.1);
        let mut running = [vec![0.0f64; 4], vec![1.0f64; 4]];
        for step in 0..3 {
            let x = Array::random([8, 3], step, -1.0, 1.0).to_tensor(&device);
            let parameters = model.parameters();
            let hidden = x.linear(&parameters[0].tensor(), Some(&parameters[1].tensor()), Default::default());
            let hidden: Vec<f64> = hidden.unwrap().to_vec().unwrap().into_iter().map(f64::from).collect();
            let [means, variances] = &mut running;
            for (channel, (running_mean, running_var)) in means.iter_mut().zip(variances).enumerate() {
                let column: Vec<f64> = hidden.iter().skip(channel).step_by(4).copied().collect();
                let mean = column.iter().sum::<f64>() / 8.0;
                let unbiased = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 7.0;
                *running_mean += 0.25 * (mean - *running_mean);
                *running_var += 0.25 * (unbiased - *running_var);
            }
            let loss =
                model.forward(&x).unwrap().square().unwrap().mul_scalar(0.5).unwrap().mean_all().unwrap();
            optimizer.step(&loss.backward().unwrap()).unwrap();
        }
        let state = model.named_state();
        for (at, want) in running.iter().enumerate() {
            assert_near(&state[4 + at].0, &state[4 + at].1.tensor(), want, 4.0);
        }

        // In evaluation mode the statistics are constant, and rows are independent.
        model.eval();
        let x = Array::random([5, 3], 9, -1.0, 1.0).to_tensor(&device);
        let y = model.forward(&x).unwrap();
        let before = state[4].1.tensor().to_vec().unwrap();
        let row = model.forward(&x.slice(0, 2..3).unwrap()).unwrap();
        assert_near(
            "one row",
            &row,
            &y.to_vec().unwrap()[8..12].iter().map(|&y| f64::from(y)).collect::<Vec<_>>(),
            4.0,
        );
        assert_eq!(state[4].1.tensor().to_vec().unwrap(), before);

        nn::save_parameters(&model, &path).unwrap();
        assert_ne!(nn::hash_parameters(&model), nn::hash_parameters(&other));
        nn::load_parameters(&other, &path).unwrap();
        assert_eq!(nn::hash_parameters(&model), nn::hash_parameters(&other));
        other.eval();
        assert_eq!(other.forward(&x).unwrap().to_vec(), y.to_vec());
        // Buffers have no gradient, also after loading.
        assert!(!other.named_state()[4].1.tensor().is_differentiable());
        other.train();
        other.forward(&x).unwrap();
        assert_ne!(nn::hash_parameters(&model), nn::hash_parameters(&other));
    }
    std::fs::remove_file(path).unwrap();
}
