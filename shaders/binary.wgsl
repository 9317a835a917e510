// Element-wise functions of two operands, y[i] = f(a[i], b[i]), the operands broadcast and strided in any way.
//
// Memory bound: each operand is read once, y written once. shared/elementwise.wgsl says how the two entries walk.
//
//   a f32, operand x of the walk     b f32, operand y of the walk     y [count] f32, contiguous
//   OP: the function    WG: invocations a workgroup (prepended by ops/binary.rs)

#import shared/elementwise.wgsl
#import shared/float.wgsl

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(0) var<storage, read> a4: array<vec4f>;
@group(0) @binding(1) var<storage, read> b4: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y4: array<vec4f>;
@group(0) @binding(3) var<uniform> p: Params;

fn f(a: f32, b: f32) -> f32 {
    switch OP {
        case 0u: { return a + b; }
        case 1u: { return a - b; }
        case 2u: { return a * b; }
        case 3u: { return a / b; }
        case 4u: { return max_nan(a, b); }
        case 5u: { return min_nan(a, b); }
        case 6u: { return pow_nan(a, b); }
        // The share of a maximum's gradient that goes to a: ties are split evenly.
        case 7u: { return select(select(0.0, 1.0, a > b), 0.5, a == b); }
        // The derivative of a^b with regard to b, 0 at a = 0 as the limit for b > 0.
        case 8u: { return select(pow_nan(a, b) * log_nan(a), 0.0, a == 0.0 && b >= 0.0); }
        // Equality, NaN being equal to NaN.
        default: { return select(0.0, 1.0, a == b || (is_nan(a) && is_nan(b))); }
    }
}

@compute @workgroup_size(WG)
fn strided(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
    let i = place(group, groups, lane);
    if (i >= p.count) { return; }
    let at = positions(i);
    y[i] = f(a[at.x], b[at.y]);
}

fn load_a(i: u32) -> vec4f {
    let at = p.walk.offsets.x;
    if ((p.scalars & 1u) != 0u) { return vec4f(a4[at / 4u][at % 4u]); }
    return a4[at / 4u + i];
}

fn load_b(i: u32) -> vec4f {
    let at = p.walk.offsets.y;
    if ((p.scalars & 2u) != 0u) { return vec4f(b4[at / 4u][at % 4u]); }
    return b4[at / 4u + i];
}

@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
    let i = place(group, groups, lane);
    let first = i * 4u;
    if (first >= p.count) { return; }
    let u = load_a(i);
    let v = load_b(i);
    let w = vec4f(f(u.x, v.x), f(u.y, v.y), f(u.z, v.z), f(u.w, v.w));
    if (first + 4u <= p.count) { y4[i] = w; return; }
    for (var c = 0u; c < p.count - first; c++) { y4[i][c] = w[c]; }
}
