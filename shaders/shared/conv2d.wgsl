// What all convolution kernels have in common: the geometry, the bindings and the epilogue. Output channel `row` of a group is
//
//   y[row, oy, ox] = activation(bias[row] + sum over c, ky, kx of w[row, c, ky, kx] x[c, iy, ix])
//
// with iy = oy * stride + ky * dilation - padding, likewise ix, and x = 0 outside. c counts the input channels of the group. This
// is cross-correlation, as PyTorch's Conv2d.
//
// `rows` are the output channels of a group and `depth` its input channels, as in the matrix product that im2col would make.
// Pairs are (vertical, horizontal): .x is vertical. `pixels` is the number of pixels in all images of y.
// Imported by: shared/conv2d_tile.wgsl
// Expects: TRANSPOSED, RESUME, ACTIVATION.
//
// A transposed convolution (TRANSPOSED) is the same sum with input and output exchanged. `rows` are the channels of the other
// side, and a tap reads the pixel from which the forward convolution reaches this one, if there is one. So nothing is scattered,
// and no two invocations write the same element. Each direction is the gradient of the other with respect to x.
//
// An invocation loops over at most 65,535 taps and channels. Beyond that Rust dispatches several times, each time over a range of
// them. All dispatches but the first add to y (RESUME), and the last one has the epilogue.
//
//   x f32 [images, groups * depth, source.x, source.y], contiguous from x_offset
//   w f32 from w_offset: row, channel and tap at group * weight_group + row * weight_row + c * weight_depth + tap
//   bias f32 [groups * rows] from b_offset, read if has_bias is 1
//   y f32 [images, groups * rows, result.x, result.y], contiguous
//
// Constants prepended by ops/conv2d/gpu.rs: TRANSPOSED: 0 forward, 1 transposed with strides of 1, 2 transposed with any strides.
// RESUME: 1 adds to y. ACTIVATION: the function applied to y.

#import shared/common.wgsl

struct Params {
    source: vec2u, result: vec2u, kernel: vec2u, stride: vec2u, padding: vec2u, dilation: vec2u,
    images: u32, pixels: u32, groups: u32, rows: u32, depth: u32,
    weight_group: u32, weight_row: u32, weight_depth: u32, has_bias: u32,
    x_offset: u32, w_offset: u32, b_offset: u32,
    first_kernel_row: u32, end_kernel_row: u32, first_depth: u32, end_depth: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

/// One pixel of y. For an index past the end, the image is past the end too.
struct Pixel { image: u32, at: vec2u }

fn pixel(index: u32) -> Pixel {
    let line = index / p.result.y;
    return Pixel(line / p.result.x, vec2u(line % p.result.x, index % p.result.y));
}

/// The pixel of x that a tap of the pixel of y at `at` reads; outside of x if there is none.
fn reached(at: vec2u, tap: vec2u) -> vec2u {
    // A negative position wraps around and exceeds every size: Rust checks that padded sizes are below 2^31.
    if (TRANSPOSED == 0u) { return at * p.stride + tap * p.dilation - p.padding; }
    let origin = at + p.padding - tap * p.dilation;
    if (TRANSPOSED == 1u) { return origin; }
    let whole = origin / p.stride;
    return select(p.source, whole, whole * p.stride == origin);
}

/// The index in x of pixel `at` in the first channel of an image and group.
fn x_at(image: u32, group: u32, at: vec2u) -> u32 {
    let plane = (image * p.groups + group) * p.depth + p.first_depth;
    return p.x_offset + (plane * p.source.x + at.x) * p.source.y + at.y;
}

/// The index in w of a tap in the first channel of a group and row.
fn w_at(group: u32, row: u32, tap: vec2u) -> u32 {
    return p.w_offset + group * p.weight_group + row * p.weight_row + p.first_depth * p.weight_depth
         + tap.x * p.kernel.y + tap.y;
}

/// The index in y of a pixel in the first channel of a group.
fn y_at(o: Pixel, group: u32) -> u32 {
    return ((o.image * p.groups + group) * p.rows * p.result.x + o.at.x) * p.result.y + o.at.y;
}

/// The bias of channel `row` of a group, clamped to the last one.
fn bias_of(group: u32, row: u32) -> f32 {
    return select(0.0, bias[p.b_offset + group * p.rows + min(row, p.rows - 1u)], p.has_bias == 1u);
}

fn store(at: u32, sum: f32) {
    var value = sum;
    if (RESUME == 1u) { value += y[at]; }
    y[at] = activate(value, ACTIVATION);
}
