// The logarithm of a sum of exponentials over any axes: y[o] = m + log(sum over i of exp(x_i - m)), m being the largest
// of the x_i.
//
// One pass, by the online normaliser (shared/normaliser.wgsl). shared/fold.wgsl says how it walks. x is read once.
//
//   x f32, strided; or normalisers that an earlier dispatch left
//   y f32: results [outputs]; or normalisers [outputs, slices], or [slices, outputs] down the columns; contiguous
//   PARTS: 1 where x holds normalisers
//   WG, LANES, FLAT: as shared/fold.wgsl has them (prepended by ops/logsumexp.rs)

#import shared/normaliser.wgsl
#import shared/fold.wgsl

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

alias State = Normaliser;

fn identity() -> State {
    return Normaliser(LOWEST, 0.0);
}

fn element(start: u32, i: u32) -> State {
    let at = start + along(i);
    if (PARTS == 1u) { return Normaliser(x[at], x[at + 1u]); }
    // -inf adds nothing; its difference from another -inf would be NaN.
    let v = x[at];
    if (is_inf(v) && v < 0.0) { return identity(); }
    return Normaliser(v, 1.0);
}

fn result(whole: State) -> f32 {
    if (is_nan(whole.max) || is_inf(whole.max)) { return whole.max; }
    return select(whole.max + log(whole.sum), -inf(), whole.sum == 0.0);
}

@compute @workgroup_size(WG)
fn logsumexp(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
             @builtin(local_invocation_index) local: u32) {
    let slice = folded_slice(group, groups, local);
    if (!slice.writes) { return; }
    if (p.last == 1u) {
        y[slice.at] = result(slice.state);
    } else {
        y[2u * slice.at] = slice.state.max;
        y[2u * slice.at + 1u] = slice.state.sum;
    }
}
