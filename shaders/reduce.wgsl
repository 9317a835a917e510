// Reductions over any axes: y[o] = the sum (or maximum, minimum) over i of x at kept(o) + reduced(i), divided by a
// divisor for the mean.
//
// A long reduction is cut into slices that interleave, and LANES invocations share a slice: each folds every
// (slices * LANES)-th element, four a turn so that four loads are under way at once. The lanes of a slice meet in
// workgroup memory in log2(LANES) steps, the slices y[o, s] or y[s, o] in a second dispatch. So no invocation loops
// long, and few outputs still fill the device. Neighbouring invocations take neighbouring elements: of a row those of
// neighbouring slices or lanes, down the columns those of neighbouring outputs. The order of summation depends on
// nothing but the shape and the strides.
//
//   x f32, strided: operand x of the walk over the kept axes, plus operand x of the walk over the reduced ones
//   y [outputs, slices] f32, or [slices, outputs] down the columns; contiguous
//   OP: 0 sum, 1 max, 2 min    FLAT: whether the reduced walk has one axis at most
//   WG: invocations a workgroup    LANES: invocations a slice (prepended by ops/reduce.rs)

#import shared/grid.wgsl
#import shared/strided.wgsl
#import shared/float.wgsl

struct Params {
    walk: Walk, reduced: Walk,
    outputs: u32, length: u32, slices: u32, columns: u32,
    divisor: f32, // 1 divides nothing
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

var<workgroup> partial: array<f32, WG>;

fn identity() -> f32 {
    switch OP {
        case 1u: { return -inf(); }
        case 2u: { return inf(); }
        default: { return 0.0; }
    }
}

fn merge(a: f32, b: f32) -> f32 {
    switch OP {
        case 1u: { return max_nan(a, b); }
        case 2u: { return min_nan(a, b); }
        default: { return a + b; }
    }
}

/// Where the i-th element of a reduction lies, from its output's first.
fn along(index: u32) -> u32 {
    if (FLAT == 1u) { return index * p.reduced.axes[0].x; }
    var rest = index;
    var at = 0u;
    for (var k = p.reduced.rank; k > 1u; k--) {
        let axis = p.reduced.axes[k - 1u];
        at += (rest % axis.w) * axis.x;
        rest /= axis.w;
    }
    return at + rest * p.reduced.axes[0].x;
}

/// WGSL's division may err even by 1, and does not promise NaN for 0 / 0.
fn divided(sum: f32) -> f32 {
    if (p.divisor == 1.0) { return sum; }
    return select(sum / p.divisor, nan(), p.divisor == 0.0);
}

@compute @workgroup_size(WG)
fn reduce(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) local: u32) {
    let lane = local % LANES;
    let at = folded(group, groups) * (WG / LANES) + local / LANES;
    let valid = at < p.outputs * p.slices;

    var mine = identity();
    if (valid) {
        let place = select(vec2u(at / p.slices, at % p.slices), vec2u(at % p.outputs, at / p.outputs), p.columns == 1u);
        let start = positions(place.x).x;
        let step = p.slices * LANES;
        var i = place.y * LANES + lane;
        for (; i + 3u * step < p.length; i += 4u * step) {
            let a = x[start + along(i)];
            let b = x[start + along(i + step)];
            let c = x[start + along(i + 2u * step)];
            let d = x[start + along(i + 3u * step)];
            mine = merge(mine, merge(merge(a, b), merge(c, d)));
        }
        for (; i < p.length; i += step) { mine = merge(mine, x[start + along(i)]); }
    }
    if (LANES > 1u) {
        partial[local] = mine;
        for (var half = LANES / 2u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if (lane < half) { partial[local] = merge(partial[local], partial[local + half]); }
        }
        mine = partial[local];
    }
    if (valid && lane == 0u) { y[at] = divided(mine); }
}
