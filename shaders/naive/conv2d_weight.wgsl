// The gradient of a convolution's weight, the plain way: dw[o, c, r, s] = sum over n, i, j of dy[n, o, i, j] x[n, c, i + r, j + s].
// One invocation computes one weight. Stride 1, no padding, no groups.
//
//   x [n, c, h, w]     dy [n, o, h - kh + 1, w - kw + 1]     dw [o, c, kh, kw]     f32
//
// Few weights keep few invocations busy, each with a long sum. conv2d_weight.wgsl cuts the sum into slices, and computes a tile of
// weights in registers, so that each element that it loads serves several weights.

struct Params { n: u32, c: u32, h: u32, w: u32, o: u32, kh: u32, kw: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dw: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(64)
fn naive(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) local: u32) {
    let i = (group.y * groups.x + group.x) * 64u + local;
    if (i >= p.o * p.c * p.kh * p.kw) { return; }
    let s = i % p.kw;
    let r = i / p.kw % p.kh;
    let c = i / (p.kw * p.kh) % p.c;
    let o = i / (p.kw * p.kh * p.c);
    let out = vec2u(p.h - p.kh, p.w - p.kw) + 1u; // rows and columns of dy
    var sum = 0.0;
    for (var n = 0u; n < p.n; n++) {
        for (var at = 0u; at < out.x * out.y; at++) {
            let place = vec2u(at / out.y + r, at % out.y + s);
            sum += dy[(n * p.o + o) * out.x * out.y + at] * x[((n * p.c + c) * p.h + place.x) * p.w + place.y];
        }
    }
    dw[i] = sum;
}
