// The sum of each row, the plain way: one invocation adds one row, element after element.
//
//   x [rows, cols] f32     y [rows] f32
//
// Slow for two reasons. A few long rows keep a few invocations busy and the rest of the device idle; and neighbouring
// invocations read addresses that lie a row apart, so that no load is coalesced. reduce.wgsl mends both.

struct Params { rows: u32, cols: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(64)
fn naive(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) local: u32) {
    let row = (group.y * groups.x + group.x) * 64u + local;
    if (row >= p.rows) { return; }
    var sum = 0.0;
    for (var c = 0u; c < p.cols; c++) { sum += x[row * p.cols + c]; }
    y[row] = sum;
}
