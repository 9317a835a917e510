//! Row-major arrays of [`Bounded`], for references written as plain loops.

use super::bounded::Bounded;

/// A row-major array.
#[derive(Debug, Clone)]
pub struct Array {
    /// The lengths of the axes.
    pub shape: Vec<usize>,
    /// The elements.
    pub data: Vec<Bounded>,
}

impl Array {
    /// An array of `f(index)`.
    pub fn from_fn(shape: impl Into<Vec<usize>>, mut f: impl FnMut(&[usize]) -> Bounded) -> Array {
        let shape = shape.into();
        let count: usize = shape.iter().product();
        let mut index = vec![0; shape.len()];
        let mut data = Vec::with_capacity(count);
        for _ in 0..count {
            data.push(f(&index));
            for axis in (0..shape.len()).rev() {
                index[axis] += 1;
                if index[axis] < shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Array { shape, data }
    }

    /// An array of numbers that a device holds exactly.
    pub fn exact(shape: impl Into<Vec<usize>>, values: &[f64]) -> Array {
        Array { shape: shape.into(), data: values.iter().map(|&x| Bounded::exact(x)).collect() }
    }

    /// An array filled with one number.
    pub fn full(shape: impl Into<Vec<usize>>, value: impl Into<Bounded>) -> Array {
        let value = value.into();
        Array::from_fn(shape, |_| value)
    }

    /// An array of zeros.
    pub fn zeros(shape: impl Into<Vec<usize>>) -> Array {
        Array::full(shape, Bounded::ZERO)
    }

    /// An array of rank 0.
    pub fn scalar(value: Bounded) -> Array {
        Array { shape: Vec::new(), data: vec![value] }
    }

    /// The element at `index`.
    pub fn at(&self, index: &[usize]) -> Bounded {
        self.data[ravel(index, &self.shape)]
    }

    /// The element at `index`, mutable.
    pub fn at_mut(&mut self, index: &[usize]) -> &mut Bounded {
        let at = ravel(index, &self.shape);
        &mut self.data[at]
    }

    /// The element at `index` of a broadcast of this array.
    pub fn broadcast_at(&self, index: &[usize]) -> Bounded {
        self.data[self.broadcast_place(index)]
    }

    /// The row-major position, in this array, of the element at `index` of a broadcast of it.
    pub fn broadcast_place(&self, index: &[usize]) -> usize {
        let lead = index.len() - self.shape.len();
        let own = self.shape.iter().zip(&index[lead..]).map(|(&d, &i)| if d == 1 { 0 } else { i });
        own.zip(&self.shape).fold(0, |at, (i, &d)| at * d + i)
    }

    /// Applies `f` to each element.
    pub fn map(&self, f: impl Fn(Bounded) -> Bounded) -> Array {
        Array { shape: self.shape.clone(), data: self.data.iter().map(|&x| f(x)).collect() }
    }

    /// Applies `f` to each pair of elements of two arrays of the same shape.
    pub fn zip(&self, other: &Array, f: impl Fn(Bounded, Bounded) -> Bounded) -> Array {
        debug_assert_eq!(self.shape, other.shape);
        let data = self.data.iter().zip(&other.data).map(|(&a, &b)| f(a, b)).collect();
        Array { shape: self.shape.clone(), data }
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.data.len()
    }

    /// Sums over the axes along which `shape` was broadcast: the gradient of a broadcast.
    pub fn sum_to(&self, shape: &[usize]) -> Array {
        let mut terms = vec![Vec::new(); shape.iter().product()];
        let target = Array::zeros(shape);
        let mut at = 0;
        Array::from_fn(self.shape.clone(), |index| {
            terms[target.broadcast_place(index)].push(self.data[at]);
            at += 1;
            Bounded::ZERO
        });
        Array { shape: shape.to_vec(), data: terms.into_iter().map(Bounded::sum).collect() }
    }

    /// The values without their errors.
    pub fn values(&self) -> Vec<f64> {
        self.data.iter().map(|x| x.value()).collect()
    }
}

/// The row-major position of an index.
pub fn ravel(index: &[usize], shape: &[usize]) -> usize {
    index.iter().zip(shape).fold(0, |at, (i, d)| at * d + i)
}

/// The index of element `at` in row-major order.
pub fn unravel(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        index[axis] = at % shape[axis].max(1);
        at /= shape[axis].max(1);
    }
    index
}

/// The shape that two shapes broadcast to by NumPy's rule, or `None` if they are not broadcastable.
pub fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |s: &[usize], back: usize| if back > s.len() { 1 } else { s[s.len() - back] };
    (1..=rank)
        .rev()
        .map(|back| match (dim(a, back), dim(b, back)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}
