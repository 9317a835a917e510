// The gradient of lstm_cell.wgsl. With the gates i, f, g, o after their activations, t = tanh(c') and
// dk = dc_next + dh o (1 - t²):
//
//   da_i = dk g i (1 - i)    da_f = dk c f (1 - f)    da_g = dk i (1 - g²)    da_o = dh t o (1 - o)
//   dc = dk f
//
// Used by: lstm_cell (gradient)
//
// da is the gradient of x and of h alike, because a = x + h. The gates are recomputed, so that only the step's inputs are saved.
//
// One invocation computes one unit of one row. Memory bound: every element is read once or written once.
//
//   x, h, c       as in lstm_cell.wgsl
//   dh, dc_next   f32 [rows, units], contiguous from their offsets: the gradients of h' and c'
//   da            f32 [rows, 4 units], contiguous
//   dc            f32 [rows, units], contiguous
//
// Constants prepended by ops/recurrent.rs: WG: invocations per workgroup.

#import shared/common.wgsl

struct Params { count: u32, units: u32, x_offset: u32, h_offset: u32, c_offset: u32, dh_offset: u32, dc_offset: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> h: array<f32>;
@group(0) @binding(2) var<storage, read> c: array<f32>;
@group(0) @binding(3) var<storage, read> dh: array<f32>;
@group(0) @binding(4) var<storage, read> dc_next: array<f32>;
@group(0) @binding(5) var<storage, read_write> da: array<f32>;
@group(0) @binding(6) var<storage, read_write> dc: array<f32>;
@group(0) @binding(7) var<uniform> p: Params;

fn gate(first: u32, number: u32) -> f32 {
    let at = first + number * p.units;
    return x[p.x_offset + at] + h[p.h_offset + at];
}

@compute @workgroup_size(WG)
fn lstm_cell_grad(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                  @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i >= p.count) { return; }
    let first = i + i / p.units * 3u * p.units;
    let a = vec4f(gate(first, 0u), gate(first, 1u), gate(first, 2u), gate(first, 3u));
    let before = c[p.c_offset + i];
    let input = sigmoid(a.x);
    let forget = sigmoid(a.y);
    let candidate = tanh_nan(a.z);
    let out = sigmoid(a.w);
    let tanh_c = tanh_nan(forget * before + input * candidate);

    let d = dh[p.dh_offset + i];
    let d_cell = dc_next[p.dc_offset + i] + d * out * ((1.0 - tanh_c) * (1.0 + tanh_c));
    da[first] = d_cell * candidate * (input * sigmoid(-a.x));
    da[first + p.units] = d_cell * before * (forget * sigmoid(-a.y));
    da[first + 2u * p.units] = d_cell * input * ((1.0 - candidate) * (1.0 + candidate));
    da[first + 3u * p.units] = d * tanh_c * (out * sigmoid(-a.w));
    dc[i] = d_cell * forget;
}
