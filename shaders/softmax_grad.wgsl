// The gradient of softmax.wgsl from its output y:
//
//   dx[r, c] = y[r, c] (dy[r, c] - sum_c y[r, c] dy[r, c]),   or with LOG   dy[r, c] - exp(y[r, c]) sum_c dy[r, c]
//
// Used by: softmax, log_softmax (gradient)
//
// LANES invocations process one row. Each sums every LANES-th term, four per iteration. A tree reduction in workgroup memory adds
// the lanes in log2(LANES) steps. Memory bound: y and dy are read twice, dx written once. Slices and stages as in softmax.wgsl.
//
//   y       f32: its rows begin at the first operand of the indexer, elements steps.x apart
//   dy      f32: its rows begin at the second operand of the indexer, elements steps.y apart
//   dx      f32: its rows begin at the third operand of the indexer, elements steps.x apart
//   parts   f32 [rows, slices]: sums (stages 1 and 2)
//
// Constants prepended by ops/softmax.rs: LOG: 1 for the logarithm. STAGE: 0 whole rows, 1 reduce slices, 2 write slices.
// WG: invocations per workgroup. LANES: invocations per row or slice.

#import shared/common.wgsl
#import shared/strided.wgsl

/// `steps`: the strides along a row of y and dx, and of dy. `size`: the elements of a slice; the last one may have fewer.
struct Params { indexer: StridedIndexer, rows: u32, cols: u32, steps: vec2u, slices: u32, size: u32 }

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(0) @binding(3) var<storage, read_write> parts: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

var<workgroup> partial: array<f32, WG>;

fn y_at(start: vec3u, c: u32) -> f32 {
    return y[start.x + c * p.steps.x];
}

fn dy_at(start: vec3u, c: u32) -> f32 {
    return dy[start.y + c * p.steps.y];
}

/// The term that element c adds to the row's sum.
fn term(start: vec3u, c: u32) -> f32 {
    if (LOG == 1u) { return dy_at(start, c); }
    return dy_at(start, c) * y_at(start, c);
}

fn gradient(y: f32, dy: f32, sum: f32) -> f32 {
    if (LOG == 1u) { return dy - exp_nan(y) * sum; }
    return y * (dy - sum);
}

@compute @workgroup_size(WG)
fn softmax_grad(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                @builtin(local_invocation_index) local: u32) {
    let lane = local % LANES;
    let at = workgroup_index(group, groups) * (WG / LANES) + local / LANES;
    let valid = at < p.rows * p.slices;
    let row = at / p.slices;
    let begin = (at % p.slices) * p.size;
    let end = min(p.cols, begin + p.size);
    let start = strided_offsets(select(0u, row, valid));

    var sum = 0.0;
    if (valid && STAGE == 2u) {
        for (var slice = lane; slice < p.slices; slice += LANES) { sum += parts[row * p.slices + slice]; }
    } else if (valid) {
        var c = begin + lane;
        for (; c + 3u * LANES < end; c += 4u * LANES) {
            sum += (term(start, c) + term(start, c + LANES)) + (term(start, c + 2u * LANES) + term(start, c + 3u * LANES));
        }
        for (; c < end; c += LANES) { sum += term(start, c); }
    }
    if (LANES > 1u) {
        partial[local] = sum;
        for (var half = LANES / 2u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if (lane < half) { partial[local] += partial[local + half]; }
        }
        workgroupBarrier();
        sum = partial[local - lane];
    }
    if (!valid) { return; }
    if (STAGE == 1u) {
        if (lane == 0u) { parts[at] = sum; }
        return;
    }

    var c = begin + lane;
    for (; c + 3u * LANES < end; c += 4u * LANES) {
        let probabilities = vec4f(y_at(start, c), y_at(start, c + LANES), y_at(start, c + 2u * LANES), y_at(start, c + 3u * LANES));
        let g = vec4f(dy_at(start, c), dy_at(start, c + LANES), dy_at(start, c + 2u * LANES), dy_at(start, c + 3u * LANES));
        let to = start.z + c * p.steps.x;
        let step = LANES * p.steps.x;
        dx[to] = gradient(probabilities.x, g.x, sum);
        dx[to + step] = gradient(probabilities.y, g.y, sum);
        dx[to + 2u * step] = gradient(probabilities.z, g.z, sum);
        dx[to + 3u * step] = gradient(probabilities.w, g.w, sum);
    }
    for (; c < end; c += LANES) { dx[start.z + c * p.steps.x] = gradient(y_at(start, c), dy_at(start, c), sum); }
}
