// One step of an LSTM cell. With the gate pre-activations a = x + h:
//
//   c' = sigmoid(a_f) c + sigmoid(a_i) tanh(a_g)
//   h' = sigmoid(a_o) tanh(c')
//
// Used by: lstm_cell
//
// Hochreiter & Schmidhuber, "Long short-term memory" (Neural Computation 9, 1997), with the forget gate of Gers, Schmidhuber
// & Cummins (2000). The gates are stored in PyTorch's order i, f, g, o.
//
// One invocation computes one unit of one row. Memory bound: every element is read once or written once.
//
//   x, h             f32 [rows, 4 units], contiguous from their offsets: the contributions of the input and the hidden state
//   c                f32 [rows, units], contiguous from c_offset
//   h_next, c_next   f32 [rows, units], contiguous
//
// Constants prepended by ops/recurrent.rs: WG: invocations per workgroup.

#import shared/common.wgsl

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
             @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i >= p.count) { return; }
    let first = i + i / p.units * 3u * p.units;
    let cell = sigmoid(gate(first, 1u)) * c[p.c_offset + i] + sigmoid(gate(first, 0u)) * tanh_nan(gate(first, 2u));
    c_next[i] = cell;
    h_next[i] = sigmoid(gate(first, 3u)) * tanh_nan(cell);
}
