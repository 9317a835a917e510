//! Row reductions read each element: one NaN or infinity at any position shows in its row and in no other. Rows are
//! short, long, and so long that they are cut into slices.

mod common;

use common::*;
use gristmill::nn::Reduction;
use gristmill::{CrossEntropyOptions, Device, Result, Tensor};

type RowReduction = fn(&Tensor) -> Result<Tensor>;

/// Cross-entropy of each row with class 0.
fn cross_entropy(x: &Tensor, options: CrossEntropyOptions) -> Result<Tensor> {
    let rows = x.shape()[0];
    let targets = Tensor::from_ids(&vec![0; rows], [rows], x.device())?;
    x.cross_entropy_with(&targets, &CrossEntropyOptions { reduction: Reduction::None, ..options })
}

/// Name, op, and whether an infinity in a row gives a non-finite result. Results have one element or one row per row.
const REDUCTIONS: &[(&str, RowReduction, bool)] = &[
    ("sum", |x| x.sum(&[-1], false), true),
    ("mean", |x| x.mean(&[-1], false), true),
    ("prod", |x| x.prod(&[-1], false), true),
    ("max", |x| x.max(&[-1], false), true),
    ("min", |x| x.min(&[-1], false), false),
    ("var", |x| x.var(&[-1], 0, false), true),
    ("norm", |x| x.norm(2.0, &[-1], false), true),
    ("logsumexp", |x| x.logsumexp(&[-1], false), true),
    ("softmax", |x| x.softmax(-1), true),
    ("log_softmax", |x| x.log_softmax(-1), true),
    ("layer_norm", |x| x.layer_norm(1, None, None, 1e-5), true),
    ("rms_norm", |x| x.rms_norm(1, None, 1e-5), true),
    ("cross_entropy", |x| cross_entropy(x, CrossEntropyOptions::default()), true),
    (
        "cross_entropy, smoothed",
        |x| cross_entropy(x, CrossEntropyOptions { label_smoothing: 0.1, ..CrossEntropyOptions::default() }),
        true,
    ),
];

/// Rows of `length` elements, each with `odd` at one of `places`, and one without.
fn with_special_value(length: usize, places: &[usize], odd: f32, device: &Device) -> Tensor {
    let rows = places.len() + 1;
    let mut data: Vec<f32> =
        (0..rows * length).map(|i| 0.9 + 0.2 * ((i * 7919 % 101) as f32 / 101.0)).collect();
    places.iter().enumerate().for_each(|(row, place)| data[row * length + place] = odd);
    Tensor::from_slice(&data, [rows, length], device).unwrap()
}

fn seen(length: usize, places: &[usize]) {
    for device in devices_and_hardware() {
        for odd in [f32::NAN, f32::INFINITY] {
            let x = with_special_value(length, places, odd, &device);
            for (name, reduce, infinity_shows) in REDUCTIONS {
                if odd.is_infinite() && !infinity_shows {
                    continue;
                }
                let y = reduce(&x).unwrap();
                let each = y.numel() / (places.len() + 1);
                let y = y.to_vec().unwrap();
                for (row, y) in y.chunks(each).enumerate() {
                    let spoilt = y.iter().any(|y| if odd.is_nan() { y.is_nan() } else { !y.is_finite() });
                    let place = places.get(row);
                    let id = device.id();
                    assert_eq!(spoilt, place.is_some(), "{name} on {id}: {odd} at {place:?} of {length}");
                }
            }
        }
    }
    seen_by_gradients(length, places);
}

/// A NaN in the gradient of the result shows in the whole row of the input's gradient, since that contains a sum over
/// the row.
fn seen_by_gradients(length: usize, places: &[usize]) {
    let names = ["softmax", "log_softmax", "layer_norm", "rms_norm"];
    for device in devices_and_hardware() {
        let x = with_special_value(length, places, 1.0, &device).requires_grad().unwrap();
        let dy = with_special_value(length, places, f32::NAN, &device);
        for (name, reduce, _) in REDUCTIONS.iter().filter(|reduce| names.contains(&reduce.0)) {
            let grads = reduce(&x).unwrap().backward_from(&dy).unwrap();
            let dx = grads.get(&x).unwrap().to_vec().unwrap();
            for (row, dx) in dx.chunks(length).enumerate() {
                let (place, spoilt) = (places.get(row), dx.iter().filter(|dx| dx.is_nan()).count());
                let want = if place.is_some() { length } else { 0 };
                assert_eq!(spoilt, want, "{name} on {}: NaN at {place:?} of {length}", device.id());
            }
        }
    }
}

#[test]
fn short_rows_include_each_element() {
    for length in [1, 3, 18, 70] {
        seen(length, &(0..length).collect::<Vec<_>>());
    }
}

#[test]
fn few_rows_include_each_element() {
    // By several lanes per row, which software rasterizers use for fewer than 16 rows.
    for length in [19, 67] {
        (0..length).collect::<Vec<_>>().chunks(13).for_each(|places| seen(length, places));
    }
}

#[test]
fn longer_rows_include_each_element() {
    seen(300, &(0..300).collect::<Vec<_>>());
}

#[test]
fn sliced_rows_include_each_element() {
    // The ends of lanes and slices of any size, and primes between.
    let length = 40_001;
    for places in [[0, 1, 15, 16, 63], [64, 127, 128, 2047, 2048], [4095, 4099, 20_011, 39_999, 40_000]] {
        seen(length, &places);
    }
}
