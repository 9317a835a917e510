//! Rotary position embedding for attention.

use crate::cpu::host_list;
use crate::device::Device;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Error, Result, RotaryPairs};

/// Tables of cosines and sines for rotary position embedding.
///
/// At position m, pair i of a head is rotated by the angle `m base^(-2i / dims)`
/// ([Su et al.](https://arxiv.org/abs/2104.09864)). The tables are computed in f64 and rounded once, so large positions
/// are as accurate as small ones.
///
/// ```
/// # use gristmill::{Device, RotaryPairs, Tensor, nn::Rotary};
/// let rotary = Rotary::new(2, 16, 10_000.0, RotaryPairs::Halves, &Device::cpu())?;
/// let x = Tensor::from_slice(&[1.0, 0.0, 1.0, 0.0], [1, 2, 2], &Device::cpu())?; // two positions
/// let (cos, sin) = (1f64.cos() as f32, 1f64.sin() as f32);
/// assert_eq!(rotary.forward(&x, 0)?.to_vec()?, [1.0, 0.0, cos, sin]); // by 0 and by 1 radian
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct Rotary {
    /// `[positions, dims / 2]`, like `sin`.
    cos: Tensor,
    sin: Tensor,
    pairs: RotaryPairs,
}

impl Rotary {
    /// Tables for positions below `positions`.
    ///
    /// The paper's base is 10,000. If heads have more than `dims` elements, the others are not rotated.
    ///
    /// # Errors
    /// Odd `dims`, a base that is not positive and finite, or the device is out of memory.
    #[track_caller]
    pub fn new(
        dims: usize,
        positions: usize,
        base: f64,
        pairs: RotaryPairs,
        device: &Device,
    ) -> Result<Rotary> {
        if !dims.is_multiple_of(2) {
            return Err(Error::argument("rotary", format!("{dims} dimensions do not make pairs")));
        }
        if !(base > 0.0 && base.is_finite()) {
            return Err(Error::argument("rotary", format!("base {base} is not positive and finite")));
        }
        let shape = Shape::new([positions, dims / 2])?;
        let mut speeds: Vec<f64> = host_list(dims / 2)?;
        speeds.extend((0..dims / 2).map(|i| base.powf(-2.0 * i as f64 / dims as f64)));
        let table = |f: fn(f64) -> f64| {
            let mut data: Vec<f32> = host_list(shape.numel())?;
            for m in 0..if dims == 0 { 0 } else { positions } {
                data.extend(speeds.iter().map(|speed| f(m as f64 * speed) as f32));
            }
            Tensor::from_slice(&data, shape, device)
        };
        Ok(Rotary { cos: table(f64::cos)?, sin: table(f64::sin)?, pairs })
    }

    /// Rotates the heads `[.., n, d]` of queries or keys at positions `first..first + n`.
    ///
    /// # Errors
    /// A position not in the tables, heads with fewer than `dims` elements, or the device fails.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, first: usize) -> Result<Tensor> {
        let length = x.shape()[x.shape().axis("rotary", -2)?];
        let end = first.saturating_add(length);
        if end > self.cos.shape()[0] {
            let message = format!("positions {first} to {end} of {}", self.cos.shape()[0]);
            return Err(Error::argument("rotary", message));
        }
        let [cos, sin] = [&self.cos, &self.sin].map(|table| table.slice(0, first..end));
        x.rotary_embedding(&cos?, &sin?, self.pairs)
    }
}
