// Rotary positions: each pair (a, b) of a row at position m turned by the angle m θ_i of its place i in the row,
// (a cos - b sin, b cos + a sin); what the rows have beyond the pairs is copied. Su et al., "RoFormer: enhanced transformer
// with rotary position embedding" (arXiv:2104.09864), equation 34. The gradient turns back (`sign` -1).
//
// Cosines and sines come from tables: the angle of a far position, rounded to f32, has lost its place in the turn.
//
// Memory bound. One invocation a pair or an element that is copied: x is read once, y written once; the tables, which all
// heads share, should hit a cache. Pair i of a row is its elements i near and i near + far: neighbours as in the paper, or
// halves of the row as in GPT-NeoX and Llama.
//
//   x f32, rows at operand x of the walk, their elements `step` apart     y [rows, cols] f32, contiguous
//   cosines, sines [positions, pairs] f32, contiguous from their offsets on; row r has position r % length
//   WG: invocations a workgroup (prepended by ops/rotary.rs)

#import shared/grid.wgsl
#import shared/strided.wgsl

/// `slots`: the pairs of a row and the elements that are copied. `count`: those of all rows.
struct Params {
    walk: Walk,
    count: u32, slots: u32, pairs: u32, cols: u32,
    length: u32, step: u32, near: u32, far: u32,
    cos_offset: u32, sin_offset: u32, sign: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> cosines: array<f32>;
@group(0) @binding(2) var<storage, read> sines: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn rotary(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
    let at = folded(group, groups) * WG + lane;
    if (at >= p.count) { return; }
    let row = at / p.slots;
    let slot = at - row * p.slots;
    let start = positions(row).x;
    if (slot >= p.pairs) {
        let c = slot + p.pairs;
        y[row * p.cols + c] = x[start + c * p.step];
        return;
    }
    let angle = row % p.length * p.pairs + slot;
    let cosine = cosines[p.cos_offset + angle];
    let sine = sines[p.sin_offset + angle] * p.sign;
    let first = slot * p.near;
    let a = x[start + first * p.step];
    let b = x[start + (first + p.far) * p.step];
    let to = row * p.cols + first;
    y[to] = a * cosine - b * sine;
    y[to + p.far] = b * cosine + a * sine;
}
