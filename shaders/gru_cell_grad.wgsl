// The gradient of gru_cell.wgsl with respect to x, h and s, from the gradient of s':
//
//   dn = ds' (1 - z) (1 - n²)     dr = dn h_n r (1 - r)     dz = ds' (s - n) z (1 - z)
//   dx = (dr, dz, dn)             dh = (dr, dz, dn r)       ds = ds' z
//
// The gates are recomputed, so only the inputs of the step are saved.
// Used by: gru_cell (gradient)
//
// Memory bound: one invocation per unit of a row; every element is read once or written once.
//
//   x, h, s: see gru_cell.wgsl     ds_next [rows, units] f32, contiguous from ds_offset
//   dx, dh [rows, 3 units], ds [rows, units] f32, contiguous
//
// Constants prepended by ops/recurrent.rs: WG: invocations per workgroup.

#import shared/common.wgsl

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
                 @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i >= p.count) { return; }
    let first = i + i / p.units * 2u * p.units;
    let from_x = p.x_offset + first;
    let from_h = p.h_offset + first;
    let a = vec2f(x[from_x] + h[from_h], x[from_x + p.units] + h[from_h + p.units]);
    let recalled = h[from_h + 2u * p.units];
    let reset = sigmoid(a.x);
    let candidate = tanh_nan(x[from_x + 2u * p.units] + reset * recalled);

    let d = ds_next[p.ds_offset + i];
    let update = sigmoid(a.y);
    let rest = sigmoid(-a.y);
    let d_candidate = d * rest * ((1.0 - candidate) * (1.0 + candidate));
    let d_reset = d_candidate * recalled * (reset * sigmoid(-a.x));
    let d_update = d * (s[p.s_offset + i] - candidate) * (update * rest);
    dx[first] = d_reset;
    dx[first + p.units] = d_update;
    dx[first + 2u * p.units] = d_candidate;
    dh[first] = d_reset;
    dh[first + p.units] = d_update;
    dh[first + 2u * p.units] = d_candidate * reset;
    ds[i] = d * update;
}
