// The first step of a sort along an axis: each row is cut into tiles of WIDTH elements, and each tile is sorted in workgroup
// memory. sort_merge.wgsl merges the tiles of a row.
//
// Used by: sort, argsort, topk, scatter_add and others
//
// Batcher's bitonic network (AFIPS 1968) has log2(WIDTH) rounds. Round r merges runs of 2^(r - 1) in r steps; each step compares
// elements at a distance that halves from step to step. It sorts pairs of a key and a position in the row (shared/order.wgsl),
// compared by both. No two pairs are equal, so the sort is stable.
//
// One workgroup sorts TILE / WIDTH tiles. x is read once. Only the first `kept` pairs of each tile are written: no other
// element of the tile can be among the first `kept` of the row. Bound by workgroup memory and its barriers.
//
//   x              words, strided: the first operand of the indexer over the rows, elements `stride` apart
//   keys, places   u32 [tiles, kept], contiguous; with `last` the keys are converted back to elements
//
// Constants prepended by ops/sort_rows.rs: IDS: 1 where x holds u32, 0 where it holds f32. WIDTH: elements per tile. TILE:
// elements per workgroup, a multiple of WIDTH. WG: invocations per workgroup.

#import shared/common.wgsl
#import shared/strided.wgsl
#import shared/order.wgsl

struct Params {
    indexer: StridedIndexer,
    tiles: u32, tiles_a_row: u32, length: u32, stride: u32, kept: u32,
    flip: u32, // keys are XORed with it: all ones for descending order
    last: u32,
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> keys: array<u32>;
@group(0) @binding(2) var<storage, read_write> places: array<u32>;
@group(0) @binding(3) var<uniform> p: Params;

/// Pairs of key and position.
var<workgroup> pairs: array<vec2u, TILE>;

fn is_after(a: vec2u, b: vec2u) -> bool {
    return a.x > b.x || (a.x == b.x && a.y > b.y);
}

@compute @workgroup_size(WG)
fn sort_tiles(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
              @builtin(local_invocation_index) local: u32) {
    let first = workgroup_index(group, groups) * (TILE / WIDTH);
    for (var slot = local; slot < TILE; slot += WG) {
        let tile = first + slot / WIDTH;
        let place = tile % p.tiles_a_row * WIDTH + slot % WIDTH;
        // Past the end of the row, a padding pair that sorts after every element.
        var pair = vec2u(0xffffffffu);
        if (tile < p.tiles && place < p.length) {
            let at = strided_offsets(tile / p.tiles_a_row).x + place * p.stride;
            pair = vec2u(key_of(x[at]) ^ p.flip, place);
        }
        pairs[slot] = pair;
    }

    // One loop over all steps of all rounds: nested loops would be unrolled into code that takes seconds to compile.
    var run = 2u;
    var apart = 1u;
    while (run <= WIDTH) {
        workgroupBarrier();
        for (var i = local; i < TILE / 2u; i += WG) {
            let low = 2u * i - (i & (apart - 1u));
            let a = pairs[low];
            let b = pairs[low + apart];
            // Runs alternate between ascending and descending; the last run, a whole tile, is ascending.
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

    for (var slot = local; slot < TILE; slot += WG) {
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
