//! The tensor: a cheap handle on a buffer, plus a layout.

use crate::autograd::{self, Edge, Node};
use crate::cpu::CpuBuffer;
use crate::device::Device;
use crate::gpu::GpuBuffer;
use crate::op::{self, CpuView, GpuView, MaxId, Meta};
use crate::ops::copy::Fill;
use crate::shape::{Layout, Shape};
use crate::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// An element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DType {
    /// IEEE binary32.
    F32,
    /// Class ids and indices.
    U32,
}

/// A buffer on one of the devices.
#[derive(Debug)]
pub(crate) enum Buffer {
    Cpu(CpuBuffer),
    Gpu(GpuBuffer),
}

/// An n-dimensional array on a [`Device`]. Cloning copies a handle, not the elements. Its elements never change:
/// ops give new tensors, and views share the buffer.
#[derive(Clone)]
pub struct Tensor {
    buffer: Arc<Buffer>,
    layout: Layout,
    dtype: DType,
    device: Device,
    max_id: MaxId,
    edge: Option<Edge>,
}

impl Tensor {
    pub(crate) fn new(buffer: Arc<Buffer>, layout: Layout, dtype: DType, device: Device) -> Tensor {
        Tensor { buffer, layout, dtype, device, max_id: MaxId::Unknown, edge: None }
    }

    /// A tensor of these elements, in row-major order.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0], [2, 2], &Device::cpu())?;
    /// assert_eq!(x.t()?.to_vec()?, [1.0, 3.0, 2.0, 4.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// The shape does not have that many elements, or the device has no room.
    pub fn from_slice(data: &[f32], shape: impl AsRef<[usize]>, device: &Device) -> Result<Tensor> {
        Tensor::upload("from_slice", bytemuck::cast_slice(data), Shape::new(shape)?, DType::F32, device)
    }

    /// A `u32` tensor of these class ids or indices.
    ///
    /// # Errors
    /// As [`Tensor::from_slice`].
    pub fn from_ids(ids: &[u32], shape: impl AsRef<[usize]>, device: &Device) -> Result<Tensor> {
        let tensor = Tensor::upload("from_ids", ids, Shape::new(shape)?, DType::U32, device)?;
        Ok(tensor.with_max_id(ids.iter().copied().max().map_or(MaxId::AtMost(0), MaxId::Is)))
    }

    /// A tensor of rank 0.
    ///
    /// # Errors
    /// The device has no room.
    pub fn scalar(value: f32, device: &Device) -> Result<Tensor> {
        // Filled, not uploaded: an upload would end the pass that is being recorded.
        Tensor::full(Shape::SCALAR, value, device)
    }

    /// A tensor filled with `value`.
    ///
    /// # Errors
    /// A rank over 6, or no room.
    pub fn full(shape: impl AsRef<[usize]>, value: f32, device: &Device) -> Result<Tensor> {
        let shape = Shape::new(shape)?;
        let fill = Fill { shape, bits: value.to_bits(), dtype: DType::F32 };
        let mut out = Tensor::stale(shape, device)?;
        op::update(fill, &[], &mut [&mut out])?;
        Ok(out)
    }

    /// A tensor of numbers that nobody has written yet.
    pub(crate) fn stale(shape: Shape, device: &Device) -> Result<Tensor> {
        let buffer = Arc::new(op::allocate_one(device, shape)?);
        Ok(Tensor::new(buffer, Layout::contiguous(shape), DType::F32, device.clone()))
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// As [`Tensor::full`].
    pub fn zeros(shape: impl AsRef<[usize]>, device: &Device) -> Result<Tensor> {
        Tensor::full(shape, 0.0, device)
    }

    /// A tensor of ones.
    ///
    /// # Errors
    /// As [`Tensor::full`].
    pub fn ones(shape: impl AsRef<[usize]>, device: &Device) -> Result<Tensor> {
        Tensor::full(shape, 1.0, device)
    }

    fn upload(
        op: &'static str,
        words: &[u32],
        shape: Shape,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        if words.len() != shape.numel() {
            return Err(Error::shape(op, format!("{} elements for shape {shape}", words.len())));
        }
        let buffer = match device {
            Device::Cpu(cpu) => {
                let mut buffer = cpu.allocate(words.len())?;
                buffer.words[..words.len()].copy_from_slice(bytemuck::cast_slice(words));
                Buffer::Cpu(buffer)
            }
            Device::Gpu(gpu) => Buffer::Gpu(gpu.upload(words)?),
        };
        Ok(Tensor::new(Arc::new(buffer), Layout::contiguous(shape), dtype, device.clone()))
    }

    /// The elements in row-major order. On a GPU this submits the recorded work and waits for it.
    ///
    /// # Errors
    /// A tensor of ids, or the device fails.
    pub fn to_vec(&self) -> Result<Vec<f32>> {
        self.expect(DType::F32, "to_vec")?;
        Ok(bytemuck::allocation::cast_vec(self.download()?))
    }

    /// The ids in row-major order.
    ///
    /// # Errors
    /// A tensor of `f32`, or the device fails.
    pub fn to_ids(&self) -> Result<Vec<u32>> {
        self.expect(DType::U32, "to_ids")?;
        self.download()
    }

    /// The only element.
    ///
    /// # Errors
    /// Not one element, a tensor of ids, or the device fails.
    pub fn item(&self) -> Result<f32> {
        self.expect(DType::F32, "item")?;
        match self.numel() {
            1 => Ok(self.to_vec()?[0]),
            _ => Err(Error::shape("item", format!("shape {} does not hold one element", self.shape()))),
        }
    }

    fn download(&self) -> Result<Vec<u32>> {
        let whole = if self.layout.is_contiguous() { self.clone() } else { self.detached_copy()? };
        let (offset, count) = (whole.layout.offset, whole.numel());
        match (&*whole.buffer, &self.device) {
            (Buffer::Gpu(buffer), Device::Gpu(gpu)) => gpu.read(buffer, offset, count),
            (Buffer::Cpu(buffer), Device::Cpu(cpu)) => {
                let mut words = cpu.uncounted(count)?;
                words.extend_from_slice(bytemuck::cast_slice(&buffer.words[offset..][..count]));
                Ok(words)
            }
            _ => Err(Error::Gpu { message: "a buffer is not on its tensor's device".to_string() }),
        }
    }

    /// A copy on another device; the same handle if it is there already. Not differentiable.
    ///
    /// # Errors
    /// Either device fails.
    pub fn to(&self, device: &Device) -> Result<Tensor> {
        if self.device.same(device) {
            return Ok(self.clone());
        }
        let moved = Tensor::upload("to", &self.download()?, self.shape(), self.dtype, device)?;
        Ok(moved.with_max_id(self.max_id))
    }

    /// The shape.
    pub fn shape(&self) -> Shape {
        self.layout.shape
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.layout.shape.rank()
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.layout.shape.numel()
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Where the elements lie in the buffer.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Makes this a leaf of the graph: [`Tensor::backward`] gives a gradient for it.
    ///
    /// # Errors
    /// A tensor of ids.
    pub fn requires_grad(&self) -> Result<Tensor> {
        self.expect(DType::F32, "requires_grad")?;
        Ok(Tensor { edge: Some(Edge::leaf()), ..self.clone() })
    }

    /// Whether ops on this tensor are recorded.
    pub fn is_differentiable(&self) -> bool {
        self.edge.is_some()
    }

    /// Whether it was made by [`Tensor::requires_grad`] and not by an op.
    pub fn is_leaf(&self) -> bool {
        self.edge.as_ref().is_none_or(Edge::is_leaf)
    }

    /// The same elements, cut off from the graph.
    pub fn detach(&self) -> Tensor {
        Tensor { edge: None, ..self.clone() }
    }

    /// A row-major copy, or the same handle if it is row-major already.
    ///
    /// # Errors
    /// The device has no room.
    pub fn contiguous(&self) -> Result<Tensor> {
        if self.layout.is_contiguous() { Ok(self.clone()) } else { self.copy() }
    }

    /// A row-major copy outside the graph.
    pub(crate) fn detached_copy(&self) -> Result<Tensor> {
        autograd::no_grad(|| self.copy()).map(|copy| copy.detach())
    }

    /// A view: the same buffer through another layout, with the node that undoes it.
    /// The gradient goes through `undo`.
    pub(crate) fn view(
        &self,
        layout: Layout,
        undo: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
    ) -> Tensor {
        let undo = move |grads: &[Option<Tensor>]| match grads {
            [Some(grad)] => undo(grad),
            _ => Err(op::no_gradient("a view that took no part")),
        };
        self.views([layout], undo).swap_remove(0)
    }

    /// Several views with one node, so that their gradients are put together at once. Of a view that took no part there
    /// is none.
    pub(crate) fn views(
        &self,
        layouts: impl IntoIterator<Item = Layout>,
        undo: impl Fn(&[Option<Tensor>]) -> Result<Tensor> + Send + Sync + 'static,
    ) -> Vec<Tensor> {
        let show = |layout: Layout| {
            // A slice may have left the largest id out; other views have no fewer elements.
            let has_all = layout.shape.numel() >= self.numel();
            let max_id = if has_all { self.max_id } else { self.max_id.of_some() };
            Tensor { layout, edge: None, max_id, ..self.clone() }
        };
        let views: Vec<Tensor> = layouts.into_iter().map(show).collect();
        match autograd::edge(self) {
            None => views,
            Some(edge) => {
                let node = Node::view(edge, self.meta(), views.len(), undo);
                views.into_iter().zip(Edge::of(node)).map(|(view, edge)| view.with_edge(edge)).collect()
            }
        }
    }

    pub(crate) fn with_max_id(self, max_id: MaxId) -> Tensor {
        Tensor { max_id, ..self }
    }

    /// With this place in the graph.
    pub(crate) fn with_edge(self, edge: Edge) -> Tensor {
        Tensor { edge: Some(edge), ..self }
    }

    pub(crate) fn edge(&self) -> Option<&Edge> {
        self.edge.as_ref()
    }

    pub(crate) fn meta(&self) -> Meta {
        Meta { shape: self.shape(), dtype: self.dtype, max_id: self.max_id }
    }

    pub(crate) fn cpu_view(&self) -> Option<CpuView<'_>> {
        match &*self.buffer {
            Buffer::Cpu(buffer) => Some(CpuView { data: &buffer.words, layout: self.layout }),
            Buffer::Gpu(_) => None,
        }
    }

    pub(crate) fn gpu_view(&self) -> Option<GpuView<'_>> {
        match &*self.buffer {
            Buffer::Gpu(buffer) => Some(GpuView { buffer, layout: self.layout, max_id: self.max_id }),
            Buffer::Cpu(_) => None,
        }
    }

    /// Moves the elements into a buffer of this handle's own, in order, unless they are in one. The place in the
    /// graph stays.
    pub(crate) fn make_sole(&mut self) -> Result<()> {
        if self.sole_buffer().is_none() {
            let copy = self.detached_copy()?;
            self.show(&copy);
        }
        Ok(())
    }

    /// Takes the elements of `other`, and keeps its own place in the graph.
    pub(crate) fn show(&mut self, other: &Tensor) {
        *self = Tensor { edge: self.edge.take(), ..other.clone() };
    }

    /// The buffer, if this handle is its only owner and sees all of it in order.
    pub(crate) fn sole_buffer(&mut self) -> Option<&mut Buffer> {
        let whole = self.layout.offset == 0 && self.layout.is_contiguous();
        Arc::get_mut(&mut self.buffer).filter(|_| whole)
    }

    pub(crate) fn expect(&self, dtype: DType, op: &'static str) -> Result<()> {
        if self.dtype == dtype {
            return Ok(());
        }
        Err(Error::shape(op, format!("wants {dtype:?}, got {:?} of shape {}", self.dtype, self.shape())))
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({:?} {} on {:?})", self.dtype, self.shape(), self.device)
    }
}
