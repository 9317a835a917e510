// Passing words round a subgroup of SUBGROUP invocations.

/// The first four invocations' values.
fn low(v: f32) -> vec4f {
    return vec4f(subgroupBroadcast(v, 0u), subgroupBroadcast(v, 1u), subgroupBroadcast(v, 2u), subgroupBroadcast(v, 3u));
}

/// The last four invocations' values.
fn high(v: f32) -> vec4f {
    return vec4f(subgroupBroadcast(v, SUBGROUP - 4u), subgroupBroadcast(v, SUBGROUP - 3u),
                 subgroupBroadcast(v, SUBGROUP - 2u), subgroupBroadcast(v, SUBGROUP - 1u));
}
