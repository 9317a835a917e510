// y = (x - mean) / sqrt(variance + eps) * w + b with known statistics: the last step of layer, RMS, group, instance and batch
// normalization.
//
// Imported by: normalize.wgsl, normalize_given_stats.wgsl, add_norm.wgsl
// Expects: x, w, b, y: the bindings, p: Params, WG, LANES, FLAT.

#import shared/common.wgsl
#import shared/row_layout.wgsl

/// `count`: the elements of a row. w and b are not read where has_weight and has_bias are 0.
struct Params {
    rows: RowLayout,
    count: f32, eps: f32, x_offset: u32,
    w_offset: u32, b_offset: u32, has_weight: u32, has_bias: u32,
    mean_offset: u32, variance_offset: u32, a_offset: u32, r_offset: u32,
}

fn normalized(x: f32, mean: f32, scale: f32, channel: u32) -> f32 {
    var y = (x - mean) * scale;
    if (p.has_weight == 1u) { y *= w[p.w_offset + channel]; }
    if (p.has_bias == 1u) { y += b[p.b_offset + channel]; }
    return y;
}

/// Writes y for this lane's elements of a slice. `scale`: 1 / sqrt(variance + eps).
fn write(s: Slice, row_mean: f32, scale: f32) {
    let mean = origin_of(row_mean, scale);
    var at = place(s.row, s.begin + s.lane);
    var c = s.begin + s.lane;
    for (; c + 3u * LANES < s.end; c += 4u * LANES) {
        let k = next(at);
        let l = next(k);
        let m = next(l);
        let v = vec4f(x[p.x_offset + at.y], x[p.x_offset + k.y], x[p.x_offset + l.y], x[p.x_offset + m.y]);
        y[at.y] = normalized(v.x, mean, scale, at.z);
        y[k.y] = normalized(v.y, mean, scale, k.z);
        y[l.y] = normalized(v.z, mean, scale, l.z);
        y[m.y] = normalized(v.w, mean, scale, m.z);
        at = next(m);
    }
    for (; c < s.end; c += LANES) {
        y[at.y] = normalized(x[p.x_offset + at.y], mean, scale, at.z);
        at = next(at);
    }
}
