// Softmax of each row, the plain way: y[r, c] = exp(x[r, c] - max) / sum. One invocation processes one row in three passes:
// the maximum, the sum of the exponentials relative to it (so that nothing overflows), the result.
//
//   x, y [rows, cols] f32
//
// It reads x three times, where softmax.wgsl reads it twice: online softmax finds the maximum and the sum in one pass. And
// a row is one invocation's work, where softmax.wgsl divides it among LANES invocations, whose loads are coalesced.

struct Params { rows: u32, cols: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(64)
fn naive(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) local: u32) {
    let row = (group.y * groups.x + group.x) * 64u + local;
    if (row >= p.rows) { return; }
    let start = row * p.cols;
    var largest = x[start];
    for (var c = 1u; c < p.cols; c++) { largest = max(largest, x[start + c]); }
    var sum = 0.0;
    for (var c = 0u; c < p.cols; c++) { sum += exp(x[start + c] - largest); }
    for (var c = 0u; c < p.cols; c++) { y[start + c] = exp(x[start + c] - largest) / sum; }
}
