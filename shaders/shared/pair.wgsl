// What the kernels of losses of pairs share: a prediction x, its target t of the same shape, and with binary
// cross-entropy a weight w of the positive class. shared/elementwise.wgsl says what strided and vector entries are.

#import shared/grid.wgsl
#import shared/strided.wgsl
#import shared/functions.wgsl

struct Params {
    walk: Walk,
    count: u32,
    scalars: u32,   // bit i: operand i is one element throughout
    weighted: u32,  // whether there is a w, which otherwise is 1
    delta: f32,     // where Huber's loss turns from a parabola to lines
    // Of the gradient alone: dy is one element (step 0) or contiguous (step 1), and is multiplied by `scale`.
    dy_offset: u32,
    dy_step: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> t: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(0) var<storage, read> x4: array<vec4f>;
@group(0) @binding(1) var<storage, read> t4: array<vec4f>;
@group(0) @binding(2) var<storage, read> w4: array<vec4f>;

/// The weight at a place of w.
fn weight(at: u32) -> f32 {
    if (p.weighted == 0u) { return 1.0; }
    return w[at];
}

/// The i-th four of each operand.
fn load_x(i: u32) -> vec4f {
    let at = p.walk.offsets.x;
    if ((p.scalars & 1u) != 0u) { return vec4f(x4[at / 4u][at % 4u]); }
    return x4[at / 4u + i];
}

fn load_t(i: u32) -> vec4f {
    let at = p.walk.offsets.y;
    if ((p.scalars & 2u) != 0u) { return vec4f(t4[at / 4u][at % 4u]); }
    return t4[at / 4u + i];
}

fn load_w(i: u32) -> vec4f {
    if (p.weighted == 0u) { return vec4f(1.0); }
    let at = p.walk.offsets.z;
    if ((p.scalars & 4u) != 0u) { return vec4f(w4[at / 4u][at % 4u]); }
    return w4[at / 4u + i];
}
