//! Reverse-mode differentiation: nodes, the walk, gradients.

use crate::error::{Line, at_line, caller};
use crate::meta::{DType, Meta};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What a differentiable tensor carries: its identity, and the node that made it unless it is a leaf.
#[derive(Clone)]
pub(crate) struct Edge {
    id: u64,
    node: Option<Arc<Node>>,
    /// Which of the node's outputs it is; they share the id.
    output: usize,
}

/// The gradients with regard to the inputs, from what was saved, those of the outputs (of one that took no part there is
/// none, but not of all), and which are wanted.
pub(crate) type Backward =
    dyn Fn(&Saved, &[Option<Tensor>], &[bool]) -> Result<Vec<Option<Tensor>>> + Send + Sync;

/// What a node kept for its gradient.
///
/// Of an op whose output is the length of a vector, ‖x‖, with the gradient x / ‖x‖:
///
/// ```
/// # use gristmill::gpu::Recorder;
/// # use gristmill::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves, apply};
/// # use gristmill::{CpuDevice, Device, Error, Result, Shape, Tensor};
/// # use std::sync::Arc;
/// # struct Length;
/// # impl Op for Length {
/// #     fn name(&self) -> &'static str { "length" }
/// #     fn infer(&self, _: &[Meta]) -> Result<Vec<Meta>> { Ok(vec![Meta::f32(Shape::SCALAR)]) }
/// #     fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 { 2 * inputs[0].numel() }
/// #     fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
/// #         outputs[0].data[0] = inputs[0].slice().iter().map(|x| x * x).sum::<f32>().sqrt();
/// #         Ok(())
/// #     }
/// #     fn gpu(&self, _: &mut Recorder, _: &[GpuView], _: &[GpuOut]) -> Result<()> {
/// #         Err(Error::argument("length", "has no kernel"))
/// #     }
/// #     fn saves(&self) -> Saves { Saves { inputs: &[0], outputs: &[0] } }
/// fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
///     let factor = grad.div(saved.output(0)?)?.expand(saved.shape(0)?)?;
///     Ok(vec![Some(factor.mul(saved.input(0)?)?)])
/// }
/// # }
/// # let x = Tensor::from_slice(&[3.0, 4.0], [2], &Device::cpu())?.requires_grad()?;
/// let gradients = apply(Length, &[&x])?.mul_scalar(10.0)?.backward()?;
/// assert_eq!(gradients.get(&x)?.to_vec()?, [6.0, 8.0]); // 10 · x / 5
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct Saved {
    pub(crate) inputs: Vec<Option<Tensor>>,
    pub(crate) outputs: Vec<Option<Tensor>>,
    pub(crate) metas: Vec<Meta>,
}

impl Saved {
    /// The input at place `at`, which [`Op::saves`](crate::op::Op::saves) must name.
    ///
    /// # Errors
    /// It does not.
    #[track_caller]
    pub fn input(&self, at: usize) -> Result<&Tensor> {
        self.inputs.get(at).and_then(Option::as_ref).ok_or_else(|| not_saved("input", at))
    }

    /// The output at place `at`, which [`Op::saves`](crate::op::Op::saves) must name.
    ///
    /// # Errors
    /// It does not.
    #[track_caller]
    pub fn output(&self, at: usize) -> Result<&Tensor> {
        self.outputs.get(at).and_then(Option::as_ref).ok_or_else(|| not_saved("output", at))
    }

    /// The shape of the input at place `at`.
    ///
    /// # Errors
    /// There is no such input.
    #[track_caller]
    pub fn shape(&self, at: usize) -> Result<Shape> {
        self.metas.get(at).map(|meta| meta.shape).ok_or_else(|| not_saved("the shape of input", at))
    }
}

fn not_saved(what: &str, at: usize) -> Error {
    Error::autograd(format!("{what} {at} was not saved by its op"))
}

/// The error of asking an op that is itself a part of a gradient for one.
pub(crate) fn no_gradient(op: &str) -> Error {
    Error::autograd(format!("{op} has no gradient"))
}

/// One application of an op, or one view.
pub(crate) struct Node {
    backward: Box<Backward>,
    inputs: Vec<Option<Edge>>,
    outputs: usize,
    /// The outputs whose gradients are kept: [`Tensor::retain_grad`]. Few nodes have any.
    retained: OnceLock<Box<[AtomicBool]>>,
    /// Taken by the walk, so that a buffer is freed as soon as its gradient is done.
    saved: Mutex<Option<Saved>>,
    /// The program's line that made it, for errors of the walk.
    line: Option<Line>,
}

impl Node {
    /// With so many differentiable outputs.
    pub(crate) fn new(
        backward: Box<Backward>,
        inputs: Vec<Option<Edge>>,
        saved: Saved,
        outputs: usize,
        line: Option<Line>,
    ) -> Node {
        let saved = Mutex::new(Some(saved));
        Node { backward, inputs, outputs, retained: OnceLock::new(), saved, line }
    }

    /// The node of so many views of a tensor with `meta`, whose gradients `undo` puts together to the tensor's.
    #[track_caller]
    pub(crate) fn view(
        input: Edge,
        meta: Meta,
        outputs: usize,
        undo: impl Fn(&[Option<Tensor>]) -> Result<Tensor> + Send + Sync + 'static,
    ) -> Node {
        let saved = Saved { inputs: Vec::new(), outputs: Vec::new(), metas: vec![meta] };
        let backward = move |_: &Saved, grads: &[Option<Tensor>], _: &[bool]| Ok(vec![Some(undo(grads)?)]);
        Node::new(Box::new(backward), vec![Some(input)], saved, outputs, caller())
    }
}

impl Drop for Node {
    /// Frees the graph below without recursion: a chain of a hundred thousand nodes must not overflow the stack.
    fn drop(&mut self) {
        let below = |node: &mut Node| {
            node.inputs.drain(..).flatten().filter_map(|edge| edge.node).collect::<Vec<_>>()
        };
        let mut stack = below(self);
        while let Some(node) = stack.pop() {
            if let Some(mut node) = Arc::into_inner(node) {
                stack.extend(below(&mut node));
            }
        }
    }
}

/// Ids grow in the order of creation, so that a node's id is above those of all it depends on.
fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Edge {
    pub(crate) fn leaf() -> Edge {
        Edge { id: next_id(), node: None, output: 0 }
    }

    /// The edges of a node's outputs.
    pub(crate) fn of(node: Node) -> impl Iterator<Item = Edge> {
        let (id, outputs, node) = (next_id(), node.outputs, Arc::new(node));
        (0..outputs).map(move |output| Edge { id, node: Some(node.clone()), output })
    }

    pub(crate) fn is_leaf(&self) -> bool {
        self.node.is_none()
    }

    fn is_retained(&self) -> bool {
        let marks = self.node.as_ref().and_then(|node| node.retained.get());
        marks.is_some_and(|marks| marks[self.output].load(Ordering::Relaxed))
    }
}

/// The edge to a tensor, if it is differentiable and recording is on.
pub(crate) fn edge(tensor: &Tensor) -> Option<Edge> {
    if is_recording() { tensor.edge().cloned() } else { None }
}

thread_local! {
    static RECORDING: Cell<bool> = const { Cell::new(true) };
}

/// Whether ops on this thread are recorded for [`Tensor::backward`].
///
/// ```
/// # use gristmill::{autograd::is_recording, no_grad};
/// assert!(is_recording());
/// assert!(!no_grad(is_recording));
/// ```
pub fn is_recording() -> bool {
    RECORDING.get()
}

/// Runs `work` without recording on this thread: for inference, and for updates of parameters.
///
/// ```
/// # use gristmill::{Device, Tensor, no_grad};
/// let w = Tensor::ones([2], &Device::cpu())?.requires_grad()?;
/// let sum = no_grad(|| w.sum_all())?;
/// assert_eq!(sum.item()?, 2.0);
/// assert!(sum.backward().is_err()); // nothing was recorded
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn no_grad<T>(work: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            RECORDING.set(self.0);
        }
    }
    let _restore = Restore(RECORDING.replace(false));
    work()
}

/// The gradients of one or more backward passes, by the leaf they belong to.
///
/// ```
/// # use gristmill::{Device, Tensor};
/// let w = Tensor::from_slice(&[1.0, 2.0], [2], &Device::cpu())?.requires_grad()?;
/// let mut gradients = w.square()?.sum_all()?.backward()?; // 2w
/// gradients.accumulate(w.sum_all()?.backward()?)?; // 2w + 1
/// gradients.scale(0.5)?;
/// assert_eq!(gradients.get(&w)?.to_vec()?, [1.5, 2.5]);
/// assert_eq!(gradients.iter().count(), 1); // one leaf
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Default, Clone)]
pub struct Gradients {
    // Ordered, so that buffers go back to the pool in the same order every time and meet in the same bind groups.
    by_leaf: BTreeMap<u64, Tensor>,
    /// Those of intermediate results, by their node and place among its outputs.
    retained: BTreeMap<(u64, usize), Tensor>,
}

impl Gradients {
    /// The gradient with regard to a leaf, or to an intermediate result that was [retained](Tensor::retain_grad).
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let w = Tensor::from_slice(&[1.0, 2.0], [2], &Device::cpu())?.requires_grad()?;
    /// let squares = w.square()?;
    /// let gradients = squares.sum_all()?.backward()?;
    /// assert_eq!(gradients.get(&w)?.to_vec()?, [2.0, 4.0]);
    /// let error = gradients.get(&squares).unwrap_err().to_string();
    /// assert!(error.contains("retain_grad"), "{error}"); // of an intermediate result none is kept
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// There is none: the tensor requires no gradient, is an intermediate result that was not retained, or took no part.
    /// The error says which.
    #[track_caller]
    pub fn get(&self, tensor: &Tensor) -> Result<&Tensor> {
        if let Some(grad) = self.find(tensor) {
            return Ok(grad);
        }
        let why = match tensor.edge() {
            None => {
                "it requires none: it is not made by requires_grad, was detached, or its parameter is frozen"
            }
            Some(edge) if edge.is_leaf() => "it took no part in what backward was called on",
            Some(edge) if edge.is_retained() => {
                "it took no part in what backward was called on, or retain_grad was called only afterwards"
            }
            Some(_) => {
                "it is an intermediate result; call retain_grad on it before backward to keep its gradient"
            }
        };
        let message = format!("no gradient of this tensor of shape {}: {why}", tensor.shape());
        Err(Error::autograd(message))
    }

    /// As [`Gradients::get`].
    pub(crate) fn find(&self, tensor: &Tensor) -> Option<&Tensor> {
        let edge = tensor.edge()?;
        self.by_leaf.get(&edge.id).or_else(|| self.retained.get(&(edge.id, edge.output)))
    }

    /// Adds another pass's gradients to these: gradient accumulation over several batches.
    ///
    /// # Errors
    /// The device fails. Then some of these gradients are sums and others as they were, and none is lost.
    #[track_caller]
    pub fn accumulate(&mut self, other: Gradients) -> Result<()> {
        no_grad(|| {
            other.by_leaf.into_iter().try_for_each(|(id, grad)| add_to(&mut self.by_leaf, id, grad))?;
            other.retained.into_iter().try_for_each(|(id, grad)| add_to(&mut self.retained, id, grad))
        })
    }

    /// Multiplies every gradient of a leaf by `factor`.
    ///
    /// # Errors
    /// The device fails.
    #[track_caller]
    pub fn scale(&mut self, factor: f32) -> Result<()> {
        self.try_map(|grad| grad.mul_scalar(factor))
    }

    /// The gradients of all leaves, in the order in which these were made.
    pub fn iter(&self) -> impl Iterator<Item = &Tensor> {
        self.by_leaf.values()
    }

    /// Replaces every gradient of a leaf by `change` of it.
    fn try_map(&mut self, change: impl Fn(&Tensor) -> Result<Tensor>) -> Result<()> {
        no_grad(|| {
            for grad in self.by_leaf.values_mut() {
                *grad = change(grad)?;
            }
            Ok(())
        })
    }
}

fn add_to<K: Ord>(sums: &mut BTreeMap<K, Tensor>, id: K, grad: Tensor) -> Result<()> {
    // The old sum goes after the new one is made: where there is no room for it, nothing is lost.
    let sum = match sums.get(&id) {
        None => grad,
        Some(sum) => sum.add(&grad)?,
    };
    sums.insert(id, sum);
    Ok(())
}

impl Tensor {
    /// Keeps the gradient of this intermediate result when a later [`Tensor::backward`] passes it, for
    /// [`Gradients::get`]. Leaves have theirs anyway.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let w = Tensor::from_slice(&[3.0], [1], &Device::cpu())?.requires_grad()?;
    /// let hidden = w.mul_scalar(2.0)?;
    /// hidden.retain_grad()?;
    /// let gradients = hidden.square()?.backward()?;
    /// assert_eq!(gradients.get(&hidden)?.to_vec()?, [12.0]); // d(h²)/dh = 2h
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// The tensor requires no gradient.
    #[track_caller]
    pub fn retain_grad(&self) -> Result<()> {
        let Some(edge) = self.edge() else {
            let message = format!("a tensor of shape {} requires no gradient to retain", self.shape());
            return Err(Error::autograd(message));
        };
        if let Some(node) = &edge.node {
            let none = || (0..node.outputs).map(|_| AtomicBool::new(false)).collect();
            node.retained.get_or_init(none)[edge.output].store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The gradients of this scalar with regard to every leaf that it was computed from. Frees the graph as it
    /// walks: a second call on the same graph is an error.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let w = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?.requires_grad()?;
    /// let loss = w.square()?.sum_all()?; // w₀² + w₁² + w₂²
    /// let gradients = loss.backward()?;
    /// assert_eq!(gradients.get(&w).unwrap().to_vec()?, [2.0, 4.0, 6.0]); // ∂loss/∂wᵢ = 2wᵢ
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Not one element, nothing differentiable, a graph already walked, or the device fails.
    #[track_caller]
    pub fn backward(&self) -> Result<Gradients> {
        if self.numel() != 1 {
            let message = format!("a tensor of shape {} has no one gradient; sum it first", self.shape());
            return Err(Error::autograd(message));
        }
        self.backward_from(&Tensor::full(self.shape(), 1.0, self.device())?)
    }

    /// As [`Tensor::backward`] for a tensor of any shape, starting from the gradient `grad` of the same shape: the
    /// gradients of `Σ grad · self`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let w = Tensor::from_slice(&[1.0, 2.0], [2], &Device::cpu())?.requires_grad()?;
    /// let grad = Tensor::from_slice(&[1.0, 10.0], [2], &Device::cpu())?;
    /// let gradients = w.square()?.backward_from(&grad)?; // of Σ gradᵢ wᵢ²
    /// assert_eq!(gradients.get(&w).unwrap().to_vec()?, [2.0, 40.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::backward`], or `grad` has another shape, is on another device, or holds ids.
    #[track_caller]
    pub fn backward_from(&self, grad: &Tensor) -> Result<Gradients> {
        grad.expect(DType::F32, "backward")?;
        if !grad.device().same(self.device()) {
            let [first, second] = [self, grad].map(|tensor| tensor.device().id().to_string());
            return Err(Error::MixedDevices { op: "backward", first, second, line: caller() });
        }
        if grad.shape() != self.shape() {
            let message =
                format!("a gradient of shape {} for a tensor of shape {}", grad.shape(), self.shape());
            return Err(Error::autograd(message));
        }
        let Some(root) = self.edge() else {
            let message =
                "the tensor depends on nothing that requires a gradient (gradients themselves are not \
                           differentiable)"
                    .to_string();
            return Err(Error::autograd(message));
        };
        at_line(caller(), || no_grad(|| walk(root, grad.detach())))
    }
}

/// Visits nodes from the newest to the oldest, which is a topological order.
fn walk(root: &Edge, grad: Tensor) -> Result<Gradients> {
    let mut gradients = Gradients::default();
    let mut sums = BTreeMap::from([((root.id, root.output), grad)]);
    let mut open = BTreeMap::from([(root.id, root.node.clone())]);
    while let Some((id, node)) = open.pop_last() {
        let outputs = node.as_ref().map_or(1, |node| node.outputs);
        let grads: Vec<Option<Tensor>> = (0..outputs).map(|output| sums.remove(&(id, output))).collect();
        let Some(node) = node else {
            gradients.by_leaf.extend(grads.into_iter().flatten().map(|grad| (id, grad)));
            continue;
        };
        let saved = node.saved.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(saved) = saved else {
            let message = "the graph was walked before, and freed; compute the loss anew".to_string();
            return Err(Error::autograd(message));
        };
        for (output, retained) in node.retained.get().into_iter().flatten().enumerate() {
            if let (true, Some(grad)) = (retained.load(Ordering::Relaxed), &grads[output]) {
                gradients.retained.insert((id, output), grad.clone());
            }
        }
        let needs: Vec<bool> = node.inputs.iter().map(Option::is_some).collect();
        at_line(node.line, || -> Result<()> {
            let wanted = (node.backward)(&saved, &grads, &needs)?;
            drop(grads);
            for (at, (edge, grad)) in node.inputs.iter().zip(wanted).enumerate() {
                let (Some(edge), Some(grad)) = (edge, grad) else { continue };
                // The one place where a gradient is summed back over the axes that its input was broadcast along.
                let grad = grad.sum_to(saved.shape(at)?)?;
                add_to(&mut sums, (edge.id, edge.output), grad)?;
                open.insert(edge.id, edge.node.clone());
            }
            Ok(())
        })?;
    }
    Ok(gradients)
}
