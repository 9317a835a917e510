//! Transformer blocks, encoders and decoders.

use super::attention::{KvCache, MultiHeadAttention, MultiHeadOptions};
use super::init::{Init, layers};
use super::layers::{Dropout, Linear};
use super::module::{Layer, Module, Parts};
use super::norm::{LayerNorm, RmsNorm};
use super::summary::traced;
use crate::tensor::Tensor;
use crate::{AttentionOptions, Error, Result};

/// The activation of a block's feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum FeedForward {
    /// [`Tensor::gelu`].
    #[default]
    Gelu,
    /// [`Tensor::relu`], as in the original Transformer.
    Relu,
    /// [`Tensor::swiglu`] ([Shazeer](https://arxiv.org/abs/2002.05202)): the first linear layer has twice the outputs;
    /// the first half gates the second.
    SwiGlu,
}

/// The kind of normalization in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BlockNorm {
    /// [`LayerNorm`].
    #[default]
    Layer,
    /// [`RmsNorm`].
    Rms,
}

/// The options of a [`TransformerBlock`].
///
/// ```
/// # use gristmill::{Device, nn::{BlockNorm, BlockOptions, FeedForward, Init, Module, TransformerBlock}};
/// # let device = Device::cpu();
/// # let mut init = Init::new(1, &device);
/// let options = BlockOptions { norm: BlockNorm::Rms, feed_forward: FeedForward::SwiGlu, ..BlockOptions::new(4, 64) };
/// let block = TransformerBlock::new(16, &options, &mut init)?;
/// assert_eq!(block.describe(), "TransformerBlock pre-norm, SwiGlu");
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone)]
pub struct BlockOptions {
    /// Self-attention. Cross-attention has the same options, but is not causal and has no rotary positions.
    pub attention: MultiHeadOptions,
    /// The hidden width of the feed-forward network.
    pub hidden: usize,
    /// The activation of the feed-forward network.
    pub feed_forward: FeedForward,
    /// The kind of normalization.
    pub norm: BlockNorm,
    /// Whether the input of each sublayer is normalized (pre-norm, [Xiong et al.](https://arxiv.org/abs/2002.04745)),
    /// or the sum of its input and output (post-norm, as in the original Transformer).
    pub norm_first: bool,
    /// Added to the variance in normalization.
    pub eps: f32,
    /// The dropout probability in training, for the output of each sublayer and inside the feed-forward network.
    pub dropout: f32,
    /// Whether the block has cross-attention.
    pub cross: bool,
}

impl BlockOptions {
    /// Pre-norm with layer norm and GELU, without dropout and cross-attention.
    pub fn new(heads: usize, hidden: usize) -> BlockOptions {
        BlockOptions {
            attention: MultiHeadOptions::new(heads),
            hidden,
            feed_forward: FeedForward::Gelu,
            norm: BlockNorm::Layer,
            norm_first: true,
            eps: 1e-5,
            dropout: 0.0,
            cross: false,
        }
    }
}

/// A normalization layer of either kind.
#[derive(Module)]
enum Norm {
    Layer(LayerNorm),
    Rms(RmsNorm),
}

impl Norm {
    fn new(kind: BlockNorm, width: usize, eps: f32, init: &Init) -> Result<Norm> {
        match kind {
            BlockNorm::Layer => Ok(Norm::Layer(LayerNorm::new([width], init)?.with_eps(eps)?)),
            BlockNorm::Rms => Ok(Norm::Rms(RmsNorm::new([width], init)?.with_eps(eps)?)),
        }
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Norm::Layer(norm) => norm.forward(x),
            Norm::Rms(norm) => norm.forward(x),
        }
    }

    /// The normalized sum, and the sum.
    fn of_sum(&self, x: &Tensor, residual: &Tensor) -> Result<[Tensor; 2]> {
        match self {
            Norm::Layer(norm) => norm.forward_add(x, residual),
            Norm::Rms(norm) => norm.forward_add(x, residual),
        }
    }
}

/// Cross-attention and its normalization.
struct Cross {
    attention: MultiHeadAttention,
    norm: Norm,
    dropout: Dropout,
}

/// The cache of a block during generation: keys and values of its own sequence and of the memory.
///
/// ```
/// # use gristmill::{Device, nn::{BlockOptions, Init, TransformerBlock}};
/// # let device = Device::cpu();
/// # let mut init = Init::new(1, &device);
/// # let block = TransformerBlock::new(16, &BlockOptions::new(4, 64), &mut init)?;
/// let cache = block.cache(2, 8)?; // two sequences of at most 8 positions
/// assert_eq!((cache.own().len(), cache.own().capacity()), (0, 8));
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct BlockCache {
    own: KvCache,
    memory: Option<[Tensor; 2]>,
}

impl BlockCache {
    /// The cached keys and values of self-attention.
    pub fn own(&self) -> &KvCache {
        &self.own
    }
}

/// The sequence that cross-attention reads, and a mask for its keys.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    /// `[.., m, width]`.
    pub sequence: &'a Tensor,
    /// The options of the cross-attention, such as a mask.
    pub options: &'a AttentionOptions,
}

/// A Transformer block, `[.., n, width]` to `[.., n, width]` ([Vaswani et al.](https://arxiv.org/abs/1706.03762)).
///
/// Self-attention, in a decoder cross-attention, then a feed-forward network, each with a residual connection.
///
/// Parameters have the names of PyTorch's `TransformerEncoderLayer` and `TransformerDecoderLayer`: `self_attn`,
/// `multihead_attn`, `linear1`, `linear2`, `norm1` and so on.
///
/// ```
/// # use gristmill::{Device, Tensor, nn::{BlockOptions, Init, Layer, TransformerBlock}};
/// # let device = Device::cpu();
/// # let mut init = Init::new(1, &device);
/// let block = TransformerBlock::new(16, &BlockOptions::new(4, 64), &mut init)?; // 4 heads
/// let x = Tensor::randn([2, 5, 16], 0.0, 1.0, 1, &device)?; // two sequences of five positions
/// assert_eq!(block.forward(&x)?.shape(), [2, 5, 16]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct TransformerBlock {
    attention: MultiHeadAttention,
    cross: Option<Cross>,
    wide: Linear,
    narrow: Linear,
    feed_forward: FeedForward,
    norm_first: bool,
    /// Of self-attention, and of the feed-forward network.
    norms: [Norm; 2],
    /// After self-attention, inside the feed-forward network, and after it.
    dropouts: [Dropout; 3],
    causal: bool,
}

impl TransformerBlock {
    /// Weights and biases drawn by `init`, those of attention as in [`MultiHeadAttention::new`], normalization weights 1.
    ///
    /// # Errors
    /// As [`MultiHeadAttention::new`], a dropout outside `0..=1`, or a negative `eps`.
    #[track_caller]
    pub fn new(width: usize, options: &BlockOptions, init: &mut Init) -> Result<TransformerBlock> {
        let &BlockOptions { hidden, feed_forward, norm, norm_first, eps, dropout, cross, .. } = options;
        let attention = &options.attention;
        let linear = |inputs: usize, outputs: usize, init: &mut Init| {
            let weight = init.weights([outputs, inputs])?;
            let bias = if attention.bias { Some(init.bias(outputs, weight.shape())?) } else { None };
            Linear::from_tensors(&weight, bias.as_ref())
        };
        let other = MultiHeadOptions { causal: false, rotary: None, ..attention.clone() };
        let high = if feed_forward == FeedForward::SwiGlu { hidden.saturating_mul(2) } else { hidden };
        let cross = match cross {
            false => None,
            true => Some(Cross {
                attention: MultiHeadAttention::new(width, other, init)?,
                norm: Norm::new(norm, width, eps, init)?,
                dropout: Dropout::new(dropout, init.seed())?,
            }),
        };
        Ok(TransformerBlock {
            attention: MultiHeadAttention::new(width, attention.clone(), init)?,
            cross,
            wide: linear(width, high, init)?,
            narrow: linear(hidden, width, init)?,
            feed_forward,
            norm_first,
            norms: [Norm::new(norm, width, eps, init)?, Norm::new(norm, width, eps, init)?],
            dropouts: [
                Dropout::new(dropout, init.seed())?,
                Dropout::new(dropout, init.seed())?,
                Dropout::new(dropout, init.seed())?,
            ],
            causal: attention.causal,
        })
    }

    /// An empty cache for `sequences` sequences of at most `positions` positions.
    ///
    /// # Errors
    /// The device is out of memory.
    #[track_caller]
    pub fn cache(&self, sequences: usize, positions: usize) -> Result<BlockCache> {
        Ok(BlockCache { own: self.attention.cache(sequences, positions)?, memory: None })
    }

    /// The output for a sequence, `[.., n, width]`.
    ///
    /// `options` may hide keys of self-attention. `memory` is required with cross-attention, and an error without.
    ///
    /// ```
    /// # use gristmill::{AttentionOptions, Device, Tensor, nn::{BlockOptions, Init, Layer, Memory, TransformerBlock}};
    /// # let device = Device::cpu();
    /// # let mut init = Init::new(1, &device);
    /// # let (x, read) = (Tensor::ones([1, 5, 16], &device)?, Tensor::ones([1, 7, 16], &device)?);
    /// let plain = AttentionOptions::default();
    /// let block = TransformerBlock::new(16, &BlockOptions { cross: true, ..BlockOptions::new(4, 64) }, &mut init)?;
    /// let memory = Memory { sequence: &read, options: &plain };
    /// assert_eq!(block.forward_with(&x, &plain, Some(memory))?.shape(), [1, 5, 16]);
    /// assert!(block.forward(&x).is_err()); // without a memory
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A missing or unexpected memory, shapes that do not fit, or the device fails.
    #[track_caller]
    pub fn forward_with(
        &self,
        x: &Tensor,
        options: &AttentionOptions,
        memory: Option<Memory>,
    ) -> Result<Tensor> {
        let attend = |x: &Tensor| self.attention.attend(x, options);
        let keys = |cross: &Cross, sequence: &Tensor| cross.attention.keys_and_values(sequence);
        traced(self, || self.run(x, attend, keys, memory))
    }

    /// As [`TransformerBlock::forward_with`], for positions that follow those in the cache.
    ///
    /// Their keys and values are appended to the cache. The memory is projected at the first step only; later steps use
    /// those keys and values.
    ///
    /// ```
    /// # use gristmill::nn::{BlockOptions, Init, Layer, MultiHeadOptions, TransformerBlock};
    /// # use gristmill::{AttentionOptions, Device, Tensor};
    /// # let device = Device::cpu();
    /// # let mut init = Init::new(1, &device);
    /// # let options = BlockOptions {
    /// #     attention: MultiHeadOptions { causal: true, ..MultiHeadOptions::new(4) },
    /// #     ..BlockOptions::new(4, 64)
    /// # };
    /// # let x = Tensor::randn([1, 5, 16], 0.0, 1.0, 1, &device)?;
    /// # let block = TransformerBlock::new(16, &options, &mut init)?;
    /// # let plain = AttentionOptions::default();
    /// let mut cache = block.cache(1, 8)?; // of a causal block
    /// block.forward_cached(&x.slice(1, 0..4)?, &mut cache, &plain, None)?;
    /// let last = block.forward_cached(&x.slice(1, 4..5)?, &mut cache, &plain, None)?; // computes one position
    /// let whole = block.forward(&x)?.slice(1, 4..5)?;
    /// assert!(last.sub(&whole)?.abs()?.max_all()?.item()? < 1e-5);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`TransformerBlock::forward_with`], or more positions than the cache has room for.
    #[track_caller]
    pub fn forward_cached(
        &self,
        x: &Tensor,
        cache: &mut BlockCache,
        options: &AttentionOptions,
        memory: Option<Memory>,
    ) -> Result<Tensor> {
        let BlockCache { own, memory: known } = cache;
        let attend = |x: &Tensor| self.attention.attend_cached(x, own, options);
        let keys = |cross: &Cross, sequence: &Tensor| match known {
            Some(known) => Ok(known.clone()),
            None => Ok(known.insert(cross.attention.keys_and_values(sequence)?.map(|x| x.detach())).clone()),
        };
        traced(self, || self.run(x, attend, keys, memory))
    }

    fn run(
        &self,
        x: &Tensor,
        attend: impl FnOnce(&Tensor) -> Result<Tensor>,
        keys: impl FnOnce(&Cross, &Tensor) -> Result<[Tensor; 2]>,
        memory: Option<Memory>,
    ) -> Result<Tensor> {
        let cross = match (&self.cross, memory) {
            (None, None) => None,
            (Some(cross), Some(memory)) => Some((cross, memory)),
            (Some(_), None) => return Err(Error::argument("transformer", "no memory to attend to")),
            (None, Some(_)) => {
                return Err(Error::argument("transformer", "a memory, but no attention to it"));
            }
        };
        let attend_to = |x: &Tensor, cross: &Cross, memory: Memory| {
            let [k, v] = keys(cross, memory.sequence)?;
            cross.dropout.forward(&cross.attention.attend_to(x, [&k, &v], memory.options)?)
        };
        let [first, last] = &self.norms;
        let [after_attention, ..] = &self.dropouts;
        if !self.norm_first {
            let own = after_attention.forward(&attend(x)?)?;
            let [mut x, _] = first.of_sum(&own, x)?;
            if let Some((cross, memory)) = cross {
                [x, _] = cross.norm.of_sum(&attend_to(&x, cross, memory)?, &x)?;
            }
            let [x, _] = last.of_sum(&self.feed(&x)?, &x)?;
            return Ok(x);
        }
        // A sublayer's residual sum and the next normalization are one kernel.
        let mut part = after_attention.forward(&attend(&first.forward(x)?)?)?;
        let mut x = x.clone();
        if let Some((cross, memory)) = cross {
            let [normed, sum] = cross.norm.of_sum(&part, &x)?;
            (part, x) = (attend_to(&normed, cross, memory)?, sum);
        }
        let [normed, sum] = last.of_sum(&part, &x)?;
        sum.add(&self.feed(&normed)?)
    }

    /// The feed-forward network.
    fn feed(&self, x: &Tensor) -> Result<Tensor> {
        let wide = self.wide.forward(x)?;
        let wide = match self.feed_forward {
            FeedForward::Gelu => wide.gelu()?,
            FeedForward::Relu => wide.relu()?,
            FeedForward::SwiGlu => wide.swiglu(-1)?,
        };
        let [_, inside, after] = &self.dropouts;
        after.forward(&self.narrow.forward(&inside.forward(&wide)?)?)
    }
}

impl Module for TransformerBlock {
    fn parts(&self) -> Parts<'_> {
        let ([first, last], [dropout1, dropout, dropout3]) = (&self.norms, &self.dropouts);
        let parts = Parts::new().with("self_attn", &self.attention);
        let parts = match &self.cross {
            None => parts
                .with("linear1", &self.wide)
                .with("linear2", &self.narrow)
                .with("norm1", first)
                .with("norm2", last),
            Some(cross) => parts
                .with("multihead_attn", &cross.attention)
                .with("linear1", &self.wide)
                .with("linear2", &self.narrow)
                .with("dropout2", &cross.dropout)
                .with("norm1", first)
                .with("norm2", &cross.norm)
                .with("norm3", last),
        };
        parts.with("dropout1", dropout1).with("dropout", dropout).with("dropout3", dropout3)
    }

    fn describe(&self) -> String {
        let norm = if self.norm_first { "pre-norm" } else { "post-norm" };
        let cross = if self.cross.is_some() { ", attends to another" } else { "" };
        let causal = if self.causal { ", causal" } else { "" };
        format!("TransformerBlock {norm}, {:?}{causal}{cross}", self.feed_forward)
    }
}

impl Layer for TransformerBlock {
    /// Without a memory: an error if the block has cross-attention.
    #[track_caller]
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        self.forward_with(input, &AttentionOptions::default(), None)
    }
}

/// Blocks in sequence, with a final normalization if pre-norm.
#[derive(Module)]
struct Stack {
    layers: Vec<TransformerBlock>,
    norm: Option<Norm>,
}

impl Stack {
    fn new(width: usize, count: usize, options: &BlockOptions, init: &mut Init) -> Result<Stack> {
        layers("transformer", count)?;
        let blocks =
            (0..count).map(|_| TransformerBlock::new(width, options, init)).collect::<Result<Vec<_>>>()?;
        // The output of a post-norm block is normalized already.
        let norm = match options.norm_first {
            true => Some(Norm::new(options.norm, width, options.eps, init)?),
            false => None,
        };
        Ok(Stack { layers: blocks, norm })
    }

    fn cache(&self, sequences: usize, positions: usize) -> Result<Vec<BlockCache>> {
        self.layers.iter().map(|block| block.cache(sequences, positions)).collect()
    }

    #[track_caller]
    fn forward(
        &self,
        x: &Tensor,
        caches: Option<&mut [BlockCache]>,
        options: &AttentionOptions,
        memory: Option<Memory>,
    ) -> Result<Tensor> {
        let mut x = x.clone();
        match caches {
            None => {
                for block in &self.layers {
                    x = block.forward_with(&x, options, memory)?;
                }
            }
            Some(caches) if caches.len() == self.layers.len() => {
                for (block, cache) in self.layers.iter().zip(caches) {
                    x = block.forward_cached(&x, cache, options, memory)?;
                }
            }
            Some(caches) => {
                let message = format!("{} caches for {} blocks", caches.len(), self.layers.len());
                return Err(Error::argument("transformer", message));
            }
        }
        match &self.norm {
            None => Ok(x),
            Some(norm) => norm.forward(&x),
        }
    }
}

macro_rules! stacks {
    ($($(#[$doc:meta])* $name:ident, cross $cross:literal;)*) => {$(
        $(#[$doc])*
        pub struct $name(Stack);

        impl $name {
            /// A stack of `blocks` blocks; `cross` of the options is ignored. With `norm_first` there is a final
            /// normalization.
            ///
            /// # Errors
            /// As [`TransformerBlock::new`].
            #[track_caller]
            pub fn new(width: usize, blocks: usize, options: &BlockOptions, init: &mut Init) -> Result<$name> {
                let options = BlockOptions { cross: $cross, ..options.clone() };
                Ok($name(Stack::new(width, blocks, &options, init)?))
            }

            /// An empty cache for each block, for `sequences` sequences of at most `positions` positions.
            ///
            /// # Errors
            /// The device is out of memory.
            #[track_caller]
            pub fn cache(&self, sequences: usize, positions: usize) -> Result<Vec<BlockCache>> {
                self.0.cache(sequences, positions)
            }
        }

        impl Module for $name {
            fn parts(&self) -> Parts<'_> {
                self.0.parts()
            }

            fn describe(&self) -> String {
                format!("{} of {}", stringify!($name), self.0.layers.len())
            }
        }
    )*};
}

stacks! {
    /// A stack of blocks without cross-attention: an encoder, or a language model if the blocks are causal.
    ///
    /// Parameters have PyTorch's names: `layers.0.self_attn.in_proj_weight`, ..., `norm.weight`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::{BlockOptions, Init, Layer, Module, TransformerEncoder}};
    /// # let device = Device::cpu();
    /// # let mut init = Init::new(1, &device);
    /// let encoder = TransformerEncoder::new(16, 2, &BlockOptions::new(4, 64), &mut init)?; // two blocks
    /// let x = Tensor::randn([1, 5, 16], 0.0, 1.0, 1, &device)?;
    /// assert_eq!(encoder.forward(&x)?.shape(), [1, 5, 16]);
    /// assert_eq!(encoder.named_parameters()[0].0, "layers.0.self_attn.in_proj_weight");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    TransformerEncoder, cross false;
    /// A stack of blocks with self-attention and cross-attention.
    ///
    /// Self-attention is causal if the blocks' options say so. Parameters are named as in [`TransformerEncoder`].
    ///
    /// ```
    /// # use gristmill::{AttentionOptions, Device, Tensor, nn::{BlockOptions, Init, Memory, TransformerDecoder}};
    /// # let device = Device::cpu();
    /// # let mut init = Init::new(1, &device);
    /// # let (x, read) = (Tensor::ones([1, 5, 16], &device)?, Tensor::ones([1, 7, 16], &device)?);
    /// let decoder = TransformerDecoder::new(16, 2, &BlockOptions::new(4, 64), &mut init)?; // two blocks
    /// let plain = AttentionOptions::default();
    /// let memory = Memory { sequence: &read, options: &plain };
    /// assert_eq!(decoder.forward_with(&x, &plain, memory)?.shape(), [1, 5, 16]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    TransformerDecoder, cross true;
}

impl Layer for TransformerEncoder {
    #[track_caller]
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        self.forward_with(input, &AttentionOptions::default())
    }
}

impl TransformerEncoder {
    /// The output for a sequence, `[.., n, width]`. `options` may hide keys.
    ///
    /// ```
    /// # use gristmill::nn::{BlockOptions, Init, Layer, TransformerEncoder};
    /// # use gristmill::{AttentionMask, AttentionOptions, Device, Tensor};
    /// # let device = Device::cpu();
    /// # let mut init = Init::new(1, &device);
    /// # let encoder = TransformerEncoder::new(16, 2, &BlockOptions::new(4, 64), &mut init)?;
    /// # let x = Tensor::randn([1, 3, 16], 0.0, 1.0, 1, &device)?;
    /// let seen = Tensor::from_slice(&[1.0, 1.0, 0.0], [1, 1, 1, 3], &device)?; // the third position is padding
    /// let options = AttentionOptions { mask: Some(AttentionMask::Boolean(seen)), ..AttentionOptions::default() };
    /// let masked = encoder.forward_with(&x, &options)?.slice(1, 0..2)?;
    /// let short = encoder.forward(&x.slice(1, 0..2)?)?;
    /// assert!(masked.sub(&short)?.abs()?.max_all()?.item()? < 1e-5);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Shapes that do not fit, or the device fails.
    #[track_caller]
    pub fn forward_with(&self, x: &Tensor, options: &AttentionOptions) -> Result<Tensor> {
        self.0.forward(x, None, options, None)
    }

    /// As [`TransformerEncoder::forward_with`], for positions `[n, new, width]` that follow those in the caches.
    ///
    /// ```
    /// # use gristmill::nn::{BlockOptions, Init, MultiHeadOptions, TransformerEncoder};
    /// # use gristmill::{AttentionOptions, Device, Tensor};
    /// # let device = Device::cpu();
    /// # let mut init = Init::new(1, &device);
    /// # let options = BlockOptions {
    /// #     attention: MultiHeadOptions { causal: true, ..MultiHeadOptions::new(4) },
    /// #     ..BlockOptions::new(4, 64)
    /// # };
    /// # let x = Tensor::randn([1, 5, 16], 0.0, 1.0, 1, &device)?;
    /// # let encoder = TransformerEncoder::new(16, 2, &options, &mut init)?;
    /// # let plain = AttentionOptions::default();
    /// let mut caches = encoder.cache(1, 8)?; // for each block, of one sequence of at most 8 positions
    /// encoder.forward_cached(&x.slice(1, 0..4)?, &mut caches, &plain)?;
    /// let last = encoder.forward_cached(&x.slice(1, 4..5)?, &mut caches, &plain)?; // computes one position
    /// assert_eq!((last.shape()[1], caches[0].own().len()), (1, 5));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As `forward_with`, a wrong number of caches, or a cache without room.
    #[track_caller]
    pub fn forward_cached(
        &self,
        x: &Tensor,
        caches: &mut [BlockCache],
        options: &AttentionOptions,
    ) -> Result<Tensor> {
        self.0.forward(x, Some(caches), options, None)
    }
}

impl TransformerDecoder {
    /// The output for a sequence, `[.., n, width]`, that attends to `memory`. `options` may hide keys of
    /// self-attention.
    ///
    /// # Errors
    /// Shapes that do not fit, or the device fails.
    #[track_caller]
    pub fn forward_with(&self, x: &Tensor, options: &AttentionOptions, memory: Memory) -> Result<Tensor> {
        self.0.forward(x, None, options, Some(memory))
    }

    /// As [`TransformerDecoder::forward_with`], for positions `[n, new, width]` that follow those in the caches.
    ///
    /// The memory is projected at the first step only; later steps use those keys and values.
    ///
    /// ```
    /// # use gristmill::nn::{BlockOptions, Init, Memory, MultiHeadOptions, TransformerDecoder};
    /// # use gristmill::{AttentionOptions, Device, Tensor};
    /// # let device = Device::cpu();
    /// # let mut init = Init::new(1, &device);
    /// # let options = BlockOptions {
    /// #     attention: MultiHeadOptions { causal: true, ..MultiHeadOptions::new(4) },
    /// #     ..BlockOptions::new(4, 64)
    /// # };
    /// # let x = Tensor::randn([1, 5, 16], 0.0, 1.0, 1, &device)?;
    /// # let decoder = TransformerDecoder::new(16, 2, &options, &mut init)?;
    /// # let (plain, read) = (AttentionOptions::default(), Tensor::ones([1, 7, 16], &device)?);
    /// # let memory = Memory { sequence: &read, options: &plain };
    /// let mut caches = decoder.cache(1, 8)?; // for each block, of one sequence of at most 8 positions
    /// decoder.forward_cached(&x.slice(1, 0..4)?, &mut caches, &plain, memory)?;
    /// let last = decoder.forward_cached(&x.slice(1, 4..5)?, &mut caches, &plain, memory)?; // computes one position
    /// assert_eq!((last.shape()[1], caches[0].own().len()), (1, 5));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As `forward_with`, a wrong number of caches, or a cache without room.
    #[track_caller]
    pub fn forward_cached(
        &self,
        x: &Tensor,
        caches: &mut [BlockCache],
        options: &AttentionOptions,
        memory: Memory,
    ) -> Result<Tensor> {
        self.0.forward(x, Some(caches), options, Some(memory))
    }
}
