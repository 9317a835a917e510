// Imported by: adam.wgsl, dropout.wgsl, softmax.wgsl, shared/elementwise.wgsl, shared/matmul.wgsl, shared/reduce.wgsl and others
//
// The linear index of this workgroup. Rust splits the grid into two dimensions, because one holds at most 65,535 workgroups.
// The last row of the grid may be partly idle, so the caller must compare the index with its amount of work.
fn workgroup_index(group: vec3u, groups: vec3u) -> u32 {
    return group.y * groups.x + group.x;
}
