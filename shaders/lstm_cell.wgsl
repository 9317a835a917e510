// One step of an LSTM, once its gates are known but for their functions: with a = x + h,
// c' = sigmoid(a_f) c + sigmoid(a_i) tanh(a_g) and h' = sigmoid(a_o) tanh(c'). Hochreiter & Schmidhuber, "Long short-term
// memory" (Neural Computation 9, 1997), with the forget gate of Gers, Schmidhuber & Cummins (2000). Gates lie in PyTorch's
// order i, f, g, o.
//
// Memory bound: one invocation a unit of a row; all is read once and written once.
//
//   x, h [rows, 4 units] f32, contiguous from their offsets on: what the input and the state add to the gates
//   c [rows, units] f32, contiguous from c_offset on     h_next, c_next [rows, units] f32, contiguous
//   WG: invocations a workgroup (prepended by ops/recurrent.rs)

#import shared/grid.wgsl
#import shared/functions.wgsl

struct Params { count: u32, units: u32, x_offset: u32, h_offset: u32, c_offset: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> h: array<f32>;
@group(0) @binding(2) var<storage, read> c: array<f32>;
@group(0) @binding(3) var<storage, read_write> h_next: array<f32>;
@group(0) @binding(4) var<storage, read_write> c_next: array<f32>;
@group(0) @binding(5) var<uniform> p: Params;

fn gate(first: u32, number: u32) -> f32 {
    let at = first + number * p.units;
    return x[p.x_offset + at] + h[p.h_offset + at];
}

@compute @workgroup_size(WG)
fn lstm_cell(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
             @builtin(local_invocation_index) lane: u32) {
    let i = folded(group, groups) * WG + lane;
    if (i >= p.count) { return; }
    let first = i + i / p.units * 3u * p.units;
    let kept = sigmoid(gate(first, 1u)) * c[p.c_offset + i] + sigmoid(gate(first, 0u)) * tanh_nan(gate(first, 2u));
    c_next[i] = kept;
    h_next[i] = sigmoid(gate(first, 3u)) * tanh_nan(kept);
}
