// What the attention kernels share: which key a query sees, and what the two come to.
//
// The heads that share a key head are one matrix: its rows, `queries = group * n`, are the queries of the first head of
// the group, then those of the second, and so on. So the keys and values of grouped-query attention are read once a group,
// and the gradient of a key is one sum over all its queries.
//
//   q f32: operand x of the walk over [.., kv_heads], then q_head from one head of the group to the next, q_row, q_col
//   k f32: operand y, then k_row, k_col     v f32: operand z, then v_row, v_col
//   mask f32: the walk `mask_walk`, then mask_head, mask_row, mask_col; 0 where it was broadcast
//   MASKED: 1 where a key may be hidden or a score changed: by the window (causal is one), the mask, the soft cap, dropout

#import shared/grid.wgsl
#import shared/strided.wgsl
#import shared/functions.wgsl
#import shared/normaliser.wgsl
#import shared/philox.wgsl

/// `size`: of what is summed over, a multiple of a tile, the part that one slice takes. `left`, `right`: how far from its
/// own place a query sees; its place is counted from the end. `cap`: 0 for none. A word below `threshold` drops a weight,
/// `keep` is what the others are multiplied with. `begin`, `round`: attention_grad_subgroup.wgsl.
struct Params {
    walk: Walk,
    mask_walk: Walk,
    queries: u32, n: u32, m: u32, matrices: u32,
    d: u32, dv: u32, slices: u32, size: u32,
    q_head: u32, q_row: u32, q_col: u32, mask_kind: u32,
    k_row: u32, k_col: u32, v_row: u32, v_col: u32,
    mask_head: u32, mask_row: u32, mask_col: u32, threshold: u32,
    seed: vec2u, offset: vec2u,
    left: i32, right: i32, scale: f32, cap: f32,
    keep: f32, grad_offset: u32, begin: u32, round: u32,
}

const BOOLEAN = 1u;
const ADDITIVE = 2u;

/// The weight that a key has at least that a query sees: so a weight of 0 says that it does not, and then nothing of the
/// key counts, be it NaN. No sum is the worse for it.
const LEAST: f32 = 0x1p-126f;

/// Where a matrix begins in q, k, v and mask; and the first of its rows among those of all matrices.
var<private> start: vec4u;
var<private> first_row: u32;

fn begin(matrix: u32) {
    first_row = matrix * p.queries;
    start = vec4u(positions(matrix), 0u);
    if (MASKED == 1u && p.mask_kind != 0u) {
        var rest = matrix;
        var at = p.mask_walk.offsets.x;
        for (var axis = p.mask_walk.rank; axis > 1u && rest > 0u; axis--) {
            let lengths = p.mask_walk.axes[axis - 1u];
            at += (rest % lengths.w) * lengths.x;
            rest /= lengths.w;
        }
        start.w = at + rest * p.mask_walk.axes[0].x;
    }
}

/// A query: its row among all matrices', its place in its head, where it begins in q and in the mask.
struct Query { row: u32, place: u32, q: u32, mask: u32 }

/// Query number r of the matrix; past the end the last one.
fn query(r: u32) -> Query {
    let row = min(r, p.queries - 1u);
    var head = 0u;
    if (p.queries != p.n) { head = row / p.n; }
    let place = row - head * p.n;
    return Query(first_row + row, place, start.x + head * p.q_head + place * p.q_row,
                 start.w + head * p.mask_head + place * p.mask_row);
}

/// Where a key, past the end the last one, begins in k.
fn key_start(j: u32) -> u32 {
    return start.y + min(j, p.m - 1u) * p.k_row;
}

fn value_start(j: u32) -> u32 {
    return start.z + min(j, p.m - 1u) * p.v_row;
}

/// Whether one of the queries up to `last_query` may see one of the keys up to `last_key`.
fn meet(first_query: u32, last_query: u32, first_key: u32, last_key: u32) -> bool {
    if (MASKED == 0u) { return true; }
    let last = min(last_query, p.queries - 1u);
    var low = 0u;
    var high = p.n - 1u; // of queries of two heads, any place
    if (first_query / p.n == last / p.n) {
        low = first_query % p.n;
        high = last % p.n;
    }
    let shift = i32(p.m) - i32(p.n);
    return i32(first_key) <= i32(high) + shift + p.right && i32(last_key) >= i32(low) + shift - p.left;
}

/// What a query and a key come to: the score, -inf where the key is hidden and no less than LOWEST where it is not; and
/// its derivative by the scaled product.
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
            let added = mask[query.mask + min(key, p.m - 1u) * p.mask_col];
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

/// e^(score - max), of a hidden key 0; NaN if either is.
fn weight(score: f32, max: f32) -> f32 {
    let e = exp_below(score - max);
    let lost = is_nan(score) || is_nan(max);
    return select(select(select(e, LEAST, e < LEAST), nan(), lost), 0.0, is_hidden(score));
}

/// What dropout multiplies the weight of a query and a key with. The word is that of their place in [.., heads, n, m], as
/// dropout.wgsl draws it.
fn kept(query: Query, key: u32) -> f32 {
    if (MASKED == 0u || p.threshold == 0u) { return 1.0; }
    let wide = mul_wide(query.row, p.m);
    let low = wide.y + key;
    let high = wide.x + select(0u, 1u, low < key);
    let words = philox(vec4u((high << 30u) | (low >> 2u), p.offset, 0u), p.seed);
    return select(0.0, p.keep, words[low % 4u] >= p.threshold);
}

/// c + w x, and c where the weight is 0, whatever x is.
fn add_product(c: vec4f, w: f32, x: vec4f) -> vec4f {
    let sum = fma(vec4f(w), x, c);
    if (MASKED == 0u) { return sum; }
    return select(sum, c, w == 0.0);
}

/// Rows of four weights by four neighbours.
fn add_products(c: mat4x4f, w: vec4f, x: vec4f) -> mat4x4f {
    return mat4x4f(add_product(c[0], w.x, x), add_product(c[1], w.y, x), add_product(c[2], w.z, x), add_product(c[3], w.w, x));
}

/// One tile's work: its first row and its columns' first, its matrix, and the range of what it sums over.
struct Work { row: u32, col: u32, matrix: u32, slice: u32, first: u32, end: u32, valid: bool }

/// The work number `index`: tiles of `height` of `rows` rows by `width` of `cols` columns, numbered along the columns, then
/// rows, then matrices, then slices of `others`.
fn work(index: u32, rows: u32, height: u32, cols: u32, width: u32, others: u32) -> Work {
    let across = max((cols + width - 1u) / width, 1u);
    let down = (rows + height - 1u) / height;
    let matrix = index / (across * down);
    let slice = matrix / p.matrices;
    let first = min(slice * p.size, others);
    return Work(index / across % down * height, index % across * width, matrix % p.matrices, slice, first,
                min(first + p.size, others), slice < p.slices);
}
