//! Matrix products: every kernel of the ladder against f64, epilogues, views, gradients.

mod common;

use common::*;
use gristmill::{Activation, Device, Error, MatMulKernel, Tensor};
use proptest::prelude::*;

// Auto is the subgroup kernel on the software adapters that have subgroups.
const KERNELS: [MatMulKernel; 4] =
    [MatMulKernel::Auto, MatMulKernel::Naive, MatMulKernel::Registers, MatMulKernel::Tiled];

/// The product and, for its bound, the product of the absolute values.
fn reference(a: &Array, b: &Array) -> (Array, Array) {
    let (ra, rb) = (a.shape.len(), b.shape.len());
    let k = a.shape[ra - 1];
    let lead_a = Array::new(a.shape[..ra - 2].to_vec(), vec![0.0; a.shape[..ra - 2].iter().product()]);
    let lead_b = Array::new(b.shape[..rb - 2].to_vec(), vec![0.0; b.shape[..rb - 2].iter().product()]);
    let batch: Vec<usize> = (0..lead_a.shape.len().max(lead_b.shape.len()))
        .map(|axis| {
            let rank = lead_a.shape.len().max(lead_b.shape.len());
            let dim = |s: &[usize]| (axis + s.len()).checked_sub(rank).map_or(1, |at| s[at]);
            let (x, y) = (dim(&lead_a.shape), dim(&lead_b.shape));
            if x == 1 { y } else { x }
        })
        .collect();
    let shape = [&batch[..], &[a.shape[ra - 2], b.shape[rb - 1]]].concat();
    let own = |index: &[usize], x: &Array, last: [usize; 2]| {
        let lead = &x.shape[..x.shape.len() - 2];
        let skip = index.len() - 2 - lead.len();
        let mut at: Vec<usize> =
            lead.iter().zip(&index[skip..]).map(|(&d, &i)| if d == 1 { 0 } else { i }).collect();
        at.extend(last);
        x.at(&at)
    };
    let sum = |f: fn(f64) -> f64| {
        Array::from_fn(shape.clone(), |index| {
            let (i, j) = (index[index.len() - 2], index[index.len() - 1]);
            (0..k).map(|l| f(own(index, a, [i, l]) * own(index, b, [l, j]))).sum()
        })
    };
    (sum(|x| x), sum(f64::abs))
}

/// A sum of k products in any order errs by at most k roundings of each partial sum; a bias is one more.
fn bound(k: usize, magnitude: f64) -> f64 {
    (k as f64 + 2.0) * EPS * magnitude * 1.0001
}

fn small() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(0usize), 2 => Just(1usize), 4 => 2usize..10, 4 => prop::sample::select(vec![15usize, 16, 17, 31, 63, 64, 65])]
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_kernel_matches_f64((m, n, k) in (small(), small(), small()), seed: u64, ways: (u8, u8), bias: bool) {
        let (a, b) = (Array::random([m, k], seed, -1.0, 1.0), Array::random([k, n], seed ^ 1, -1.0, 1.0));
        let bias = bias.then(|| Array::random([n], seed ^ 2, -1.0, 1.0));
        let (mut want, mut size) = reference(&a, &b);
        if let Some(bias) = &bias {
            want = Array::from_fn([m, n], |at| want.at(at) + bias.at(&at[1..]));
            size = Array::from_fn([m, n], |at| size.at(at) + bias.at(&at[1..]).abs());
        }
        for device in devices() {
            let (a, b) = (laid_out(&a, ways.0, &device), laid_out(&b, ways.1, &device));
            let bias = bias.as_ref().map(|bias| laid_out(bias, ways.0, &device));
            for kernel in KERNELS {
                let got = a.matmul_with(&b, bias.as_ref(), Activation::None, kernel).unwrap();
                assert_within(&format!("{kernel:?}"), &got, &want, |at| bound(k, size.data[at]));
            }
        }
    }

    #[test]
    fn batches_broadcast(lead in prop::collection::vec(1usize..4, 0..=3), ones in prop::collection::vec(any::<bool>(), 3),
                         cut in 0usize..=3, (m, n, k) in (1usize..9, 1usize..9, 1usize..9), seed: u64, ways: (u8, u8), swap: bool) {
        let other: Vec<usize> = lead.iter().zip(&ones).map(|(&d, &one)| if one { 1 } else { d }).skip(cut).collect();
        let (la, lb) = if swap { (other, lead) } else { (lead, other) };
        let a = Array::random([&la[..], &[m, k]].concat(), seed, -1.0, 1.0);
        let b = Array::random([&lb[..], &[k, n]].concat(), seed ^ 1, -1.0, 1.0);
        let (want, size) = reference(&a, &b);
        for device in devices() {
            let (a, b) = (laid_out(&a, ways.0, &device), laid_out(&b, ways.1, &device));
            for kernel in KERNELS {
                let got = a.matmul_with(&b, None, Activation::None, kernel).unwrap();
                assert_within(&format!("{kernel:?}"), &got, &want, |at| bound(k, size.data[at]));
            }
        }
    }

    #[test]
    fn gradients_match_differences((m, n, k, batch) in (1usize..5, 1usize..5, 1usize..5, 1usize..3), seed: u64, which in 0usize..4) {
        let activation = [Activation::None, Activation::Relu, Activation::Sigmoid, Activation::Tanh][which];
        // All positive keeps relu away from its corner.
        let a = Array::random([batch, m, k], seed, 0.1, 1.0);
        let b = Array::random([k, n], seed ^ 1, 0.1, 1.0);
        let bias = Array::random([n], seed ^ 2, 0.1, 1.0);
        let f = |y: f64| match activation {
            Activation::Sigmoid => 1.0 / (1.0 + (-y).exp()),
            Activation::Tanh => y.tanh(),
            _ => y,
        };
        // Sums of at most 8 terms below 6; tanh's 1e-5 by WGSL's table.
        let slack = if activation == Activation::Tanh { 1e-4 } else { 200.0 * EPS };
        check_gradients("matmul", &[a, b, bias],
            |x| x[0].matmul_with(&x[1], Some(&x[2]), activation, MatMulKernel::Auto),
            |x| {
                let product = reference(&x[0], &x[1]).0;
                Array::from_fn(product.shape.clone(), |at| f(product.at(at) + x[2].at(&at[at.len() - 1..])))
            },
            slack);
    }
}

#[test]
fn a_product_worked_by_hand() {
    for device in devices() {
        let a = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], &device).unwrap();
        let b = Tensor::from_slice(&[7.0, 8.0, 9.0, 10.0, 11.0, 12.0], [3, 2], &device).unwrap();
        assert_eq!(a.matmul(&b).unwrap().to_vec().unwrap(), [58.0, 64.0, 139.0, 154.0]);
        let w = b.t().unwrap().contiguous().unwrap();
        let bias = Tensor::from_slice(&[-100.0, 1.0], [2], &device).unwrap();
        assert_eq!(
            a.linear(&w, Some(&bias), Activation::Relu).unwrap().to_vec().unwrap(),
            [0.0, 65.0, 39.0, 155.0]
        );
    }
}

/// A long k passes the 65,535 iterations at which some adapters end a loop: whole numbers make any lost term show.
#[test]
fn a_long_k_is_summed_whole() {
    let k = 70_001;
    for device in devices() {
        let (a, b) = (Tensor::ones([2, k], &device).unwrap(), Tensor::ones([k, 3], &device).unwrap());
        for kernel in KERNELS {
            let got = a.matmul_with(&b, None, Activation::None, kernel).unwrap().to_vec().unwrap();
            assert_eq!(got, [k as f32; 6], "{kernel:?} on {}", device.id());
        }
    }
}

#[test]
fn an_empty_inner_axis_gives_the_bias() {
    for device in devices() {
        let (a, b) = (Tensor::zeros([2, 0], &device).unwrap(), Tensor::zeros([0, 2], &device).unwrap());
        let bias = Tensor::from_slice(&[1.0, 2.0], [2], &device).unwrap();
        for kernel in KERNELS {
            let got = a.matmul_with(&b, Some(&bias), Activation::None, kernel).unwrap();
            assert_eq!(got.to_vec().unwrap(), [1.0, 2.0, 1.0, 2.0]);
        }
        assert_eq!(
            Tensor::zeros([0, 2], &device)
                .unwrap()
                .matmul(&b.t().unwrap())
                .map(|y| y.shape().to_vec())
                .unwrap(),
            [0, 0]
        );
    }
}

#[test]
fn nan_stays_in_its_row_and_column() {
    for device in devices() {
        let mut data = vec![1.0f32; 9 * 9];
        data[2 * 9 + 5] = f32::NAN;
        let a = Tensor::from_slice(&data, [9, 9], &device).unwrap();
        let ones = Tensor::ones([9, 9], &device).unwrap();
        for kernel in KERNELS {
            let left = a.matmul_with(&ones, None, Activation::Relu, kernel).unwrap().to_vec().unwrap();
            let right = ones.matmul_with(&a, None, Activation::Relu, kernel).unwrap().to_vec().unwrap();
            for i in 0..81 {
                assert_eq!(left[i].is_nan(), i / 9 == 2, "{kernel:?} on {}", device.id());
                assert_eq!(right[i].is_nan(), i % 9 == 5, "{kernel:?} on {}", device.id());
            }
        }
    }
}

#[test]
fn a_transposed_weight_gets_a_contiguous_gradient() {
    for device in devices() {
        let x = Tensor::ones([5, 3], &device).unwrap();
        let w = Tensor::ones([2, 3], &device).unwrap().requires_grad().unwrap();
        let y = x.linear(&w, None, Activation::None).unwrap();
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert!(grads.get(&w).unwrap().layout().is_contiguous());
        assert_eq!(grads.get(&w).unwrap().to_vec().unwrap(), [5.0; 6]);
    }
}

#[test]
fn errors_name_the_op_and_the_shapes() {
    let device = device();
    let t = |shape: &[usize]| Tensor::zeros(shape, &device).unwrap();
    let message = |r: gristmill::Result<Tensor>| match r {
        Err(error @ Error::Shape { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(message(t(&[2, 3]).matmul(&t(&[4, 2]))).starts_with("matmul: shapes [2, 3] and [4, 2]"));
    assert!(message(t(&[3]).matmul(&t(&[3, 2]))).contains("two axes"));
    assert!(
        message(t(&[2, 1, 3]).matmul(&t(&[5, 3, 2])).and(t(&[2, 2, 3]).matmul(&t(&[5, 3, 2]))))
            .contains("broadcast")
    );
    assert!(
        message(t(&[2, 3]).linear(&t(&[4, 2]), None, Activation::None)).starts_with("linear: input [2, 3]")
    );
    let bias = t(&[3]);
    assert!(
        message(t(&[2, 3]).linear(&t(&[4, 3]), Some(&bias), Activation::None)).contains("bias of shape [3]")
    );
    if device.is_gpu() {
        let other = t(&[2, 2]).matmul(&Tensor::zeros([2, 2], &Device::cpu()).unwrap());
        assert!(matches!(other, Err(Error::MixedDevices { op: "matmul", .. })));
    }
}
