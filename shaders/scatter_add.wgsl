// Sums of terms by destination: y[.., id, ..] += the sum of src over the positions along an axis whose index is id.
//
// Used by: scatter_add, gather (gradient), index_select (gradient), embedding (gradient)
//
// Deterministic without atomics. The ids of each row were sorted before (ops/sort_rows.rs, stable), so the terms of a destination
// form a segment of the sorted row, which is summed from left to right. A row is cut into chunks of CHUNK terms; one invocation
// sums one chunk of one line. Segments that begin and end inside the chunk are complete and are added to y. The first and the last
// segment may continue in the neighbouring chunks: their sums become two terms of a shorter row, sorted like the first, which
// the next dispatch sums in the same way. The last dispatch has one chunk per row. So many invocations sum a long segment,
// always in the same order. Memory bound.
//
// A line is all elements of src or y along the axis. Lines share a row of ids where the index was expanded, as the columns of an
// embedding do.
//
//   keys       u32 [rows, count], ascending
//   places     u32 [rows, count]: the original position of each key in its row (read where FIRST)
//   src        f32. FIRST: the second operand of the indexer over the lines [rows, shared], plus place * src_stride;
//              else the terms [count, lines] of the last dispatch, contiguous
//   y          f32: the first operand of the indexer, plus id * y_stride
//   keys_out   u32 [rows, 2 chunks]: the ids of the two terms of each chunk; not written where there is one chunk
//   sums_out   f32 [2 chunks, lines]: likewise their sums
//   status     the word at `check` is set if an id is past the end; its terms are dropped
//
// Constants prepended by ops/scatter.rs: FIRST: 1 in the first dispatch. CHUNK: terms per chunk. WG: invocations per workgroup.

#import shared/common.wgsl
#import shared/strided.wgsl

struct Params {
    indexer: StridedIndexer,
    lanes: u32, shared_by: u32, // lanes that share a row of keys
    count: u32, chunks: u32,
    src_stride: u32, y_stride: u32,
    length: u32, check: u32,
}

@group(0) @binding(0) var<storage, read> keys: array<u32>;
@group(0) @binding(1) var<storage, read> places: array<u32>;
@group(0) @binding(2) var<storage, read> src: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> keys_out: array<u32>;
@group(0) @binding(5) var<storage, read_write> sums_out: array<f32>;
@group(0) @binding(6) var<storage, read_write> status: array<atomic<u32>>;
@group(0) @binding(7) var<uniform> p: Params;

/// Adds the sum of a complete segment to its destination, which no other invocation accesses.
fn finish(to: u32, id: u32, sum: f32) {
    if (id >= p.length) {
        atomicMax(&status[p.check], 1u);
        return;
    }
    y[to + id * p.y_stride] += sum;
}

@compute @workgroup_size(WG)
fn scatter_add(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
               @builtin(local_invocation_index) local: u32) {
    let at = workgroup_index(group, groups) * WG + local;
    if (at >= p.lanes * p.chunks) { return; }
    // Neighbouring invocations take neighbouring lanes, in an embedding neighbouring columns, so that accesses are coalesced.
    let lane = at % p.lanes;
    let chunk = at / p.lanes;
    let row = lane / p.shared_by;
    let start = row * p.count;
    let end = min((chunk + 1u) * CHUNK, p.count);
    let to = strided_offsets(lane);

    var first_key: u32;
    var first_sum: f32;
    var segments = 0u; // that ended so far
    var key = keys[start + chunk * CHUNK];
    var sum = 0.0;
    for (var i = chunk * CHUNK; i < end; i++) {
        let here = keys[start + i];
        if (here != key) {
            if (segments == 0u) {
                first_key = key;
                first_sum = sum;
            } else {
                finish(to.x, key, sum);
            }
            segments++;
            key = here;
            sum = 0.0;
        }
        if (FIRST == 1u) {
            sum += src[to.y + places[start + i] * p.src_stride];
        } else {
            sum += src[i * p.lanes + lane];
        }
    }
    // A chunk of one segment stores it as its first term, and a second term of 0.
    if (segments == 0u) {
        first_key = key;
        first_sum = sum;
        sum = 0.0;
    }
    if (p.chunks == 1u) {
        finish(to.x, first_key, first_sum);
        finish(to.x, key, sum);
        return;
    }
    let out = 2u * chunk;
    sums_out[out * p.lanes + lane] = first_sum;
    sums_out[(out + 1u) * p.lanes + lane] = sum;
    if (lane % p.shared_by == 0u) {
        keys_out[row * 2u * p.chunks + out] = first_key;
        keys_out[row * 2u * p.chunks + out + 1u] = key;
    }
}
