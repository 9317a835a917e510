// The logarithm of a sum of exponentials over any axes: y[o] = m + log(sum_i exp(x_i - m)) with m = max_i x_i.
// Used by: logsumexp
//
// One pass, by online softmax (shared/online_softmax.wgsl): a partial result is a maximum and the sum relative to it.
// shared/reduce.wgsl has the tiling. Memory bound: x is read once.
//
//   x f32, strided; or partial results that an earlier dispatch stored
//   y f32: results [outputs]; or partial results [outputs, slices], or [slices, outputs] if p.columns is 1; contiguous
//
// Constants prepended by ops/logsumexp.rs: PARTS: 1 if x holds partial results. WG, LANES, FLAT: see shared/reduce.wgsl.

#import shared/online_softmax.wgsl
#import shared/reduce.wgsl

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

alias State = OnlineSoftmax;

fn identity() -> State {
    return OnlineSoftmax(LOWEST, 0.0);
}

fn element(start: u32, i: u32) -> State {
    let at = start + along(i);
    if (PARTS == 1u) { return OnlineSoftmax(x[at], x[at + 1u]); }
    // exp(-inf) is 0; the difference of two -inf would be NaN.
    let v = x[at];
    if (is_inf(v) && v < 0.0) { return identity(); }
    return OnlineSoftmax(v, 1.0);
}

fn result(whole: State) -> f32 {
    if (is_nan(whole.max) || is_inf(whole.max)) { return whole.max; }
    return select(whole.max + log(whole.sum), -inf(), whole.sum == 0.0);
}

@compute @workgroup_size(WG)
fn logsumexp(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
             @builtin(local_invocation_index) local: u32) {
    let slice = reduce_slice(group, groups, local);
    if (!slice.writes) { return; }
    if (p.last == 1u) {
        y[slice.at] = result(slice.state);
    } else {
        y[2u * slice.at] = slice.state.max;
        y[2u * slice.at + 1u] = slice.state.sum;
    }
}
