// The last step of standardise.wgsl, with statistics that are known: those of a long row's slices, or given ones (batch
// normalisation in evaluation). y[r, c] = (x[r, c] - mean_r) / sqrt(variance_r + eps) * w + b.
//
// A team a slice of a row (shared/rows.wgsl). x is read once, y written once.
//
//   x, y f32, contiguous     w, b [channels] f32     mean, variance [rows] f32
//   WG: invocations a workgroup    LANES: invocations a slice    FLAT: 1 where runs have one element
//   (prepended by ops/standardise/gpu.rs)

#import shared/standardise.wgsl

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> mean: array<f32>;
@group(0) @binding(4) var<storage, read> variance: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn standardise_by(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                  @builtin(local_invocation_index) local: u32) {
    let s = slice_of(group, groups, local);
    if (!s.valid) { return; }
    write(s, mean[p.mean_offset + s.row], rsqrt_nan(variance[p.variance_offset + s.row] + p.eps));
}
