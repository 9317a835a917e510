//! What an op dispatches on.

use super::buffer::GpuBuffer;
use crate::meta::MaxId;
use crate::shape::{Layout, Shape};

/// An input as a dispatch sees it.
#[derive(Clone, Copy)]
pub struct GpuView<'a> {
    /// The whole buffer.
    pub buffer: &'a GpuBuffer,
    /// Where the elements lie in it.
    pub layout: Layout,
    /// What is known of the largest id; see [`Recorder::id_check`](super::Recorder::id_check).
    pub max_id: MaxId,
}

impl<'a> GpuView<'a> {
    /// Numbers in a buffer.
    pub fn new(buffer: &'a GpuBuffer, layout: Layout) -> GpuView<'a> {
        GpuView { buffer, layout, max_id: MaxId::Unknown }
    }
}

/// An output as a dispatch sees it: contiguous, with stale content.
#[derive(Clone, Copy)]
pub struct GpuOut<'a> {
    /// The buffer.
    pub buffer: &'a GpuBuffer,
    /// The output's shape.
    pub shape: Shape,
}
