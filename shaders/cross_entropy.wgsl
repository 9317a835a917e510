// Cross-entropy of rows of logits against class ids. With m_r = max_c x[r, c] and s_r = sum_c exp(x[r, c] - m_r), the negative
// log-softmax is l[r, c] = log(s_r) - (x[r, c] - m_r), and
//
//   losses[r] = keep w[t[r]] l[r, t[r]] + spread sum_c w[c] l[r, c]
//
// where keep = 1 - smoothing and spread = smoothing / classes: label smoothing, Szegedy et al. (arXiv:1512.00567, section 7).
// The loss of a row whose class is `ignored` is 0, whatever its logits.
// Used by: cross_entropy, cross_entropy_with
//
// LANES invocations process one row by online softmax (shared/online_softmax_row.wgsl). Memory bound: x is read once, and no
// probabilities are written. With W = sum_c w[c], the second sum is W (log(s_r) + m_r - origin) - sum_c w[c] (x[r, c] - origin),
// for any origin. The origin is the logit of the target, so x - origin stays the same if a constant is added to the row. The
// gradient needs two numbers per row: m_r and (keep w[t[r]] + spread W) / s_r. reduce.wgsl computes the sum over the rows.
//
//   x f32: row r begins at the first operand of the indexer, its classes are `step` apart     t [rows] u32, contiguous
//   w [classes] f32, contiguous, read if `weighted` is 1, else all weights are 1
//   losses [rows] f32, followed by the weights w[t[r]] of the rows if `counting` is 1
//   kept [rows, 2] f32: the two numbers for the gradient
//   status: the word at `check` is set if a class id is out of range; the loss of that row is NaN
//
// Constants prepended by ops/cross_entropy.rs: SMOOTH: whether spread is not 0. WG: invocations per workgroup. LANES: invocations
// per row.

#import shared/common.wgsl
#import shared/strided.wgsl
#import shared/online_softmax_row.wgsl

struct Params {
    indexer: StridedIndexer,
    rows: u32, classes: u32, step: u32, check: u32,
    t_offset: u32, w_offset: u32, weighted: u32, ignoring: u32, ignored: u32,
    keep: f32, spread: f32,
    counting: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> t: array<u32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> losses: array<f32>;
@group(0) @binding(4) var<storage, read_write> kept: array<f32>;
@group(0) @binding(5) var<storage, read_write> status: array<atomic<u32>>;
@group(0) @binding(6) var<uniform> p: Params;

fn weight(class_id: u32) -> f32 {
    if (p.weighted == 0u) { return 1.0; }
    return w[p.w_offset + class_id];
}

/// The running maximum and sum of a row, and the sums of w (x - origin) and of w over its classes.
struct Smoothed { online: OnlineSoftmax, sums: vec2f }

/// As `reduce_row`, with these sums.
fn smoothed_row(start: u32, lane: u32, origin: f32) -> Smoothed {
    var n = OnlineSoftmax(LOWEST, 0.0);
    var sums = vec2f(0.0);
    var top = 0u;
    var c = lane;
    for (; c + 3u * LANES < p.classes; c += 4u * LANES) {
        let v = four(start + c * p.step, LANES * p.step);
        let u = vec4f(weight(c), weight(c + LANES), weight(c + 2u * LANES), weight(c + 3u * LANES));
        n = update(update(update(update(n, v.x), v.y), v.z), v.w);
        top = max(top, max(max(magnitude(v.x), magnitude(v.y)), max(magnitude(v.z), magnitude(v.w))));
        sums += vec2f(dot(u, v - origin), dot(u, vec4f(1.0)));
    }
    for (; c < p.classes; c += LANES) {
        let v = x[start + c * p.step];
        n = update(n, v);
        top = max(top, magnitude(v));
        sums += vec2f(weight(c) * (v - origin), weight(c));
    }
    return Smoothed(finish(n, top), sums);
}

var<workgroup> partial_sums: array<vec2f, WG>;

/// Adds the sums of the lanes of a row, as `workgroup_reduce`.
fn summed(mine: vec2f, local: u32, lane: u32) -> vec2f {
    if (LANES == 1u) { return mine; }
    partial_sums[local] = mine;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial_sums[local] += partial_sums[local + half]; }
    }
    workgroupBarrier();
    return partial_sums[local - lane];
}

@compute @workgroup_size(WG)
fn cross_entropy(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                 @builtin(local_invocation_index) local: u32) {
    let lane = local % LANES;
    let row = workgroup_index(group, groups) * (WG / LANES) + local / LANES;
    let valid = row < p.rows;
    let start = strided_offsets(select(0u, row, valid)).x;
    let class_id = t[p.t_offset + select(0u, row, valid)];
    let ignored = p.ignoring == 1u && class_id == p.ignored;
    let known = class_id < p.classes;
    let logit = x[start + select(0u, class_id, known) * p.step];

    // Rows past the end and ignored rows contribute nothing.
    var whole = OnlineSoftmax(LOWEST, 0.0);
    var sums = vec2f(0.0);
    // A logit that masks its class (-inf or a large number) is no usable origin.
    let origin = select(0.0, logit, abs(logit) < 1e30);
    if (valid && !ignored) {
        if (SMOOTH == 1u) {
            let row = smoothed_row(start, lane, origin);
            whole = row.online;
            sums = row.sums;
        } else {
            whole = reduce_row(start, p.step, lane, p.classes);
        }
    }
    whole = workgroup_reduce(whole, local, lane);
    if (SMOOTH == 1u) { sums = summed(sums, local, lane); }
    if (!valid || lane != 0u) { return; }

    var loss = 0.0;
    var target_weight = 0.0;
    if (!ignored && known) {
        if (is_broken(whole)) { whole.sum = nan(); }
        let log_sum = log(whole.sum);
        target_weight = weight(class_id);
        loss = p.keep * target_weight * (log_sum - (logit - whole.max));
        if (SMOOTH == 1u) { loss += p.spread * (sums.y * (log_sum + (whole.max - origin)) - sums.x); }
        loss = select(loss, nan(), is_nan(whole.sum));
    }
    if (!ignored && !known) {
        atomicMax(&status[p.check], 1u);
        loss = nan();
    }
    losses[row] = loss;
    if (p.counting == 1u) { losses[p.rows + row] = target_weight; }
    kept[2u * row] = whole.max;
    kept[2u * row + 1u] = (p.keep * target_weight + p.spread * sums.y) / whole.sum;
}
