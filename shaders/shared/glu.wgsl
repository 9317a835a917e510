// What gated linear units and their gradient have in common: the gate functions, their derivatives, and the positions of the
// halves. The axis that is cut and the axes after it form a block. Each half of a block is a run of `run` consecutive elements.
// Imported by: glu.wgsl, glu_grad.wgsl
// Expects: GATE (the number of the function in `Gate` of src/ops/glu.rs), p: Params.
//
// strided:  one invocation per element of y.
// vector:   one invocation per four consecutive elements, if runs and offsets are multiples of four. Then all counts are in vec4f.

#import shared/common.wgsl
#import shared/functions.wgsl

/// `gate`, `value`: the offsets in a block of the half that gates and of the other half. One is 0, the other `run`.
struct Params { count: u32, run: u32, gate: u32, value: u32, x_offset: u32, dy_offset: u32 }

/// The indices in x of the gating element and of the other element for element i of y.
fn halves(i: u32) -> vec2u {
    return i + i / p.run * p.run + vec2u(p.gate, p.value);
}

fn gate_of(x: f32) -> f32 {
    switch GATE {
        case 0u: { return sigmoid(x); }
        case 1u: { return silu(x); }
        case 2u: { return gelu(x); }
        default: { return relu(x); }
    }
}

fn gate_slope(x: f32) -> f32 {
    switch GATE {
        case 0u: { return sigmoid(x) * sigmoid(-x); }
        case 1u: { return silu_slope(x); }
        case 2u: { return gelu_slope(x); }
        default: { return select(0.0, 1.0, x > 0.0 || is_nan(x)); }
    }
}

fn gates_of(x: vec4f) -> vec4f {
    return vec4f(gate_of(x.x), gate_of(x.y), gate_of(x.z), gate_of(x.w));
}

fn gate_slopes(x: vec4f) -> vec4f {
    return vec4f(gate_slope(x.x), gate_slope(x.y), gate_slope(x.z), gate_slope(x.w));
}
