// Dropout: y[i] = x[i] / (1 - probability) if element i is kept, else 0, even if x[i] is NaN or infinite. Srivastava et al.,
// "Dropout: a simple way to prevent neural networks from overfitting" (JMLR 15, 2014). The scaling happens in training, so that
// inference needs none.
// Used by: dropout
//
// Element i is kept if word i % 4 of philox((i / 4, offset, 0), seed) is at least the threshold. The mask is a function of
// seed, offset and i, so the gradient recomputes it and nothing is saved. One invocation draws four words and processes their
// four elements. x is read once, y written once, but the arithmetic of Philox costs more: compute bound.
//
//   x [count] f32, contiguous from x_offset     y [count] f32, contiguous
//
// Constants prepended by ops/dropout.rs: WG: invocations per workgroup.

#import shared/common.wgsl

struct Params { seed: vec2u, offset: vec2u, count: u32, x_offset: u32, threshold: u32, scale: f32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn dropout(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) local: u32) {
    let four = workgroup_index(group, groups) * WG + local;
    let first = four * 4u;
    if (first >= p.count) { return; }
    let kept = philox(vec4u(four, p.offset, 0u), p.seed) >= vec4u(p.threshold);
    for (var j = 0u; j < min(4u, p.count - first); j++) {
        y[first + j] = select(0.0, x[p.x_offset + first + j] * p.scale, kept[j]);
    }
}
