//! Fused scaled-dot-product attention: scores exist one tile at a time.

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

/// The largest head size, of queries and keys or of values.
const MOST_SIZE: usize = 256;

/// A mask that hides keys from queries, broadcast to `[.., heads, n, m]`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AttentionMask {
    /// A query sees a key where this is not 0; NaN is not 0.
    Boolean(Tensor),
    /// Added to the scores; -inf hides a key, and no finite number does: a query whose visible scores are all
    /// `f32::MIN` is NaN. Differentiable. Its gradient has the size of all scores, so detach a mask
    /// that is not learnt.
    Additive(Tensor),
}

/// Options of attention. By default every query sees every key, and scores are scaled by 1 / sqrt(d).
#[derive(Debug, Clone, Default)]
pub struct AttentionOptions {
    /// Query i of n sees key j of m only if j <= i + m - n. So the last query sees every key, as with a key cache.
    pub causal: bool,
    /// A mask that hides keys, in addition to `causal` and `window`.
    pub mask: Option<AttentionMask>,
    /// The factor on the products of queries and keys; 1 / sqrt(d) if `None`.
    pub scale: Option<f32>,
    /// Replaces each scaled product s by `cap tanh(s / cap)` before the mask applies, as in Gemma 2
    /// ([arXiv:2408.00118](https://arxiv.org/abs/2408.00118)).
    pub softcap: Option<f32>,
    /// The number of keys before and after its own position, i + m - n, that query i sees; `None` for all.
    pub window: [Option<usize>; 2],
    /// The probability that a weight is dropped, in `0..=1`; the others are divided by `1 - dropout`.
    pub dropout: f32,
    /// The seed of dropout. It drops the same elements as [`Tensor::dropout`] of a tensor `[.., heads, n, m]`.
    pub seed: u64,
    /// The offset of dropout; use another for each call with the same seed.
    pub offset: u64,
}

/// [`AttentionOptions`] after checks, without the tensors.
#[derive(Debug, Clone, Copy)]
struct ScoreModifiers {
    scale: f32,
    /// The soft cap; 0 for none.
    cap: f32,
    /// The number of keys before and after its own position that a query sees.
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
    #[track_caller]
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

    /// Removes the sides of the window that hide nothing for n queries and m keys, such as `causal` with a single
    /// query.
    fn of(mut self, n: usize, m: usize) -> ScoreModifiers {
        let [left, right] = self.window;
        self.window = [
            left.filter(|&left| left < m.saturating_sub(1)),
            right.filter(|&right| right < n.saturating_sub(1)),
        ];
        self
    }

    /// Whether there is no window, mask, soft cap or dropout.
    fn is_plain(&self) -> bool {
        self.cap == 0.0 && self.window == [None; 2] && self.mask == MaskKind::None && self.dropout == 0.0
    }

    /// A random word below this drops a weight; 0 without dropout.
    fn threshold(&self) -> u32 {
        (f64::from(self.dropout) * 4_294_967_296.0) as u32 // the cast saturates at u32::MAX
    }

    /// The factor on a kept weight. It is 0 for a probability of 1, where a word of u32::MAX still reaches the
    /// threshold.
    fn keep(&self) -> f32 {
        if self.dropout == 1.0 { 0.0 } else { (1.0 / (1.0 - f64::from(self.dropout))) as f32 }
    }
}

/// Attention. Inputs: q `[.., heads, n, d]`, k `[.., kv_heads, m, d]`, v `[.., kv_heads, m, dv]`, and optionally the
/// mask. Outputs: o `[.., heads, n, dv]`, and the log-sum-exp of each row of scores, `[.., heads, n]`.
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

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        // The scores, and the weighted values.
        Geometry::new(inputs).map_or(0, |geometry| geometry.flops(geometry.d + geometry.dv))
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
    /// Scaled-dot-product attention, `softmax(scale q · kᵀ) v` ([Vaswani et al.](https://arxiv.org/abs/1706.03762)).
    ///
    /// This tensor holds the queries q, `[.., heads, n, d]`; the keys k are `[.., kv_heads, m, d]`, the values v
    /// `[.., kv_heads, m, dv]`, and the result is `[.., heads, n, dv]`. `heads` is a multiple of `kv_heads`: head h
    /// attends to key head `h / (heads / kv_heads)`, as in grouped-query and multi-query attention
    /// ([Ainslie et al.](https://arxiv.org/abs/2305.13245)). The axes before the heads must be equal. Views are read in
    /// place, without a copy.
    ///
    /// Memory in addition to the result is one number per query: scores are computed in tiles and never stored, forward
    /// and backward, as in FlashAttention ([Dao](https://arxiv.org/abs/2307.08691)). A GPU may cut the keys into
    /// slices, each with a partial result: up to 4 if the queries are too few to fill the GPU (up to 64 for at most 32
    /// queries), and about one per 10,000 keys.
    ///
    /// A query that sees no key gives 0, and gradients of 0. A NaN in a visible key or its value gives NaN; hidden keys
    /// and values have no effect, whatever they contain.
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
    /// Shapes that do not match, fewer than three axes, a `d` or `dv` over 256, a mask that does not broadcast to
    /// `[.., heads, n, m]`, an option outside its domain, tensors of ids, the devices differ, or the device fails.
    #[track_caller]
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
