// Average pooling and upsampling of planes, by separable weighted windows:
//
//   y[plane, i, j] = r_i c_j sum_k sum_l u[i, k] v[j, l] x[plane, first_i + k, first_j + l]
//
// Each output is the weighted sum over a window of rows by a window of columns. Average pooling, nearest and bilinear upsampling
// have this form, and so do their gradients, with the windows transposed. No two invocations write the same element.
// Used by: avg_pool2d, adaptive_avg_pool2d, upsample_nearest2d, upsample_bilinear2d
//
// Rust computes the windows in exact integer arithmetic, as a table with an entry for each row and each column of y. One
// invocation looks up two windows and computes their output in PLANES planes: that spreads the cost of the table, and
// neighbouring invocations still access neighbouring elements. Rust splits windows of more than 1,024 elements into several
// dispatches. Memory bound, unless windows overlap much.
//
//   x [planes, size.x, size.y] f32, contiguous from x_offset
//   table u32: a Window for each row of y, then for each column, then the weights
//   y [planes, result.x, result.y] f32, contiguous
//
// Constants prepended by ops/avg_pool_upsample/mod.rs: WEIGHTED: 0 if all weights are 1. PLANES: planes per invocation, 1 or 4.
// WG: invocations per workgroup.

#import shared/common.wgsl

/// Pairs are (vertical, horizontal).
struct Params { size: vec2u, result: vec2u, planes: u32, x_offset: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

/// A window along one axis; its first weight is table[weights].
struct Window { first: u32, length: u32, weights: u32, scale: f32 }

fn window(row: u32) -> Window {
    let at = row * 4u;
    return Window(table[at], table[at + 1u], table[at + 2u], bitcast<f32>(table[at + 3u]));
}

fn weight(window: Window, k: u32) -> f32 {
    if (WEIGHTED == 0u) { return 1.0; }
    return bitcast<f32>(table[window.weights + k]);
}

/// One element from each plane.
fn load(at: vec4u) -> vec4f {
    if (PLANES == 1u) { return vec4f(x[at.x]); }
    return vec4f(x[at.x], x[at.y], x[at.z], x[at.w]);
}

@compute @workgroup_size(WG)
fn avg_pool_upsample(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
            @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(group, groups) * WG + local;
    let line = index / p.result.y;
    let block = line / p.result.x;
    let place = vec2u(line - block * p.result.x, index - line * p.result.y);
    let first = block * PLANES;
    if (first >= p.planes) { return; }

    let rows = window(place.x);
    let cols = window(p.result.x + place.y);
    // Planes past the end are clamped to the last one; their results are not stored.
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
