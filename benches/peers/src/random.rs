//! Random numbers, the same in every run.

use crate::cases::Array;

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// In [0, 1), with 24 bits, as many as an f32 holds.
    fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
    }

    pub fn array(&mut self, shape: &[usize], low: f32, high: f32) -> Array {
        let data = (0..shape.iter().product()).map(|_| low + (high - low) * self.unit()).collect();
        Array { shape: shape.to_vec(), data }
    }
}
