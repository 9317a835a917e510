// Exponential moving averages of batch statistics, in place, as in PyTorch:
//
//   running_mean += momentum (mean - running_mean)
//   running_variance += momentum (variance unbias - running_variance)
//
// Used by: BatchNorm::update
//
// Ioffe & Szegedy (arXiv:1502.03167). `unbias` makes the batch's variance the unbiased estimate. One invocation handles one
// channel. Memory bound.
//
//   mean, variance                   f32 [count], contiguous from their offsets: of the batch
//   running_mean, running_variance   f32 [count]
//
// Constants prepended by ops/normalize/gpu.rs: WG: invocations per workgroup.

#import shared/common.wgsl

struct Params { count: u32, mean_offset: u32, variance_offset: u32, momentum: f32, unbias: f32 }

@group(0) @binding(0) var<storage, read> mean: array<f32>;
@group(0) @binding(1) var<storage, read> variance: array<f32>;
@group(0) @binding(2) var<storage, read_write> running_mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> running_variance: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn running_stats(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i >= p.count) { return; }
    running_mean[i] += p.momentum * (mean[p.mean_offset + i] - running_mean[i]);
    running_variance[i] += p.momentum * (variance[p.variance_offset + i] * p.unbias - running_variance[i]);
}
