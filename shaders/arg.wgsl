// The index of the largest or smallest element along an axis: y[o] = argmax_i x[o, i] or argmin_i x[o, i]. The smallest index
// wins a tie. NaN beats every number, and the first NaN wins.
// Used by: argmax, argmin
//
// Each element maps to a u32 key that increases with it (shared/order.wgsl): WGSL promises nothing about comparisons with NaN,
// while integers compare alike on every device. The reduction merges pairs (key, place): the larger key wins, then the smaller
// place. shared/reduce.wgsl divides the work. Memory bound: x is read once.
//
//   x u32: the bits of f32, strided; or pairs that an earlier dispatch stored
//   y u32: places [outputs]; or pairs [outputs, slices], or [slices, outputs] if p.columns is 1; contiguous
//
// Constants prepended by ops/arg.rs: OP: 0 the largest, 1 the smallest. PARTS: 1 if x holds pairs. WG, LANES, FLAT: see
// shared/reduce.wgsl.

#import shared/reduce.wgsl
#import shared/order.wgsl

const IDS: u32 = 0u;

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<uniform> p: Params;

struct State { key: u32, place: u32 }

fn identity() -> State {
    return State(0u, 0xffffffffu);
}

fn key(bits: u32) -> u32 {
    let rising = key_of(bits);
    let number = rising != 0xffffffffu; // NaN comes first for argmax and argmin alike
    return select(rising, ~rising, OP == 1u && number);
}

fn element(start: u32, i: u32) -> State {
    let at = start + along(i);
    if (PARTS == 1u) { return State(x[at], x[at + 1u]); }
    return State(key(x[at]), i);
}

fn merge(a: State, b: State) -> State {
    let first = a.key > b.key || (a.key == b.key && a.place < b.place);
    return State(select(b.key, a.key, first), select(b.place, a.place, first));
}

@compute @workgroup_size(WG)
fn arg(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
       @builtin(local_invocation_index) local: u32) {
    let slice = reduce_slice(group, groups, local);
    if (!slice.writes) { return; }
    if (p.last == 1u) {
        y[slice.at] = slice.state.place;
    } else {
        y[2u * slice.at] = slice.state.key;
        y[2u * slice.at + 1u] = slice.state.place;
    }
}
