// Terms summed up by destination: y[.., id, ..] += the sum of src over the places of an axis whose index is id.
//
// No atomics: the ids of each row were sorted before (ops/sort.rs, stably), so the terms of a destination are a segment of
// the sorted row, summed from left to right. A row is cut into chunks; one invocation sums a chunk of one lane. Segments
// that begin and end inside of the chunk are done, and go to y. The first and the last one may go on in the neighbours:
// their sums are left as two terms of a shorter row, sorted like the first, which the next dispatch sums in the same way.
// The last dispatch has one chunk a row. So a segment of any length is summed by many invocations, always in the same
// order, and none loops long.
//
// Lanes share the ids of a row where the index was expanded: the columns of an embedding.
//
//   keys [rows, count] u32, ascending     places [rows, count] u32: where in the row each key was (for FIRST)
//   src f32, for FIRST: operand y of the walk over the lanes [rows, shared], plus place * src_stride
//           else the terms that the last dispatch left: [count, lanes], contiguous
//   y f32: operand x of the walk, plus id * y_stride
//   keys_out [rows, 2 chunks], sums_out [2 chunks, lanes]: the two terms of each chunk, unless there is but one
//   status: the word at `check` is set if an id is past the end, whose terms are dropped
//   FIRST: whether this is the first dispatch    CHUNK: terms a chunk
//   WG: invocations a workgroup (prepended by ops/scatter.rs)

#import shared/grid.wgsl
#import shared/strided.wgsl

struct Params {
    walk: Walk,
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

/// Adds a whole segment to its destination, which no other invocation touches.
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
    let at = folded(group, groups) * WG + local;
    if (at >= p.lanes * p.chunks) { return; }
    // Neighbours take neighbouring lanes: of an embedding, neighbouring columns.
    let lane = at % p.lanes;
    let chunk = at / p.lanes;
    let row = lane / p.shared_by;
    let start = row * p.count;
    let end = min((chunk + 1u) * CHUNK, p.count);
    let to = positions(lane);

    var first_key: u32;
    var first_sum: f32;
    var segments = 0u; // ended so far
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
    // A chunk of one segment has it as its first term, and nothing as its second.
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
