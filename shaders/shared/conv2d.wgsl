// What the convolution kernels share: the geometry, the division of the work, and the epilogue.
//
// Output channel `row` of a group at pixel (oy, ox) is the sum over the taps (ky, kx) and over the group's input channels
// c of w[row, c, ky, kx] times x[c] at (oy * stride + ky * dilation - padding, and so for x), which is 0 outside of x.
// That is cross-correlation, as PyTorch's Conv2d.
//
// A transposed convolution is the same sum the other way round (TRANSPOSED): rows are the other side's channels, and a tap
// reaches the pixel from which the forward sum came here, if there is one. So nothing is scattered and no two
// invocations write one element. Each way is the gradient of the other with regard to x.
//
// An invocation loops over at most 65,535 taps and channels: where there are more, Rust dispatches several times, each
// time over a range of them; all but the first resume from what y holds, and the last one has the epilogue.
//
//   x f32 [images, groups * depth, source.x, source.y], contiguous from x_offset on
//   w f32 from w_offset on: row, channel and tap at group * weight_group + row * weight_row + c * weight_depth + tap
//   bias f32 [groups * rows] from b_offset on, read where has_bias is 1
//   y f32 [images, groups * rows, result.x, result.y], contiguous
//   Pairs are (vertical, horizontal). `pixels` counts those of all images of y.
//   TRANSPOSED: 0 forward, 1 transposed with strides of 1, 2 with any    RESUME: 1 adds to what y holds
//   ACTIVATION: what is applied to y (all prepended by ops/conv2d/gpu.rs)

#import shared/grid.wgsl
#import shared/activation.wgsl

struct Params {
    source: vec2u, result: vec2u, kernel: vec2u, stride: vec2u, padding: vec2u, dilation: vec2u,
    images: u32, pixels: u32, groups: u32, rows: u32, depth: u32,
    weight_group: u32, weight_row: u32, weight_depth: u32, has_bias: u32,
    x_offset: u32, w_offset: u32, b_offset: u32,
    first_tap: u32, end_tap: u32, first_depth: u32, end_depth: u32, // taps: rows of the kernel
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

/// One pixel of y; past the last one its image is past the last one too.
struct Pixel { image: u32, at: vec2u }

fn pixel(index: u32) -> Pixel {
    let line = index / p.result.y;
    return Pixel(line / p.result.x, vec2u(line % p.result.x, index % p.result.y));
}

/// The pixel of x that tap `tap` of the pixel of y at `at` reads; past the edge of x where there is none.
fn reached(at: vec2u, tap: vec2u) -> vec2u {
    // Below zero wraps to above every size: Rust checks that padded sizes stay below 2^31.
    if (TRANSPOSED == 0u) { return at * p.stride + tap * p.dilation - p.padding; }
    let origin = at + p.padding - tap * p.dilation;
    if (TRANSPOSED == 1u) { return origin; }
    let whole = origin / p.stride;
    return select(p.source, whole, whole * p.stride == origin);
}

/// The first channel's element of x at `at` of that image and group.
fn x_at(image: u32, group: u32, at: vec2u) -> u32 {
    let plane = (image * p.groups + group) * p.depth + p.first_depth;
    return p.x_offset + (plane * p.source.x + at.x) * p.source.y + at.y;
}

/// The first channel's weight of a tap.
fn w_at(group: u32, row: u32, tap: vec2u) -> u32 {
    return p.w_offset + group * p.weight_group + row * p.weight_row + p.first_depth * p.weight_depth
         + tap.x * p.kernel.y + tap.y;
}

/// Where y has a pixel of a group's first channel.
fn y_at(o: Pixel, group: u32) -> u32 {
    return ((o.image * p.groups + group) * p.rows * p.result.x + o.at.x) * p.result.y + o.at.y;
}

/// The bias of a group's channel; past the last one that one's.
fn bias_of(group: u32, row: u32) -> f32 {
    return select(0.0, bias[p.b_offset + group * p.rows + min(row, p.rows - 1u)], p.has_bias == 1u);
}

fn store(at: u32, sum: f32) {
    var value = sum;
    if (RESUME == 1u) { value += y[at]; }
    y[at] = activate(value);
}
