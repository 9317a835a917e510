//! The checked sizes of attention, and the layout of its operands as matrices.

use super::{MOST_SIZE, NAME};
use crate::op::Meta;
use crate::shape::{Layout, MAX_RANK, Shape};
use crate::{Error, Result};

/// Keys in the smallest tile of any kernel. Each tile may rescale the sums so far once.
const FEWEST_KEYS: usize = 32;
/// The most slices of the keys, unless there are very many keys.
pub(super) const MOST_SLICES: usize = 64;

/// The most times that a term of a sum over `m` keys is rescaled, on any device; for error bounds.
pub(crate) fn most_rescales(m: usize) -> usize {
    m.div_ceil(FEWEST_KEYS) + 1
}

/// The sizes. The `group` query heads that share a key head form one matrix of queries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    /// `[.., kv_heads]`.
    pub(super) lead: Shape,
    pub(super) group: usize,
    pub(super) n: usize,
    pub(super) m: usize,
    pub(super) d: usize,
    pub(super) dv: usize,
}

impl Geometry {
    /// Checks the shapes of q, k, v and an optional mask.
    ///
    /// # Errors
    /// Shapes that do not match.
    #[track_caller]
    pub(super) fn new(inputs: &[Meta]) -> Result<Geometry> {
        let wrong = |what: String| Err(Error::shape(NAME, what));
        let (q, k, v) = (inputs[0].shape, inputs[1].shape, inputs[2].shape);
        let all = format!("queries {q}, keys {k}, values {v}");
        if [q, k, v].iter().any(|shape| shape.rank() < 3) {
            return wrong(format!("{all}: each needs three axes or more, [.., heads, length, size]"));
        }
        let split = |shape: &Shape| {
            let at = shape.rank() - 3;
            (Shape::new(&shape[..at]), shape[at], shape[at + 1], shape[at + 2])
        };
        let ((lead, heads, n, d), (lead_k, kv_heads, m, d_k), (lead_v, heads_v, m_v, dv)) =
            (split(&q), split(&k), split(&v));
        let (lead, lead_k, lead_v) = (lead?, lead_k?, lead_v?);
        if lead != lead_k || lead != lead_v {
            return wrong(format!("{all}: the axes before the heads differ"));
        }
        if d != d_k {
            return wrong(format!("{all}: queries and keys differ in size"));
        }
        if (kv_heads, m) != (heads_v, m_v) {
            return wrong(format!("{all}: keys and values differ in heads or length"));
        }
        if d.max(dv) > MOST_SIZE {
            return wrong(format!("{all}: a size of {} is over the kernels' {MOST_SIZE}", d.max(dv)));
        }
        let group = match (heads, kv_heads) {
            (0, 0) => 1,
            (heads, kv_heads) if kv_heads > 0 && heads.is_multiple_of(kv_heads) => heads / kv_heads,
            _ => {
                return wrong(format!(
                    "{all}: {heads} query heads are not a multiple of {kv_heads} key heads"
                ));
            }
        };
        if n.max(m) > 1 << 29 {
            return wrong(format!("{all}: a length of {} is more than a kernel can count", n.max(m)));
        }
        let lead = Shape::new([&lead[..], &[kv_heads]].concat())?;
        let geometry = Geometry { lead, group, n, m, d, dv };
        if let Some(mask) = inputs.get(3) {
            let whole = geometry.queries(&[m])?;
            if mask.shape.rank() > whole.rank() || mask.shape.broadcast(&whole, NAME).ok() != Some(whole) {
                return wrong(format!("a mask of shape {} does not broadcast to {whole}", mask.shape));
            }
        }
        Ok(geometry)
    }

    /// The shape `[.., heads, n, last..]`.
    pub(super) fn queries(&self, last: &[usize]) -> Result<Shape> {
        let (kv_heads, lead) = self.lead.split_last().unwrap_or((&1, &[]));
        Shape::new([lead, &[kv_heads * self.group, self.n], last].concat())
    }

    /// The FLOPs of products that take so many elements of each visible pair of query and key. The sizes are those of whole
    /// matrices: what a mask hides counts.
    pub(super) fn flops(&self, elements: usize) -> u64 {
        let pairs = (self.matrices() as u64).saturating_mul(self.rows() as u64).saturating_mul(self.m as u64);
        pairs.saturating_mul(2 * elements as u64)
    }

    pub(super) fn matrices(&self) -> usize {
        self.lead.numel()
    }

    /// The rows of a matrix of queries: the queries of all heads of a group.
    pub(super) fn rows(&self) -> usize {
        self.group * self.n
    }

    /// The layout of a tensor `[.., heads, a, b]` or `[.., kv_heads, a, b]` as matrices.
    pub(super) fn matrices_of(&self, layout: &Layout) -> Matrices {
        let last = layout.shape.rank() - 3;
        let (heads, kv_heads) = (layout.shape[last], self.lead[self.lead.rank() - 1]);
        let mut strides = [0; MAX_RANK];
        strides[..=last].copy_from_slice(&layout.strides[..=last]);
        let mut head = 0;
        if heads != kv_heads || self.group == 1 {
            // From the first head of a group to the first head of the next.
            strides[last] *= self.group;
            head = layout.strides[last];
        }
        let [row, col] = [layout.strides[last + 1], layout.strides[last + 2]];
        Matrices { lead: Layout { shape: self.lead, strides, offset: layout.offset }, head, row, col }
    }

    /// As [`Geometry::matrices_of`], for a mask, which is broadcast.
    pub(super) fn mask_of(&self, layout: &Layout) -> Result<Matrices> {
        Ok(self.matrices_of(&layout.expand(self.queries(&[self.m])?, NAME)?))
    }
}

/// The layout of matrices: their starts, and the strides between heads of a group, rows, and columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrices {
    pub(super) lead: Layout,
    pub(super) head: usize,
    pub(super) row: usize,
    pub(super) col: usize,
}

impl Matrices {
    /// Whether rows are contiguous and start at multiples of four, so that kernels can read words of four numbers.
    pub(super) fn in_fours(&self) -> bool {
        let shape = self.lead.shape;
        let steps = (0..shape.rank()).filter(|&axis| shape[axis] > 1).map(|axis| self.lead.strides[axis]);
        let all = steps.chain([self.head, self.row, self.lead.offset]);
        self.col == 1 && all.into_iter().all(|step| step.is_multiple_of(4))
    }

    /// The same layout in words of `size` contiguous elements.
    pub(super) fn in_words(mut self, size: usize) -> Matrices {
        self.lead.strides.iter_mut().for_each(|step| *step /= size);
        self.lead.offset /= size;
        Matrices { head: self.head / size, row: self.row / size, ..self }
    }

    /// The start of head `head` in matrix `index`.
    pub(super) fn start(&self, index: usize, head: usize) -> usize {
        self.lead.position(index) + head * self.head
    }
}

/// Which gradients an op computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrt {
    Queries,
    /// Of queries, keys and values, which need the same scores.
    All,
    Mask,
}
