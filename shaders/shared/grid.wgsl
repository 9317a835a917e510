// The number of this workgroup in a grid that Rust folded into two dimensions because a dimension holds at most
// 65,535 workgroups. The last row of the grid may be idle in part: compare the number with the count of work.
fn folded(group: vec3u, groups: vec3u) -> u32 {
    return group.y * groups.x + group.x;
}
