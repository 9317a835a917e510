// Matrix product with epilogue: c = activation(a · b + bias), as three steps of a ladder.
//
// naive:      one invocation an element. Reads 2k words for each element it writes.
// registers:  one invocation an 8 x 8 tile of c, held in four 4 x 4 matrices. Each step along k loads 8 + 8 words and
//             does 64 multiply-adds: 4 times fewer loads than naive, no barrier. Made for software rasterisers, on which
//             workgroup memory is ordinary memory and a barrier is a loop's end.
// tiled:      one workgroup of 16 x 16 invocations a 64 x 64 tile of c, each invocation 4 x 4 of it. Slabs of a and b, 16
//             deep, pass through workgroup memory, so that each word is read from memory once a tile and not once an
//             invocation. Made for hardware. (Volkov & Demmel, "Benchmarking GPUs to tune dense linear algebra", SC 2008.)
//
// shared/matmul.wgsl has the operands' layouts, the cutting of a long k into slices, and the epilogue.
//
//   ACTIVATION: what is applied to c (prepended by ops/matmul.rs)

#import shared/matmul.wgsl

@compute @workgroup_size(64)
fn naive(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) lane: u32) {
    let w = work(folded(group, groups) * 64u + lane, 1u, 1u);
    if (!w.valid) { return; }
    let start = positions(w.matrix % p.batches);
    var sum = 0.0;
    for (var k = w.first; k < w.end; k++) {
        sum = fma(a[start.x + w.row * p.a_row + k * p.a_col], b[start.y + k * p.b_row + w.col * p.b_col], sum);
    }
    store(w.matrix, w.row, w.col, sum);
}

@compute @workgroup_size(64)
fn registers(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
             @builtin(local_invocation_index) lane: u32) {
    let w = work(folded(group, groups) * 64u + lane, 8u, 8u);
    if (!w.valid) { return; }
    let start = positions(w.matrix % p.batches);
    // Past the edge the last row or column is loaded again; what comes of it is not stored.
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

const SIDE = 64u;  // of a workgroup's tile
const DEPTH = 16u; // of a slab
var<workgroup> a_slab: array<array<f32, SIDE>, DEPTH>;
var<workgroup> b_slab: array<array<f32, SIDE>, DEPTH>;

@compute @workgroup_size(16, 16)
fn tiled(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_id) local: vec3u, @builtin(local_invocation_index) lane: u32) {
    let w = work(folded(group, groups), SIDE, SIDE);
    if (!w.valid) { return; } // the whole workgroup leaves together
    let start = positions(w.matrix % p.batches);
    var sum: mat4x4f;
    for (var slab = w.first; slab < w.end; slab += DEPTH) {
        // 256 invocations load the 2 x 1024 words of a slab, neighbours neighbouring ones along the contiguous axis.
        for (var i = lane; i < SIDE * DEPTH; i += 256u) {
            var k = i % DEPTH;
            var side = i / DEPTH;
            if (p.a_row < p.a_col) { side = i % SIDE; k = i / SIDE; }
            a_slab[k][side] = 0.0;
            if (slab + k < w.end && w.row + side < p.m) {
                a_slab[k][side] = a[start.x + (w.row + side) * p.a_row + (slab + k) * p.a_col];
            }
            k = i / SIDE;
            side = i % SIDE;
            if (p.b_row < p.b_col) { k = i % DEPTH; side = i / DEPTH; }
            b_slab[k][side] = 0.0;
            if (slab + k < w.end && w.col + side < p.n) {
                b_slab[k][side] = b[start.y + (slab + k) * p.b_row + (w.col + side) * p.b_col];
            }
        }
        workgroupBarrier();
        let y = local.y * 4u;
        let x = local.x * 4u;
        for (var k = 0u; k < DEPTH; k++) {
            sum = outer(sum, vec4f(a_slab[k][y], a_slab[k][y + 1u], a_slab[k][y + 2u], a_slab[k][y + 3u]),
                        vec4f(b_slab[k][x], b_slab[k][x + 1u], b_slab[k][x + 2u], b_slab[k][x + 3u]));
        }
        workgroupBarrier();
    }
    store16(w.matrix, w.row + local.y * 4u, w.col + local.x * 4u, sum);
}
