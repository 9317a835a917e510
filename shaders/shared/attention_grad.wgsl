// What the kernels of attention's gradients read, and the weights of a gradient. With w[i, j] the weights of the output
// divided by their sum, D[i, j] what dropout multiplies them with, and t the tanh of the soft cap:
//
//   dq[i] = scale sum_j ds[i, j] k[j]       ds = du (1 - t²)
//   dk[j] = scale sum_i ds[i, j] q[i]       du = w (D do[i] · v[j] - delta[i])
//   dv[j] = sum_i w[i, j] D[i, j] do[i]     dmask[i, j] = du[i, j]
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

#import shared/attention.wgsl

@group(0) @binding(0) var<storage, read> q: array<Word>;
@group(0) @binding(1) var<storage, read> k: array<Word>;
@group(0) @binding(2) var<storage, read> v: array<Word>;
@group(0) @binding(3) var<storage, read> mask: array<f32>;
@group(0) @binding(4) var<storage, read> grad: array<Word>;
@group(0) @binding(5) var<storage, read> stats: array<f32>;

/// What is multiplied: q and k for the scores, the output's gradient and v for their slopes.
const SCORES = 0u;
const SLOPES = 1u;

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

/// Of a query: the logarithm of its sum, and delta.
fn stat(r: u32) -> vec2f {
    let row = 2u * (first_row + min(r, p.queries - 1u));
    return vec2f(stats[row], stats[row + 1u]);
}

/// What a query and a key weigh in a gradient: `value` in dv, `mask` in dmask, and `score` in dq and dk.
struct Weights { value: f32, mask: f32, score: f32 }

/// Those of query r and a key, from the product of query and key, and that of the output's gradient and the value.
fn gradient(r: u32, stat: vec2f, key: u32, product: f32, slope: f32) -> Weights {
    let query = query(r);
    let s = score(product, query, key);
    // A score is above the logarithm of the sum by roundings at most.
    let w = weight(s.x, stat.x);
    if (r >= p.queries || w == 0.0) { return Weights(0.0, 0.0, 0.0); }
    let keep = kept(query, key);
    // What is dropped is dropped even where it is NaN.
    let du = w * (select(slope * keep, 0.0, keep == 0.0) - stat.y);
    return Weights(select(w * keep, 0.0, keep == 0.0), du, du * s.y);
}
