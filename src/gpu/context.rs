//! A GPU device: its buffers, its health, reading back.

use super::adapter::{AdapterKind, AdapterReport, Found, GpuOptions};
use super::checks::Checks;
use super::guard::Guard;
use super::limits::Limits;
use super::quirks::{self, Quirk, Variant};
use super::recorder::{RecordCounts, Recorder, State};
use crate::pool::{MemoryUse, Pool, Taken};
use crate::{Error, Result};
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// An open device of one adapter.
pub struct GpuDevice {
    pub(super) report: AdapterReport,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) limits: Limits,
    /// Whether kernels run as the worst adapter might run them.
    pub(super) worst_case: bool,
    /// Whether its kernels show where they go past the end of a buffer.
    pub(super) shows_out_of_bounds: bool,
    /// The kind of adapter that kernels are chosen for.
    pub(super) tuned_for: AdapterKind,
    quirks: Vec<&'static Quirk>,
    pub(super) pool: Pool<Raw>,
    health: Arc<Health>,
    state: Mutex<State>,
    is_gl: bool,
    /// Taken when the device is dropped. It stands last: all else is gone when it is given back.
    last_turn: Option<Turn>,
}

/// The right to use wgpu's GL devices, which one thread has at a time. They share one EGL context, behind a lock
/// that a busy device holds for as long as its kernels run, and that wgpu panics on after six seconds.
struct Turn(());

static TURN_TAKEN: Mutex<bool> = Mutex::new(false);
static TURN_GIVEN_BACK: Condvar = Condvar::new();

impl Turn {
    fn take() -> Turn {
        let mut taken = TURN_TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken {
            taken = TURN_GIVEN_BACK.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken = true;
        Turn(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TURN_TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = false;
        TURN_GIVEN_BACK.notify_one();
    }
}

/// A device's state, locked; whoever holds it may use wgpu.
pub(super) struct Locked<'d> {
    state: MutexGuard<'d, State>,
    _turn: Option<Turn>,
}

impl Deref for Locked<'_> {
    type Target = State;
    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

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
    /// Weak, because the device's own state holds such buffers.
    device: Weak<GpuDevice>,
    /// On a guarded device, what tells the guard that the buffer is still in use.
    watched: Option<Arc<()>>,
    /// What has to hold for its contents to be valid.
    pub(super) checks: Arc<Checks>,
}

/// What wgpu's callbacks have reported.
#[derive(Debug, Default)]
struct Health {
    lost: OnceLock<String>,
    error: Mutex<Option<wgpu::Error>>,
}

impl GpuDevice {
    /// Opens a device on the adapter.
    ///
    /// # Errors
    /// The driver refuses, or options that leave no workgroup.
    pub(crate) fn open(found: Found, options: &GpuOptions) -> Result<Arc<GpuDevice>> {
        let Found { report, adapter } = found;
        if options.max_workgroups == Some(0) {
            return Err(Error::argument("GpuOptions", "max_workgroups is 0, should be at least 1"));
        }
        let wanted = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SUBGROUP;
        let asked = options.limits.of(adapter.limits());
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("gristmill"),
            required_features: adapter.features() & wanted,
            required_limits: asked.clone(),
            ..Default::default()
        };
        let is_gl = adapter.get_info().backend == wgpu::Backend::Gl;
        let _turn = is_gl.then(Turn::take);
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|e| Error::Adapter { message: format!("{} can not be opened: {e}", report.id) })?;

        let health = Arc::new(Health::default());
        let seen = health.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            seen.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }));
        let seen = health.clone();
        device.set_device_lost_callback(move |reason, message| {
            let _ = seen.lost.set(format!("{reason:?} {message}").trim().to_string());
        });

        let budget = match options.memory_budget {
            Some(bytes) => bytes,
            None => default_budget(report.kind)?,
        };
        let state = Mutex::new(State::new(&device, &asked, options.guarded));
        let mut limits = Limits::new(&asked);
        limits.workgroups = limits.workgroups.min(options.max_workgroups.unwrap_or(u32::MAX));
        let tuned_for = options.tune_for.unwrap_or(report.kind);
        let pool = Pool::new(budget);
        Ok(Arc::new(GpuDevice {
            quirks: quirks::of(&report, options.quirks),
            report,
            device,
            queue,
            limits,
            worst_case: options.worst_case,
            shows_out_of_bounds: options.worst_case && options.guarded,
            tuned_for,
            pool,
            health,
            state,
            is_gl,
            last_turn: None,
        }))
    }

    /// The adapter.
    pub fn adapter(&self) -> &AdapterReport {
        &self.report
    }

    /// The limits that it keeps to.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The known faults of its driver.
    pub fn quirks(&self) -> &[&'static Quirk] {
        &self.quirks
    }

    /// Whether no known fault forbids a variant.
    pub(super) fn allows(&self, variant: Variant) -> bool {
        quirks::allow(&self.quirks, variant)
    }

    /// The bytes that its pool holds.
    pub fn memory(&self) -> MemoryUse {
        self.pool.memory()
    }

    /// The byte budget.
    pub fn memory_budget(&self) -> u64 {
        self.pool.budget()
    }

    /// What it has been asked to do since it was opened.
    pub fn counts(&self) -> RecordCounts {
        self.lock().counts
    }

    /// Whether it was lost; then every use answers [`Error::DeviceLost`].
    pub fn is_lost(&self) -> bool {
        self.health.lost.get().is_some()
    }

    /// Frees the buffers kept for reuse.
    pub fn trim(&self) {
        let mut state = self.lock();
        self.pool.trim();
        state.forget_bind_groups();
    }

    /// Starts recording the commands of an op.
    ///
    /// # Errors
    /// The device is lost, or failed (reported once).
    pub(crate) fn record(self: &Arc<GpuDevice>) -> Result<Recorder<'_>> {
        self.check()?;
        Ok(Recorder::new(self))
    }

    /// Every use of wgpu is under this lock: on GL it is the process's, elsewhere the device's.
    pub(super) fn lock(&self) -> Locked<'_> {
        // A panic inside wgpu leaves at worst a batch that its next submit refuses with an error.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { state, _turn: self.is_gl.then(Turn::take) }
    }

    /// An error that a callback has reported since the last call; [`Error::DeviceLost`] for ever after a loss.
    pub(super) fn check(&self) -> Result<()> {
        let error = self.health.error.lock().unwrap_or_else(PoisonError::into_inner).take();
        if error.is_some() {
            self.notice_loss();
        }
        if let Some(reason) = self.health.lost.get() {
            return Err(Error::DeviceLost { device: self.report.id.clone(), reason: reason.clone() });
        }
        error.map_or(Ok(()), |error| Err(self.translate(&error, 0)))
    }

    /// A lost device reports validation errors first, and its loss when it is waited for.
    fn notice_loss(&self) {
        let _ = self.poll(None);
    }

    /// Waits for a submission, or for all.
    ///
    /// # Errors
    /// The device is lost, or an earlier command failed.
    pub(super) fn wait(&self, submission: Option<&wgpu::SubmissionIndex>) -> Result<()> {
        let polled = self.poll(submission);
        self.check()?;
        polled
    }

    fn poll(&self, submission: Option<&wgpu::SubmissionIndex>) -> Result<()> {
        let wait = || wgpu::PollType::Wait { submission_index: submission.cloned(), timeout: None };
        loop {
            // wgpu panics when the driver answers with an error, such as a reset, once its own locks are free again.
            match catch_unwind(AssertUnwindSafe(|| self.device.poll(wait()))) {
                Ok(Ok(_)) => return Ok(()),
                // GL gives up after two seconds, whatever it is told.
                Ok(Err(wgpu::PollError::Timeout)) => {}
                Ok(Err(error)) => {
                    return Err(Error::Gpu { message: format!("waiting for the device: {error}") });
                }
                Err(_) => {
                    let _ = self.health.lost.set("the driver failed while it was waited for".to_string());
                    return Ok(());
                }
            }
        }
    }

    /// Memory for `words` 4-byte words, with stale content.
    ///
    /// # Errors
    /// Over the adapter's largest binding, over the budget, or the device is out of memory or lost.
    pub(crate) fn allocate(self: &Arc<GpuDevice>, words: usize) -> Result<GpuBuffer> {
        self.allocate_in(&mut self.lock(), words)
    }

    /// As [`GpuDevice::allocate`], for who has the lock.
    pub(super) fn allocate_in(self: &Arc<GpuDevice>, state: &mut State, words: usize) -> Result<GpuBuffer> {
        self.check()?;
        let bytes = words as u64 * 4;
        let limit = self.limits.binding_bytes;
        if bytes > limit {
            let device = self.report.id.clone();
            return Err(Error::Limit { device, what: "a buffer's size in bytes", requested: bytes, limit });
        }
        let guarded = state.guard.is_some();
        let size = if guarded { Guard::size(bytes) } else { Pool::<Raw>::class(bytes) }.min(limit);
        let raw = match self.pool.take(size, &self.report.id)? {
            Taken::Reused(raw) => raw,
            Taken::Create { trimmed } => {
                if trimmed {
                    state.forget_bind_groups();
                }
                let made = match self.create(size) {
                    // What is kept for reuse, or waits in the batch to be freed, may make room.
                    Err(Error::OutOfMemory { .. }) => {
                        self.pool.trim();
                        state.forget_bind_groups();
                        state.finish(self).and_then(|_| self.create(size))
                    }
                    made => made,
                };
                made.inspect_err(|_| self.pool.forget(size))?
            }
        };
        let watched =
            Guard::watch(self, state, &raw.buffer, words).inspect_err(|_| self.pool.forget(size))?;
        let checks = Arc::default();
        Ok(GpuBuffer { raw: Some(raw), size, device: Arc::downgrade(self), watched, checks })
    }

    fn create(&self, bytes: u64) -> Result<Raw> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let buffer = self.caught(bytes, || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes,
                usage,
                mapped_at_creation: false,
            })
        })?;
        Ok(Raw { buffer, id: NEXT.fetch_add(1, Ordering::Relaxed) })
    }

    /// Runs `create`, which takes so many bytes, and returns what wgpu has to say against it as an error of ours.
    pub(super) fn caught<T>(&self, bytes: u64, create: impl FnOnce() -> T) -> Result<T> {
        let scopes =
            [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation]
                .map(|filter| self.device.push_error_scope(filter));
        let made = create();
        let errors =
            scopes.into_iter().rev().map(|scope| pollster::block_on(scope.pop())).collect::<Vec<_>>();
        match errors.into_iter().flatten().next() {
            None => Ok(made),
            Some(error) => {
                self.notice_loss();
                self.check()?;
                Err(self.translate(&error, bytes))
            }
        }
    }

    fn translate(&self, error: &wgpu::Error, requested: u64) -> Error {
        match error {
            wgpu::Error::OutOfMemory { .. } => Error::OutOfMemory {
                device: self.report.id.clone(),
                requested,
                in_use: self.pool.memory().in_use,
                budget: self.pool.budget(),
            },
            other => Error::Gpu { message: other.to_string() },
        }
    }

    /// A buffer that holds `data`.
    ///
    /// # Errors
    /// As [`GpuDevice::allocate`].
    pub(crate) fn upload(self: &Arc<GpuDevice>, data: &[u32]) -> Result<GpuBuffer> {
        let buffer = self.allocate(data.len())?;
        self.record()?.upload(&buffer, data)?;
        Ok(buffer)
    }

    /// The first `words` words of a buffer from word `offset` on. Submits what is recorded and waits for it.
    ///
    /// # Errors
    /// The device is lost or out of memory, or a kernel failed that these words were computed by.
    pub(crate) fn read(
        self: &Arc<GpuDevice>,
        buffer: &GpuBuffer,
        offset: usize,
        words: usize,
    ) -> Result<Vec<u32>> {
        if words == 0 {
            // Waits all the same, so that recorded uploads do not pile up.
            self.check()?;
            self.lock().finish(self)?;
            return buffer.checks.result().map(|()| Vec::new());
        }
        self.record()?.read(buffer, offset, words)
    }

    /// Submits what is recorded and waits until the device has done it.
    ///
    /// # Errors
    /// The device is lost, or wgpu rejected commands since the last call. Ids that were out of range are errors of the
    /// tensors computed from them, not of this.
    pub fn synchronize(&self) -> Result<()> {
        let mut state = self.lock();
        self.check()?;
        state.finish(self)?;
        state.rejected.take().map_or(Ok(()), Err)
    }

    /// Destroys the device, as a driver reset would: every later use answers [`Error::DeviceLost`].
    pub fn destroy(&self) {
        self.device.destroy();
        let _ = self.health.lost.set("destroyed by the program".to_string());
    }
}

impl Drop for GpuDevice {
    fn drop(&mut self) {
        self.last_turn = self.is_gl.then(Turn::take);
    }
}

impl std::fmt::Debug for GpuDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GpuDevice({})", self.report.id)
    }
}

impl GpuBuffer {
    pub(super) fn raw(&self) -> Result<&Raw> {
        self.raw
            .as_ref()
            .ok_or_else(|| Error::Gpu { message: "a buffer was used after its release".to_string() })
    }

    /// Whether it is memory of this device.
    pub(super) fn is_of(&self, device: &Arc<GpuDevice>) -> bool {
        std::ptr::eq(self.device.as_ptr(), Arc::as_ptr(device))
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
        let (Some(raw), Some(device)) = (self.raw.take(), self.device.upgrade()) else { return };
        match self.watched {
            // Commands run in the order they were recorded, so a later user of the memory can't overtake this one.
            None => device.pool.give(self.size, raw),
            Some(_) => device.pool.forget(self.size),
        }
    }
}

/// `GRISTMILL_MEMORY_BUDGET` in bytes, else a bound where the adapter overcommits instead of refusing.
fn default_budget(kind: AdapterKind) -> Result<u64> {
    match kind {
        AdapterKind::Hardware => crate::device::budget_from_env().map(|b| b.unwrap_or(u64::MAX)),
        AdapterKind::Software => crate::device::host_budget(),
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
            device.device.destroy();
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
            device.lock().copy(&device, (raw, 0), (raw, 1 << 20), 8);
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
