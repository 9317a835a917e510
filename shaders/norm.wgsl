// Norms over any axes: y[o] = (sum over i of |x_i|^P)^(1/P), 0 < P < inf.
//
// One pass. A square overflows long before its root does, so an element is split into 2^exponent and a mantissa in
// [1, 2), and a sum is kept relative to the largest exponent so far: sum of (|x_i| / 2^exponent)^P. Only a larger
// exponent scales it down, by a power of two, which for P = 2 is exact. shared/fold.wgsl says how it walks. x is read
// once.
//
//   x f32, strided; or pairs (exponent, sum) that an earlier dispatch left
//   y f32: norms [outputs]; or pairs [outputs, slices], or [slices, outputs] down the columns; contiguous
//   SQUARE: 1 where P = 2    PARTS: 1 where x holds pairs
//   WG, LANES, FLAT: as shared/fold.wgsl has them (prepended by ops/norm.rs)

#import shared/float.wgsl
#import shared/fold.wgsl

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Params; // value: P

/// The exponents are those of the bits, 127 standing for 2^0; 0 for zeros alone, subnormals being flushed. INFINITE and
/// BROKEN outdo every other, whatever the sum.
struct State { exponent: u32, sum: f32 }

const INFINITE: u32 = 255u;
const BROKEN: u32 = 256u; // a NaN was met

fn identity() -> State {
    return State(0u, 0.0);
}

fn element(start: u32, i: u32) -> State {
    let at = start + along(i);
    if (PARTS == 1u) { return State(u32(x[at]), x[at + 1u]); }
    let bits = bitcast<u32>(x[at]);
    let exponent = (bits >> 23u) & 255u;
    let fraction = bits & 0x7fffffu;
    if (exponent == 0u) { return identity(); }
    if (exponent == INFINITE && fraction != 0u) { return State(BROKEN, 1.0); }
    let mantissa = bitcast<f32>(fraction | 0x3f800000u);
    if (SQUARE == 1u) { return State(exponent, mantissa * mantissa); }
    return State(exponent, exp2(p.value * log2(mantissa)));
}

/// 2^(-P by).
fn shrunk(by: u32) -> f32 {
    if (SQUARE == 1u) { return bitcast<f32>((127u - min(127u, 2u * by)) << 23u); }
    return select(exp2(max(-p.value * f32(by), -126.0)), 1.0, by == 0u);
}

fn merge(a: State, b: State) -> State {
    let larger = a.exponent > b.exponent;
    let exponent = max(a.exponent, b.exponent);
    let scale = shrunk(exponent - min(a.exponent, b.exponent));
    return State(exponent, select(a.sum * scale + b.sum, a.sum + b.sum * scale, larger));
}

fn root(whole: State) -> f32 {
    if (whole.exponent == BROKEN) { return nan(); }
    if (whole.exponent == INFINITE) { return inf(); }
    if (whole.exponent == 0u) { return 0.0; }
    let scale = bitcast<f32>(whole.exponent << 23u);
    if (SQUARE == 1u) { return scale * sqrt(whole.sum); }
    return scale * exp2(log2(whole.sum) / p.value);
}

@compute @workgroup_size(WG)
fn norm(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
    let slice = folded_slice(group, groups, local);
    if (!slice.writes) { return; }
    if (p.last == 1u) {
        y[slice.at] = root(slice.state);
    } else {
        y[2u * slice.at] = f32(slice.state.exponent);
        y[2u * slice.at + 1u] = slice.state.sum;
    }
}
