//! wgpu's device: what it was opened with, its health, and the pool of its memory.

use super::adapter::{AdapterKind, AdapterReport, Found};
use super::buffer::Raw;
use super::limits::Limits;
use super::options::GpuOptions;
use super::quirks::{self, Quirk, Variant};
use crate::budget::{budget_from_env, host_budget};
use crate::cpu::host_list;
use crate::pool::Pool;
use crate::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

/// An open device of wgpu's. All uses of wgpu are under [`GpuDevice`](super::GpuDevice)'s lock.
pub(super) struct Handle {
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
    pub(super) quirks: Vec<&'static Quirk>,
    pub(super) pool: Arc<Pool<Raw>>,
    health: Arc<Health>,
    is_gl: bool,
}

/// What wgpu's callbacks have reported.
#[derive(Debug, Default)]
struct Health {
    lost: OnceLock<String>,
    error: Mutex<Option<wgpu::Error>>,
}

impl Handle {
    /// Opens a device on the adapter.
    ///
    /// # Errors
    /// The driver refuses, or options that leave no workgroup.
    pub(super) fn open(found: Found, options: &GpuOptions) -> Result<Handle> {
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
        let mut limits = Limits::new(&asked);
        limits.workgroups = limits.workgroups.min(options.max_workgroups.unwrap_or(u32::MAX));
        Ok(Handle {
            quirks: quirks::of(&report, options.quirks),
            tuned_for: options.tune_for.unwrap_or(report.kind),
            report,
            device,
            queue,
            limits,
            worst_case: options.worst_case,
            shows_out_of_bounds: options.worst_case && options.guarded,
            pool: Arc::new(Pool::new(budget)),
            health,
            is_gl,
        })
    }

    /// On GL, the turn of the caller's thread.
    pub(super) fn turn(&self) -> Option<Turn> {
        self.is_gl.then(Turn::take)
    }

    /// Whether no known fault forbids a variant.
    pub(super) fn allows(&self, variant: Variant) -> bool {
        quirks::allow(&self.quirks, variant)
    }

    /// Whether it was lost.
    pub(super) fn is_lost(&self) -> bool {
        self.health.lost.get().is_some()
    }

    /// Destroys it, which is a loss.
    pub(super) fn destroy(&self) {
        self.device.destroy();
        let _ = self.health.lost.set("destroyed by the program".to_string());
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

    /// A buffer of so many bytes.
    pub(super) fn create(&self, bytes: u64) -> Result<Raw> {
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
                line: None,
            },
            other => Error::Gpu { message: other.to_string() },
        }
    }

    /// A buffer to read `bytes` bytes back through.
    pub(super) fn staging(&self, bytes: u64) -> Result<wgpu::Buffer> {
        self.caught(bytes, || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("read-back"),
                size: bytes,
                usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
                mapped_at_creation: false,
            })
        })
    }

    /// The words of a staging buffer whose copy has run.
    pub(super) fn map(&self, staging: &wgpu::Buffer) -> Result<Vec<u32>> {
        staging.slice(..).map_async(wgpu::MapMode::Read, |_| ());
        self.wait(None)?;
        let view = staging
            .get_mapped_range(..)
            .map_err(|error| Error::Gpu { message: format!("read-back: {error}") })?;
        let mut words = host_list(view.len() / 4)?;
        words.extend(view.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        drop(view);
        staging.unmap();
        Ok(words)
    }
}

/// The right to use wgpu's GL devices, which one thread has at a time. They share one EGL context, behind a lock
/// that a busy device holds for as long as its kernels run, and that wgpu panics on after six seconds.
pub(super) struct Turn(());

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

/// `GRISTMILL_MEMORY_BUDGET` in bytes, else a bound where the adapter overcommits instead of refusing.
fn default_budget(kind: AdapterKind) -> Result<u64> {
    match kind {
        AdapterKind::Hardware => budget_from_env().map(|b| b.unwrap_or(u64::MAX)),
        AdapterKind::Software => host_budget(),
    }
}
