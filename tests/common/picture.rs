//! Views by index arithmetic: the reference for the layouts of tensors, in the suite of views and its fuzz target.

use gristmill::proof::{ravel, unravel};
use gristmill::{MAX_RANK, Result, Shape, Tensor};

/// The reference of a view: its shape, and for each element its position in the original tensor.
#[derive(Debug, Clone)]
pub struct Picture {
    pub shape: Vec<usize>,
    pub from: Vec<usize>,
}

impl Picture {
    pub fn whole(shape: &[usize]) -> Picture {
        Picture { shape: shape.to_vec(), from: (0..shape.iter().product()).collect() }
    }

    /// The view of `shape` whose element at an index is this view's element at `source(index)`.
    fn gather(&self, shape: Vec<usize>, source: impl Fn(&[usize]) -> Vec<usize>) -> Picture {
        let count = shape.iter().product();
        let from =
            (0..count).map(|at| self.from[ravel(&source(&unravel(at, &shape)), &self.shape)]).collect();
        Picture { shape, from }
    }
}

/// One step of a chain of views.
#[derive(Debug, Clone)]
pub enum Step {
    Permute(Vec<usize>),
    Transpose(isize, isize),
    Slice { axis: isize, start: usize, end: usize, step: usize },
    Reshape(Vec<usize>),
    Flatten(isize),
    Unsqueeze(isize),
    Squeeze(isize),
    Expand(Vec<usize>),
    Copy,
    Contiguous,
}

impl Step {
    /// The step selected by `kind` and the random numbers `n`, valid for a tensor of this shape.
    pub fn choose(kind: u8, n: [usize; 3], shape: &[usize]) -> Step {
        let (rank, count) = (shape.len(), shape.iter().product::<usize>());
        let ones: Vec<usize> = (0..rank).filter(|&k| shape[k] == 1).collect();
        match kind % 10 {
            0 if rank > 0 => {
                let mut axes: Vec<usize> = (0..rank).collect();
                axes.rotate_left(n[0] % rank);
                axes.swap(n[1] % rank, n[2] % rank);
                Step::Permute(axes)
            }
            1 if rank > 0 => Step::Transpose((n[0] % rank) as isize, (n[1] % rank) as isize - rank as isize),
            2 | 3 if rank > 0 => {
                let axis = n[0] % rank;
                let start = n[1] % (shape[axis] + 1);
                let end = start + n[2] % (shape[axis] - start + 1);
                Step::Slice { axis: axis as isize, start, end, step: 1 + n[2] % 3 }
            }
            // Splits an axis in two, or joins two adjacent axes.
            4 if rank > 0 && rank < MAX_RANK => {
                let axis = n[0] % rank;
                let factor =
                    (1..=shape[axis].max(1)).filter(|f| shape[axis].is_multiple_of(*f)).nth(n[1] % 3);
                let factor = factor.unwrap_or(1);
                let mut dims = shape.to_vec();
                dims.splice(axis..=axis, [factor, shape[axis] / factor]);
                Step::Reshape(dims)
            }
            5 if rank > 1 => {
                let axis = n[0] % (rank - 1);
                let mut dims = shape.to_vec();
                dims.splice(axis..axis + 2, [shape[axis] * shape[axis + 1]]);
                Step::Reshape(dims)
            }
            6 if rank > 0 => Step::Flatten((n[0] % rank) as isize),
            7 if rank < MAX_RANK && n[2].is_multiple_of(2) => Step::Unsqueeze((n[0] % (rank + 1)) as isize),
            7 if !ones.is_empty() => Step::Squeeze(ones[n[0] % ones.len()] as isize),
            8 => {
                let mut dims = shape.to_vec();
                if let Some(&axis) = ones.get(n[0] % ones.len().max(1)) {
                    dims[axis] = n[1] % 4;
                }
                if rank < MAX_RANK && count < 500 {
                    dims.insert(0, 1 + n[2] % 3);
                }
                Step::Expand(dims)
            }
            _ if n[0].is_multiple_of(2) => Step::Copy,
            _ => Step::Contiguous,
        }
    }

    pub fn of_tensor(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Step::Permute(axes) => x.permute(axes),
            Step::Transpose(a, b) => x.transpose(*a, *b),
            Step::Slice { axis, start, end, step } => x.slice_step(*axis, *start..*end, *step),
            Step::Reshape(dims) => x.reshape(dims),
            Step::Flatten(start) => x.flatten(*start, -1),
            Step::Unsqueeze(axis) => x.unsqueeze(*axis),
            Step::Squeeze(axis) => x.squeeze(*axis),
            Step::Expand(dims) => x.expand(dims),
            Step::Copy => x.copy(),
            Step::Contiguous => x.contiguous(),
        }
    }

    /// Applies the step by index arithmetic; `None` if the shape does not allow it.
    pub fn of_picture(&self, x: &Picture) -> Option<Picture> {
        let rank = x.shape.len();
        let axis = |axis: isize, rank: usize| {
            let axis = if axis < 0 { axis + rank as isize } else { axis };
            usize::try_from(axis).ok().filter(|&axis| axis < rank)
        };
        let reshaped = |shape: Vec<usize>| Some(Picture { shape, from: x.from.clone() });
        let mut shape = x.shape.clone();
        match self {
            Step::Permute(axes) => {
                let mut sorted = axes.clone();
                sorted.sort_unstable();
                if sorted != (0..rank).collect::<Vec<_>>() {
                    return None;
                }
                let shape = axes.iter().map(|&axis| x.shape[axis]).collect();
                Some(x.gather(shape, |index| {
                    let mut source = vec![0; index.len()];
                    axes.iter().zip(index).for_each(|(&axis, &i)| source[axis] = i);
                    source
                }))
            }
            Step::Transpose(a, b) => {
                let (a, b) = (axis(*a, rank)?, axis(*b, rank)?);
                shape.swap(a, b);
                Some(x.gather(shape, |index| {
                    let mut source = index.to_vec();
                    source.swap(a, b);
                    source
                }))
            }
            Step::Slice { axis: at, start, end, step } => {
                let at = axis(*at, rank)?;
                if start > end || *end > shape[at] || *step == 0 {
                    return None;
                }
                shape[at] = (*start..*end).step_by(*step).count();
                Some(x.gather(shape, |index| {
                    let mut source = index.to_vec();
                    source[at] = start + index[at] * step;
                    source
                }))
            }
            Step::Reshape(dims) => {
                let shape = Shape::new(dims).ok()?;
                if shape.numel() == x.from.len() { reshaped(dims.clone()) } else { None }
            }
            Step::Flatten(start) => {
                let joined = shape.drain(axis(*start, rank)?..).product();
                shape.push(joined);
                reshaped(shape)
            }
            Step::Unsqueeze(at) => {
                shape.insert(axis(*at, rank + 1).filter(|_| rank < MAX_RANK)?, 1);
                reshaped(shape)
            }
            Step::Squeeze(at) => {
                let at = axis(*at, rank)?;
                if shape.remove(at) == 1 { reshaped(shape) } else { None }
            }
            Step::Expand(dims) => {
                Shape::new(dims).ok()?;
                let lead = dims.len().checked_sub(rank)?;
                if shape.iter().zip(&dims[lead..]).any(|(&d, &wanted)| d != 1 && d != wanted) {
                    return None;
                }
                Some(x.gather(dims.clone(), |index| {
                    shape.iter().zip(&index[lead..]).map(|(&d, &i)| if d == 1 { 0 } else { i }).collect()
                }))
            }
            Step::Copy | Step::Contiguous => Some(x.clone()),
        }
    }
}
