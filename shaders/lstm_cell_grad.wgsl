// The gradient of lstm_cell.wgsl: of the gates (the same for what the input and the state add to them) and of c, from those
// of h' and c'. The gates' functions are computed again, and nothing but the step's inputs is kept.
//
// Memory bound: one invocation a unit of a row; all is read once and written once.
//
//   x, h, c as in lstm_cell.wgsl     dh, dc_next [rows, units] f32, contiguous from their offsets on
//   da [rows, 4 units], dc [rows, units] f32, contiguous
//   WG: invocations a workgroup (prepended by ops/recurrent.rs)

#import shared/grid.wgsl
#import shared/functions.wgsl

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
                  @builtin(local_invocation_index) lane: u32) {
    let i = folded(group, groups) * WG + lane;
    if (i >= p.count) { return; }
    let first = i + i / p.units * 3u * p.units;
    let a = vec4f(gate(first, 0u), gate(first, 1u), gate(first, 2u), gate(first, 3u));
    let before = c[p.c_offset + i];
    let let_in = sigmoid(a.x);
    let forget = sigmoid(a.y);
    let fresh = tanh_nan(a.z);
    let out = sigmoid(a.w);
    let kept = tanh_nan(forget * before + let_in * fresh);

    let d = dh[p.dh_offset + i];
    let d_kept = dc_next[p.dc_offset + i] + d * out * ((1.0 - kept) * (1.0 + kept));
    da[first] = d_kept * fresh * (let_in * sigmoid(-a.x));
    da[first + p.units] = d_kept * before * (forget * sigmoid(-a.y));
    da[first + 2u * p.units] = d_kept * let_in * ((1.0 - fresh) * (1.0 + fresh));
    da[first + 3u * p.units] = d * kept * (out * sigmoid(-a.w));
    dc[i] = d_kept * forget;
}
