// Places in a stack of planes [planes, rows, cols], visited WG elements apart. Division is slow, on a CPU most of all.
// So only an invocation's first place is divided out; each further one is the last plus a step that Rust has divided
// out, summed as hours, minutes and seconds are.

/// Of `count` elements; .xyz of a place and of the step are its plane, its row and its column.
struct Planes { step: vec3u, count: u32, rows: u32, cols: u32 }

fn place_of(index: u32, planes: Planes) -> vec3u {
    let line = index / planes.cols;
    let plane = line / planes.rows;
    return vec3u(plane, line - plane * planes.rows, index - line * planes.cols);
}

fn next_place(place: vec3u, planes: Planes) -> vec3u {
    var to = place + planes.step;
    to -= select(vec3u(0u), vec3u(0u, ~0u, planes.cols), to.z >= planes.cols); // minus ~0u is plus 1
    to -= select(vec3u(0u), vec3u(~0u, planes.rows, 0u), to.y >= planes.rows);
    return to;
}
