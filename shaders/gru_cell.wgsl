// One step of a GRU, from the linear parts x and h of its gates:
//
//   r = sigmoid(x_r + h_r)     z = sigmoid(x_z + h_z)     n = tanh(x_n + r h_n)     s' = (1 - z) n + z s
//
// Cho et al., "Learning phrase representations using RNN encoder-decoder" (arXiv:1406.1078). As in PyTorch, r is applied after
// the matrix product, and the order of the gates is r, z, n.
// Used by: gru_cell
//
// Memory bound: one invocation per unit of a row; every element is read once or written once.
//
//   x, h [rows, 3 units] f32, contiguous from their offsets: the linear parts of the gates, from the input and from the state
//   s [rows, units] f32, contiguous from s_offset: the state     s_next [rows, units] f32, contiguous
//
// Constants prepended by ops/recurrent.rs: WG: invocations per workgroup.

#import shared/common.wgsl

struct Params { count: u32, units: u32, x_offset: u32, h_offset: u32, s_offset: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> h: array<f32>;
@group(0) @binding(2) var<storage, read> s: array<f32>;
@group(0) @binding(3) var<storage, read_write> s_next: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn gru_cell(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
            @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i >= p.count) { return; }
    let first = i + i / p.units * 2u * p.units;
    let from_x = p.x_offset + first;
    let from_h = p.h_offset + first;
    let reset = sigmoid(x[from_x] + h[from_h]);
    let update = x[from_x + p.units] + h[from_h + p.units];
    let candidate = tanh_nan(x[from_x + 2u * p.units] + reset * h[from_h + 2u * p.units]);
    s_next[i] = sigmoid(-update) * candidate + sigmoid(update) * s[p.s_offset + i];
}
