// The operands and bindings of the kernels that compute the output of attention.
// Imported by: attention.wgsl, attention_subgroup.wgsl
// Expects: Word (f32, or vec4f for four consecutive elements of the last axis; then sizes, strides and offsets count vec4f).
//
//   q, k, v, mask f32: see shared/attention.wgsl
//   o f32 [matrices, queries, dv], contiguous, one for each slice
//   stats f32 [matrices, queries]: the logarithm of the sum of the exponentials of the scores; with several slices
//   [slices, matrices, queries, 2]: the maximum and the sum

#import shared/attention.wgsl

@group(0) @binding(0) var<storage, read> q: array<Word>;
@group(0) @binding(1) var<storage, read> k: array<Word>;
@group(0) @binding(2) var<storage, read> v: array<Word>;
@group(0) @binding(3) var<storage, read> mask: array<f32>;
@group(0) @binding(4) var<storage, read_write> o: array<Word>;
@group(0) @binding(5) var<storage, read_write> stats: array<f32>;
@group(0) @binding(6) var<uniform> p: Params;

/// Which products are computed. The rows are queries, the others are keys: SCORES takes q and k, VALUES takes v.
const SCORES = 0u;
const VALUES = 1u;

fn row_at(kind: u32, r: u32) -> u32 { return query(r).q; }
fn row_step(kind: u32) -> u32 { return p.q.col; }
fn row_word(kind: u32, at: u32) -> Word { return q[at]; }

/// The number of others.
fn others() -> u32 { return p.m; }

fn other_at(kind: u32, j: u32) -> u32 {
    if (kind == SCORES) { return key_start(j); }
    return value_start(j);
}

fn other_step(kind: u32) -> u32 {
    if (kind == SCORES) { return p.k.col; }
    return p.v.col;
}

fn other_word(kind: u32, at: u32) -> Word {
    if (kind == SCORES) { return k[at]; }
    return v[at];
}

/// Four elements of the output from their sums; with several slices the sums, which attention_reduce.wgsl divides.
fn output(sums: vec4f, whole: OnlineSoftmax) -> vec4f {
    if (p.slices > 1u) { return sums; }
    return divided(sums, whole);
}

/// Stores the statistics of a row.
fn store_stats(row: u32, whole: OnlineSoftmax) {
    if (p.slices > 1u) {
        stats[2u * row] = whole.max;
        stats[2u * row + 1u] = whole.sum;
    } else {
        stats[row] = log_sum(whole);
    }
}
