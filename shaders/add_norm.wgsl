// The sum of two tensors and its normalization, for the residual connections of Transformers ("Add & Norm": Vaswani et al.,
// arXiv:1706.03762): x = a + r and y = (x - mean) / sqrt(variance + eps) * w + b, with the mean and variance of each row.
// Used by: add_layer_norm, add_rms_norm
//
// LANES invocations process one row (shared/row_layout.wgsl). Memory bound: a and r are read once; x and y are written once.
// The invocation that writes an element of x reads it back, twice if CENTRED, else once, which should hit a cache. The fusion
// saves one pass over memory. If Rust cuts rows into slices, binary.wgsl computes the sum and normalize.wgsl the rest.
//
//   a, r f32, contiguous from a_offset and r_offset     w, b [channels] f32
//   x, y f32, contiguous     mean, variance [rows] f32
//   WG: invocations per workgroup     LANES: invocations per row     FLAT: 1 if every run of a row has one element
//   CENTRED: 1 if the mean is subtracted (prepended by ops/normalize/gpu.rs)

#import shared/normalize.wgsl
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

/// Computes and stores an element of x. Only this invocation reads it back, so no barrier is needed.
fn taken(at: u32) -> f32 {
    let sum = a[p.a_offset + at] + r[p.r_offset + at];
    x[at] = sum;
    return sum;
}

@compute @workgroup_size(WG)
fn add_norm(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
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
