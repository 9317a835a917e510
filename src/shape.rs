//! Shapes, strides and broadcasting, with every size computed by checked arithmetic.

use crate::{Error, Result};
use std::fmt;
use std::ops::Deref;

/// The highest rank of a tensor.
pub const MAX_RANK: usize = 6;

/// The lengths of a tensor's axes, outermost first; rank 0 (a scalar) to [`MAX_RANK`].
///
/// ```
/// # use gristmill::Shape;
/// let shape = Shape::new([2, 3])?;
/// assert_eq!((shape.rank(), shape.numel()), (2, 6));
/// assert_eq!(shape.strides()[..2], [3, 1]);
/// assert_eq!(shape.axis("mine", -1)?, 1); // `mine` would be in the error
/// assert_eq!(shape.broadcast(&Shape::new([4, 1, 3])?, "mine")?, [4, 2, 3]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: u8,
}

impl Shape {
    /// A shape of these lengths. Zero is an ordinary length.
    ///
    /// # Errors
    /// More than [`MAX_RANK`] axes, or more elements than a `usize` counts in bytes.
    #[track_caller]
    pub fn new(dims: impl AsRef<[usize]>) -> Result<Shape> {
        let given = dims.as_ref();
        if given.len() > MAX_RANK {
            return Err(Error::shape(
                "shape",
                format!("rank {} of {given:?} is over {MAX_RANK}", given.len()),
            ));
        }
        let mut dims = [1; MAX_RANK];
        dims[..given.len()].copy_from_slice(given);
        // The product over the non-zero lengths also bounds every stride.
        let words = given.iter().filter(|&&d| d != 0).try_fold(4usize, |n, &d| n.checked_mul(d));
        if words.is_none_or(|bytes| bytes > isize::MAX as usize) {
            return Err(Error::shape("shape", format!("{given:?} has more elements than can be addressed")));
        }
        Ok(Shape { dims, rank: given.len() as u8 })
    }

    /// The scalar shape, rank 0, one element.
    pub const SCALAR: Shape = Shape { dims: [1; MAX_RANK], rank: 0 };

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.iter().product()
    }

    /// Row-major strides, in elements.
    pub fn strides(&self) -> [usize; MAX_RANK] {
        let mut strides = [0; MAX_RANK];
        let mut step = 1;
        for axis in (0..self.rank()).rev() {
            strides[axis] = step;
            step *= self.dims[axis].max(1);
        }
        strides
    }

    /// The axis that `axis` names, counted from the end where negative.
    ///
    /// # Errors
    /// An axis outside `-rank..rank`.
    #[track_caller]
    pub fn axis(&self, op: &'static str, axis: isize) -> Result<usize> {
        let rank = self.rank() as isize;
        let positive = if axis < 0 { axis + rank } else { axis };
        if (0..rank).contains(&positive) {
            return Ok(positive as usize);
        }
        Err(Error::shape(op, format!("axis {axis} is out of range for shape {self} of rank {rank}")))
    }

    /// The shape both broadcast to by NumPy's rule: aligned at the last axis, equal or 1.
    ///
    /// # Errors
    /// Two lengths that differ, neither being 1.
    #[track_caller]
    pub fn broadcast(&self, other: &Shape, op: &'static str) -> Result<Shape> {
        let rank = self.rank().max(other.rank());
        let mut dims = [1; MAX_RANK];
        for back in 1..=rank {
            let (a, b) = (self.len_from_end(back), other.len_from_end(back));
            dims[rank - back] = match (a, b) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return Err(Error::shape(op, format!("shapes {self} and {other} do not broadcast"))),
            };
        }
        Shape::new(&dims[..rank])
    }

    /// This shape with axis `axis` of length `len`.
    pub(crate) fn with(&self, axis: usize, len: usize) -> Result<Shape> {
        let mut dims = self.dims;
        dims[axis] = len;
        Shape::new(&dims[..self.rank()])
    }

    fn len_from_end(&self, back: usize) -> usize {
        if back > self.rank() { 1 } else { self.dims[self.rank() - back] }
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank()]
    }
}

impl AsRef<[usize]> for Shape {
    fn as_ref(&self) -> &[usize] {
        self
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &**self)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> PartialEq<[usize; N]> for Shape {
    fn eq(&self, other: &[usize; N]) -> bool {
        **self == other[..]
    }
}

/// Where a tensor's elements lie in its buffer: element `i` is at `offset + Σ i[k]·strides[k]`.
///
/// ```
/// # use gristmill::{Layout, Shape};
/// let row = Layout::contiguous(Shape::new([3])?);
/// let rows = row.expand(Shape::new([2, 3])?, "mine")?; // the same three elements, twice
/// assert_eq!((rows.shape, &rows.strides[..2]), (Shape::new([2, 3])?, &[0, 1][..]));
/// assert!(row.is_contiguous() && !rows.is_contiguous());
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The axes' lengths.
    pub shape: Shape,
    /// The distance between neighbours along each axis, in elements; 0 where an axis is expanded.
    pub strides: [usize; MAX_RANK],
    /// The position of the first element.
    pub offset: usize,
}

impl Layout {
    /// The row-major layout of `shape`, from the start of a buffer.
    pub fn contiguous(shape: Shape) -> Layout {
        Layout { shape, strides: shape.strides(), offset: 0 }
    }

    /// Whether the elements lie side by side in row-major order, from `offset` on.
    pub fn is_contiguous(&self) -> bool {
        let row_major = self.shape.strides();
        self.shape.numel() == 0
            || (0..self.shape.rank()).all(|k| self.shape[k] == 1 || self.strides[k] == row_major[k])
    }

    /// The position of element `index` in row-major order.
    pub(crate) fn position(&self, index: usize) -> usize {
        let mut rest = index;
        let mut at = self.offset;
        for axis in (0..self.shape.rank()).rev() {
            at += rest % self.shape[axis] * self.strides[axis];
            rest /= self.shape[axis];
        }
        at
    }

    /// This layout broadcast to `shape`: new and expanded axes get stride 0.
    ///
    /// # Errors
    /// A length of `shape` that differs from this one's, which is not 1.
    #[track_caller]
    pub fn expand(&self, shape: Shape, op: &'static str) -> Result<Layout> {
        if self.shape.rank() > shape.rank() || self.shape.broadcast(&shape, op)? != shape {
            return Err(Error::shape(op, format!("shape {} does not expand to {shape}", self.shape)));
        }
        let lead = shape.rank() - self.shape.rank();
        let mut strides = [0; MAX_RANK];
        for axis in 0..self.shape.rank() {
            let stretched = self.shape[axis] == 1 && shape[lead + axis] != 1;
            strides[lead + axis] = if stretched { 0 } else { self.strides[axis] };
        }
        Ok(Layout { shape, strides, offset: self.offset })
    }

    /// The layout of the axes `axes` alone, in this order: all of them for a permutation.
    pub(crate) fn permute(&self, axes: &[usize]) -> Result<Layout> {
        let mut dims = [1; MAX_RANK];
        let mut strides = [0; MAX_RANK];
        for (to, &from) in axes.iter().enumerate() {
            dims[to] = self.shape[from];
            strides[to] = self.strides[from];
        }
        Ok(Layout { shape: Shape::new(&dims[..axes.len()])?, strides, offset: self.offset })
    }

    /// The same elements in the same order as `shape`, where strides can say it; `None` where a copy is needed.
    pub(crate) fn reshape(&self, shape: Shape) -> Option<Layout> {
        if self.is_contiguous() {
            return Some(Layout { offset: self.offset, ..Layout::contiguous(shape) });
        }
        // Each run of old axes that are evenly spaced in memory may be cut up anew into new axes.
        let mut strides = [0; MAX_RANK];
        let old: Vec<usize> = (0..self.shape.rank()).filter(|&k| self.shape[k] != 1).collect();
        let (mut from, mut to) = (0, 0);
        while from < old.len() {
            let (mut end_from, mut end_to) = (from + 1, to);
            let mut have = self.shape[old[from]];
            let mut want = 1;
            while want != have {
                if want < have {
                    want *= *shape.get(end_to)?;
                    end_to += 1;
                } else {
                    let (outer, inner) = (old[end_from - 1], *old.get(end_from)?);
                    if self.strides[outer] != self.strides[inner] * self.shape[inner] {
                        return None;
                    }
                    have *= self.shape[inner];
                    end_from += 1;
                }
            }
            let mut step = self.strides[old[end_from - 1]];
            for axis in (to..end_to).rev() {
                strides[axis] = step;
                step *= shape[axis];
            }
            (from, to) = (end_from, end_to);
        }
        Some(Layout { shape, strides, offset: self.offset })
    }
}

/// A size or position as the kernels count it.
///
/// # Errors
/// It does not fit a `u32`.
#[track_caller]
pub(crate) fn to_u32(op: &'static str, value: usize) -> Result<u32> {
    u32::try_from(value)
        .map_err(|_| Error::shape(op, format!("{value} elements are more than a kernel can count")))
}

/// Drops axes of length 1 and merges neighbouring axes that every layout walks as one, so that kernels loop over
/// as few axes as possible. All layouts have the same shape; so have the results.
pub(crate) fn collapse<const N: usize>(layouts: [Layout; N]) -> [Layout; N] {
    let shape = layouts[0].shape;
    let mut out = layouts.map(|l| Layout { shape: Shape::SCALAR, strides: [0; MAX_RANK], offset: l.offset });
    let mut rank = 0;
    let mut dims = [1; MAX_RANK];
    for axis in (0..shape.rank()).filter(|&k| shape[k] != 1) {
        let merges = rank > 0
            && (0..N)
                .all(|l| out[l].strides[rank - 1] == layouts[l].strides[axis].saturating_mul(shape[axis]));
        if merges {
            dims[rank - 1] *= shape[axis];
        } else {
            dims[rank] = shape[axis];
            rank += 1;
        }
        for l in 0..N {
            out[l].strides[rank - 1] = layouts[l].strides[axis];
        }
    }
    for layout in &mut out {
        layout.shape = Shape { dims, rank: rank as u8 };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[usize]) -> Shape {
        Shape::new(dims).unwrap()
    }

    #[test]
    fn broadcasting_follows_numpy() {
        let b = |a: &[usize], b: &[usize]| shape(a).broadcast(&shape(b), "add").map(|s| s.to_vec());
        assert_eq!(b(&[3, 1], &[4]).unwrap(), [3, 4]);
        assert_eq!(b(&[], &[2, 0]).unwrap(), [2, 0]);
        assert_eq!(b(&[1], &[0]).unwrap(), [0]);
        assert!(b(&[2], &[3]).is_err());
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        assert!(Shape::new([usize::MAX, 2]).is_err());
        assert!(Shape::new([usize::MAX, 2, 0]).is_err());
        assert!(Shape::new([1; 7]).is_err());
    }

    #[test]
    fn a_transposed_layout_reshapes_only_along_its_runs() {
        let t = Layout::contiguous(shape(&[2, 3, 4])).permute(&[2, 0, 1]).unwrap();
        let kept = t.reshape(shape(&[4, 6])).unwrap();
        assert_eq!((&kept.strides[..2], kept.offset), (&[1, 4][..], 0));
        assert!(t.reshape(shape(&[8, 3])).is_none());
        assert!(t.reshape(shape(&[24])).is_none());
    }

    #[test]
    fn collapsing_merges_what_all_walk_alike() {
        let a = Layout::contiguous(shape(&[2, 3, 1, 4]));
        let [c] = collapse([a]);
        assert_eq!(c.shape, [24]);
        let row = Layout::contiguous(shape(&[4])).expand(a.shape, "add").unwrap();
        let [a, row] = collapse([a, row]);
        assert_eq!(
            (a.shape.to_vec(), &a.strides[..2], &row.strides[..2]),
            (vec![6, 4], &[4, 1][..], &[0, 1][..])
        );
    }
}
