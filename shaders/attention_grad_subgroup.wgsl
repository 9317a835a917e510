// The gradients dq, dk and dv of attention in one pass, for adapters whose subgroups have one known, small size.
// shared/attention_grad.wgsl has the formulas.
// Used by: scaled_dot_product_attention (gradient)
//
// A subgroup processes a slice of the keys, 32 at a time, and for these iterates over the queries, 8 SUBGROUP at a time
// (shared/attention_subgroup.wgsl). So the products q · k and do · v are computed once for all three gradients.
//
// dk and dv are summed in registers. dq is summed in memory, one sum for each slice; every element is always added to by the
// same invocation, so the order is fixed and no atomics are needed. One dispatch processes up to `round` keys of each slice,
// from its key `first_key`; the next dispatch continues the sums of dq.
//
// d and dv are at most 2 SUBGROUP words. Compute bound.
//
//   shared/attention_grad.wgsl: operands and bindings
//   dq f32 [slices, matrices, queries, d]     dk f32 [matrices, m, d]     dv f32 [matrices, m, dv], contiguous
//
// Constants prepended by ops/attention/gpu.rs: MASKED: see shared/attention.wgsl. SUBGROUP: invocations per subgroup.

#import shared/attention_grad.wgsl
#import shared/attention_subgroup.wgsl

@group(0) @binding(6) var<storage, read_write> dq: array<Word>;
@group(0) @binding(7) var<storage, read_write> dk: array<Word>;
@group(0) @binding(8) var<storage, read_write> dv: array<Word>;
@group(0) @binding(9) var<uniform> p: Params;

fn row_at(kind: u32, r: u32) -> u32 { return key_at(kind, r); }
fn row_step(kind: u32) -> u32 { return key_step(kind); }
fn row_word(kind: u32, at: u32) -> Word { return key_word(kind, at); }

fn others() -> u32 { return p.queries; }
fn other_at(kind: u32, j: u32) -> u32 { return query_at(kind, j); }
fn other_step(kind: u32) -> u32 { return query_step(kind); }
fn other_word(kind: u32, at: u32) -> Word { return query_word(kind, at); }

/// The statistics of four queries: lse and delta.
struct Stats { log: vec4f, delta: vec4f }

fn stats_of(first: u32) -> Stats {
    let a = stat(first);
    let b = stat(first + 1u);
    let c = stat(first + 2u);
    let d = stat(first + 3u);
    return Stats(vec4f(a.x, b.x, c.x, d.x), vec4f(a.y, b.y, c.y, d.y));
}

/// The weights of a key and four queries: `value` in dv, `score` in dq and dk.
struct Four { value: vec4f, score: vec4f }

fn four_weights(key: u32, first: u32, stats: Stats, s: vec4f, g: vec4f) -> Four {
    let a = gradient(first, vec2f(stats.log.x, stats.delta.x), key, s.x, g.x);
    let b = gradient(first + 1u, vec2f(stats.log.y, stats.delta.y), key, s.y, g.y);
    let c = gradient(first + 2u, vec2f(stats.log.z, stats.delta.z), key, s.z, g.z);
    let d = gradient(first + 3u, vec2f(stats.log.w, stats.delta.w), key, s.w, g.w);
    return Four(vec4f(a.value, b.value, c.value, d.value), vec4f(a.score, b.score, c.score, d.score));
}

/// c + x w for four queries; c where w is 0, even if x is NaN.
fn add_weight(c: vec4f, x: f32, w: vec4f) -> vec4f {
    let sum = fma(vec4f(x), w, c);
    if (MASKED == 0u) { return sum; }
    return select(sum, c, w == vec4f());
}

/// c + the outer product of four numbers of a key and the weights of four queries. A matrix column is a number.
fn add_key(c: mat4x4f, x: vec4f, w: vec4f) -> mat4x4f {
    return mat4x4f(add_weight(c[0], x.x, w), add_weight(c[1], x.y, w), add_weight(c[2], x.z, w), add_weight(c[3], x.w, w));
}

/// The sum of these products over four keys. A column of x is a number, a column of w a key.
fn add_keys(c: mat4x4f, x: mat4x4f, w: mat4x4f) -> mat4x4f {
    let key = transpose(x);
    return add_key(add_key(add_key(add_key(c, key[0], w[0]), key[1], w[1]), key[2], w[2]), key[3], w[3]);
}

/// Adds four numbers to dq of four queries, or initializes it if `begins`. A column of `sums` is a number.
fn add_to_dq(row: u32, first: u32, c: u32, begins: bool, sums: mat4x4f) {
    let by_query = transpose(sums);
    add_word(row, first, c, begins, by_query[0]);
    add_word(row, first + 1u, c, begins, by_query[1]);
    add_word(row, first + 2u, c, begins, by_query[2]);
    add_word(row, first + 3u, c, begins, by_query[3]);
}

fn add_word(row: u32, query: u32, c: u32, begins: bool, sum: vec4f) {
    if (query >= p.queries) { return; }
    let at = (row + query) * p.d + c;
    var before: vec4f;
    if (!begins) { before = dq[at]; }
    dq[at] = fma(sum, vec4f(p.scale), before);
}

/// Adds the contribution of the TILE_ROWS keys from `key` on to dq of this invocation's eight queries.
fn add_across(w: ptr<function, Tile>, key: u32, first: u32, row: u32, begins: bool, lane: u32) {
    let r = key + lane;
    var at = vec4u(key_start(r), key_start(r + SUBGROUP), key_start(r + 2u * SUBGROUP), key_start(r + 3u * SUBGROUP));
    for (var c = 0u; c < p.d; c++) {
        let x = four_rows(SCORES, at);
        let a = fours_of_rows(x);
        var sums = add_keys(mat4x4f(), a[0], (*w)[0]);
        sums = add_keys(sums, a[1], (*w)[2]);
        sums = add_keys(sums, a[2], (*w)[4]);
        sums = add_keys(sums, a[3], (*w)[6]);
        sums = add_keys(sums, a[4], (*w)[8]);
        sums = add_keys(sums, a[5], (*w)[10]);
        sums = add_keys(sums, a[6], (*w)[12]);
        sums = add_keys(sums, a[7], (*w)[14]);
        add_to_dq(row, first, c, begins, sums);
        sums = add_keys(mat4x4f(), a[0], (*w)[1]);
        sums = add_keys(sums, a[1], (*w)[3]);
        sums = add_keys(sums, a[2], (*w)[5]);
        sums = add_keys(sums, a[3], (*w)[7]);
        sums = add_keys(sums, a[4], (*w)[9]);
        sums = add_keys(sums, a[5], (*w)[11]);
        sums = add_keys(sums, a[6], (*w)[13]);
        sums = add_keys(sums, a[7], (*w)[15]);
        add_to_dq(row, first + 4u, c, begins, sums);
        at += p.k.col;
    }
}

@compute @workgroup_size(SUBGROUP)
fn subgroup(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
            @builtin(subgroup_invocation_id) lane: u32) {
    let number = workgroup_index(group, groups);
    let slice = number / p.matrices;
    if (slice >= p.slices) { return; } // the whole subgroup leaves together
    let matrix = number % p.matrices;
    select_matrix(matrix);
    let first_key = slice * p.size + p.first_key;
    let end = min(first_key + p.round, min((slice + 1u) * p.size, p.m));
    for (var key = first_key; key < end; key += TILE_ROWS) {
        // The first keys of a slice initialize dq, also for queries that do not see them.
        let begins = key == slice * p.size;
        var key_sums: Tile;
        var value_sums: Tile;
        for (var tile = 0u; tile < p.queries; tile += TILE_OTHERS) {
            if (!begins && !meet(tile, tile + TILE_OTHERS - 1u, key, key + TILE_ROWS - 1u)) { continue; }
            var s: Tile;
            var g: Tile;
            add_products_of(&s, SCORES, key, tile, p.d, lane);
            add_products_of(&g, VALUE_PRODUCTS, key, tile, p.dv, lane);
            let first = tile + 8u * lane;
            let left = stats_of(first);
            let right = stats_of(first + 4u);
            for (var row = key; row < key + TILE_ROWS; row += 4u) {
                for (var r = 0u; r < 4u; r++) {
                    // Rotates the four rows within the matrix, so that its indices are constants.
                    let a = four_weights(row + r, first, left, s[0][0], g[0][0]);
                    let b = four_weights(row + r, first + 4u, right, s[1][0], g[1][0]);
                    s[0] = mat4x4f(s[0][1], s[0][2], s[0][3], a.score);
                    s[1] = mat4x4f(s[1][1], s[1][2], s[1][3], b.score);
                    g[0] = mat4x4f(g[0][1], g[0][2], g[0][3], a.value);
                    g[1] = mat4x4f(g[1][1], g[1][2], g[1][3], b.value);
                }
                rotate_tile(&s);
                rotate_tile(&g);
            }
            add_weighted(VALUE_PRODUCTS, &value_sums, &g, tile, 0u, p.dv, lane);
            add_weighted(SCORES, &key_sums, &s, tile, 0u, p.d, lane);
            add_across(&s, key, first, (slice * p.matrices + matrix) * p.queries, begins, lane);
        }
        for (var row = key; row < key + TILE_ROWS; row += 4u) {
            store_row(matrix, row, lane, key_sums[0][0], key_sums[1][0], value_sums[0][0], value_sums[1][0]);
            store_row(matrix, row + 1u, lane, key_sums[0][1], key_sums[1][1], value_sums[0][1], value_sums[1][1]);
            store_row(matrix, row + 2u, lane, key_sums[0][2], key_sums[1][2], value_sums[0][2], value_sums[1][2]);
            store_row(matrix, row + 3u, lane, key_sums[0][3], key_sums[1][3], value_sums[0][3], value_sums[1][3]);
            rotate_tile(&key_sums);
            rotate_tile(&value_sums);
        }
    }
}

/// Stores words 2 lane and 2 lane + 1 of a key's row of dk and dv.
fn store_row(matrix: u32, key: u32, lane: u32, k0: vec4f, k1: vec4f, v0: vec4f, v1: vec4f) {
    if (key >= p.m) { return; }
    let row = matrix * p.m + key;
    let col = 2u * lane;
    if (col < p.d) { dk[row * p.d + col] = k0 * p.scale; }
    if (col + 1u < p.d) { dk[row * p.d + col + 1u] = k1 * p.scale; }
    if (col < p.dv) { dv[row * p.dv + col] = v0; }
    if (col + 1u < p.dv) { dv[row * p.dv + col + 1u] = v1; }
}
