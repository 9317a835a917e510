// Max pooling, and the position of each maximum:
//
//   y[n, c, i, j] = the largest x[n, c, i sy + ky dy - py, j sx + kx dx - px] over the window's ky and kx
//   at[n, c, i, j] = row * width + column of that element in its plane
//
// Used by: max_pool2d
//
// Padding never wins. NaN counts as larger than every number. Among equal elements the first is taken, among several NaN the
// last, as in PyTorch. A window entirely in the padding (possible with a wide dilation) gives -inf at NOWHERE.
//
// One invocation computes PER outputs, WG apart, so that neighbouring invocations access neighbouring elements.
// Memory bound: where windows do not overlap, x is read once.
//
//   x    f32 [planes, height, width], contiguous from x_offset
//   y    f32 [planes, rows, cols], contiguous
//   at   u32 [planes, rows, cols], contiguous
//
// Constants prepended by ops/pool2d.rs: KERNEL: the window's height and width, or 0 to take them from the params.
// WG: invocations per workgroup. PER: outputs per invocation.

#import shared/common.wgsl
#import shared/plane_index.wgsl

/// Pairs are (vertical, horizontal).
struct Params {
    out: PlaneIndex, size: vec2u, kernel: vec2u, stride: vec2u, padding: vec2u, dilation: vec2u, x_offset: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> at: array<u32>;
@group(0) @binding(3) var<uniform> p: Params;

const NOWHERE: u32 = 0xffffffffu;

/// The largest element so far, and its position.
struct Best { value: f32, at: u32 }

/// Updates `best` with the element at `place`. A negative coordinate wraps around to a very large u32, so one comparison
/// rejects places on both sides of the plane.
fn better(best: Best, first: u32, place: vec2u) -> Best {
    let inside = all(place < p.size);
    let here = select(0u, place.x * p.size.y + place.y, inside);
    let value = x[first + here];
    // A driver may assume that comparisons see no NaN, so it is tested by its bits.
    let larger = (value > best.value && !is_nan(best.value)) || is_nan(value);
    let take = inside && (larger || best.at == NOWHERE);
    return Best(select(best.value, value, take), select(best.at, here, take));
}

@compute @workgroup_size(WG)
fn max_pool2d(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
              @builtin(local_invocation_index) local: u32) {
    // Where KERNEL is a constant the compiler can unroll the loops.
    let kernel = select(p.kernel, vec2u(KERNEL), KERNEL > 0u);
    var i = workgroup_index(group, groups) * WG * PER + local;
    var place = place_of(i, p.out);
    for (var j = 0u; j < PER; j++) {
        if (i >= p.out.count) { return; }
        let first = p.x_offset + place.x * (p.size.x * p.size.y);
        let start = place.yz * p.stride - p.padding;
        var best = Best(-inf(), NOWHERE);
        for (var ky = 0u; ky < kernel.x; ky++) {
            for (var kx = 0u; kx < kernel.y; kx++) {
                best = better(best, first, start + vec2u(ky, kx) * p.dilation);
            }
        }
        y[i] = best.value;
        at[i] = best.at;
        i += WG;
        place = next_place(place, p.out);
    }
}
