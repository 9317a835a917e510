//! A GPU device: its buffers, its health, reading back.

use super::adapter::{AdapterKind, AdapterReport, Found, GpuOptions};
use super::recorder::{RecordCounts, Recorder, State};
use crate::pool::{MemoryUse, Pool, Taken};
use crate::{Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// An open device of one adapter.
pub struct GpuDevice {
    pub(super) report: AdapterReport,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) limits: wgpu::Limits,
    /// The kind of adapter that kernels are chosen for.
    pub(super) tuned_for: AdapterKind,
    pub(super) health: Arc<Health>,
    pool: Pool<Raw>,
    state: Mutex<State>,
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
    class: u64,
    device: Arc<GpuDevice>,
}

/// What wgpu's callbacks have reported.
#[derive(Debug, Default)]
pub(super) struct Health {
    lost: OnceLock<String>,
    error: Mutex<Option<Error>>,
}

impl GpuDevice {
    /// Opens a device on the adapter.
    ///
    /// # Errors
    /// The driver refuses.
    pub(crate) fn open(found: Found, options: &GpuOptions) -> Result<Arc<GpuDevice>> {
        let Found { report, adapter } = found;
        let wanted = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SUBGROUP;
        let mut limits = adapter.limits();
        if options.webgpu_limits {
            limits = limits.or_worse_values_from(&wgpu::Limits::default());
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("gristmill"),
            required_features: adapter.features() & wanted,
            required_limits: limits.clone(),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|e| Error::Adapter { message: format!("{} can not be opened: {e}", report.id) })?;
        if let Some(most) = options.max_workgroups {
            limits.max_compute_workgroups_per_dimension =
                most.min(limits.max_compute_workgroups_per_dimension);
        }

        let health = Arc::new(Health::default());
        let seen = health.clone();
        device.on_uncaptured_error(Arc::new(move |error| seen.report(&error)));
        let seen = health.clone();
        device.set_device_lost_callback(move |reason, message| {
            let _ = seen.lost.set(format!("{reason:?} {message}").trim().to_string());
        });

        let budget = match options.memory_budget {
            Some(bytes) => bytes,
            None => default_budget(report.kind)?,
        };
        let state = Mutex::new(State::new(&device, &limits));
        let tuned_for = options.tune_for.unwrap_or(report.kind);
        let pool = Pool::new(budget);
        Ok(Arc::new(GpuDevice { report, device, queue, limits, tuned_for, health, pool, state }))
    }

    /// The adapter.
    pub fn adapter(&self) -> &AdapterReport {
        &self.report
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
        self.pool.trim();
        self.lock().forget_bind_groups();
    }

    /// Starts recording; other threads wait until the recorder is dropped.
    ///
    /// # Errors
    /// The device is lost, or an earlier batch failed (reported once).
    pub(crate) fn record(self: &Arc<GpuDevice>) -> Result<Recorder<'_>> {
        self.check()?;
        Ok(Recorder::new(self, self.lock()))
    }

    /// An error that a callback has reported since the last call; [`Error::DeviceLost`] for ever after a loss.
    pub(super) fn check(&self) -> Result<()> {
        let error = self.health.error.lock().unwrap_or_else(PoisonError::into_inner).take();
        if error.is_some() {
            // A lost device reports validation errors first, and its loss only at a poll.
            let _ = self.device.poll(wgpu::PollType::Poll);
        }
        if let Some(reason) = self.health.lost.get() {
            return Err(Error::DeviceLost { device: self.report.id.clone(), reason: reason.clone() });
        }
        error.map_or(Ok(()), Err)
    }

    /// Memory for `words` 4-byte words, with stale content.
    ///
    /// # Errors
    /// Over the adapter's largest binding, over the budget, or the device is out of memory or lost.
    pub(crate) fn allocate(self: &Arc<GpuDevice>, words: usize) -> Result<GpuBuffer> {
        self.check()?;
        let bytes = words as u64 * 4;
        // Whole vectors of four words, as kernels that read such want every buffer to be.
        let limit = self.limits.max_buffer_size.min(self.limits.max_storage_buffer_binding_size) & !15;
        if bytes > limit {
            let device = self.report.id.clone();
            return Err(Error::Limit { device, what: "a buffer's size in bytes", requested: bytes, limit });
        }
        let class = Pool::<Raw>::class(bytes).min(limit);
        let raw = match self.pool.take(class, &self.report.id)? {
            Taken::Reused(raw) => raw,
            Taken::Create(class) => self.create(class).inspect_err(|_| self.pool.forget(class))?,
        };
        Ok(GpuBuffer { raw: Some(raw), class, device: self.clone() })
    }

    fn create(&self, bytes: u64) -> Result<Raw> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let buffer = self.caught(|| {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes,
                usage,
                mapped_at_creation: false,
            })
        });
        let buffer = buffer.map_err(|error| match error {
            Error::OutOfMemory { .. } => Error::OutOfMemory {
                device: self.report.id.clone(),
                requested: bytes,
                in_use: self.pool.memory().in_use - bytes,
                budget: self.pool.budget(),
            },
            other => other,
        })?;
        Ok(Raw { buffer, id: NEXT.fetch_add(1, Ordering::Relaxed) })
    }

    /// Runs `create` and returns what wgpu has to say against it as an error of ours.
    pub(super) fn caught<T>(&self, create: impl FnOnce() -> T) -> Result<T> {
        let scopes =
            [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation]
                .map(|filter| self.device.push_error_scope(filter));
        let made = create();
        let errors =
            scopes.into_iter().rev().map(|scope| pollster::block_on(scope.pop())).collect::<Vec<_>>();
        match errors.into_iter().flatten().next() {
            None => Ok(made),
            Some(error) => {
                let _ = self.device.poll(wgpu::PollType::Poll);
                self.check()?;
                Err(translate(&error))
            }
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
    /// The device is lost or out of memory, or a kernel recorded since the last read-back failed.
    pub(crate) fn read(
        self: &Arc<GpuDevice>,
        buffer: &GpuBuffer,
        offset: usize,
        words: usize,
    ) -> Result<Vec<u32>> {
        if words == 0 {
            self.synchronize()?;
            return Ok(Vec::new());
        }
        self.record()?.read(buffer, offset, words)
    }

    /// Submits what is recorded and waits until the device has done it.
    ///
    /// # Errors
    /// The device is lost, or a kernel recorded since the last read-back failed.
    pub fn synchronize(self: &Arc<GpuDevice>) -> Result<()> {
        self.record()?.finish()
    }

    /// Destroys the device, as a driver reset would: every later use answers [`Error::DeviceLost`].
    pub fn destroy(&self) {
        self.device.destroy();
        let _ = self.health.lost.set("destroyed by the program".to_string());
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic inside wgpu leaves at worst a batch that its next submit refuses with an error.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Its size in bytes, at least what was asked for.
    pub fn bytes(&self) -> u64 {
        self.class
    }
}

impl std::fmt::Debug for GpuBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GpuBuffer({} bytes on {})", self.class, self.device.report.id)
    }
}

impl Drop for GpuBuffer {
    fn drop(&mut self) {
        // Commands run in the order they were recorded, so a later user of the memory can't overtake this one.
        if let Some(raw) = self.raw.take() {
            self.device.pool.give(self.class, raw);
        }
    }
}

impl Health {
    fn report(&self, error: &wgpu::Error) {
        let mut slot = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert_with(|| translate(error));
    }
}

fn translate(error: &wgpu::Error) -> Error {
    match error {
        wgpu::Error::OutOfMemory { .. } => {
            Error::OutOfMemory { device: "the adapter".to_string(), requested: 0, in_use: 0, budget: 0 }
        }
        other => Error::Gpu { message: other.to_string() },
    }
}

/// `GRISTMILL_MEMORY_BUDGET` in bytes, else a bound where the adapter overcommits instead of refusing.
fn default_budget(kind: AdapterKind) -> Result<u64> {
    match kind {
        AdapterKind::Hardware => crate::device::budget_from_env().map(|b| b.unwrap_or(u64::MAX)),
        AdapterKind::Software => crate::device::host_budget(),
    }
}
