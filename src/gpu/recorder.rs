//! Many dispatches in one pass and one submit.

use super::context::{GpuBuffer, GpuDevice, Locked};
use super::guard::Guard;
use super::kernel::Kernel;
use super::pipeline::Cache;
use super::profiler::Profiler;
use super::quirks::Variant;
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
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    pub(super) profiler: Option<Profiler>,
    pub(super) counts: RecordCounts,
    /// On a guarded device, the buffers that are watched.
    pub(super) guard: Option<Guard>,
    /// One word that kernels set when they meet an invalid id; see [`Recorder::status`].
    status: Option<Arc<GpuBuffer>>,
    /// The ops that may set the status word; the word is an op's place here, plus one.
    status_ops: Vec<&'static str>,
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
            status_ops: Vec::new(),
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
        let words = view.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
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
    fn submit(&mut self, gpu: &GpuDevice) -> Result<()> {
        self.pass = None;
        let Some(mut encoder) = self.encoder.take() else { return Ok(()) };
        if let Some(profiler) = &mut self.profiler {
            profiler.resolve(&mut encoder);
        }
        if !self.arena_bytes.is_empty() {
            gpu.queue.write_buffer(&self.arena, 0, &self.arena_bytes);
        }
        self.in_flight.push_back(gpu.queue.submit([encoder.finish()]));
        self.arena_bytes.clear();
        self.dispatches = 0;
        self.staged = 0;
        self.counts.submissions += 1;
        if let Some(profiler) = &mut self.profiler {
            profiler.collect(gpu)?;
        }
        if self.in_flight.len() > MOST_IN_FLIGHT {
            let oldest = self.in_flight.pop_front();
            gpu.wait(oldest.as_ref())?;
        }
        gpu.check()
    }

    /// Submits the batch and waits until the device is idle.
    pub(super) fn finish(&mut self, gpu: &GpuDevice) -> Result<()> {
        self.submit(gpu)?;
        self.in_flight.clear();
        gpu.wait(None)
    }
}

/// Records commands on a device. They run in the order of recording; wgpu puts the barriers between them.
pub struct Recorder<'d> {
    gpu: &'d Arc<GpuDevice>,
    state: Locked<'d>,
}

impl<'d> Recorder<'d> {
    pub(super) fn new(gpu: &'d Arc<GpuDevice>, state: Locked<'d>) -> Recorder<'d> {
        Recorder { gpu, state }
    }

    /// Records one dispatch of `workgroups` workgroups, folded into two dimensions where one is too short: the
    /// kernel finds its number with `folded()` and leaves when it is past the end. No workgroup, no dispatch.
    ///
    /// `buffers` are in the order of the bindings, inputs before outputs; `constants` in that of the kernel.
    ///
    /// # Errors
    /// More workgroups than two dimensions hold, the kernel does not compile, or the device is lost.
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
        if buffers.len() != kernel.reads + kernel.writes || size_of::<P>() != kernel.params {
            let message =
                format!("{} buffers and {} bytes of params do not fit", buffers.len(), size_of::<P>());
            return Err(Error::Kernel { kernel: kernel.name(), message });
        }
        let grid = self.fold(workgroups)?;
        let needs = size_of::<P>().next_multiple_of(self.state.slot);
        let profile_full = self.state.profiler.as_ref().is_some_and(Profiler::is_full);
        if self.state.arena_bytes.len() + needs > ARENA as usize || profile_full {
            self.state.submit(self.gpu)?;
        }
        let state = &mut *self.state;
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
        state.dispatches += 1;
        state.counts.dispatches += 1;
        if state.dispatches >= MOST_DISPATCHES {
            state.submit(self.gpu)?;
        }
        Ok(())
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
        self.gpu.allocate_in(&mut self.state, words)
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

    /// The status buffer and the code by which `op` reports an invalid id in it: the kernel stores the code, and
    /// the next read-back answers an error that names the op.
    ///
    /// # Errors
    /// As [`Recorder::scratch`].
    pub fn status(&mut self, op: &'static str) -> Result<(Arc<GpuBuffer>, u32)> {
        let buffer = match self.state.status.clone() {
            Some(buffer) => buffer,
            None => {
                let buffer = Arc::new(self.scratch(1)?);
                self.upload(&buffer, &[0])?;
                self.state.status.insert(buffer).clone()
            }
        };
        let ops = &mut self.state.status_ops;
        let place = ops.iter().position(|&known| known == op).unwrap_or_else(|| {
            ops.push(op);
            ops.len() - 1
        });
        Ok((buffer, place as u32 + 1))
    }

    /// `workgroups` as a grid of two dimensions.
    fn fold(&self, workgroups: usize) -> Result<(u32, u32)> {
        let most = u64::from(self.gpu.limits.workgroups);
        let count = workgroups as u64;
        if count <= most {
            return Ok((count as u32, 1));
        }
        let rows = count.div_ceil(most);
        // The kernels count workgroups in a u32, the folded grid's idle ones included.
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
        self.state.upload(self.gpu, &buffer.raw()?.buffer, data)
    }

    /// Reads `words` words of a buffer from word `offset` on, after all that is recorded has run.
    pub(super) fn read(mut self, buffer: &GpuBuffer, offset: usize, words: usize) -> Result<Vec<u32>> {
        let (gpu, state) = (self.gpu, &mut *self.state);
        Guard::check(gpu, state)?;
        let bytes = words as u64 * 4;
        let staging = state.staging(gpu, bytes)?;
        state.copy(gpu, (&buffer.raw()?.buffer, offset as u64 * 4), (&staging, 0), bytes);
        let status = match state.status.clone() {
            None => None,
            Some(status) => {
                let staging = state.staging(gpu, 4)?;
                state.copy(gpu, (&status.raw()?.buffer, 0), (&staging, 0), 4);
                Some(staging)
            }
        };
        state.finish(gpu)?;
        if let Some(staging) = &status {
            let code = state.map(gpu, staging)?.first().copied().unwrap_or(0);
            self.raise(code)?;
        }
        self.state.map(gpu, &staging)
    }

    /// The error that a non-zero status word stands for; clears the word.
    fn raise(&mut self, code: u32) -> Result<()> {
        let Some(op) =
            (code as usize).checked_sub(1).and_then(|place| self.state.status_ops.get(place).copied())
        else {
            return Ok(());
        };
        if let Some(status) = self.state.status.clone() {
            self.upload(&status, &[0])?;
        }
        Err(Error::argument(op, "a class id or index computed on the device was past the end"))
    }

    /// Submits the batch and waits until the device is idle.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.state.finish(self.gpu)
    }
}
