// What the convolution kernels that hold a tile in registers have in common: quads of pixels, loads and stores.
// Imported by: conv2d.wgsl, conv2d_subgroup.wgsl
// Expects: TRANSPOSED, RESUME, ACTIVATION (see shared/conv2d.wgsl).

#import shared/conv2d.wgsl

/// The part of y that an invocation (or a subgroup) computes: its group, its first channel (`row`) in the group, its first pixel.
struct Tile { group: u32, row: u32, pixel: u32, valid: bool }

/// Tile number `index`. Neighbouring tiles have the same pixels and other channels.
fn tile(index: u32, rows: u32, pixels: u32) -> Tile {
    let down = (p.rows + rows - 1u) / rows;
    let strip = index % (down * p.groups);
    let first = index / (down * p.groups) * pixels;
    return Tile(strip / down, strip % down * rows, first, first < p.pixels);
}

/// Four consecutive pixels.
struct Quad { image: vec4u, vertical: vec4u, horizontal: vec4u }

/// The next pixel in row-major order.
fn next(o: Pixel) -> Pixel {
    var n = Pixel(o.image, o.at + vec2u(0u, 1u));
    if (n.at.y == p.result.y) { n.at = vec2u(n.at.x + 1u, 0u); }
    if (n.at.x == p.result.x) { n = Pixel(n.image + 1u, vec2u(0u, n.at.y)); }
    return n;
}

fn quad(a: Pixel) -> Quad {
    let b = next(a);
    let c = next(b);
    let d = next(c);
    return Quad(vec4u(a.image, b.image, c.image, d.image), vec4u(a.at.x, b.at.x, c.at.x, d.at.x),
                vec4u(a.at.y, b.at.y, c.at.y, d.at.y));
}

/// The indices of four words, and which of them exist.
struct Words { at: vec4u, inside: vec4<bool> }

/// The words of x that a tap of four pixels reads, in the first channel.
fn words(q: Quad, group: u32, tap: vec2u) -> Words {
    let a = reached(vec2u(q.vertical.x, q.horizontal.x), tap);
    let b = reached(vec2u(q.vertical.y, q.horizontal.y), tap);
    let c = reached(vec2u(q.vertical.z, q.horizontal.z), tap);
    let d = reached(vec2u(q.vertical.w, q.horizontal.w), tap);
    let rows = vec4u(a.x, b.x, c.x, d.x);
    let cols = vec4u(a.y, b.y, c.y, d.y);
    let inside = (rows < vec4u(p.source.x)) & (cols < vec4u(p.source.y))
               & (q.image < vec4u(p.images));
    let planes = (q.image * p.groups + group) * p.depth + p.first_depth;
    // Words outside of x are read from the start of the buffer, and not used.
    return Words(select(vec4u(0u), p.x_offset + (planes * p.source.x + rows) * p.source.y + cols, inside), inside);
}

fn load_x(words: Words, step: u32) -> vec4f {
    let at = words.at + step;
    // A select, not a product: 0 * NaN would be NaN.
    return select(vec4f(0.0), vec4f(x[at.x], x[at.y], x[at.z], x[at.w]), words.inside);
}

fn load_w(at: vec4u) -> vec4f {
    return vec4f(w[at.x], w[at.y], w[at.z], w[at.w]);
}

/// The biases of four channels.
fn biases(group: u32, row: u32) -> vec4f {
    return vec4f(bias_of(group, row), bias_of(group, row + 1u), bias_of(group, row + 2u), bias_of(group, row + 3u));
}

/// The indices in y of four pixels in the first channel of a group, and which of them exist.
fn places(q: Quad, group: u32) -> Words {
    let planes = (q.image * p.groups + group) * p.rows;
    return Words((planes * p.result.x + q.vertical) * p.result.y + q.horizontal, q.image < vec4u(p.images));
}

/// Stores one channel of four pixels, those that exist.
fn store4(to: Words, row: u32, sum: vec4f) {
    if (row >= p.rows) { return; }
    let at = to.at + row * (p.result.x * p.result.y);
    if (to.inside.x) { store(at.x, sum.x); }
    if (to.inside.y) { store(at.y, sum.y); }
    if (to.inside.z) { store(at.z, sum.z); }
    if (to.inside.w) { store(at.w, sum.w); }
}

/// Stores four channels of four pixels.
fn store16(to: Words, row: u32, sum: mat4x4f, bias: vec4f) {
    store4(to, row, sum[0] + bias.x);
    store4(to, row + 1u, sum[1] + bias.y);
    store4(to, row + 2u, sum[2] + bias.z);
    store4(to, row + 3u, sum[3] + bias.w);
}
