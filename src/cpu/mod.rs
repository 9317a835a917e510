//! The CPU device: its memory, and what the CPU twins share.

pub(crate) mod functions;
mod gemm;
mod operand;
pub(crate) mod simd;
pub(crate) mod strided;

pub(crate) use gemm::{Matrix, gemm};
pub use operand::{CpuOut, CpuView};

use crate::budget::host_budget;
use crate::pool::{MemoryUse, Pool, Taken};
use crate::{Error, Result};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The CPU: memory under a budget, and a count of the twins run. Work goes to rayon's global thread pool.
#[derive(Debug)]
pub struct CpuDevice {
    pool: Pool<Vec<f32>>,
    /// Why it has no budget and allocates nothing.
    refused: Option<Error>,
    ops: AtomicU64,
}

/// Words of host memory, given back to the pool when dropped. Class ids are kept as their bits. As a slice it has as
/// many words as were asked for.
#[derive(Debug)]
pub struct CpuBuffer {
    /// Of the size class's length.
    pub(crate) words: Vec<f32>,
    len: usize,
    class: u64,
    device: Arc<CpuDevice>,
}

impl CpuDevice {
    pub(crate) fn new(budget: Result<u64>) -> CpuDevice {
        let (budget, refused) = budget.map_or_else(|error| (0, Some(error)), |budget| (budget, None));
        CpuDevice { pool: Pool::new(budget), refused, ops: AtomicU64::new(0) }
    }

    /// The bytes that its pool holds.
    pub fn memory(&self) -> MemoryUse {
        self.pool.memory()
    }

    /// Frees the buffers kept for reuse.
    pub fn trim(&self) {
        self.pool.trim();
    }

    /// How many CPU twins have run.
    pub fn ops_run(&self) -> u64 {
        self.ops.load(Ordering::Relaxed)
    }

    pub(crate) fn count_op(&self) {
        self.ops.fetch_add(1, Ordering::Relaxed);
    }

    /// Memory of `words` words for a CPU twin to work in, with stale content. It counts in the budget until it is dropped.
    ///
    /// # Errors
    /// Over the budget, or the machine is out of memory.
    pub fn scratch(self: &Arc<CpuDevice>, words: usize) -> Result<CpuBuffer> {
        self.allocate(words)
    }

    /// Memory for `words` words, with stale content.
    ///
    /// # Errors
    /// Over the budget, or the machine is out of memory; or the budget that the environment asks for is no size.
    pub(crate) fn allocate(self: &Arc<CpuDevice>, len: usize) -> Result<CpuBuffer> {
        self.usable()?;
        let bytes = (len as u64).saturating_mul(4);
        let class = Pool::<Vec<f32>>::class(bytes);
        let words = match self.pool.take(class, "cpu")? {
            Taken::Reused(words) => words,
            Taken::Create { .. } => {
                let whole = (class / 4) as usize;
                let mut fresh = Vec::new();
                self.reserve(&mut fresh, whole, class).inspect_err(|_| self.pool.forget(class))?;
                fresh.resize(whole, 0.0);
                fresh
            }
        };
        let mut buffer = CpuBuffer { words, len, class, device: self.clone() };
        if cfg!(debug_assertions) {
            buffer.words.fill(f32::NAN); // an output that a twin leaves unwritten shows in tests
        }
        Ok(buffer)
    }

    /// As [`CpuDevice::scratch`], for what is no words: the first `len` of `items`.
    ///
    /// # Errors
    /// As [`CpuDevice::scratch`].
    pub(crate) fn list<T>(
        self: &Arc<CpuDevice>,
        len: usize,
        items: impl IntoIterator<Item = T>,
    ) -> Result<CpuList<T>> {
        let claim = self.claim((len as u64).saturating_mul(size_of::<T>() as u64))?;
        let mut list = CpuList { items: Vec::new(), claim };
        self.reserve(&mut list.items, len, list.claim.bytes)?;
        list.items.extend(items.into_iter().take(len));
        Ok(list)
    }

    /// As [`CpuDevice::list`], of `len` times the same.
    ///
    /// # Errors
    /// As [`CpuDevice::scratch`].
    pub(crate) fn filled<T: Clone>(self: &Arc<CpuDevice>, value: T, len: usize) -> Result<CpuList<T>> {
        self.list(len, std::iter::repeat_n(value, len))
    }

    /// Counts memory that is asked for elsewhere.
    ///
    /// # Errors
    /// Over the budget.
    pub(crate) fn claim(self: &Arc<CpuDevice>, bytes: u64) -> Result<Claim> {
        self.usable()?;
        self.pool.count(bytes, "cpu")?;
        Ok(Claim { bytes, device: self.clone() })
    }

    /// An empty list with room for `len` items, for someone who is not the device: it counts in no budget.
    ///
    /// # Errors
    /// More than the whole budget, or the machine is out of memory.
    pub(crate) fn uncounted<T>(&self, len: usize) -> Result<Vec<T>> {
        self.usable()?;
        let bytes = (len as u64).saturating_mul(size_of::<T>() as u64);
        let mut list = Vec::new();
        if bytes > self.pool.budget() {
            return Err(self.exhausted(bytes));
        }
        self.reserve(&mut list, len, bytes)?;
        Ok(list)
    }

    /// Room for `len` items, `bytes` bytes.
    fn reserve<T>(&self, items: &mut Vec<T>, len: usize, bytes: u64) -> Result<()> {
        if items.try_reserve_exact(len).is_ok() {
            return Ok(());
        }
        self.trim(); // the memory kept for reuse may be what is missing
        items.try_reserve_exact(len).map_err(|_| self.exhausted(bytes))
    }

    /// The error of a budget that was no size.
    fn usable(&self) -> Result<()> {
        self.refused.clone().map_or(Ok(()), Err)
    }

    fn exhausted(&self, requested: u64) -> Error {
        let (in_use, budget) = (self.pool.memory().in_use, self.pool.budget());
        Error::OutOfMemory { device: "cpu".to_string(), requested, in_use, budget, line: None }
    }
}

/// The CPU, which all handles of [`Device::cpu`](crate::Device::cpu) share.
pub(crate) fn host() -> &'static Arc<CpuDevice> {
    static CPU: OnceLock<Arc<CpuDevice>> = OnceLock::new();
    CPU.get_or_init(|| Arc::new(CpuDevice::new(host_budget())))
}

/// An empty list on the host with room for `len` items, where a number that someone chose decides how many.
///
/// # Errors
/// More than the budget of the CPU, or the machine is out of memory.
pub(crate) fn host_list<T>(len: usize) -> Result<Vec<T>> {
    host().uncounted(len)
}

/// Memory that counts in the budget until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    bytes: u64,
    device: Arc<CpuDevice>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.device.pool.forget(self.bytes);
    }
}

/// What a CPU twin works with that is no words. It counts in the budget until it is dropped.
#[derive(Debug)]
pub(crate) struct CpuList<T> {
    items: Vec<T>,
    claim: Claim, // dropped after the items
}

impl<T> Deref for CpuList<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T> DerefMut for CpuList<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items
    }
}

impl Deref for CpuBuffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.words[..self.len]
    }
}

impl DerefMut for CpuBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.words[..self.len]
    }
}

impl Drop for CpuBuffer {
    fn drop(&mut self) {
        self.device.pool.give(self.class, std::mem::take(&mut self.words));
    }
}
