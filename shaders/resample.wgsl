// Separable resampling of planes: y[plane, i, j] = r_i c_j Σ_k Σ_l u_ik v_jl x[plane, first_i + k, first_j + l]. Each output
// is a weighted sum over a window of its own, which is a window of rows by a window of columns: average pooling, nearest
// and bilinear up-sampling, and the gradients of all of them, which are the same sums with the windows transposed. Nothing
// is scattered, so no two invocations write one element.
//
// The windows come as a table, one row an output row and one an output column, made by Rust in exact whole numbers. One
// invocation looks its two windows up once and computes their output in PLANES planes, so that the table costs little and
// neighbours read and write side by side. Rust cuts windows over more than 1,024 elements into several dispatches.
//
//   x [planes, size.x, size.y] f32, contiguous from x_offset on
//   table u32: a Window for each row of y, then for each column, then the weights
//   y [planes, result.x, result.y] f32, contiguous
//   WEIGHTED: 0 where all weights are 1    PLANES: planes an invocation
//   WG: invocations a workgroup (prepended by ops/resample/mod.rs)

#import shared/grid.wgsl

/// Pairs are (vertical, horizontal).
struct Params { size: vec2u, result: vec2u, planes: u32, x_offset: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

/// A window of one axis; `weights` is where the table has its first weight.
struct Window { first: u32, length: u32, weights: u32, scale: f32 }

fn window(row: u32) -> Window {
    let at = row * 4u;
    return Window(table[at], table[at + 1u], table[at + 2u], bitcast<f32>(table[at + 3u]));
}

fn weight(window: Window, k: u32) -> f32 {
    if (WEIGHTED == 0u) { return 1.0; }
    return bitcast<f32>(table[window.weights + k]);
}

/// One element in each of the planes.
fn load(at: vec4u) -> vec4f {
    if (PLANES == 1u) { return vec4f(x[at.x]); }
    return vec4f(x[at.x], x[at.y], x[at.z], x[at.w]);
}

@compute @workgroup_size(WG)
fn resample(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
            @builtin(local_invocation_index) lane: u32) {
    let index = folded(group, groups) * WG + lane;
    let line = index / p.result.y;
    let block = line / p.result.x;
    let place = vec2u(line - block * p.result.x, index - line * p.result.y);
    let first = block * PLANES;
    if (first >= p.planes) { return; }

    let rows = window(place.x);
    let cols = window(p.result.x + place.y);
    // Past the last plane that one again; what comes of it is not stored.
    let plane = min(first + vec4u(0u, 1u, 2u, 3u), vec4u(p.planes - 1u));
    var at = p.x_offset + (plane * p.size.x + rows.first) * p.size.y + cols.first;
    var sum = vec4f(0.0);
    for (var k = 0u; k < rows.length; k++) {
        var across = vec4f(0.0);
        for (var l = 0u; l < cols.length; l++) { across += weight(cols, l) * load(at + l); }
        sum += weight(rows, k) * across;
        at += p.size.y;
    }
    sum *= rows.scale * cols.scale;

    let step = p.result.x * p.result.y;
    let to = (first * p.result.x + place.x) * p.result.y + place.y;
    y[to] = sum.x;
    if (PLANES == 1u) { return; }
    if (first + 1u < p.planes) { y[to + step] = sum.y; }
    if (first + 2u < p.planes) { y[to + 2u * step] = sum.z; }
    if (first + 3u < p.planes) { y[to + 3u * step] = sum.w; }
}
