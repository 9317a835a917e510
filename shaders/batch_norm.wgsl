// Normalization with given statistics: y[r, c] = (x[r, c] - mean_r) / sqrt(variance_r + eps) * w + b.
//
// Used by: layer_norm, rms_norm, group_norm, instance_norm, batch_norm, batch_norm_by, add_layer_norm, add_rms_norm
//
// It is batch normalization in evaluation mode (Ioffe & Szegedy, arXiv:1502.03167), where a row is a channel over all n and the
// statistics are running averages (running_stats.wgsl). In training, group_norm.wgsl computes the statistics; if it cuts rows into
// slices, this kernel is the last step, for every kind of row.
//
// LANES invocations process one slice of a row (shared/row_layout.wgsl). Memory bound: x is read once, y written once.
//
//   x, y             f32 [n, channels, span], contiguous (x from x_offset)
//   w, b             f32 [channels], from their offsets; not read where has_weight, has_bias are 0
//   mean, variance   f32 [rows], from their offsets
//
// Constants prepended by ops/normalize/gpu.rs: WG: invocations per workgroup. LANES: invocations per slice. FLAT: 1 if runs have
// one element.

#import shared/group_norm.wgsl

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> mean: array<f32>;
@group(0) @binding(4) var<storage, read> variance: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn batch_norm(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
              @builtin(local_invocation_index) local: u32) {
    let s = slice_of(group, groups, local);
    if (!s.valid) { return; }
    write(s, frame(mean[p.mean_offset + s.row], variance[p.variance_offset + s.row]));
}
