// Gradients of the element-wise functions of unary.wgsl: dx[i] = dy[i] f'(s[i]), where s is the input of f or its
// output, whichever the derivative is simpler in (`Unary::saves` in ops/unary.rs says which).
//
// Memory bound: s and dy are read once, dx written once. shared/elementwise.wgsl says how the two entries walk.
//
//   s f32, operand x of the walk     dy f32, operand y of the walk     dx [count] f32, contiguous
//   OP: the function    WG: invocations a workgroup (prepended by ops/unary.rs)

#import shared/elementwise.wgsl
#import shared/smooth.wgsl
#import shared/trig.wgsl

@group(0) @binding(0) var<storage, read> s: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(0) @binding(0) var<storage, read> s4: array<vec4f>;
@group(0) @binding(1) var<storage, read> dy4: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> dx4: array<vec4f>;
@group(0) @binding(3) var<uniform> p: Params;

fn gradient(s: f32, dy: f32) -> f32 {
    let a = p.attributes;
    switch OP {
        case 0u: { return dy * s; }                          // exp: s = y
        case 1u: { return dy / s; }                          // log: s = x
        case 2u: { return dy / (2.0 * s); }                  // sqrt: s = y
        case 3u: { return -dy * s * s; }                     // recip: s = y
        case 4u: { return dy * sign_nan(s); }                // abs: s = x
        case 5u: { return select(0.0, dy, s > 0.0 || is_nan(s)); } // relu: s = y
        case 6u: { return dy * s * (1.0 - s); }              // sigmoid: s = y
        case 7u: { return dy * (1.0 - s) * (1.0 + s); }      // tanh: s = y
        case 8u: { return dy * gelu_slope(s); }              // gelu: s = x
        case 9u: { return dy * 2.0 * s; }                    // square: s = x
        // From here on s = x, but for rsqrt.
        case 10u: { return select(dy * a.x, dy, s > 0.0); }  // leaky_relu
        case 11u: { return select(dy * (a.x * exp_nan(s)), dy, s > 0.0); } // elu
        case 12u: { return dy * silu_slope(s); }
        // hardswish
        case 13u: { return select(select(dy * (s / 3.0 + 0.5), dy, s >= 3.0), 0.0, s <= -3.0); }
        case 14u: { return dy * sigmoid(s); }                // softplus
        case 15u: { return dy * (1.1283792 * exp_nan(-s * s)); } // erf: 2 / sqrt(π) e^-x²
        case 16u: { return dy * -0.5 * (s * s * s); }        // rsqrt: s = y
        case 17u: { return dy * sin_from(s, 1u); }
        case 18u: { return -dy * sin_from(s, 0u); }          // cos
        default: { return select(0.0, dy, s >= a.x && s <= a.y && !is_nan(s)); } // clamp
    }
}

@compute @workgroup_size(WG)
fn strided(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
    let i = place(group, groups, lane);
    if (i >= p.count) { return; }
    let at = positions(i);
    dx[i] = gradient(s[at.x], dy[at.y]);
}

@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
    let i = place(group, groups, lane);
    let first = i * 4u;
    if (first >= p.count) { return; }
    let u = spread(0u, s4[quad_at(0u, i)]);
    let v = spread(1u, dy4[quad_at(1u, i)]);
    let w = vec4f(gradient(u.x, v.x), gradient(u.y, v.y), gradient(u.z, v.z), gradient(u.w, v.w));
    if (first + 4u <= p.count) { dx4[i] = w; return; }
    for (var c = 0u; c < p.count - first; c++) { dx4[i][c] = w[c]; }
}
