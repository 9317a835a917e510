// Variance and standard deviation over any axes: y[o] = (sum over i of (x_i - m)²) / divisor, m being the mean of
// the x_i, or its root.
//
// One pass, by the pairwise update of Chan, Golub & LeVeque (Stanford STAN-CS-79-773): from the counts, the means and
// the sums of squared deviations of two sets follow those of both, and no large sums are subtracted. The means are
// relative to the reduction's first element, so that a spread far below the mean keeps its digits. Where the sum of
// squares overflows it is +inf, and the result with it.
// shared/fold.wgsl says how it walks. x is read once.
//
//   x f32, strided; or triples (count, mean, sum of squares) that an earlier dispatch left
//   y f32: results [outputs]; or triples [outputs, slices], or [slices, outputs] down the columns; contiguous
//   OP: 0 the variance, 1 its root    PARTS: 1 where x holds triples
//   WG, LANES, FLAT: as shared/fold.wgsl has them (prepended by ops/moments.rs)

#import shared/float.wgsl
#import shared/fold.wgsl

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
    // So far apart that the sum of squares overflows; nearer, that no difference of means does. An infinity stays one.
    let near = clamp(d, -MOST, MOST);
    return State(1.0, select(d, near, abs(d) > MOST && is_finite(x[at])), 0.0);
}

fn merge(a: State, b: State) -> State {
    let count = a.count + b.count;
    let share = select(b.count / count, 0.0, b.count == 0.0);
    let apart = b.mean - a.mean;
    // The weight is at least 1/2 where both have elements: half a square overflows only where the product does. Infinity
    // times a weight of 0 would be NaN.
    let square = select(0.5 * apart * apart, 0.0, min(a.count, b.count) == 0.0);
    return State(count, a.mean + apart * share, (a.squares + b.squares) + square * (2.0 * a.count * share));
}

/// PyTorch's: infinities have no mean to deviate from, and no degree of freedom divides by 0.
fn variance(whole: State) -> f32 {
    if (is_nan(whole.mean) || is_inf(whole.mean) || is_nan(whole.squares)) { return nan(); }
    if (p.value == 0.0) { return select(nan(), inf(), whole.squares > 0.0); }
    return whole.squares / p.value;
}

@compute @workgroup_size(WG)
fn moments(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) local: u32) {
    let slice = folded_slice(group, groups, local);
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
