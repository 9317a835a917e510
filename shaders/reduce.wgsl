// Reductions over any axes: y[o] = the sum (or maximum, minimum) over i of x at kept(o) + reduced(i), divided by a
// divisor for the mean.
//
// LANES invocations share an output. Each folds every LANES-th element of its slice; then they meet in workgroup
// memory in log2(LANES) steps. LANES = 1 suits short reductions and those down the columns: neighbouring invocations
// take neighbouring outputs. A long reduction is cut into slices, y[s, o], which a second dispatch folds: so no
// invocation loops long, and few outputs still fill the device. The order of summation depends on nothing but the
// shape and strides.
//
//   x f32, strided: operand x of the walk over the kept axes, plus operand x of the walk over the reduced ones
//   y [slices, outputs] f32, contiguous
//   OP: 0 sum, 1 max, 2 min    WG: invocations a workgroup    LANES: invocations an output (prepended by ops/reduce.rs)

#import shared/grid.wgsl
#import shared/strided.wgsl
#import shared/float.wgsl

/// `size`: the elements of a slice; the last may have fewer. `divisor`: 1 divides nothing.
struct Params {
    walk: Walk, reduced: Walk,
    outputs: u32, length: u32, slices: u32, size: u32, divisor: f32,
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
        let start = positions(at % p.outputs).x;
        let first = (at / p.outputs) * p.size;
        let end = min(p.length, first + p.size);
        for (var i = first + lane; i < end; i += LANES) { mine = merge(mine, x[start + along(i)]); }
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
