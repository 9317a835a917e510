// Max pooling: y[n, c, i, j] = the largest x[n, c, i sy + ky dy - py, j sx + kx dx - px] over the window's ky and kx, and
// where in its plane that is: at = row * width + column. What lies outside of the plane does not take part. NaN counts
// as larger than every number; of equal ones the first is taken; of several NaN the last, as in PyTorch. A window that
// lies outside as a whole (a wide dilation may cause it) gives -inf at NOWHERE.
//
// One invocation handles PER outputs, WG apart, so that neighbours touch neighbours. Memory bound: where windows do not
// overlap, x is read once.
//
//   x [planes, height, width] f32, contiguous from x_offset on
//   y [planes, rows, cols] f32, contiguous     at, likewise, u32
//   WINDOW: 2 for windows of 2 x 2 side by side, all inside of the plane; 0 for any
//   WG: invocations a workgroup    PER: outputs an invocation (prepended by ops/pool2d.rs)

#import shared/grid.wgsl
#import shared/float.wgsl
#import shared/planes.wgsl

/// Pairs are (vertical, horizontal).
struct Params {
    out: Planes, size: vec2u, kernel: vec2u, stride: vec2u, padding: vec2u, dilation: vec2u, x_offset: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> at: array<u32>;
@group(0) @binding(3) var<uniform> p: Params;

const NOWHERE: u32 = 0xffffffffu;

/// The largest number so far.
struct Best { value: f32, at: u32 }

fn better(best: Best, value: f32, at: u32) -> Best {
    let take = value > best.value || is_nan(value);
    return Best(select(best.value, value, take), select(best.at, at, take));
}

fn two_by_two(first: u32, start: vec2u) -> Best {
    let above = start.x * p.size.y + start.y;
    let below = above + p.size.y;
    var best = Best(x[first + above], above);
    best = better(best, x[first + above + 1u], above + 1u);
    best = better(best, x[first + below], below);
    return better(best, x[first + below + 1u], below + 1u);
}

/// `start` is the window's first place. To the left of the plane it is negative, which a u32 shows as very large: so one
/// comparison tells what is outside on either side.
fn any_window(first: u32, start: vec2u) -> Best {
    var best = Best(-inf(), NOWHERE);
    for (var ky = 0u; ky < p.kernel.x; ky++) {
        let row = start.x + ky * p.dilation.x;
        if (row >= p.size.x) { continue; }
        for (var kx = 0u; kx < p.kernel.y; kx++) {
            let col = start.y + kx * p.dilation.y;
            if (col >= p.size.y) { continue; }
            let here = row * p.size.y + col;
            let value = x[first + here];
            if (best.at == NOWHERE) { best = Best(value, here); }
            best = better(best, value, here);
        }
    }
    return best;
}

@compute @workgroup_size(WG)
fn max_pool2d(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
              @builtin(local_invocation_index) lane: u32) {
    var i = folded(group, groups) * WG * PER + lane;
    var place = place_of(i, p.out);
    for (var j = 0u; j < PER; j++) {
        if (i >= p.out.count) { return; }
        let first = p.x_offset + place.x * (p.size.x * p.size.y);
        let start = place.yz * p.stride - p.padding;
        var best: Best;
        if (WINDOW == 2u) { best = two_by_two(first, start); } else { best = any_window(first, start); }
        y[i] = best.value;
        at[i] = best.at;
        i += WG;
        place = next_place(place, p.out);
    }
}
