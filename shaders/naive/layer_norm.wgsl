// Layer normalization of each row, the plain way: y = (x - mean) / sqrt(variance + eps). One invocation processes one row in
// three passes: the mean, the variance (as the mean of squared deviations: the mean of the squares minus the square of the
// mean cancels where the mean is large), the result.
//
//   x, y [rows, cols] f32
//
// layer_norm.wgsl divides a row among LANES invocations, corrects the variance for the rounding of the mean, and scales and
// shifts the result by a weight and a bias.

struct Params { rows: u32, cols: u32, eps: f32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(64)
fn naive(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_index) local: u32) {
    let row = (group.y * groups.x + group.x) * 64u + local;
    if (row >= p.rows) { return; }
    let start = row * p.cols;
    var mean = 0.0;
    for (var c = 0u; c < p.cols; c++) { mean += x[start + c] / f32(p.cols); }
    var variance = 0.0;
    for (var c = 0u; c < p.cols; c++) {
        let d = x[start + c] - mean;
        variance += d * d / f32(p.cols);
    }
    for (var c = 0u; c < p.cols; c++) { y[start + c] = (x[start + c] - mean) / sqrt(variance + p.eps); }
}
