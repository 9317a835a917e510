//! Matrix products: worked by hand, with a long and with an empty inner axis, NaN, errors. The table (`tests/table.rs`)
//! compares every kernel with f64.

mod common;

use common::*;
use gristmill::{Activation, Device, Error, MatMulKernel, Tensor};

// Auto is the subgroup kernel on software adapters with subgroups.
const KERNELS: [MatMulKernel; 4] =
    [MatMulKernel::Auto, MatMulKernel::Naive, MatMulKernel::Registers, MatMulKernel::Tiled];

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

#[test]
fn slices_of_k_begin_where_the_last_ended() {
    // Nine rows and columns use the second four of a tile; k is cut into four slices.
    let whole = |shape: [usize; 2], seed| Array::random(shape, seed, -3.0, 3.0).map(f64::round);
    let (a, b) = (whole([9, 2048], 1), whole([2048, 9], 2));
    let want = a.to_tensor(&Device::cpu()).matmul(&b.to_tensor(&Device::cpu())).unwrap().to_vec().unwrap();
    for device in devices() {
        for kernel in KERNELS {
            let (a, b) = (a.to_tensor(&device), b.to_tensor(&device));
            let got = a.matmul_with(&b, None, Activation::None, kernel).unwrap().to_vec().unwrap();
            assert!(got == want, "{kernel:?} on {}", device.id());
        }
    }
}

/// A k beyond 65,535, after which some adapters end a loop. With whole numbers any missing term shows.
#[test]
fn a_long_k_is_summed_completely() {
    let k = 70_001;
    for device in devices() {
        let (a, b) = (Tensor::ones([2, k], &device).unwrap(), Tensor::ones([k, 3], &device).unwrap());
        // A bias at an offset, which the kernel that adds the slices must find.
        let bias = Tensor::from_slice(&[9.0, 1.0, 2.0, 3.0], [4], &device).unwrap().slice(0, 1..4).unwrap();
        for kernel in KERNELS {
            let got = a.matmul_with(&b, None, Activation::None, kernel).unwrap().to_vec().unwrap();
            assert_eq!(got, [k as f32; 6], "{kernel:?} on {}", device.id());
            let got = a.matmul_with(&b, Some(&bias), Activation::None, kernel).unwrap().to_vec().unwrap();
            let want = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0].map(|bias| k as f32 + bias);
            assert_eq!(got, want, "{kernel:?} with a bias on {}", device.id());
            let one = bias.slice(0, 1..2).unwrap().expand([3]).unwrap();
            let got = a.matmul_with(&b, Some(&one), Activation::None, kernel).unwrap().to_vec().unwrap();
            assert_eq!(got, [k as f32 + 2.0; 6], "{kernel:?} with one bias for all on {}", device.id());
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
