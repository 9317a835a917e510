//! Compiled kernels and bind groups, each made once.

use super::buffer::GpuBuffer;
use super::handle::Handle;
use super::kernel::Kernel;
use super::quirks::Variant;
use super::{out_of_bounds, wgsl};
use crate::{Error, Result};
use std::collections::HashMap;
use std::num::NonZeroU64;

/// What a pipeline's bindings look like: read-only buffers, read-write buffers, bytes of parameters.
type Signature = (usize, usize, u64);

/// More bind groups than this are dropped together: a long run with ever new shapes must not keep them all.
const MOST_BIND_GROUPS: usize = 4096;

#[derive(Default)]
pub(super) struct Cache {
    layouts: HashMap<Signature, (wgpu::BindGroupLayout, wgpu::PipelineLayout)>,
    /// By the address of the kernel's `static`, and the constants.
    pipelines: HashMap<(usize, Vec<u32>), wgpu::ComputePipeline>,
    bind_groups: HashMap<(Signature, Vec<u64>), wgpu::BindGroup>,
}

impl Cache {
    /// The pipeline of a kernel for these constants, compiled at the first call.
    pub(super) fn pipeline(
        &mut self,
        gpu: &Handle,
        kernel: &'static Kernel,
        constants: &[u32],
    ) -> Result<wgpu::ComputePipeline> {
        let key = (std::ptr::from_ref(kernel) as usize, constants.to_vec());
        if let Some(pipeline) = self.pipelines.get(&key) {
            return Ok(pipeline.clone());
        }
        let source = kernel.wgsl(constants)?;
        gpu.limits.check(&gpu.report.id, kernel, &source)?;
        let uniform = has_uniform_params(gpu, signature(kernel));
        let source = if uniform { source } else { source.replace("var<uniform>", "var<storage, read>") };
        let source = if gpu.worst_case { wgsl::worst_case(&source) } else { source };
        let source =
            if gpu.shows_out_of_bounds { out_of_bounds::caught(&source, kernel.entry) } else { source };
        let name = kernel.name();
        let (_, layout) = self.layout(gpu, signature(kernel));
        let pipeline = gpu.caught(0, || {
            let checks = wgpu::ShaderRuntimeChecks {
                // Of a changed kernel nothing is known.
                force_loop_bounding: !kernel.loops_end() || wgsl::stand_ins().is_some(),
                ..Default::default()
            };
            let descriptor = wgpu::ShaderModuleDescriptor {
                label: Some(&name),
                source: wgpu::ShaderSource::Wgsl(source.into()),
            };
            // SAFETY: where loops go uncounted the kernel is one of the crate's own, all of whose loops count up to a bound,
            // by the law that none makes more than 65,535 iterations. All other checks stay.
            let module = unsafe { gpu.device.create_shader_module_trusted(descriptor, checks) };
            gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&name),
                layout: Some(layout),
                module: &module,
                entry_point: Some(kernel.entry),
                compilation_options: wgpu::PipelineCompilationOptions {
                    zero_initialize_workgroup_memory: gpu.allows(Variant::ZeroedMemory),
                    ..Default::default()
                },
                cache: None,
            })
        });
        let pipeline = pipeline.map_err(|error| match error {
            Error::Gpu { message } => Error::Kernel { kernel: name.clone(), message },
            other => other,
        })?;
        self.pipelines.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    /// The bind group of these buffers and the parameter arena.
    pub(super) fn bind_group(
        &mut self,
        gpu: &Handle,
        kernel: &'static Kernel,
        buffers: &[&GpuBuffer],
        arena: &wgpu::Buffer,
    ) -> Result<wgpu::BindGroup> {
        let signature = signature(kernel);
        let raws = buffers.iter().map(|buffer| buffer.raw()).collect::<Result<Vec<_>>>()?;
        let key = (signature, raws.iter().map(|raw| raw.id).collect::<Vec<_>>());
        if let Some(group) = self.bind_groups.get(&key) {
            return Ok(group.clone());
        }
        if self.bind_groups.len() >= MOST_BIND_GROUPS {
            self.bind_groups.clear();
        }
        let mut entries: Vec<_> = (0..)
            .zip(&raws)
            .map(|(binding, raw)| wgpu::BindGroupEntry { binding, resource: raw.buffer.as_entire_binding() })
            .collect();
        entries.push(wgpu::BindGroupEntry {
            binding: entries.len() as u32,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: arena,
                offset: 0,
                size: NonZeroU64::new(signature.2),
            }),
        });
        let (layout, _) = self.layout(gpu, signature);
        let group = gpu.caught(0, || {
            gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout,
                entries: &entries,
            })
        })?;
        self.bind_groups.insert(key, group.clone());
        Ok(group)
    }

    /// Forgets the bind groups, which keep their buffers alive.
    pub(super) fn forget_bind_groups(&mut self) {
        self.bind_groups.clear();
    }

    fn layout(
        &mut self,
        gpu: &Handle,
        signature: Signature,
    ) -> &(wgpu::BindGroupLayout, wgpu::PipelineLayout) {
        self.layouts.entry(signature).or_insert_with(|| {
            let (reads, writes, params) = signature;
            let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
            let mut kinds = vec![(storage(true), false, None); reads];
            kinds.resize(reads + writes, (storage(false), false, None));
            let uniform = has_uniform_params(gpu, signature);
            let params_kind = if uniform { wgpu::BufferBindingType::Uniform } else { storage(true) };
            kinds.push((params_kind, true, NonZeroU64::new(params)));
            let entries: Vec<_> = (0..)
                .zip(kinds)
                .map(|(binding, (ty, has_dynamic_offset, min_binding_size))| wgpu::BindGroupLayoutEntry {
                    binding,
                    visibility: wgpu::ShaderStages::COMPUTE,
                    ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size },
                    count: None,
                })
                .collect();
            let group = gpu.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: None,
                entries: &entries,
            });
            let pipeline = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&group)],
                immediate_size: 0,
            });
            (group, pipeline)
        })
    }
}

/// Whether the parameters are a uniform: always where they would be one storage buffer too many.
fn has_uniform_params(gpu: &Handle, (reads, writes, _): Signature) -> bool {
    gpu.allows(Variant::UniformParams) || (reads + writes) as u32 >= gpu.limits.storage_buffers
}

fn signature(kernel: &Kernel) -> Signature {
    // A binding of 0 bytes would be the whole arena, which no offset but 0 fits.
    (kernel.reads, kernel.writes, (kernel.params as u64).max(1).next_multiple_of(16))
}
