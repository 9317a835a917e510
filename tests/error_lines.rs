//! Errors name the line of the program that called the op, also when they show later.
#![allow(clippy::unwrap_used)] // also in helpers, which clippy does not take for tests

mod common;

use common::devices;
use gristmill::nn::{Embedding, Init, Layer, Linear, Module, Relu, Sequential};
use gristmill::{Chain, Device, Error, Result, Tensor};

/// What must fail, and the line on which it is called.
macro_rules! here {
    ($call:expr) => {
        ($call.map(drop).unwrap_err(), line!())
    };
}

fn assert_at((error, line): (Error, u32)) {
    let expected = format!(" (at {}:{line}:", file!());
    assert!(error.to_string().contains(&expected), "{error}: should be at line {line}");
}

#[test]
fn an_error_names_the_line_of_the_call() {
    for device in devices() {
        let x = Tensor::ones([2, 3], &device).unwrap();
        let wide = Tensor::ones([4, 5], &device).unwrap();
        let ids = Tensor::from_ids(&[1], [1], &device).unwrap();
        assert_at(here!(x.matmul(&wide)));
        assert_at(here!(x.relu().matmul(&wide)));
        assert_at(here!((2.0 * &x + &wide).eval()));
        assert_at(here!((1.0 - &ids).eval()));
        assert_at(here!((-&ids).eval()));
        assert_at(here!(x.softmax(7)));
        assert_at(here!(x.i((.., 0, 1))));
        assert_at(here!(x.sum(&[0, 0], false)));
        assert_at(here!(x.add(&Tensor::ones([2, 3], &Device::cpu_with_budget(1 << 20)).unwrap())));
        assert_at(here!(Tensor::from_slice(&[1.0], [2], &device)));
        assert_at(here!(Tensor::zeros([1; 7], &device)));
        assert_at(here!(x.requires_grad().unwrap().square().unwrap().backward()));
    }
}

#[derive(Module)]
struct Own(Linear);

impl Layer for Own {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.forward(x)
    }
}
const OWN_FORWARD: u32 = line!() - 3;

#[test]
fn an_error_of_a_layer_names_the_line_that_called_the_model() {
    for device in devices() {
        let x = Tensor::ones([2, 3], &device).unwrap();
        let init = &mut Init::new(1, &device);
        let linear = || Linear::new(5, 5, &mut Init::new(1, &device)).unwrap();
        assert_at(here!(linear().forward(&x)));
        assert_at(here!(Sequential::new().push(Relu).push(linear()).forward(&x)));
        assert_at(here!(Linear::new(usize::MAX, 2, init)));
        let (error, _) = here!(Sequential::new().push(Own(linear())).forward(&x));
        assert_at((error, OWN_FORWARD));
    }
}

#[test]
fn an_error_of_the_backward_pass_names_the_line_of_the_forward_pass() {
    // Room for the input, one result and one gradient, where the product's backward pass makes two.
    const COUNT: usize = 1 << 16;
    let device = Device::cpu_with_budget(13 * COUNT as u64);
    let x = Tensor::ones([COUNT], &device).unwrap().requires_grad().unwrap();
    let (product, line) = (x.mul(&x).unwrap(), line!());
    let error = product.sum_all().unwrap().backward().map(drop).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    assert_at((error, line));
}

#[test]
fn ids_out_of_range_name_the_line_of_the_op_that_used_them() {
    for device in devices() {
        let table = Embedding::new(3, 2, &mut Init::new(1, &device)).unwrap();
        let scores = Tensor::from_slice(&[0.0, 0.0, 0.0, 0.0, 9.0], [5], &device).unwrap();
        let id = scores.argmax(0, true).unwrap(); // 4, which only the device knows
        // On a GPU the op is recorded, and reading its result fails.
        let (error, line) = here!(table.forward(&id).and_then(|rows| rows.to_vec()));
        assert_at((error, line));
    }
}
