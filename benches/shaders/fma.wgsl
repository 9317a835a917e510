// The roofline's arithmetic side: what an adapter reaches when it does nothing but fused multiply-adds.
//
// Each invocation runs 8 chains x <- x * 0.5 + 1 in registers, 16 steps a turn of the loop: 256 floating-point
// operations and no access to memory until the end. The chains do not depend on each other, so they hide the
// latency. Each ends at the fixed point 2 exactly, which checks the result. The factors come in as parameters: as
// constants the compiler could fold them.
//
//   y [count] f32: the sum of an invocation's chains, 16
//   WG: invocations a workgroup (prepended by common/roofline.rs)

#import shared/common.wgsl

struct Params { factor: f32, term: f32, turns: u32, count: u32 }

@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<uniform> p: Params;

struct Chains { a: vec4f, b: vec4f }

fn step(x: Chains, m: vec4f, t: vec4f) -> Chains {
    return Chains(fma(x.a, m, t), fma(x.b, m, t));
}

fn four(x: Chains, m: vec4f, t: vec4f) -> Chains {
    return step(step(step(step(x, m, t), m, t), m, t), m, t);
}

@compute @workgroup_size(WG)
fn fma_chains(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
              @builtin(local_invocation_index) lane: u32) {
    let i = workgroup_index(group, groups) * WG + lane;
    if (i >= p.count) { return; }
    let m = vec4f(p.factor);
    let t = vec4f(p.term);
    let start = vec4f(0.0, 1.0, 3.0, 4.0) + f32(lane);
    var x = Chains(start, start + 0.5);
    for (var turn = 0u; turn < p.turns; turn++) { x = four(four(four(four(x, m, t), m, t), m, t), m, t); }
    y[i] = dot(x.a + x.b, vec4f(1.0));
}
