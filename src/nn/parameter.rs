//! What training changes.

use crate::shape::Shape;
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A cell that holds a leaf of the graph: the layer that computes with it and the optimizer that changes it share
/// it. Cloning gives another handle on the same cell. The leaf stays the same one over all updates, so a gradient
/// computed before an update is still found after it.
#[derive(Clone)]
pub struct Parameter {
    cell: Arc<Mutex<Tensor>>,
}

impl Parameter {
    /// A parameter that starts with these elements, cut off from whatever graph they come from.
    ///
    /// # Errors
    /// A tensor of ids.
    pub fn new(tensor: &Tensor) -> Result<Parameter> {
        let leaf = tensor.requires_grad()?;
        Ok(Parameter { cell: Arc::new(Mutex::new(leaf)) })
    }

    /// A cell whose elements belong to a layer's state and are not trained: running statistics. They have no gradient.
    ///
    /// # Errors
    /// A tensor of ids.
    pub fn buffer(tensor: &Tensor) -> Result<Parameter> {
        tensor.expect(DType::F32, "Parameter::buffer")?;
        Ok(Parameter { cell: Arc::new(Mutex::new(tensor.detach())) })
    }

    /// The elements as they are now: later updates do not show in this handle. Its gradient is found in
    /// [`Gradients`](crate::Gradients) under it.
    pub fn tensor(&self) -> Tensor {
        self.lock().clone()
    }

    /// The shape.
    pub fn shape(&self) -> Shape {
        self.lock().shape()
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.lock().numel()
    }

    /// Replaces the elements; they move to the parameter's device.
    ///
    /// # Errors
    /// Another shape, a tensor of ids, or the device has no room. The parameter is unchanged then.
    pub fn set(&self, tensor: &Tensor) -> Result<()> {
        tensor.expect(DType::F32, "Parameter::set")?;
        let mut held = self.lock();
        if tensor.shape() != held.shape() {
            let message = format!("shape {} for a parameter of shape {}", tensor.shape(), held.shape());
            return Err(Error::shape("Parameter::set", message));
        }
        let moved = tensor.to(held.device())?;
        held.show(&moved);
        Ok(())
    }

    /// Whether both are handles on the same cell.
    pub fn same(&self, other: &Parameter) -> bool {
        self.id() == other.id()
    }

    /// A number that tells cells apart as long as they live.
    pub(crate) fn id(&self) -> usize {
        Arc::as_ptr(&self.cell) as usize
    }

    /// Changes several parameters at once by `change`, in place where nobody else holds their elements. An error leaves
    /// them as they were.
    ///
    /// On the CPU `change` gets handles of its own, and no lock is held meanwhile: a twin waits for rayon, which may run
    /// a task of the program on this thread, and that task may use the parameters. On a GPU `change` only records.
    pub(crate) fn update<const N: usize>(
        parameters: [&Parameter; N],
        change: impl FnOnce([&mut Tensor; N]) -> Result<()>,
    ) -> Result<()> {
        let mut held = parameters.map(Parameter::tensor);
        if held.iter().any(|tensor| tensor.device().is_gpu()) {
            drop(held);
            let mut locked = parameters.map(Parameter::lock);
            return change(locked.each_mut().map(|guard| &mut **guard));
        }
        change(held.each_mut())?;
        parameters.iter().zip(&held).for_each(|(parameter, tensor)| parameter.lock().show(tensor));
        Ok(())
    }

    /// The tensor itself. Its holder must not wait for other threads.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Tensor> {
        // The tensor is only ever replaced as a whole, so a poisoned lock is as good as another.
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parameter({:?})", self.lock())
    }
}
