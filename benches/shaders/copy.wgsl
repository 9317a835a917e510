// The roofline's memory side: y = x, four words an invocation, each word read once and written once.
//
//   x [count] vec4f     y [count] vec4f
//   WG: invocations a workgroup (prepended by common/roofline.rs)

#import shared/common.wgsl

struct Params { count: u32 }

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn copy(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
    let i = workgroup_index(group, groups) * WG + lane;
    if (i < p.count) { y[i] = x[i]; }
}
