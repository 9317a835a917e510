//! How a device is opened.

use super::adapter::AdapterKind;
use super::limits::LimitsProfile;
use super::quirks::Quirk;

/// How a device is opened on an adapter.
#[derive(Debug, Clone, Default)]
pub struct GpuOptions {
    /// The most bytes that its buffers may hold together. Without one: `GRISTMILL_MEMORY_BUDGET`, else three
    /// quarters of the machine's memory on a software adapter and no bound on hardware, which reports being full.
    pub memory_budget: Option<u64>,
    /// Which limits it keeps to, where the adapter allows more.
    pub limits: LimitsProfile,
    /// The most workgroups a dispatch may have along one axis, at least 1, below the adapter's own limit.
    pub max_workgroups: Option<u32>,
    /// For testing kernels: every tensor gets a new buffer filled with NaN, with words behind it that no kernel may
    /// change. A read-back fails if one did.
    pub guarded: bool,
    /// For testing kernels: runs them as the worst adapter might that keeps to WGSL. `exp`, `log`, `sqrt` and their like
    /// answer with nonsense wherever it leaves open what they answer (of NaN, of infinity, past the ends of f32), and
    /// of a workgroup the last invocations go first. Where it is guarded too, a read-back fails if a kernel has gone
    /// past the end of a buffer that it only reads.
    pub worst_case: bool,
    /// Choose kernels as for this kind of adapter, so that tests on a software rasterizer run what hardware will.
    pub tune_for: Option<AdapterKind>,
    /// Faults to believe in beside the known ones, so that tests see what those turn off.
    pub quirks: &'static [Quirk],
}
