//! Random cases. Every choice is determined by a seed, so a case can be drawn again.

use super::array::{Array, broadcast};
use super::input::{Input, Kind};
use std::ops::RangeInclusive;

/// Which values the inputs are filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Numbers in the range that the row asks for.
    Ordinary,
    /// Ordinary values, some replaced by NaN, infinities, zeros, subnormals and ±1e4.
    Special,
    /// Ordinary values, some replaced by numbers near 1e19: their squares, or the sum of the squares, exceed f32's
    /// range.
    Large,
}

/// A seeded random generator of cases.
pub struct Gen {
    state: u64,
    /// The largest number of elements, or of multiplications in sums of products, of a case.
    pub size: usize,
    values: Values,
}

/// Lengths where kernels tend to fail, besides small ones: tile and workgroup sizes, plus or minus one.
const EDGES: [usize; 12] = [13, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 257];

impl Gen {
    /// A generator with this seed.
    pub fn new(seed: u64, size: usize, values: Values) -> Gen {
        Gen { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678, size, values }
    }

    /// 64 random bits, by SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// A number in `range`.
    pub fn range(&mut self, range: RangeInclusive<usize>) -> usize {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// True with probability 1/2.
    pub fn flag(&mut self) -> bool {
        self.bits() & 1 == 1
    }

    /// True with probability 1/`n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of the choices.
    pub fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A number uniform in `low..high` that f32 holds exactly.
    pub fn number(&mut self, low: f64, high: f64) -> f64 {
        let unit = (self.bits() >> 40) as f64 / (1u64 << 24) as f64;
        f64::from((low + unit * (high - low)) as f32)
    }

    /// An axis length: 0, 1, a small number, or one near a tile size.
    pub fn length(&mut self) -> usize {
        match self.below(16) {
            0 => 0,
            1..=3 => 1,
            4..=11 => self.range(2..=7),
            _ => self.choose(&EDGES),
        }
    }

    /// As [`Gen::length`], but not 0.
    pub fn some_length(&mut self) -> usize {
        self.length().max(1)
    }

    /// A shape of rank 0 to `most` with at most `size` elements. One in sixteen has one long axis that uses up `size`,
    /// so that a kernel needs several workgroups or slices; from `size` 10,000 on, one in two.
    pub fn shape(&mut self, most: usize) -> Vec<usize> {
        let rank = self.below(most + 1);
        self.shape_of_rank(rank)
    }

    /// As [`Gen::shape`], with this rank.
    pub fn shape_of_rank(&mut self, rank: usize) -> Vec<usize> {
        let mut shape: Vec<usize> = (0..rank).map(|_| self.length()).collect();
        if rank > 0 && (self.one_in(16) || (self.size >= 10_000 && self.flag())) {
            shape.iter_mut().for_each(|d| *d = (*d).clamp(1, 3));
            let long = self.below(rank);
            shape[long] = 1;
            shape[long] = (self.size / shape.iter().product::<usize>()).max(1);
        }
        // An axis of length 0 counts as 1 here, because a row may change it to 1.
        while shape.iter().map(|&d| d.max(1)).product::<usize>() > self.size {
            let longest = (0..rank).max_by_key(|&axis| shape[axis]).unwrap_or(0);
            shape[longest] = shape[longest].div_ceil(2);
        }
        shape
    }

    /// Two shapes that broadcast together. Neither they nor the result have more than `size` elements.
    pub fn broadcast_pair(&mut self, most: usize) -> (Vec<usize>, Vec<usize>) {
        let whole = self.shape(most);
        let mut part = |cut: usize| -> Vec<usize> {
            let drawn: Vec<usize> = whole.iter().map(|&d| if self.one_in(3) { 1 } else { d }).collect();
            drawn[cut..].to_vec()
        };
        let plain = part(0);
        let rank = plain.len();
        let (a, b) = if self.flag() { (whole.clone(), plain) } else { (plain, whole.clone()) };
        let cut = if self.flag() { self.below(rank + 1) } else { 0 };
        let b = b[cut..].to_vec();
        let fits = broadcast(&a, &b).is_some();
        match (fits, self.flag()) {
            (false, _) => (whole.clone(), whole),
            (true, false) => (a, b),
            (true, true) => (b, a),
        }
    }

    /// A differentiable input, uniform in `low..high`.
    pub fn values(&mut self, shape: &[usize], low: f64, high: f64) -> Input {
        let count = shape.iter().product();
        let mut values: Vec<f64> = (0..count).map(|_| self.number(low, high)).collect();
        self.mix_in_special_values(&mut values);
        Input { array: Array::exact(shape, &values), kind: Kind::Variable }
    }

    /// As [`Gen::values`], for an input without a gradient.
    pub fn constants(&mut self, shape: &[usize], low: f64, high: f64) -> Input {
        Input { kind: Kind::Constant, ..self.values(shape, low, high) }
    }

    /// A differentiable input of distinct numbers, far enough apart for finite differences: a shuffled grid.
    pub fn distinct(&mut self, shape: &[usize], low: f64, high: f64) -> Input {
        let count: usize = shape.iter().product();
        let step = (high - low) / count.max(1) as f64;
        let mut values: Vec<f64> =
            (0..count).map(|at| f64::from((low + (at as f64 + 0.5) * step) as f32)).collect();
        for at in (1..count).rev() {
            values.swap(at, self.below(at + 1));
        }
        self.mix_in_special_values(&mut values);
        Input { array: Array::exact(shape, &values), kind: Kind::Variable }
    }

    /// An input of ids in `0..bound`.
    pub fn ids(&mut self, shape: &[usize], bound: usize) -> Input {
        let count = shape.iter().product();
        let values: Vec<f64> = (0..count).map(|_| self.below(bound) as f64).collect();
        Input { array: Array::exact(shape, &values), kind: Kind::Ids }
    }

    /// Replaces some values by one or two kinds of special values, if these are asked for; not so many that every sum
    /// is NaN.
    fn mix_in_special_values(&mut self, values: &mut [f64]) {
        const SPECIAL: [f64; 9] =
            [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1e-40, -1e-40, 1e4, -1e4];
        const LARGE: [f64; 4] = [3e19, -3e19, 1.2e19, -1.2e19];
        let specials = match self.values {
            Values::Ordinary => return,
            Values::Special => &SPECIAL[..],
            Values::Large => &LARGE,
        };
        if values.is_empty() || self.one_in(4) {
            return;
        }
        let palette = [self.choose(specials), self.choose(specials)];
        let rare = self.choose(&[2, 8, 32]);
        for value in values.iter_mut() {
            if self.one_in(rare) {
                // As the device holds it: a subnormal f32 differs from the f64 constant.
                *value = f64::from(self.choose(&palette) as f32);
            }
        }
        // A run of equal special values: a masked row is all -inf.
        if self.one_in(3) {
            let (first, second) = (self.below(values.len()), self.below(values.len()));
            let stretch = first.min(second)..=first.max(second);
            values[stretch].fill(f64::from(palette[0] as f32));
        }
    }
}
