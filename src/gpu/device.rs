//! A GPU device: memory, uploads, read-back.

use super::adapter::{AdapterReport, Found};
use super::batch::{Batch, RecordCounts};
use super::buffer::{GpuBuffer, Raw};
use super::guard::Guard;
use super::handle::{Handle, Turn};
use super::limits::Limits;
use super::options::GpuOptions;
use super::profiler::{Profile, Profiler};
use super::quirks::Quirk;
use crate::pool::{MemoryUse, Pool, Taken};
use crate::{Error, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An open device of one adapter.
pub struct GpuDevice {
    pub(super) handle: Handle,
    state: Mutex<State>,
    /// Taken when the device is dropped. It stands last: all else is gone when it is given back.
    last_turn: Option<Turn>,
}

/// What the device's lock protects.
pub(super) struct State {
    pub(super) batch: Batch,
    /// On a guarded device, the buffers that are watched.
    guard: Option<Guard>,
}

/// A device's state, locked; whoever holds it may use wgpu.
pub(super) struct Locked<'d> {
    pub(super) state: MutexGuard<'d, State>,
    _turn: Option<Turn>,
}

impl GpuDevice {
    /// Opens a device on the adapter.
    ///
    /// # Errors
    /// The driver refuses, or options that leave no workgroup.
    pub(crate) fn open(found: Found, options: &GpuOptions) -> Result<Arc<GpuDevice>> {
        let handle = Handle::open(found, options)?;
        let _turn = handle.turn();
        let state = State { batch: Batch::new(&handle), guard: options.guarded.then(Guard::default) };
        Ok(Arc::new(GpuDevice { handle, state: Mutex::new(state), last_turn: None }))
    }

    /// The adapter.
    pub fn adapter(&self) -> &AdapterReport {
        &self.handle.report
    }

    /// The limits that it keeps to.
    pub fn limits(&self) -> Limits {
        self.handle.limits
    }

    /// The known faults of its driver.
    pub fn quirks(&self) -> &[&'static Quirk] {
        &self.handle.quirks
    }

    /// The bytes that its pool holds.
    pub fn memory(&self) -> MemoryUse {
        self.handle.pool.memory()
    }

    /// The byte budget.
    pub fn memory_budget(&self) -> u64 {
        self.handle.pool.budget()
    }

    /// What it has been asked to do since it was opened.
    pub fn counts(&self) -> RecordCounts {
        self.lock().state.batch.counts
    }

    /// Whether it was lost; then every use answers [`Error::DeviceLost`].
    pub fn is_lost(&self) -> bool {
        self.handle.is_lost()
    }

    /// Frees the buffers kept for reuse.
    pub fn trim(&self) {
        let batch = &mut self.lock().state.batch;
        self.handle.pool.trim();
        batch.cache.forget_bind_groups();
    }

    /// Every use of wgpu is under this lock: on GL it is the process's, elsewhere the device's.
    pub(super) fn lock(&self) -> Locked<'_> {
        // A panic inside wgpu leaves at worst a batch that its next submit refuses with an error.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { state, _turn: self.handle.turn() }
    }

    /// Memory for `words` 4-byte words, with stale content.
    ///
    /// # Errors
    /// Over the adapter's largest binding, over the budget, or the device is out of memory or lost.
    pub(crate) fn allocate(&self, words: usize) -> Result<GpuBuffer> {
        let State { batch, guard } = &mut *self.lock().state;
        let handle = &self.handle;
        handle.check()?;
        let bytes = words as u64 * 4;
        let limit = handle.limits.binding_bytes;
        if bytes > limit {
            let device = handle.report.id.clone();
            return Err(Error::Limit {
                device,
                what: "a buffer's size in bytes",
                requested: bytes,
                limit,
                line: None,
            });
        }
        let size = if guard.is_some() { Guard::size(bytes) } else { Pool::<Raw>::class(bytes) }.min(limit);
        let raw = match handle.pool.take(size, &handle.report.id)? {
            Taken::Reused(raw) => raw,
            Taken::Create { trimmed } => {
                if trimmed {
                    batch.cache.forget_bind_groups();
                }
                let made = match handle.create(size) {
                    // What is kept for reuse, or waits in the batch to be freed, may make room.
                    Err(Error::OutOfMemory { .. }) => {
                        handle.pool.trim();
                        batch.cache.forget_bind_groups();
                        batch.finish(handle).and_then(|_| handle.create(size))
                    }
                    made => made,
                };
                made.inspect_err(|_| handle.pool.forget(size))?
            }
        };
        let watched = guard.as_mut().map(|guard| guard.watch(handle, batch, &raw.buffer, words));
        let watched = watched.transpose().inspect_err(|_| handle.pool.forget(size))?;
        Ok(GpuBuffer::new(raw, size, &handle.pool, watched))
    }

    /// A buffer that holds `data`.
    ///
    /// # Errors
    /// As [`GpuDevice::allocate`].
    pub(crate) fn upload(&self, data: &[u32]) -> Result<GpuBuffer> {
        let buffer = self.allocate(data.len())?;
        let batch = &mut self.lock().state.batch;
        batch.written.push(buffer.checks.clone());
        batch.upload(&self.handle, &buffer.raw()?.buffer, data)?;
        Ok(buffer)
    }

    /// The first `words` words of a buffer from word `offset` on. Submits what is recorded and waits for it.
    ///
    /// # Errors
    /// The device is lost or out of memory, or a kernel failed that these words were computed by.
    pub(crate) fn read(&self, buffer: &GpuBuffer, offset: usize, words: usize) -> Result<Vec<u32>> {
        let handle = &self.handle;
        handle.check()?;
        if words == 0 {
            // Waits all the same, so that recorded uploads do not pile up.
            self.lock().state.batch.finish(handle)?;
            return buffer.checks.result().map(|()| Vec::new());
        }
        buffer.checks.result()?;
        let State { batch, guard } = &mut *self.lock().state;
        if let Some(guard) = guard {
            guard.check(handle, batch)?;
        }
        let bytes = words as u64 * 4;
        let staging = handle.staging(bytes)?;
        let source = &buffer.raw()?.buffer;
        let mut copied = || {
            batch.copy(handle, (source, offset as u64 * 4), (&staging, 0), bytes);
            let rejected = batch.finish(handle)?;
            buffer.checks.result().map(|()| rejected)
        };
        // A batch that wgpu rejects takes the copy along: then once more, in a batch of its own.
        if copied()?.is_some()
            && let Some(error) = copied()?
        {
            return Err(error);
        }
        handle.map(&staging)
    }

    /// Submits what is recorded and waits until the device has done it.
    ///
    /// # Errors
    /// The device is lost, or wgpu rejected commands since the last call. Ids that were out of range are errors of the
    /// tensors computed from them, not of this.
    pub fn synchronize(&self) -> Result<()> {
        let batch = &mut self.lock().state.batch;
        self.handle.check()?;
        batch.finish(&self.handle)?;
        batch.rejected.take().map_or(Ok(()), Err)
    }

    /// Runs `work` and times each dispatch that it records. Dispatches run in a pass each, which costs a little.
    ///
    /// # Errors
    /// What `work` returns, or a device that fails.
    pub fn profile<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Profile)> {
        self.synchronize()?;
        let mut locked = self.lock();
        locked.state.batch.profiler = Some(Profiler::new(&self.handle));
        drop(locked);
        let result = work();
        let synced = self.synchronize();
        let profiler = self.lock().state.batch.profiler.take();
        let value = result?;
        synced?;
        Ok((value, Profile { timings: profiler.map(|p| p.done).unwrap_or_default() }))
    }

    /// Destroys the device, as a driver reset would: every later use answers [`Error::DeviceLost`].
    pub fn destroy(&self) {
        self.handle.destroy();
    }
}

impl Drop for GpuDevice {
    fn drop(&mut self) {
        self.last_turn = self.handle.turn();
    }
}

impl std::fmt::Debug for GpuDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GpuDevice({})", self.handle.report.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{find, find_best};

    /// A device of its own; `None` where the CPU twins are tested.
    fn device() -> Option<Arc<GpuDevice>> {
        let found = match std::env::var("GRISTMILL_DEVICE") {
            Err(_) => find_best(),
            Ok(name) if name == "cpu" => return None,
            Ok(name) if name == "gpu" => find_best(),
            Ok(name) => find(&name),
        };
        Some(GpuDevice::open(found.unwrap(), &GpuOptions::default()).unwrap())
    }

    type Use = fn(&Arc<GpuDevice>, &GpuBuffer) -> Result<()>;

    #[test]
    fn a_loss_that_nobody_announced_is_noticed_by_what_waits() {
        let uses: [Use; 3] = [
            |device, buffer| device.read(buffer, 0, 2).map(drop),
            |device, _| device.upload(&[3]).map(drop),
            |device, _| device.synchronize(),
        ];
        for first in uses {
            let Some(device) = device() else { return };
            let buffer = device.upload(&[1, 2]).unwrap();
            // As a driver that is reset: wgpu alone knows, and does not say.
            device.handle.device.destroy();
            assert!(!device.is_lost());
            for again in [first].into_iter().chain(uses) {
                assert!(matches!(again(&device, &buffer), Err(Error::DeviceLost { .. })));
            }
            assert!(device.is_lost() && device.allocate(1).is_err());
        }
    }

    #[test]
    fn a_rejected_batch_is_an_error_of_what_it_was_to_write_and_of_nothing_else() {
        let Some(device) = device() else { return };
        let before = device.upload(&[1, 2]).unwrap();
        assert_eq!(device.read(&before, 0, 2).unwrap(), [1, 2]);
        for read_innocent_first in [true, false] {
            let written = device.upload(&[3, 4]).unwrap();
            let raw = &before.raw().unwrap().buffer;
            // Past the end: wgpu rejects the copy, and with it the batch.
            device.lock().state.batch.copy(&device.handle, (raw, 0), (raw, 1 << 20), 8);
            if read_innocent_first {
                assert_eq!(device.read(&before, 0, 2).unwrap(), [1, 2]);
            }
            for _ in 0..2 {
                match device.read(&written, 0, 2) {
                    Err(Error::Gpu { message }) => assert!(message.contains("rejected"), "{message}"),
                    other => panic!("{other:?}"),
                }
            }
            assert!(matches!(device.synchronize(), Err(Error::Gpu { .. })), "once");
            assert!(device.synchronize().is_ok() && !device.is_lost());
            assert_eq!(device.read(&before, 0, 2).unwrap(), [1, 2]);
        }
        assert_eq!(device.upload(&[7, 8]).and_then(|fresh| device.read(&fresh, 0, 2)).unwrap(), [7, 8]);
    }
}
