//! Buffers by size class, kept for reuse under a byte budget; the same for both devices.

use crate::{Error, Result};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a pool holds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryUse {
    /// Held by live tensors (size classes, not exact sizes).
    pub in_use: u64,
    /// Free, kept for reuse.
    pub cached: u64,
    /// The largest `in_use` so far.
    pub peak: u64,
}

#[derive(Debug)]
pub(crate) struct Pool<B> {
    state: Mutex<State<B>>,
    budget: u64,
}

#[derive(Debug)]
struct State<B> {
    free: BTreeMap<u64, Vec<B>>,
    memory: MemoryUse,
}

/// What [`Pool::take`] found.
pub(crate) enum Taken<B> {
    /// A buffer whose content is stale.
    Reused(B),
    /// None free: create one, or call [`Pool::forget`]; the bytes are counted already. `trimmed`: the free buffers were
    /// given up to make room.
    Create { trimmed: bool },
}

impl<B> Pool<B> {
    pub(crate) fn new(budget: u64) -> Pool<B> {
        Pool { state: Mutex::new(State { free: BTreeMap::new(), memory: MemoryUse::default() }), budget }
    }

    /// The size class of `bytes`: four classes to each power of two, so at most a quarter is wasted.
    pub(crate) fn class(bytes: u64) -> u64 {
        let bytes = bytes.max(256);
        let step = 1 << (bytes.ilog2() - 2);
        bytes.checked_next_multiple_of(step).unwrap_or(u64::MAX)
    }

    /// A free buffer of class `class`, or leave to create one.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where the budget does not allow it even with every free buffer given up.
    pub(crate) fn take(&self, class: u64, device: &str) -> Result<Taken<B>> {
        let mut state = self.lock();
        if let Some(buffer) = state.free.get_mut(&class).and_then(Vec::pop) {
            state.memory.cached -= class;
            state.memory.hold(class);
            return Ok(Taken::Reused(buffer));
        }
        let trimmed = self.hold(&mut state, class, device)?;
        Ok(Taken::Create { trimmed })
    }

    /// Counts memory that is not the pool's, until [`Pool::forget`].
    ///
    /// # Errors
    /// As [`Pool::take`].
    pub(crate) fn count(&self, bytes: u64, device: &str) -> Result<()> {
        self.hold(&mut self.lock(), bytes, device).map(drop)
    }

    /// Counts `bytes` more, and says whether the free buffers were given up for them.
    fn hold(&self, state: &mut State<B>, bytes: u64, device: &str) -> Result<bool> {
        let in_use = state.memory.in_use;
        let Some(after) = in_use.checked_add(bytes).filter(|&after| after <= self.budget) else {
            let device = device.to_string();
            return Err(Error::OutOfMemory {
                device,
                requested: bytes,
                in_use,
                budget: self.budget,
                line: None,
            });
        };
        let trimmed = after.saturating_add(state.memory.cached) > self.budget;
        if trimmed {
            state.free.clear();
            state.memory.cached = 0;
        }
        state.memory.hold(bytes);
        Ok(trimmed)
    }

    /// Takes a buffer back for reuse.
    pub(crate) fn give(&self, class: u64, buffer: B) {
        let mut state = self.lock();
        state.memory.in_use -= class;
        state.memory.cached += class;
        state.free.entry(class).or_default().push(buffer);
    }

    /// Uncounts a buffer that could not be created, or is not worth keeping.
    pub(crate) fn forget(&self, class: u64) {
        self.lock().memory.in_use -= class;
    }

    /// Frees every cached buffer.
    pub(crate) fn trim(&self) {
        let mut state = self.lock();
        state.free.clear();
        state.memory.cached = 0;
    }

    pub(crate) fn memory(&self) -> MemoryUse {
        self.lock().memory
    }

    pub(crate) fn budget(&self) -> u64 {
        self.budget
    }

    // No invariant spans a panic here, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryUse {
    fn hold(&mut self, class: u64) {
        self.in_use += class;
        self.peak = self.peak.max(self.in_use);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_waste_at_most_a_quarter() {
        for bytes in [1, 256, 257, 1000, 4096, 5000, 1 << 20, (1 << 20) + 1] {
            let class = Pool::<()>::class(bytes);
            assert!(class >= bytes && class.is_multiple_of(16));
            assert!(bytes < 256 || class <= bytes + bytes / 4 + 1, "{bytes} -> {class}");
        }
    }

    #[test]
    fn the_budget_answers_before_anything_is_created() {
        let pool = Pool::<()>::new(1024);
        assert!(matches!(pool.take(512, "t"), Ok(Taken::Create { trimmed: false })));
        assert!(matches!(pool.take(1024, "t"), Err(Error::OutOfMemory { in_use: 512, .. })));
        pool.give(512, ());
        assert!(matches!(pool.take(1024, "t"), Ok(Taken::Create { trimmed: true })));
        assert_eq!(pool.memory(), MemoryUse { in_use: 1024, cached: 0, peak: 1024 });
    }

    #[test]
    fn a_returned_buffer_is_reused() {
        let pool = Pool::new(1 << 20);
        assert!(matches!(pool.take(256, "t"), Ok(Taken::Create { trimmed: false })));
        pool.give(256, 7);
        assert!(matches!(pool.take(256, "t"), Ok(Taken::Reused(7))));
    }
}
