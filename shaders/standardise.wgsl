// Rows brought to mean 0 and variance 1, then scaled and shifted by channel:
// y[r, c] = (x[r, c] - mean_r) / sqrt(variance_r + eps) * w + b, with mean_r the mean over c of x[r, c] and variance_r that
// of (x[r, c] - mean_r)². Where not CENTRED mean_r is 0 instead. What a row is makes this layer normalisation (Ba, Kiros &
// Hinton, arXiv:1607.06450), RMS normalisation (Zhang & Sennrich, arXiv:1910.07467; not centred), group normalisation (Wu
// & He, arXiv:1803.08494), instance normalisation, or batch normalisation (Ioffe & Szegedy, arXiv:1502.03167).
// shared/row_moments.wgsl says how the moments are found.
//
//   standardise  a team a row (shared/rows.wgsl): x is read three times, of which two should hit a cache; y written once
//   fold         few long rows are cut into slices: the moments of each
//   merge        and those of its slices for a row; standardise_by.wgsl writes y then
//
//   x, y f32, contiguous     w, b [channels] f32
//   mean, variance [rows] f32     parts [rows * slices, 2] f32: mean and sum of squares
//   WG: invocations a workgroup    LANES: invocations a slice    FLAT: 1 where runs have one element
//   CENTRED: 1 where the mean is taken off (prepended by ops/standardise/gpu.rs)

#import shared/standardise.wgsl
#import shared/row_moments.wgsl

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> mean: array<f32>;
@group(0) @binding(5) var<storage, read_write> variance: array<f32>;
@group(0) @binding(6) var<storage, read_write> parts: array<f32>;
@group(0) @binding(7) var<uniform> p: Params;

fn taken(at: u32) -> f32 {
    return x[p.x_offset + at];
}

@compute @workgroup_size(WG)
fn standardise(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
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
fn fold(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
    let s = slice_of(group, groups, local);
    let m = moments(s, local);
    if (!s.valid || s.lane != 0u) { return; }
    parts[2u * s.at] = m.x;
    parts[2u * s.at + 1u] = m.y;
}

/// Two passes again: the mean of the means m_s of the slices, each n_s elements, from that of the first slice on; then
/// the squares within the slices and n_s (m_s - mean)² for each.
@compute @workgroup_size(WG)
fn merge(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) local: u32) {
    let lane = local % LANES;
    let number = folded(group, groups) * (WG / LANES) + local / LANES;
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
    sum = together(sum, local, lane);
    let centre = known_mean(origin + sum.x / p.count, p.count, sum.y);
    sum = vec2f(0.0);
    for (var i = first.x + lane * first.y; i <= last; i += LANES * first.y) {
        let d = parts[2u * i] - centre;
        sum.y += parts[2u * i + 1u] + select(f32(p.rows.size), rest, i == last) * (d * d);
    }
    sum = together(sum, local, lane);
    if (!valid || lane != 0u) { return; }
    mean[row] = centre;
    variance[row] = sum.y / p.count;
}
