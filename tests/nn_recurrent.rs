//! Recurrent layers: initial states, errors, that a sequence may be split, and that each layer learns to carry
//! information over time. `nn_golden.rs` compares their results with PyTorch's.

mod common;

use common::{Array, device, devices, dry};
use gristmill::nn::{self, Gru, Init, Layer, Linear, Lstm, Module, RecurrentOptions, Rnn};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Device, Error, Result, Tensor};

const DEEP: RecurrentOptions = RecurrentOptions { layers: 2, bidirectional: true, bias: true };

fn layers(init: &mut Init, options: RecurrentOptions) -> [Box<dyn Layer>; 3] {
    [
        Box::new(Rnn::with_options(3, 5, options, init).unwrap()),
        Box::new(Lstm::with_options(3, 5, options, init).unwrap()),
        Box::new(Gru::with_options(3, 5, options, init).unwrap()),
    ]
}

#[test]
fn layers_describe_themselves() {
    let mut init = Init::new(1, &Device::cpu());
    let plain = layers(&mut init, RecurrentOptions::default());
    assert_eq!(plain.each_ref().map(|layer| layer.describe()), ["Rnn 3 -> 5", "Lstm 3 -> 5", "Gru 3 -> 5"]);
    let x = Tensor::zeros([2, 7, 3], &Device::cpu()).unwrap();
    for (layer, (gates, cell)) in plain.iter().zip([(1, 2), (4, 13), (3, 12)]) {
        // In each of 14 steps two operations for each of 8 weights per gate unit, and the cell's own per unit.
        let (shape, flops) = dry(layer, &x).unwrap();
        assert_eq!((&*shape, flops), (&[2, 7, 5][..], 14 * (2 * 8 * 5 * gates + 5 * cell)));
        let count: usize = layer.parameters().iter().map(|p| p.numel()).sum();
        assert_eq!(count, gates as usize * 5 * (3 + 5 + 2));
        let values: Vec<f32> = layer.parameters().iter().flat_map(|p| p.tensor().to_vec().unwrap()).collect();
        let most = values.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        assert!(most <= 1.0 / 5f32.sqrt() && most > 0.4, "{most}");
    }
    let deep = layers(&mut init, DEEP);
    assert_eq!(deep[1].describe(), "Lstm 3 -> 5, 2 layers, both ways");
    assert_eq!(dry(&deep[2], &x).unwrap().0, [2, 7, 10]);
    let names: Vec<String> = deep[0].named_parameters().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names[..5],
        ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_ih_l0_reverse"]
    );
    assert_eq!(names[names.len() - 1], "bias_hh_l1_reverse");
}

#[test]
fn what_does_not_fit_is_refused() {
    for device in devices() {
        let mut init = Init::new(1, &device);
        let gru = Gru::new(3, 5, &mut init).unwrap();
        let message = |result: Result<(Tensor, Tensor)>| match result.map(drop).unwrap_err() {
            ref error @ (Error::Shape { .. } | Error::Argument { .. }) => common::without_line(error),
            other => panic!("{other}"),
        };
        let zeros = |shape: &[usize]| Tensor::zeros(shape, &device).unwrap();
        let x = zeros(&[2, 4, 3]);
        for (input, want) in [
            (zeros(&[2, 4, 4]), "gru: input [2, 4, 4], should be [n, steps, 3], steps not 0"),
            (zeros(&[2, 3]), "gru: input [2, 3], should be [n, steps, 3], steps not 0"),
            (zeros(&[2, 0, 3]), "gru: input [2, 0, 3], should be [n, steps, 3], steps not 0"),
        ] {
            assert_eq!(message(gru.forward_from(&input, None)), want);
        }
        assert_eq!(
            message(gru.forward_from(&x, Some(&zeros(&[1, 3, 5])))),
            "gru: a state of shape [1, 3, 5] for input [2, 4, 3], should be [1, 2, 5]"
        );
        let none = RecurrentOptions { layers: 0, ..DEEP };
        let error = Lstm::with_options(3, 5, none, &mut init).map(drop).unwrap_err();
        assert_eq!(common::without_line(&error), "lstm: 0 layers of 5 units");
        let error = Rnn::new(3, 0, &mut init).map(drop).unwrap_err();
        assert_eq!(common::without_line(&error), "rnn: 1 layers of 0 units");

        let (gates, state) = (zeros(&[2, 12]), zeros(&[2, 3]));
        let error = gates.lstm_cell(&gates, &zeros(&[2, 4])).map(drop).unwrap_err();
        assert_eq!(
            common::without_line(&error),
            "lstm_cell: gates of shapes [2, 12] and [2, 12] for a state [2, 4], should both be [.., 4 units] for [.., units]"
        );
        assert!(gates.gru_cell(&gates, &state).is_err());
        assert!(gates.lstm_cell(&zeros(&[2, 8]), &state).is_err());
        assert!(gates.lstm_cell(&gates, &zeros(&[3])).is_err());
        assert!(gates.lstm_cell(&gates, &zeros(&[])).is_err());
        let ids = Tensor::from_ids(&[0; 6], [2, 3], &device).unwrap();
        assert_eq!(
            common::without_line(&gates.lstm_cell(&gates, &ids).map(drop).unwrap_err()),
            "lstm_cell: wants f32, got u32 of shape [2, 3]"
        );
        // Empty batches are valid.
        assert_eq!(gru.forward(&zeros(&[0, 4, 3])).unwrap().shape(), [0, 4, 5]);
    }
}

#[test]
fn a_sequence_cut_in_two_is_the_same_sequence() {
    for device in devices() {
        let mut init = Init::new(3, &device);
        let options = RecurrentOptions { layers: 2, ..RecurrentOptions::default() };
        let x = Array::random([2, 7, 3], 1, -1.0, 1.0).to_tensor(&device);
        let (first, second) = (x.slice(1, 0..3).unwrap(), x.slice(1, 3..7).unwrap());
        let close = |whole: &Tensor, parts: [&Tensor; 2]| {
            let joined = Tensor::cat(&parts, 1).unwrap();
            let apart = whole.sub(&joined).unwrap().abs().unwrap().max(&[0, 1, 2], false).unwrap();
            // With fewer rows the products may be sliced differently.
            assert!(apart.item().unwrap() < 1e-6);
        };
        let lstm = Lstm::with_options(3, 5, options, &mut init).unwrap();
        let (whole, _) = lstm.forward_from(&x, None).unwrap();
        let (a, state) = lstm.forward_from(&first, None).unwrap();
        close(&whole, [&a, &lstm.forward_from(&second, Some(&state)).unwrap().0]);
        let gru = Gru::with_options(3, 5, options, &mut init).unwrap();
        let (whole, _) = gru.forward_from(&x, None).unwrap();
        let (a, state) = gru.forward_from(&first, None).unwrap();
        close(&whole, [&a, &gru.forward_from(&second, Some(&state)).unwrap().0]);
    }
}

#[test]
fn parameters_are_saved_and_loaded() {
    let path = std::env::temp_dir().join(format!("gristmill-recurrent-{}.safetensors", std::process::id()));
    for device in devices() {
        let model = |seed| layers(&mut Init::new(seed, &device), DEEP);
        for (one, other) in model(1).iter().zip(model(2)) {
            nn::save_parameters(one, &path).unwrap();
            assert_ne!(nn::hash_parameters(one), nn::hash_parameters(&other));
            nn::load_parameters(&other, &path).unwrap();
            assert_eq!(nn::hash_parameters(one), nn::hash_parameters(&other));
        }
    }
    std::fs::remove_file(path).unwrap();
}

/// The parity of bits that come one at a time: the state has to remember one bit and flip it at every 1.
fn learns_parity(name: &str, layer: impl Layer, init: &mut Init, rate: f32, device: &Device) {
    const STEPS: usize = 6;
    let head = Linear::new(16, 1, init).unwrap();
    let parameters = [layer.parameters(), head.parameters()].concat();
    // All 64 sequences, of -1 and 1.
    let bit = |at: usize, step: usize| at >> step & 1;
    let x = Array::from_fn([64, STEPS, 1], |at| 2.0 * bit(at[0], at[1]) as f64 - 1.0);
    let parity = |at: usize, step: usize| (0..=step).map(|step| bit(at, step)).sum::<usize>() % 2;
    let y = Array::from_fn([64, STEPS, 1], |at| parity(at[0], at[1]) as f64).to_tensor(device);
    let x = x.to_tensor(device);
    let mut optimizer = Adam::new(parameters, rate);
    let mut loss = f32::NAN;
    for step in 0..400 {
        let logits = head.forward(&layer.forward(&x).unwrap()).unwrap();
        let error = nn::bce_with_logits_loss(&logits, &y).unwrap();
        if step % 20 == 0 {
            loss = error.item().unwrap();
            if loss < 0.05 {
                return;
            }
        }
        optimizer.step(&error.backward().unwrap()).unwrap();
    }
    panic!("{name} on {}: a loss of {loss} after 400 steps", device.id());
}

#[test]
fn recurrent_layers_learn_parity() {
    let device = device();
    let mut init = Init::new(5, &device);
    let rnn = Rnn::new(1, 16, &mut init).unwrap();
    learns_parity("rnn", rnn, &mut init, 0.01, &device);
    let lstm = Lstm::new(1, 16, &mut init).unwrap();
    learns_parity("lstm", lstm, &mut init, 0.03, &device);
    let gru = Gru::new(1, 16, &mut init).unwrap();
    learns_parity("gru", gru, &mut init, 0.03, &device);
}
