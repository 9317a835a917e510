//! An independent check: the simplest kernels agree with the ops of `Tensor`, on every device.

mod common;

use common::*;
use gristmill::{AttentionOptions, Conv2dOptions, Device, Pool2dOptions, Tensor, naive};

fn random(shape: &[usize], seed: u64, device: &Device) -> Tensor {
    Tensor::uniform(shape, -1.0, 1.0, seed, device).unwrap()
}

/// Asserts that two tensors of numbers near 1 agree within the roundings of sums of `terms` terms, an exponential and a
/// division.
fn agree(what: &str, plain: &Tensor, fast: &Tensor, terms: usize) {
    assert_eq!(plain.shape(), fast.shape(), "{what}");
    let (plain, fast) = (plain.to_vec().unwrap(), fast.to_vec().unwrap());
    let largest = fast.iter().fold(1f32, |most, x| most.max(x.abs()));
    let bound = (2 * terms + 40) as f64 * EPS * f64::from(largest) * 8.0;
    for (at, (a, b)) in plain.iter().zip(&fast).enumerate() {
        assert!(f64::from((a - b).abs()) <= bound, "{what}, element {at}: {a} and {b}, bound {bound}");
    }
}

#[test]
fn plain_kernels_agree_with_the_ops() {
    for device in devices_and_hardware() {
        for [rows, cols] in [[1, 1], [3, 7], [70, 300], [2, 4000]] {
            let x = random(&[rows, cols], 1, &device);
            agree("sum", &naive::sum(&x).unwrap(), &x.sum(&[1], false).unwrap(), cols);
            agree("softmax", &naive::softmax(&x).unwrap(), &x.softmax(1).unwrap(), cols);
            let normalized = x.layer_norm(1, None, None, 1e-3).unwrap();
            agree("layer_norm", &naive::layer_norm(&x, 1e-3).unwrap(), &normalized, cols);
        }
        for [matrices, n, m, d, dv] in [[1, 1, 1, 1, 1], [2, 5, 9, 4, 3], [3, 40, 70, 16, 20]] {
            let [q, k] = [n, m].map(|rows| random(&[matrices, rows, d], rows as u64, &device));
            let v = random(&[matrices, m, dv], 3, &device);
            let fast = q.scaled_dot_product_attention(&k, &v, &AttentionOptions::default()).unwrap();
            agree("attention", &naive::attention(&q, &k, &v).unwrap(), &fast, m + d);
        }
        for ([n, c, h, w], kernel) in [([1, 1, 1, 1], 1), ([2, 3, 9, 7], 2), ([1, 2, 11, 16], 3)] {
            let x = random(&[n, c, h, w], 4, &device);
            let fast = x.max_pool2d(Pool2dOptions::new([kernel; 2])).unwrap();
            agree("max_pool2d", &naive::max_pool2d(&x, kernel).unwrap(), &fast, 0);
        }
        for ([n, c, h, w], [o, kh, kw]) in [([1, 1, 1, 1], [1, 1, 1]), ([2, 3, 8, 9], [4, 3, 2])] {
            let x = random(&[n, c, h, w], 5, &device);
            let weight = random(&[o, c, kh, kw], 6, &device).requires_grad().unwrap();
            let y = x.conv2d(&weight, None, Conv2dOptions::default()).unwrap();
            let dy = random(&y.shape(), 7, &device);
            let gradients = y.backward_from(&dy).unwrap();
            let fast = gradients.get(&weight).unwrap();
            agree("conv2d_weight", &naive::conv2d_weight(&x, &dy).unwrap(), fast, n * h * w);
        }
    }
}

/// A view that begins inside its buffer, and one with gaps between rows.
#[test]
fn plain_kernels_take_views() {
    for device in devices() {
        let x = random(&[6, 5], 1, &device);
        let part = x.slice(0, 2..5).unwrap();
        agree("slice", &naive::sum(&part).unwrap(), &part.sum(&[1], false).unwrap(), 5);
        let turned = x.t().unwrap();
        agree("transposed", &naive::sum(&turned).unwrap(), &turned.sum(&[1], false).unwrap(), 6);
    }
}

#[test]
fn unsupported_arguments_of_naive_kernels_are_refused() {
    for device in devices() {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, &device).unwrap();
        let refused = |result: gristmill::Result<Tensor>, part: &str| {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        };
        refused(naive::sum(&zeros(&[3])), "naive::sum: shape [3], should have 2 axes");
        refused(naive::softmax(&zeros(&[2, 0])), "none of them empty");
        refused(naive::softmax(&zeros(&[1, 21_845])), "more than 65535 iterations");
        let longest = naive::softmax(&zeros(&[1, 21_844])).unwrap().to_vec().unwrap();
        assert!(longest.iter().all(|y| (y * 21_844.0 - 1.0).abs() < 1e-5), "all iterations are made");
        refused(
            naive::attention(&zeros(&[1, 2, 3]), &zeros(&[1, 2, 4]), &zeros(&[1, 2, 3])),
            "keys of [1, 2, 4]",
        );
        refused(naive::max_pool2d(&zeros(&[1, 1, 4, 4]), 5), "a kernel of 5");
        refused(
            naive::conv2d_weight(&zeros(&[1, 1, 4, 4]), &zeros(&[2, 1, 3, 3])),
            "a gradient of [2, 1, 3, 3]",
        );
    }
}
