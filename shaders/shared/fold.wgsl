// The walk of every reduction: y[o] is the fold over i of the elements of x at kept(o) + reduced(i).
//
// A long reduction is cut into slices that interleave, and LANES invocations share a slice: each folds every
// (slices * LANES)-th element, four a turn so that four loads are under way at once. The lanes of a slice meet in
// workgroup memory in log2(LANES) steps. Where there are several slices each leaves a partial result, which the next
// dispatch folds: of states [outputs, slices], or [slices, outputs] down the columns. So no invocation loops long, and
// few outputs still fill the device. Neighbouring invocations take neighbouring elements: of a row those of neighbouring
// slices or lanes, down the columns those of neighbouring outputs. The order of folding depends on nothing but the shape
// and the strides.
//
// The importing file has x, y and p: Params, the constants WG (invocations a workgroup), LANES (invocations a slice) and
// FLAT (whether the reduced walk has one axis at most), and says what a fold is:
//
//   State                                      what is known of some elements
//   identity() -> State                        of none
//   element(start: u32, i: u32) -> State       of the i-th of the reduction whose first lies at x[start]
//   merge(a: State, b: State) -> State         of both

#import shared/grid.wgsl
#import shared/strided.wgsl

/// Operand x of `walk` goes over the kept axes, operand x of `reduced` over the others. `last`: whether y gets results,
/// and no partial ones. `value`: what the kernel needs to make a result of a state.
struct Params {
    walk: Walk, reduced: Walk,
    outputs: u32, length: u32, slices: u32, columns: u32,
    value: f32, last: u32,
}

/// A slice's number, which is the place of its state in y; whether it is for this invocation to write; the state.
struct Slice { at: u32, writes: bool, state: State }

var<workgroup> partial: array<State, WG>;

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

/// To be called by the whole workgroup.
fn folded_slice(group: vec3u, groups: vec3u, local: u32) -> Slice {
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
            let a = element(start, i);
            let b = element(start, i + step);
            let c = element(start, i + 2u * step);
            let d = element(start, i + 3u * step);
            mine = merge(mine, merge(merge(a, b), merge(c, d)));
        }
        for (; i < p.length; i += step) { mine = merge(mine, element(start, i)); }
    }
    if (LANES > 1u) {
        partial[local] = mine;
        for (var half = LANES / 2u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if (lane < half) { partial[local] = merge(partial[local], partial[local + half]); }
        }
        mine = partial[local];
    }
    return Slice(at, valid && lane == 0u, mine);
}
