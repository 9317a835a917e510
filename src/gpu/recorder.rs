//! What an op records its dispatches by.

use super::adapter::AdapterKind;
use super::buffer::GpuBuffer;
use super::checks::{Check, IdCheck, MOST_OPEN, SLOTS};
use super::device::GpuDevice;
use super::kernel::Kernel;
use super::operand::{GpuOut, GpuView};
use super::quirks::Variant;
use crate::error::Line;
use crate::{Error, Result};
use std::sync::Arc;

/// Records commands on a device. They run in the order of recording; wgpu puts the barriers between them.
///
/// Each call takes the device's lock for itself, so that an op may use tensors of the same device while it records.
pub struct Recorder<'d> {
    gpu: &'d Arc<GpuDevice>,
    /// The checks of this op's ids.
    checks: Vec<IdCheck>,
    /// The program's line that called the op.
    line: Option<Line>,
}

impl Drop for Recorder<'_> {
    fn drop(&mut self) {
        if !self.checks.is_empty() {
            self.gpu.lock().state.batch.slots.finished.append(&mut self.checks);
        }
    }
}

impl GpuDevice {
    /// Starts recording the commands of an op.
    ///
    /// # Errors
    /// The device is lost, or failed (reported once).
    pub(crate) fn record(self: &Arc<GpuDevice>, line: Option<Line>) -> Result<Recorder<'_>> {
        self.handle.check()?;
        Ok(Recorder { gpu: self, checks: Vec::new(), line })
    }
}

impl Recorder<'_> {
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
        if buffers.iter().any(|buffer| !buffer.is_of(&self.gpu.handle.pool)) {
            return wrong(format!("a buffer is not on the device {}", self.gpu.handle.report.id));
        }
        let grid = self.grid(workgroups)?;
        let params = bytemuck::bytes_of(params);
        self.gpu.lock().state.batch.dispatch(&self.gpu.handle, kernel, constants, buffers, params, grid)
    }

    /// The device that it records on.
    pub fn device(&self) -> &Arc<GpuDevice> {
        self.gpu
    }

    /// Whether the adapter is a software rasterizer, on which registers pay and workgroup memory does not.
    pub fn is_software(&self) -> bool {
        self.gpu.handle.tuned_for == AdapterKind::Software
    }

    /// The number of invocations in every subgroup; `None` where it varies, there are no subgroups, or they are known to
    /// go wrong.
    pub fn subgroup_size(&self) -> Option<u32> {
        let (least, most) = self.gpu.handle.report.subgroup_size;
        (least == most && least > 0 && self.gpu.handle.allows(Variant::Subgroups)).then_some(least)
    }

    /// The storage buffers that a kernel may bind.
    pub fn storage_buffers(&self) -> u32 {
        self.gpu.handle.limits.storage_buffers
    }

    /// Whether a workgroup may be of 256 invocations that share tiles in workgroup memory.
    pub fn takes_tiles(&self) -> bool {
        self.gpu.handle.limits.invocations >= 256 && self.gpu.handle.allows(Variant::Tiles)
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
        self.gpu.upload(words)
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
        let slot = self.gpu.lock().state.batch.slot(&self.gpu.handle)?;
        self.checks.push(IdCheck { slot, op, below, check: Check::open(), line: self.line });
        Ok((status, slot))
    }

    /// The status buffer. Its words are zero but while a check is under way.
    fn status(&self) -> Result<Arc<GpuBuffer>> {
        if let Some(status) = self.gpu.lock().state.batch.status.clone() {
            return Ok(status);
        }
        let fresh = self.gpu.upload(&[0; SLOTS])?;
        // Another thread may have been faster.
        Ok(self.gpu.lock().state.batch.status.get_or_insert_with(|| Arc::new(fresh)).clone())
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
            self.gpu.lock().state.batch.finish(&self.gpu.handle)?;
            checks = pending();
        }
        if !checks.is_empty() {
            outputs.iter().for_each(|output| output.buffer.checks.add(&checks));
        }
        Ok(())
    }

    /// `workgroups` as a grid of two dimensions.
    fn grid(&self, workgroups: usize) -> Result<(u32, u32)> {
        let most = u64::from(self.gpu.handle.limits.workgroups);
        let count = workgroups as u64;
        if count <= most {
            return Ok((count as u32, 1));
        }
        let rows = count.div_ceil(most);
        // The kernels count workgroups in a u32, the grid's idle ones included.
        if rows > most || rows * most > u64::from(u32::MAX) {
            return Err(Error::Limit {
                device: self.gpu.handle.report.id.clone(),
                what: "a number of workgroups",
                requested: count,
                limit: (most * most).min(u64::from(u32::MAX)),
                line: None,
            });
        }
        Ok((count.div_ceil(rows) as u32, rows as u32))
    }
}
