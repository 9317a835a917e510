//! Dropout: known masks, the same mask on every device, its frequency, its gradient, special values and errors.

mod common;

use common::*;
use gristmill::{Device, Error, Tensor};

/// The mask as numbers, computed on the CPU, which the known values test.
fn mask(shape: &[usize], probability: f32, seed: u64, offset: u64) -> Array {
    let y = Tensor::ones(shape, &Device::cpu()).unwrap().dropout(probability, seed, offset).unwrap();
    Array::new(shape, y.to_vec().unwrap().iter().map(|&y| f64::from(u8::from(y != 0.0))).collect())
}

#[test]
fn known_masks() {
    // Computed independently in Python: word i % 4 of philox((i / 4, offset, 0), seed) >= probability * 2^32.
    let half = [1, 0, 1, 1, 1, 0, 0, 1, 0, 1, 0, 1, 0, 0, 0, 1, 1, 1].map(|kept| kept as f32 * 2.0);
    let quarter = [1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 0, 1, 1, 1, 1].map(|kept| kept as f32 / 0.75);
    for device in devices() {
        let x = Tensor::ones([3, 6], &device).unwrap();
        assert_eq!(x.dropout(0.5, 42, 7).unwrap().to_vec().unwrap(), half, "{device:?}");
        let y = x.dropout(0.25, (3 << 32) + 1, (9 << 32) + 2).unwrap();
        assert_eq!(y.to_vec().unwrap(), quarter, "{device:?}");
    }
}

#[test]
fn the_gradient_has_the_mask_of_the_forward_pass() {
    // More than one workgroup and more than one task, and not a multiple of four.
    let n = 40_003;
    let mut masks = Vec::new();
    for device in devices() {
        let x = Tensor::ones([n], &device).unwrap().requires_grad().unwrap();
        let y = x.dropout(0.3, 5, 1).unwrap();
        let (sum, kept) = (y.sum_all().unwrap(), y.to_vec().unwrap());
        let grads = sum.backward().unwrap();
        assert_eq!(grads.get(&x).unwrap().to_vec().unwrap(), kept);
        masks.push(kept);
    }
    assert!(masks.iter().all(|kept| *kept == masks[0]));
}

#[test]
fn as_many_are_kept_as_asked_for() {
    let n = 1 << 18;
    for device in devices() {
        for probability in [0.1, 0.5, 0.9] {
            let y = Tensor::ones([n], &device).unwrap().dropout(probability, 17, 0).unwrap();
            let kept = y.to_vec().unwrap().iter().filter(|&&y| y != 0.0).count() as f64;
            let share = 1.0 - f64::from(probability);
            // Within five standard deviations of the binomial distribution.
            let sigma = (n as f64 * share * (1.0 - share)).sqrt();
            assert!((kept - n as f64 * share).abs() < 5.0 * sigma, "{kept} of {n} at {probability}");
        }
    }
}

#[test]
fn another_seed_or_offset_gives_another_mask() {
    for device in devices() {
        let x = Tensor::ones([256], &device).unwrap();
        let drop = |seed, offset| x.dropout(0.5, seed, offset).unwrap().to_vec().unwrap();
        assert_eq!(drop(1, 2), drop(1, 2));
        for (seed, offset) in [(2, 1), (1, 3), (2, 2), (1, 2 << 32), (1 << 32, 2)] {
            assert_ne!(drop(1, 2), drop(seed, offset), "seed {seed}, offset {offset}");
        }
    }
}

#[test]
fn the_mask_of_a_view_follows_its_own_indices() {
    let x = Array::random([7, 5], 1, 1.0, 2.0);
    for device in devices() {
        let part = x.to_tensor(&device).slice(0, 3..7).unwrap();
        let copy = Tensor::from_slice(&part.to_vec().unwrap(), [4, 5], &device).unwrap();
        let drop = |x: &Tensor| x.dropout(0.4, 3, 3).unwrap().to_vec().unwrap();
        assert_eq!(drop(&part), drop(&copy));
    }
}

#[test]
fn dropped_elements_are_zero_even_if_not_finite() {
    for device in devices() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let x = Tensor::full([256], value, &device).unwrap();
            let kept = mask(&[256], 0.5, 8, 0);
            let y = x.dropout(0.5, 8, 0).unwrap().to_vec().unwrap();
            for (y, kept) in y.into_iter().zip(&kept.data) {
                let want = if *kept == 1.0 { value } else { 0.0 };
                assert!(y == want || (y.is_nan() && want.is_nan()), "{y} for {want} on {device:?}");
            }
            assert!(x.dropout(1.0, 8, 0).unwrap().to_vec().unwrap().iter().all(|&y| y == 0.0));
        }
    }
}

#[test]
fn probabilities_zero_and_one() {
    for device in devices() {
        let x = Tensor::ones([5], &device).unwrap().requires_grad().unwrap();
        let same = x.dropout(0.0, 1, 1).unwrap();
        assert!(same.is_leaf() && same.is_differentiable()); // no op was recorded
        assert_eq!(same.to_vec().unwrap(), [1.0; 5]);
        let none = x.dropout(1.0, 1, 1).unwrap();
        assert_eq!(none.to_vec().unwrap(), [0.0; 5]);
        let grads = none.sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&x).unwrap().to_vec().unwrap(), [0.0; 5]);
        assert_eq!(Tensor::ones([3, 0], &device).unwrap().dropout(0.5, 1, 1).unwrap().shape(), [3, 0]);
        assert!(
            [0.0, 2.0]
                .contains(&Tensor::scalar(1.0, &device).unwrap().dropout(0.5, 1, 1).unwrap().item().unwrap())
        );
    }
}

#[test]
fn invalid_probabilities_are_refused() {
    for device in devices() {
        let x = Tensor::ones([5], &device).unwrap();
        for probability in [-0.1, 1.1, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = x.dropout(probability, 0, 0).unwrap_err();
            assert!(matches!(error, Error::Argument { op: "dropout", .. }), "{error}");
        }
        let ids = Tensor::from_ids(&[1], [1], &device).unwrap();
        for probability in [0.0, 0.5, 1.0] {
            assert!(ids.dropout(probability, 0, 0).unwrap_err().to_string().contains("dropout"));
        }
    }
}
