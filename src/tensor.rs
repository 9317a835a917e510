//! The tensor: a cheap handle on a buffer, plus a layout.

use crate::autograd::{self, Edge, Node, no_gradient};
use crate::cpu::CpuView;
use crate::device::Device;
use crate::dry_run;
use crate::gpu::GpuView;
use crate::meta::{DType, MaxId, Meta};
use crate::shape::{Layout, Shape};
use crate::storage::{Buffer, absent, allocate};
use crate::{Error, Result};
use rayon::prelude::*;
use std::sync::Arc;

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
    #[track_caller]
    pub fn from_slice(data: &[f32], shape: impl AsRef<[usize]>, device: &Device) -> Result<Tensor> {
        Tensor::upload("from_slice", bytemuck::cast_slice(data), Shape::new(shape)?, DType::F32, device)
    }

    /// A `u32` tensor of these class ids or indices.
    ///
    /// ```
    /// # use gristmill::{DType, Device, Tensor};
    /// let classes = Tensor::from_ids(&[7, 0, 9], [3], &Device::cpu())?;
    /// assert_eq!((classes.dtype(), classes.to_ids()?), (DType::U32, vec![7, 0, 9]));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::from_slice`].
    #[track_caller]
    pub fn from_ids(ids: &[u32], shape: impl AsRef<[usize]>, device: &Device) -> Result<Tensor> {
        let tensor = Tensor::upload("from_ids", ids, Shape::new(shape)?, DType::U32, device)?;
        Ok(tensor.with_max_id(ids.iter().copied().max().map_or(MaxId::AtMost(0), MaxId::Is)))
    }

    /// A tensor that nobody has written yet.
    #[track_caller]
    pub(crate) fn stale(shape: Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        let buffer = Arc::new(allocate(device, shape)?);
        Ok(Tensor::new(buffer, Layout::contiguous(shape), dtype, device.clone()))
    }

    /// A tensor whose elements from place `start` on `fill` writes, part by part, in parallel. A part starts at a multiple
    /// of four. Made on the host, so that every device gets the same bits.
    #[track_caller]
    pub(crate) fn from_host(
        shape: Shape,
        device: &Device,
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Result<Tensor> {
        const PART: usize = 1 << 14;
        let host = if device.is_gpu() { Device::cpu() } else { device.clone() };
        let mut buffer = allocate(&host, shape)?;
        if let Buffer::Cpu(buffer) = &mut buffer {
            let parts = buffer.words[..shape.numel()].par_chunks_mut(PART);
            parts.enumerate().for_each(|(part, values)| fill(part * PART, values));
        }
        Tensor::new(buffer.into(), Layout::contiguous(shape), DType::F32, host).to(device)
    }

    #[track_caller]
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
            _ if dry_run::is_active() => Buffer::Absent,
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
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], &Device::cpu())?;
    /// assert_eq!(x.to_vec()?, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    /// assert_eq!(x.t()?.to_vec()?, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]); // the rows of the transpose
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A tensor of ids, or the device fails.
    #[track_caller]
    pub fn to_vec(&self) -> Result<Vec<f32>> {
        self.expect(DType::F32, "to_vec")?;
        Ok(bytemuck::allocation::cast_vec(self.download("to_vec")?))
    }

    /// The ids in row-major order.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 5.0, 9.0, 0.0], [2, 2], &Device::cpu())?;
    /// assert_eq!(x.argmax(1, false)?.to_ids()?, [1, 0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A tensor of `f32`, or the device fails.
    #[track_caller]
    pub fn to_ids(&self) -> Result<Vec<u32>> {
        self.expect(DType::U32, "to_ids")?;
        self.download("to_ids")
    }

    /// The only element.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// assert_eq!(x.sum_all()?.item()?, 6.0);
    /// assert!(x.item().is_err()); // three elements
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Not one element, a tensor of ids, or the device fails.
    #[track_caller]
    pub fn item(&self) -> Result<f32> {
        self.expect(DType::F32, "item")?;
        match self.numel() {
            1 => Ok(self.to_vec()?[0]),
            _ => Err(Error::shape("item", format!("shape {} does not hold one element", self.shape()))),
        }
    }

    #[track_caller]
    fn download(&self, op: &'static str) -> Result<Vec<u32>> {
        if self.is_absent() {
            return Err(absent(op));
        }
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
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let other = Device::cpu_with_budget(1 << 20);
    /// let x = Tensor::from_slice(&[1.0, 2.0], [2], &Device::cpu())?;
    /// let y = x.to(&other)?;
    /// assert_eq!(y.to_vec()?, [1.0, 2.0]);
    /// assert!(y.device().same(&other) && x.add(&y).is_err()); // devices do not mix
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Either device fails.
    #[track_caller]
    pub fn to(&self, device: &Device) -> Result<Tensor> {
        if self.device.same(device) {
            return Ok(self.clone());
        }
        if dry_run::is_active() {
            return Ok(Tensor { buffer: Arc::new(Buffer::Absent), device: device.clone(), ..self.detach() });
        }
        let moved = Tensor::upload("to", &self.download("to")?, self.shape(), self.dtype, device)?;
        Ok(moved.with_max_id(self.max_id))
    }

    /// The lengths of the axes.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::zeros([2, 3], &Device::cpu())?;
    /// assert_eq!(x.shape(), [2, 3]);
    /// assert_eq!(x.t()?.shape()[0], 3);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn shape(&self) -> Shape {
        self.layout.shape
    }

    /// The number of axes.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::zeros([2, 3, 4], &Device::cpu())?;
    /// assert_eq!((x.rank(), x.sum_all()?.rank()), (3, 0));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn rank(&self) -> usize {
        self.layout.shape.rank()
    }

    /// The number of elements.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::zeros([2, 3, 4], &Device::cpu())?;
    /// assert_eq!((x.numel(), x.sum_all()?.numel()), (24, 1));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn numel(&self) -> usize {
        self.layout.shape.numel()
    }

    /// The element type.
    ///
    /// ```
    /// # use gristmill::{DType, Device, Tensor};
    /// let x = Tensor::ones([4], &Device::cpu())?;
    /// assert_eq!((x.dtype(), x.argmax(0, false)?.dtype()), (DType::F32, DType::U32));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The device that holds the elements.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::ones([4], &Device::cpu())?;
    /// assert_eq!(x.device().id(), "cpu");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Where the elements lie in the buffer.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::zeros([2, 3], &Device::cpu())?;
    /// assert_eq!(x.layout().strides[..2], [3, 1]);
    /// assert_eq!(x.t()?.layout().strides[..2], [1, 3]); // the same buffer, read by columns
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Makes this a leaf of the graph: [`Tensor::backward`] gives a gradient for it. A leaf stays the leaf it is; an
    /// intermediate result is cut off from what it was computed from.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[3.0], [1], &Device::cpu())?;
    /// let w = x.requires_grad()?;
    /// let gradients = w.square()?.backward()?; // d(w²)/dw = 2w
    /// assert_eq!(gradients.get(&w).unwrap().to_vec()?, [6.0]);
    /// assert!(gradients.get(&x).is_err()); // x itself is no leaf of the graph
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A tensor of ids.
    #[track_caller]
    pub fn requires_grad(&self) -> Result<Tensor> {
        self.expect(DType::F32, "requires_grad")?;
        if self.edge.as_ref().is_some_and(Edge::is_leaf) {
            return Ok(self.clone());
        }
        Ok(Tensor { edge: Some(Edge::leaf()), ..self.clone() })
    }

    /// Whether ops on this tensor are recorded.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, no_grad};
    /// let x = Tensor::ones([2], &Device::cpu())?;
    /// let w = x.requires_grad()?;
    /// assert_eq!((x.is_differentiable(), w.mul(&x)?.is_differentiable()), (false, true));
    /// assert!(!no_grad(|| w.mul(&x))?.is_differentiable());
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn is_differentiable(&self) -> bool {
        self.edge.is_some()
    }

    /// Whether no recorded op made it: true after [`Tensor::requires_grad`] and outside the graph, as in PyTorch.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let w = Tensor::ones([2], &Device::cpu())?.requires_grad()?;
    /// let y = w.exp()?;
    /// assert_eq!((w.is_leaf(), y.is_leaf(), y.detach().is_leaf()), (true, false, true));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn is_leaf(&self) -> bool {
        self.edge.as_ref().is_none_or(Edge::is_leaf)
    }

    /// The same elements, cut off from the graph.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let w = Tensor::scalar(3.0, &Device::cpu())?.requires_grad()?;
    /// let y = w.mul(&w.detach())?; // w · 3, where 3 counts as a constant
    /// assert_eq!(y.backward()?.get(&w).unwrap().item()?, 3.0); // of w · w it is 6
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn detach(&self) -> Tensor {
        Tensor { edge: None, ..self.clone() }
    }

    /// A row-major copy, or the same handle if it is row-major already.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0], [2, 2], &Device::cpu())?;
    /// let columns = x.t()?; // a view
    /// assert!(!columns.layout().is_contiguous() && columns.contiguous()?.layout().is_contiguous());
    /// assert_eq!(columns.contiguous()?.to_vec()?, [1.0, 3.0, 2.0, 4.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// The device has no room.
    #[track_caller]
    pub fn contiguous(&self) -> Result<Tensor> {
        if self.layout.is_contiguous() { Ok(self.clone()) } else { self.copy() }
    }

    /// A row-major copy outside the graph.
    #[track_caller]
    pub(crate) fn detached_copy(&self) -> Result<Tensor> {
        autograd::no_grad(|| self.copy()).map(|copy| copy.detach())
    }

    /// A view: the same buffer through another layout, with the node that undoes it.
    /// The gradient goes through `undo`.
    #[track_caller]
    pub(crate) fn view(
        &self,
        layout: Layout,
        undo: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
    ) -> Tensor {
        let undo = move |grads: &[Option<Tensor>]| match grads {
            [Some(grad)] => undo(grad),
            _ => Err(no_gradient("a view that took no part")),
        };
        self.views([layout], undo).swap_remove(0)
    }

    /// Several views with one node, so that their gradients are put together at once. Of a view that took no part there
    /// is none.
    #[track_caller]
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

    /// Whether it has no elements, because a dry run made it.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(*self.buffer, Buffer::Absent)
    }

    pub(crate) fn cpu_view(&self) -> Option<CpuView<'_>> {
        match &*self.buffer {
            Buffer::Cpu(buffer) => Some(CpuView { data: &buffer.words, layout: self.layout }),
            Buffer::Gpu(_) | Buffer::Absent => None,
        }
    }

    pub(crate) fn gpu_view(&self) -> Option<GpuView<'_>> {
        match &*self.buffer {
            Buffer::Gpu(buffer) => Some(GpuView { buffer, layout: self.layout, max_id: self.max_id }),
            Buffer::Cpu(_) | Buffer::Absent => None,
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

    #[track_caller]
    pub(crate) fn expect(&self, dtype: DType, op: &'static str) -> Result<()> {
        if self.dtype == dtype {
            return Ok(());
        }
        Err(Error::shape(op, format!("wants {dtype:?}, got {:?} of shape {}", self.dtype, self.shape())))
    }
}
