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
//   KERNEL: the height and width of the window; 0 for those in the params
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

/// Takes the element at `place` into account. To the left of the plane a place is negative, which a u32 shows as very
/// large: so one comparison tells what is outside on either side.
fn better(best: Best, first: u32, place: vec2u) -> Best {
    let inside = all(place < p.size);
    let here = select(0u, place.x * p.size.y + place.y, inside);
    let value = x[first + here];
    // A driver may take it that no NaN is compared.
    let larger = (value > best.value && !is_nan(best.value)) || is_nan(value);
    let take = inside && (larger || best.at == NOWHERE);
    return Best(select(best.value, value, take), select(best.at, here, take));
}

@compute @workgroup_size(WG)
fn max_pool2d(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
              @builtin(local_invocation_index) lane: u32) {
    // Loops of a length that is known here are unrolled.
    let kernel = select(p.kernel, vec2u(KERNEL), KERNEL > 0u);
    var i = folded(group, groups) * WG * PER + lane;
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
