// The first step of a sort along an axis: each row is cut into tiles of WIDTH elements, and each tile is sorted in
// workgroup memory. sort_merge.wgsl makes whole rows of them.
//
// What is sorted are pairs of a key and a place in the row (shared/order.wgsl), compared by both, so no two are equal and
// the sort is stable whatever it exchanges. Batcher's bitonic network (AFIPS 1968): log2(WIDTH) rounds, of which round r
// merges runs of 2^(r - 1) in r steps that compare elements a distance apart, and halve it. A workgroup sorts
// TILE / WIDTH tiles side by side. x is read once; of each tile's pairs the first `kept` are written, which is all that
// the first elements of the row can be among.
//
//   x words, strided: operand x of the walk over the rows, elements `stride` apart
//   keys, places [tiles, kept] u32, contiguous; with `last` the keys are turned back into elements
//   IDS: whether x holds u32, else f32    WIDTH: elements a tile    TILE: elements a workgroup, a multiple of WIDTH
//   WG: invocations a workgroup (prepended by ops/sort.rs)

#import shared/grid.wgsl
#import shared/strided.wgsl
#import shared/order.wgsl

struct Params {
    walk: Walk,
    tiles: u32, tiles_a_row: u32, length: u32, stride: u32, kept: u32,
    flip: u32, // keys are exclusive-ored with it: all ones for a descending order
    last: u32,
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> keys: array<u32>;
@group(0) @binding(2) var<storage, read_write> places: array<u32>;
@group(0) @binding(3) var<uniform> p: Params;

/// Key and place.
var<workgroup> pairs: array<vec2u, TILE>;

fn is_after(a: vec2u, b: vec2u) -> bool {
    return a.x > b.x || (a.x == b.x && a.y > b.y);
}

@compute @workgroup_size(WG)
fn sort_tiles(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
              @builtin(local_invocation_index) lane: u32) {
    let first = folded(group, groups) * (TILE / WIDTH);
    for (var slot = lane; slot < TILE; slot += WG) {
        let tile = first + slot / WIDTH;
        let place = tile % p.tiles_a_row * WIDTH + slot % WIDTH;
        // Past the end of the row, what comes after every element.
        var pair = vec2u(0xffffffffu);
        if (tile < p.tiles && place < p.length) {
            let at = positions(tile / p.tiles_a_row).x + place * p.stride;
            pair = vec2u(key_of(x[at]) ^ p.flip, place);
        }
        pairs[slot] = pair;
    }

    // One loop over all steps of all rounds: two would be unrolled into code that takes seconds to compile.
    var run = 2u;
    var apart = 1u;
    while (run <= WIDTH) {
        workgroupBarrier();
        for (var i = lane; i < TILE / 2u; i += WG) {
            let low = 2u * i - (i & (apart - 1u));
            let a = pairs[low];
            let b = pairs[low + apart];
            // Runs of a round rise and fall in turn; the last one, a whole tile, rises.
            let rises = (low & run) == 0u || run == WIDTH;
            if (is_after(a, b) == rises) {
                pairs[low] = b;
                pairs[low + apart] = a;
            }
        }
        apart /= 2u;
        if (apart == 0u) {
            apart = run;
            run *= 2u;
        }
    }
    workgroupBarrier();

    for (var slot = lane; slot < TILE; slot += WG) {
        let tile = first + slot / WIDTH;
        let rank = slot % WIDTH;
        let pair = pairs[slot];
        if (rank < p.kept && pair.y < p.length) {
            let key = pair.x ^ p.flip;
            keys[tile * p.kept + rank] = select(pair.x, bits_of(key), p.last == 1u);
            places[tile * p.kept + rank] = pair.y;
        }
    }
}
