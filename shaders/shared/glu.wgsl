// What gated linear units and their gradient share: the functions that gate, their slopes, and where the halves lie. The
// axis that is cut, and those after it, make a block; a half of it is a `run` of neighbours.
//
// strided:  one invocation an element of y.
// vector:   one invocation four neighbours, where runs and starts are multiples of four; all counts are then in fours.
//
//   GATE: the function, by its number in `Gate` of src/ops/glu.rs

#import shared/grid.wgsl
#import shared/smooth.wgsl

/// `gate` and `value`: how far the half that gates and the other lie from the start of a block: one 0, one `run`.
struct Params { count: u32, run: u32, gate: u32, value: u32, x_offset: u32, dy_offset: u32 }

/// Where element i of y has its gating element in x and the other, from the start of x on.
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
