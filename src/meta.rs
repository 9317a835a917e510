//! What is known of a tensor without its elements.

use crate::shape::Shape;

/// An element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DType {
    /// IEEE binary32.
    F32,
    /// Class ids and indices.
    U32,
}

/// What is known of a tensor before it is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The shape.
    pub shape: Shape,
    /// The element type.
    pub dtype: DType,
    /// What is known of the largest id in a `u32` tensor.
    pub max_id: MaxId,
}

/// What the host knows of the largest id in a `u32` tensor without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MaxId {
    /// Nothing: kernels check each id.
    #[default]
    Unknown,
    /// No id is larger, such as in what [`Tensor::argmax`](crate::Tensor::argmax) gives.
    AtMost(u32),
    /// This one is there, and no id is larger, such as in what was uploaded.
    Is(u32),
}

impl MaxId {
    /// Whether all ids are known to be below `end`.
    pub fn is_below(self, end: usize) -> bool {
        match self {
            MaxId::Unknown => false,
            MaxId::AtMost(id) | MaxId::Is(id) => (id as usize) < end,
        }
    }

    /// The largest id, where it is known to be there.
    pub fn known(self) -> Option<u32> {
        match self {
            MaxId::Is(id) => Some(id),
            _ => None,
        }
    }

    /// Of two tensors' elements together.
    pub fn max(self, other: MaxId) -> MaxId {
        match (self, other) {
            (MaxId::Unknown, _) | (_, MaxId::Unknown) => MaxId::Unknown,
            (MaxId::Is(a), MaxId::Is(b)) => MaxId::Is(a.max(b)),
            (MaxId::Is(a), MaxId::AtMost(b)) | (MaxId::AtMost(b), MaxId::Is(a)) if a >= b => MaxId::Is(a),
            (MaxId::Is(a) | MaxId::AtMost(a), MaxId::Is(b) | MaxId::AtMost(b)) => MaxId::AtMost(a.max(b)),
        }
    }

    /// Of some of the elements, each once or several times.
    pub fn of_some(self) -> MaxId {
        match self {
            MaxId::Is(id) => MaxId::AtMost(id),
            other => other,
        }
    }

    /// The positions along an axis of so many elements.
    pub fn positions(length: usize) -> MaxId {
        u32::try_from(length.saturating_sub(1)).map_or(MaxId::Unknown, MaxId::AtMost)
    }
}

impl Meta {
    /// An `f32` tensor of this shape.
    pub fn f32(shape: Shape) -> Meta {
        Meta { shape, dtype: DType::F32, max_id: MaxId::Unknown }
    }

    /// The number of elements.
    pub fn numel(&self) -> u64 {
        self.shape.numel() as u64
    }

    /// A `u32` tensor of this shape.
    pub fn u32(shape: Shape) -> Meta {
        Meta { shape, dtype: DType::U32, max_id: MaxId::Unknown }
    }
}
