//! `nn`: layers, parameters, initialization, losses and checkpoints.

use crate::calls;
use crate::tensor::{
    attention_options, avg_pool, conv1d_options, conv2d_options, max_pool, transpose_options,
};
use crate::world::{Call, Out, World, said};
use gristmill::nn::*;
use gristmill::{AttentionOptions, Result, RotaryPairs, Shape, Tensor, dry_run};
use std::sync::Arc;

/// A layer, or a composition of layers, and the shape of a valid input.
pub fn module(w: &mut World) -> Result<(Box<dyn Layer>, Vec<usize>)> {
    let [n, a, b] = [w.small(), w.size(), w.small()];
    let mut init = w.init();
    Ok(match w.draw.below(18) {
        0 => (Box::new(Linear::new(a, b, &mut init)?.with_activation(w.activation())), vec![n, a]),
        1 => (Box::new(Sequential::new().push(Linear::new(a, b, &mut init)?).push(Relu)), vec![n, a]),
        2 => {
            let (first, second) = (module(w)?, module(w)?);
            (Box::new(Sequential::new().push(first.0).push(second.0)), first.1)
        }
        3 => (Box::new(LayerNorm::new([a], &init)?), vec![n, a]),
        4 => (Box::new(GroupNorm::new(b, a, &init)?), vec![n, a, 3]),
        5 => (Box::new(BatchNorm1d::new(a, &init)?), vec![n + 1, a]),
        6 => (Box::new(BatchNorm2d::new(a, &init)?), vec![n + 1, a, 2, 2]),
        7 => (Box::new(Conv2d::new(a, b, w.sides(), &mut init)?), vec![n, a, 4, 4]),
        8 => (Box::new(MaxPool2d::with_options(max_pool(w))), vec![n, b, 4, 5]),
        9 => (Box::new(AvgPool2d::with_options(avg_pool(w))), vec![n, b, 4, 5]),
        10 => (Box::new(Dropout::new(w.probability(), w.seed())?), vec![n, b]),
        11 => (Box::new(Upsample::bilinear(w.sides(), w.flag())), vec![n, b, 3, 2]),
        12 => {
            let options = recurrent(w);
            (Box::new(Lstm::with_options(a, b, options, &mut init)?), vec![n, 2, a])
        }
        13 => (Box::new(Flatten), w.small_shape(4)),
        14 => (Box::new(Embedding::new(a, b, &mut init)?), vec![n, b]),
        15 => {
            let (width, options) = heads(w)?;
            (Box::new(MultiHeadAttention::new(width, options, &mut init)?), vec![n, 3, width])
        }
        16 => {
            let (width, options) = block(w, false)?;
            (Box::new(TransformerEncoder::new(width, b.min(2), &options, &mut init)?), vec![n, 2, width])
        }
        _ => (Box::new(AdaptiveAvgPool2d::new(w.sides())), vec![n, b, 3, 4]),
    })
}

fn recurrent(w: &mut World) -> RecurrentOptions {
    let layers = if w.odd() { w.pick(&[0, 5]) } else { w.pick(&[1, 1, 2]) };
    RecurrentOptions { layers, bidirectional: w.flag(), bias: w.flag() }
}

/// A width, and options of an attention of that width.
fn heads(w: &mut World) -> Result<(usize, MultiHeadOptions)> {
    let (heads, each) = (w.small(), w.pick(&[1, 2, 4]));
    let heads = if w.odd() { w.size() } else { heads };
    let mut options = MultiHeadOptions::new(heads);
    if w.odd() {
        options.kv_heads = Some(w.size());
    }
    if w.odd() {
        options.size = Some(w.size());
    }
    if w.draw.one_in(4) {
        let dims = if w.odd() { w.size() } else { each / 2 * 2 };
        options.rotary = Some(Arc::new(Rotary::new(dims, w.small(), 1e4, RotaryPairs::Halves, &w.place())?));
    }
    (options.bias, options.causal, options.dropout) = (w.flag(), w.flag(), w.probability());
    let width = if w.odd() { w.size() } else { heads.saturating_mul(each) };
    Ok((width, options))
}

fn block(w: &mut World, cross: bool) -> Result<(usize, BlockOptions)> {
    let (width, attention) = heads(w)?;
    let feed_forward = w.pick(&[FeedForward::Gelu, FeedForward::Relu, FeedForward::SwiGlu]);
    let norm = w.pick(&[BlockNorm::Layer, BlockNorm::Rms]);
    let (hidden, norm_first, eps, dropout) = (w.size(), w.flag(), w.positive(), w.probability());
    let cross = cross != w.odd();
    Ok((width, BlockOptions { attention, hidden, feed_forward, norm, norm_first, eps, dropout, cross }))
}

/// Options for attention of `n` queries to `m` keys.
fn hidden(w: &mut World, n: usize, m: usize) -> Result<AttentionOptions> {
    if w.flag() { attention_options(w, &[n, m]) } else { Ok(AttentionOptions::default()) }
}

/// A decoder block, or a stack of them.
struct Decoding {
    width: usize,
    options: BlockOptions,
    memory: Tensor,
    hidden: AttentionOptions,
}

fn decoding(w: &mut World) -> Result<Decoding> {
    let (width, options) = block(w, true)?;
    let (memory, hidden) = (w.of(&[2, 3, width])?, AttentionOptions::default());
    Ok(Decoding { width, options, memory, hidden })
}

impl Decoding {
    fn memory(&self) -> Memory<'_> {
        Memory { sequence: &self.memory, options: &self.hidden }
    }
}

fn attention(w: &mut World) -> Result<(MultiHeadAttention, usize)> {
    let (width, options) = heads(w)?;
    Ok((MultiHeadAttention::new(width, options, &mut w.init())?, width))
}

fn parameter(w: &mut World) -> Result<Parameter> {
    Parameter::new(&w.of_rank(2)?)
}

fn loss(w: &mut World, loss: fn(&Tensor, &Tensor) -> Result<Tensor>) -> Result<Out> {
    let (x, t) = w.two()?;
    Ok(loss(&x, &t)?.into())
}

fn cache(w: &mut World) -> Result<(KvCache, [usize; 4])> {
    let shape = [w.small(), w.small(), w.size(), w.small()];
    Ok((KvCache::new(shape[0], shape[1], shape[2], shape[3], &w.place())?, shape))
}

fn filled(w: &mut World) -> Result<(KvCache, Vec<Tensor>)> {
    let (mut cache, [n, heads, _, size]) = cache(w)?;
    let new = w.small();
    let (keys, values) = (w.of(&[n, heads, new, size])?, w.of(&[n, heads, new, size])?);
    let held = cache.append(&keys, &values)?;
    Ok((cache, held.into()))
}

/// Saves a module's parameters to a file.
fn saved(w: &mut World, module: &dyn Module) -> Result<std::path::PathBuf> {
    let path = w.dir.join("saved.safetensors");
    save_parameters(module, &path)?;
    Ok(path)
}

/// Activation layers.
macro_rules! activations {
    ($($name:ident $(($attribute:ident))?),*) => {
        fn activation(w: &mut World) -> Box<dyn Layer> {
            let all: &[fn(&mut World) -> Box<dyn Layer>] = &[$(|_w| Box::new($name $((_w.$attribute()))?)),*];
            all[w.draw.below(all.len())](w)
        }
    };
}
activations! { Relu, Sigmoid, Tanh, Gelu, Silu, Hardswish, Softplus, LeakyRelu(number), Elu(number) }

/// The constructors of a recurrent layer, and its forward pass from a state.
macro_rules! recurrents {
    ($($name:ident: $new:literal $options:literal $from:literal, |$given:ident| $state:expr;)*) => {
        &[$(Call { name: $new, run: |w| {
            let [inputs, hidden] = [w.size(), w.size()];
            let layer = $name::new(inputs, hidden, &mut w.init())?;
            w.through(&layer, &[2, 3, inputs])
        } },
        Call { name: $options, run: |w| {
            let [inputs, hidden] = [w.size(), w.size()];
            let layer = $name::with_options(inputs, hidden, recurrent(w), &mut w.init())?;
            w.through(&layer, &[2, 3, inputs])
        } },
        Call { name: $from, run: |w| {
            let (inputs, hidden, options) = (w.small(), w.small(), recurrent(w));
            let layer = $name::with_options(inputs, hidden, options, &mut w.init())?;
            let steps = w.small();
            let x = w.of(&[2, steps, inputs])?;
            let states = options.layers * (1 + usize::from(options.bidirectional));
            let $given = w.optional(|w| w.of(&[states, 2, hidden]))?;
            let (y, last) = layer.forward_from(&x, $state)?;
            drop(last);
            Ok(y.into())
        } }),*]
    };
}

/// Layers with a sliding kernel.
macro_rules! convolutions {
    ($($name:ident: $new:literal $options:literal $from:literal $activation:literal, $kernel:ident, $drawn:ident, $ranks:literal;)*) => {
        &[$(Call { name: $new, run: |w| {
            let [inputs, outputs] = [w.size(), w.size()];
            let layer = $name::new(inputs, outputs, w.$kernel(), &mut w.init())?;
            w.through(&layer, &[&[2, inputs][..], &[5, 4][..$ranks]].concat())
        } },
        Call { name: $options, run: |w| {
            let (groups, [inputs, outputs]) = (w.side(), [w.small(), w.small()]);
            let [inputs, outputs] = [inputs, outputs].map(|c| c.saturating_mul(groups));
            let options = $drawn(w, groups);
            let layer = $name::with_options(inputs, outputs, w.$kernel(), options, &mut w.init())?;
            w.through(&layer, &[&[2, inputs][..], &[5, 4][..$ranks]].concat())
        } },
        Call { name: $from, run: |w| {
            let groups = w.side();
            let channels = [w.small(), w.small()];
            let weight = w.of(&[&channels[..], &[2, 1][..$ranks]].concat())?;
            let channels = weight.shape().first().copied().unwrap_or(1);
            let bias = w.optional(|w| w.of(&[channels]))?;
            let layer = $name::from_tensors(&weight, bias.as_ref(), $drawn(w, groups))?;
            let inputs = weight.shape()[1].saturating_mul(groups);
            w.through(&layer, &[&[2, inputs][..], &[5, 4][..$ranks]].concat())
        } },
        Call { name: $activation, run: |w| {
            let [inputs, outputs] = [w.small(), w.small()];
            let layer = $name::new(inputs, outputs, w.$kernel(), &mut w.init())?.with_activation(w.activation());
            w.through(&layer, &[&[2, inputs][..], &[5, 4][..$ranks]].concat())
        } }),*]
    };
}

/// Batch normalization layers.
macro_rules! batch_norms {
    ($($name:ident: $new:literal $momentum:literal $eps:literal, $space:expr;)*) => {
        &[$(Call { name: $new, run: |w| {
            let channels = w.size();
            let layer = $name::new(channels, &w.init())?;
            w.through(&layer, &[&[3, channels][..], $space].concat())
        } },
        Call { name: $momentum, run: |w| {
            let channels = w.small();
            let layer = $name::new(channels, &w.init())?.with_momentum(w.probability())?;
            let mut out = w.through(&layer, &[&[3, channels][..], $space].concat())?;
            out.tensors.extend(layer.named_state().iter().map(|(_, cell)| cell.tensor()));
            Ok(out)
        } },
        Call { name: $eps, run: |w| {
            let channels = w.small();
            let layer = $name::new(channels, &w.init())?.with_eps(w.positive())?;
            w.through(&layer, &[&[3, channels][..], $space].concat())
        } }),*]
    };
}

pub const LAYERS: &[&[Call]] = &[
    recurrents! {
        Rnn: "Rnn::new" "Rnn::with_options" "Rnn::forward_from", |given| given.as_ref();
        Gru: "Gru::new" "Gru::with_options" "Gru::forward_from", |given| given.as_ref();
        Lstm: "Lstm::new" "Lstm::with_options" "Lstm::forward_from",
            |given| given.map(|h| LstmState { c: h.clone(), h }).as_ref();
    },
    convolutions! {
        Conv1d: "Conv1d::new" "Conv1d::with_options" "Conv1d::from_tensors" "Conv1d::with_activation", side, conv1d_options, 1;
        Conv2d: "Conv2d::new" "Conv2d::with_options" "Conv2d::from_tensors" "Conv2d::with_activation", sides, conv2d_options, 2;
        ConvTranspose2d: "ConvTranspose2d::new" "ConvTranspose2d::with_options" "ConvTranspose2d::from_tensors"
            "ConvTranspose2d::with_activation", sides, transpose_options, 2;
    },
    batch_norms! {
        BatchNorm1d: "BatchNorm1d::new" "BatchNorm1d::with_momentum" "BatchNorm1d::with_eps", &[][..];
        BatchNorm2d: "BatchNorm2d::new" "BatchNorm2d::with_momentum" "BatchNorm2d::with_eps", &[2, 3][..];
    },
];

fn options(w: &mut World) -> LoadOptions<'static> {
    let options = LoadOptions::new().strict(w.flag());
    match w.draw.below(3) {
        0 => options,
        1 => options.prefix("0."),
        _ => options.rename(|name| name.replace("weight", "bias")),
    }
}

calls! {
    "Linear::new": |w| {
        let [inputs, outputs] = [w.size(), w.size()];
        let layer = Linear::new(inputs, outputs, &mut w.init())?;
        w.through(&layer, &[3, inputs])?
    };
    "Linear::from_tensors": |w| {
        let (weight, bias) = (w.of_rank(2)?, w.small());
        let bias = w.optional(|w| w.of(&[weight.shape().first().copied().unwrap_or(bias)]))?;
        let layer = Linear::from_tensors(&weight, bias.as_ref())?;
        w.through(&layer, &[2, weight.shape()[1]])?
    };
    "Linear::with_activation": |w| {
        let [inputs, outputs] = [w.small(), w.size()];
        let layer = Linear::new(inputs, outputs, &mut w.init())?.with_activation(w.activation());
        w.through(&layer, &[3, inputs])?
    };
    "Embedding::new": |w| {
        let [count, width] = [w.size(), w.size()];
        let table = Embedding::new(count, width, &mut w.init())?;
        let ids = w.ids(&[2, 3], count)?;
        w.forward(&table, &ids)?
    };
    "Embedding::from_tensor": |w| {
        let table = Embedding::from_tensor(&w.of_rank(2)?)?;
        let ids = w.ids(&[4], 2)?;
        w.forward(&table, &ids)?
    };
    "Dropout::new": |w| {
        let layer = Dropout::new(w.probability(), w.seed())?;
        let x = w.tensor()?;
        w.forward(&layer, &x)?
    };
    "LayerNorm::new": |w| {
        let shape = w.shape();
        let layer = LayerNorm::new(&shape, &w.init())?;
        w.through(&layer, &shape)?
    };
    "LayerNorm::with_eps": |w| {
        let size = w.small();
        let layer = LayerNorm::new([size], &w.init())?.with_eps(w.positive())?;
        w.through(&layer, &[2, size])?
    };
    "LayerNorm::from_tensors": |w| {
        let weight = w.of_rank(1)?;
        let bias = w.optional(|w| w.like(&weight))?;
        let layer = LayerNorm::from_tensors(&weight, bias.as_ref())?;
        w.through(&layer, &[&[2][..], &weight.shape()].concat())?
    };
    "LayerNorm::forward_add": |w| {
        let x = w.of_rank(2)?;
        let layer = LayerNorm::new(&x.shape()[x.rank().min(1)..], &w.init())?;
        layer.forward_add(&x, &w.like(&x)?)?
    };
    "RmsNorm::new": |w| {
        let shape = w.shape();
        let layer = RmsNorm::new(&shape, &w.init())?;
        w.through(&layer, &shape)?
    };
    "RmsNorm::with_eps": |w| {
        let size = w.small();
        let layer = RmsNorm::new([size], &w.init())?.with_eps(w.positive())?;
        w.through(&layer, &[2, size])?
    };
    "RmsNorm::from_tensor": |w| {
        let weight = w.of_rank(1)?;
        let layer = RmsNorm::from_tensor(&weight)?;
        w.through(&layer, &[&[2][..], &weight.shape()].concat())?
    };
    "RmsNorm::forward_add": |w| {
        let x = w.of_rank(2)?;
        let layer = RmsNorm::new(&x.shape()[x.rank().min(1)..], &w.init())?;
        layer.forward_add(&x, &w.like(&x)?)?
    };
    "GroupNorm::new": |w| {
        let [groups, each] = [w.side(), w.small()];
        let channels = if w.odd() { w.size() } else { groups.saturating_mul(each) };
        let layer = GroupNorm::new(groups, channels, &w.init())?;
        w.through(&layer, &[2, channels, 3])?
    };
    "GroupNorm::with_eps": |w| {
        let channels = w.small();
        let layer = GroupNorm::new(1, channels, &w.init())?.with_eps(w.positive())?;
        w.through(&layer, &[2, channels, 3])?
    };
    "MaxPool2d::new": |w| {
        let layer = MaxPool2d::new(w.sides());
        w.through(&layer, &[2, 3, 4, 5])?
    };
    "MaxPool2d::with_options": |w| {
        let layer = MaxPool2d::with_options(max_pool(w));
        w.through(&layer, &[2, 3, 4, 5])?
    };
    "AvgPool2d::new": |w| {
        let layer = AvgPool2d::new(w.sides());
        w.through(&layer, &[2, 3, 4, 5])?
    };
    "AvgPool2d::with_options": |w| {
        let layer = AvgPool2d::with_options(avg_pool(w));
        w.through(&layer, &[2, 3, 4, 5])?
    };
    "AdaptiveAvgPool2d::new": |w| {
        let layer = AdaptiveAvgPool2d::new(w.sides());
        w.through(&layer, &[2, 3, 4, 5])?
    };
    "Upsample::nearest": |w| {
        let layer = Upsample::nearest(w.sides());
        w.through(&layer, &[2, 1, 2, 3])?
    };
    "Upsample::bilinear": |w| {
        let layer = Upsample::bilinear(w.sides(), w.flag());
        w.through(&layer, &[2, 1, 2, 3])?
    };
    "Rnn::with_relu": |w| {
        let layer = Rnn::new(2, w.size(), &mut w.init())?.with_relu();
        w.through(&layer, &[2, 3, 2])?
    };
    "Rotary::new": |w| {
        let (dims, positions) = (2usize.saturating_mul(w.size()), w.size());
        let base = f64::from(w.positive()) * 1e4;
        let rotary = Rotary::new(dims, positions, base, RotaryPairs::Neighbours, &w.place())?;
        rotary.forward(&w.of(&[2, positions.min(3), dims])?, 0)?
    };
    "Rotary::forward": |w| {
        let (pairs, positions, n) = (w.small(), w.small(), w.small());
        let rotary = Rotary::new(2 * pairs, positions, 1e4, RotaryPairs::Halves, &w.place())?;
        let first = if w.odd() { w.size() } else { positions.saturating_sub(n) };
        rotary.forward(&w.of(&[2, n, 2 * pairs])?, first)?
    };
    "KvCache::new": |w| said(KvCache::new(w.size(), w.size(), w.size(), w.size(), &w.device)?.capacity());
    "KvCache::len": |w| said(filled(w)?.0.len());
    "KvCache::is_empty": |w| said(cache(w)?.0.is_empty());
    "KvCache::capacity": |w| said(cache(w)?.0.capacity());
    "KvCache::truncate": |w| {
        let (mut cache, held) = filled(w)?;
        cache.truncate(w.size());
        assert!(cache.len() <= cache.capacity());
        held
    };
    "KvCache::append": |w| {
        let (mut cache, mut held) = filled(w)?;
        let shape = held[0].shape().to_vec();
        if w.flag() {
            held.clear();
        }
        cache.truncate(w.size());
        held.extend(cache.append(&w.of(&shape)?, &w.of(&shape)?)?);
        held
    };
    "MultiHeadOptions::new": |w| said(MultiHeadOptions::new(w.size()).heads);
    "MultiHeadAttention::new": |w| {
        let (attention, width) = attention(w)?;
        w.through(&attention, &[2, 3, width])?
    };
    "MultiHeadAttention::attend": |w| {
        let (attention, width) = attention(w)?;
        attention.attend(&w.of(&[2, 3, width])?, &hidden(w, 3, 3)?)?
    };
    "MultiHeadAttention::cache": |w| {
        let (attention, _) = attention(w)?;
        said(attention.cache(w.size(), w.size())?.capacity())
    };
    "MultiHeadAttention::attend_cached": |w| {
        let (attention, width) = attention(w)?;
        let mut cache = attention.cache(2, w.size())?;
        let first = attention.attend_cached(&w.of(&[2, 1, width])?, &mut cache, &hidden(w, 1, 1)?)?;
        let second = attention.attend_cached(&w.of(&[2, 2, width])?, &mut cache, &hidden(w, 2, 3)?)?;
        [first, second]
    };
    "MultiHeadAttention::keys_and_values": |w| {
        let (attention, width) = attention(w)?;
        attention.keys_and_values(&w.of(&[2, 3, width])?)?
    };
    "MultiHeadAttention::attend_to": |w| {
        let (attention, width) = attention(w)?;
        let [keys, values] = attention.keys_and_values(&w.of(&[2, 3, width])?)?;
        let keys = if w.odd() { w.tensor()? } else { keys };
        attention.attend_to(&w.of(&[2, 4, width])?, [&keys, &values], &hidden(w, 4, 3)?)?
    };
    "BlockOptions::new": |w| said(BlockOptions::new(w.size(), w.size()).hidden);
    "TransformerBlock::new": |w| {
        let (width, options) = block(w, false)?;
        let block = TransformerBlock::new(width, &options, &mut w.init())?;
        w.through(&block, &[2, 3, width])?
    };
    "TransformerBlock::cache": |w| {
        let (width, options) = block(w, false)?;
        let block = TransformerBlock::new(width, &options, &mut w.init())?;
        said(block.cache(w.size(), w.size())?.own().len())
    };
    "BlockCache::own": |w| {
        let (width, options) = block(w, false)?;
        let block = TransformerBlock::new(width, &options, &mut w.init())?;
        said(block.cache(2, w.small())?.own().capacity())
    };
    "TransformerBlock::forward_with": |w| {
        let d = decoding(w)?;
        let block = TransformerBlock::new(d.width, &d.options, &mut w.init())?;
        let memory = if w.odd() { None } else { Some(d.memory()) };
        block.forward_with(&w.of(&[2, 2, d.width])?, &hidden(w, 2, 2)?, memory)?
    };
    "TransformerBlock::forward_cached": |w| {
        let d = decoding(w)?;
        let block = TransformerBlock::new(d.width, &d.options, &mut w.init())?;
        let mut cache = block.cache(2, w.size())?;
        let first = block.forward_cached(&w.of(&[2, 1, d.width])?, &mut cache, &hidden(w, 1, 1)?, Some(d.memory()))?;
        let second = block.forward_cached(&w.of(&[2, 1, d.width])?, &mut cache, &hidden(w, 1, 2)?, Some(d.memory()))?;
        [first, second]
    };
    "TransformerEncoder::new": |w| {
        let (width, options) = block(w, false)?;
        let stack = TransformerEncoder::new(width, w.padding().min(8), &options, &mut w.init())?;
        w.through(&stack, &[2, 3, width])?
    };
    "TransformerEncoder::cache": |w| {
        let (width, options) = block(w, false)?;
        said(TransformerEncoder::new(width, 1, &options, &mut w.init())?.cache(w.size(), w.size())?.len())
    };
    "TransformerEncoder::forward_with": |w| {
        let (width, options) = block(w, false)?;
        let stack = TransformerEncoder::new(width, 1, &options, &mut w.init())?;
        stack.forward_with(&w.of(&[2, 3, width])?, &hidden(w, 3, 3)?)?
    };
    "TransformerEncoder::forward_cached": |w| {
        let (width, options) = block(w, false)?;
        let stack = TransformerEncoder::new(width, 1, &options, &mut w.init())?;
        let mut caches = stack.cache(2, w.size())?;
        if w.odd() {
            caches.clear();
        }
        let first = stack.forward_cached(&w.of(&[2, 1, width])?, &mut caches, &hidden(w, 1, 1)?)?;
        let second = stack.forward_cached(&w.of(&[2, 1, width])?, &mut caches, &hidden(w, 1, 2)?)?;
        [first, second]
    };
    "TransformerDecoder::new": |w| {
        let (width, options) = block(w, true)?;
        let stack = TransformerDecoder::new(width, w.padding().min(8), &options, &mut w.init())?;
        said(stack.parameters().len())
    };
    "TransformerDecoder::cache": |w| {
        let (width, options) = block(w, true)?;
        said(TransformerDecoder::new(width, 1, &options, &mut w.init())?.cache(w.size(), w.size())?.len())
    };
    "TransformerDecoder::forward_with": |w| {
        let d = decoding(w)?;
        let stack = TransformerDecoder::new(d.width, 1, &d.options, &mut w.init())?;
        stack.forward_with(&w.of(&[2, 2, d.width])?, &hidden(w, 2, 2)?, d.memory())?
    };
    "TransformerDecoder::forward_cached": |w| {
        let d = decoding(w)?;
        let stack = TransformerDecoder::new(d.width, 1, &d.options, &mut w.init())?;
        let mut caches = stack.cache(2, w.size())?;
        let first = stack.forward_cached(&w.of(&[2, 1, d.width])?, &mut caches, &hidden(w, 1, 1)?, d.memory())?;
        let second = stack.forward_cached(&w.of(&[2, 1, d.width])?, &mut caches, &hidden(w, 1, 2)?, d.memory())?;
        [first, second]
    };
    "Sequential::new": |w| {
        let x = w.tensor()?;
        w.forward(&Sequential::new(), &x)?
    };
    "Sequential::push": |w| {
        let x = w.tensor()?;
        let model = Sequential::new().push(activation(w)).push(activation(w));
        w.forward(&model, &x)?
    };
    "Sequential::len": |w| said(Sequential::new().push(activation(w)).len());
    "Sequential::is_empty": |_w| said(Sequential::new().is_empty());
    "summary": |w| {
        let (module, input) = module(w)?;
        let shape = if w.odd() { w.shape() } else { input };
        said(summary(&module, shape)?)
    };
    "Module::describe": |w| said(module(w)?.0.describe());
    "Layer::forward": |w| {
        let (module, input) = module(w)?;
        w.through(&module, &input)?
    };
    "dry_run": |w| {
        let (module, mut input) = module(w)?;
        if w.flag() && !input.is_empty() {
            input[0] = w.huge();
        }
        let device = w.device.clone();
        said(dry_run(|| Ok(module.forward(&Tensor::zeros(input, &device)?)?.shape()))?)
    };
    "summary_with": |w| {
        let (module, input) = module(w)?;
        let x = w.of(&input)?;
        said(summary_with(&module, || module.forward(&x))?)
    };
    "Module::parts": |w| {
        let (module, other) = (module(w)?.0, module(w)?.0);
        drop(Parts::new().with("a", &module).and(other.parts()));
        said(())
    };
    "Parts::new": |w| {
        drop(Parts::new().with("", &module(w)?.0));
        said(())
    };
    "Parts::with": |w| {
        drop(Parts::new().with("a.b", &[parameter(w)?, parameter(w)?]));
        said(())
    };
    "Parts::and": |w| {
        drop(Parts::new().and(module(w)?.0.parts()));
        said(())
    };
    "Part::add_to": |w| {
        let (parameter, mut parts) = (parameter(w)?, Parts::new());
        parameter.add_to("x", &mut parts);
        Some(parameter.clone()).add_to("x", &mut parts);
        said(())
    };
    "Mode::new": |_w| said(Mode::new().is_training());
    "Mode::is_training": |_w| said(Mode::default().is_training());
    "Module::device": |w| {
        // Its own device: of a module without parameters, the CPU.
        drop(module(w)?.0.device());
        said(())
    };
    "Linear::without_bias": |w| {
        let (a, b) = (w.size(), w.size());
        let layer = Linear::new(a, b, &mut w.init())?.without_bias();
        w.through(&layer, &[2, a])?
    };
    "Conv1d::without_bias": |w| {
        let layer = Conv1d::new(2, w.size(), w.side(), &mut w.init())?.without_bias();
        w.through(&layer, &[2, 2, 5])?
    };
    "Conv2d::without_bias": |w| {
        let layer = Conv2d::new(2, w.size(), w.sides(), &mut w.init())?.without_bias();
        w.through(&layer, &[2, 2, 5, 4])?
    };
    "ConvTranspose2d::without_bias": |w| {
        let layer = ConvTranspose2d::new(2, w.size(), w.sides(), &mut w.init())?.without_bias();
        w.through(&layer, &[2, 2, 5, 4])?
    };
    "Sequential::get": |w| {
        let model = Sequential::new().push(activation(w));
        said(model.get(w.size()).map(|layer| layer.describe()))
    };
    "Sequential::iter": |w| said(Sequential::new().push(activation(w)).iter().map(|layer| layer.describe()).collect::<Vec<_>>());
    "Sequential::insert": |w| {
        let mut model = Sequential::new().push(activation(w));
        model.insert(w.size(), module(w)?.0)?;
        said(model.len())
    };
    "Sequential::pop": |w| {
        let mut model = Sequential::new().push(module(w)?.0);
        said((model.pop().map(|layer| layer.describe()), model.len()))
    };
    "Sequential::replace": |w| {
        let mut model = Sequential::new().push(activation(w));
        said(model.replace(w.size(), module(w)?.0)?.describe())
    };
    "Module::children": |w| said(module(w)?.0.children().len());
    "Module::train": |w| {
        let (module, input) = module(w)?;
        module.train();
        w.through(&module, &input)?
    };
    "Module::eval": |w| {
        let (module, input) = module(w)?;
        module.eval();
        w.through(&module, &input)?
    };
    "Module::freeze": |w| {
        let (module, input) = module(w)?;
        module.freeze();
        w.through(&module, &input)?
    };
    "Module::unfreeze": |w| {
        let (module, input) = module(w)?;
        module.unfreeze();
        w.through(&module, &input)?
    };
    "Module::frozen": |w| {
        let (module, input) = module(w)?;
        let _guard = module.frozen();
        w.through(&module, &input)?
    };
    "Module::named_parameters": |w| said(module(w)?.0.named_parameters().iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    "Module::named_state": |w| said(module(w)?.0.named_state().iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    "Module::parameters": |w| module(w)?.0.parameters().iter().map(Parameter::tensor).collect::<Vec<_>>();
    "Parameter::new": |w| Parameter::new(&w.tensor()?)?.tensor();
    "Parameter::buffer": |w| Parameter::buffer(&w.tensor()?)?.tensor();
    "Parameter::tensor": |w| parameter(w)?.tensor();
    "Parameter::shape": |w| said(parameter(w)?.shape());
    "Parameter::numel": |w| said(parameter(w)?.numel());
    "Parameter::set": |w| {
        let parameter = parameter(w)?;
        parameter.set(&w.like(&parameter.tensor())?)?;
        parameter.tensor()
    };
    "Parameter::same": |w| {
        let parameter = parameter(w)?;
        said((parameter.same(&parameter.clone()), parameter.same(&Parameter::new(&w.of_rank(1)?)?)))
    };
    "Parameter::freeze": |w| {
        let parameter = parameter(w)?;
        parameter.freeze();
        parameter.tensor().square()?
    };
    "Parameter::unfreeze": |w| {
        let parameter = parameter(w)?;
        parameter.unfreeze();
        parameter.tensor().square()?
    };
    "Parameter::is_frozen": |w| said(parameter(w)?.is_frozen());
    "Init::new": |w| {
        let mut init = Init::new(w.seed(), &w.place());
        init.weights([2, 3])?
    };
    "Init::with_scheme": |w| w.init().weights([2, 3])?;
    "Init::device": |w| said(w.init().device().same(&w.device));
    "Init::seed": |w| said(w.init().seed());
    "Init::weights": |w| w.init().weights(w.shape())?;
    "Init::bias": |w| {
        let outputs = w.size();
        w.init().bias(outputs, Shape::new(w.shape())?)?
    };
    "Init::zeros": |w| w.init().zeros(w.shape())?;
    "mse_loss": |w| loss(w, mse_loss)?;
    "l1_loss": |w| loss(w, l1_loss)?;
    "hinge_loss": |w| loss(w, hinge_loss)?;
    "bce_with_logits_loss": |w| loss(w, bce_with_logits_loss)?;
    "kl_div_loss": |w| loss(w, kl_div_loss)?;
    "huber_loss": |w| {
        let (x, t) = w.two()?;
        huber_loss(&x, &t, w.positive())?
    };
    "Sampling::choose": |w| {
        let sampling = Sampling {
            temperature: w.positive(),
            top_k: if w.flag() { Some(w.size()) } else { None },
            top_p: if w.flag() { Some(w.probability()) } else { None },
        };
        let count = w.small();
        said(sampling.choose(&w.floats(count), w.seed(), w.seed())?)
    };
    "save_parameters": |w| said(save_parameters(&module(w)?.0, w.path()).is_ok());
    "save_parameters_with": |w| {
        let metadata = [("a\n\u{1b}".to_string(), "\0\"".to_string())].into();
        said(save_parameters_with(&module(w)?.0, w.path(), &metadata).is_ok())
    };
    "load_parameters": |w| {
        let (model, _) = module(w)?;
        let mut path = saved(w, &model)?;
        if w.odd() {
            let other = module(w)?.0;
            path = saved(w, &other)?;
        } else if w.odd() {
            path = w.path();
        }
        load_parameters(&model, path)?;
        model.parameters().iter().map(Parameter::tensor).collect::<Vec<_>>()
    };
    "load_parameters_with": |w| {
        let (model, _) = module(w)?;
        let path = saved(w, &model)?;
        let options = options(w);
        load_parameters_with(&model, path, &options)?;
        model.parameters().iter().map(Parameter::tensor).collect::<Vec<_>>()
    };
    "load_state_dict": |w| {
        let (model, _) = module(w)?;
        let mut state = model.state_dict();
        if w.odd() {
            state.extend(module(w)?.0.state_dict());
        }
        let options = options(w);
        load_state_dict(&model, &state, &options)?;
        model.parameters().iter().map(Parameter::tensor).collect::<Vec<_>>()
    };
    "LoadOptions::new": |w| {
        let (model, _) = module(w)?;
        said(load_state_dict(&model, &model.state_dict(), &LoadOptions::new())?)
    };
    "LoadOptions::prefix": |w| {
        let (model, _) = module(w)?;
        let options = LoadOptions::new().prefix("0.").strict(w.flag());
        said(load_state_dict(&model, &model.state_dict(), &options)?)
    };
    "LoadOptions::rename": |w| {
        let (model, _) = module(w)?;
        let options = LoadOptions::new().rename(|_| "weight".to_string()).strict(w.flag());
        said(load_state_dict(&model, &model.state_dict(), &options)?)
    };
    "LoadOptions::strict": |w| {
        let (model, _) = module(w)?;
        said(load_state_dict(&model, &[], &LoadOptions::new().strict(w.flag()))?)
    };
    "Module::state_dict": |w| module(w)?.0.state_dict().into_iter().map(|(_, tensor)| tensor).collect::<Vec<_>>();
    "hash_parameters": |w| {
        let (model, _) = module(w)?;
        said(hash_parameters(&model)? == hash_parameters(&model)?)
    };
}
