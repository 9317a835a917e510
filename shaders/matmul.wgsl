// Matrix product with epilogue: c = activation(a · b + bias). Three kernels, from simple to fast on hardware.
//
// Used by: matmul, matmul_with, linear, einsum
//
// naive:      one invocation computes one element of c. It reads 2k words for it. For comparison only.
// registers:  one invocation computes an 8 x 8 tile of c in four 4 x 4 matrices. Each step along k loads 8 + 8 words for 64
//             multiply-adds: an eighth of naive's loads, and no barrier. For software rasterizers, where workgroup memory
//             is ordinary memory and a barrier splits a loop.
// tiled:      one workgroup of 16 x 16 invocations computes a 64 x 64 tile of c. Each invocation computes 4 x 4 elements that lie
//             16 apart. Slabs of a and b, 16 deep along k, pass through workgroup memory, so each number is read from global
//             memory once per tile and not once per invocation. Workgroup memory is read four words at a time. For hardware.
//             (Volkov & Demmel, "Benchmarking GPUs to tune dense linear algebra", SC 2008.)
//
// Compute bound, except naive. shared/matmul.wgsl describes the operands' layouts, split-K and the epilogue.
//
// Constants prepended by ops/matmul.rs: ACTIVATION: the function applied to c.

#import shared/matmul.wgsl

@compute @workgroup_size(64)
fn naive(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) local: u32) {
    let w = work(workgroup_index(group, groups) * 64u + local, 1u, 1u);
    if (!w.valid) { return; }
    let start = strided_offsets(w.matrix % p.batches);
    var sum = 0.0;
    for (var k = w.first; k < w.end; k++) {
        sum = fma(a[start.x + w.row * p.a_row + k * p.a_col], b[start.y + k * p.b_row + w.col * p.b_col], sum);
    }
    store(w.matrix, w.row, w.col, sum);
}

@compute @workgroup_size(64)
fn registers(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
             @builtin(local_invocation_index) local: u32) {
    let w = work(workgroup_index(group, groups) * 64u + local, 8u, 8u);
    if (!w.valid) { return; }
    let start = strided_offsets(w.matrix % p.batches);
    // Past the edge the last row or column is loaded again; store16 drops those results.
    let four = vec4u(0u, 1u, 2u, 3u);
    var a0 = start.x + min(w.row + four, vec4u(p.m - 1u)) * p.a_row + w.first * p.a_col;
    var a1 = start.x + min(w.row + four + 4u, vec4u(p.m - 1u)) * p.a_row + w.first * p.a_col;
    var b0 = start.y + min(w.col + four, vec4u(p.n - 1u)) * p.b_col + w.first * p.b_row;
    var b1 = start.y + min(w.col + four + 4u, vec4u(p.n - 1u)) * p.b_col + w.first * p.b_row;
    var c00: mat4x4f;
    var c01: mat4x4f;
    var c10: mat4x4f;
    var c11: mat4x4f;
    for (var k = w.first; k < w.end; k++) {
        let upper = load_a(a0);
        let lower = load_a(a1);
        let left = load_b(b0);
        let right = load_b(b1);
        c00 = outer(c00, upper, left);
        c01 = outer(c01, upper, right);
        c10 = outer(c10, lower, left);
        c11 = outer(c11, lower, right);
        a0 += p.a_col;
        a1 += p.a_col;
        b0 += p.b_row;
        b1 += p.b_row;
    }
    store16(w.matrix, w.row, w.col, c00);
    store16(w.matrix, w.row, w.col + 4u, c01);
    store16(w.matrix, w.row + 4u, w.col, c10);
    store16(w.matrix, w.row + 4u, w.col + 4u, c11);
}

const SIDE = 64u;  // rows and columns of a workgroup's tile
const DEPTH = 16u; // steps along k in a slab
const STEP = 17u;  // vectors from one depth to the next; odd, to avoid bank conflicts
var<workgroup> a_slab: array<array<vec4f, STEP>, DEPTH>;
var<workgroup> b_slab: array<array<vec4f, STEP>, DEPTH>;

/// One column of a at four rows, 16 apart. Past the edge the last row is loaded again; past the end of k it is 0.
fn a_numbers(start: u32, row: u32, k: u32, end: u32) -> vec4f {
    let rows = min(row + vec4u(0u, 16u, 32u, 48u), vec4u(p.m - 1u));
    return select(vec4f(), load_a(start + rows * p.a_row + min(k, end - 1u) * p.a_col), k < end);
}

/// One row of b at four columns, 16 apart; likewise.
fn b_numbers(start: u32, k: u32, col: u32, end: u32) -> vec4f {
    let cols = min(col + vec4u(0u, 16u, 32u, 48u), vec4u(p.n - 1u));
    return select(vec4f(), load_b(start + cols * p.b_col + min(k, end - 1u) * p.b_row), k < end);
}

@compute @workgroup_size(16, 16)
fn tiled(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_id) id: vec3u, @builtin(local_invocation_index) local: u32) {
    let w = work(workgroup_index(group, groups), SIDE, SIDE);
    if (!w.valid) { return; } // the same for the whole workgroup
    let start = strided_offsets(w.matrix % p.batches);
    // Each of the 256 invocations loads one vector of each slab. Neighbours load neighbouring numbers along the axis with the
    // smaller stride, so that loads are coalesced.
    let own = vec2u(local / 16u, local % 16u);
    let of_a = select(own, own.yx, p.a_row < p.a_col); // side, depth
    let of_b = select(own.yx, own, p.b_row < p.b_col);
    var next_a = a_numbers(start.x, w.row + of_a.x, w.first + of_a.y, w.end);
    var next_b = b_numbers(start.y, w.first + of_b.y, w.col + of_b.x, w.end);
    var sum: mat4x4f;
    for (var slab = w.first; slab < w.end; slab += DEPTH) {
        a_slab[of_a.y][of_a.x] = next_a;
        b_slab[of_b.y][of_b.x] = next_b;
        workgroupBarrier();
        // The next slab is loaded while this one is used.
        if (slab + DEPTH < w.end) {
            next_a = a_numbers(start.x, w.row + of_a.x, slab + DEPTH + of_a.y, w.end);
            next_b = b_numbers(start.y, slab + DEPTH + of_b.y, w.col + of_b.x, w.end);
        }
        for (var k = 0u; k < DEPTH; k += 4u) {
            sum = outer(sum, a_slab[k][id.y], b_slab[k][id.x]);
            sum = outer(sum, a_slab[k + 1u][id.y], b_slab[k + 1u][id.x]);
            sum = outer(sum, a_slab[k + 2u][id.y], b_slab[k + 2u][id.x]);
            sum = outer(sum, a_slab[k + 3u][id.y], b_slab[k + 3u][id.x]);
        }
        workgroupBarrier();
    }
    store_row(w, id, 0u, sum[0]);
    store_row(w, id, 1u, sum[1]);
    store_row(w, id, 2u, sum[2]);
    store_row(w, id, 3u, sum[3]);
}

/// Stores row `a` of an invocation's four rows, at its four columns.
fn store_row(w: Work, id: vec3u, a: u32, sum: vec4f) {
    let row = w.row + id.y + 16u * a;
    let col = w.col + id.x;
    store(w.matrix, row, col, sum.x);
    store(w.matrix, row, col + 16u, sum.y);
    store(w.matrix, row, col + 32u, sum.z);
    store(w.matrix, row, col + 48u, sum.w);
}
