// The gradient of the mean of cross_entropy.wgsl's losses: dx[r, c] = (exp(x[r, c] - m_r) / s_r - [c = t[r]]) dy / rows.
//
// LANES invocations share a row, each takes every LANES-th element, four a turn. x is read once, dx written once.
//
//   x [rows, classes] f32, contiguous     t [rows] u32, contiguous
//   normalisers [rows, 2] f32: m_r and s_r, which cross_entropy.wgsl left     dy: one f32
//   dx [rows, classes] f32, contiguous
//   WG: invocations a workgroup    LANES: invocations a row (prepended by ops/cross_entropy.rs)

#import shared/grid.wgsl
#import shared/normaliser_row.wgsl

struct Params { rows: u32, classes: u32, x_offset: u32, t_offset: u32, n_offset: u32, dy_offset: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> t: array<u32>;
@group(0) @binding(2) var<storage, read> normalisers: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
@group(0) @binding(5) var<uniform> p: Params;

fn gradient(x: f32, whole: Normaliser, is_target: bool, scale: f32) -> f32 {
    let share = exp_below(x - whole.max) / whole.sum;
    return select((share - select(0.0, 1.0, is_target)) * scale, nan(), is_nan(whole.sum));
}

@compute @workgroup_size(WG)
fn cross_entropy_grad(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                      @builtin(local_invocation_index) local: u32) {
    let row = folded(group, groups) * (WG / LANES) + local / LANES;
    if (row >= p.rows) { return; }
    let start = p.x_offset + row * p.classes;
    let out = row * p.classes;
    let at = p.n_offset + 2u * row;
    let whole = Normaliser(normalisers[at], normalisers[at + 1u]);
    let target_id = t[p.t_offset + row];
    let scale = dy[p.dy_offset] / f32(p.rows);

    var c = local % LANES;
    for (; c + 3u * LANES < p.classes; c += 4u * LANES) {
        let v = four(start + c, LANES);
        for (var k = 0u; k < 4u; k++) {
            let class_id = c + k * LANES;
            dx[out + class_id] = gradient(v[k], whole, class_id == target_id, scale);
        }
    }
    for (; c < p.classes; c += LANES) { dx[out + c] = gradient(x[start + c], whole, c == target_id, scale); }
}
