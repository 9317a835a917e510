// One step of stochastic gradient descent on one parameter, in place, in the form of PyTorch's SGD:
//
//   d = grad + decay * w                      with DECAY
//   v = momentum * v + fresh * d              sgd_momentum only; fresh is 1 - dampening, and 1 at the first step
//   d = d + momentum * v with NESTEROV, else v
//   w = w - rate * d
//
// Used by: Sgd
//
// Sutskever, Martens, Dahl & Hinton, "On the importance of initialization and momentum in deep learning" (ICML 2013).
//
// One invocation handles four neighbouring elements as a vector. Memory bound: the gradient is read once, the parameter and the
// velocity are read and written once.
//
//   grad   f32 [count], contiguous from p.offset
//   w, v   f32 [count], contiguous
//
// Constants prepended by optim/sgd.rs: DECAY, NESTEROV: 0 or 1. ALIGNED: 1 where p.offset is a multiple of 4.
// WG: invocations per workgroup.

#import shared/common.wgsl
#import shared/quad.wgsl

struct Params { count: u32, offset: u32, rate: f32, decay: f32, momentum: f32, fresh: f32 }

@group(0) @binding(0) var<storage, read> grad: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> w: array<vec4f>;
// The uniform is the last binding: 2 in sgd, which has no velocity, and 3 in sgd_momentum.
@group(0) @binding(2) var<uniform> plain: Params;
@group(0) @binding(2) var<storage, read_write> v: array<vec4f>;
@group(0) @binding(3) var<uniform> p: Params;

/// The gradient with weight decay.
fn decayed(grad: vec4f, w: vec4f, decay: f32) -> vec4f {
    // A decay of 0 is skipped: it would make an infinite parameter NaN.
    if (DECAY == 1u) { return grad + decay * w; }
    return grad;
}

@compute @workgroup_size(WG)
fn sgd(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
       @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i > (plain.count - 1u) / 4u) { return; }
    let weight = w[i];
    let next = weight - plain.rate * decayed(quad(i, plain.offset), weight, plain.decay);
    let left = plain.count - i * 4u;
    if (left < 4u) {
        // The last vector reaches past the end: only the elements inside are written.
        for (var c = 0u; c < left; c++) {
            w[i][c] = next[c];
        }
        return;
    }
    w[i] = next;
}

@compute @workgroup_size(WG)
fn sgd_momentum(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                @builtin(local_invocation_index) local: u32) {
    let i = workgroup_index(group, groups) * WG + local;
    if (i > (p.count - 1u) / 4u) { return; }
    let weight = w[i];
    let d = decayed(quad(i, p.offset), weight, p.decay);
    let velocity = p.momentum * v[i] + p.fresh * d;
    var direction = velocity;
    if (NESTEROV == 1u) { direction = d + p.momentum * velocity; }
    let next = weight - p.rate * direction;
    let left = p.count - i * 4u;
    if (left < 4u) {
        // The last vector reaches past the end: only the elements inside are written.
        for (var c = 0u; c < left; c++) {
            v[i][c] = velocity[c];
            w[i][c] = next[c];
        }
        return;
    }
    v[i] = velocity;
    w[i] = next;
}
