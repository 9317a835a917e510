//! The GPU runtime, and the only place that names wgpu: adapters and devices, kernels, the recorder that batches
//! dispatches, and buffers.

mod adapter;
mod batch;
mod buffer;
mod checks;
mod device;
mod guard;
mod handle;
mod kernel;
mod limits;
mod operand;
mod options;
mod out_of_bounds;
mod pipeline;
mod profiler;
mod quirks;
mod recorder;
mod wgsl;

pub use adapter::{AdapterKind, AdapterReport, adapters};
pub(crate) use adapter::{Found, find, find_best};
pub use batch::RecordCounts;
pub use buffer::GpuBuffer;
pub use device::GpuDevice;
pub(crate) use kernel::kernel;
pub use kernel::{Kernel, Params};
pub(crate) use limits::MOST_ITERATIONS;
pub use limits::{Limits, LimitsProfile};
pub use operand::{GpuOut, GpuView};
pub use options::GpuOptions;
pub use profiler::{Profile, Timing};
pub use quirks::{Answer, Quirk, Variant};
pub use recorder::Recorder;
