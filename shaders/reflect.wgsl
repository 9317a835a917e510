// Reflection padding along one axis, and its gradient.
//
//   reflect        y[o, j, i] = x[o, k, i] with k = j - before, mirrored at the first and last element of the axis:
//                  to -k below 0, to 2 (length - 1) - k from length on
//   reflect_grad   dx[o, k, i] = the sum of dy[o, j, i] over the j that show k: its own place and up to two mirror images
//
// Used by: pad
//
// One invocation computes one element of the output. The gradient is a gather in a fixed order, so it needs no atomics.
// Memory bound.
//
//   x, dx   f32 [outer, length, inner], contiguous
//   y, dy   f32 [outer, before + length + after, inner], contiguous
//
// Constants prepended by ops/pad.rs: WG: invocations per workgroup.

#import shared/common.wgsl

struct Params { count: u32, inner: u32, length: u32, before: u32, after: u32, x_offset: u32 }

// In reflect_grad, x is dy and y is dx.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn reflect(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) local: u32) {
    let at = workgroup_index(group, groups) * WG + local;
    if (at >= p.count) { return; }
    let line = at / p.inner;
    let padded = p.before + p.length + p.after;
    let j = line % padded;
    var k = j - p.before; // wraps around below 0
    if (j < p.before) {
        k = p.before - j;
    } else if (k >= p.length) {
        k = 2u * (p.length - 1u) - k;
    }
    y[at] = x[p.x_offset + (line / padded * p.length + k) * p.inner + at % p.inner];
}

@compute @workgroup_size(WG)
fn reflect_grad(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                @builtin(local_invocation_index) local: u32) {
    let at = workgroup_index(group, groups) * WG + local;
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
