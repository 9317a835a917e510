//! What an op must bring, and the one road every op takes: [`apply`] checks shapes, allocates, picks the device and
//! records the node.

use crate::autograd::{self, Edge, Node};
use crate::cpu::{CpuBuffer, CpuDevice};
use crate::device::Device;
use crate::dry_run;
use crate::error::{Line, caller};
use crate::gpu::Recorder;
use crate::shape::{Layout, to_u32};
use crate::storage::{Buffer, absent, allocate};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::borrow::Cow;
use std::sync::Arc;

pub use crate::autograd::Saved;
pub(crate) use crate::autograd::no_gradient;
pub use crate::cpu::{CpuOut, CpuView};
pub use crate::gpu::{GpuOut, GpuView};
pub use crate::meta::{MaxId, Meta};

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
///
/// ```
/// use gristmill::gpu::Recorder;
/// use gristmill::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves, apply};
/// use gristmill::{CpuDevice, Device, Error, Result, Tensor, parallel_map};
/// # use std::sync::Arc;
///
/// struct Square;
///
/// impl Op for Square {
///     fn name(&self) -> &'static str {
///         "square"
///     }
///
///     fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
///         Ok(vec![Meta::f32(inputs[0].shape)])
///     }
///
///     fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
///         outputs[0].numel()
///     }
///
///     fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
///         parallel_map(&mut outputs[0], [inputs[0]], |[x]| x * x)
///     }
///
///     fn gpu(&self, _: &mut Recorder, _: &[GpuView], _: &[GpuOut]) -> Result<()> {
///         Err(Error::argument("square", "has no kernel")) // the example `custom_op` has one
///     }
///
///     fn saves(&self) -> Saves {
///         Saves { inputs: &[0], outputs: &[] }
///     }
///
///     fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
///         Ok(vec![Some(grad.mul(saved.input(0)?)?.mul_scalar(2.0)?)])
///     }
/// }
///
/// let x = Tensor::from_slice(&[1.0, 3.0], [2], &Device::cpu())?.requires_grad()?;
/// let y = apply(Square, &[&x])?;
/// assert_eq!(y.to_vec()?, [1.0, 9.0]);
/// assert_eq!(y.sum_all()?.backward()?.get(&x)?.to_vec()?, [2.0, 6.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub trait Op: Send + Sync + 'static {
    /// The name that errors and profiles show.
    fn name(&self) -> &'static str;

    /// The outputs' shapes and types.
    ///
    /// # Errors
    /// Inputs that the op does not take.
    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>>;

    /// The floating-point operations that it takes, by the definition of the algorithm, whatever its kernels do: an addition,
    /// a multiplication, a comparison or a call of a function counts as one, a multiply-add as two, moving an element as
    /// none. There is no default, so that no op counts as none by oversight. `outputs` is what [`Op::infer`] gave.
    /// [`dry_run`](crate::dry_run()) adds them up.
    fn flops(&self, inputs: &[Meta], outputs: &[Meta]) -> u64;

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

/// Runs an op on tensors of one device and, where an input is differentiable, records it for [`Tensor::backward`].
/// Gives its first output.
///
/// ```
/// # use gristmill::gpu::Recorder;
/// # use gristmill::op::{self, CpuOut, CpuView, GpuOut, GpuView, Meta, Op};
/// # use gristmill::{CpuDevice, Device, Error, Result, Tensor, parallel_map};
/// # use std::sync::Arc;
/// # struct Add;
/// # impl Op for Add {
/// #     fn name(&self) -> &'static str { "add" }
/// #     fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> { Ok(vec![inputs[0]]) }
/// #     fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 { outputs[0].numel() }
/// #     fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
/// #         parallel_map(&mut outputs[0], [inputs[0], inputs[1]], |[x, y]| x + y)
/// #     }
/// #     fn gpu(&self, _: &mut Recorder, _: &[GpuView], _: &[GpuOut]) -> Result<()> {
/// #         Err(Error::argument("add", "has no kernel"))
/// #     }
/// # }
/// // `Add` is an Op of two inputs.
/// let x = Tensor::from_slice(&[1.0, 3.0], [2], &Device::cpu())?;
/// assert_eq!(op::apply(Add, &[&x, &x])?.to_vec()?, [2.0, 6.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// The inputs do not fit the op, are on different devices, or the device fails.
#[track_caller]
pub fn apply(op: impl Op, inputs: &[&Tensor]) -> Result<Tensor> {
    let name = op.name();
    let missing = || Error::autograd(format!("{name} declares no output"));
    apply_all(op, inputs)?.into_iter().next().ok_or_else(missing)
}

/// As [`apply`], and gives all outputs. Those past [`Op::differentiable`] are ids, or numbers cut off from the graph.
///
/// ```
/// # use gristmill::gpu::Recorder;
/// # use gristmill::op::{self, CpuOut, CpuView, GpuOut, GpuView, Meta, Op};
/// # use gristmill::{CpuDevice, Device, Error, Result, Tensor, parallel_map};
/// # use std::sync::Arc;
/// # struct Digits;
/// # impl Op for Digits {
/// #     fn name(&self) -> &'static str { "digits" }
/// #     fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> { Ok(vec![inputs[0]; 2]) }
/// #     fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 { 2 * outputs[0].numel() }
/// #     fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
/// #         parallel_map(&mut outputs[0], [inputs[0]], |[x]| (x / 10.0).floor())?;
/// #         parallel_map(&mut outputs[1], [inputs[0]], |[x]| x % 10.0)
/// #     }
/// #     fn gpu(&self, _: &mut Recorder, _: &[GpuView], _: &[GpuOut]) -> Result<()> {
/// #         Err(Error::argument("digits", "has no kernel"))
/// #     }
/// # }
/// // `Digits` is an Op of two outputs: the tens and the ones.
/// let x = Tensor::from_slice(&[17.0, 42.0], [2], &Device::cpu())?;
/// let outputs = op::apply_all(Digits, &[&x])?;
/// assert_eq!((outputs[0].to_vec()?, outputs[1].to_vec()?), (vec![1.0, 4.0], vec![7.0, 2.0]));
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// As [`apply`].
#[track_caller]
pub fn apply_all(op: impl Op, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    let line = caller();
    apply_at(line, op, inputs).map_err(|error| error.or_at(line))
}

fn apply_at(line: Option<Line>, op: impl Op, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
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

    let buffers = out_metas.iter().map(|meta| allocate(&device, meta.shape));
    let mut buffers = buffers.collect::<Result<Vec<Buffer>>>()?;
    match dry_run::is_active() {
        true => dry_run::count(op.flops(&metas, &out_metas)),
        false => {
            mark_unwritten(&mut buffers, &out_metas);
            run(line, &op, &device, &ready, &mut buffers, &out_metas)?;
            check_written(op.name(), &buffers, &out_metas)?;
        }
    }
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
        let node = Node::new(Box::new(backward), edges, saved, differentiable, line);
        let placed = Edge::of(node).map(Some).chain(std::iter::repeat(None));
        let placed = outputs.into_iter().zip(placed);
        return Ok(placed
            .map(|(t, edge)| if let Some(edge) = edge { t.with_edge(edge) } else { t })
            .collect());
    }
    Ok(outputs)
}

/// The bits of an element that no twin has written: a signalling NaN, which arithmetic never gives.
const UNWRITTEN: u32 = 0x7fa5_a5a5;

/// In debug builds, fills the outputs of a twin, so that [`check_written`] sees what it leaves out. A buffer from the pool
/// would have plausible numbers there. For kernels, guarded devices do it.
fn mark_unwritten(buffers: &mut [Buffer], metas: &[Meta]) {
    if cfg!(debug_assertions) {
        for (buffer, meta) in buffers.iter_mut().zip(metas) {
            if let Buffer::Cpu(buffer) = buffer {
                buffer.words[..meta.shape.numel()].fill(f32::from_bits(UNWRITTEN));
            }
        }
    }
}

/// # Errors
/// An output has elements that [`mark_unwritten`] marked.
fn check_written(op: &'static str, buffers: &[Buffer], metas: &[Meta]) -> Result<()> {
    if cfg!(debug_assertions) {
        for (output, (buffer, meta)) in buffers.iter().zip(metas).enumerate() {
            let Buffer::Cpu(buffer) = buffer else { continue };
            let words = &buffer.words[..meta.shape.numel()];
            let unwritten = || words.iter().enumerate().filter(|(_, word)| word.to_bits() == UNWRITTEN);
            if let Some((first, _)) = unwritten().next() {
                let (count, all) = (unwritten().count(), words.len());
                let message = format!(
                    "the twin left {count} of {all} elements of output {output} unwritten, the first at {first}"
                );
                return Err(Error::Kernel { kernel: op.to_string(), message });
            }
        }
    }
    Ok(())
}

/// Runs an op that reads and writes `states` as its outputs: the optimizers' way to update a parameter. A state
/// whose buffer someone else holds too is copied first, so nobody else sees it change. Nothing is recorded.
///
/// ```
/// # use gristmill::gpu::Recorder;
/// # use gristmill::op::{self, CpuOut, CpuView, GpuOut, GpuView, Meta, Op};
/// # use gristmill::{CpuDevice, Device, Error, Result, Tensor, parallel_map};
/// # use std::sync::Arc;
/// # struct Descend;
/// # impl Op for Descend {
/// #     fn name(&self) -> &'static str { "descend" }
/// #     fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> { Ok(vec![inputs[0]]) }
/// #     fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 { outputs[0].numel() }
/// #     fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
/// #         outputs[0].data.iter_mut().zip(inputs[0].slice()).for_each(|(w, grad)| *w -= grad);
/// #         Ok(())
/// #     }
/// #     fn gpu(&self, _: &mut Recorder, _: &[GpuView], _: &[GpuOut]) -> Result<()> {
/// #         Err(Error::argument("descend", "has no kernel"))
/// #     }
/// # }
/// // `Descend` is an Op that subtracts its input, a gradient, from its output.
/// let grad = Tensor::from_slice(&[1.0, 2.0], [2], &Device::cpu())?;
/// let mut w = Tensor::from_slice(&[5.0, 5.0], [2], &Device::cpu())?;
/// let before = w.clone();
/// op::update(Descend, &[&grad], &mut [&mut w])?;
/// assert_eq!((w.to_vec()?, before.to_vec()?), (vec![4.0, 3.0], vec![5.0, 5.0]));
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// As [`apply`], or a state that does not have the shape [`Op::infer`] gives it. The states are unchanged then.
#[track_caller]
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
    if dry_run::is_active() {
        dry_run::count(op.flops(&inputs.iter().map(|t| t.meta()).collect::<Vec<_>>(), &metas));
        return Ok(());
    }
    let ready = inputs.iter().map(|t| t.contiguous()).collect::<Result<Vec<_>>>()?;
    let ready: Vec<Cow<Tensor>> = ready.iter().map(Cow::Borrowed).collect();
    for state in states.iter_mut() {
        state.make_sole()?;
    }
    let taken: Option<Vec<&mut Buffer>> = states.iter_mut().map(|state| state.sole_buffer()).collect();
    let mut buffers = taken.ok_or_else(|| Error::argument(name, "one tensor was given as two states"))?;
    run(caller(), &op, &device, &ready, &mut buffers, &metas)
}

/// Runs the op's kernel or its twin; the only place that chooses.
fn run<B: std::borrow::BorrowMut<Buffer>>(
    line: Option<Line>,
    op: &impl Op,
    device: &Device,
    inputs: &[Cow<Tensor>],
    outputs: &mut [B],
    metas: &[Meta],
) -> Result<()> {
    if metas.iter().all(|meta| meta.shape.numel() == 0) {
        return Ok(());
    }
    if inputs.iter().any(|t| t.is_absent()) {
        return Err(absent(op.name()));
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
            let mut recorder = gpu.record(line)?;
            op.gpu(&mut recorder, &views, &outs)?;
            recorder.end(&views, &outs)
        }
    }
}

#[track_caller]
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
            line: caller(),
        }),
    }
}
