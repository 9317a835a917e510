// Tiles of 32 x 64 scores, and of 32 x 64 sums weighted by them, computed by a workgroup of 16 x 8 invocations. Each invocation
// has 4 x 4 of both in registers: (x, y) has the rows 4y to 4y + 3 and the others, or columns, x, x + 16, x + 32 and x + 48.
// The rows of a tile are queries or keys. Its others are what the sum runs over: keys for o, dq and dmask, queries for dk and dv.
// Imported by: attention.wgsl, attention_grad.wgsl
// Expects: for the rows row_at(kind, r) -> u32 (an offset), row_step(kind) -> u32, row_word(kind, at) -> f32; for the others
// other_at, other_step, other_word, and others() -> u32 (their number); shared/attention.wgsl.
//
// Slabs of the operands, 16 deep, and the weights pass through workgroup memory, 15.6 KiB in all. While a slab is used, the next
// one is loaded to registers.
//
// Steps that process the 4 x 4 matrix element by element rotate it (next_number, next_row) instead of indexing it. So constants
// alone index the matrix, which keeps it in registers, and the code for an element appears once (SwiftShader takes minutes to
// compile sixteen copies).
//
// Workgroup memory is read by words of four numbers: two reads per 16 multiply-adds. A word has numbers that neighbouring
// invocations load side by side: 4 apart along a row for dot products, 16 apart for weighted sums.

#import shared/common.wgsl

const TILE_ROWS = 32u;  // rows of a tile
const TILE_OTHERS = 64u;  // others, or columns, of a tile
const DEPTH = 16u; // depth of a slab
const STEP = 5u;   // words from one row of a slab to the next: odd, so neighbouring rows have no bank conflicts
const OTHERS_AT = TILE_ROWS * STEP;   // where the others begin in a slab
const PARTIAL = DEPTH * 16u;  // where store_partial puts a vector for each invocation: behind the 256 vectors that add_weighted uses
const WEIGHTS_STEP = TILE_OTHERS + 1u;    // words from one group of four rows to the next

var<workgroup> slab: array<vec4f, 480>;    // (TILE_ROWS + TILE_OTHERS) x STEP words, or DEPTH x 16
var<workgroup> weights: array<vec4f, 520>; // word g * WEIGHTS_STEP + j: the weights of rows 4g to 4g + 3 and other j

/// Four numbers of a row, 4 apart; 0 past the end.
fn row_numbers(kind: u32, start: u32, c: u32, depth: u32) -> vec4f {
    let columns = c + vec4u(0u, 4u, 8u, 12u);
    let at = start + min(columns, vec4u(depth - 1u)) * row_step(kind);
    let x = vec4f(row_word(kind, at.x), row_word(kind, at.y), row_word(kind, at.z), row_word(kind, at.w));
    return select(vec4f(), x, columns < vec4u(depth));
}

/// The same of an other.
fn other_numbers(kind: u32, start: u32, c: u32, depth: u32) -> vec4f {
    let columns = c + vec4u(0u, 4u, 8u, 12u);
    let at = start + min(columns, vec4u(depth - 1u)) * other_step(kind);
    let x = vec4f(other_word(kind, at.x), other_word(kind, at.y), other_word(kind, at.z), other_word(kind, at.w));
    return select(vec4f(), x, columns < vec4u(depth));
}

/// Adds the products of four rows and four others over four numbers.
fn add_slab_word(sum: mat4x4f, row: u32, other: u32) -> mat4x4f {
    let q0 = slab[row];
    let q1 = slab[row + STEP];
    let q2 = slab[row + 2u * STEP];
    let q3 = slab[row + 3u * STEP];
    let k0 = slab[other];
    let k1 = slab[other + 16u * STEP];
    let k2 = slab[other + 32u * STEP];
    let k3 = slab[other + 48u * STEP];
    var s = outer(sum, vec4f(q0.x, q1.x, q2.x, q3.x), vec4f(k0.x, k1.x, k2.x, k3.x));
    s = outer(s, vec4f(q0.y, q1.y, q2.y, q3.y), vec4f(k0.y, k1.y, k2.y, k3.y));
    s = outer(s, vec4f(q0.z, q1.z, q2.z, q3.z), vec4f(k0.z, k1.z, k2.z, k3.z));
    return outer(s, vec4f(q0.w, q1.w, q2.w, q3.w), vec4f(k0.w, k1.w, k2.w, k3.w));
}

/// The dot products of the rows and others, which begin at (row, other), over `depth` numbers: this invocation's 4 x 4 of them.
/// A matrix column is a row. The whole workgroup must call it.
fn products(kind: u32, row: u32, other: u32, depth: u32, local: u32) -> mat4x4f {
    let side = local / 4u;
    let c = local % 4u;
    let to = side * STEP + c;
    let y = local / 16u * 4u * STEP;
    let x = OTHERS_AT + local % 16u * STEP;
    let start = vec3u(row_at(kind, row + side), other_at(kind, other + side), other_at(kind, other + side + TILE_ROWS));
    var a = row_numbers(kind, start.x, c, depth);
    var b = other_numbers(kind, start.y, c, depth);
    var d = other_numbers(kind, start.z, c, depth);
    var sum: mat4x4f;
    for (var next = DEPTH; next < depth + DEPTH; next += DEPTH) {
        slab[to] = a;
        slab[OTHERS_AT + to] = b;
        slab[OTHERS_AT + TILE_ROWS * STEP + to] = d;
        workgroupBarrier();
        if (next < depth) {
            a = row_numbers(kind, start.x, next + c, depth);
            b = other_numbers(kind, start.y, next + c, depth);
            d = other_numbers(kind, start.z, next + c, depth);
        }
        for (var word = 0u; word < DEPTH / 4u; word++) { sum = add_slab_word(sum, y + word, x + word); }
        workgroupBarrier();
    }
    return sum;
}

/// Rotates the matrix, so that the next row becomes the first.
fn next_row(s: mat4x4f) -> mat4x4f {
    return mat4x4f(s[1], s[2], s[3], s[0]);
}

/// Rotates a row, so that its next number becomes the first; `last` replaces the number that was first.
fn next_number(row: vec4f, last: f32) -> vec4f {
    return vec4f(row.yzw, last);
}

/// Stores this invocation's weights in workgroup memory, for the whole workgroup.
fn store_weights(w: mat4x4f, local: u32) {
    let by_other = transpose(w);
    let at = local / 16u * WEIGHTS_STEP + local % 16u;
    weights[at] = by_other[0];
    weights[at + 16u] = by_other[1];
    weights[at + 32u] = by_other[2];
    weights[at + 48u] = by_other[3];
}

/// Four columns, 16 apart, of other j; 0 if j is past the end.
fn summed_numbers(kind: u32, j: u32, col: u32, cols: u32) -> vec4f {
    let columns = min(col + vec4u(0u, 16u, 32u, 48u), vec4u(max(cols, 1u) - 1u));
    let at = other_at(kind, j) + columns * other_step(kind);
    let x = vec4f(other_word(kind, at.x), other_word(kind, at.y), other_word(kind, at.z), other_word(kind, at.w));
    return select(vec4f(), x, j < others());
}

/// `sums` plus the others from `other` on, weighted by the stored weights. The whole workgroup must call it.
fn add_weighted(kind: u32, sums: mat4x4f, other: u32, col: u32, cols: u32, local: u32) -> mat4x4f {
    let x = local % 16u;
    let y = local / 16u;
    var near = summed_numbers(kind, other + y, col + x, cols);
    var far = summed_numbers(kind, other + y + 8u, col + x, cols);
    var s = sums;
    for (var first = 0u; first < TILE_OTHERS; first += DEPTH) {
        slab[local] = near;
        slab[local + 128u] = far;
        workgroupBarrier(); // for the slab and for the weights
        if (first + DEPTH < TILE_OTHERS) {
            near = summed_numbers(kind, other + first + DEPTH + y, col + x, cols);
            far = summed_numbers(kind, other + first + DEPTH + y + 8u, col + x, cols);
        }
        let at = y * WEIGHTS_STEP + first;
        for (var j = 0u; j < DEPTH; j++) { s = add_products(s, weights[at + j], slab[j * 16u + x]); }
        workgroupBarrier();
    }
    return s;
}

/// Stores a number for each of four rows, which `partial` returns after a barrier. A slab of weighted sums may be in use.
fn store_partial(x: vec4f, local: u32) {
    slab[PARTIAL + local] = x;
}

/// The numbers that invocation x of the same rows stored.
fn partial(x: u32, local: u32) -> vec4f {
    return slab[PARTIAL + local / 16u * 16u + x];
}
