//! Many dispatches in one pass and one submit.

use super::buffer::GpuBuffer;
use super::checks::{Check, Checks, IdCheck, SLOTS, Slots};
use super::handle::Handle;
use super::kernel::Kernel;
use super::pipeline::Cache;
use super::profiler::Profiler;
use crate::{Error, Result};
use std::collections::VecDeque;
use std::sync::Arc;

/// A batch is submitted when it holds this many dispatches, so that the device starts while the host records on.
const MOST_DISPATCHES: usize = 256;
/// A batch is submitted when this many bytes wait in staging buffers.
const MOST_STAGED: u64 = 64 << 20;
/// The host waits when more submissions than this are under way: what they hold can't be freed before.
const MOST_IN_FLIGHT: usize = 4;
/// Bytes of parameters one batch may use.
const ARENA: u64 = 256 << 10;

/// What a device has been asked to do since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordCounts {
    /// Kernels dispatched.
    pub dispatches: u64,
    /// Batches submitted.
    pub submissions: u64,
}

/// The batch under construction, and what outlives batches.
pub(super) struct Batch {
    // The pass borrows the encoder in wgpu's eyes, so it stands first and is dropped first.
    pass: Option<wgpu::ComputePass<'static>>,
    encoder: Option<wgpu::CommandEncoder>,
    pub(super) cache: Cache,
    arena: wgpu::Buffer,
    arena_bytes: Vec<u8>,
    /// The distance between two parameter structs.
    slot: usize,
    dispatches: usize,
    staged: u64,
    in_flight: VecDeque<Flight>,
    pub(super) profiler: Option<Profiler>,
    pub(super) counts: RecordCounts,
    /// Words that kernels set when they meet an id that is out of range; see [`Recorder::id_check`](super::Recorder::id_check).
    pub(super) status: Option<Arc<GpuBuffer>>,
    pub(super) slots: Slots,
    /// The checks of the buffers that the batch writes.
    pub(super) written: Vec<Arc<Checks>>,
    /// Why wgpu rejected a batch, until [`GpuDevice::synchronize`](super::GpuDevice::synchronize) has reported it.
    pub(super) rejected: Option<Error>,
}

/// A submitted batch, and the copy of its status words.
struct Flight {
    submission: wgpu::SubmissionIndex,
    status: Option<(wgpu::Buffer, Vec<IdCheck>)>,
}

impl Batch {
    pub(super) fn new(gpu: &Handle) -> Batch {
        let arena = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameters"),
            size: ARENA,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Batch {
            pass: None,
            encoder: None,
            cache: Cache::default(),
            arena,
            arena_bytes: Vec::with_capacity(ARENA as usize),
            slot: gpu.device.limits().min_uniform_buffer_offset_alignment.max(16) as usize,
            dispatches: 0,
            staged: 0,
            in_flight: VecDeque::new(),
            profiler: None,
            counts: RecordCounts::default(),
            status: None,
            slots: Slots::default(),
            written: Vec::new(),
            rejected: None,
        }
    }

    /// Records a copy of `data` to the start of `buffer`.
    pub(super) fn upload(&mut self, gpu: &Handle, buffer: &wgpu::Buffer, data: &[u32]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let bytes: &[u8] = bytemuck::cast_slice(data);
        let size = bytes.len() as u64;
        let staging = gpu.caught(size, || {
            let staging = gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("upload"),
                size,
                usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::MAP_WRITE,
                mapped_at_creation: true,
            });
            let written = staging.get_mapped_range_mut(..).map(|mut view| view.copy_from_slice(bytes));
            staging.unmap();
            written.map(|()| staging)
        })?;
        let staging = staging.or_else(|error| {
            gpu.wait(None)?; // a lost device says so here
            Err(Error::Gpu { message: format!("upload: {error}") })
        })?;
        self.copy(gpu, (&staging, 0), (buffer, 0), size);
        self.staged += size;
        if self.staged > MOST_STAGED {
            self.submit(gpu)?;
        }
        Ok(())
    }

    /// Records a copy between two places, each a buffer and an offset in bytes.
    pub(super) fn copy(
        &mut self,
        gpu: &Handle,
        from: (&wgpu::Buffer, u64),
        to: (&wgpu::Buffer, u64),
        bytes: u64,
    ) {
        self.pass = None;
        let encoder =
            self.encoder.get_or_insert_with(|| gpu.device.create_command_encoder(&Default::default()));
        encoder.copy_buffer_to_buffer(from.0, from.1, to.0, to.1, bytes);
    }

    /// Submits the batch, and waits for an older one where too many are under way.
    ///
    /// Where wgpu rejects the batch nothing of it runs: the buffers that it was to write are marked, since whoever
    /// submits may have nothing to do with it. Gives the reason.
    fn submit(&mut self, gpu: &Handle) -> Result<Option<Error>> {
        self.pass = None;
        let status = self.copy_status(gpu)?;
        let Some(mut encoder) = self.encoder.take() else { return Ok(None) };
        if let Some(profiler) = &mut self.profiler {
            profiler.resolve(&mut encoder);
        }
        if !self.arena_bytes.is_empty() {
            gpu.queue.write_buffer(&self.arena, 0, &self.arena_bytes);
        }
        let submitted = gpu.caught(0, || gpu.queue.submit([encoder.finish()]));
        self.arena_bytes.clear();
        self.dispatches = 0;
        self.staged = 0;
        self.counts.submissions += 1;
        let written = std::mem::take(&mut self.written);
        let rejected = match submitted {
            Ok(submission) => {
                if let Some((_, checks)) = &status {
                    self.slots.give(checks);
                }
                self.in_flight.push_back(Flight { submission, status });
                None
            }
            Err(lost @ Error::DeviceLost { .. }) => return Err(lost),
            Err(error) => {
                let message = format!("wgpu rejected the commands that compute this tensor: {error}");
                let error = Error::Gpu { message };
                if let Some((_, checks)) = status {
                    checks.iter().for_each(|one| one.check.close(Err(error.clone())));
                    // Their words were not cleared: the next submit does it.
                    self.slots.finished.extend(checks);
                }
                let failed = [Check::failed(error.clone())];
                written.iter().for_each(|checks| checks.add(&failed));
                self.rejected = Some(error.clone());
                Some(error)
            }
        };
        if let Some(profiler) = &mut self.profiler {
            profiler.collect(gpu)?;
        }
        if self.in_flight.len() > MOST_IN_FLIGHT
            && let Some(oldest) = self.in_flight.pop_front()
        {
            gpu.wait(Some(&oldest.submission))?;
            Batch::close_checks(gpu, oldest)?;
        }
        gpu.check().map(|()| rejected)
    }

    /// Records copies of the status words that finished ops used, and clears the words.
    fn copy_status(&mut self, gpu: &Handle) -> Result<Option<(wgpu::Buffer, Vec<IdCheck>)>> {
        let (Some(status), false) = (self.status.clone(), self.slots.finished.is_empty()) else {
            return Ok(None);
        };
        let status = &status.raw()?.buffer;
        let staging = gpu.staging(SLOTS as u64 * 4)?;
        self.copy(gpu, (status, 0), (&staging, 0), SLOTS as u64 * 4);
        let checks = std::mem::take(&mut self.slots.finished);
        if let Some(encoder) = &mut self.encoder {
            for check in &checks {
                encoder.clear_buffer(status, u64::from(check.slot) * 4, Some(4));
            }
        }
        Ok(Some((staging, checks)))
    }

    /// Answers the checks of a batch that has run.
    fn close_checks(gpu: &Handle, flight: Flight) -> Result<()> {
        let Some((staging, checks)) = flight.status else { return Ok(()) };
        let words = gpu.map(&staging);
        for check in checks {
            match &words {
                Ok(words) => check.answer(words.get(check.slot as usize).copied().unwrap_or(0)),
                Err(error) => check.check.close(Err(error.clone())),
            }
        }
        words.map(drop)
    }

    /// Submits the batch and waits until the device is idle. As [`Batch::submit`].
    pub(super) fn finish(&mut self, gpu: &Handle) -> Result<Option<Error>> {
        let rejected = self.submit(gpu)?;
        gpu.wait(None)?;
        for flight in std::mem::take(&mut self.in_flight) {
            Batch::close_checks(gpu, flight)?;
        }
        Ok(rejected)
    }

    /// Records a dispatch of a grid; buffers and parameters fit the kernel.
    pub(super) fn dispatch(
        &mut self,
        gpu: &Handle,
        kernel: &'static Kernel,
        constants: &[u32],
        buffers: &[&GpuBuffer],
        params: &[u8],
        grid: (u32, u32),
    ) -> Result<()> {
        // Also without parameters: the binding has to stay inside the arena.
        let needs = params.len().max(1).next_multiple_of(self.slot);
        let profile_full = self.profiler.as_ref().is_some_and(Profiler::is_full);
        if self.arena_bytes.len() + needs > ARENA as usize || profile_full {
            self.submit(gpu)?;
        }
        let pipeline = self.cache.pipeline(gpu, kernel, constants)?;
        let bind_group = self.cache.bind_group(gpu, kernel, buffers, &self.arena)?;
        let offset = self.arena_bytes.len();
        self.arena_bytes.extend_from_slice(params);
        self.arena_bytes.resize(offset + needs, 0);

        let timestamps = self.profiler.as_mut().map(|profiler| profiler.next(kernel));
        if timestamps.is_some() {
            self.pass = None; // timestamps are taken at the edges of a pass
        }
        if self.pass.is_none() {
            let encoder =
                self.encoder.get_or_insert_with(|| gpu.device.create_command_encoder(&Default::default()));
            let writes = match (&self.profiler, timestamps.flatten()) {
                (Some(profiler), Some(first)) => profiler.writes(first),
                _ => None,
            };
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: writes };
            self.pass = Some(encoder.begin_compute_pass(&descriptor).forget_lifetime());
        }
        if let Some(pass) = &mut self.pass {
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &bind_group, &[offset as u32]);
            pass.dispatch_workgroups(grid.0, grid.1, 1);
        }
        if timestamps.is_some() {
            self.pass = None;
        }
        self.written.extend(buffers[kernel.reads..].iter().map(|buffer| buffer.checks.clone()));
        self.dispatches += 1;
        self.counts.dispatches += 1;
        if self.dispatches >= MOST_DISPATCHES {
            self.submit(gpu)?;
        }
        Ok(())
    }

    /// A word of the status buffer for a check that begins.
    ///
    /// # Errors
    /// All are in use by ops that are being recorded, or the device fails.
    pub(super) fn slot(&mut self, gpu: &Handle) -> Result<u32> {
        if self.slots.is_empty() {
            self.submit(gpu)?;
        }
        self.slots.take().ok_or_else(|| Error::Limit {
            device: gpu.report.id.clone(),
            what: "a number of ops that check ids at once",
            requested: SLOTS as u64,
            limit: SLOTS as u64 - 1,
            line: None,
        })
    }
}
