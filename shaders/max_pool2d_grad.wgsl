// The gradient of max pooling: dx[plane, r, c] = the sum of dy over the windows whose largest number was at (r, c). No
// atomics: the sum is always in row-major order of the windows.
//
// `gather` serves every case: an input looks at the windows that may cover it and adds the gradient of those that chose
// it. One invocation handles PER inputs, WG apart. It reads `at` and dy once for each window that covers an input.
//
// `scatter` serves windows that do not overlap: no two of them chose the same input, so each writes its gradient there,
// into a dx that was filled with zeros before. One invocation handles PER outputs, WG apart. `at` and dy are read once.
//
//   at [planes, rows, cols] u32, contiguous     dy, likewise, f32, from dy_offset on
//   dx [planes, height, width] f32, contiguous
//   WG: invocations a workgroup    PER: elements an invocation (prepended by ops/pool2d.rs)

#import shared/grid.wgsl
#import shared/planes.wgsl

/// Pairs are (vertical, horizontal). `walk` is over the inputs in `gather`, over the outputs in `scatter`; `other` is
/// the size of a plane of the other. Along each axis at most `cover` windows hold the same input.
struct Params { walk: Planes, other: vec2u, stride: vec2u, padding: vec2u, cover: vec2u, dy_offset: u32 }

@group(0) @binding(0) var<storage, read> at: array<u32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn gather(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
    var i = folded(group, groups) * WG * PER + lane;
    var place = place_of(i, p.walk);
    for (var j = 0u; j < PER; j++) {
        if (i >= p.walk.count) { return; }
        let first = place.x * (p.other.x * p.other.y);
        let here = place.y * p.walk.cols + place.z;
        // The last window that starts at or before this input.
        let last = min((place.yz + p.padding) / p.stride, p.other - 1u);
        var sum = 0.0;
        for (var back = p.cover.x; back > 0u; back--) {
            for (var aside = p.cover.y; aside > 0u; aside--) {
                // Before the first window the number wraps around and is very large.
                let window = last + 1u - vec2u(back, aside);
                let exists = all(window < p.other);
                let o = first + select(0u, window.x * p.other.y + window.y, exists);
                sum += select(0.0, dy[p.dy_offset + o], exists && at[o] == here);
            }
        }
        dx[i] = sum;
        i += WG;
        place = next_place(place, p.walk);
    }
}

@compute @workgroup_size(WG)
fn scatter(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
    let plane = p.other.x * p.other.y;
    var i = folded(group, groups) * WG * PER + lane;
    var place = place_of(i, p.walk);
    for (var j = 0u; j < PER; j++) {
        if (i >= p.walk.count) { return; }
        let here = at[i];
        // A window that lay outside chose nothing.
        if (here < plane) { dx[place.x * plane + here] = dy[p.dy_offset + i]; }
        i += WG;
        place = next_place(place, p.walk);
    }
}
