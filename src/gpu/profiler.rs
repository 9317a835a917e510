//! GPU time of each dispatch by timestamp queries, checked before they are believed.

use super::handle::Handle;
use super::kernel::Kernel;
use crate::Result;

/// Dispatches timed between two submits.
const MOST: u32 = 256;

/// One dispatch.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// `file:entry` of the kernel.
    pub kernel: String,
    /// Time on the device in nanoseconds; `None` where the adapter has no timestamps, or they read zero or run
    /// backwards.
    pub nanoseconds: Option<f64>,
}

/// The dispatches of a profiled stretch, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Profile {
    /// One entry a dispatch.
    pub timings: Vec<Timing>,
}

impl Profile {
    /// The sum of all dispatches in nanoseconds; `None` if one has no valid timestamps.
    pub fn total(&self) -> Option<f64> {
        self.timings.iter().map(|timing| timing.nanoseconds).sum()
    }
}

pub(super) struct Profiler {
    queries: Option<Queries>,
    batch: Vec<String>,
    pub(super) done: Vec<Timing>,
}

struct Queries {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
    /// Nanoseconds a tick.
    period: f64,
}

impl Profiler {
    pub(super) fn new(gpu: &Handle) -> Profiler {
        let has_timestamps = gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        let queries = has_timestamps.then(|| {
            let buffer = |label, usage| {
                gpu.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some(label),
                    size: u64::from(MOST) * 16,
                    usage,
                    mapped_at_creation: false,
                })
            };
            Queries {
                set: gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: Some("timestamps"),
                    ty: wgpu::QueryType::Timestamp,
                    count: MOST * 2,
                }),
                resolved: buffer(
                    "timestamps",
                    wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                ),
                staging: buffer(
                    "timestamps read",
                    wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
                ),
                period: f64::from(gpu.queue.get_timestamp_period()),
            }
        });
        Profiler { queries, batch: Vec::new(), done: Vec::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.batch.len() >= MOST as usize
    }

    /// Notes the next dispatch; its first query, where there are timestamps.
    pub(super) fn next(&mut self, kernel: &Kernel) -> Option<u32> {
        self.batch.push(kernel.name());
        self.queries.as_ref().map(|_| 2 * (self.batch.len() as u32 - 1))
    }

    pub(super) fn writes(&self, first: u32) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        self.queries.as_ref().map(|queries| wgpu::ComputePassTimestampWrites {
            query_set: &queries.set,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        })
    }

    pub(super) fn resolve(&mut self, encoder: &mut wgpu::CommandEncoder) {
        let count = self.batch.len() as u32;
        if let Some(queries) = self.queries.as_ref().filter(|_| count > 0) {
            encoder.resolve_query_set(&queries.set, 0..2 * count, &queries.resolved, 0);
            encoder.copy_buffer_to_buffer(&queries.resolved, 0, &queries.staging, 0, u64::from(count) * 16);
        }
    }

    /// Reads the submitted batch's timestamps; waits for it.
    pub(super) fn collect(&mut self, gpu: &Handle) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let mut ticks = Vec::new();
        if let Some(queries) = self.queries.as_ref().filter(|_| !batch.is_empty()) {
            let slice = queries.staging.slice(..batch.len() as u64 * 16);
            slice.map_async(wgpu::MapMode::Read, |_| ());
            gpu.wait(None)?;
            if let Ok(view) = slice.get_mapped_range() {
                let ticks_of = |b: &[u8]| b.iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
                ticks = view.chunks_exact(16).map(|b| (ticks_of(&b[..8]), ticks_of(&b[8..]))).collect();
            }
            queries.staging.unmap();
        }
        let period = self.queries.as_ref().map_or(0.0, |queries| queries.period);
        self.done.extend(batch.into_iter().enumerate().map(|(at, kernel)| {
            let valid = ticks.get(at).filter(|(begin, end)| *begin != 0 && end > begin);
            Timing { kernel, nanoseconds: valid.map(|(begin, end)| (end - begin) as f64 * period) }
        }));
        Ok(())
    }
}
