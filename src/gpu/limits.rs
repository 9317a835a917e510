//! What a device lets a kernel use. All kernels but one (attention's one-pass gradient, which has a stand-in) keep to what
//! every WebGPU device offers; where a device offers less, one that does not fit is refused by name, and before the driver
//! sees it.

use super::kernel::Kernel;
use crate::{Error, Result};
use wgpu::naga::AddressSpace;
use wgpu::naga::front::wgsl;
use wgpu::naga::proc::Layouter;
use wgpu::naga::valid::{Capabilities, ValidationFlags, Validator};

/// Invocations of a workgroup that every WebGPU device offers.
const WEBGPU_INVOCATIONS: u32 = 256;

/// The most loop iterations of an invocation, all its loops together, each with its last test: lavapipe silently ends them
/// there.
pub(crate) const MOST_ITERATIONS: usize = 65_535;

/// Which limits a device is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitsProfile {
    /// All that the adapter allows.
    #[default]
    Adapter,
    /// What every WebGPU device offers, where the adapter allows more: 128 MiB a binding, 256 invocations and 16 KiB of
    /// memory a workgroup, 8 storage buffers a kernel, 65,535 workgroups an axis.
    WebGpu,
    /// Half of that, as on the smallest devices: 64 MiB, 128 invocations, 8 KiB, 4 storage buffers, 32,767 workgroups.
    HalfWebGpu,
}

/// The limits that kernels meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Invocations a workgroup.
    pub invocations: u32,
    /// Bytes of memory that a workgroup shares.
    pub workgroup_bytes: u32,
    /// Storage buffers that a kernel binds.
    pub storage_buffers: u32,
    /// Workgroups along one axis of a grid.
    pub workgroups: u32,
    /// Bytes of a buffer as a kernel sees it.
    pub binding_bytes: u64,
}

impl LimitsProfile {
    /// The limits to ask an adapter for that allows `adapter`.
    pub(super) fn of(self, adapter: wgpu::Limits) -> wgpu::Limits {
        let least = wgpu::Limits::default();
        match self {
            LimitsProfile::Adapter => adapter,
            LimitsProfile::WebGpu => adapter.or_worse_values_from(&least),
            LimitsProfile::HalfWebGpu => adapter.or_worse_values_from(&wgpu::Limits {
                max_compute_invocations_per_workgroup: least.max_compute_invocations_per_workgroup / 2,
                max_compute_workgroup_size_x: least.max_compute_workgroup_size_x / 2,
                max_compute_workgroup_size_y: least.max_compute_workgroup_size_y / 2,
                max_compute_workgroup_size_z: least.max_compute_workgroup_size_z / 2,
                max_compute_workgroup_storage_size: least.max_compute_workgroup_storage_size / 2,
                max_compute_workgroups_per_dimension: least.max_compute_workgroups_per_dimension / 2,
                max_storage_buffers_per_shader_stage: least.max_storage_buffers_per_shader_stage / 2,
                max_storage_buffer_binding_size: least.max_storage_buffer_binding_size / 2,
                max_buffer_size: least.max_buffer_size / 2,
                max_uniform_buffer_binding_size: least.max_uniform_buffer_binding_size / 2,
                ..least
            }),
        }
    }
}

impl Limits {
    pub(super) fn new(limits: &wgpu::Limits) -> Limits {
        Limits {
            invocations: limits.max_compute_invocations_per_workgroup,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            storage_buffers: limits.max_storage_buffers_per_shader_stage,
            workgroups: limits.max_compute_workgroups_per_dimension,
            // Whole vectors of four words, as kernels that read such want every buffer to be.
            binding_bytes: limits.max_buffer_size.min(limits.max_storage_buffer_binding_size) & !15,
        }
    }

    /// Checks that a kernel of this WGSL fits. wgpu asks for invocations and buffers too, in other words, but takes any
    /// amount of workgroup memory; what a driver makes of too much is its own affair.
    ///
    /// # Errors
    /// It does not; the error names the limit.
    pub(super) fn check(&self, device: &str, kernel: &Kernel, source: &str) -> Result<()> {
        let over = |what: &str, wanted: u64, limit: u32| -> Result<()> {
            if wanted <= u64::from(limit) {
                return Ok(());
            }
            let message = format!("needs {wanted} {what}, more than the {limit} of {device}");
            Err(Error::Kernel { kernel: kernel.name(), message })
        };
        over("storage buffers", (kernel.reads + kernel.writes) as u64, self.storage_buffers)?;
        if self.invocations >= WEBGPU_INVOCATIONS && !source.contains("var<workgroup>") {
            return Ok(());
        }
        // What is no WGSL is told by wgpu, which shows where.
        let Some((size, bytes)) = resources(kernel.entry, source) else { return Ok(()) };
        over("invocations a workgroup", size, self.invocations)?;
        over("bytes of workgroup memory", bytes, self.workgroup_bytes)
    }
}

/// The invocations of an entry point's workgroup, and the bytes of memory that they share.
fn resources(entry: &str, source: &str) -> Option<(u64, u64)> {
    let module = wgsl::parse_str(source).ok()?;
    let at = module.entry_points.iter().position(|point| point.name == entry)?;
    let mut validator = Validator::new(ValidationFlags::empty(), Capabilities::all());
    let info = validator.validate(&module).ok()?;
    let used = info.get_entry_point(at);
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).ok()?;
    let shared = module
        .global_variables
        .iter()
        .filter(|(at, global)| global.space == AddressSpace::WorkGroup && !used[*at].is_empty());
    let bytes = shared.map(|(_, global)| u64::from(layouter[global.ty].size.next_multiple_of(16))).sum();
    Some((module.entry_points[at].workgroup_size.iter().map(|&n| u64::from(n)).product(), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limits of a device of this profile on an adapter that allows anything.
    fn limits(profile: LimitsProfile) -> Limits {
        Limits::new(&profile.of(wgpu::Limits::unlimited()))
    }

    #[test]
    fn every_kernel_fits_what_every_webgpu_device_offers() {
        // Where it does not fit, others stand in for it: tests/attention.rs.
        const SPARED: &str = "attention_grad_subgroup.wgsl:subgroup";
        let limits = limits(LimitsProfile::WebGpu);
        for kernel in crate::kernels().into_iter().filter(|kernel| kernel.name() != SPARED) {
            for values in kernel.variants() {
                limits.check("a device", kernel, &kernel.wgsl(&values).unwrap()).unwrap();
            }
        }
    }

    #[test]
    fn what_a_kernel_needs_too_much_of_is_named() {
        const SOURCE: &str = "
            var<workgroup> used: array<vec4f, 1024>;
            var<workgroup> unused: array<vec4f, 1024>;
            @compute @workgroup_size(8, 32) fn wide() { used[0] = vec4f(); }
            @compute @workgroup_size(16, 8) fn narrow() { }";
        let kernel = |entry, reads| Kernel::new("test.wgsl", entry, SOURCE).buffers(reads, 1);
        let half = limits(LimitsProfile::HalfWebGpu);
        let answer = |limits: Limits, entry, reads| match limits.check("gpu", &kernel(entry, reads), SOURCE) {
            Err(Error::Kernel { message, .. }) => message,
            other => format!("{other:?}"),
        };
        assert_eq!(answer(half, "narrow", 3), "Ok(())");
        assert_eq!(answer(half, "narrow", 4), "needs 5 storage buffers, more than the 4 of gpu");
        assert_eq!(answer(half, "wide", 3), "needs 256 invocations a workgroup, more than the 128 of gpu");
        let many = Limits { invocations: 256, ..half };
        assert_eq!(
            answer(many, "wide", 3),
            "needs 16384 bytes of workgroup memory, more than the 8192 of gpu"
        );
        assert_eq!(answer(many, "narrow", 3), "Ok(())", "what another entry point uses");
        assert_eq!(answer(limits(LimitsProfile::WebGpu), "wide", 7), "Ok(())");
    }
}
