// The reduction over any axes: y[o] = the reduction over i of the elements of x at kept(o) + reduced(i).
//
// Imported by: reduce.wgsl, moments.wgsl, norm.wgsl, logsumexp.wgsl, arg.wgsl
// Expects: p: Params, WG: invocations per workgroup, LANES: invocations per slice, FLAT: 1 where the reduced elements lie along at
// most one axis, and the reduction as a monoid:
//
//   State                                      a partial result
//   identity() -> State                        the partial result of no elements
//   element(start: u32, i: u32) -> State       that of element i of the reduction whose first element is x[start]
//   merge(a: State, b: State) -> State         that of both sets
//
// A long reduction is cut into interleaved slices. LANES invocations reduce one slice: each reduces every (slices * LANES)-th
// element, with four loads in flight. A tree reduction in workgroup memory merges the lanes in log2(LANES) steps. Where there
// are several slices, each stores a partial result, which the next dispatch reduces: [outputs, slices], or [slices, outputs] where
// p.columns is 1. So loops are short, and few outputs still fill the device.
//
// Accesses are coalesced: along rows, neighbouring invocations take neighbouring slices or lanes; down columns, neighbouring
// outputs. Deterministic: the order of merging depends only on shape and strides.

#import shared/common.wgsl
#import shared/strided.wgsl

/// `indexer` visits the kept axes, `reduced` the reduced ones. `last`: 1 where y gets final results, not
/// partial ones. `columns`: 1 where neighbouring outputs are nearer in memory than neighbouring elements of one reduction.
/// `value`: what the kernel needs to make a result of a State.
struct Params {
    indexer: StridedIndexer, reduced: StridedIndexer,
    outputs: u32, length: u32, slices: u32, columns: u32,
    value: f32, last: u32,
}

/// `at`: the slice's number, which is the index of its state in y. `writes`: whether this invocation writes it.
struct Slice { at: u32, writes: bool, state: State }

var<workgroup> partial: array<State, WG>;

/// The offset of element `index` of a reduction from the reduction's first element.
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

/// Reduces the slice of this invocation. The whole workgroup must call it.
fn reduce_slice(group: vec3u, groups: vec3u, local: u32) -> Slice {
    let lane = local % LANES;
    let at = workgroup_index(group, groups) * (WG / LANES) + local / LANES;
    let valid = at < p.outputs * p.slices;

    var mine = identity();
    if (valid) {
        let place = select(vec2u(at / p.slices, at % p.slices), vec2u(at % p.outputs, at / p.outputs), p.columns == 1u);
        let start = strided_offsets(place.x).x;
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
