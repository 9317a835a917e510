// 2-D convolution with bias and activation, and transposed convolution, for adapters whose subgroups have one known, small
// size. shared/conv2d.wgsl has the formula.
// Used by: conv2d, conv2d_with, conv1d, conv_transpose2d, conv_transpose2d_with, conv_transpose1d
//
// One subgroup of SUBGROUP invocations computes 16 channels at 8 SUBGROUP pixels. Each invocation has 8 pixels, in eight 4 x 4
// matrices. The 16 weights of a tap and channel are loaded once per subgroup and exchanged by broadcast: 8 + 16 / SUBGROUP
// loads for 128 multiply-adds. It is made for software rasterizers, which issue one load per invocation.
//
// The channels are the innermost loop, so the position of a tap in x is computed once for all of them. Not bound by memory
// bandwidth: each number is read often, from caches.
//
//   shared/conv2d.wgsl: operands and bindings
//
// Constants prepended by ops/conv2d/gpu.rs: SUBGROUP: invocations per subgroup. TRANSPOSED, RESUME, ACTIVATION: see there.

#import shared/conv2d_tile.wgsl
#import shared/subgroup.wgsl

@compute @workgroup_size(64)
fn subgroup(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
            @builtin(local_invocation_index) local: u32, @builtin(subgroup_invocation_id) lane: u32) {
    // In a one-dimensional workgroup, a subgroup is a run of consecutive invocations.
    let t = tile((workgroup_index(group, groups) * 64u + local) / SUBGROUP, 16u, 8u * SUBGROUP);
    if (!t.valid) { return; } // the whole subgroup leaves together
    let first = t.pixel + lane * 8u;
    let left = quad(pixel(first));
    let right = quad(pixel(first + 4u));
    // Lane l loads the weights of channels l, l + SUBGROUP, ... Channels past the end are clamped, and not stored.
    let rows = min(t.row + lane + SUBGROUP * vec4u(0u, 1u, 2u, 3u), vec4u(p.rows - 1u)) * p.weight_row;
    let plane = p.source.x * p.source.y;
    let weight_depth = p.weight_depth;
    let channels = p.end_depth - p.first_depth;
    var y00: mat4x4f;
    var y01: mat4x4f;
    var y10: mat4x4f;
    var y11: mat4x4f;
    var y20: mat4x4f;
    var y21: mat4x4f;
    var y30: mat4x4f;
    var y31: mat4x4f;
    for (var ky = p.first_kernel_row; ky < p.end_kernel_row; ky++) {
        for (var kx = 0u; kx < p.kernel.y; kx++) {
            let tap = vec2u(ky, kx);
            let words_l = words(left, t.group, tap);
            let words_r = words(right, t.group, tap);
            var at = w_at(t.group, 0u, tap) + rows;
            var step = 0u;
            for (var c = 0u; c < channels; c++) {
                let x_l = load_x(words_l, step);
                let x_r = load_x(words_r, step);
                var w0: vec4f;
                var w1: vec4f;
                var w2: vec4f;
                var w3: vec4f;
                if (SUBGROUP == 8u) {
                    let mine = vec2f(w[at.x], w[at.y]);
                    w0 = low(mine.x);
                    w1 = high(mine.x);
                    w2 = low(mine.y);
                    w3 = high(mine.y);
                } else {
                    let mine = load_w(at);
                    w0 = low(mine.x);
                    w1 = low(mine.y);
                    w2 = low(mine.z);
                    w3 = low(mine.w);
                }
                y00 = outer(y00, w0, x_l);
                y01 = outer(y01, w0, x_r);
                y10 = outer(y10, w1, x_l);
                y11 = outer(y11, w1, x_r);
                y20 = outer(y20, w2, x_l);
                y21 = outer(y21, w2, x_r);
                y30 = outer(y30, w3, x_l);
                y31 = outer(y31, w3, x_r);
                at += weight_depth;
                step += plane;
            }
        }
    }
    let to_l = places(left, t.group);
    let to_r = places(right, t.group);
    let bias0 = biases(t.group, t.row);
    let bias1 = biases(t.group, t.row + 4u);
    let bias2 = biases(t.group, t.row + 8u);
    let bias3 = biases(t.group, t.row + 12u);
    store16(to_l, t.row, y00, bias0);
    store16(to_r, t.row, y01, bias0);
    store16(to_l, t.row + 4u, y10, bias1);
    store16(to_r, t.row + 4u, y11, bias1);
    store16(to_l, t.row + 8u, y20, bias2);
    store16(to_r, t.row + 8u, y21, bias2);
    store16(to_l, t.row + 12u, y30, bias3);
    store16(to_r, t.row + 12u, y31, bias3);
}
