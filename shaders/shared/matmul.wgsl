// Bindings, work division and epilogue of the matrix product kernels. Operands may have any strides (transposed views need no
// copy), and batches may be broadcast.
//
// Imported by: matmul.wgsl, matmul_subgroup.wgsl
// Expects: ACTIVATION.
//
// Split-K: a long k is cut into slices, whose partial products matmul_reduce.wgsl adds. This bounds the loop of an invocation, and
// a small c still fills the device. With several slices c is [slices, batches, m, n], and matmul_reduce.wgsl applies bias
// and activation.
//
//   a      f32 [batches, m, k]: the first operand of the indexer over batches, then strides a_row, a_col
//   b      f32 [batches, k, n]: the second operand of the indexer over batches, then strides b_row, b_col
//   bias   f32 [n], read where has_bias is 1
//   c      f32 [batches, m, n], contiguous

#import shared/common.wgsl
#import shared/strided.wgsl

struct Params {
    indexer: StridedIndexer,
    m: u32, n: u32, k: u32, batches: u32,
    a_row: u32, a_col: u32, b_row: u32, b_col: u32,
    slices: u32, bias_offset: u32, bias_step: u32, has_bias: u32,
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

/// A tile's work: its corner in c, its matrix (slice * batches + batch), and its range of k.
struct Work { row: u32, col: u32, matrix: u32, first: u32, end: u32, valid: bool }

/// Work item `index`. Tiles of `rows` x `cols` are numbered along n, then m, then batches, then slices.
fn work(index: u32, rows: u32, cols: u32) -> Work {
    let across = (p.n + cols - 1u) / cols;
    let down = (p.m + rows - 1u) / rows;
    let matrix = index / (across * down);
    let slice = matrix / p.batches;
    let depth = (p.k + p.slices - 1u) / p.slices;
    let first = min(slice * depth, p.k);
    return Work(index / across % down * rows, index % across * cols, matrix, first, min(first + depth, p.k),
                matrix < p.batches * p.slices);
}

/// Stores one element, after the epilogue where k is not sliced. Elements outside c are dropped.
fn store(matrix: u32, row: u32, col: u32, sum: f32) {
    if (row >= p.m || col >= p.n) { return; }
    var y = sum;
    if (p.slices == 1u) {
        if (p.has_bias == 1u) { y += bias[p.bias_offset + col * p.bias_step]; }
        y = activate(y, ACTIVATION);
    }
    c[(matrix * p.m + row) * p.n + col] = y;
}

fn load_a(at: vec4u) -> vec4f {
    return vec4f(a[at.x], a[at.y], a[at.z], a[at.w]);
}

fn load_b(at: vec4u) -> vec4f {
    return vec4f(b[at.x], b[at.y], b[at.z], b[at.w]);
}

fn store4(matrix: u32, row: u32, col: u32, sum: vec4f) {
    store(matrix, row, col, sum.x);
    store(matrix, row, col + 1u, sum.y);
    store(matrix, row, col + 2u, sum.z);
    store(matrix, row, col + 3u, sum.w);
}

fn store16(matrix: u32, row: u32, col: u32, sum: mat4x4f) {
    store4(matrix, row, col, sum[0]);
    store4(matrix, row + 1u, col, sum[1]);
    store4(matrix, row + 2u, col, sum[2]);
    store4(matrix, row + 3u, col, sum[3]);
}

