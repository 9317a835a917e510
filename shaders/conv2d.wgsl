// 2-D convolution with bias and activation, y = activation(conv(x, w) + bias), and transposed convolution, which is its
// gradient with respect to x. shared/conv2d.wgsl has the formula.
// Used by: conv2d, conv2d_with, conv1d, conv_transpose2d, conv_transpose2d_with, conv_transpose1d
//
// Direct convolution: x is not copied to columns (no im2col). The entry points; conv2d_subgroup.wgsl has a third variant:
//
// naive:      one invocation per element of y. Two loads per multiply-add.
// registers:  one invocation per 8 channels at 8 pixels, held in four 4 x 4 matrices. Each tap of each channel takes 8 + 8
//             loads for 64 multiply-adds: 8 times fewer loads than naive. The channels are the innermost loop, so the
//             position of a tap in x is computed once for all of them.
//
// No workgroup memory, no barriers. Not bound by memory bandwidth: each number is read often, from caches.
//
//   shared/conv2d.wgsl: operands and bindings
//
// Constants prepended by ops/conv2d/gpu.rs: TRANSPOSED, RESUME, ACTIVATION: see there.

#import shared/conv2d_tile.wgsl

@compute @workgroup_size(64)
fn naive(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) local: u32) {
    let t = tile(workgroup_index(group, groups) * 64u + local, 1u, 1u);
    if (!t.valid) { return; }
    let o = pixel(t.pixel);
    var sum = 0.0;
    for (var ky = p.first_kernel_row; ky < p.end_kernel_row; ky++) {
        for (var kx = 0u; kx < p.kernel.y; kx++) {
            let at = reached(o.at, vec2u(ky, kx));
            if (any(at >= p.source)) { continue; }
            let start = x_at(o.image, t.group, at);
            let weight = w_at(t.group, t.row, vec2u(ky, kx));
            for (var c = 0u; c < p.end_depth - p.first_depth; c++) {
                sum = fma(w[weight + c * p.weight_depth], x[start + c * p.source.x * p.source.y], sum);
            }
        }
    }
    store(y_at(o, t.group) + t.row * p.result.x * p.result.y, sum + bias_of(t.group, t.row));
}

@compute @workgroup_size(64)
fn registers(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
             @builtin(local_invocation_index) local: u32) {
    let t = tile(workgroup_index(group, groups) * 64u + local, 8u, 8u);
    if (!t.valid) { return; }
    let left = quad(pixel(t.pixel));
    let right = quad(pixel(t.pixel + 4u));
    // Channels past the end are clamped to the last one; their results are not stored.
    let four = t.row + vec4u(0u, 1u, 2u, 3u);
    let rows_u = min(four, vec4u(p.rows - 1u)) * p.weight_row;
    let rows_l = min(four + 4u, vec4u(p.rows - 1u)) * p.weight_row;
    let plane = p.source.x * p.source.y;
    let weight_depth = p.weight_depth;
    let channels = p.end_depth - p.first_depth;
    var y00: mat4x4f;
    var y01: mat4x4f;
    var y10: mat4x4f;
    var y11: mat4x4f;
    for (var ky = p.first_kernel_row; ky < p.end_kernel_row; ky++) {
        for (var kx = 0u; kx < p.kernel.y; kx++) {
            let tap = vec2u(ky, kx);
            let words_l = words(left, t.group, tap);
            let words_r = words(right, t.group, tap);
            var at = w_at(t.group, 0u, tap);
            var step = 0u;
            for (var c = 0u; c < channels; c++) {
                let x_l = load_x(words_l, step);
                let x_r = load_x(words_r, step);
                let upper = load_w(at + rows_u);
                let lower = load_w(at + rows_l);
                y00 = outer(y00, upper, x_l);
                y01 = outer(y01, upper, x_r);
                y10 = outer(y10, lower, x_l);
                y11 = outer(y11, lower, x_r);
                at += weight_depth;
                step += plane;
            }
        }
    }
    let to_l = places(left, t.group);
    let to_r = places(right, t.group);
    let bias0 = biases(t.group, t.row);
    let bias1 = biases(t.group, t.row + 4u);
    store16(to_l, t.row, y00, bias0);
    store16(to_r, t.row, y01, bias0);
    store16(to_l, t.row + 4u, y10, bias1);
    store16(to_r, t.row + 4u, y11, bias1);
}
