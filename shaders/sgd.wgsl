// One step of stochastic gradient descent on one parameter, in place (Sutskever, Martens, Dahl & Hinton, "On the
// importance of initialization and momentum in deep learning", ICML 2013, in the form of PyTorch's SGD):
//
//   d = grad + decay * w                      with DECAY
//   v = momentum * v + fresh * d              sgd_momentum only; fresh is 1 - dampening, and 1 at the first step
//   d = d + momentum * v with NESTEROV, else v
//   w = w - rate * d
//
// One invocation handles PER elements, WG apart, so that neighbours touch neighbours. Memory bound: the gradient is
// read once, parameter and velocity read and written once.
//
//   grad [count] f32, contiguous from p.offset on     w [count] f32     v [count] f32
//   DECAY, NESTEROV: 0 or 1    WG: invocations a workgroup    PER: elements an invocation (prepended by optim/sgd.rs)

#import shared/grid.wgsl

struct Params { count: u32, offset: u32, rate: f32, decay: f32, momentum: f32, fresh: f32 }

@group(0) @binding(0) var<storage, read> grad: array<f32>;
@group(0) @binding(1) var<storage, read_write> w: array<f32>;
// The parameters come last, which is binding 2 where there is no velocity.
@group(0) @binding(2) var<uniform> plain: Params;
@group(0) @binding(2) var<storage, read_write> v: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

/// The gradient with the weight decay in it.
fn decayed(grad: f32, w: f32, decay: f32) -> f32 {
    // Not by a decay of 0: a parameter that is infinite would become NaN.
    if (DECAY == 1u) { return grad + decay * w; }
    return grad;
}

@compute @workgroup_size(WG)
fn sgd(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
       @builtin(local_invocation_index) lane: u32) {
    let first = folded(group, groups) * WG * PER + lane;
    for (var j = 0u; j < PER; j++) {
        let i = first + j * WG;
        if (i >= plain.count) { return; }
        w[i] -= plain.rate * decayed(grad[plain.offset + i], w[i], plain.decay);
    }
}

@compute @workgroup_size(WG)
fn sgd_momentum(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                @builtin(local_invocation_index) lane: u32) {
    let first = folded(group, groups) * WG * PER + lane;
    for (var j = 0u; j < PER; j++) {
        let i = first + j * WG;
        if (i >= p.count) { return; }
        let d = decayed(grad[p.offset + i], w[i], p.decay);
        let velocity = p.momentum * v[i] + p.fresh * d;
        v[i] = velocity;
        var direction = velocity;
        if (NESTEROV == 1u) { direction = d + p.momentum * velocity; }
        w[i] -= p.rate * direction;
    }
}
