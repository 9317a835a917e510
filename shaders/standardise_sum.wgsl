// The sum of two tensors, and its rows brought to mean 0 and variance 1, scaled and shifted: x = a + r and y as in
// standardise.wgsl, for the residual connections of transformers ("Add & Norm": Vaswani et al., arXiv:1706.03762), whose
// sum goes on beside what is normalised.
//
// A team a row (shared/rows.wgsl). a and r are read once, x is written once and read twice by the invocation that
// wrote it, which should hit a cache; y is written once. That saves a pass over memory. Rows so long and few that they are
// cut into slices are added up by binary.wgsl before standardise.wgsl.
//
//   a, r, x, y f32, contiguous, a and r from a_offset and r_offset on     w, b [channels] f32     mean, variance [rows] f32
//   WG: invocations a workgroup    LANES: invocations a row    FLAT: 1 where runs have one element
//   CENTRED: 1 where the mean is taken off (prepended by ops/standardise/gpu.rs)

#import shared/standardise.wgsl
#import shared/row_moments.wgsl

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> r: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> x: array<f32>;
@group(0) @binding(6) var<storage, read_write> mean: array<f32>;
@group(0) @binding(7) var<storage, read_write> variance: array<f32>;
@group(0) @binding(8) var<uniform> p: Params;

/// Written for when this invocation reads it again.
fn taken(at: u32) -> f32 {
    let sum = a[p.a_offset + at] + r[p.r_offset + at];
    x[at] = sum;
    return sum;
}

@compute @workgroup_size(WG)
fn standardise_sum(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                   @builtin(local_invocation_index) local: u32) {
    let s = slice_of(group, groups, local);
    let m = moments(s, local);
    if (!s.valid) { return; }
    let v = m.y / p.count;
    if (s.lane == 0u) {
        mean[s.row] = m.x;
        variance[s.row] = v;
    }
    write(s, m.x, rsqrt_nan(v + p.eps));
}
