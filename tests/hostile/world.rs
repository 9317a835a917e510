//! The source of a call's arguments: a device, results of earlier calls, and random choices. Most arguments are valid,
//! so that calls get far; about one in ten is not.

use gristmill::nn::{Init, Layer, Scheme};
use gristmill::proof::{Gen, Values};
use gristmill::{Activation, DType, Device, Result, Tensor, dry_run};
use std::fmt::Debug;
use std::ops::Range;
use std::path::PathBuf;

/// A public function, and a call of it with random arguments.
pub struct Call {
    pub name: &'static str,
    pub run: fn(&mut World) -> Result<Out>,
}

/// Results of a call.
#[derive(Default)]
pub struct Out {
    pub tensors: Vec<Tensor>,
    /// Other output that must be the same on every device.
    pub said: String,
}

pub fn said(value: impl Debug) -> Out {
    Out { tensors: Vec::new(), said: format!("{value:?}") }
}

impl From<Tensor> for Out {
    fn from(tensor: Tensor) -> Out {
        vec![tensor].into()
    }
}

impl From<Vec<Tensor>> for Out {
    fn from(tensors: Vec<Tensor>) -> Out {
        Out { tensors, said: String::new() }
    }
}

impl<const N: usize> From<[Tensor; N]> for Out {
    fn from(tensors: [Tensor; N]) -> Out {
        Vec::from(tensors).into()
    }
}

impl From<(Tensor, Tensor)> for Out {
    fn from((a, b): (Tensor, Tensor)) -> Out {
        vec![a, b].into()
    }
}

/// Lengths near the limits of grids, kernels, address spaces and integers.
const HUGE: [usize; 12] = [
    65_536,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    u32::MAX as usize,
    1 << 32,
    1 << 40,
    1 << 61,
    1 << 62,
    usize::MAX / 2,
    usize::MAX - 1,
    usize::MAX,
];

/// Numbers near the limits of f32, and non-finite ones.
const NUMBERS: [f32; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    1e38,
    -1e38,
    3e19,
    -3e19,
    f32::MIN_POSITIVE,
    1e-45,
    -1e-45,
    f32::MAX,
    0.999_999_9,
];

/// Number of results kept for later calls.
const POOL: usize = 12;

pub struct World {
    pub device: Device,
    /// A device other than that of the tensors.
    pub other: Device,
    /// A directory for this world only.
    pub dir: PathBuf,
    pub draw: Gen,
    pool: Vec<Tensor>,
    kept: usize,
    /// The arguments so far, for failure reports.
    pub told: Vec<String>,
}

impl World {
    pub fn new(device: Device, other: Device, dir: PathBuf) -> World {
        let draw = Gen::new(0, 0, Values::Ordinary);
        World { device, other, dir, draw, pool: Vec::new(), kept: 0, told: Vec::new() }
    }

    /// Draws the arguments of the next call from a seed.
    pub fn begin(&mut self, seed: u64) {
        self.draw = Gen::new(seed, 600, Values::Ordinary);
        if self.draw.one_in(24) {
            self.draw.size = 40_000;
        }
        self.told.clear();
    }

    /// Forgets all results.
    pub fn clear(&mut self) {
        self.pool.clear();
    }

    /// Keeps a result for later calls: half of them with their graph, the others as leaves or detached.
    pub fn keep(&mut self, tensor: &Tensor) {
        let slot = self.kept % POOL;
        self.kept += 1;
        let kept = match self.kept % 4 {
            0 | 1 => tensor.clone(),
            2 => tensor.requires_grad().unwrap_or_else(|_| tensor.clone()),
            _ => tensor.detach(),
        };
        if slot < self.pool.len() { self.pool[slot] = kept } else { self.pool.push(kept) }
    }

    pub fn tell<T: Debug>(&mut self, value: T) -> T {
        self.told.push(format!("{value:?}"));
        value
    }

    fn tell_tensor(&mut self, tensor: Tensor) -> Tensor {
        let layout = tensor.layout();
        let shape = tensor.shape();
        let strides = match layout.is_contiguous() {
            true => String::new(),
            false => format!(" strides {:?}", &layout.strides[..shape.rank()]),
        };
        let grad = if tensor.is_differentiable() { " grad" } else { "" };
        let place = if tensor.device().same(&self.device) { "" } else { " elsewhere" };
        self.told.push(format!("{:?} {shape}{strides}{grad}{place}", tensor.dtype()));
        tensor
    }

    /// Whether the next argument is to be invalid.
    pub fn odd(&mut self) -> bool {
        self.draw.one_in(14)
    }

    pub fn flag(&mut self) -> bool {
        self.draw.flag()
    }

    pub fn pick<T: Copy + Debug>(&mut self, choices: &[T]) -> T {
        let choice = self.draw.choose(choices);
        self.tell(choice)
    }

    pub fn huge(&mut self) -> usize {
        self.pick(&HUGE)
    }

    /// A length or a count, mostly small.
    pub fn size(&mut self) -> usize {
        match self.draw.below(28) {
            0 => self.huge(),
            1 => self.tell(0),
            2 => {
                let length = self.draw.length();
                self.tell(length)
            }
            _ => self.small(),
        }
    }

    /// A size from 1 to 4.
    pub fn small(&mut self) -> usize {
        let size = self.draw.range(1..=4);
        self.tell(size)
    }

    /// Two lengths, for kernels, strides and so on.
    pub fn sides(&mut self) -> [usize; 2] {
        [self.side(), self.side()]
    }

    pub fn side(&mut self) -> usize {
        match self.odd() {
            true => self.size(),
            false => self.pick(&[1, 1, 2, 3]),
        }
    }

    /// Two paddings, mostly 0.
    pub fn paddings(&mut self) -> [usize; 2] {
        [self.padding(), self.padding()]
    }

    pub fn padding(&mut self) -> usize {
        match self.odd() {
            true => self.size(),
            false => self.pick(&[0, 0, 0, 1]),
        }
    }

    pub fn shape(&mut self) -> Vec<usize> {
        let rank = if self.odd() { self.draw.range(5..=7) } else { self.draw.below(5) };
        let mut shape = self.draw.shape_of_rank(rank);
        if rank > 0 && self.odd() {
            let at = self.draw.below(rank);
            shape[at] = self.draw.choose(&HUGE);
        }
        self.tell(shape)
    }

    /// A shape of this rank with short axes.
    pub fn small_shape(&mut self, rank: usize) -> Vec<usize> {
        (0..rank).map(|_| if self.draw.one_in(20) { 0 } else { self.draw.range(1..=5) }).collect()
    }

    pub fn number(&mut self) -> f32 {
        if self.draw.one_in(4) {
            return self.pick(&NUMBERS);
        }
        let number = self.draw.number(-2.0, 2.0) as f32;
        self.tell(number)
    }

    /// A number for an argument that must be positive.
    pub fn positive(&mut self) -> f32 {
        if self.odd() { self.number() } else { self.pick(&[1e-5, 0.1, 1.0, 2.5]) }
    }

    pub fn probability(&mut self) -> f32 {
        if self.odd() { self.number() } else { self.pick(&[0.0, 0.1, 0.5, 1.0]) }
    }

    pub fn seed(&mut self) -> u64 {
        let bits = self.draw.bits();
        self.pick(&[0, 1, u64::from(u32::MAX), u64::MAX, bits])
    }

    pub fn axis(&mut self, rank: usize) -> isize {
        let end = rank as isize;
        if self.odd() || rank == 0 {
            return self.pick(&[isize::MIN, isize::MIN + 1, -8, -7, 7, end, -end - 1, isize::MAX]);
        }
        let axis = self.draw.below(2 * rank) as isize - end;
        self.tell(axis)
    }

    /// Some of the axes; rarely with a duplicate.
    pub fn axes(&mut self, rank: usize) -> Vec<isize> {
        let mut axes: Vec<isize> = (0..rank as isize).filter(|_| self.draw.flag()).collect();
        axes.iter_mut().for_each(|axis| *axis -= if self.draw.flag() { rank as isize } else { 0 });
        if self.odd() {
            let more = self.axis(rank);
            axes.push(more);
        }
        self.tell(axes)
    }

    /// A range within an axis of length `len`; an invalid one is reversed or out of bounds.
    pub fn range(&mut self, len: usize) -> Range<usize> {
        let start = self.draw.below(len.saturating_add(1));
        let end = start + self.draw.below((len - start).saturating_add(1));
        let range = if self.odd() {
            [end + 1..start, start..usize::MAX, usize::MAX..usize::MAX, len..len.saturating_add(1)]
                [self.draw.below(4)]
            .clone()
        } else {
            start..end
        };
        self.tell(range)
    }

    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        let wild = self.draw.one_in(5);
        (0..count)
            .map(|_| match wild && self.draw.one_in(4) {
                true => self.draw.choose(&NUMBERS),
                false => self.draw.number(-2.0, 2.0) as f32,
            })
            .collect()
    }

    /// The number of elements of a shape, limited by the memory of a test; rarely one more.
    pub fn count_for(&mut self, shape: &[usize]) -> usize {
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
        count.min(1 << 16) + usize::from(self.odd())
    }

    pub fn activation(&mut self) -> Activation {
        self.pick(&[Activation::None, Activation::Relu, Activation::Sigmoid, Activation::Tanh])
    }

    pub fn optional<T>(&mut self, draw: impl FnOnce(&mut World) -> Result<T>) -> Result<Option<T>> {
        if self.flag() { draw(self).map(Some) } else { Ok(None) }
    }

    /// The device, rarely another one.
    pub fn place(&mut self) -> Device {
        if self.draw.one_in(30) { self.other.clone() } else { self.device.clone() }
    }

    pub fn init(&mut self) -> Init {
        let schemes = [
            Scheme::Default,
            Scheme::HeUniform,
            Scheme::HeNormal,
            Scheme::XavierUniform,
            Scheme::XavierNormal,
            Scheme::Normal(self.number()),
        ];
        let (seed, scheme) = (self.seed(), self.pick(&schemes));
        Init::new(seed, &self.place()).with_scheme(scheme)
    }

    /// A new float tensor of this shape, in a random layout.
    fn fresh(&mut self, shape: &[usize]) -> Result<Tensor> {
        let device = self.place();
        let rank = shape.len();
        let count = shape.iter().map(|&d| d.max(1)).try_fold(1usize, |n, d| n.checked_mul(d));
        let of = |world: &mut World, shape: &[usize]| {
            let values = world.floats(shape.iter().product());
            Tensor::from_slice(&values, shape, &device)
        };
        let x = match self.draw.below(8) {
            // A constant, expanded: such a view may have more elements than there is memory.
            _ if count.is_none_or(|count| count > 100_000) => {
                of(self, &vec![1; rank.min(6)])?.expand(shape)?
            }
            0 if rank > 0 => {
                let (mut from, axis) = (shape.to_vec(), self.draw.below(rank));
                from[axis] = 1;
                of(self, &from)?.expand(shape)?
            }
            1 if (2..=6).contains(&rank) => {
                let reversed: Vec<usize> = shape.iter().rev().copied().collect();
                of(self, &reversed)?.permute(&(0..rank).rev().collect::<Vec<_>>())?
            }
            2 if (1..=6).contains(&rank) => {
                let (mut wide, axis) = (shape.to_vec(), self.draw.below(rank));
                wide[axis] = 2 * shape[axis] + 1;
                of(self, &wide)?.slice_step(axis as isize, 1..wide[axis], 2)?
            }
            _ => of(self, shape)?,
        };
        if self.draw.one_in(3) { x.requires_grad() } else { Ok(x) }
    }

    /// Any tensor.
    pub fn tensor(&mut self) -> Result<Tensor> {
        let tensor = match self.draw.below(20) {
            0..=8 if !self.pool.is_empty() => self.pool[self.draw.below(self.pool.len())].clone(),
            9 => {
                let (shape, below) = (self.small_shape(2), self.small());
                return self.ids(&shape, below);
            }
            _ => {
                let shape = self.shape();
                self.fresh(&shape)?
            }
        };
        Ok(self.tell_tensor(tensor))
    }

    /// A float tensor of this shape; rarely of another.
    pub fn of(&mut self, shape: &[usize]) -> Result<Tensor> {
        if self.odd() {
            return self.tensor();
        }
        let known = self.pool.iter().find(|x| *x.shape() == *shape && x.dtype() == DType::F32).cloned();
        let tensor = match known {
            Some(tensor) if self.flag() => tensor,
            _ => self.fresh(shape)?,
        };
        Ok(self.tell_tensor(tensor))
    }

    /// A float tensor of this rank with short axes; rarely of another shape.
    pub fn of_rank(&mut self, rank: usize) -> Result<Tensor> {
        let shape = self.small_shape(rank);
        self.of(&shape)
    }

    /// A tensor of the same shape, or one that broadcasts with it.
    pub fn like(&mut self, x: &Tensor) -> Result<Tensor> {
        let mut shape = x.shape().to_vec();
        if self.draw.one_in(4) {
            shape.iter_mut().for_each(|d| *d = if self.draw.one_in(3) { 1 } else { *d });
            shape.drain(..self.draw.below(shape.len() + 1));
        }
        self.of(&shape)
    }

    /// Two tensors that usually broadcast.
    pub fn two(&mut self) -> Result<(Tensor, Tensor)> {
        let x = self.tensor()?;
        let y = self.like(&x)?;
        Ok(if self.flag() { (x, y) } else { (y, x) })
    }

    /// Ids below `below`, known to the host or only to the device; rarely with one out of range, or another tensor.
    pub fn ids(&mut self, shape: &[usize], below: usize) -> Result<Tensor> {
        if self.odd() {
            return self.tensor();
        }
        let shape: Vec<usize> = shape.iter().map(|&d| d.min(1 << 12)).collect();
        let end = below.clamp(1, 1 << 31);
        let mut ids: Vec<u32> = (0..shape.iter().product()).map(|_| self.draw.below(end) as u32).collect();
        let bad = self.odd();
        if let (true, Some(id)) = (bad, ids.last_mut()) {
            *id = self.draw.choose(&[end as u32, u32::MAX, 1 << 31]);
        }
        let device = self.place();
        let tensor = if self.flag() {
            // The host can't tell that the last id is not selected.
            let all = [&ids[..], &[u32::MAX]].concat();
            let places: Vec<u32> = (0..ids.len() as u32).collect();
            let all = Tensor::from_ids(&all, [all.len()], &device)?;
            all.index_select(0, &Tensor::from_ids(&places, [places.len()], &device)?)?.reshape(&shape)?
        } else {
            Tensor::from_ids(&ids, &shape, &device)?
        };
        self.told.push(if bad { "a bad one in".to_string() } else { String::new() });
        Ok(self.tell_tensor(tensor))
    }

    /// The output of a module for an input of this shape, or rarely of another.
    pub fn through(&mut self, module: &dyn Layer, input: &[usize]) -> Result<Out> {
        let x = if self.draw.one_in(8) { self.tensor()? } else { self.of(input)? };
        self.forward(module, &x)
    }

    /// The output for `x`, whose shape a dry run must predict.
    pub fn forward(&mut self, module: &dyn Layer, x: &Tensor) -> Result<Out> {
        if self.draw.one_in(4) {
            module.eval();
        }
        let dry = dry_run(|| Ok(module.forward(x)?.shape())).map(|(shape, _)| shape);
        let y = module.forward(x)?;
        assert_eq!(dry, Ok(y.shape()), "a dry run of {}", module.describe());
        Ok(y.into())
    }

    /// A path, which may not be writable.
    pub fn path(&mut self) -> PathBuf {
        let long = "x".repeat(300);
        let names = [
            "a.safetensors",
            "b",
            "b",
            "b",
            "",
            ".",
            "..",
            "no/such/folder/c",
            "d\n\u{1b}[31m",
            &long,
            "e\0f",
        ];
        let name = if self.flag() { "file" } else { names[self.draw.below(names.len())] };
        self.told.push(format!("{:?}", &name[..name.len().min(30)]));
        self.dir.join(name)
    }
}
