//! Parameters: tensors that training updates.

use crate::dry_run;
use crate::shape::Shape;
use crate::storage::absent;
use crate::tensor::Tensor;
use crate::{DType, Error, Result};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A shared cell with a leaf of the autograd graph: the layer reads it, the optimizer updates it.
///
/// A clone is another handle on the same cell. Updates keep the identity of the leaf, so a gradient computed before an
/// update is still found after it.
///
/// ```
/// # use gristmill::{Device, Tensor, nn::Parameter};
/// let w = Parameter::new(&Tensor::from_slice(&[3.0], [1], &Device::cpu())?)?;
/// let gradients = w.tensor().square()?.backward()?;
/// assert_eq!(gradients.get(&w.tensor()).unwrap().to_vec()?, [6.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone)]
pub struct Parameter(Arc<Cell>);

struct Cell {
    id: u64,
    /// Not trained.
    buffer: bool,
    tensor: Mutex<Tensor>,
    frozen: AtomicBool,
    /// The guards that freeze it as well.
    guards: AtomicUsize,
}

impl Parameter {
    /// A parameter with these elements, detached from their graph.
    ///
    /// # Errors
    /// A tensor of ids.
    #[track_caller]
    pub fn new(tensor: &Tensor) -> Result<Parameter> {
        // A leaf of its own, even if the tensor is one.
        let leaf = tensor.detach().requires_grad()?;
        Ok(Parameter::holding(leaf, false))
    }

    /// A cell for state that is not trained, such as running statistics. It has no gradient.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::Parameter};
    /// let mean = Parameter::buffer(&Tensor::zeros([3], &Device::cpu())?)?;
    /// assert!(mean.tensor().sum_all()?.backward().is_err()); // nothing here requires a gradient
    /// mean.set(&Tensor::ones([3], &Device::cpu())?)?;
    /// assert_eq!(mean.tensor().to_vec()?, [1.0; 3]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A tensor of ids.
    #[track_caller]
    pub fn buffer(tensor: &Tensor) -> Result<Parameter> {
        tensor.expect(DType::F32, "Parameter::buffer")?;
        Ok(Parameter::holding(tensor.detach(), true))
    }

    fn holding(tensor: Tensor, buffer: bool) -> Parameter {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let (frozen, guards) = (AtomicBool::new(false), AtomicUsize::new(0));
        Parameter(Arc::new(Cell { id, buffer, tensor: Mutex::new(tensor), frozen, guards }))
    }

    /// The current elements; later updates do not change the returned tensor.
    ///
    /// It is the key of the parameter's gradient in [`Gradients`](crate::Gradients). That of a frozen parameter is cut
    /// off from the graph.
    pub fn tensor(&self) -> Tensor {
        let tensor = self.lock().clone();
        if self.is_frozen() { tensor.detach() } else { tensor }
    }

    /// Keeps the elements as they are, as `requires_grad_(False)` in PyTorch: no gradient is computed for the parameter,
    /// and optimizers pass it by. Checkpoints contain it, and [`Parameter::set`] still changes it.
    ///
    /// It acts on the ops that read the parameter from now on, on all threads.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::Parameter};
    /// let ones = Tensor::ones([2], &Device::cpu())?;
    /// let (w, b) = (Parameter::new(&ones)?, Parameter::new(&ones)?);
    /// w.freeze();
    /// let gradients = w.tensor().add(&b.tensor())?.sum_all()?.backward()?;
    /// assert!(gradients.get(&w.tensor()).is_err() && gradients.get(&b.tensor()).is_ok());
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn freeze(&self) {
        self.0.frozen.store(true, Ordering::Relaxed);
    }

    /// Undoes [`Parameter::freeze`]. What a guard of [`Module::frozen`](super::Module::frozen) freezes stays frozen until
    /// the guard is dropped.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::Parameter};
    /// let w = Parameter::new(&Tensor::ones([2], &Device::cpu())?)?;
    /// w.freeze();
    /// assert!(w.is_frozen());
    /// w.unfreeze();
    /// assert!(!w.is_frozen());
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn unfreeze(&self) {
        self.0.frozen.store(false, Ordering::Relaxed);
    }

    /// Whether the parameter is frozen.
    pub fn is_frozen(&self) -> bool {
        self.0.frozen.load(Ordering::Relaxed) || self.0.guards.load(Ordering::Relaxed) > 0
    }

    /// Whether it is state that is not trained: made by [`Parameter::buffer`].
    pub(crate) fn is_buffer(&self) -> bool {
        self.0.buffer
    }

    /// The shape.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::Parameter};
    /// let w = Parameter::new(&Tensor::zeros([2, 3], &Device::cpu())?)?;
    /// assert_eq!(w.shape(), [2, 3]);
    /// assert_eq!(w.numel(), 6);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn shape(&self) -> Shape {
        self.lock().shape()
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.lock().numel()
    }

    /// Replaces the elements, and moves them to the parameter's device.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::Parameter};
    /// # let device = Device::cpu();
    /// let w = Parameter::new(&Tensor::zeros([2, 2], &device)?)?;
    /// w.set(&Tensor::ones([2, 2], &device)?)?;
    /// assert_eq!(w.tensor().to_vec()?, [1.0; 4]);
    /// assert!(w.set(&Tensor::ones([4], &device)?).is_err()); // another shape
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Another shape, a tensor of ids, or the device is out of memory. On error the parameter is unchanged.
    #[track_caller]
    pub fn set(&self, tensor: &Tensor) -> Result<()> {
        tensor.expect(DType::F32, "Parameter::set")?;
        let mut held = self.lock();
        if tensor.shape() != held.shape() {
            let message = format!("shape {} for a parameter of shape {}", tensor.shape(), held.shape());
            return Err(Error::shape("Parameter::set", message));
        }
        if dry_run::is_active() {
            return Ok(());
        }
        if tensor.is_absent() {
            return Err(absent("Parameter::set"));
        }
        let moved = tensor.to(held.device())?;
        held.show(&moved);
        Ok(())
    }

    /// Whether both are handles on the same cell.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::Parameter};
    /// let w = Parameter::new(&Tensor::zeros([2], &Device::cpu())?)?;
    /// let (handle, copy) = (w.clone(), Parameter::new(&w.tensor())?);
    /// assert!(handle.same(&w) && !copy.same(&w));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn same(&self, other: &Parameter) -> bool {
        self.id() == other.id()
    }

    /// A number that no other cell of the process has or had: optimizers keep state by it, which a later parameter must
    /// not inherit.
    pub(crate) fn id(&self) -> u64 {
        self.0.id
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
        self.0.tensor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Parameters frozen by [`Module::frozen`](super::Module::frozen), until it is dropped.
#[must_use = "the parameters are frozen until it is dropped"]
pub struct Frozen(Vec<Parameter>);

impl Frozen {
    pub(super) fn new(parameters: Vec<Parameter>) -> Frozen {
        for parameter in &parameters {
            parameter.0.guards.fetch_add(1, Ordering::Relaxed);
        }
        Frozen(parameters)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for parameter in &self.0 {
            parameter.0.guards.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not under the lock: a tensor is read for it.
        write!(f, "Parameter({:?})", self.tensor())
    }
}
