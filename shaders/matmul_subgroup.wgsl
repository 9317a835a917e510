// Matrix product with epilogue: c = activation(a · b + bias), for adapters whose subgroups have one known, small size.
//
// Used by: matmul, matmul_with, linear, einsum
//
// One subgroup of SUBGROUP invocations computes a 16 x (8 SUBGROUP) tile of c. Each invocation computes 16 rows of 8 columns in
// eight 4 x 4 matrices. The subgroup loads the 16 words of a that a step along k needs once, and passes them to all invocations by
// subgroupBroadcast: 8 + 16 / SUBGROUP loads for 128 multiply-adds. For software rasterizers, which do not coalesce
// the loads of neighbouring invocations. Compute bound.
//
// shared/matmul.wgsl describes the operands' layouts, split-K and the epilogue.
//
// Constants prepended by ops/matmul.rs: ACTIVATION: the function applied to c. SUBGROUP: invocations per subgroup, 4 or 8.

#import shared/matmul.wgsl
#import shared/subgroup.wgsl

@compute @workgroup_size(64)
fn subgroup(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
            @builtin(local_invocation_index) local: u32, @builtin(subgroup_invocation_id) lane: u32) {
    // In a one-dimensional workgroup a subgroup is a range of consecutive invocations.
    let w = work((workgroup_index(group, groups) * 64u + local) / SUBGROUP, 16u, 8u * SUBGROUP);
    if (!w.valid) { return; } // the same for the whole subgroup
    let col = w.col + lane * 8u;
    let start = strided_offsets(w.matrix % p.batches);
    // Past the edge the last row or column is loaded again; store16 drops those results.
    let four = vec4u(0u, 1u, 2u, 3u);
    var b0 = start.y + min(col + four, vec4u(p.n - 1u)) * p.b_col + w.first * p.b_row;
    var b1 = start.y + min(col + four + 4u, vec4u(p.n - 1u)) * p.b_col + w.first * p.b_row;
    // Lane l loads rows l, l + SUBGROUP, ... of the column of a.
    let rows = lane + SUBGROUP * vec4u(0u, 1u, 2u, 3u);
    var at = start.x + min(w.row + rows, vec4u(p.m - 1u)) * p.a_row + w.first * p.a_col;
    var c00: mat4x4f;
    var c01: mat4x4f;
    var c10: mat4x4f;
    var c11: mat4x4f;
    var c20: mat4x4f;
    var c21: mat4x4f;
    var c30: mat4x4f;
    var c31: mat4x4f;
    for (var k = w.first; k < w.end; k++) {
        let left = load_b(b0);
        let right = load_b(b1);
        var a0: vec4f;
        var a1: vec4f;
        var a2: vec4f;
        var a3: vec4f;
        if (SUBGROUP == 8u) {
            let mine = vec2f(a[at.x], a[at.y]);
            a0 = low(mine.x);
            a1 = high(mine.x);
            a2 = low(mine.y);
            a3 = high(mine.y);
        } else {
            let mine = load_a(at);
            a0 = low(mine.x);
            a1 = low(mine.y);
            a2 = low(mine.z);
            a3 = low(mine.w);
        }
        c00 = outer(c00, a0, left);
        c01 = outer(c01, a0, right);
        c10 = outer(c10, a1, left);
        c11 = outer(c11, a1, right);
        c20 = outer(c20, a2, left);
        c21 = outer(c21, a2, right);
        c30 = outer(c30, a3, left);
        c31 = outer(c31, a3, right);
        at += p.a_col;
        b0 += p.b_row;
        b1 += p.b_row;
    }
    store16(w.matrix, w.row, col, c00);
    store16(w.matrix, w.row, col + 4u, c01);
    store16(w.matrix, w.row + 4u, col, c10);
    store16(w.matrix, w.row + 4u, col + 4u, c11);
    store16(w.matrix, w.row + 8u, col, c20);
    store16(w.matrix, w.row + 8u, col + 4u, c21);
    store16(w.matrix, w.row + 12u, col, c30);
    store16(w.matrix, w.row + 12u, col + 4u, c31);
}

