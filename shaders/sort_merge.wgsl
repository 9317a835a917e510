// One merge step of a sort: every two neighbouring sorted runs of a row become one.
//
// Used by: sort, argsort, topk, scatter_add and others
//
// One invocation places one element. The element's rank in the merged run is its position in its own run plus the number of
// elements of the other run that precede it, found by binary search. On equal keys the left run comes first, so the sort is
// stable. Only the first `kept` elements of a merged run are written. Memory bound: the searches read scattered keys.
//
//   keys_in, places_in   u32 [rows, runs, held], contiguous
//   keys, places         u32 [rows, ceil(runs / 2), kept], contiguous; with `last` the keys are converted back to elements
//                        (shared/order.wgsl)
//
// Constants prepended by ops/sort_rows.rs: IDS: 1 where the elements are u32, 0 where they are f32. WG: invocations per workgroup.

#import shared/common.wgsl
#import shared/order.wgsl

struct Params {
    count: u32, // rows * runs * held
    runs: u32,
    length: u32,
    span: u32,  // elements of the row that a run covers
    held: u32, kept: u32,
    flip: u32,
    last: u32,
}

@group(0) @binding(0) var<storage, read> keys_in: array<u32>;
@group(0) @binding(1) var<storage, read> places_in: array<u32>;
@group(0) @binding(2) var<storage, read_write> keys: array<u32>;
@group(0) @binding(3) var<storage, read_write> places: array<u32>;
@group(0) @binding(4) var<uniform> p: Params;

/// The number of elements in a run; the last run of a row may be shorter.
fn elements(run: u32) -> u32 {
    return min(p.held, p.length - run * p.span);
}

@compute @workgroup_size(WG)
fn sort_merge(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
              @builtin(local_invocation_index) local: u32) {
    let at = workgroup_index(group, groups) * WG + local;
    if (at >= p.count) { return; }
    let place = at % p.held;
    let row = at / p.held / p.runs;
    let run = at / p.held % p.runs;
    if (place >= elements(run)) { return; }

    let key = keys_in[at];
    let is_right = run % 2u == 1u;
    let other = select(run + 1u, run - 1u, is_right);
    let start = (row * p.runs + other) * p.held;
    var low = 0u;
    var high = 0u;
    if (other < p.runs) { high = elements(other); }
    while (low < high) {
        let middle = (low + high) / 2u;
        let there = keys_in[start + middle];
        let comes_before = there < key || (there == key && is_right);
        low = select(low, middle + 1u, comes_before);
        high = select(middle, high, comes_before);
    }
    let rank = place + low;
    if (rank >= p.kept) { return; }
    let to = (row * ((p.runs + 1u) / 2u) + run / 2u) * p.kept + rank;
    keys[to] = select(key, bits_of(key ^ p.flip), p.last == 1u);
    places[to] = places_in[at];
}
