//! Running a model without its elements: shapes, checks and FLOPs alone.

use crate::Result;
use std::cell::Cell;

thread_local! {
    /// The FLOPs counted so far by the dry run of this thread, if there is one.
    static FLOPS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Runs `f` without computing: each op checks its inputs, and gives a tensor that has a shape but no elements and no
/// memory. Returns what `f` returns, and the floating-point operations that its ops would take.
///
/// It takes no memory and no time, however large the model is; only what no kernel can count, 2^32 elements, is refused as ever. A FLOP is one addition, multiplication, comparison or call
/// of a function such as `exp`; a multiply-add counts as two, moving an element as none
/// ([`Op::flops`](crate::op::Op::flops)).
///
/// Parameters, optimizers, running statistics, the masks of dropout and caches stay as they are, and so do tensors made before.
/// Reading a tensor that was made inside is an error, then and later. The dry run covers ops on this thread.
///
/// ```
/// # use gristmill::{Device, Tensor, dry_run};
/// # let device = Device::cpu();
/// let (shape, flops) = dry_run(|| {
///     let images = Tensor::zeros([1024, 3, 224, 224], &device)?;
///     let kernels = Tensor::zeros([64, 3, 7, 7], &device)?;
///     Ok(images.conv2d(&kernels, None, Default::default())?.relu()?.shape())
/// })?;
/// assert_eq!(shape, [1024, 64, 218, 218]); // 11.6 GiB, if it had elements
/// assert_eq!(flops, shape.numel() as u64 * (3 * 7 * 7 * 2 - 1 + 1)); // of each element: a sum of products, and relu
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// Those of `f`.
pub fn dry_run<T>(f: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    let run = Guard(FLOPS.replace(Some(0)));
    let result = f()?;
    let flops = counted();
    drop(run);
    Ok((result, flops))
}

/// Ends a dry run, also by a panic. What it counted counts in the dry run around it.
struct Guard(Option<u64>);

impl Drop for Guard {
    fn drop(&mut self) {
        FLOPS.set(self.0.map(|around| around.saturating_add(counted())));
    }
}

/// Whether this thread is in a dry run.
pub(crate) fn is_active() -> bool {
    FLOPS.get().is_some()
}

/// Counts an op.
pub(crate) fn count(flops: u64) {
    FLOPS.set(FLOPS.get().map(|sum| sum.saturating_add(flops)));
}

/// The FLOPs counted so far; 0 outside a dry run.
pub(crate) fn counted() -> u64 {
    FLOPS.get().unwrap_or(0)
}
