//! Drawing cases: every choice follows from a seed, so a case can be drawn again.

use super::array::{Array, broadcast};
use super::case::{Input, Kind};
use std::ops::RangeInclusive;

/// The values that a draw fills its inputs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Numbers of the range that the row asks for.
    Ordinary,
    /// Some of them replaced by NaN, infinities, zeros, subnormals and numbers of 1e4.
    Special,
    /// Some of them replaced by numbers of 1e19, whose squares exceed f32's range, or their sum does.
    Large,
}

/// A source of choices.
pub struct Gen {
    state: u64,
    /// The most elements, or multiplications of a sum of products, that a case may take.
    pub size: usize,
    values: Values,
}

/// Lengths where kernels go wrong beyond the small ones: a tile's or a workgroup's, give or take one.
const EDGES: [usize; 12] = [13, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 257];

impl Gen {
    /// The choices that follow from `seed`.
    pub fn new(seed: u64, size: usize, values: Values) -> Gen {
        Gen { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678, size, values }
    }

    /// SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..n`; 0 where that is empty.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// A number of the range.
    pub fn range(&mut self, range: RangeInclusive<usize>) -> usize {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// Heads or tails.
    pub fn flag(&mut self) -> bool {
        self.bits() & 1 == 1
    }

    /// Whether one of `n` equally likely things happened.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of the choices.
    pub fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A number evenly from `low` to below `high` that f32 holds exactly.
    pub fn number(&mut self, low: f64, high: f64) -> f64 {
        let unit = (self.bits() >> 40) as f64 / (1u64 << 24) as f64;
        f64::from((low + unit * (high - low)) as f32)
    }

    /// An axis length: 0, 1, a small one, or one beside a tile's.
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

    /// A shape of rank 0 to `most`, with at most `size` elements; every sixteenth, and of large ones every other, fills
    /// that with one long axis, so that a kernel needs several workgroups or slices.
    pub fn shape(&mut self, most: usize) -> Vec<usize> {
        let rank = self.below(most + 1);
        self.shape_of_rank(rank)
    }

    /// As [`Gen::shape`], of this rank.
    pub fn shape_of_rank(&mut self, rank: usize) -> Vec<usize> {
        let mut shape: Vec<usize> = (0..rank).map(|_| self.length()).collect();
        if rank > 0 && (self.one_in(16) || (self.size >= 10_000 && self.flag())) {
            shape.iter_mut().for_each(|d| *d = (*d).clamp(1, 3));
            let long = self.below(rank);
            shape[long] = 1;
            shape[long] = (self.size / shape.iter().product::<usize>()).max(1);
        }
        // An empty axis is no leave for the others to be long: a row may make it 1.
        while shape.iter().map(|&d| d.max(1)).product::<usize>() > self.size {
            let longest = (0..rank).max_by_key(|&axis| shape[axis]).unwrap_or(0);
            shape[longest] = shape[longest].div_ceil(2);
        }
        shape
    }

    /// A shape, and one that broadcasts with it. Neither, nor what both broadcast to, has more than `size` elements.
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

    /// A differentiable input of numbers from `low` to below `high`.
    pub fn values(&mut self, shape: &[usize], low: f64, high: f64) -> Input {
        let count = shape.iter().product();
        let mut values: Vec<f64> = (0..count).map(|_| self.number(low, high)).collect();
        self.mix_in_special_values(&mut values);
        Input { array: Array::exact(shape, &values), kind: Kind::Variable }
    }

    /// As [`Gen::values`], of an input that has no gradient.
    pub fn constants(&mut self, shape: &[usize], low: f64, high: f64) -> Input {
        Input { kind: Kind::Constant, ..self.values(shape, low, high) }
    }

    /// A differentiable input of numbers no two of which are equal, nor so close that a difference quotient confuses
    /// them: a shuffled grid.
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

    /// Where special values are wanted, puts a few kinds of them in: so few that not every sum is NaN.
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
                // As the device has it: a subnormal f32 is not the f64 of its name.
                *value = f64::from(self.choose(&palette) as f32);
            }
        }
        // A stretch of one of them: a masked row is all -inf.
        if self.one_in(3) {
            let (first, second) = (self.below(values.len()), self.below(values.len()));
            let stretch = first.min(second)..=first.max(second);
            values[stretch].fill(f64::from(palette[0] as f32));
        }
    }
}
