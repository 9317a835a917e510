// The operands of the kernels that compute the gradients of attention, and the weights in these gradients. With w[i, j] the
// weights divided by their sum, D[i, j] the factors of dropout, t[i, j] the tanh of the soft cap:
//
//   dq[i] = scale sum_j ds[i, j] k[j]            ds[i, j] = du[i, j] (1 - t[i, j]²), the gradient of scale q[i] · k[j]
//   dk[j] = scale sum_i ds[i, j] q[i]            du[i, j] = w[i, j] (D[i, j] do[i] · v[j] - delta[i]), the gradient of the score
//   dv[j] = sum_i w[i, j] D[i, j] do[i]          dmask[i, j] = du[i, j]
//
// Imported by: attention_grad.wgsl, attention_grad_subgroup.wgsl
// Expects: Word (see shared/attention_forward.wgsl), p: Params, MASKED.
//
// FlashAttention-2 (Dao, arXiv:2307.08691): the scores are recomputed, and w = exp(s - lse) with the lse that the forward pass
// stored. Each element is summed by one invocation in a fixed order, over all heads that share a key head. Long sums are cut
// into slices, which matmul_reduce.wgsl adds.
//
//   q, k, v, mask f32: see shared/attention.wgsl
//   grad f32 [matrices, queries, dv]: do, contiguous from grad_offset
//   stats f32 [matrices, queries, 2]: lse and delta of each query (attention_delta.wgsl)

#import shared/attention.wgsl

@group(0) @binding(0) var<storage, read> q: array<Word>;
@group(0) @binding(1) var<storage, read> k: array<Word>;
@group(0) @binding(2) var<storage, read> v: array<Word>;
@group(0) @binding(3) var<storage, read> mask: array<f32>;
@group(0) @binding(4) var<storage, read> grad: array<Word>;
@group(0) @binding(5) var<storage, read> stats: array<f32>;

/// Which products are computed: SCORES takes q and k, VALUE_PRODUCTS takes do and v.
const SCORES = 0u;
const VALUE_PRODUCTS = 1u;

fn query_at(kind: u32, r: u32) -> u32 {
    if (kind == SCORES) { return query(r).q; }
    return p.grad_offset + (first_row + min(r, p.queries - 1u)) * p.dv;
}

fn query_step(kind: u32) -> u32 {
    if (kind == SCORES) { return p.q.col; }
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
    if (kind == SCORES) { return p.k.col; }
    return p.v.col;
}

fn key_word(kind: u32, at: u32) -> Word {
    if (kind == SCORES) { return k[at]; }
    return v[at];
}

/// lse and delta of query r, clamped to the last one.
fn stat(r: u32) -> vec2f {
    let row = 2u * (first_row + min(r, p.queries - 1u));
    return vec2f(stats[row], stats[row + 1u]);
}

/// The weights of a query and a key in the gradients: `value` in dv (w D), `mask` in dmask (du), `score` in dq and dk (ds).
struct Weights { value: f32, mask: f32, score: f32 }

/// The weights of query r and a key, from the products q · k and do · v.
fn gradient(r: u32, stat: vec2f, key: u32, q_k: f32, do_v: f32) -> Weights {
    let query = query(r);
    let s = score(q_k, query, key);
    // A score exceeds lse by rounding errors at most, so `weight` may take lse as the maximum.
    let w = weight(s.x, stat.x);
    if (r >= p.queries || w == 0.0) { return Weights(0.0, 0.0, 0.0); }
    let keep = kept(query, key);
    // A dropped weight adds nothing, even if it is NaN.
    let du = w * (select(do_v * keep, 0.0, keep == 0.0) - stat.y);
    return Weights(select(w * keep, 0.0, keep == 0.0), du, du * s.y);
}
