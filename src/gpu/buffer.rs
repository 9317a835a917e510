//! Device memory.

use super::checks::Checks;
use crate::pool::Pool;
use crate::{Error, Result};
use std::sync::{Arc, Weak};

/// A wgpu buffer with a number that bind groups are cached by.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) buffer: wgpu::Buffer,
    pub(super) id: u64,
}

/// Words of device memory; given back to the device's pool when dropped.
pub struct GpuBuffer {
    // Always `Some` until drop.
    raw: Option<Raw>,
    /// Its size in bytes.
    size: u64,
    /// Weak, because a buffer may outlive its device, and does not keep the memory that the pool holds.
    pool: Weak<Pool<Raw>>,
    /// On a guarded device, what tells the guard that the buffer is still in use.
    watched: Option<Arc<()>>,
    /// What has to hold for its contents to be valid.
    pub(super) checks: Arc<Checks>,
}

impl GpuBuffer {
    /// `raw`, of so many bytes, from this pool.
    pub(super) fn new(raw: Raw, size: u64, pool: &Arc<Pool<Raw>>, watched: Option<Arc<()>>) -> GpuBuffer {
        GpuBuffer { raw: Some(raw), size, pool: Arc::downgrade(pool), watched, checks: Arc::default() }
    }

    pub(super) fn raw(&self) -> Result<&Raw> {
        self.raw
            .as_ref()
            .ok_or_else(|| Error::Gpu { message: "a buffer was used after its release".to_string() })
    }

    /// Whether it is memory of this pool.
    pub(super) fn is_of(&self, pool: &Arc<Pool<Raw>>) -> bool {
        std::ptr::eq(self.pool.as_ptr(), Arc::as_ptr(pool))
    }

    /// Its size in bytes, at least what was asked for.
    pub fn bytes(&self) -> u64 {
        self.size
    }
}

impl std::fmt::Debug for GpuBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GpuBuffer({} bytes)", self.size)
    }
}

impl Drop for GpuBuffer {
    fn drop(&mut self) {
        let (Some(raw), Some(pool)) = (self.raw.take(), self.pool.upgrade()) else { return };
        match self.watched {
            // Commands run in the order they were recorded, so a later user of the memory can't overtake this one.
            None => pool.give(self.size, raw),
            Some(_) => pool.forget(self.size),
        }
    }
}
