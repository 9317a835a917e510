//! Scaled-dot-product attention, fused: no scores ever reach memory.

mod cpu;
mod geometry;
mod gpu;
mod grad;

use super::floats;
use crate::cpu::CpuDevice;
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves, apply};
use crate::tensor::Tensor;
use crate::{Error, Result};
use geometry::Geometry;
use std::sync::Arc;

pub(crate) use geometry::most_rescales;
pub(crate) use gpu::KERNELS;

const NAME: &str = "scaled_dot_product_attention";

/// The largest size of a query, key or value.
const MOST_SIZE: usize = 256;

/// What hides keys from queries; broadcast to `[.., heads, n, m]`.
#[derive(Debug, Clone)]
pub enum AttentionMask {
    /// A query may attend to a key where this is not 0 (NaN is not).
    Boolean(Tensor),
    /// Added to the scores; -inf hides a key. Differentiable: its gradient is as large as the scores are, so leave it
    /// out of the graph where it is not to be learnt.
    Additive(Tensor),
}

/// How queries attend to keys. By default each query to every key, with scores scaled by 1 / sqrt(d).
#[derive(Debug, Clone, Default)]
pub struct AttentionOptions {
    /// Query i of n sees key j of m only where j <= i + m - n: the last query sees every key, as a key cache wants it.
    pub causal: bool,
    /// What else hides keys.
    pub mask: Option<AttentionMask>,
    /// What the products of queries and keys are multiplied with; 1 / sqrt(d) if `None`.
    pub scale: Option<f32>,
    /// Brings each scaled product s to `cap tanh(s / cap)`, before the mask; as Gemma 2 has it
    /// ([arXiv:2408.00118](https://arxiv.org/abs/2408.00118)).
    pub softcap: Option<f32>,
    /// How many keys before and after its own place, i + m - n, query i sees; `None` for all.
    pub window: [Option<usize>; 2],
    /// The probability by which a weight is dropped; the others are divided by what is left of 1.
    pub dropout: f32,
    /// What dropout draws from, as [`Tensor::dropout`] does: the mask is that of a tensor `[.., heads, n, m]`.
    pub seed: u64,
    /// Of dropout; another one for each use of a seed.
    pub offset: u64,
}

/// How a score comes from a product, all but the tensors: what [`AttentionOptions`] come to.
#[derive(Debug, Clone, Copy)]
struct ScoreModifiers {
    scale: f32,
    /// 0 for none.
    cap: f32,
    /// How many keys before and after its own place a query sees.
    window: [Option<usize>; 2],
    mask: MaskKind,
    dropout: f32,
    seed: u64,
    offset: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MaskKind {
    None = 0,
    Boolean = 1,
    Additive = 2,
}

impl ScoreModifiers {
    fn new(options: &AttentionOptions, d: usize) -> Result<ScoreModifiers> {
        let wrong = |what: String| Err(Error::argument(NAME, what));
        let cap = options.softcap.unwrap_or(0.0);
        if options.softcap.is_some() && !(cap > 0.0 && cap.is_finite()) {
            return wrong(format!("soft cap {cap} is not a positive number"));
        }
        let scale = options.scale.unwrap_or((1.0 / (d.max(1) as f64).sqrt()) as f32);
        if !scale.is_finite() {
            return wrong(format!("scale {scale} is not a number"));
        }
        if !(0.0..=1.0).contains(&options.dropout) {
            return wrong(format!("dropout {} is not in 0..=1", options.dropout));
        }
        let [left, right] = options.window;
        let right = if options.causal { Some(0) } else { right };
        let mask = match options.mask {
            None => MaskKind::None,
            Some(AttentionMask::Boolean(_)) => MaskKind::Boolean,
            Some(AttentionMask::Additive(_)) => MaskKind::Additive,
        };
        let &AttentionOptions { dropout, seed, offset, .. } = options;
        Ok(ScoreModifiers { scale, cap, window: [left, right], mask, dropout, seed, offset })
    }

    /// For n queries and m keys: without a window that hides nothing, as causal does from a single query.
    fn of(mut self, n: usize, m: usize) -> ScoreModifiers {
        let [left, right] = self.window;
        self.window = [
            left.filter(|&left| left < m.saturating_sub(1)),
            right.filter(|&right| right < n.saturating_sub(1)),
        ];
        self
    }

    /// Whether every query sees every key, by a score that is the scaled product.
    fn is_plain(&self) -> bool {
        self.cap == 0.0 && self.window == [None; 2] && self.mask == MaskKind::None && self.dropout == 0.0
    }

    /// A word below this drops a weight; 0 where there is no dropout.
    fn threshold(&self) -> u32 {
        (f64::from(self.dropout) * 4_294_967_296.0) as u32 // at most u32::MAX
    }

    /// What a weight that is not dropped is multiplied with. With a probability of 1 a word may still reach the threshold.
    fn keep(&self) -> f32 {
        if self.dropout == 1.0 { 0.0 } else { (1.0 / (1.0 - f64::from(self.dropout))) as f32 }
    }
}

/// Attention; inputs: q `[.., heads, n, d]`, k `[.., kv_heads, m, d]`, v `[.., kv_heads, m, dv]` and, where there is one, the
/// mask. Outputs: o `[.., heads, n, dv]`, and of each of its rows the logarithm of the sum of the exponentials of its
/// scores, `[.., heads, n]`.
struct Attention {
    modifiers: ScoreModifiers,
}

impl Op for Attention {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        floats(NAME, inputs)?;
        let geometry = Geometry::new(inputs)?;
        Ok(vec![Meta::f32(geometry.queries(&[geometry.dv])?), Meta::f32(geometry.queries(&[])?)])
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        cpu::forward(cpu, self.modifiers, inputs, outputs)
    }

    fn gpu(&self, rec: &mut crate::gpu::Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        gpu::forward(rec, self.modifiers, inputs, outputs)
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[0, 1, 2, 3], outputs: &[0, 1] }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        grad::backward(self.modifiers, saved, grad, needs)
    }
}

impl Tensor {
    /// Scaled-dot-product attention of these queries, `[.., heads, n, d]`, on keys `[.., kv_heads, m, d]` and values
    /// `[.., kv_heads, m, dv]`: `softmax(scale q · kᵀ) v`, `[.., heads, n, dv]`
    /// ([Vaswani et al.](https://arxiv.org/abs/1706.03762)). `heads` is a multiple of `kv_heads`: head h attends to key head
    /// `h / (heads / kv_heads)`, as in grouped-query and multi-query attention
    /// ([Ainslie et al.](https://arxiv.org/abs/2305.13245)). The axes before the heads are equal. Views are read as they are.
    ///
    /// The memory beside the result is one number a query: scores are formed in tiles and never stored, as in FlashAttention
    /// ([Dao](https://arxiv.org/abs/2307.08691)), forward and backward. Where a GPU cuts the keys into slices it is a result for
    /// each: up to 4 where the queries are too few to fill it (64 of at most 32 queries), and one for every 10,000 keys or so.
    ///
    /// A query that sees no key gets 0, and gradients of 0. NaN in a key that it sees, or in its value, gives NaN; what is
    /// in keys and values that it does not see is of no account.
    ///
    /// ```
    /// # use gristmill::{AttentionOptions, Device, Tensor};
    /// let q = Tensor::ones([2, 3, 4], &Device::cpu())?; // heads, queries, size
    /// let v = Tensor::from_slice(&[1.0, 2.0, 3.0], [1, 3, 1], &Device::cpu())?;
    /// let k = Tensor::zeros([1, 3, 4], &Device::cpu())?;
    /// let options = AttentionOptions { causal: true, ..AttentionOptions::default() };
    /// let o = q.scaled_dot_product_attention(&k, &v, &options)?;
    /// assert_eq!(o.to_vec()?, [1.0, 1.5, 2.0, 1.0, 1.5, 2.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Shapes that do not fit each other, fewer than three axes, a size over 256, a mask that does not broadcast to
    /// `[.., heads, n, m]`, an option outside its domain, tensors of ids, the devices differ, or the device fails.
    pub fn scaled_dot_product_attention(
        &self,
        k: &Tensor,
        v: &Tensor,
        options: &AttentionOptions,
    ) -> Result<Tensor> {
        let last = |x: &Tensor, back: usize| x.rank().checked_sub(back).map_or(1, |axis| x.shape()[axis]);
        let modifiers = ScoreModifiers::new(options, last(self, 1))?.of(last(self, 2), last(k, 2));
        match &options.mask {
            None => apply(Attention { modifiers }, &[self, k, v]),
            Some(AttentionMask::Boolean(mask)) => {
                apply(Attention { modifiers }, &[self, k, v, &mask.detach()])
            }
            Some(AttentionMask::Additive(mask)) => apply(Attention { modifiers }, &[self, k, v, mask]),
        }
    }
}
