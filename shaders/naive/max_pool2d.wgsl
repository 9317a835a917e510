// Max-pooling, the plain way: one invocation computes one output, the largest element of its window of `kernel` rows and
// columns. Windows do not overlap (the stride is the kernel's size), and there is no padding.
//
//   x [planes, h, w] f32     y [planes, h / kernel, w / kernel] f32
//
// Memory bound: each element of x is read once. max_pool2d.wgsl divides an index once per invocation and not once per output, takes
// any stride, padding and dilation, propagates NaN, and stores which element was the largest, for the gradient.

struct Params { outputs: u32, h: u32, w: u32, kernel: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(64)
fn naive(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) local: u32) {
    let i = (group.y * groups.x + group.x) * 64u + local;
    if (i >= p.outputs) { return; }
    let out = vec2u(p.h, p.w) / p.kernel;
    let plane = i / (out.x * out.y);
    let row = i / out.y % out.x * p.kernel;
    let col = i % out.y * p.kernel;
    var largest = x[(plane * p.h + row) * p.w + col];
    for (var dr = 0u; dr < p.kernel; dr++) {
        for (var dc = 0u; dc < p.kernel; dc++) { largest = max(largest, x[(plane * p.h + row + dr) * p.w + col + dc]); }
    }
    y[i] = largest;
}
