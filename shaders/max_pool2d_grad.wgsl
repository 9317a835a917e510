// The gradient of max pooling: dx[plane, r, c] = the sum of dy over the windows whose maximum was at (r, c).
//
// Used by: max_pool2d (gradient)
//
// gather:   for every case. Each input checks the windows that may cover it and adds the gradients of those whose maximum it
//           was. One invocation computes PER inputs, WG apart. It reads `at` and dy once per window that covers an input.
// scatter:  for windows that do not overlap. No two windows then have the same maximum, so each writes its gradient to a dx that
//           was filled with zeros. One invocation handles PER outputs, WG apart. `at` and dy are read once.
//
// Memory bound. Deterministic: no atomics; gather adds the windows in row-major order.
//
//   at   u32 [planes, rows, cols], contiguous: positions of the maxima (max_pool2d.wgsl)
//   dy   f32 [planes, rows, cols], contiguous from dy_offset
//   dx   f32 [planes, height, width], contiguous
//
// Constants prepended by ops/pool2d.rs: WG: invocations per workgroup. PER: elements per invocation.

#import shared/common.wgsl
#import shared/plane_index.wgsl

/// Pairs are (vertical, horizontal). `indexer` visits the inputs in `gather` and the outputs in `scatter`; `other` is the
/// plane size of the opposite side. Along each axis at most `cover` windows cover one input.
struct Params { indexer: PlaneIndex, other: vec2u, stride: vec2u, padding: vec2u, cover: vec2u, dy_offset: u32 }

@group(0) @binding(0) var<storage, read> at: array<u32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn gather(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) local: u32) {
    var i = workgroup_index(group, groups) * WG * PER + local;
    var place = place_of(i, p.indexer);
    for (var j = 0u; j < PER; j++) {
        if (i >= p.indexer.count) { return; }
        let first = place.x * (p.other.x * p.other.y);
        let here = place.y * p.indexer.cols + place.z;
        // The last window that starts at or before this input.
        let last = min((place.yz + p.padding) / p.stride, p.other - 1u);
        var sum = 0.0;
        for (var back = p.cover.x; back > 0u; back--) {
            for (var aside = p.cover.y; aside > 0u; aside--) {
                // Before the first window the index wraps around to a very large number.
                let window = last + 1u - vec2u(back, aside);
                let exists = all(window < p.other);
                let o = first + select(0u, window.x * p.other.y + window.y, exists);
                sum += select(0.0, dy[p.dy_offset + o], exists && at[o] == here);
            }
        }
        dx[i] = sum;
        i += WG;
        place = next_place(place, p.indexer);
    }
}

@compute @workgroup_size(WG)
fn scatter(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) local: u32) {
    let plane = p.other.x * p.other.y;
    var i = workgroup_index(group, groups) * WG * PER + local;
    var place = place_of(i, p.indexer);
    for (var j = 0u; j < PER; j++) {
        if (i >= p.indexer.count) { return; }
        let here = at[i];
        // A window entirely in the padding has no maximum.
        if (here < plane) { dx[place.x * plane + here] = dy[p.dy_offset + i]; }
        i += WG;
        place = next_place(place, p.indexer);
    }
}
