//! What a CPU twin is given.

use crate::shape::{Layout, Shape};

/// An input as a CPU twin sees it.
#[derive(Clone, Copy)]
pub struct CpuView<'a> {
    /// The whole buffer; ids are there as their bits.
    pub data: &'a [f32],
    /// Where the elements lie in it.
    pub layout: Layout,
}

impl<'a> CpuView<'a> {
    /// The elements in order; for inputs that the op wants contiguous.
    pub fn slice(&self) -> &'a [f32] {
        let start = self.layout.offset;
        self.data.get(start..start.saturating_add(self.layout.shape.numel())).unwrap_or_default()
    }

    /// As [`CpuView::slice`], for ids.
    pub fn ids(&self) -> &'a [u32] {
        bytemuck::cast_slice(self.slice())
    }

    /// The input's shape.
    pub fn shape(&self) -> Shape {
        self.layout.shape
    }
}

/// An output as a CPU twin sees it: contiguous, with stale content.
pub struct CpuOut<'a> {
    /// The elements.
    pub data: &'a mut [f32],
    /// The output's shape.
    pub shape: Shape,
}

impl CpuOut<'_> {
    /// The elements of an output of ids.
    pub fn ids(&mut self) -> &mut [u32] {
        bytemuck::cast_slice_mut(self.data)
    }
}
