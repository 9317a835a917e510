//! Many dispatches in one pass and one submit.

use super::checks::{Check, Checks, IdCheck, MOST_OPEN, SLOTS, Slots};
use super::context::{GpuBuffer, GpuDevice};
use super::guard::Guard;
use super::kernel::Kernel;
use super::pipeline::Cache;
use super::profiler::Profiler;
use super::quirks::Variant;
use crate::device::host_list;
use crate::op::{GpuOut, GpuView};
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
pub(super) struct State {
    // The pass borrows the encoder in wgpu's eyes, so it stands first and is dropped first.
    pass: Option<wgpu::ComputePass<'static>>,
    encoder: Option<wgpu::CommandEncoder>,
    cache: Cache,
    arena: wgpu::Buffer,
    arena_bytes: Vec<u8>,
    /// The distance between two parameter structs.
    slot: usize,
    dispatches: usize,
    staged: u64,
    in_flight: VecDeque<Flight>,
    pub(super) profiler: Option<Profiler>,
    pub(super) counts: RecordCounts,
    /// On a guarded device, the buffers that are watched.
    pub(super) guard: Option<Guard>,
    /// Words that kernels set when they meet an id that is out of range; see [`Recorder::id_check`].
    status: Option<Arc<GpuBuffer>>,
    slots: Slots,
    /// The checks of the buffers that the batch writes.
    written: Vec<Arc<Checks>>,
    /// Why wgpu rejected a batch, until [`GpuDevice::synchronize`] has reported it.
    pub(super) rejected: Option<Error>,
}

/// A submitted batch, and the copy of its status words.
struct Flight {
    submission: wgpu::SubmissionIndex,
    status: Option<(wgpu::Buffer, Vec<IdCheck>)>,
}

impl State {
    pub(super) fn new(device: &wgpu::Device, limits: &wgpu::Limits, guarded: bool) -> State {
        let arena = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameters"),
            size: ARENA,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        State {
            pass: None,
            encoder: None,
            cache: Cache::default(),
            arena,
            arena_bytes: Vec::with_capacity(ARENA as usize),
            slot: limits.min_uniform_buffer_offset_alignment.max(16) as usize,
            dispatches: 0,
            staged: 0,
            in_flight: VecDeque::new(),
            profiler: None,
            counts: RecordCounts::default(),
            guard: guarded.then(Guard::default),
            status: None,
            slots: Slots::default(),
            written: Vec::new(),
            rejected: None,
        }
    }

    pub(super) fn forget_bind_groups(&mut self) {
        self.cache.forget_bind_groups();
    }

    /// A buffer to read `bytes` bytes back through.
    pub(super) fn staging(&self, gpu: &GpuDevice, bytes: u64) -> Result<wgpu::Buffer> {
        gpu.caught(bytes, || {
            gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("read-back"),
                size: bytes,
                usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
                mapped_at_creation: false,
            })
        })
    }

    /// The words of a staging buffer whose copy has run.
    pub(super) fn map(&self, gpu: &GpuDevice, staging: &wgpu::Buffer) -> Result<Vec<u32>> {
        staging.slice(..).map_async(wgpu::MapMode::Read, |_| ());
        gpu.wait(None)?;
        let view = staging
            .get_mapped_range(..)
            .map_err(|error| Error::Gpu { message: format!("read-back: {error}") })?;
        let mut words = host_list(view.len() / 4)?;
        words.extend(view.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        drop(view);
        staging.unmap();
        Ok(words)
    }

    /// Records a copy of `data` to the start of `buffer`.
    pub(super) fn upload(&mut self, gpu: &GpuDevice, buffer: &wgpu::Buffer, data: &[u32]) -> Result<()> {
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
        gpu: &GpuDevice,
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
    fn submit(&mut self, gpu: &GpuDevice) -> Result<Option<Error>> {
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
            self.close_checks(gpu, oldest)?;
        }
        gpu.check().map(|()| rejected)
    }

    /// Records copies of the status words that finished ops used, and clears the words.
    fn copy_status(&mut self, gpu: &GpuDevice) -> Result<Option<(wgpu::Buffer, Vec<IdCheck>)>> {
        let (Some(status), false) = (self.status.clone(), self.slots.finished.is_empty()) else {
            return Ok(None);
        };
        let status = &status.raw()?.buffer;
        let staging = self.staging(gpu, SLOTS as u64 * 4)?;
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
    fn close_checks(&self, gpu: &GpuDevice, flight: Flight) -> Result<()> {
        let Some((staging, checks)) = flight.status else { return Ok(()) };
        let words = self.map(gpu, &staging);
        for check in checks {
            match &words {
                Ok(words) => check.answer(words.get(check.slot as usize).copied().unwrap_or(0)),
                Err(error) => check.check.close(Err(error.clone())),
            }
        }
        words.map(drop)
    }

    /// Submits the batch and waits until the device is idle. As [`State::submit`].
    pub(super) fn finish(&mut self, gpu: &GpuDevice) -> Result<Option<Error>> {
        let rejected = self.submit(gpu)?;
        gpu.wait(None)?;
        for flight in std::mem::take(&mut self.in_flight) {
            self.close_checks(gpu, flight)?;
        }
        Ok(rejected)
    }
}

/// Records commands on a device. They run in the order of recording; wgpu puts the barriers between them.
///
/// Each call takes the device's lock for itself, so that an op may use tensors of the same device while it records.
pub struct Recorder<'d> {
    gpu: &'d Arc<GpuDevice>,
    /// The checks of this op's ids.
    checks: Vec<IdCheck>,
}

impl Drop for Recorder<'_> {
    fn drop(&mut self) {
        if !self.checks.is_empty() {
            self.gpu.lock().slots.finished.append(&mut self.checks);
        }
    }
}

impl<'d> Recorder<'d> {
    pub(super) fn new(gpu: &'d Arc<GpuDevice>) -> Recorder<'d> {
        Recorder { gpu, checks: Vec::new() }
    }

    /// Records one dispatch of `workgroups` workgroups, in a grid of two dimensions where one is too short: the
    /// kernel finds its number with `workgroup_index()` and leaves when it is past the end. No workgroup, no dispatch.
    ///
    /// `buffers` are in the order of the bindings, inputs before outputs; `constants` in that of the kernel.
    ///
    /// # Errors
    /// Buffers or parameters that do not fit the kernel, a buffer that is written and bound twice, or one of another
    /// device; more workgroups than two dimensions hold; the kernel does not compile; or the device is lost.
    pub fn dispatch<P: bytemuck::NoUninit>(
        &mut self,
        kernel: &'static Kernel,
        constants: &[u32],
        buffers: &[&GpuBuffer],
        params: &P,
        workgroups: usize,
    ) -> Result<()> {
        if workgroups == 0 {
            return Ok(());
        }
        let wrong = |message: String| Err(Error::Kernel { kernel: kernel.name(), message });
        if buffers.len() != kernel.reads + kernel.writes || size_of::<P>() != kernel.params {
            return wrong(format!(
                "{} buffers and {} bytes of params do not fit",
                buffers.len(),
                size_of::<P>()
            ));
        }
        // wgpu would reject the whole batch.
        for (at, written) in buffers.iter().enumerate().skip(kernel.reads) {
            let id = written.raw()?.id;
            for (other, buffer) in buffers.iter().enumerate() {
                if other != at && buffer.raw()?.id == id {
                    return wrong(format!(
                        "bindings {other} and {at} are one buffer, which the kernel writes; use two buffers"
                    ));
                }
            }
        }
        if buffers.iter().any(|buffer| !buffer.is_of(self.gpu)) {
            return wrong(format!("a buffer is not on the device {}", self.gpu.report.id));
        }
        let grid = self.grid(workgroups)?;
        let state = &mut *self.gpu.lock();
        // Also without parameters: the binding has to stay inside the arena.
        let needs = size_of::<P>().max(1).next_multiple_of(state.slot);
        let profile_full = state.profiler.as_ref().is_some_and(Profiler::is_full);
        if state.arena_bytes.len() + needs > ARENA as usize || profile_full {
            state.submit(self.gpu)?;
        }
        let pipeline = state.cache.pipeline(self.gpu, kernel, constants)?;
        let bind_group = state.cache.bind_group(self.gpu, kernel, buffers, &state.arena)?;
        let offset = state.arena_bytes.len();
        state.arena_bytes.extend_from_slice(bytemuck::bytes_of(params));
        state.arena_bytes.resize(offset + needs, 0);

        let timestamps = state.profiler.as_mut().map(|profiler| profiler.next(kernel));
        if timestamps.is_some() {
            state.pass = None; // timestamps are taken at the edges of a pass
        }
        if state.pass.is_none() {
            let encoder = state
                .encoder
                .get_or_insert_with(|| self.gpu.device.create_command_encoder(&Default::default()));
            let writes = match (&state.profiler, timestamps.flatten()) {
                (Some(profiler), Some(first)) => profiler.writes(first),
                _ => None,
            };
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: writes };
            state.pass = Some(encoder.begin_compute_pass(&descriptor).forget_lifetime());
        }
        if let Some(pass) = &mut state.pass {
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &bind_group, &[offset as u32]);
            pass.dispatch_workgroups(grid.0, grid.1, 1);
        }
        if timestamps.is_some() {
            state.pass = None;
        }
        state.written.extend(buffers[kernel.reads..].iter().map(|buffer| buffer.checks.clone()));
        state.dispatches += 1;
        state.counts.dispatches += 1;
        if state.dispatches >= MOST_DISPATCHES {
            state.submit(self.gpu)?;
        }
        Ok(())
    }

    /// The device that it records on.
    pub fn device(&self) -> &Arc<GpuDevice> {
        self.gpu
    }

    /// Whether the adapter is a software rasteriser, on which registers pay and workgroup memory does not.
    pub fn is_software(&self) -> bool {
        self.gpu.tuned_for == super::AdapterKind::Software
    }

    /// The number of invocations in every subgroup; `None` where it varies, there are no subgroups, or they are known to
    /// go wrong.
    pub fn subgroup_size(&self) -> Option<u32> {
        let (least, most) = self.gpu.report.subgroup_size;
        (least == most && least > 0 && self.gpu.allows(Variant::Subgroups)).then_some(least)
    }

    /// The storage buffers that a kernel may bind.
    pub fn storage_buffers(&self) -> u32 {
        self.gpu.limits.storage_buffers
    }

    /// Whether a workgroup may be of 256 invocations that share tiles in workgroup memory.
    pub fn takes_tiles(&self) -> bool {
        self.gpu.limits.invocations >= 256 && self.gpu.allows(Variant::Tiles)
    }

    /// Memory for a kernel's intermediate result, with stale content.
    ///
    /// # Errors
    /// Over a limit, over the budget, or out of memory.
    pub fn scratch(&mut self, words: usize) -> Result<GpuBuffer> {
        self.gpu.allocate(words)
    }

    /// Memory with these words, for a table that a kernel reads.
    ///
    /// # Errors
    /// As [`Recorder::scratch`].
    pub fn table(&mut self, words: &[u32]) -> Result<GpuBuffer> {
        let buffer = self.scratch(words.len())?;
        self.upload(&buffer, words)?;
        Ok(buffer)
    }

    /// The status buffer, and the index of a word in it that the kernel sets to 1 where one of `ids` is not below
    /// `below`. Every tensor that is computed from this op's outputs is then an error when it is read, which names `op`;
    /// other tensors are not. Ids that the host knows to fit need no check: they share word 0.
    ///
    /// # Errors
    /// As [`Recorder::scratch`].
    pub fn id_check(
        &mut self,
        op: &'static str,
        ids: &GpuView,
        below: usize,
    ) -> Result<(Arc<GpuBuffer>, u32)> {
        let status = self.status()?;
        if ids.max_id.is_below(below) {
            return Ok((status, 0));
        }
        let mut state = self.gpu.lock();
        if state.slots.is_empty() {
            state.submit(self.gpu)?;
        }
        let Some(slot) = state.slots.take() else {
            return Err(Error::Limit {
                device: self.gpu.report.id.clone(),
                what: "a number of ops that check ids at once",
                requested: SLOTS as u64,
                limit: SLOTS as u64 - 1,
            });
        };
        self.checks.push(IdCheck { slot, op, below, check: Check::open() });
        Ok((status, slot))
    }

    /// The status buffer. Its words are zero but while a check is under way.
    fn status(&self) -> Result<Arc<GpuBuffer>> {
        if let Some(status) = self.gpu.lock().status.clone() {
            return Ok(status);
        }
        let fresh = self.gpu.upload(&[0; SLOTS])?;
        // Another thread may have been faster.
        Ok(self.gpu.lock().status.get_or_insert_with(|| Arc::new(fresh)).clone())
    }

    /// Ends the recording of an op: its outputs depend on its own checks and on those of its inputs.
    ///
    /// # Errors
    /// The device fails.
    pub(crate) fn end(self, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let pending = || {
            let mut all: Vec<Arc<Check>> = self.checks.iter().map(|one| one.check.clone()).collect();
            all.extend(inputs.iter().flat_map(|input| input.buffer.checks.pending()));
            all
        };
        let mut checks = pending();
        if checks.len() > MOST_OPEN {
            self.gpu.lock().finish(self.gpu)?;
            checks = pending();
        }
        if !checks.is_empty() {
            outputs.iter().for_each(|output| output.buffer.checks.add(&checks));
        }
        Ok(())
    }

    /// `workgroups` as a grid of two dimensions.
    fn grid(&self, workgroups: usize) -> Result<(u32, u32)> {
        let most = u64::from(self.gpu.limits.workgroups);
        let count = workgroups as u64;
        if count <= most {
            return Ok((count as u32, 1));
        }
        let rows = count.div_ceil(most);
        // The kernels count workgroups in a u32, the grid's idle ones included.
        if rows > most || rows * most > u64::from(u32::MAX) {
            return Err(Error::Limit {
                device: self.gpu.report.id.clone(),
                what: "a number of workgroups",
                requested: count,
                limit: (most * most).min(u64::from(u32::MAX)),
            });
        }
        Ok((count.div_ceil(rows) as u32, rows as u32))
    }

    /// Records a copy of `data` to the start of `buffer`.
    pub(super) fn upload(&mut self, buffer: &GpuBuffer, data: &[u32]) -> Result<()> {
        let mut state = self.gpu.lock();
        state.written.push(buffer.checks.clone());
        state.upload(self.gpu, &buffer.raw()?.buffer, data)
    }

    /// Reads `words` words of a buffer from word `offset` on, after all that is recorded has run.
    ///
    /// # Errors
    /// A check that the buffer depends on has failed, or the device fails.
    pub(super) fn read(self, buffer: &GpuBuffer, offset: usize, words: usize) -> Result<Vec<u32>> {
        buffer.checks.result()?;
        let gpu = self.gpu;
        let state = &mut *gpu.lock();
        Guard::check(gpu, state)?;
        let bytes = words as u64 * 4;
        let staging = state.staging(gpu, bytes)?;
        let source = &buffer.raw()?.buffer;
        let copied = |state: &mut State| {
            state.copy(gpu, (source, offset as u64 * 4), (&staging, 0), bytes);
            let rejected = state.finish(gpu)?;
            buffer.checks.result().map(|()| rejected)
        };
        // A batch that wgpu rejects takes the copy along: then once more, in a batch of its own.
        if copied(state)?.is_some()
            && let Some(error) = copied(state)?
        {
            return Err(error);
        }
        state.map(gpu, &staging)
    }
}
