// Each row is normalized to mean 0 and variance 1, then scaled and shifted per channel:
//
//   y[r, c] = (x[r, c] - mean_r) / sqrt(variance_r + eps) * w + b
//   mean_r = the mean of x[r, c] over c, or 0 where not CENTRED;  variance_r = the mean of (x[r, c] - mean_r)² over c
//
// Used by: layer_norm, rms_norm, group_norm, instance_norm, batch_norm, add_layer_norm, add_rms_norm
//
// The choice of rows makes this layer normalization (Ba, Kiros & Hinton, arXiv:1607.06450), RMS normalization (Zhang &
// Sennrich, arXiv:1910.07467; not centred), group normalization (Wu & He, arXiv:1803.08494), instance normalization, or batch
// normalization (Ioffe & Szegedy, arXiv:1502.03167). shared/row_moments.wgsl computes the moments.
//
//   normalize   LANES invocations process a whole row (shared/row_layout.wgsl). x is read three times (twice where not CENTRED),
//               of which all but the first should hit a cache; y is written once.
//   reduce_slices  where there are few long rows: computes the moments of each slice of a row
//   merge_slices   combines the moments of a row's slices; normalize_given_stats.wgsl then writes y
//
//   x, y             f32, contiguous (x from x_offset)
//   w, b             f32 [channels]
//   mean, variance   f32 [rows]
//   parts            f32 [rows * slices, 2]: mean and sum of squared deviations of each slice
//
// Constants prepended by ops/normalize/gpu.rs: WG: invocations per workgroup. LANES: invocations per slice. FLAT: 1 where runs
// have one element. CENTRED: 1 where the mean is subtracted.

#import shared/normalize.wgsl
#import shared/row_moments.wgsl

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> mean: array<f32>;
@group(0) @binding(5) var<storage, read_write> variance: array<f32>;
@group(0) @binding(6) var<storage, read_write> parts: array<f32>;
@group(0) @binding(7) var<uniform> p: Params;

/// The first read of an element, for shared/row_moments.wgsl.
fn taken(at: u32) -> f32 {
    return x[p.x_offset + at];
}

@compute @workgroup_size(WG)
fn normalize(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
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

@compute @workgroup_size(WG)
fn reduce_slices(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
    let s = slice_of(group, groups, local);
    let m = moments(s, local);
    if (!s.valid || s.lane != 0u) { return; }
    parts[2u * s.at] = m.x;
    parts[2u * s.at + 1u] = m.y;
}

/// Two passes over the slices of n_s elements with mean m_s: first the weighted mean of the m_s, relative to the first slice's;
/// then the sum of each slice's squared deviations and n_s (m_s - mean)².
@compute @workgroup_size(WG)
fn merge_slices(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) local: u32) {
    let lane = local % LANES;
    let number = workgroup_index(group, groups) * (WG / LANES) + local / LANES;
    let valid = number < p.rows.rows;
    let row = select(0u, number, valid);
    let first = parts_of(row);
    let last = first.x + (p.rows.slices - 1u) * first.y;
    let rest = f32(p.rows.cols - (p.rows.slices - 1u) * p.rows.size);
    let origin = parts[2u * first.x];

    var sum = vec2f(0.0);
    for (var i = first.x + lane * first.y; i <= last; i += LANES * first.y) {
        let m = parts[2u * i];
        sum += vec2f(select(f32(p.rows.size), rest, i == last) * (m - origin), select(1.0, 0.0, is_finite(m)));
    }
    sum = workgroup_reduce(sum, local, lane);
    let centre = known_mean(origin + sum.x / p.count, p.count, sum.y);
    sum = vec2f(0.0);
    for (var i = first.x + lane * first.y; i <= last; i += LANES * first.y) {
        let d = parts[2u * i] - centre;
        sum.y += parts[2u * i + 1u] + select(f32(p.rows.size), rest, i == last) * (d * d);
    }
    sum = workgroup_reduce(sum, local, lane);
    if (!valid || lane != 0u) { return; }
    mean[row] = centre;
    variance[row] = sum.y / p.count;
}
