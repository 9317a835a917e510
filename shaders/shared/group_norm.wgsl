// y = (x - mean) / sqrt(variance + eps) * w + b: the last step of group_norm.wgsl, and all of batch_norm.wgsl.
//
// Imported by: group_norm.wgsl, batch_norm.wgsl
// Expects: x, w, b, y: the bindings, p: Params, WG, LANES, FLAT.

#import shared/norm_row.wgsl
#import shared/row_layout.wgsl

/// `count`: the elements of a row. w and b are not read where has_weight and has_bias are 0.
struct Params {
    rows: RowLayout,
    count: f32, eps: f32, x_offset: u32,
    w_offset: u32, b_offset: u32, has_weight: u32, has_bias: u32,
    mean_offset: u32, variance_offset: u32,
}

fn normalized(x: f32, f: Frame, channel: u32) -> f32 {
    var y = (x - f.origin) * f.scale;
    if (p.has_weight == 1u) { y *= w[p.w_offset + channel]; }
    if (p.has_bias == 1u) { y += b[p.b_offset + channel]; }
    return y;
}

/// Writes y for this lane's elements of a slice.
fn write(s: Slice, f: Frame) {
    var at = place(s.row, s.begin + s.lane);
    var c = s.begin + s.lane;
    for (; c + 3u * LANES < s.end; c += 4u * LANES) {
        let at1 = next(at);
        let at2 = next(at1);
        let at3 = next(at2);
        let v = vec4f(x[p.x_offset + at.index], x[p.x_offset + at1.index], x[p.x_offset + at2.index], x[p.x_offset + at3.index]);
        y[at.index] = normalized(v.x, f, at.channel);
        y[at1.index] = normalized(v.y, f, at1.channel);
        y[at2.index] = normalized(v.z, f, at2.channel);
        y[at3.index] = normalized(v.w, f, at3.channel);
        at = next(at3);
    }
    for (; c < s.end; c += LANES) {
        y[at.index] = normalized(x[p.x_offset + at.index], f, at.channel);
        at = next(at);
    }
}
