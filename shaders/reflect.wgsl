// Reflection padding along one axis, and its gradient.
//
// reflect:      y[o, j, i] = x[o, k, i] with k = j - before, mirrored about the first and the last place of the axis where
//               it falls outside: -k, and 2 (length - 1) - k. One invocation an element of y, which x is read once for.
// reflect_grad: dx[o, k, i] = the sum of dy[o, j, i] over the places that show k: its own and up to two images. One
//               invocation an element of dx gathers them in a fixed order, so there are no atomics.
//
//   x, dx [outer, length, inner] f32     y, dy [outer, before + length + after, inner] f32; all contiguous
//   WG: invocations a workgroup (prepended by ops/pad.rs)

#import shared/grid.wgsl

struct Params { count: u32, inner: u32, length: u32, before: u32, after: u32, x_offset: u32 }

// Of the gradient's kernel they are dy and dx.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn reflect(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
    let at = folded(group, groups) * WG + lane;
    if (at >= p.count) { return; }
    let line = at / p.inner;
    let padded = p.before + p.length + p.after;
    let j = line % padded;
    var k = j - p.before; // before the axis it wraps around
    if (j < p.before) {
        k = p.before - j;
    } else if (k >= p.length) {
        k = 2u * (p.length - 1u) - k;
    }
    y[at] = x[p.x_offset + (line / padded * p.length + k) * p.inner + at % p.inner];
}

@compute @workgroup_size(WG)
fn reflect_grad(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                @builtin(local_invocation_index) lane: u32) {
    let at = folded(group, groups) * WG + lane;
    if (at >= p.count) { return; }
    let line = at / p.inner;
    let k = line % p.length;
    let end = p.length - 1u;
    let own = line / p.length * (p.before + p.length + p.after) + p.before;
    let start = p.x_offset + at % p.inner;
    var sum = x[start + (own + k) * p.inner];
    if (k > 0u && k <= p.before) { sum += x[start + (own - k) * p.inner]; }
    if (k < end && k + p.after >= end) { sum += x[start + (own + 2u * end - k) * p.inner]; }
    y[at] = sum;
}
