//! Indexing as in NumPy: one index or range per axis.

use crate::tensor::Tensor;
use crate::{Error, Result};
use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

/// What [`Tensor::i`] takes of one axis: an index, which removes the axis, or a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// One element; negative indices count from the end. The result does not have this axis.
    At(isize),
    /// The elements from the first up to, but without, the second; to the end if there is no second. Both count from the
    /// start.
    Range(usize, Option<usize>),
}

impl From<usize> for Index {
    fn from(at: usize) -> Index {
        // No axis is that long.
        Index::At(isize::try_from(at).unwrap_or(isize::MAX))
    }
}

impl From<isize> for Index {
    fn from(at: isize) -> Index {
        Index::At(at)
    }
}

impl From<i32> for Index {
    fn from(at: i32) -> Index {
        Index::At(at as isize)
    }
}

impl From<Range<usize>> for Index {
    fn from(range: Range<usize>) -> Index {
        Index::Range(range.start, Some(range.end))
    }
}

impl From<RangeInclusive<usize>> for Index {
    fn from(range: RangeInclusive<usize>) -> Index {
        Index::Range(*range.start(), Some(range.end().saturating_add(1)))
    }
}

impl From<RangeFrom<usize>> for Index {
    fn from(range: RangeFrom<usize>) -> Index {
        Index::Range(range.start, None)
    }
}

impl From<RangeTo<usize>> for Index {
    fn from(range: RangeTo<usize>) -> Index {
        Index::Range(0, Some(range.end))
    }
}

impl From<RangeToInclusive<usize>> for Index {
    fn from(range: RangeToInclusive<usize>) -> Index {
        Index::Range(0, Some(range.end.saturating_add(1)))
    }
}

impl From<RangeFull> for Index {
    fn from(_: RangeFull) -> Index {
        Index::Range(0, None)
    }
}

/// The indices of the first axes, as a tuple, or the index of the first one.
pub trait Indices {
    /// One per axis.
    fn indices(self) -> Vec<Index>;
}

impl<T: Into<Index>> Indices for T {
    fn indices(self) -> Vec<Index> {
        vec![self.into()]
    }
}

macro_rules! tuples {
    ($($($name:ident)*;)*) => {$(
        impl<$($name: Into<Index>),*> Indices for ($($name,)*) {
            #[allow(non_snake_case)] // a variable has the name of its type
            fn indices(self) -> Vec<Index> {
                let ($($name,)*) = self;
                vec![$($name.into()),*]
            }
        }
    )*};
}

tuples! { A; A B; A B C; A B C D; A B C D E; A B C D E F; }

impl Tensor {
    /// A part of the tensor, by an index or a range for each of the first axes; the others are kept whole. A view.
    /// Unlike in NumPy, a range that goes past the end is an error.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::arange(0.0, 24.0, 1.0, &Device::cpu())?.reshape([2, 3, 4])?;
    /// let y = x.i((.., 0, 1..3))?; // of both planes, of the first row, columns 1 and 2
    /// assert_eq!((y.shape().to_vec(), y.to_vec()?), (vec![2, 2], vec![1.0, 2.0, 13.0, 14.0]));
    /// assert_eq!(x.i(-1)?.shape(), [3, 4]); // the last plane
    /// assert_eq!(x.i((1, 2, 3))?.item()?, 23.0);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// More indices than axes, or one outside its axis.
    #[track_caller]
    pub fn i(&self, indices: impl Indices) -> Result<Tensor> {
        let (shape, indices) = (self.shape(), indices.indices());
        if indices.len() > shape.rank() {
            let message = format!("{} indices for shape {shape}", indices.len());
            return Err(Error::shape("i", message));
        }
        let mut part = self.clone();
        let mut axis = 0;
        for (place, (&index, &length)) in indices.iter().zip(shape.iter()).enumerate() {
            match index {
                Index::Range(0, None) => axis += 1,
                Index::Range(start, end) => {
                    let end = end.unwrap_or(length);
                    if start > end || end > length {
                        let range = format!("{start}..{end} does not lie in axis {place} of {length}");
                        return Err(Error::shape("i", format!("{range}, shape {shape}")));
                    }
                    part = part.slice(axis, start..end)?;
                    axis += 1;
                }
                Index::At(at) => {
                    let found = if at < 0 { length.checked_add_signed(at) } else { Some(at.unsigned_abs()) };
                    let Some(at) = found.filter(|&at| at < length) else {
                        let message = format!("{at} does not lie in axis {place} of {length}, shape {shape}");
                        return Err(Error::shape("i", message));
                    };
                    part = part.slice(axis, at..at + 1)?.squeeze(axis)?;
                }
            }
        }
        Ok(part)
    }
}
