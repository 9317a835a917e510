// The gradient of a 2-D convolution with respect to its weight, for each group:
//
//   dw[row, c, ky, kx] = sum over images n and pixels (oy, ox) of dy[n, row, oy, ox] x[n, c, iy, ix]
//
// with iy = oy * stride + ky * dilation - padding, likewise ix, and x = 0 outside.
// Used by: conv2d, conv2d_with, conv1d, conv_transpose2d, conv_transpose2d_with, conv_transpose1d (gradient)
//
// There are few outputs and long sums, so the pixels are cut into slices (split-K). A slice has every `slices`-th pixel, so that
// neighbouring invocations read neighbouring pixels. Each slice stores a partial sum, and reduce.wgsl adds these (`sum`
// in ops/conv2d/mod.rs), without atomics. Not bound by memory bandwidth: each number is read often, from caches. The entry points:
//
// naive:      one invocation per weight and slice. Two loads per multiply-add.
// registers:  one invocation per slice and 8 rows by 12 columns of the [rows, depth * taps] weight of a group, held in six 4 x 4
//             matrices. Each pixel takes 8 + 12 loads for 96 multiply-adds.
//
//   x f32 [images, groups * depth, source.x, source.y], contiguous from x_offset
//   dy f32 [images, groups * rows, result.x, result.y], contiguous from dy_offset
//   partial f32 [slices, groups, rows, depth, kernel.x, kernel.y], contiguous
//   Pairs are (vertical, horizontal). `pixels` is the number of pixels in all images of dy, `step` the number of slices as
//   (images, rows, columns) of pixels, `weights` the length of a partial sum.

#import shared/common.wgsl

struct Params {
    source: vec2u, result: vec2u, kernel: vec2u, stride: vec2u, padding: vec2u, dilation: vec2u,
    step: vec3u, pixels: u32,
    groups: u32, rows: u32, depth: u32, slices: u32,
    weights: u32, x_offset: u32, dy_offset: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> partial: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

/// One pixel of dy.
struct Pixel { image: u32, at: vec2u }

fn pixel(index: u32) -> Pixel {
    let line = index / p.result.y;
    return Pixel(line / p.result.x, vec2u(line % p.result.x, index % p.result.y));
}

/// The next pixel of the same slice, `step` later.
fn next(o: Pixel) -> Pixel {
    var image = o.image + p.step.x;
    var at = o.at + p.step.yz;
    if (at.y >= p.result.y) { at = vec2u(at.x + 1u, at.y - p.result.y); }
    if (at.x >= p.result.x) { at.x -= p.result.x; image++; }
    return Pixel(image, at);
}

/// The index in dy of a pixel in the first row (output channel) of a group.
fn dy_at(o: Pixel, group: u32) -> u32 {
    return p.dy_offset + ((o.image * p.groups + group) * p.rows * p.result.x + o.at.x) * p.result.y + o.at.y;
}

@compute @workgroup_size(64)
fn naive(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(group, groups) * 64u + local;
    let slice = index % p.slices;
    let weight = index / p.slices;
    if (weight >= p.weights) { return; }
    let tap = vec2u(weight / p.kernel.y % p.kernel.x, weight % p.kernel.y);
    let plane = weight / (p.kernel.x * p.kernel.y);
    let row = plane / p.depth;
    var sum = 0.0;
    for (var i = slice; i < p.pixels; i += p.slices) {
        let o = pixel(i);
        // A negative position wraps around and exceeds every size: Rust checks that padded sizes are below 2^31.
        let at = o.at * p.stride + tap * p.dilation - p.padding;
        if (any(at >= p.source)) { continue; }
        let channel = (o.image * p.groups + row / p.rows) * p.depth + plane % p.depth;
        sum = fma(dy[dy_at(o, row / p.rows) + row % p.rows * p.result.x * p.result.y],
                  x[p.x_offset + (channel * p.source.x + at.x) * p.source.y + at.y], sum);
    }
    partial[slice * p.weights + weight] = sum;
}

/// Four columns of the weight: their offsets from the position of a pixel in x.
struct Columns { vertical: vec4u, horizontal: vec4u, plane: vec4u }

fn columns(first: u32) -> Columns {
    // Columns past the end are clamped to the last one, and not stored.
    let column = min(first + vec4u(0u, 1u, 2u, 3u), vec4u(p.depth * p.kernel.x * p.kernel.y - 1u));
    let line = column / p.kernel.y;
    return Columns(line % p.kernel.x * p.dilation.x - p.padding.x, column % p.kernel.y * p.dilation.y - p.padding.y,
                   line / p.kernel.x * (p.source.x * p.source.y));
}

/// The elements of x for four columns at a pixel; 0 outside. `start` is the first element of the group in the image.
fn load_x(c: Columns, corner: vec2u, start: u32) -> vec4f {
    let rows = corner.x + c.vertical;
    let cols = corner.y + c.horizontal;
    let inside = (rows < vec4u(p.source.x)) & (cols < vec4u(p.source.y));
    let at = select(vec4u(0u), start + c.plane + rows * p.source.y + cols, inside);
    // A select, not a product: 0 * NaN would be NaN.
    return select(vec4f(0.0), vec4f(x[at.x], x[at.y], x[at.z], x[at.w]), inside);
}

fn load_dy(at: vec4u) -> vec4f {
    return vec4f(dy[at.x], dy[at.y], dy[at.z], dy[at.w]);
}

/// The position of a tile: its slice and group, and its corner in the weight of the group.
struct Tile { slice: u32, group: u32, row: u32, column: u32 }

fn store(t: Tile, row: u32, column: u32, sum: f32) {
    let width = p.depth * p.kernel.x * p.kernel.y;
    if (row >= p.rows || column >= width) { return; }
    partial[t.slice * p.weights + (t.group * p.rows + row) * width + column] = sum;
}

fn store4(t: Tile, row: u32, column: u32, sum: vec4f) {
    store(t, row, column, sum.x);
    store(t, row, column + 1u, sum.y);
    store(t, row, column + 2u, sum.z);
    store(t, row, column + 3u, sum.w);
}

fn store16(t: Tile, row: u32, column: u32, sum: mat4x4f) {
    store4(t, t.row + row, t.column + column, sum[0]);
    store4(t, t.row + row + 1u, t.column + column, sum[1]);
    store4(t, t.row + row + 2u, t.column + column, sum[2]);
    store4(t, t.row + row + 3u, t.column + column, sum[3]);
}

@compute @workgroup_size(64)
fn registers(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
             @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(group, groups) * 64u + local;
    let across = (p.depth * p.kernel.x * p.kernel.y + 11u) / 12u;
    let down = (p.rows + 7u) / 8u;
    let corner = index / p.slices;
    let t = Tile(index % p.slices, corner / (across * down), corner / across % down * 8u, corner % across * 12u);
    if (t.group >= p.groups) { return; }
    let four = t.row + vec4u(0u, 1u, 2u, 3u);
    let upper = min(four, vec4u(p.rows - 1u)) * (p.result.x * p.result.y);
    let lower = min(four + 4u, vec4u(p.rows - 1u)) * (p.result.x * p.result.y);
    let left = columns(t.column);
    let middle = columns(t.column + 4u);
    let right = columns(t.column + 8u);
    var s00: mat4x4f;
    var s01: mat4x4f;
    var s02: mat4x4f;
    var s10: mat4x4f;
    var s11: mat4x4f;
    var s12: mat4x4f;
    var o = pixel(t.slice);
    for (var i = t.slice; i < p.pixels; i += p.slices) {
        let at = dy_at(o, t.group);
        let dy_u = load_dy(at + upper);
        let dy_l = load_dy(at + lower);
        let start = p.x_offset + (o.image * p.groups + t.group) * p.depth * (p.source.x * p.source.y);
        let place = o.at * p.stride;
        let x_l = load_x(left, place, start);
        let x_m = load_x(middle, place, start);
        let x_r = load_x(right, place, start);
        s00 = outer(s00, dy_u, x_l);
        s01 = outer(s01, dy_u, x_m);
        s02 = outer(s02, dy_u, x_r);
        s10 = outer(s10, dy_l, x_l);
        s11 = outer(s11, dy_l, x_m);
        s12 = outer(s12, dy_l, x_r);
        o = next(o);
    }
    store16(t, 0u, 0u, s00);
    store16(t, 0u, 4u, s01);
    store16(t, 0u, 8u, s02);
    store16(t, 4u, 0u, s10);
    store16(t, 4u, 4u, s11);
    store16(t, 4u, 8u, s12);
}
