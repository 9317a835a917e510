// Rotary position embedding: each pair (a, b) of a row at position m is rotated by the angle m θ_i of its index i in the row, to
// (a cos - b sin, b cos + a sin). The elements of the row beyond the pairs are copied. The gradient rotates back (`sign` -1).
//
// Used by: rotary_embedding
//
// Su et al., "RoFormer: enhanced transformer with rotary position embedding" (arXiv:2104.09864), equation 34. Pair i of a row is
// its elements i near and i near + far: neighbours as in the paper, or i and i + d/2 as in GPT-NeoX and Llama.
// Cosines and sines come from tables, because a large angle rounded to f32 is too imprecise modulo 2π.
//
// One invocation handles one pair or one copied element. Memory bound: x is read once, y written once; all heads read the same
// tables, which should hit a cache.
//
//   x                f32: its rows begin at the first operand of the indexer, elements `step` apart
//   cosines, sines   f32 [positions, pairs], contiguous from their offsets; row r has position r % length
//   y                f32 [rows, cols], contiguous
//
// Constants prepended by ops/rotary.rs: WG: invocations per workgroup.

#import shared/common.wgsl
#import shared/strided.wgsl

/// `slots`: pairs plus copied elements of a row. `count`: slots of all rows.
struct Params {
    indexer: StridedIndexer,
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
          @builtin(local_invocation_index) local: u32) {
    let at = workgroup_index(group, groups) * WG + local;
    if (at >= p.count) { return; }
    let row = at / p.slots;
    let slot = at - row * p.slots;
    let start = strided_offsets(row).x;
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
