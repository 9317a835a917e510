//! The GPU runtime, and the only place that names wgpu: adapters and devices, kernels, the recorder that batches
//! dispatches, and buffers.

mod adapter;
mod checks;
mod context;
mod guard;
mod kernel;
mod limits;
mod out_of_bounds;
mod pipeline;
mod profiler;
mod quirks;
mod recorder;
mod wgsl;

pub use adapter::{AdapterKind, AdapterReport, GpuOptions, adapters};
pub(crate) use adapter::{Found, find, find_best};
pub use context::{GpuBuffer, GpuDevice};
pub(crate) use kernel::kernel;
pub use kernel::{Kernel, Params};
pub use limits::{Limits, LimitsProfile};
pub use profiler::{Profile, Timing};
pub use quirks::{Answer, Quirk, Variant};
pub use recorder::{RecordCounts, Recorder};
