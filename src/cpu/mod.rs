//! The CPU device: its memory, and what the CPU twins share.

pub(crate) mod functions;
mod gemm;
pub(crate) mod simd;
pub(crate) mod walk;

pub(crate) use gemm::{Matrix, gemm};

use crate::pool::{MemoryUse, Pool, Taken};
use crate::{Error, Result};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        let bytes = (len as u64).saturating_mul(4);
        let class = Pool::<Vec<f32>>::class(bytes);
        let words = match self.pool.take(class, "cpu")? {
            Taken::Reused(words) => words,
            Taken::Create { .. } => {
                let whole = (class / 4) as usize;
                let mut fresh = Vec::new();
                if fresh.try_reserve_exact(whole).is_err() {
                    self.pool.forget(class);
                    return Err(Error::OutOfMemory {
                        device: "cpu".to_string(),
                        requested: class,
                        in_use: self.pool.memory().in_use,
                        budget: self.pool.budget(),
                    });
                }
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
