// What the kernels of attention's output read and write. The importing file says how they go about it, and what a Word is: one
// f32, or four neighbours along the last axis as vec4f; then sizes, strides and starts count words.
//
//   q, k, v, mask f32: shared/attention.wgsl     o f32 [matrices, queries, dv], contiguous, of each slice
//   stats f32 [matrices, queries]: the logarithm of the sum of exponentials; of slices [slices, matrices, queries, 2]

#import shared/attention.wgsl
#import shared/attention_end.wgsl

@group(0) @binding(0) var<storage, read> q: array<Word>;
@group(0) @binding(1) var<storage, read> k: array<Word>;
@group(0) @binding(2) var<storage, read> v: array<Word>;
@group(0) @binding(3) var<storage, read> mask: array<f32>;
@group(0) @binding(4) var<storage, read_write> o: array<Word>;
@group(0) @binding(5) var<storage, read_write> stats: array<f32>;
@group(0) @binding(6) var<uniform> p: Params;

/// The parts that the others, which are keys, have: in the scores, and in the output.
const SCORES = 0u;
const VALUES = 1u;

fn row_at(kind: u32, r: u32) -> u32 { return query(r).q; }
fn row_step(kind: u32) -> u32 { return p.q_col; }
fn row_word(kind: u32, at: u32) -> Word { return q[at]; }

/// How many others there are.
fn others() -> u32 { return p.m; }

fn other_at(kind: u32, j: u32) -> u32 {
    if (kind == SCORES) { return key_start(j); }
    return value_start(j);
}

fn other_step(kind: u32) -> u32 {
    if (kind == SCORES) { return p.k_col; }
    return p.v_col;
}

fn other_word(kind: u32, at: u32) -> Word {
    if (kind == SCORES) { return k[at]; }
    return v[at];
}
