// y = (x - mean) / sqrt(variance + eps) * w + b: what layer, RMS, group, instance and batch normalisation have in common
// once the statistics are known. The importing file has x, w, b and y.

#import shared/float.wgsl
#import shared/rows.wgsl

/// `count`: the elements of a row. Where has_weight or has_bias is 0 there is none, and nothing is read.
struct Params {
    rows: Rows,
    count: f32, eps: f32, x_offset: u32,
    w_offset: u32, b_offset: u32, has_weight: u32, has_bias: u32,
    mean_offset: u32, variance_offset: u32, a_offset: u32, r_offset: u32,
}

fn standardised(x: f32, mean: f32, scale: f32, channel: u32) -> f32 {
    var y = (x - mean) * scale;
    if (p.has_weight == 1u) { y *= w[p.w_offset + channel]; }
    if (p.has_bias == 1u) { y += b[p.b_offset + channel]; }
    return y;
}

fn write(s: Slice, row_mean: f32, scale: f32) {
    let mean = origin_of(row_mean, scale);
    var at = place(s.row, s.begin + s.lane);
    var c = s.begin + s.lane;
    for (; c + 3u * LANES < s.end; c += 4u * LANES) {
        let k = next(at);
        let l = next(k);
        let m = next(l);
        let v = vec4f(x[p.x_offset + at.y], x[p.x_offset + k.y], x[p.x_offset + l.y], x[p.x_offset + m.y]);
        y[at.y] = standardised(v.x, mean, scale, at.z);
        y[k.y] = standardised(v.y, mean, scale, k.z);
        y[l.y] = standardised(v.z, mean, scale, l.z);
        y[m.y] = standardised(v.w, mean, scale, m.z);
        at = next(m);
    }
    for (; c < s.end; c += LANES) {
        y[at.y] = standardised(x[p.x_offset + at.y], mean, scale, at.z);
        at = next(at);
    }
}
