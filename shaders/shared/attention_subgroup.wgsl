// Tiles of scores, and of sums weighted by them, computed by a subgroup of SUBGROUP invocations, all in registers. An invocation
// has 32 rows by 8 others (of the scores), or 32 rows by 8 columns (of the sums).
// Imported by: attention_subgroup.wgsl, attention_grad_subgroup.wgsl
// Expects: for the rows row_at(kind, r) -> u32 (an offset), row_step(kind) -> u32, row_word(kind, at) -> Word; for the others
// other_at, other_step, other_word, and others() -> u32 (their number); SUBGROUP (8); shared/attention.wgsl.
//
// It is made for software rasterizers, which issue one load per invocation, and which store and reload whatever a loop carries
// from one iteration to the next. So there are few loads per multiply-add, iterations are long, and arrays are indexed by
// constants, which keeps them in registers. What is done row by row processes the first four rows, then rotates the tile.
//
// A word is four consecutive elements, and takes one load.

#import shared/common.wgsl
#import shared/subgroup.wgsl

const TILE_ROWS = 32u;         // rows of a tile
const TILE_OTHERS = 8u * SUBGROUP; // others of a tile of scores
const TILE_WORDS = 2u * SUBGROUP; // words in a row of a tile of sums

alias Word = vec4f;

/// Matrices 2t and 2t + 1 have rows 4t to 4t + 3, with four others (or columns) each. A matrix column is a row.
alias Tile = array<mat4x4f, 16>;
/// One number for each row.
alias RowValues = array<vec4f, 8>;

/// Rotates the tile, so that its next four rows become the first.
fn rotate_tile(s: ptr<function, Tile>) {
    let a = (*s)[0];
    let b = (*s)[1];
    (*s)[0] = (*s)[2];
    (*s)[1] = (*s)[3];
    (*s)[2] = (*s)[4];
    (*s)[3] = (*s)[5];
    (*s)[4] = (*s)[6];
    (*s)[5] = (*s)[7];
    (*s)[6] = (*s)[8];
    (*s)[7] = (*s)[9];
    (*s)[8] = (*s)[10];
    (*s)[9] = (*s)[11];
    (*s)[10] = (*s)[12];
    (*s)[11] = (*s)[13];
    (*s)[12] = (*s)[14];
    (*s)[13] = (*s)[15];
    (*s)[14] = a;
    (*s)[15] = b;
}

/// The same for one number per row.
fn rotate_rows(v: ptr<function, RowValues>) {
    let a = (*v)[0];
    (*v)[0] = (*v)[1];
    (*v)[1] = (*v)[2];
    (*v)[2] = (*v)[3];
    (*v)[3] = (*v)[4];
    (*v)[4] = (*v)[5];
    (*v)[5] = (*v)[6];
    (*v)[6] = (*v)[7];
    (*v)[7] = a;
}

fn eight(a: vec4f, b: vec4f, c: vec4f, d: vec4f, e: vec4f, f: vec4f, g: vec4f, h: vec4f) -> RowValues {
    return RowValues(a, b, c, d, e, f, g, h);
}

fn rows_by(s: mat4x4f, by: vec4f) -> mat4x4f {
    return mat4x4f(s[0] * by.x, s[1] * by.y, s[2] * by.z, s[3] * by.w);
}

/// Multiplies each row by its factor.
fn scale_rows(s: ptr<function, Tile>, by: RowValues) {
    (*s)[0] = rows_by((*s)[0], by[0]);
    (*s)[1] = rows_by((*s)[1], by[0]);
    (*s)[2] = rows_by((*s)[2], by[1]);
    (*s)[3] = rows_by((*s)[3], by[1]);
    (*s)[4] = rows_by((*s)[4], by[2]);
    (*s)[5] = rows_by((*s)[5], by[2]);
    (*s)[6] = rows_by((*s)[6], by[3]);
    (*s)[7] = rows_by((*s)[7], by[3]);
    (*s)[8] = rows_by((*s)[8], by[4]);
    (*s)[9] = rows_by((*s)[9], by[4]);
    (*s)[10] = rows_by((*s)[10], by[5]);
    (*s)[11] = rows_by((*s)[11], by[5]);
    (*s)[12] = rows_by((*s)[12], by[6]);
    (*s)[13] = rows_by((*s)[13], by[6]);
    (*s)[14] = rows_by((*s)[14], by[7]);
    (*s)[15] = rows_by((*s)[15], by[7]);
}

/// The maximum of x over the subgroup.
fn largest_of(x: f32) -> f32 {
    var y = max(x, subgroupShuffleXor(x, 1u));
    y = max(y, subgroupShuffleXor(y, 2u));
    return max(y, subgroupShuffleXor(y, 4u));
}

/// The sum of x over the subgroup.
fn sum_of(x: vec4f) -> vec4f {
    var y = x + subgroupShuffleXor(x, 1u);
    y += subgroupShuffleXor(y, 2u);
    return y + subgroupShuffleXor(y, 4u);
}

/// c + the products of four rows and four others over four numbers. A column of a or b is a number.
fn outer4(c: mat4x4f, a: mat4x4f, b: mat4x4f) -> mat4x4f {
    return outer(outer(outer(outer(c, a[0], b[0]), a[1], b[1]), a[2], b[2]), a[3], b[3]);
}

/// Four numbers of the first four invocations (`lows`) or of the last four (`highs`). A matrix column is a number.
fn lows(a: f32, b: f32, c: f32, d: f32) -> mat4x4f {
    return mat4x4f(low(a), low(b), low(c), low(d));
}

fn highs(a: f32, b: f32, c: f32, d: f32) -> mat4x4f {
    return mat4x4f(high(a), high(b), high(c), high(d));
}

/// Broadcasts x to all lanes. Lane l holds rows l, l + 8, l + 16 and l + 24; matrix t of the result has rows 4t to 4t + 3.
fn fours_of_rows(x: mat4x4f) -> array<mat4x4f, 8> {
    return array<mat4x4f, 8>(
        lows(x[0].x, x[1].x, x[2].x, x[3].x), highs(x[0].x, x[1].x, x[2].x, x[3].x),
        lows(x[0].y, x[1].y, x[2].y, x[3].y), highs(x[0].y, x[1].y, x[2].y, x[3].y),
        lows(x[0].z, x[1].z, x[2].z, x[3].z), highs(x[0].z, x[1].z, x[2].z, x[3].z),
        lows(x[0].w, x[1].w, x[2].w, x[3].w), highs(x[0].w, x[1].w, x[2].w, x[3].w));
}

/// Adds to a tile the products of its rows and eight others over four numbers. Lane l has rows l, l + 8, ... in x. Four rows by
/// four others at a time, so that registers hold them.
fn add_numbers(s: ptr<function, Tile>, x: mat4x4f, left: mat4x4f, right: mat4x4f) {
    let a = fours_of_rows(x);
    (*s)[0] = outer4((*s)[0], a[0], left);
    (*s)[1] = outer4((*s)[1], a[0], right);
    (*s)[2] = outer4((*s)[2], a[1], left);
    (*s)[3] = outer4((*s)[3], a[1], right);
    (*s)[4] = outer4((*s)[4], a[2], left);
    (*s)[5] = outer4((*s)[5], a[2], right);
    (*s)[6] = outer4((*s)[6], a[3], left);
    (*s)[7] = outer4((*s)[7], a[3], right);
    (*s)[8] = outer4((*s)[8], a[4], left);
    (*s)[9] = outer4((*s)[9], a[4], right);
    (*s)[10] = outer4((*s)[10], a[5], left);
    (*s)[11] = outer4((*s)[11], a[5], right);
    (*s)[12] = outer4((*s)[12], a[6], left);
    (*s)[13] = outer4((*s)[13], a[6], right);
    (*s)[14] = outer4((*s)[14], a[7], left);
    (*s)[15] = outer4((*s)[15], a[7], right);
}

/// Adds to a tile the dot products of its rows and others, which begin at (row, other), over `depth` words.
fn add_products_of(s: ptr<function, Tile>, kind: u32, row: u32, other: u32, depth: u32, lane: u32) {
    let r = row + lane;
    let mine = other + 8u * lane;
    var x = vec4u(row_at(kind, r), row_at(kind, r + SUBGROUP), row_at(kind, r + 2u * SUBGROUP), row_at(kind, r + 3u * SUBGROUP));
    var left = vec4u(other_at(kind, mine), other_at(kind, mine + 1u), other_at(kind, mine + 2u), other_at(kind, mine + 3u));
    var right = vec4u(other_at(kind, mine + 4u), other_at(kind, mine + 5u), other_at(kind, mine + 6u), other_at(kind, mine + 7u));
    let across = row_step(kind);
    let along = other_step(kind);
    for (var c = 0u; c < depth; c++) {
        // A matrix column is a number.
        let a = four_rows(kind, x);
        let l = four_others(kind, left);
        let r = four_others(kind, right);
        add_numbers(s, a, l, r);
        x += across;
        left += along;
        right += along;
    }
}

fn four_rows(kind: u32, at: vec4u) -> mat4x4f {
    return transpose(mat4x4f(row_word(kind, at.x), row_word(kind, at.y), row_word(kind, at.z), row_word(kind, at.w)));
}

fn four_others(kind: u32, at: vec4u) -> mat4x4f {
    return transpose(mat4x4f(other_word(kind, at.x), other_word(kind, at.y), other_word(kind, at.z), other_word(kind, at.w)));
}

/// The word of other j at column word `col`; 0 if j is past the end.
fn summed(kind: u32, j: u32, col: u32) -> vec4f {
    return select(vec4f(), other_word(kind, other_at(kind, j) + col), j < others());
}

fn four_summed(kind: u32, j: u32, col: u32) -> mat4x4f {
    return mat4x4f(summed(kind, j, col), summed(kind, j + 1u, col), summed(kind, j + 2u, col), summed(kind, j + 3u, col));
}

/// c + four others weighted for four rows. A column of w or x is an other.
fn add_products4(c: mat4x4f, w: mat4x4f, x: mat4x4f) -> mat4x4f {
    return add_products(add_products(add_products(add_products(c, w[0], x[0]), w[1], x[1]), w[2], x[2]), w[3], x[3]);
}

/// The weights of lane l, transposed: a column is an other.
fn weights_of(w: mat4x4f, l: u32) -> mat4x4f {
    let t = transpose(w);
    return mat4x4f(subgroupShuffle(t[0], l), subgroupShuffle(t[1], l), subgroupShuffle(t[2], l), subgroupShuffle(t[3], l));
}

/// Adds to the sums, which begin at column word `col`, the others from `other` on, weighted. Four rows by four columns at a time,
/// so that registers hold them.
fn add_weighted(kind: u32, sums: ptr<function, Tile>, w: ptr<function, Tile>, other: u32, col: u32, cols: u32, lane: u32) {
    // Columns past the end are clamped to the last one; their results are not stored.
    let left = min(col + 2u * lane, max(cols, 1u) - 1u) * other_step(kind);
    let right = min(col + 2u * lane + 1u, max(cols, 1u) - 1u) * other_step(kind);
    for (var l = 0u; l < SUBGROUP; l++) {
        let first = other + 8u * l;
        let a = four_summed(kind, first, left);
        let b = four_summed(kind, first + 4u, left);
        let c = four_summed(kind, first, right);
        let d = four_summed(kind, first + 4u, right);
        let v0 = weights_of((*w)[0], l);
        let w0 = weights_of((*w)[1], l);
        (*sums)[0] = add_products4(add_products4((*sums)[0], v0, a), w0, b);
        (*sums)[1] = add_products4(add_products4((*sums)[1], v0, c), w0, d);
        let v1 = weights_of((*w)[2], l);
        let w1 = weights_of((*w)[3], l);
        (*sums)[2] = add_products4(add_products4((*sums)[2], v1, a), w1, b);
        (*sums)[3] = add_products4(add_products4((*sums)[3], v1, c), w1, d);
        let v2 = weights_of((*w)[4], l);
        let w2 = weights_of((*w)[5], l);
        (*sums)[4] = add_products4(add_products4((*sums)[4], v2, a), w2, b);
        (*sums)[5] = add_products4(add_products4((*sums)[5], v2, c), w2, d);
        let v3 = weights_of((*w)[6], l);
        let w3 = weights_of((*w)[7], l);
        (*sums)[6] = add_products4(add_products4((*sums)[6], v3, a), w3, b);
        (*sums)[7] = add_products4(add_products4((*sums)[7], v3, c), w3, d);
        let v4 = weights_of((*w)[8], l);
        let w4 = weights_of((*w)[9], l);
        (*sums)[8] = add_products4(add_products4((*sums)[8], v4, a), w4, b);
        (*sums)[9] = add_products4(add_products4((*sums)[9], v4, c), w4, d);
        let v5 = weights_of((*w)[10], l);
        let w5 = weights_of((*w)[11], l);
        (*sums)[10] = add_products4(add_products4((*sums)[10], v5, a), w5, b);
        (*sums)[11] = add_products4(add_products4((*sums)[11], v5, c), w5, d);
        let v6 = weights_of((*w)[12], l);
        let w6 = weights_of((*w)[13], l);
        (*sums)[12] = add_products4(add_products4((*sums)[12], v6, a), w6, b);
        (*sums)[13] = add_products4(add_products4((*sums)[13], v6, c), w6, d);
        let v7 = weights_of((*w)[14], l);
        let w7 = weights_of((*w)[15], l);
        (*sums)[14] = add_products4(add_products4((*sums)[14], v7, a), w7, b);
        (*sums)[15] = add_products4(add_products4((*sums)[15], v7, c), w7, d);
    }
}
