// Coordinates in a stack of planes [planes, rows, cols], for an invocation that visits elements WG apart. Integer division is
// slow, most of all on a CPU. So only the first place takes divisions. Each further place adds a constant step, which Rust has
// divided into plane, row and column, and carries like hours, minutes and seconds.
//
// Imported by: max_pool2d.wgsl, max_pool2d_grad.wgsl

/// `count`: elements of all planes. `step`: WG elements as (plane, row, column). A place has the same components.
struct PlaneIndex { step: vec3u, count: u32, rows: u32, cols: u32 }

fn place_of(index: u32, planes: PlaneIndex) -> vec3u {
    let line = index / planes.cols;
    let plane = line / planes.rows;
    return vec3u(plane, line - plane * planes.rows, index - line * planes.cols);
}

fn next_place(place: vec3u, planes: PlaneIndex) -> vec3u {
    var to = place + planes.step;
    to -= select(vec3u(0u), vec3u(0u, ~0u, planes.cols), to.z >= planes.cols); // minus ~0u is plus 1
    to -= select(vec3u(0u), vec3u(~0u, planes.rows, 0u), to.y >= planes.rows);
    return to;
}
