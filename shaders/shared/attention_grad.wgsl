// What the kernels of attention's gradients read and write, and the weights of a gradient. With w[i, j] the weights of the
// output divided by their sum, D[i, j] what dropout multiplies them with, and t the tanh of the soft cap:
//
//   PART 0:  dq[i] = scale sum_j ds[i, j] k[j]       ds = du (1 - t²)
//   PART 1:  dk[j] = scale sum_i ds[i, j] q[i]       du = w (D do[i] · v[j] - delta[i])
//   PART 2:  dv[j] = sum_i w[i, j] D[i, j] do[i]
//   PART 3:  dmask[i, j] = du[i, j]
//
// FlashAttention-2 (Dao, arXiv:2307.08691): the scores are computed again, and w = exp(s - lse) with the logarithm that
// the forward pass left. Each element is summed in one place, in a fixed order, and the gradients of a key head that
// several heads share are summed as they come. Long sums are cut into slices that matmul_fold adds.
//
// A Word is what shared/attention_forward.wgsl says.
//
//   q, k, v, mask f32: shared/attention.wgsl
//   grad f32 [matrices, queries, dv]: do, contiguous from grad_offset on
//   stats f32 [matrices, queries, 2]: lse and delta of each query (attention_delta.wgsl)
//   out f32, contiguous: dq [matrices, queries, d], dk [matrices, m, d], dv [matrices, m, dv], each of every slice; dmask
//   [matrices, queries, m]

#import shared/attention.wgsl

@group(0) @binding(0) var<storage, read> q: array<Word>;
@group(0) @binding(1) var<storage, read> k: array<Word>;
@group(0) @binding(2) var<storage, read> v: array<Word>;
@group(0) @binding(3) var<storage, read> mask: array<f32>;
@group(0) @binding(4) var<storage, read> grad: array<Word>;
@group(0) @binding(5) var<storage, read> stats: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<Word>;
@group(0) @binding(7) var<uniform> p: Params;

const DQ = 0u;
const DK = 1u;
const DV = 2u;
const DMASK = 3u;

/// What is multiplied: q and k for the scores, the output's gradient and v for their slopes.
const SCORES = 0u;
const SLOPES = 1u;

/// Whether the rows of the result are those of queries, and keys are summed over; else the other way round.
const BY_QUERY: bool = PART == DQ || PART == DMASK;

fn rows() -> u32 {
    if (BY_QUERY) { return p.queries; }
    return p.m;
}

fn others() -> u32 {
    if (BY_QUERY) { return p.m; }
    return p.queries;
}

fn columns() -> u32 {
    if (PART == DMASK) { return 0u; }
    if (PART == DV) { return p.dv; }
    return p.d;
}

fn tiles_meet(row: u32, height: u32, other: u32, width: u32) -> bool {
    if (PART == DMASK) { return true; } // zeros are to be written too
    if (BY_QUERY) { return meet(row, row + height - 1u, other, other + width - 1u); }
    return meet(other, other + width - 1u, row, row + height - 1u);
}

fn query_at(kind: u32, r: u32) -> u32 {
    if (kind == SCORES) { return query(r).q; }
    return p.grad_offset + (first_row + min(r, p.queries - 1u)) * p.dv;
}

fn query_step(kind: u32) -> u32 {
    if (kind == SCORES) { return p.q_col; }
    return 1u;
}

fn query_word(kind: u32, at: u32) -> Word {
    if (kind == SCORES) { return q[at]; }
    return grad[at];
}

fn key_at(kind: u32, j: u32) -> u32 {
    if (kind == SCORES) { return key_start(j); }
    return value_start(j);
}

fn key_step(kind: u32) -> u32 {
    if (kind == SCORES) { return p.k_col; }
    return p.v_col;
}

fn key_word(kind: u32, at: u32) -> Word {
    if (kind == SCORES) { return k[at]; }
    return v[at];
}

fn row_at(kind: u32, r: u32) -> u32 {
    if (BY_QUERY) { return query_at(kind, r); }
    return key_at(kind, r);
}

fn row_step(kind: u32) -> u32 {
    if (BY_QUERY) { return query_step(kind); }
    return key_step(kind);
}

fn row_word(kind: u32, at: u32) -> Word {
    if (BY_QUERY) { return query_word(kind, at); }
    return key_word(kind, at);
}

fn other_at(kind: u32, j: u32) -> u32 {
    if (BY_QUERY) { return key_at(kind, j); }
    return query_at(kind, j);
}

fn other_step(kind: u32) -> u32 {
    if (BY_QUERY) { return key_step(kind); }
    return query_step(kind);
}

fn other_word(kind: u32, at: u32) -> Word {
    if (BY_QUERY) { return key_word(kind, at); }
    return query_word(kind, at);
}

/// What the weights are for: the others' part of the scores, of dv the gradient.
const SUMMED: u32 = select(SCORES, SLOPES, PART == DV);

fn summed_at(j: u32) -> u32 { return other_at(SUMMED, j); }
fn summed_step() -> u32 { return other_step(SUMMED); }
fn summed_word(at: u32) -> Word { return other_word(SUMMED, at); }

/// Of a query: the logarithm of its sum, and delta.
fn stat(r: u32) -> vec2f {
    let row = 2u * (first_row + min(r, p.queries - 1u));
    return vec2f(stats[row], stats[row + 1u]);
}

/// What is weighted with for query r and a key, from the product of query and key, and that of the output's gradient and
/// the value.
fn gradient(r: u32, stat: vec2f, key: u32, product: f32, slope: f32) -> f32 {
    let query = query(r);
    let s = score(product, query, key);
    // A score is above the logarithm of the sum by roundings at most.
    let w = weight(s.x, stat.x);
    if (r >= p.queries || w == 0.0) { return 0.0; }
    let keep = kept(query, key);
    if (PART == DV) { return select(w * keep, 0.0, keep == 0.0); } // dropped even where it is NaN
    let du = w * (select(slope * keep, 0.0, keep == 0.0) - stat.y);
    if (PART == DMASK) { return du; }
    return du * s.y;
}

/// The sum in `out`, scaled as the scores are.
fn leave(slice: u32, matrix: u32, row: u32, col: u32, sum: Word) {
    if (row >= rows() || col >= columns()) { return; }
    let at = (slice * p.matrices + matrix) * rows() + row;
    out[at * columns() + col] = sum * select(p.scale, 1.0, PART == DV);
}
