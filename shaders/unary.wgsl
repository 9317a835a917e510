// Element-wise functions of one operand: y[i] = f(x[i]), some with attributes that the params bring.
//
// Memory bound: x is read once, y written once. shared/elementwise.wgsl says how the two entries walk.
//
//   x f32, operand x of the walk     y [count] f32, contiguous
//   OP: the function    WG: invocations a workgroup (prepended by ops/unary.rs)

#import shared/elementwise.wgsl
#import shared/smooth.wgsl
#import shared/trig.wgsl

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(0) var<storage, read> x4: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y4: array<vec4f>;
@group(0) @binding(2) var<uniform> p: Params;

fn f(x: f32) -> f32 {
    let a = p.attributes;
    switch OP {
        case 0u: { return exp_nan(x); }
        case 1u: { return log_nan(x); }
        case 2u: { return sqrt_nan(x); }
        case 3u: { return 1.0 / x; }
        case 4u: { return abs(x); }
        case 5u: { return relu(x); }
        case 6u: { return sigmoid(x); }
        case 7u: { return tanh_nan(x); }
        case 8u: { return gelu(x); }
        case 9u: { return x * x; }
        case 10u: { return select(a.x * x, x, x > 0.0); }               // leaky_relu
        case 11u: { return select(a.x * exp_m1(x), x, x > 0.0); }       // elu
        case 12u: { return silu(x); }
        // hardswish: -inf has the limit 0, which -inf * 0 would miss.
        case 13u: { return max_nan(x, -3.0) * clamp(x + 3.0, 0.0, 6.0) / 6.0; }
        case 14u: { return softplus(x); }
        case 15u: { return erf(x); }
        case 16u: { return rsqrt_nan(x); }
        case 17u: { return sin_from(x, 0u); }
        case 18u: { return sin_from(x, 1u); }                           // cos
        case 19u: { return min_nan(max_nan(x, a.x), a.y); }             // clamp
        case 20u: { return -x; }
        case 21u: { return select(floor(x), x, is_nan(x)); }
        case 22u: { return select(ceil(x), x, is_nan(x)); }
        case 23u: { return select(round(x), x, is_nan(x)); }
        case 24u: { return sign_nan(x); }
        default: { return select(0.0, 1.0, order(x) == 0); }            // logical_not
    }
}

@compute @workgroup_size(WG)
fn strided(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
    let i = place(group, groups, lane);
    if (i >= p.count) { return; }
    y[i] = f(x[positions(i).x]);
}

@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
    let i = place(group, groups, lane);
    let first = i * 4u;
    if (first >= p.count) { return; }
    let u = spread(0u, x4[quad_at(0u, i)]);
    let w = vec4f(f(u.x), f(u.y), f(u.z), f(u.w));
    if (first + 4u <= p.count) { y4[i] = w; return; }
    for (var c = 0u; c < p.count - first; c++) { y4[i][c] = w[c]; }
}
