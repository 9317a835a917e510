// Tiles of 32 x 32 scores, and of 32 x 64 sums weighted by them, by a workgroup of 8 x 8 invocations: each has 4 x 4 scores
// and 4 x 8 sums in registers. Slabs of the operands, 16 deep, and the weights pass through workgroup memory, 9.5 KiB in all.
//
// The importing file has row_at, row_step and row_word, of what the rows are, likewise for the others, and for what is summed.

#import shared/outer.wgsl

const SIDE = 32u;  // of a tile of scores
const WIDE = 64u;  // columns of a tile of sums
const DEPTH = 16u; // of a slab
const STEP = 33u;  // from one column of a slab to the next: neighbours that store it meet in no bank

var<workgroup> slab: array<f32, 1056>; // two of DEPTH x STEP, or one of DEPTH x WIDE
var<workgroup> weights: array<array<f32, SIDE>, SIDE>; // of each other, those of its rows

/// The sums of products of the rows and others from (row, other) on, over `depth` words; this invocation's 4 x 4 of them.
/// To be called by the whole workgroup.
fn products(kind: u32, row: u32, other: u32, depth: u32, lane: u32) -> mat4x4f {
    let y = lane / 8u * 4u;
    let x = DEPTH * STEP + lane % 8u * 4u;
    var sum: mat4x4f;
    for (var first = 0u; first < depth; first += DEPTH) {
        for (var i = lane; i < SIDE * DEPTH; i += 64u) {
            let c = i % DEPTH;
            let to = c * STEP + i / DEPTH;
            slab[to] = 0.0;
            slab[DEPTH * STEP + to] = 0.0;
            if (first + c < depth) {
                slab[to] = row_word(kind, row_at(kind, row + i / DEPTH) + (first + c) * row_step(kind));
                slab[DEPTH * STEP + to] = other_word(kind, other_at(kind, other + i / DEPTH) + (first + c) * other_step(kind));
            }
        }
        workgroupBarrier();
        for (var c = 0u; c < DEPTH * STEP; c += STEP) {
            sum = outer(sum, vec4f(slab[c + y], slab[c + y + 1u], slab[c + y + 2u], slab[c + y + 3u]),
                        vec4f(slab[c + x], slab[c + x + 1u], slab[c + x + 2u], slab[c + x + 3u]));
        }
        workgroupBarrier();
    }
    return sum;
}

/// Leaves this invocation's weights for the others to see.
fn share(w: mat4x4f, lane: u32) {
    let y = lane / 8u * 4u;
    let x = lane % 8u * 4u;
    for (var b = 0u; b < 4u; b++) {
        for (var a = 0u; a < 4u; a++) { weights[x + b][y + a] = w[a][b]; }
    }
}

/// Adds to sums 4 x 8 what is at the others from `other` on, weighted. To be called by the whole workgroup.
fn add_weighted(sums: ptr<function, array<mat4x4f, 2>>, other: u32, col: u32, cols: u32, lane: u32) {
    let y = lane / 8u * 4u;
    let x = lane % 8u * 8u;
    for (var first = 0u; first < SIDE; first += DEPTH) {
        for (var i = lane; i < DEPTH * WIDE; i += 64u) {
            let c = col + i % WIDE;
            let j = other + first + i / WIDE;
            slab[i] = 0.0;
            if (c < cols && j < others()) { slab[i] = summed_word(summed_at(j) + c * summed_step()); }
        }
        workgroupBarrier(); // the weights are there too
        for (var j = 0u; j < DEPTH; j++) {
            let at = j * WIDE + x;
            let w = vec4f(weights[first + j][y], weights[first + j][y + 1u], weights[first + j][y + 2u], weights[first + j][y + 3u]);
            (*sums)[0] = add_products((*sums)[0], w, vec4f(slab[at], slab[at + 1u], slab[at + 2u], slab[at + 3u]));
            (*sums)[1] = add_products((*sums)[1], w, vec4f(slab[at + 4u], slab[at + 5u], slab[at + 6u], slab[at + 7u]));
        }
        workgroupBarrier();
    }
}
