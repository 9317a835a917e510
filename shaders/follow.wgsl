// Running statistics that follow a batch's, in place: running += momentum (batch - running); of the variance the unbiased
// estimate, batch * unbias. Ioffe & Szegedy (arXiv:1502.03167), averaged as PyTorch does.
//
// One invocation a channel.
//
//   mean, variance [count] f32: the batch's     running_mean, running_variance [count] f32
//   WG: invocations a workgroup (prepended by ops/standardise/gpu.rs)

#import shared/grid.wgsl

struct Params { count: u32, mean_offset: u32, variance_offset: u32, momentum: f32, unbias: f32 }

@group(0) @binding(0) var<storage, read> mean: array<f32>;
@group(0) @binding(1) var<storage, read> variance: array<f32>;
@group(0) @binding(2) var<storage, read_write> running_mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> running_variance: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn follow(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
    let i = folded(group, groups) * WG + lane;
    if (i >= p.count) { return; }
    running_mean[i] += p.momentum * (mean[p.mean_offset + i] - running_mean[i]);
    running_variance[i] += p.momentum * (variance[p.variance_offset + i] * p.unbias - running_variance[i]);
}
