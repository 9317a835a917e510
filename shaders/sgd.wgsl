// One step of stochastic gradient descent on one parameter, in place (Sutskever, Martens, Dahl & Hinton, "On the
// importance of initialization and momentum in deep learning", ICML 2013, in the form of PyTorch's SGD):
//
//   d = grad + decay * w                      with DECAY
//   v = momentum * v + fresh * d              sgd_momentum only; fresh is 1 - dampening, and 1 at the first step
//   d = d + momentum * v with NESTEROV, else v
//   w = w - rate * d
//
// One invocation handles four neighbouring elements as a vector. Memory bound: the gradient is read once, parameter and
// velocity read and written once.
//
//   grad [count] f32, contiguous from p.offset on     w [count] f32     v [count] f32
//   DECAY, NESTEROV: 0 or 1    ALIGNED: whether p.offset is a multiple of 4    WG: invocations a workgroup
//   (prepended by optim/sgd.rs)

#import shared/grid.wgsl
#import shared/quad.wgsl

struct Params { count: u32, offset: u32, rate: f32, decay: f32, momentum: f32, fresh: f32 }

@group(0) @binding(0) var<storage, read> grad: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> w: array<vec4f>;
// The parameters come last, which is binding 2 where there is no velocity.
@group(0) @binding(2) var<uniform> plain: Params;
@group(0) @binding(2) var<storage, read_write> v: array<vec4f>;
@group(0) @binding(3) var<uniform> p: Params;

/// The gradient with the weight decay in it.
fn decayed(grad: vec4f, w: vec4f, decay: f32) -> vec4f {
    // Not by a decay of 0: a parameter that is infinite would become NaN.
    if (DECAY == 1u) { return grad + decay * w; }
    return grad;
}

@compute @workgroup_size(WG)
fn sgd(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
       @builtin(local_invocation_index) lane: u32) {
    let i = folded(group, groups) * WG + lane;
    if (i > (plain.count - 1u) / 4u) { return; }
    let weight = w[i];
    let next = weight - plain.rate * decayed(quad(i, plain.offset), weight, plain.decay);
    let left = plain.count - i * 4u;
    if (left < 4u) {
        // The last vector reaches past the end: only what is inside is written.
        for (var c = 0u; c < left; c++) {
            w[i][c] = next[c];
        }
        return;
    }
    w[i] = next;
}

@compute @workgroup_size(WG)
fn sgd_momentum(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                @builtin(local_invocation_index) lane: u32) {
    let i = folded(group, groups) * WG + lane;
    if (i > (p.count - 1u) / 4u) { return; }
    let weight = w[i];
    let d = decayed(quad(i, p.offset), weight, p.decay);
    let velocity = p.momentum * v[i] + p.fresh * d;
    var direction = velocity;
    if (NESTEROV == 1u) { direction = d + p.momentum * velocity; }
    let next = weight - p.rate * direction;
    let left = p.count - i * 4u;
    if (left < 4u) {
        // The last vector reaches past the end: only what is inside is written.
        for (var c = 0u; c < left; c++) {
            v[i][c] = velocity[c];
            w[i][c] = next[c];
        }
        return;
    }
    v[i] = velocity;
    w[i] = next;
}
