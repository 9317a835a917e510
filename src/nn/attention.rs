//! Multi-head attention, and the key/value cache for generation.

use super::init::{Init, Scheme};
use super::layers::{Dropout, Linear};
use super::module::{Layer, Module, Parts};
use super::parameter::Parameter;
use super::rotary::Rotary;
use super::summary::traced;
use crate::device::Device;
use crate::dry_run;
use crate::ops::copy;
use crate::tensor::Tensor;
use crate::{Activation, AttentionOptions, DType, Error, Result};
use std::sync::Arc;

const NAME: &str = "multi_head_attention";

/// A key/value cache, preallocated for `capacity` positions.
///
/// With it a generation step projects only its new positions. It is not part of the autograd graph.
///
/// ```
/// # use gristmill::{Device, Tensor, nn::KvCache};
/// # let device = Device::cpu();
/// let mut cache = KvCache::new(1, 1, 8, 2, &device)?; // a sequence, a head, 8 positions of 2 elements
/// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0], [1, 1, 2, 2], &device)?;
/// cache.append(&x, &x)?;
/// assert_eq!((cache.len(), cache.capacity()), (2, 8));
/// cache.truncate(0);
/// assert!(cache.is_empty());
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct KvCache {
    /// Keys and values, each `[n, kv_heads, capacity, size]`.
    held: [Tensor; 2],
    len: usize,
}

impl KvCache {
    /// An empty cache for at most `positions` positions of `sequences` sequences.
    ///
    /// # Errors
    /// The device is out of memory.
    #[track_caller]
    pub fn new(
        sequences: usize,
        kv_heads: usize,
        positions: usize,
        size: usize,
        device: &Device,
    ) -> Result<KvCache> {
        let held = || Tensor::zeros([sequences, kv_heads, positions, size], device);
        Ok(KvCache { held: [held()?, held()?], len: 0 })
    }

    /// The number of cached positions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is cached.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The largest number of positions.
    pub fn capacity(&self) -> usize {
        self.held[0].shape()[2]
    }

    /// Keeps the first `len` positions at most.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Appends the keys and values of new positions, `[n, kv_heads, new, size]` each; returns all cached ones.
    ///
    /// In place, unless tensors of an earlier call are still held.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::KvCache};
    /// # let device = Device::cpu();
    /// let mut cache = KvCache::new(1, 1, 8, 2, &device)?;
    /// let first = Tensor::from_slice(&[1.0, 2.0], [1, 1, 1, 2], &device)?;
    /// let second = Tensor::from_slice(&[3.0, 4.0], [1, 1, 1, 2], &device)?;
    /// cache.append(&first, &first)?;
    /// let [keys, _] = cache.append(&second, &second)?;
    /// assert_eq!(keys.to_vec()?, [1.0, 2.0, 3.0, 4.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// More positions than the capacity, other shapes, tensors of ids, or the device fails. The length is unchanged
    /// then.
    #[track_caller]
    pub fn append(&mut self, keys: &Tensor, values: &Tensor) -> Result<[Tensor; 2]> {
        const OP: &str = "kv_cache";
        let [sequences, heads, positions, size] = *self.held[0].shape() else {
            return Err(Error::shape(OP, "holds no heads"));
        };
        let fits = |x: &Tensor| x.shape() == [sequences, heads, keys.shape()[2], size];
        if keys.rank() != 4 || !fits(keys) || !fits(values) {
            let message = format!(
                "keys {} and values {}, should both be [{sequences}, {heads}, new, {size}]",
                keys.shape(),
                values.shape()
            );
            return Err(Error::shape(OP, message));
        }
        keys.expect(DType::F32, OP)?;
        values.expect(DType::F32, OP)?;
        let (start, new) = (self.len, keys.shape()[2]);
        if new > positions - start {
            let message = format!("{new} more positions after {start}, but there is room for {positions}");
            return Err(Error::argument(OP, message));
        }
        for (held, given) in self.held.iter_mut().zip([keys, values]) {
            copy::slice_scatter(&given.detach(), held, 2, start)?;
        }
        if !dry_run::is_active() {
            self.len = start + new;
        }
        let [keys, values] = [0, 1].map(|at| self.held[at].slice(2, 0..start + new));
        Ok([keys?, values?])
    }
}

/// The options of a [`MultiHeadAttention`].
///
/// ```
/// # use gristmill::{Device, nn::{Init, Module, MultiHeadAttention, MultiHeadOptions}};
/// # let device = Device::cpu();
/// # let mut init = Init::new(1, &device);
/// let options = MultiHeadOptions { kv_heads: Some(2), causal: true, ..MultiHeadOptions::new(4) };
/// let attention = MultiHeadAttention::new(16, options, &mut init)?;
/// assert_eq!(attention.describe(), "MultiHeadAttention 16, 4 on 2 heads of 4, causal");
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone)]
pub struct MultiHeadOptions {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads, each shared by equally many query heads: grouped-query attention
    /// ([Ainslie et al.](https://arxiv.org/abs/2305.13245)). If `None`, as many as query heads.
    pub kv_heads: Option<usize>,
    /// Elements per head; `width / heads` if `None`.
    pub size: Option<usize>,
    /// Whether the projections have biases.
    pub bias: bool,
    /// Whether self-attention hides later positions.
    pub causal: bool,
    /// The probability of dropping an attention weight in training.
    pub dropout: f32,
    /// Rotary position embedding of queries and keys.
    pub rotary: Option<Arc<Rotary>>,
}

impl MultiHeadOptions {
    /// Plain multi-head attention with biases: no grouping, mask, dropout or positions.
    pub fn new(heads: usize) -> MultiHeadOptions {
        MultiHeadOptions {
            heads,
            kv_heads: None,
            size: None,
            bias: true,
            causal: false,
            dropout: 0.0,
            rotary: None,
        }
    }
}

/// Multi-head attention, `[.., n, width]` to `[.., n, width]`.
///
/// Computes `Attention(Q, K, V) W_o + b_o` ([Vaswani et al.](https://arxiv.org/abs/1706.03762)) by
/// [`Tensor::scaled_dot_product_attention`], as self-attention or cross-attention.
///
/// The parameters have the names of PyTorch's `MultiheadAttention`: `in_proj_weight` (the rows of all query heads, then
/// of keys, then of values), `in_proj_bias`, `out_proj.weight` and `out_proj.bias`.
///
/// ```
/// # use gristmill::{Device, Tensor, nn::{Init, Layer, Module, MultiHeadAttention, MultiHeadOptions}};
/// # let device = Device::cpu();
/// # let mut init = Init::new(1, &device);
/// let attention = MultiHeadAttention::new(16, MultiHeadOptions::new(4), &mut init)?; // heads of 4 elements
/// let x = Tensor::randn([2, 5, 16], 0.0, 1.0, 1, &device)?;
/// assert_eq!(attention.forward(&x)?.shape(), [2, 5, 16]);
/// assert_eq!(attention.parameters()[0].shape(), [3 * 16, 16]); // of queries, keys and values
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct MultiHeadAttention {
    weight: Parameter,
    bias: Option<Parameter>,
    out: Linear,
    heads: usize,
    kv_heads: usize,
    size: usize,
    causal: bool,
    rotary: Option<Arc<Rotary>>,
    /// Of the weights, inside the kernel.
    dropout: Dropout,
}

impl MultiHeadAttention {
    /// Weights drawn by `init`, biases 0. By default the input projection is drawn as one matrix by
    /// [`Scheme::XavierUniform`], as in PyTorch.
    ///
    /// # Errors
    /// Heads that do not divide the width or are not a multiple of `kv_heads`; a dropout outside `0..=1`; or the device
    /// is out of memory.
    #[track_caller]
    pub fn new(width: usize, options: MultiHeadOptions, init: &mut Init) -> Result<MultiHeadAttention> {
        let MultiHeadOptions { heads, kv_heads, size, bias, causal, dropout, rotary } = options;
        let wrong = |message: String| Err(Error::argument(NAME, message));
        let kv_heads = kv_heads.unwrap_or(heads);
        if heads.checked_rem(kv_heads) != Some(0) || heads == 0 {
            return wrong(format!("{heads} heads of queries are not shared evenly by {kv_heads} of keys"));
        }
        let size = match size {
            Some(size) => size,
            None if width.is_multiple_of(heads) => width / heads,
            None => return wrong(format!("{heads} heads do not divide a width of {width}")),
        };
        if !(0.0..=1.0).contains(&dropout) {
            return wrong(format!("dropout {dropout} is not in 0..=1"));
        }
        let rows = kv_heads.saturating_mul(2).saturating_add(heads).saturating_mul(size);
        let weight = Parameter::new(&init.weights_or(Scheme::XavierUniform, [rows, width])?)?;
        let biased = |rows: usize, init: &Init| if bias { init.zeros([rows]).map(Some) } else { Ok(None) };
        let all = heads.saturating_mul(size);
        let out = init.weights([width, all])?;
        Ok(MultiHeadAttention {
            weight,
            bias: biased(rows, init)?.as_ref().map(Parameter::new).transpose()?,
            out: Linear::from_tensors(&out, biased(width, init)?.as_ref())?,
            heads,
            kv_heads,
            size,
            causal,
            rotary,
            dropout: Dropout::new(dropout, init.seed())?,
        })
    }

    /// An empty cache for `sequences` sequences of at most `positions` positions.
    ///
    /// # Errors
    /// The device is out of memory.
    #[track_caller]
    pub fn cache(&self, sequences: usize, positions: usize) -> Result<KvCache> {
        KvCache::new(sequences, self.kv_heads, positions, self.size, self.weight.tensor().device())
    }

    /// Self-attention of `[.., n, width]`.
    ///
    /// `options` may hide more keys. This layer's dropout replaces that of `options`.
    ///
    /// ```
    /// # use gristmill::{AttentionOptions, Device, Tensor, nn::{Init, MultiHeadAttention, MultiHeadOptions}};
    /// # let device = Device::cpu();
    /// # let mut init = Init::new(1, &device);
    /// # let attention = MultiHeadAttention::new(16, MultiHeadOptions::new(4), &mut init)?;
    /// # let x = Tensor::randn([1, 5, 16], 0.0, 1.0, 1, &device)?;
    /// let causal = AttentionOptions { causal: true, ..AttentionOptions::default() };
    /// let (first, all) = (attention.attend(&x.slice(1, 0..1)?, &causal)?, attention.attend(&x, &causal)?);
    /// let difference = first.sub(&all.slice(1, 0..1)?)?.abs()?.max_all()?;
    /// assert!(difference.item()? < 1e-6); // the first position sees only itself
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Shapes that do not fit, or the device fails.
    #[track_caller]
    pub fn attend(&self, x: &Tensor, options: &AttentionOptions) -> Result<Tensor> {
        traced(self, || {
            let [q, k, v] = self.project(x, [self.heads, self.kv_heads, self.kv_heads], 0)?;
            let (q, k) = (self.rotated(q, 0)?, self.rotated(k, 0)?);
            self.finish(&q, [&k, &v], self.causal, options)
        })
    }

    /// As [`MultiHeadAttention::attend`], for positions `[n, new, width]` that follow those in the cache.
    ///
    /// Their keys and values are appended to the cache. Gradients flow only through the queries.
    ///
    /// ```
    /// # use gristmill::{AttentionOptions, Device, Tensor, nn::{Init, MultiHeadAttention, MultiHeadOptions}};
    /// # let device = Device::cpu();
    /// # let mut init = Init::new(1, &device);
    /// # let attention = MultiHeadAttention::new(16, MultiHeadOptions::new(4), &mut init)?;
    /// # let options = AttentionOptions::default();
    /// # let x = Tensor::randn([1, 5, 16], 0.0, 1.0, 1, &device)?;
    /// let mut cache = attention.cache(1, 8)?; // one sequence of at most 8 positions
    /// attention.attend_cached(&x.slice(1, 0..4)?, &mut cache, &options)?;
    /// let last = attention.attend_cached(&x.slice(1, 4..5)?, &mut cache, &options)?; // projects one position
    /// let whole = attention.attend(&x, &options)?.slice(1, 4..5)?;
    /// assert!(last.sub(&whole)?.abs()?.max_all()?.item()? < 1e-6);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// More positions than the cache has room for, shapes that do not fit, or the device fails.
    #[track_caller]
    pub fn attend_cached(
        &self,
        x: &Tensor,
        cache: &mut KvCache,
        options: &AttentionOptions,
    ) -> Result<Tensor> {
        traced(self, || {
            let first = cache.len();
            let [q, k, v] = self.project(x, [self.heads, self.kv_heads, self.kv_heads], 0)?;
            let (q, k) = (self.rotated(q, first)?, self.rotated(k, first)?);
            let [k, v] = cache.append(&k, &v)?;
            self.finish(&q, [&k, &v], self.causal, options)
        })
    }

    /// Projects another sequence `[.., m, width]` to keys and values, `[.., kv_heads, m, size]` each.
    ///
    /// They serve any number of calls of [`MultiHeadAttention::attend_to`].
    ///
    /// # Errors
    /// As [`MultiHeadAttention::attend`].
    #[track_caller]
    pub fn keys_and_values(&self, memory: &Tensor) -> Result<[Tensor; 2]> {
        self.project(memory, [self.kv_heads, self.kv_heads], self.heads * self.size)
    }

    /// Cross-attention to the keys and values of another sequence.
    ///
    /// Causal only if `options` say so; rotary positions are not applied.
    ///
    /// ```
    /// # use gristmill::{AttentionOptions, Device, Tensor, nn::{Init, MultiHeadAttention, MultiHeadOptions}};
    /// # let device = Device::cpu();
    /// # let mut init = Init::new(1, &device);
    /// # let attention = MultiHeadAttention::new(16, MultiHeadOptions::new(4), &mut init)?;
    /// let (x, memory) = (Tensor::zeros([1, 5, 16], &device)?, Tensor::zeros([1, 7, 16], &device)?);
    /// let [keys, values] = attention.keys_and_values(&memory)?; // once
    /// assert_eq!(keys.shape(), [1, 4, 7, 4]); // 4 heads of 4 elements
    /// let read = attention.attend_to(&x, [&keys, &values], &AttentionOptions::default())?;
    /// assert_eq!(read.shape(), [1, 5, 16]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`MultiHeadAttention::attend`].
    pub fn attend_to(
        &self,
        x: &Tensor,
        [keys, values]: [&Tensor; 2],
        options: &AttentionOptions,
    ) -> Result<Tensor> {
        traced(self, || {
            let [q] = self.project(x, [self.heads], 0)?;
            self.finish(&q, [keys, values], false, options)
        })
    }

    /// Projects by the rows of the weight from `first` on, and splits the result into parts of `heads` heads:
    /// `[.., heads, n, size]` each.
    fn project<const N: usize>(&self, x: &Tensor, heads: [usize; N], first: usize) -> Result<[Tensor; N]> {
        let rows = heads.map(|heads| heads * self.size);
        let (all, count) = (self.weight.shape()[0], rows.iter().sum::<usize>());
        // By `split`, because its gradient is a single concatenation.
        let part = |parameter: &Parameter| {
            let whole = parameter.tensor();
            if count == all {
                return Ok(whole);
            }
            Ok(whole.split(&[first, count, all - first - count], 0)?.swap_remove(1))
        };
        let bias = self.bias.as_ref().map(part).transpose()?;
        let projected = x.linear(&part(&self.weight)?, bias.as_ref(), Activation::None)?;
        let parts = projected.split(&rows, -1)?;
        let lead = &x.shape()[..x.rank() - 1];
        let split = parts
            .iter()
            .zip(heads)
            .map(|(part, heads)| part.reshape([lead, &[heads, self.size]].concat())?.transpose(-3, -2));
        let split = split.collect::<Result<Vec<Tensor>>>()?;
        split.try_into().map_err(|_| Error::shape(NAME, "a projection is missing"))
    }

    /// Applies rotary positions from `first` on, if the layer has them.
    fn rotated(&self, heads: Tensor, first: usize) -> Result<Tensor> {
        match &self.rotary {
            None => Ok(heads),
            Some(rotary) => rotary.forward(&heads, first),
        }
    }

    fn finish(
        &self,
        q: &Tensor,
        [k, v]: [&Tensor; 2],
        causal: bool,
        options: &AttentionOptions,
    ) -> Result<Tensor> {
        let mut options = AttentionOptions { causal: causal || options.causal, ..options.clone() };
        options.dropout = 0.0;
        if self.dropout.probability() > 0.0
            && let Some((seed, offset)) = self.dropout.next()
        {
            (options.dropout, options.seed, options.offset) = (self.dropout.probability(), seed, offset);
        }
        let heads = q.scaled_dot_product_attention(k, v, &options)?.transpose(-3, -2)?;
        let lead = &heads.shape()[..heads.rank() - 2];
        self.out.forward(&heads.reshape([lead, &[self.heads * self.size]].concat())?)
    }
}

impl Module for MultiHeadAttention {
    fn parts(&self) -> Parts<'_> {
        let own = Parts::new().with("in_proj_weight", &self.weight).with("in_proj_bias", &self.bias);
        own.with("out_proj", &self.out).with("dropout", &self.dropout)
    }

    fn describe(&self) -> String {
        let shared =
            if self.kv_heads == self.heads { String::new() } else { format!(" on {}", self.kv_heads) };
        let causal = if self.causal { ", causal" } else { "" };
        format!(
            "MultiHeadAttention {}, {}{shared} heads of {}{causal}",
            self.weight.shape()[1],
            self.heads,
            self.size
        )
    }
}

impl Layer for MultiHeadAttention {
    /// Self-attention, as [`MultiHeadAttention::attend`] without options.
    #[track_caller]
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        self.attend(input, &AttentionOptions::default())
    }
}
