// Element-wise losses, y[i] = f(x[i], t[i]) of a prediction and its target, or their sum.
// Used by: mse_loss, l1_loss, huber_loss, hinge_loss, bce_with_logits_loss, kl_div_loss, Loss::of
//
// Memory bound: each operand is read once. `strided` and `vector` (shared/elementwise.wgsl) write every loss.
// `reduce_strided` and `reduce_vector` write only one partial sum per EACH * WG elements; reduce.wgsl adds these. Each invocation
// adds EACH elements one after the other, then a tree reduction in workgroup memory adds the invocations in log2(WG) steps.
//
//   x f32, operand a     t f32, operand b     c f32: the weight of the positive class, if the function has one
//   y [count] f32, or the partial sums; contiguous
//   attributes: delta of the Huber loss
//
// Constants prepended by ops/loss.rs: OP: the function. WG: invocations per workgroup. EACH: elements per invocation.

#import shared/elementwise.wgsl
#import shared/functions.wgsl

alias Element = f32;

var<workgroup> partial: array<f32, WG>;

fn f(x: f32, t: f32, c: f32) -> f32 {
    let d = abs(x - t);
    let delta = p.attributes.x;
    switch OP {
        case 0u: { return d * d; }
        case 1u: { return d; }
        case 2u: { return select(delta * (d - 0.5 * delta), 0.5 * d * d, d < delta); } // Huber
        case 3u: { return relu(1.0 - t * x); }                                  // hinge
        case 4u: { return (1.0 - t) * softplus(x) + t * softplus(-x); }         // binary cross-entropy
        // Kullback-Leibler divergence, for targets that are probabilities and for log-probabilities: a target of
        // probability 0 adds 0.
        case 5u: { return select(t * (log_nan(t) - x), 0.0, t == 0.0 && !is_nan(x)); }
        case 6u: {
            let e = exp_nan(t);
            return select(e * (t - x), 0.0, e == 0.0 && !is_nan(x));
        }
        default: { return (1.0 - t) * softplus(x) + c * t * softplus(-x); }     // weighted binary cross-entropy
    }
}

/// Writes the sum of `mine` over the workgroup.
fn reduce_workgroup(mine: f32, number: u32, local: u32) {
    partial[local] = mine;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) { partial[local] += partial[local + half]; }
    }
    if (local == 0u && number * WG * EACH < p.count) { y[number] = partial[0]; }
}

@compute @workgroup_size(WG)
fn reduce_strided(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                @builtin(local_invocation_index) local: u32) {
    let number = workgroup_index(group, groups);
    let first = number * WG * EACH + local;
    var sum = 0.0;
    for (var k = 0u; k < EACH && first + k * WG < p.count; k++) { sum += one(first + k * WG); }
    reduce_workgroup(sum, number, local);
}

@compute @workgroup_size(WG)
fn reduce_vector(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
               @builtin(local_invocation_index) local: u32) {
    let number = workgroup_index(group, groups);
    let first = number * WG * (EACH / 4u) + local;
    var sum = 0.0;
    for (var k = 0u; k < EACH / 4u && (first + k * WG) * 4u < p.count; k++) {
        let i = first + k * WG;
        // Elements past the end are arbitrary.
        let inside = vec4u(i * 4u) + vec4u(0u, 1u, 2u, 3u) < vec4u(p.count);
        let losses = select(vec4f(0.0), four(i), inside);
        sum += (losses.x + losses.y) + (losses.z + losses.w);
    }
    reduce_workgroup(sum, number, local);
}
