// What all attention kernels have in common: which keys a query sees, the score and the weight of a query and a key, and the
// division of the work.
// Imported by: shared/attention_forward.wgsl, shared/attention_grad.wgsl
// Expects: mask: array<f32>, p: Params, MASKED.
//
// The query heads that share a key head form one matrix. Its rows, `queries = group * n`, are the queries of the first head of
// the group, then those of the second, and so on. So a tile of rows may hold queries of several heads, which share the
// loads of keys and values, and the gradient of a key is one sum over all its queries.
//
//   q, k, v, mask f32: see Operand; the strides of a mask are 0 where it is broadcast
//   MASKED: 1 if a key may be hidden or a score changed: by a window (causal is one), a mask, a soft cap or dropout

#import shared/common.wgsl
#import shared/online_softmax.wgsl

/// Where an operand's first matrix begins, and the strides between the heads of a group (of q and the mask), rows, and columns.
struct Operand { offset: u32, head: u32, row: u32, col: u32 }

/// The matrices are numbered along `axes` leading axes [.., kv_heads] of these `lengths`; along each, `strides` are those of q, k, v
/// and mask. `size`: the length of a slice of the keys or queries that are summed over, a multiple of the tile. `left`, `right`: how
/// many keys before and after position i + m - n query i of a head sees. `cap`: 0 for no soft cap. Dropout drops a weight if its
/// random word is below `threshold`, and multiplies the others by `keep`. `first_key`, `round`: see attention_grad_subgroup.wgsl.
struct Params {
    q: Operand, k: Operand, v: Operand, mask: Operand,
    strides: array<vec4u, 4>, lengths: vec4u,
    axes: u32, matrices: u32, queries: u32, n: u32,
    m: u32, d: u32, dv: u32, slices: u32,
    size: u32, mask_kind: u32, left: i32, right: i32,
    seed: vec2u, offset: vec2u,
    threshold: u32, keep: f32, scale: f32, cap: f32,
    grad_offset: u32, first_key: u32, round: u32,
}

const BOOLEAN = 1u;
const ADDITIVE = 2u;

/// The smallest weight of a visible key. So a weight of 0 means a hidden key, which then adds nothing, even if it is NaN. LEAST
/// is too small to change a sum.
const LEAST: f32 = 0x1p-126f;

/// The offsets of the current matrix in q, k, v and mask, and the index of its first row among the rows of all matrices.
var<private> start: vec4u;
var<private> first_row: u32;

fn select_matrix(matrix: u32) {
    first_row = matrix * p.queries;
    start = vec4u(p.q.offset, p.k.offset, p.v.offset, p.mask.offset);
    var rest = matrix;
    for (var axis = p.axes; axis > 1u && rest > 0u; axis--) {
        start += (rest % p.lengths[axis - 1u]) * p.strides[axis - 1u];
        rest /= p.lengths[axis - 1u];
    }
    start += rest * p.strides[0];
}

/// A query: its row among the rows of all matrices, its index in its head, its offsets in q and in the mask.
struct Query { row: u32, place: u32, q: u32, mask: u32 }

/// Query r of the matrix, clamped to the last one.
fn query(r: u32) -> Query {
    let row = min(r, p.queries - 1u);
    var head = 0u;
    if (p.queries != p.n) { head = row / p.n; }
    let place = row - head * p.n;
    return Query(first_row + row, place, start.x + head * p.q.head + place * p.q.row,
                 start.w + head * p.mask.head + place * p.mask.row);
}

/// The offset in k of key j, clamped to the last one.
fn key_start(j: u32) -> u32 {
    return start.y + min(j, p.m - 1u) * p.k.row;
}

/// The offset in v of the value of key j, clamped likewise.
fn value_start(j: u32) -> u32 {
    return start.z + min(j, p.m - 1u) * p.v.row;
}

/// Whether any query in first_query..=last_query may see a key in first_key..=last_key, as far as the window decides.
fn meet(first_query: u32, last_query: u32, first_key: u32, last_key: u32) -> bool {
    if (MASKED == 0u) { return true; }
    let last = min(last_query, p.queries - 1u);
    // The queries of one head have a range of positions; those of two heads may have any.
    var low = 0u;
    var high = p.n - 1u;
    if (first_query / p.n == last / p.n) {
        low = first_query % p.n;
        high = last % p.n;
    }
    let shift = i32(p.m) - i32(p.n);
    return i32(first_key) <= i32(high) + shift + p.right && i32(last_key) >= i32(low) + shift - p.left;
}

/// The score of a query and a key, -inf if the key is hidden, else at least LOWEST; and the derivative of the score with respect
/// to the scaled product.
fn score(product: f32, query: Query, key: u32) -> vec2f {
    var s = product * p.scale;
    var slope = 1.0;
    var seen = key < p.m;
    if (MASKED == 1u) {
        if (p.cap > 0.0) {
            let t = tanh_nan(s / p.cap);
            s = t * p.cap;
            slope = (1.0 - t) * (1.0 + t);
        }
        let away = i32(key) - (i32(query.place) + i32(p.m) - i32(p.n));
        seen = seen && away <= p.right && -away <= p.left;
        if (p.mask_kind != 0u) {
            let added = mask[query.mask + min(key, p.m - 1u) * p.mask.col];
            let bits = bitcast<u32>(added);
            if (p.mask_kind == BOOLEAN) {
                seen = seen && (bits & 0x7fffffffu) != 0u;
            } else {
                seen = seen && bits != 0xff800000u;
                s += added;
            }
        }
    }
    return vec2f(select(-inf(), max_nan(s, LOWEST), seen), slope);
}

fn is_hidden(score: f32) -> bool {
    return bitcast<u32>(score) == 0xff800000u;
}

/// exp(score - max); 0 for a hidden key; NaN if either argument is NaN.
fn weight(score: f32, max: f32) -> f32 {
    let e = exp_below(score - max);
    let lost = is_nan(score) || is_nan(max);
    return select(select(select(e, LEAST, e < LEAST), nan(), lost), 0.0, is_hidden(score));
}

/// The factor of dropout for the weight of a query and a key. The random word is the one that dropout.wgsl draws for their
/// element of [.., heads, n, m].
fn kept(query: Query, key: u32) -> f32 {
    if (MASKED == 0u || p.threshold == 0u) { return 1.0; }
    let wide = mul_wide(query.row, p.m);
    let low = wide.y + key;
    let high = wide.x + select(0u, 1u, low < key);
    let words = philox(vec4u((high << 30u) | (low >> 2u), p.offset, 0u), p.seed);
    return select(0.0, p.keep, words[low % 4u] >= p.threshold);
}

/// c + w x; c if w is 0, even if x is NaN.
fn add_product(c: vec4f, w: f32, x: vec4f) -> vec4f {
    let sum = fma(vec4f(w), x, c);
    if (MASKED == 0u) { return sum; }
    return select(sum, c, w == 0.0);
}

/// The same for four rows: c + the outer product of four weights and four numbers. A matrix column is a row.
fn add_products(c: mat4x4f, w: vec4f, x: vec4f) -> mat4x4f {
    return mat4x4f(add_product(c[0], w.x, x), add_product(c[1], w.y, x), add_product(c[2], w.z, x), add_product(c[3], w.w, x));
}

/// The work for one tile: its first row and column, its matrix and slice, and the range first..end that it sums over.
struct Work { row: u32, col: u32, matrix: u32, slice: u32, first: u32, end: u32, valid: bool }

/// Tile number `index` of a [rows, cols] result cut into tiles of height by width. Tiles are numbered along the columns, then the
/// rows, then the matrices, then the slices of the `others` that are summed over.
fn work(index: u32, rows: u32, height: u32, cols: u32, width: u32, others: u32) -> Work {
    let across = max((cols + width - 1u) / width, 1u);
    let down = (rows + height - 1u) / height;
    let matrix = index / (across * down);
    let slice = matrix / p.matrices;
    let first = min(slice * p.size, others);
    return Work(index / across % down * height, index % across * width, matrix % p.matrices, slice, first,
                min(first + p.size, others), slice < p.slices);
}
