// Cross-entropy of rows of logits against class ids: losses[r] = log(s_r) - (x[r, t[r]] - m_r), the softmax's negative
// logarithm at the row's class, with m_r the row's maximum and s_r = sum_c exp(x[r, c] - m_r).
//
// LANES invocations share a row and fold it by the online normaliser (shared/normaliser_row.wgsl): x is read once, and no
// probabilities are written. The gradient needs m_r and s_r only. The mean over rows is reduce.wgsl's.
//
//   x [rows, classes] f32, contiguous     t [rows] u32, contiguous
//   losses [rows] f32     normalisers [rows, 2] f32: m_r and s_r
//   status: one word; `code` is stored there if a class id is past the end, whose row's loss is NaN
//   WG: invocations a workgroup    LANES: invocations a row (prepended by ops/cross_entropy.rs)

#import shared/grid.wgsl
#import shared/normaliser_row.wgsl

struct Params { rows: u32, classes: u32, x_offset: u32, t_offset: u32, code: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> t: array<u32>;
@group(0) @binding(2) var<storage, read_write> losses: array<f32>;
@group(0) @binding(3) var<storage, read_write> normalisers: array<f32>;
@group(0) @binding(4) var<storage, read_write> status: array<atomic<u32>>;
@group(0) @binding(5) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn cross_entropy(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                 @builtin(local_invocation_index) local: u32) {
    let lane = local % LANES;
    let row = folded(group, groups) * (WG / LANES) + local / LANES;
    let valid = row < p.rows;
    let start = p.x_offset + row * p.classes;

    // Past the last row there is nothing to fold.
    var whole = folded_row(start, 1u, lane, select(0u, p.classes, valid));
    whole = together(whole, local, lane);
    if (!valid || lane != 0u) { return; }

    if (is_broken(whole)) { whole.sum = nan(); }
    normalisers[2u * row] = whole.max;
    normalisers[2u * row + 1u] = whole.sum;
    let class_id = t[p.t_offset + row];
    if (class_id >= p.classes) {
        atomicMax(&status[0], p.code);
        losses[row] = nan();
        return;
    }
    let loss = log(whole.sum) - (x[start + class_id] - whole.max);
    losses[row] = select(loss, nan(), is_nan(whole.sum));
}
