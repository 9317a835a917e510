// Group, instance and batch normalization: each row of a tensor [n, channels, span] is normalized to mean 0 and variance 1, then
// scaled and shifted per channel.
//
//   y[r, c] = (x[r, c] - mean_r) / sqrt(variance_r + eps) * w + b
//   mean_r = the mean of x[r, c] over c, or 0 if not CENTRED;  variance_r = the mean of (x[r, c] - mean_r)² over c
//
// Used by: layer_norm, rms_norm, group_norm, instance_norm, batch_norm, add_layer_norm, add_rms_norm
//
// A row is a group of channels of one n in group normalization (Wu & He, arXiv:1803.08494); one channel of one n in instance
// normalization (Ulyanov, Vedaldi & Lempitsky, arXiv:1607.08022); one channel over all n in batch normalization (Ioffe & Szegedy,
// arXiv:1502.03167). shared/row_layout.wgsl draws them. A row of layer_norm.wgsl that is cut into slices is one of these too: a
// group of all channels, with span 1.
//
//   group_norm     LANES invocations process a whole row; shared/norm_row.wgsl says how its mean and variance are found
//   reduce_slices  where there are few long rows: computes the moments of each slice of a row
//   merge_slices   combines the moments of a row's slices; batch_norm.wgsl then writes y
//
// Memory bound: x is read three times (twice if not CENTRED), of which all but the first should hit a cache; y is written once.
//
//   x, y             f32 [n, channels, span], contiguous (x from x_offset)
//   w, b             f32 [channels], from their offsets; not read where has_weight, has_bias are 0
//   mean, variance   f32 [rows]
//   parts            f32 [rows * slices, 2]: mean and sum of squared deviations of each slice
//
// Constants prepended by ops/normalize/gpu.rs: WG: invocations per workgroup. LANES: invocations per slice. FLAT: 1 if runs have
// one element. CENTRED: 1 if the mean is subtracted.

#import shared/group_norm.wgsl
#import shared/norm_row.wgsl

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> mean: array<f32>;
@group(0) @binding(5) var<storage, read_write> variance: array<f32>;
@group(0) @binding(6) var<storage, read_write> parts: array<f32>;
@group(0) @binding(7) var<uniform> p: Params;

/// The sums over a lane's elements, for shared/norm_row.wgsl.
fn sums(s: Slice, origin: f32, count_nonfinite: bool) -> vec2f {
    var sum = vec2f(0.0);
    var at = place(s.row, s.begin + s.lane);
    var c = s.begin + s.lane;
    for (; c + 3u * LANES < s.end; c += 4u * LANES) {
        let at1 = next(at);
        let at2 = next(at1);
        let at3 = next(at2);
        let v = vec4f(x[p.x_offset + at.index], x[p.x_offset + at1.index], x[p.x_offset + at2.index], x[p.x_offset + at3.index]);
        sum += moment_terms4(v, origin, count_nonfinite);
        at = next(at3);
    }
    for (; c < s.end; c += LANES) {
        sum += moment_terms(x[p.x_offset + at.index], origin, count_nonfinite);
        at = next(at);
    }
    return sum;
}

/// The mean of a slice and the sum of squared deviations from it. The whole workgroup must call it.
fn moments(s: Slice, local: u32) -> vec2f {
    let count = f32(s.end - s.begin);
    var origin = 0.0;
    if (CENTRED == 1u) { origin = first_mean(workgroup_reduce(sums(s, 0.0, true), local, s.lane), count); }
    let sum = workgroup_reduce(sums(s, origin, false), local, s.lane);
    if (CENTRED == 0u) { return vec2f(0.0, sum.y); }
    return corrected(sum, origin, count);
}

@compute @workgroup_size(WG)
fn group_norm(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
              @builtin(local_invocation_index) local: u32) {
    let s = slice_of(group, groups, local);
    let m = moments(s, local);
    if (!s.valid) { return; }
    let v = m.y / p.count;
    if (s.lane == 0u) {
        mean[s.row] = m.x;
        variance[s.row] = v;
    }
    write(s, frame(m.x, v));
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
    let all = slices_of(group, groups, local);
    let rest = f32(p.rows.cols - (p.rows.slices - 1u) * p.rows.size);
    let origin = parts[2u * all.first];

    var sum = vec2f(0.0);
    for (var i = all.begin; i <= all.last; i += all.step) {
        let m = parts[2u * i];
        sum += vec2f(select(f32(p.rows.size), rest, i == all.last) * (m - origin), select(1.0, 0.0, is_finite(m)));
    }
    sum = workgroup_reduce(sum, local, all.lane);
    let centre = mean_or_0(origin + sum.x / p.count, p.count, sum.y);
    sum = vec2f(0.0);
    for (var i = all.begin; i <= all.last; i += all.step) {
        let d = parts[2u * i] - centre;
        sum.y += parts[2u * i + 1u] + select(f32(p.rows.size), rest, i == all.last) * (d * d);
    }
    sum = workgroup_reduce(sum, local, all.lane);
    if (!all.valid || all.lane != 0u) { return; }
    mean[all.row] = centre;
    variance[all.row] = sum.y / p.count;
}
