// P-norms over any axes: y[o] = (sum over i of |x_i|^P)^(1/P), 0 < P < inf.
//
// Used by: norm
//
// One pass. A square may overflow where the norm does not. So each element is split into 2^exponent and a mantissa in [1, 2),
// and a partial result is the pair (exponent, sum of (|x_i| / 2^exponent)^P) with the largest exponent so far. A larger
// exponent scales the sum down by 2^(-P difference), which is exact for P = 2. P = 0, 1 and inf are in reduce.wgsl.
//
// shared/reduce.wgsl describes who reduces what. Memory bound: x is read once.
//
//   x   f32, strided; or the pairs of an earlier dispatch
//   y   f32, contiguous: norms [outputs]; or pairs [outputs, slices], [slices, outputs] where p.columns is 1
//
// Constants prepended by ops/norm.rs: SQUARE: 1 where P = 2. PARTS: 1 where x holds pairs.
// WG, LANES, FLAT: see shared/reduce.wgsl.

#import shared/common.wgsl
#import shared/reduce.wgsl

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Params; // value: P

/// Exponents are biased as in the bits of an f32: 127 is 2^0. 0 means only zeros, because subnormals are flushed. INFINITE and
/// BROKEN exceed every other exponent and override the sum.
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

/// 2^(-P by): the factor that lowers the sum when the exponent rises by `by`.
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
    let slice = reduce_slice(group, groups, local);
    if (!slice.writes) { return; }
    if (p.last == 1u) {
        y[slice.at] = root(slice.state);
    } else {
        y[2u * slice.at] = f32(slice.state.exponent);
        y[2u * slice.at + 1u] = slice.state.sum;
    }
}
