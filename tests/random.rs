//! Tensors of random numbers: known values, the same bits on every device, moments, errors.

mod common;

use common::*;
use gristmill::{Device, Tensor};

fn bits(x: &Tensor) -> Vec<u32> {
    x.to_vec().unwrap().into_iter().map(f32::to_bits).collect()
}

#[test]
fn known_values() {
    // Computed independently in Python: Philox as in the paper, then Box-Muller in f64.
    let normal =
        [0.13727243, 0.42260116, 1.3901502, -0.74182886, 0.37766585, 1.8147925, -0.016157506, 0.49272984];
    let uniform = [2.7788084, 1.9676645, 1.398497, 2.287097, 0.6272241, 0.18346784, 2.8434103, 0.10804352];
    for device in devices() {
        let x = Tensor::randn([2, 4], 1.0, 2.0, 42, &device).unwrap();
        // The platform's logarithm and sine may differ in the last bit, and so the rounded result.
        assert_within("randn", &x, &Array::new([2, 4], normal.map(f64::from).to_vec()), |_| 4.0 * EPS);
        let x = Tensor::uniform([8], -1.0, 3.0, (5 << 32) + 42, &device).unwrap();
        assert_eq!(x.to_vec().unwrap(), uniform);
    }
}

#[test]
fn a_seed_gives_the_same_bits_on_every_device() {
    // Sizes around the four numbers per counter, and around the size of a task.
    for len in [0, 1, 3, 4, 5, 1021, 16383, 16384, 16385, 40000] {
        let both: Vec<_> = devices()
            .iter()
            .chain([&Device::cpu(), &Device::cpu_with_budget(1 << 20)])
            .map(|device| {
                let x = Tensor::randn([len], 0.0, 1.0, 3, device).unwrap();
                let y = Tensor::uniform([len], 0.0, 1.0, 3, device).unwrap();
                assert!(x.device().same(device) && y.shape() == [len]);
                (bits(&x), bits(&y))
            })
            .collect();
        assert!(both.iter().all(|x| *x == both[0]), "{len} numbers");
    }
    let cpu = Device::cpu();
    let x = |seed| bits(&Tensor::randn([64], 0.0, 1.0, seed, &cpu).unwrap());
    assert_ne!(x(1), x(2));
    assert_ne!(x(1), x(1 + (1 << 32)));
    // A shorter tensor is a prefix of a longer one.
    assert_eq!(bits(&Tensor::randn([16], 0.0, 1.0, 1, &cpu).unwrap()), x(1)[..16]);
}

/// The mean of `f` over the elements.
fn mean(x: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    x.iter().map(|&x| f(f64::from(x))).sum::<f64>() / x.len() as f64
}

#[test]
fn moments_are_those_of_the_distribution() {
    let n = 1 << 20;
    let five_sigma = |variance: f64| 5.0 * (variance / n as f64).sqrt();
    let near = |what: &str, got: f64, want: f64, variance: f64| {
        assert!((got - want).abs() < five_sigma(variance), "{what} is {got}, not {want}");
    };
    let (m, s) = (-2.0, 0.5);
    let x = Tensor::randn([n], m as f32, s as f32, 11, &Device::cpu()).unwrap().to_vec().unwrap();
    let z = |x: f64| (x - m) / s;
    // The variance of z^k is E z^2k - (E z^k)^2, with E z^2 = 1, E z^4 = 3, E z^6 = 15, E z^8 = 105.
    near("mean", mean(&x, z), 0.0, 1.0);
    near("variance", mean(&x, |x| z(x).powi(2)), 1.0, 3.0 - 1.0);
    near("skewness", mean(&x, |x| z(x).powi(3)), 0.0, 15.0);
    near("kurtosis", mean(&x, |x| z(x).powi(4)), 3.0, 105.0 - 9.0);
    // 31.73 % are beyond one standard deviation, 0.27 % beyond three.
    for (reach, share) in [(1.0, 0.317_310_5), (3.0, 0.002_699_8)] {
        near("tail", mean(&x, |x| f64::from(z(x).abs() > reach)), share, share * (1.0 - share));
    }
    // Neighbours are independent: those of one Box-Muller pair, and those of two pairs.
    for step in [1, 2, 3, 4] {
        let products: Vec<f32> =
            x.windows(step + 1).map(|w| (z(f64::from(w[0])) * z(f64::from(w[step]))) as f32).collect();
        near("covariance", mean(&products, |x| x), 0.0, 1.0);
    }

    let (low, high) = (-1.5, 0.5);
    let x = Tensor::uniform([n], low as f32, high as f32, 11, &Device::cpu()).unwrap().to_vec().unwrap();
    let u = |x: f64| (x - low) / (high - low);
    assert!(x.iter().all(|&x| (0.0..1.0).contains(&u(f64::from(x)))));
    // E u^k = 1 / (k + 1); the variance of u^k is 1 / (2k + 1) - 1 / (k + 1)^2.
    near("mean", mean(&x, u), 1.0 / 2.0, 1.0 / 12.0);
    near("square", mean(&x, |x| u(x).powi(2)), 1.0 / 3.0, 1.0 / 5.0 - 1.0 / 9.0);
    for tenth in 0..10 {
        let inside = |x: f64| f64::from((u(x) * 10.0) as i32 == tenth);
        near("share of a tenth", mean(&x, inside), 0.1, 0.09);
    }
}

#[test]
fn uniform_stays_below_its_upper_bound() {
    // The only f32 from 1 to below its successor is 1, and rounding may not reach the upper bound.
    let next = 1f32.next_up();
    for device in devices() {
        let all = |low, high| Tensor::uniform([999], low, high, 5, &device).unwrap().to_vec().unwrap();
        assert!(all(1.0, next).iter().all(|&x| x == 1.0));
        assert!(all(7.0, 7.0).iter().all(|&x| x == 7.0));
        assert!(all(0.0, f32::MIN_POSITIVE).iter().all(|&x| x < f32::MIN_POSITIVE));
        assert!(all(f32::MIN, f32::MAX).iter().all(|&x| x.is_finite()));
        assert!(
            Tensor::randn([9], 2.0, 0.0, 5, &device).unwrap().to_vec().unwrap().iter().all(|&x| x == 2.0)
        );
    }
}

#[test]
fn invalid_distributions_are_refused() {
    let cpu = Device::cpu();
    for (mean, std) in [(0.0, -1.0), (0.0, f32::NAN), (0.0, f32::INFINITY), (f32::NAN, 1.0)] {
        let error = Tensor::randn([2], mean, std, 0, &cpu).unwrap_err().to_string();
        assert!(error.contains("randn"), "{error}");
    }
    for (low, high) in [(1.0, 0.0), (f32::NAN, 1.0), (0.0, f32::INFINITY), (f32::NEG_INFINITY, 0.0)] {
        let error = Tensor::uniform([2], low, high, 0, &cpu).unwrap_err().to_string();
        assert!(error.contains("uniform"), "{error}");
    }
    assert!(Tensor::randn([1; 7], 0.0, 1.0, 0, &cpu).is_err());
    assert!(Tensor::uniform([1 << 20, 1 << 20, 1 << 10], 0.0, 1.0, 0, &cpu).is_err());
}
