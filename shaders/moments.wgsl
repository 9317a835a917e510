// Variance or standard deviation over any axes: y[o] = (sum over i of (x_i - m)²) / divisor, where m is the mean of
// the x_i, or the square root of it.
//
// Used by: var, std
//
// One pass. Partial results are triples (count, mean, sum of squared deviations), merged pairwise by the update of Chan, Golub
// & LeVeque (Stanford STAN-CS-79-773), which never subtracts large sums. The means are relative to the reduction's first
// element, so a spread far below the mean keeps its digits. Where the sum of squares overflows it is +inf, and so is the result.
//
// shared/reduce.wgsl describes who reduces what. Memory bound: x is read once.
//
//   x   f32, strided; or the triples of an earlier dispatch
//   y   f32, contiguous: results [outputs]; or triples [outputs, slices], [slices, outputs] where p.columns is 1
//
// Constants prepended by ops/moments.rs: OP: 0 variance, 1 standard deviation. PARTS: 1 where x holds triples.
// WG, LANES, FLAT: see shared/reduce.wgsl.

#import shared/common.wgsl
#import shared/reduce.wgsl

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Params; // value: the divisor

/// 2^126.
const MOST: f32 = 0x1p+126f;

struct State { count: f32, mean: f32, squares: f32 }

fn identity() -> State {
    return State(0.0, 0.0, 0.0);
}

fn element(start: u32, i: u32) -> State {
    let at = start + along(i);
    if (PARTS == 1u) { return State(x[at], x[at + 1u], x[at + 2u]); }
    let d = x[at] - x[start];
    // Where x is finite, d is clamped to ±2^126: the square of that still overflows, but no difference of means does.
    let near = clamp(d, -MOST, MOST);
    return State(1.0, select(d, near, abs(d) > MOST && is_finite(x[at])), 0.0);
}

fn merge(a: State, b: State) -> State {
    let count = a.count + b.count;
    let weight = select(b.count / count, 0.0, b.count == 0.0);
    let apart = b.mean - a.mean;
    // Where both sets have elements a.count * weight is at least 1/2, so half the square overflows only where the product
    // does. Where one is empty the square is 0, because infinity times 0 would be NaN.
    let square = select(0.5 * apart * apart, 0.0, min(a.count, b.count) == 0.0);
    return State(count, a.mean + apart * weight, (a.squares + b.squares) + square * (2.0 * a.count * weight));
}

/// As PyTorch: NaN where an element is infinite. A divisor of 0 gives inf, or NaN where the sum of squares is 0.
fn variance(whole: State) -> f32 {
    if (is_nan(whole.mean) || is_inf(whole.mean) || is_nan(whole.squares)) { return nan(); }
    if (p.value == 0.0) { return select(nan(), inf(), whole.squares > 0.0); }
    return whole.squares / p.value;
}

@compute @workgroup_size(WG)
fn moments(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) local: u32) {
    let slice = reduce_slice(group, groups, local);
    if (!slice.writes) { return; }
    let whole = slice.state;
    if (p.last == 1u) {
        let v = variance(whole);
        if (OP == 1u) { y[slice.at] = sqrt_nan(v); } else { y[slice.at] = v; }
    } else {
        y[3u * slice.at] = whole.count;
        y[3u * slice.at + 1u] = whole.mean;
        y[3u * slice.at + 2u] = whole.squares;
    }
}
