// Probes of an adapter's arithmetic with special values: y[i] is the answer to question i of probes.rs.
//
// One workgroup of one invocation per question, so that the iterations of different loops do not add up. All operands
// come from x or p, so that the compiler cannot evaluate them.
//
//   x f32: the operands, in the order of the constants below     y f32

const NAN = 0u;
const INF = 1u;
const ZERO = 2u;
const ONE = 3u;
const MINUS_ONE = 4u;
const LARGE = 5u;     // 200
const HALF = 6u;
const TINY = 7u;      // the smallest normal number
const SUBNORMAL = 8u;
const NEAR_ONE = 9u;  // 1 + 2^-12

struct Params { iterations: u32, infinity: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

fn truth(is: bool) -> f32 { return select(0.0, 1.0, is); }

/// Counts the iterations of a loop of `iterations`.
fn iterations() -> f32 {
    var count = 0u;
    for (var i = 0u; i < p.iterations; i++) { count += u32(x[ONE]); }
    return f32(count);
}

/// The same for two nested loops.
fn nested_iterations() -> f32 {
    var count = 0u;
    for (var i = 0u; i < p.iterations / 250u; i++) {
        for (var j = 0u; j < 250u; j++) { count += u32(x[ONE]); }
    }
    return f32(count);
}

fn answer(question: u32) -> f32 {
    switch question {
        case 0u: { return truth(x[NAN] != x[NAN]); }
        case 1u: { return truth(x[NAN] < x[ONE]); }
        case 2u: { return max(x[NAN], x[ONE]); }
        case 3u: { return max(x[ONE], x[NAN]); }
        case 4u: { return clamp(x[NAN], x[ZERO], x[ONE]); }
        case 5u: { return exp(x[NAN]); }
        case 6u: { return exp(x[LARGE]); }
        case 7u: { return exp(-x[LARGE]); }
        case 8u: { return tanh(x[LARGE]); }
        case 9u: { return log(x[ZERO]); }
        case 10u: { return log(x[MINUS_ONE]); }
        case 11u: { return sqrt(x[MINUS_ONE]); }
        case 12u: { return x[ONE] / x[ZERO]; }
        case 13u: { return x[ZERO] / x[ZERO]; }
        case 14u: { return x[INF] - x[INF]; }
        case 15u: { return x[ZERO] * x[NAN]; }
        case 16u: { return bitcast<f32>(p.infinity); }
        case 17u: { return iterations(); }
        case 18u: { return nested_iterations(); }
        case 19u: { return x[SUBNORMAL] * x[ONE]; }
        case 20u: { return x[TINY] * x[HALF]; }
        default: { return fma(x[NEAR_ONE], x[NEAR_ONE], -(x[NEAR_ONE] * x[NEAR_ONE])); }
    }
}

@compute @workgroup_size(1)
fn probe(@builtin(workgroup_id) group: vec3u) {
    y[group.x] = answer(group.x);
}
