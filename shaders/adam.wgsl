// One step of Adam (Kingma & Ba, arXiv:1412.6980, algorithm 1) or AdamW (Loshchilov & Hutter, arXiv:1711.05101,
// algorithm 2) on one parameter, in place:
//
//   d = grad + decay * w                      DECAY = 1: the L2 penalty of Adam, else d = grad
//   w = keep * w                              DECAY = 2: the decoupled decay of AdamW, keep = 1 - rate * weight_decay
//   m = beta1 * m + (1 - beta1) * d           the running mean of the gradient
//   v = beta2 * v + (1 - beta2) * d * d       the running mean of its square
//   w = w - step * m / (sqrt(v) * scale + eps)
//
// Used by: Adam, AdamW
//
// The host computes in f64 what depends on the step number t: step = rate / (1 - beta1^t) and
// scale = 1 / sqrt(1 - beta2^t).
//
// One invocation processes four consecutive elements as a vec4f. Memory bound: grad is read once; w, m and v are read and
// written once.
//
//   grad [count] f32, contiguous from p.offset     w, m, v [count] f32
//
// Constants prepended by optim/adam.rs: DECAY: 0 (none), 1 or 2. ALIGNED: whether p.offset is a multiple of 4. WG: invocations per
// workgroup.

#import shared/common.wgsl
#import shared/quad.wgsl

struct Params {
    count: u32,
    offset: u32,
    decay: f32,
    keep: f32,
    beta1: f32,
    fresh1: f32, // 1 - beta1
    beta2: f32,
    fresh2: f32, // 1 - beta2
    step: f32,
    scale: f32,
    eps: f32,
}

@group(0) @binding(0) var<storage, read> grad: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> w: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> m: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> v: array<vec4f>;
@group(0) @binding(4) var<uniform> p: Params;

fn root(x: vec4f) -> vec4f {
    return vec4f(sqrt_nan(x.x), sqrt_nan(x.y), sqrt_nan(x.z), sqrt_nan(x.w));
}

@compute @workgroup_size(WG)
fn adam(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i > (p.count - 1u) / 4u) { return; }
    var d = quad(i, p.offset);
    var weight = w[i];
    if (DECAY == 1u) { d += p.decay * weight; }
    if (DECAY == 2u) { weight *= p.keep; }
    let mean = p.beta1 * m[i] + p.fresh1 * d;
    let square = p.beta2 * v[i] + p.fresh2 * d * d;
    weight -= p.step * mean / (root(square) * p.scale + p.eps);
    let left = p.count - i * 4u;
    if (left < 4u) {
        // The last vector extends past the end: store only the elements inside.
        for (var c = 0u; c < left; c++) {
            m[i][c] = mean[c];
            v[i][c] = square[c];
            w[i][c] = weight[c];
        }
        return;
    }
    m[i] = mean;
    v[i] = square;
    w[i] = weight;
}
