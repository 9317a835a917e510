//! Attention and Transformer layers: grouped heads, rotary positions, caches, masks, training, and errors.
//! `nn_golden.rs` compares their results with PyTorch's.

mod common;

use common::{Array, device, devices, dry, fresh};
use gristmill::nn::{
    self, BlockNorm, BlockOptions, Embedding, FeedForward, Init, KvCache, Layer, Linear, Memory, Module,
    MultiHeadAttention, MultiHeadOptions, Rotary, TransformerBlock, TransformerDecoder, TransformerEncoder,
};
use gristmill::optim::{AdamW, Optimizer};
use gristmill::{AttentionMask, AttentionOptions, Device, Error, Result, RotaryPairs, Tensor};
use std::sync::Arc;

fn random(shape: &[usize], seed: u64, device: &Device) -> Tensor {
    Array::random(shape, seed, -1.0, 1.0).to_tensor(device)
}

/// Asserts a difference below 1e-5, many times the error of sums of up to 64 numbers near 1.
fn assert_close(what: &str, got: &Tensor, want: &Tensor) {
    assert_eq!(got.shape(), want.shape(), "{what}");
    let apart = got
        .to_vec()
        .unwrap()
        .iter()
        .zip(want.to_vec().unwrap())
        .fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(apart < 1e-5, "{what} on {}: {apart} apart", got.device().id());
}

fn message<T>(result: Result<T>) -> String {
    match result.map(drop).unwrap_err() {
        ref error @ (Error::Shape { .. } | Error::Argument { .. }) => common::without_line(error),
        other => panic!("{other}"),
    }
}

fn plain() -> AttentionOptions {
    AttentionOptions::default()
}

#[test]
fn shared_heads_are_heads_repeated() {
    for device in devices() {
        let mut init = Init::new(1, &device);
        let options = MultiHeadOptions { kv_heads: Some(2), causal: true, ..MultiHeadOptions::new(4) };
        let shared = MultiHeadAttention::new(12, options, &mut init).unwrap();
        assert_eq!(shared.describe(), "MultiHeadAttention 12, 4 on 2 heads of 3, causal");
        let options = MultiHeadOptions { causal: true, ..MultiHeadOptions::new(4) };
        let whole = MultiHeadAttention::new(12, options, &mut init).unwrap();
        // Repeats the rows of each head of keys and values.
        for (from, to) in shared.parameters().iter().zip(whole.parameters()) {
            let from = from.tensor();
            let repeated = if from.shape()[0] == 24 {
                let rows = |head: usize| from.slice(0, 3 * head..3 * head + 3).unwrap();
                let heads: Vec<Tensor> = [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7].map(rows).into();
                Tensor::cat(&heads.iter().collect::<Vec<_>>(), 0).unwrap()
            } else {
                from
            };
            to.set(&repeated).unwrap();
        }
        let x = random(&[2, 5, 12], 2, &device);
        assert_close("shared heads", &shared.forward(&x).unwrap(), &whole.forward(&x).unwrap());
    }
}

#[test]
fn angles_are_exact_far_out() {
    for device in devices() {
        let (dims, base, far) = (6, 10_000.0f64, 99_990);
        for (pairs, places) in [
            (RotaryPairs::Halves, [[0, 3], [1, 4], [2, 5]]),
            (RotaryPairs::Neighbours, [[0, 1], [2, 3], [4, 5]]),
        ] {
            let rotary = Rotary::new(dims, 100_000, base, pairs, &device).unwrap();
            let x = Array::random([2, 10, 8], 3, -1.0, 1.0);
            let got = rotary.forward(&x.to_tensor(&device), far).unwrap();
            let mut want = x.clone();
            for row in 0..20 {
                for (pair, [a, b]) in places.into_iter().enumerate() {
                    let angle = (far + row % 10) as f64 * base.powf(-2.0 * pair as f64 / dims as f64);
                    let [p, q] = [a, b].map(|c| x.data[8 * row + c]);
                    want.data[8 * row + a] = p * angle.cos() - q * angle.sin();
                    want.data[8 * row + b] = p * angle.sin() + q * angle.cos();
                }
            }
            // The error of tables rounded once, two products and a sum.
            common::assert_within("far positions", &got, &want, |_| 8.0 * common::EPS);
            let message = message(rotary.forward(&x.to_tensor(&device), 99_991));
            assert_eq!(message, "rotary: positions 99991 to 100001 of 100000");
        }
        assert_eq!(
            message(Rotary::new(5, 4, base, RotaryPairs::Halves, &device)),
            "rotary: 5 dimensions do not make pairs"
        );
        assert!(Rotary::new(4, 4, 0.0, RotaryPairs::Halves, &device).is_err());
        let rotary = Rotary::new(6, 4, base, RotaryPairs::Halves, &device).unwrap();
        assert_eq!(
            message(rotary.forward(&random(&[4, 5], 1, &device), 0)),
            "rotary_embedding: angles of shape [4, 3] for [4, 5], should be [4, pairs] with at most 2 pairs"
        );
    }
}

/// With rotary positions, scores depend on distances only, so shifted inputs give the same result.
#[test]
fn rotary_attention_depends_on_distances_only() {
    for device in devices() {
        let rotary = Rotary::new(8, 64, 100.0, RotaryPairs::Halves, &device).unwrap();
        let [q, k, v] = [1, 2, 3].map(|seed| random(&[1, 2, 6, 8], seed, &device));
        let at = |first: usize| {
            let [q, k] = [&q, &k].map(|x| rotary.forward(x, first).unwrap());
            q.scaled_dot_product_attention(&k, &v, &plain()).unwrap()
        };
        assert_close("further on", &at(40), &at(0));
        let straight = q.scaled_dot_product_attention(&k, &v, &plain()).unwrap();
        let apart = at(0).sub(&straight).unwrap().abs().unwrap().sum_all().unwrap().item().unwrap();
        assert!(apart > 0.1, "positions play no part");
    }
}

fn causal_options(device: &Device) -> BlockOptions {
    let rotary = Rotary::new(4, 16, 10_000.0, RotaryPairs::Halves, device).unwrap();
    let attention = MultiHeadOptions {
        kv_heads: Some(2),
        size: Some(4),
        causal: true,
        rotary: Some(Arc::new(rotary)),
        ..MultiHeadOptions::new(4)
    };
    BlockOptions {
        attention,
        feed_forward: FeedForward::SwiGlu,
        norm: BlockNorm::Rms,
        ..BlockOptions::new(4, 20)
    }
}

#[test]
fn steps_through_a_cache_are_the_whole() {
    for device in devices() {
        for norm_first in [true, false] {
            let mut init = Init::new(4, &device);
            let options = BlockOptions { norm_first, ..causal_options(&device) };
            let model = TransformerEncoder::new(12, 2, &options, &mut init).unwrap();
            let x = random(&[3, 9, 12], 5, &device);
            let whole = model.forward(&x).unwrap();
            let mut caches = model.cache(3, 9).unwrap();
            let mut parts = Vec::new();
            // A prompt, then one position at a time, then two.
            for range in [0..4, 4..5, 5..6, 6..7, 7..9] {
                let part = x.slice(1, range.clone()).unwrap();
                parts.push(model.forward_cached(&part, &mut caches, &plain()).unwrap());
                assert_eq!(caches[1].own().len(), range.end);
            }
            let joined = Tensor::cat(&parts.iter().collect::<Vec<_>>(), 1).unwrap();
            assert_close("in steps", &joined, &whole);

            let more = message(model.forward_cached(&x.slice(1, 0..1).unwrap(), &mut caches, &plain()));
            assert_eq!(more, "kv_cache: 1 more positions after 9, but there is room for 9");
            assert_eq!(
                message(model.forward_cached(&x, &mut caches[..1], &plain())),
                "transformer: 1 caches for 2 blocks"
            );
        }
    }
}

#[test]
fn a_decoder_with_a_cache_computes_its_memory_once() {
    for device in devices() {
        let mut init = Init::new(4, &device);
        let model = TransformerDecoder::new(12, 2, &causal_options(&device), &mut init).unwrap();
        let (x, sequence) = (random(&[2, 5, 12], 5, &device), random(&[2, 7, 12], 6, &device));
        // The second sequence has only five positions.
        let mask = Array::from_fn([2, 1, 1, 7], |at| f64::from(u8::from(at[0] == 0 || at[3] < 5)));
        let hidden =
            AttentionOptions { mask: Some(AttentionMask::Boolean(mask.to_tensor(&device))), ..plain() };
        let memory = Memory { sequence: &sequence, options: &hidden };
        let whole = model.forward_with(&x, &plain(), memory).unwrap();
        let mut caches = model.cache(2, 5).unwrap();
        // After the first step the sequence is no longer read.
        let nan = Tensor::full([2, 7, 12], f32::NAN, &device).unwrap();
        let mut parts = Vec::new();
        for at in 0..5 {
            let memory = Memory { sequence: if at == 0 { &sequence } else { &nan }, options: &hidden };
            let part = x.slice(1, at..at + 1).unwrap();
            parts.push(model.forward_cached(&part, &mut caches, &plain(), memory).unwrap());
        }
        assert_close("in steps", &Tensor::cat(&parts.iter().collect::<Vec<_>>(), 1).unwrap(), &whole);
        // Hidden positions have no influence.
        let cut = sequence.slice(1, 0..5).unwrap();
        let alone = Memory { sequence: &cut, options: &plain() };
        let alone = model.forward_with(&x, &plain(), alone).unwrap();
        assert_close("hidden keys", &alone.slice(0, 1..2).unwrap(), &whole.slice(0, 1..2).unwrap());
        let options = BlockOptions { cross: true, ..BlockOptions::new(2, 8) };
        let block = TransformerBlock::new(12, &options, &mut init).unwrap();
        assert_eq!(message(block.forward(&x)), "transformer: no memory to attend to");
        let block = TransformerBlock::new(12, &BlockOptions::new(2, 8), &mut init).unwrap();
        assert_eq!(
            message(block.forward_with(&x, &plain(), Some(memory))),
            "transformer: a memory, but no attention to it"
        );
    }
}

#[test]
fn a_cache_is_filled_in_place() {
    // Its own device, since other tests would change the counts.
    for device in devices().iter().map(fresh) {
        let mut cache = KvCache::new(1, 2, 4, 3, &device).unwrap();
        assert!(cache.is_empty() && cache.capacity() == 4);
        let piece = |n: usize, seed| random(&[1, 2, n, 3], seed, &device);
        let (a, b) = (piece(2, 1), piece(1, 2));
        let [k, _] = cache.append(&a, &a.neg().unwrap()).unwrap();
        // Tensors returned before do not change.
        let [all, values] = cache.append(&b, &b).unwrap();
        assert_eq!(k.to_vec(), a.to_vec());
        assert_eq!(all.to_vec(), Tensor::cat(&[&a, &b], 2).unwrap().to_vec());
        assert_eq!(values.to_vec(), Tensor::cat(&[&a.neg().unwrap(), &b], 2).unwrap().to_vec());
        assert_eq!(
            message(cache.append(&a, &a)),
            "kv_cache: 2 more positions after 3, but there is room for 4"
        );
        assert_eq!(
            message(cache.append(&b, &piece(2, 1))),
            "kv_cache: keys [1, 2, 1, 3] and values [1, 2, 2, 3], should both be [1, 2, new, 3]"
        );
        assert!(cache.append(&b.squeeze(0).unwrap(), &b).is_err());
        let ids = Tensor::from_ids(&[7; 6], [1, 2, 1, 3], &device).unwrap();
        for [keys, values] in [[&ids, &b], [&b, &ids]] {
            assert_eq!(
                message(cache.append(keys, values)),
                "kv_cache: wants F32, got U32 of shape [1, 2, 1, 3]"
            );
        }
        assert_eq!(cache.len(), 3);
        cache.truncate(1);
        let [all, _] = cache.append(&b, &b).unwrap();
        assert_eq!(all.to_vec(), Tensor::cat(&[&a.slice(2, 0..1).unwrap(), &b], 2).unwrap().to_vec());
        drop((k, all, values));
        // If no other handle exists, nothing is copied.
        let used = |device: &Device| device.memory().in_use;
        let before = used(&device);
        cache.append(&b, &b).unwrap();
        assert_eq!(used(&device), before);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for device in devices() {
        let mut init = Init::new(1, &device);
        let mut new = |width, options| message(MultiHeadAttention::new(width, options, &mut init));
        assert_eq!(
            new(10, MultiHeadOptions::new(4)),
            "multi_head_attention: 4 heads do not divide a width of 10"
        );
        let options = MultiHeadOptions { kv_heads: Some(3), ..MultiHeadOptions::new(4) };
        assert_eq!(
            new(12, options),
            "multi_head_attention: 4 heads of queries are not shared evenly by 3 of keys"
        );
        assert!(new(12, MultiHeadOptions::new(0)).contains("0 heads"));
        let options = MultiHeadOptions { dropout: 1.5, ..MultiHeadOptions::new(4) };
        assert_eq!(new(12, options), "multi_head_attention: dropout 1.5 is not in 0..=1");
        let layer = MultiHeadAttention::new(12, MultiHeadOptions::new(4), &mut init).unwrap();
        assert!(layer.forward(&random(&[2, 3, 10], 1, &device)).is_err());
        assert!(layer.forward(&random(&[12], 1, &device)).is_err());
        // Empty batches and empty sequences are valid.
        assert_eq!(layer.forward(&random(&[0, 3, 12], 1, &device)).unwrap().shape(), [0, 3, 12]);
        assert_eq!(layer.forward(&random(&[2, 0, 12], 1, &device)).unwrap().shape(), [2, 0, 12]);
    }
}

#[test]
fn layers_describe_themselves() {
    let device = Device::cpu();
    let mut init = Init::new(1, &device);
    let options = BlockOptions { dropout: 0.1, ..causal_options(&device) };
    let model = TransformerDecoder::new(12, 2, &options, &mut init).unwrap();
    let names: Vec<String> = model.named_parameters().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names[0], "layers.0.self_attn.in_proj_weight");
    assert_eq!(names[names.len() - 1], "norm.weight");
    let model = TransformerEncoder::new(12, 2, &options, &mut init).unwrap();
    let table = nn::summary(&model, [2, 5, 12]).unwrap().to_string();
    assert!(table.contains("layers.1  TransformerBlock pre-norm, SwiGlu, causal"), "{table}");
    let block = TransformerBlock::new(8, &BlockOptions::new(2, 16), &mut init).unwrap();
    let x = Tensor::zeros([1, 4, 8], &device).unwrap();
    // A projection to 24 and back, 4 keys for each of 4 queries; two matrices; GELU; two norms; two additions.
    let attention = 4 * (2 * (24 * 8) + 2 * 64 + 4 * 4 * 8);
    assert_eq!(dry(&block, &x).unwrap().1, attention + 2 * 4 * 2 * 8 * 16 + 4 * 16 + 2 * 8 * 32 + 2 * 32);
}

#[test]
fn dropout_is_for_training() {
    for device in devices() {
        let mut init = Init::new(1, &device);
        let mut options = BlockOptions { dropout: 0.3, ..BlockOptions::new(2, 16) };
        options.attention.dropout = 0.3;
        let block = TransformerBlock::new(8, &options, &mut init).unwrap();
        let x = random(&[2, 4, 8], 1, &device);
        let run = || block.forward(&x).unwrap().to_vec().unwrap();
        assert_ne!(run(), run());
        block.eval();
        assert_eq!(run(), run());
        block.train();
        assert_ne!(run(), run());
    }
}

/// A language model learns to repeat a sequence: the second half is a copy of the first.
#[test]
fn a_causal_encoder_learns_to_copy() {
    const HALF: usize = 4;
    let device = device();
    let mut init = Init::new(7, &device);
    let rotary = Arc::new(Rotary::new(8, 16, 100.0, RotaryPairs::Halves, &device).unwrap());
    let attention = MultiHeadOptions { causal: true, rotary: Some(rotary), ..MultiHeadOptions::new(2) };
    let options = BlockOptions { attention, ..BlockOptions::new(2, 32) };
    let embedding = Embedding::new(4, 16, &mut init).unwrap();
    let model = TransformerEncoder::new(16, 2, &options, &mut init).unwrap();
    let head = Linear::new(16, 4, &mut init).unwrap();
    let parameters = [embedding.parameters(), model.parameters(), head.parameters()].concat();
    let mut optimizer = AdamW::new(parameters, 0.01);
    let mut last = f32::NAN;
    for step in 0..300u64 {
        let drawn = Array::random([32, HALF], step, 0.0, 4.0);
        let words: Vec<u32> =
            drawn.data.chunks(HALF).flat_map(|row| [row, row].concat()).map(|x| x as u32).collect();
        let ids = Tensor::from_ids(&words, [32, 2 * HALF], &device).unwrap();
        let x = embedding.forward(&ids).unwrap();
        let logits = head.forward(&model.forward(&x).unwrap()).unwrap();
        // Positions 3 to 6 predict the next ones.
        let logits = logits.slice(1, HALF - 1..2 * HALF - 1).unwrap().reshape([32 * HALF, 4]).unwrap();
        let targets = ids.slice(1, HALF..2 * HALF).unwrap().reshape([32 * HALF]).unwrap();
        let loss = logits.cross_entropy(&targets).unwrap();
        if step % 20 == 0 {
            last = loss.item().unwrap();
            if last < 0.1 {
                return;
            }
        }
        optimizer.step(&loss.backward().unwrap()).unwrap();
    }
    panic!("a loss of {last} after 300 steps");
}
