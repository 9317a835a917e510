// Broadcasts within a subgroup of SUBGROUP invocations.
//
// Imported by: matmul_subgroup.wgsl, conv2d_subgroup.wgsl, shared/attention_subgroup.wgsl
// Expects: SUBGROUP.

/// The values of the first four invocations.
fn low(v: f32) -> vec4f {
    return vec4f(subgroupBroadcast(v, 0u), subgroupBroadcast(v, 1u), subgroupBroadcast(v, 2u), subgroupBroadcast(v, 3u));
}

/// The values of the last four invocations.
fn high(v: f32) -> vec4f {
    return vec4f(subgroupBroadcast(v, SUBGROUP - 4u), subgroupBroadcast(v, SUBGROUP - 3u),
                 subgroupBroadcast(v, SUBGROUP - 2u), subgroupBroadcast(v, SUBGROUP - 1u));
}
