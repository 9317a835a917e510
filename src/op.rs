//! What an op must bring, and the one road every op takes: [`apply`] checks shapes, allocates, picks the device and
//! records the node.

use crate::autograd::{self, Edge, Node};
use crate::cpu::{CpuBuffer, CpuDevice};
use crate::device::Device;
use crate::gpu::{GpuBuffer, GpuDevice, Recorder};
use crate::shape::{Layout, Shape, to_u32};
use crate::tensor::{Buffer, DType, Tensor};
use crate::{Error, Result};
use std::borrow::Cow;
use std::sync::Arc;

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
    /// No id is larger, such as in what [`Tensor::argmax`] gives.
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

    /// A `u32` tensor of this shape.
    pub fn u32(shape: Shape) -> Meta {
        Meta { shape, dtype: DType::U32, max_id: MaxId::Unknown }
    }
}

/// Which layouts of an input an op reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layouts {
    /// Any strides.
    Any,
    /// Row-major only: [`apply`] copies others first.
    Contiguous,
}

/// Which tensors an op's gradient needs; the others are freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Saves {
    /// Places among the inputs.
    pub inputs: &'static [usize],
    /// Places among the outputs.
    pub outputs: &'static [usize],
}

/// One operation: a small struct that holds its attributes.
///
/// Output 0 is what [`apply`] gives and what is differentiated; further outputs are kept for the gradient, or given by
/// [`apply_all`], and differentiated where [`Op::differentiable`] says so.
pub trait Op: Send + Sync + 'static {
    /// The name that errors and profiles show.
    fn name(&self) -> &'static str;

    /// The outputs' shapes and types.
    ///
    /// # Errors
    /// Inputs that the op does not take.
    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>>;

    /// The layouts that input `input` may come in.
    fn layout(&self, _input: usize) -> Layouts {
        Layouts::Any
    }

    /// The CPU twin: writes every element of every output. Memory that it works in comes from [`CpuDevice::scratch`].
    ///
    /// # Errors
    /// A value outside the op's domain, such as a class id past the end, or out of memory.
    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()>;

    /// Records the kernels that write every element of every output.
    ///
    /// # Errors
    /// Over a limit of the device.
    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()>;

    /// What the gradient needs.
    fn saves(&self) -> Saves {
        Saves::default()
    }

    /// How many outputs, from the first on, are differentiated. An op with several implements [`Op::backward_all`].
    fn differentiable(&self) -> usize {
        1
    }

    /// As [`Op::backward`], given the gradients of all differentiable outputs: `None` of one that took no part, but not
    /// of all.
    ///
    /// # Errors
    /// As [`Op::backward`].
    fn backward_all(
        &self,
        saved: &Saved,
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        match grads {
            [Some(grad)] => self.backward(saved, grad, needs),
            _ => Err(no_gradient(self.name())),
        }
    }

    /// The gradients with regard to the inputs, given `grad`, that of output 0. `needs` says which are wanted; the
    /// others may be `None`. A gradient may have the shape that its input was broadcast to: it is summed back.
    /// Ops that are themselves a part of a gradient leave it out.
    ///
    /// # Errors
    /// As the tensor ops it is made of.
    fn backward(&self, saved: &Saved, grad: &Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let _ = (saved, grad, needs);
        Err(no_gradient(self.name()))
    }
}

/// The error of asking an op that is itself a part of a gradient for one.
pub(crate) fn no_gradient(op: &str) -> Error {
    Error::Autograd { message: format!("{op} has no gradient") }
}

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

/// An input as a dispatch sees it.
#[derive(Clone, Copy)]
pub struct GpuView<'a> {
    /// The whole buffer.
    pub buffer: &'a GpuBuffer,
    /// Where the elements lie in it.
    pub layout: Layout,
    /// What is known of the largest id; see [`Recorder::id_check`].
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

/// What a node kept for its gradient.
pub struct Saved {
    pub(crate) inputs: Vec<Option<Tensor>>,
    pub(crate) outputs: Vec<Option<Tensor>>,
    pub(crate) metas: Vec<Meta>,
}

impl Saved {
    /// The input at place `at`, which [`Op::saves`] must name.
    ///
    /// # Errors
    /// It does not.
    pub fn input(&self, at: usize) -> Result<&Tensor> {
        self.inputs.get(at).and_then(Option::as_ref).ok_or_else(|| not_saved("input", at))
    }

    /// The output at place `at`, which [`Op::saves`] must name.
    ///
    /// # Errors
    /// It does not.
    pub fn output(&self, at: usize) -> Result<&Tensor> {
        self.outputs.get(at).and_then(Option::as_ref).ok_or_else(|| not_saved("output", at))
    }

    /// The shape of the input at place `at`.
    ///
    /// # Errors
    /// There is no such input.
    pub fn shape(&self, at: usize) -> Result<Shape> {
        self.metas.get(at).map(|meta| meta.shape).ok_or_else(|| not_saved("the shape of input", at))
    }
}

fn not_saved(what: &str, at: usize) -> Error {
    Error::Autograd { message: format!("{what} {at} was not saved by its op") }
}

/// Runs an op on tensors of one device and, where an input is differentiable, records it for [`Tensor::backward`].
/// Gives its first output.
///
/// # Errors
/// The inputs do not fit the op, are on different devices, or the device fails.
pub fn apply(op: impl Op, inputs: &[&Tensor]) -> Result<Tensor> {
    let name = op.name();
    let missing = || Error::Autograd { message: format!("{name} declares no output") };
    apply_all(op, inputs)?.into_iter().next().ok_or_else(missing)
}

/// As [`apply`], and gives all outputs. Those past [`Op::differentiable`] are ids, or numbers cut off from the graph.
///
/// # Errors
/// As [`apply`].
pub fn apply_all(op: impl Op, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    let device = common_device(op.name(), inputs)?;
    let metas: Vec<Meta> = inputs.iter().map(|t| t.meta()).collect();
    let out_metas = op.infer(&metas)?;
    // What the kernels can't count is refused on the CPU too, where a view of one element may have more than any loop ends.
    for meta in metas.iter().chain(&out_metas) {
        to_u32(op.name(), meta.shape.numel())?;
    }

    let ready = (0..)
        .zip(inputs)
        .map(|(at, &input)| match op.layout(at) {
            Layouts::Contiguous if !input.layout().is_contiguous() => input.detached_copy().map(Cow::Owned),
            _ => Ok(Cow::Borrowed(input)),
        })
        .collect::<Result<Vec<Cow<Tensor>>>>()?;

    let mut buffers = allocate(&device, &out_metas)?;
    run(&op, &device, &ready, &mut buffers, &out_metas)?;
    let outputs = buffers.into_iter().zip(out_metas).map(|(buffer, meta)| {
        Tensor::new(Arc::new(buffer), Layout::contiguous(meta.shape), meta.dtype, device.clone())
            .with_max_id(meta.max_id)
    });
    let outputs: Vec<Tensor> = outputs.collect();

    let edges: Vec<Option<Edge>> = inputs.iter().map(|t| autograd::edge(t)).collect();
    if edges.iter().any(Option::is_some) {
        let keep = |all: Vec<Tensor>, wanted: &[usize]| {
            (0..).zip(all).map(|(at, t)| wanted.contains(&at).then_some(t)).collect::<Vec<_>>()
        };
        let saves = op.saves();
        let saved = Saved {
            inputs: keep(ready.iter().map(|t| t.detach()).collect(), saves.inputs),
            outputs: keep(outputs.clone(), saves.outputs),
            metas,
        };
        let differentiable = op.differentiable().min(outputs.len());
        let backward = move |saved: &Saved, grads: &[Option<Tensor>], needs: &[bool]| {
            op.backward_all(saved, grads, needs)
        };
        let node = Node::new(Box::new(backward), edges, saved, differentiable);
        let placed = Edge::of(node).map(Some).chain(std::iter::repeat(None));
        let placed = outputs.into_iter().zip(placed);
        return Ok(placed
            .map(|(t, edge)| if let Some(edge) = edge { t.with_edge(edge) } else { t })
            .collect());
    }
    Ok(outputs)
}

/// Runs an op that reads and writes `states` as its outputs: the optimizers' way to update a parameter. A state
/// whose buffer someone else holds too is copied first, so nobody else sees it change. Nothing is recorded.
///
/// # Errors
/// As [`apply`], or a state that does not have the shape [`Op::infer`] gives it. The states are unchanged then.
pub fn update(op: impl Op, inputs: &[&Tensor], states: &mut [&mut Tensor]) -> Result<()> {
    let name = op.name();
    let all: Vec<&Tensor> = inputs.iter().copied().chain(states.iter().map(|s| &**s)).collect();
    let device = common_device(name, &all)?;
    let metas = op.infer(&inputs.iter().map(|t| t.meta()).collect::<Vec<_>>())?;
    let fits = metas.len() == states.len()
        && metas.iter().zip(states.iter()).all(|(m, s)| m.shape == s.shape() && m.dtype == s.dtype());
    if !fits {
        let found: Vec<_> = states.iter().map(|s| s.shape()).collect();
        let wanted: Vec<_> = metas.iter().map(|m| m.shape).collect();
        return Err(Error::shape(name, format!("states of shapes {found:?} do not fit {wanted:?}")));
    }
    let ready = inputs.iter().map(|t| t.contiguous()).collect::<Result<Vec<_>>>()?;
    let ready: Vec<Cow<Tensor>> = ready.iter().map(Cow::Borrowed).collect();
    for state in states.iter_mut() {
        state.make_sole()?;
    }
    let taken: Option<Vec<&mut Buffer>> = states.iter_mut().map(|state| state.sole_buffer()).collect();
    let mut buffers = taken.ok_or_else(|| Error::argument(name, "one tensor was given as two states"))?;
    run(&op, &device, &ready, &mut buffers, &metas)
}

/// Runs the op's kernel or its twin; the only place that chooses.
fn run<B: std::borrow::BorrowMut<Buffer>>(
    op: &impl Op,
    device: &Device,
    inputs: &[Cow<Tensor>],
    outputs: &mut [B],
    metas: &[Meta],
) -> Result<()> {
    if metas.iter().all(|meta| meta.shape.numel() == 0) {
        return Ok(());
    }
    let wrong_device = || Error::Gpu { message: "a buffer is not on its tensor's device".to_string() };
    match device {
        Device::Cpu(cpu) => {
            let views =
                inputs.iter().map(|t| t.cpu_view().ok_or_else(wrong_device)).collect::<Result<Vec<_>>>()?;
            let mut outs = Vec::with_capacity(outputs.len());
            for (buffer, meta) in outputs.iter_mut().zip(metas) {
                let Buffer::Cpu(CpuBuffer { words, .. }) = buffer.borrow_mut() else {
                    return Err(wrong_device());
                };
                outs.push(CpuOut { data: &mut words[..meta.shape.numel()], shape: meta.shape });
            }
            cpu.count_op();
            op.cpu(cpu, &views, &mut outs)
        }
        Device::Gpu(gpu) => {
            let views =
                inputs.iter().map(|t| t.gpu_view().ok_or_else(wrong_device)).collect::<Result<Vec<_>>>()?;
            let mut outs = Vec::with_capacity(outputs.len());
            for (buffer, meta) in outputs.iter_mut().zip(metas) {
                let Buffer::Gpu(buffer) = buffer.borrow_mut() else { return Err(wrong_device()) };
                outs.push(GpuOut { buffer, shape: meta.shape });
            }
            let mut recorder = gpu.record()?;
            op.gpu(&mut recorder, &views, &outs)?;
            recorder.end(&views, &outs)
        }
    }
}

fn allocate(device: &Device, metas: &[Meta]) -> Result<Vec<Buffer>> {
    metas.iter().map(|meta| allocate_one(device, meta.shape)).collect()
}

/// Memory for a tensor of `shape`, with stale content.
pub(crate) fn allocate_one(device: &Device, shape: Shape) -> Result<Buffer> {
    match device {
        Device::Cpu(cpu) => CpuDevice::allocate(cpu, shape.numel()).map(Buffer::Cpu),
        Device::Gpu(gpu) => GpuDevice::allocate(gpu, shape.numel()).map(Buffer::Gpu),
    }
}

fn common_device(op: &'static str, tensors: &[&Tensor]) -> Result<Device> {
    let Some((first, rest)) = tensors.split_first() else {
        return Err(Error::argument(op, "no input says on which device to run"));
    };
    match rest.iter().find(|t| !t.device().same(first.device())) {
        None => Ok(first.device().clone()),
        Some(other) => Err(Error::MixedDevices {
            op,
            first: first.device().id().to_string(),
            second: other.device().id().to_string(),
        }),
    }
}
