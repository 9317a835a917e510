// The gradient of gru_cell.wgsl: of what the input and the state give for the gates, and of the state, from that of s'. The
// gates' functions are computed again, and nothing but the step's inputs is kept.
//
// Memory bound: one invocation a unit of a row; all is read once and written once.
//
//   x, h, s as in gru_cell.wgsl     ds_next [rows, units] f32, contiguous from ds_offset on
//   dx, dh [rows, 3 units], ds [rows, units] f32, contiguous
//   WG: invocations a workgroup (prepended by ops/recurrent.rs)

#import shared/grid.wgsl
#import shared/functions.wgsl

struct Params { count: u32, units: u32, x_offset: u32, h_offset: u32, s_offset: u32, ds_offset: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> h: array<f32>;
@group(0) @binding(2) var<storage, read> s: array<f32>;
@group(0) @binding(3) var<storage, read> ds_next: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
@group(0) @binding(5) var<storage, read_write> dh: array<f32>;
@group(0) @binding(6) var<storage, read_write> ds: array<f32>;
@group(0) @binding(7) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn gru_cell_grad(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                 @builtin(local_invocation_index) lane: u32) {
    let i = folded(group, groups) * WG + lane;
    if (i >= p.count) { return; }
    let first = i + i / p.units * 2u * p.units;
    let from_x = p.x_offset + first;
    let from_h = p.h_offset + first;
    let a = vec2f(x[from_x] + h[from_h], x[from_x + p.units] + h[from_h + p.units]);
    let recalled = h[from_h + 2u * p.units];
    let reset = sigmoid(a.x);
    let fresh = tanh_nan(x[from_x + 2u * p.units] + reset * recalled);

    let d = ds_next[p.ds_offset + i];
    let held = sigmoid(a.y);
    let let_in = sigmoid(-a.y);
    let d_fresh = d * let_in * ((1.0 - fresh) * (1.0 + fresh));
    let d_reset = d_fresh * recalled * (reset * sigmoid(-a.x));
    let d_held = d * (s[p.s_offset + i] - fresh) * (held * let_in);
    dx[first] = d_reset;
    dx[first + p.units] = d_held;
    dx[first + 2u * p.units] = d_fresh;
    dh[first] = d_reset;
    dh[first + p.units] = d_held;
    dh[first + 2u * p.units] = d_fresh * reset;
    ds[i] = d * held;
}
