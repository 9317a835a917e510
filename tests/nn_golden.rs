//! Whole layers compared with PyTorch's: results and all gradients. `tests/golden/layers.py` makes the files and
//! documents their contents. The parameters must have the names in PyTorch's `state_dict`.

mod common;

use common::{Array, EPS, assert_within, devices};
use gristmill::nn::{
    BlockOptions, FeedForward, Gru, Init, Layer, Lstm, LstmState, Memory, Module, MultiHeadAttention,
    MultiHeadOptions, RecurrentOptions, Rnn, TransformerBlock, TransformerDecoder, TransformerEncoder,
};
use gristmill::{AttentionOptions, Device, Gradients, Result, Tensor, dry_run};
use safetensors::SafeTensors;
use std::collections::BTreeMap;

/// The tensors of a file, by name.
fn golden(name: &str) -> BTreeMap<String, Array> {
    let path = format!("{}/tests/golden/layers/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let array = |view: safetensors::tensor::TensorView| {
        let words = view.data().chunks_exact(4);
        let values = words.map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect();
        Array::new(view.shape(), values)
    };
    file.tensors().into_iter().map(|(name, view)| (name, array(view))).collect()
}

/// Compares a layer with a golden file. An element may err by `roundings` of the largest element of its tensor: the
/// number of roundings on the longest path through the layer, none of which applies to a much larger number.
fn hold<M: Module>(
    name: &str,
    roundings: f64,
    build: impl Fn(&mut Init) -> Result<M>,
    call: impl Fn(&M, &[Tensor]) -> Result<Vec<Tensor>>,
) {
    let file = golden(name);
    let all =
        |kind: &str| -> Vec<&Array> { (0..).map_while(|at| file.get(&format!("{kind}{at}"))).collect() };
    for device in devices() {
        let module = build(&mut Init::new(1, &device)).unwrap();
        let named = module.named_parameters();
        let mut names: Vec<&str> = named.iter().map(|(name, _)| &**name).collect();
        names.sort();
        let wanted: Vec<&str> = file.keys().filter_map(|key| key.strip_prefix("p ")).collect();
        assert_eq!(names, wanted, "{name}");
        for (own, parameter) in &named {
            parameter.set(&file[&format!("p {own}")].to_tensor(&device)).unwrap();
        }
        let inputs: Vec<Tensor> =
            all("x").iter().map(|x| x.to_tensor(&device).requires_grad().unwrap()).collect();
        let outputs = call(&module, &inputs).unwrap_or_else(|error| panic!("{name}: {error}"));
        let within = |what: String, got: &Tensor, want: &Array| {
            let largest = want.data.iter().fold(1.0f64, |most, x| most.max(x.abs()));
            assert_within(&format!("{name}, {what}"), got, want, |_| roundings * EPS * largest);
        };
        let wanted = all("y");
        assert_eq!(outputs.len(), wanted.len(), "{name}");
        for (at, (got, want)) in outputs.iter().zip(wanted).enumerate() {
            within(format!("y{at}"), got, want);
        }
        let grads = backward(&outputs, &all("dy"), &device).unwrap();
        for (at, (input, want)) in inputs.iter().zip(all("dx")).enumerate() {
            within(format!("dx{at}"), grads.get(input).unwrap(), want);
        }
        for (own, parameter) in &named {
            let got = grads.get(&parameter.tensor()).unwrap_or_else(|error| panic!("{own}: {error}"));
            within(format!("d {own}"), got, &file[&format!("dp {own}")]);
        }
        let shapes = |outputs: &[Tensor]| outputs.iter().map(Tensor::shape).collect::<Vec<_>>();
        let (dry, _) = dry_run(|| Ok(shapes(&call(&module, &inputs)?))).unwrap();
        assert_eq!(dry, shapes(&outputs), "{name}");
    }
}

/// The gradients of the sum of `y · dy`.
fn backward(outputs: &[Tensor], dy: &[&Array], device: &Device) -> Result<Gradients> {
    let mut sum = Tensor::scalar(0.0, device)?;
    for (y, dy) in outputs.iter().zip(dy) {
        sum = sum.add(&y.mul(&dy.to_tensor(device))?.sum_all()?)?;
    }
    sum.backward()
}

const DEEP: RecurrentOptions = RecurrentOptions { layers: 2, bidirectional: true, bias: true };

#[test]
fn recurrent_layers_are_pytorchs() {
    // A step has a sum of 7 products, a sigmoid and a tanh of up to 24 roundings each, and two products. Errors of
    // earlier steps are damped, forward and backward. (Observed: 4.)
    let roundings = 100.0;
    hold(
        "rnn",
        roundings,
        |init| Rnn::new(3, 4, init),
        |rnn, x| {
            let (y, h) = rnn.forward_from(&x[0], Some(&x[1]))?;
            Ok(vec![y, h])
        },
    );
    let relu = |init: &mut Init| {
        Ok(Rnn::with_options(3, 4, RecurrentOptions { bias: false, ..DEEP }, init)?.with_relu())
    };
    hold("rnn_relu", roundings, relu, |rnn, x| {
        let (y, h) = rnn.forward_from(&x[0], None)?;
        Ok(vec![y, h])
    });
    let lstm = |lstm: &Lstm, x: &[Tensor]| {
        let state = LstmState { h: x[1].clone(), c: x[2].clone() };
        let (y, LstmState { h, c }) = lstm.forward_from(&x[0], Some(&state))?;
        Ok(vec![y, h, c])
    };
    hold("lstm", roundings, |init| Lstm::new(3, 4, init), lstm);
    hold("lstm_deep", roundings, |init| Lstm::with_options(3, 2, DEEP, init), lstm);
    let gru = |gru: &Gru, x: &[Tensor]| {
        let (y, h) = gru.forward_from(&x[0], Some(&x[1]))?;
        Ok(vec![y, h])
    };
    hold("gru", roundings, |init| Gru::new(3, 4, init), gru);
    hold("gru_deep", roundings, |init| Gru::with_options(3, 2, DEEP, init), gru);
}

#[test]
fn attention_is_pytorchs() {
    // Four products in sequence with up to 12 terms (projection, scores, values, projection), and a softmax of
    // exponentials that err by 6 plus 4 times their argument. The gradients go back through all of it. (Observed: 4.)
    let roundings = 100.0;
    let forward = |layer: &MultiHeadAttention, x: &[Tensor]| Ok(vec![layer.forward(&x[0])?]);
    hold("attention", roundings, |init| MultiHeadAttention::new(8, MultiHeadOptions::new(2), init), forward);
    let options = || MultiHeadOptions { causal: true, bias: false, ..MultiHeadOptions::new(4) };
    hold("attention_causal", roundings, |init| MultiHeadAttention::new(8, options(), init), forward);
    let new = |init: &mut Init| MultiHeadAttention::new(8, MultiHeadOptions::new(2), init);
    hold("attention_across", roundings, new, |layer, x| {
        let [k, v] = layer.keys_and_values(&x[1])?;
        Ok(vec![layer.attend_to(&x[0], [&k, &v], &AttentionOptions::default())?])
    });
}

#[test]
fn transformers_are_pytorchs() {
    // Two blocks with attention as above, or one with two, each with two or three normalizations and products of 12
    // terms. (Observed: 7.)
    let roundings = 300.0;
    let options = |norm_first, feed_forward, causal| {
        let attention = MultiHeadOptions { causal, ..MultiHeadOptions::new(2) };
        BlockOptions { attention, norm_first, feed_forward, ..BlockOptions::new(2, 12) }
    };
    let post = options(false, FeedForward::Relu, false);
    hold(
        "block_post",
        roundings,
        |init| TransformerBlock::new(8, &post, init),
        |block, x| Ok(vec![block.forward(&x[0])?]),
    );
    let pre = options(true, FeedForward::Gelu, true);
    hold(
        "encoder",
        roundings,
        |init| TransformerEncoder::new(8, 2, &pre, init),
        |model, x| Ok(vec![model.forward(&x[0])?]),
    );
    let decode = |model: &TransformerDecoder, x: &[Tensor]| {
        let plain = AttentionOptions::default();
        Ok(vec![model.forward_with(&x[0], &plain, Memory { sequence: &x[1], options: &plain })?])
    };
    hold("decoder", roundings, |init| TransformerDecoder::new(8, 2, &pre, init), decode);
    let post = options(false, FeedForward::Relu, true);
    hold("decoder_post", roundings, |init| TransformerDecoder::new(8, 1, &post, init), decode);
}
