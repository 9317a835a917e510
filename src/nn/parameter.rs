//! Parameters: tensors that training updates.

use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{DType, Error, Result};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A shared cell with a leaf of the autograd graph: the layer reads it, the optimizer updates it.
///
/// A clone is another handle on the same cell. Updates keep the identity of the leaf, so a gradient computed before an
/// update is still found after it.
#[derive(Clone)]
pub struct Parameter {
    cell: Arc<Mutex<Tensor>>,
}

impl Parameter {
    /// A parameter with these elements, detached from their graph.
    ///
    /// # Errors
    /// A tensor of ids.
    pub fn new(tensor: &Tensor) -> Result<Parameter> {
        let leaf = tensor.requires_grad()?;
        Ok(Parameter { cell: Arc::new(Mutex::new(leaf)) })
    }

    /// A cell for state that is not trained, such as running statistics. It has no gradient.
    ///
    /// # Errors
    /// A tensor of ids.
    pub fn buffer(tensor: &Tensor) -> Result<Parameter> {
        tensor.expect(DType::F32, "Parameter::buffer")?;
        Ok(Parameter { cell: Arc::new(Mutex::new(tensor.detach())) })
    }

    /// The current elements; later updates do not change the returned tensor.
    ///
    /// It is the key of the parameter's gradient in [`Gradients`](crate::Gradients).
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

    /// Replaces the elements, and moves them to the parameter's device.
    ///
    /// # Errors
    /// Another shape, a tensor of ids, or the device is out of memory. On error the parameter is unchanged.
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

    /// A number that identifies the cell while it lives.
    pub(crate) fn id(&self) -> usize {
        Arc::as_ptr(&self.cell) as usize
    }

    /// Changes several parameters by `change`, in place if nobody else holds their buffers. On error they are
    /// unchanged.
    ///
    /// On the CPU `change` gets its own handles, and no lock is held while it runs: it waits for rayon, which may run
    /// another task on this thread that uses the parameters. On a GPU `change` only records commands.
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

    /// Locks the tensor. The caller must not wait for other threads while it holds the guard.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Tensor> {
        // The tensor is only replaced as a whole, so it is valid even if the lock is poisoned.
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parameter({:?})", self.lock())
    }
}
