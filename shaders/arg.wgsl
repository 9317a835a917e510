// Where along an axis the largest or smallest element lies: y[o] = the first i at which x is the extreme. NaN beats
// every number, and the first NaN wins.
//
// An element becomes a key, a whole number that grows with it (shared/order.wgsl): floating-point comparisons can't be
// trusted with NaN, and whole numbers compare alike everywhere. A fold of pairs (key, place) keeps the larger key, then
// the smaller place. shared/fold.wgsl says how it walks. x is read once.
//
//   x u32: the bits of f32, strided; or pairs that an earlier dispatch left
//   y u32: places [outputs]; or pairs [outputs, slices], or [slices, outputs] down the columns; contiguous
//   OP: 0 the largest, 1 the smallest    PARTS: 1 where x holds pairs
//   WG, LANES, FLAT: as shared/fold.wgsl has them (prepended by ops/arg.rs)

#import shared/fold.wgsl
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
    let number = rising != 0xffffffffu; // NaN is the largest of both orders
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
    let slice = folded_slice(group, groups, local);
    if (!slice.writes) { return; }
    if (p.last == 1u) {
        y[slice.at] = slice.state.place;
    } else {
        y[2u * slice.at] = slice.state.key;
        y[2u * slice.at + 1u] = slice.state.place;
    }
}
