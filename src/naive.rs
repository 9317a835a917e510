//! The plainest kernel for each of six ops: where a reader begins, the first rung of the benches, and a third opinion in the
//! tests. Each is a file of 15 to 30 lines in `shaders/naive`, without imports: one invocation computes one output or one row.
//! The ops of [`Tensor`] do the same faster, for any layout, with gradients. (A plain matrix product and a plain convolution
//! are [`MatMulKernel::Naive`](crate::MatMulKernel) and [`Conv2dKernel::Naive`](crate::Conv2dKernel).)
//!
//! ```
//! use gristmill::{Device, Tensor, naive};
//!
//! let x = Tensor::from_slice(&[0.0, 0.0, 1.0, 1.0], [2, 2], &Device::cpu())?;
//! assert_eq!(naive::softmax(&x)?.to_vec()?, [0.5; 4]);
//! # Ok::<(), gristmill::Error>(())
//! ```

use crate::cpu::CpuDevice;
use crate::gpu::{Kernel, MOST_ITERATIONS, Params, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, apply};
use crate::shape::{Shape, to_u32};
use crate::tensor::Tensor;
use crate::{DType, Error, Result, params};
use rayon::prelude::*;
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] =
    &[&SUM, &SOFTMAX, &LAYER_NORM, &ATTENTION, &MAX_POOL2D, &CONV2D_WEIGHT];

static SUM: Kernel = kernel!("naive/sum.wgsl", "naive", reads: 1, writes: 1, params: Rows);
static SOFTMAX: Kernel = kernel!("naive/softmax.wgsl", "naive", reads: 1, writes: 1, params: Rows);
static LAYER_NORM: Kernel = kernel!("naive/layer_norm.wgsl", "naive", reads: 1, writes: 1, params: NormRows);
static ATTENTION: Kernel = kernel!("naive/attention.wgsl", "naive", reads: 3, writes: 1, params: Heads);
static MAX_POOL2D: Kernel = kernel!("naive/max_pool2d.wgsl", "naive", reads: 1, writes: 1, params: Windows);
static CONV2D_WEIGHT: Kernel =
    kernel!("naive/conv2d_weight.wgsl", "naive", reads: 2, writes: 1, params: Convolution);

params! {
    struct Rows { rows: u32, cols: u32 }
}

params! {
    struct NormRows { rows: u32, cols: u32, eps: f32 }
}

params! {
    struct Heads { rows: u32, n: u32, m: u32, d: u32, dv: u32, scale: f32 }
}

params! {
    struct Windows { outputs: u32, h: u32, w: u32, kernel: u32 }
}

params! {
    struct Convolution { n: u32, c: u32, h: u32, w: u32, o: u32, kh: u32, kw: u32 }
}

/// An op whose invocation `i` computes part `i` of the output; all parts are equally long.
struct Naive<P> {
    name: &'static str,
    kernel: &'static Kernel,
    params: P,
    shape: Shape,
    flops: u64,
    /// How many parts.
    parts: usize,
    /// Computes a part on the CPU, from the inputs and its number.
    part: fn(&P, &[&[f32]], usize, &mut [f32]),
}

impl<P: Params + Send + Sync> Op for Naive<P> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn infer(&self, _: &[Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta::f32(self.shape)])
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        self.flops
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let inputs = inputs.iter().map(CpuView::slice).collect::<Vec<_>>();
        let out = &mut *outputs[0].data;
        let length = out.len() / self.parts;
        let parts = out.par_chunks_mut(length).enumerate();
        parts.for_each(|(i, out)| (self.part)(&self.params, &inputs, i, out));
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let inputs = inputs.iter().map(|input| input.buffer);
        let buffers = inputs.chain([outputs[0].buffer]).collect::<Vec<_>>();
        rec.dispatch(self.kernel, &[], &buffers, &self.params, self.parts.div_ceil(64))
    }
}

impl<P: Params + Send + Sync> Naive<P> {
    /// Runs it on inputs that begin at the start of their buffers. `iterations` is how many one invocation makes.
    fn run(self, inputs: &[&Tensor], iterations: Option<usize>) -> Result<Tensor> {
        if iterations.is_none_or(|iterations| iterations > MOST_ITERATIONS) {
            let message = format!(
                "one invocation would make more than {MOST_ITERATIONS} iterations; use the op of Tensor"
            );
            return Err(Error::shape(self.name, message));
        }
        let at_start = |x: &&Tensor| if x.layout().offset == 0 { Ok((*x).clone()) } else { x.copy() };
        let inputs = inputs.iter().map(at_start).collect::<Result<Vec<_>>>()?;
        apply(self, &inputs.iter().collect::<Vec<_>>())
    }
}

/// The shape of an input, which has to have `N` axes, none of them empty.
fn dims<const N: usize>(op: &'static str, x: &Tensor) -> Result<[usize; N]> {
    x.expect(DType::F32, op)?;
    let wrong = || Error::shape(op, format!("shape {}, should have {N} axes, none of them empty", x.shape()));
    let dims: [usize; N] = (*x.shape()).try_into().map_err(|_| wrong())?;
    if dims.contains(&0) { Err(wrong()) } else { Ok(dims) }
}

fn product(sizes: &[usize]) -> Option<usize> {
    sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size))
}

fn rows(op: &'static str, x: &Tensor) -> Result<([usize; 2], Rows)> {
    let [rows, cols] = dims(op, x)?;
    Ok(([rows, cols], Rows { rows: to_u32(op, rows)?, cols: to_u32(op, cols)? }))
}

/// The sum over the last axis of `[rows, cols]`, as [`Tensor::sum`].
///
/// # Errors
/// Another rank, an empty axis, rows longer than 65,534, or the device fails.
pub fn sum(x: &Tensor) -> Result<Tensor> {
    const OP: &str = "naive::sum";
    let ([rows, cols], params) = rows(OP, x)?;
    let part = |p: &Rows, inputs: &[&[f32]], i: usize, out: &mut [f32]| {
        let cols = p.cols as usize;
        out[0] = inputs[0][i * cols..][..cols].iter().sum();
    };
    Naive {
        name: OP,
        kernel: &SUM,
        params,
        shape: Shape::new([rows])?,
        flops: x.numel() as u64,
        parts: rows,
        part,
    }
    .run(&[x], cols.checked_add(1))
}

/// Softmax over the last axis of `[rows, cols]`, as [`Tensor::softmax`]; only for finite numbers.
///
/// # Errors
/// Another rank, an empty axis, rows longer than 21,844, or the device fails.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    const OP: &str = "naive::softmax";
    let ([rows, cols], params) = rows(OP, x)?;
    let part = |p: &Rows, inputs: &[&[f32]], i: usize, out: &mut [f32]| {
        let row = &inputs[0][i * p.cols as usize..][..p.cols as usize];
        let largest = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = row.iter().map(|x| (x - largest).exp()).sum();
        out.iter_mut().zip(row).for_each(|(y, x)| *y = (x - largest).exp() / sum);
    };
    Naive {
        name: OP,
        kernel: &SOFTMAX,
        params,
        shape: x.shape(),
        flops: 5 * x.numel() as u64,
        parts: rows,
        part,
    }
    .run(&[x], product(&[3, cols.saturating_add(1)]))
}

/// Layer normalization over the last axis of `[rows, cols]`, without weight and bias, as [`Tensor::layer_norm`].
///
/// # Errors
/// Another rank, an empty axis, rows longer than 21,844, or the device fails.
pub fn layer_norm(x: &Tensor, eps: f32) -> Result<Tensor> {
    const OP: &str = "naive::layer_norm";
    let ([rows, cols], Rows { rows: count, cols: len }) = rows(OP, x)?;
    let params = NormRows { rows: count, cols: len, eps };
    let part = |p: &NormRows, inputs: &[&[f32]], i: usize, out: &mut [f32]| {
        let row = &inputs[0][i * p.cols as usize..][..p.cols as usize];
        let mean = row.iter().sum::<f32>() / p.cols as f32;
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / p.cols as f32;
        out.iter_mut().zip(row).for_each(|(y, x)| *y = (x - mean) / (variance + p.eps).sqrt());
    };
    Naive {
        name: OP,
        kernel: &LAYER_NORM,
        params,
        shape: x.shape(),
        flops: 6 * x.numel() as u64,
        parts: rows,
        part,
    }
    .run(&[x], product(&[3, cols.saturating_add(1)]))
}

/// Scaled-dot-product attention of `q [matrices, n, d]`, `k [matrices, m, d]` and `v [matrices, m, dv]`, without mask, as
/// [`Tensor::scaled_dot_product_attention`].
///
/// # Errors
/// Other ranks, sizes that differ, an empty axis, more than 65,535 iterations for a query, or the device fails.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    const OP: &str = "naive::attention";
    let ([matrices, n, d], [of_k, m, d_of_k], [of_v, m_of_v, dv]) =
        (dims(OP, q)?, dims(OP, k)?, dims(OP, v)?);
    if [of_k, of_v] != [matrices; 2] || d_of_k != d || m_of_v != m {
        let message =
            format!("queries of shape {}, keys of {} and values of {}", q.shape(), k.shape(), v.shape());
        return Err(Error::shape(OP, message));
    }
    let w = |size| to_u32(OP, size);
    let rows = matrices.saturating_mul(n);
    let scale = 1.0 / (d as f32).sqrt();
    let params = Heads { rows: w(rows)?, n: w(n)?, m: w(m)?, d: w(d)?, dv: w(dv)?, scale };
    let part = |p: &Heads, inputs: &[&[f32]], i: usize, out: &mut [f32]| {
        let (m, d) = (p.m as usize, p.d as usize);
        let query = &inputs[0][i * d..][..d];
        let keys = (i / p.n as usize * m..).take(m);
        let score =
            |j: usize| query.iter().zip(&inputs[1][j * d..]).map(|(q, k)| q * k).sum::<f32>() * p.scale;
        let largest = keys.clone().map(score).fold(f32::MIN, f32::max);
        out.fill(0.0);
        let mut sum = 0.0;
        for j in keys {
            let weight = (score(j) - largest).exp();
            sum += weight;
            out.iter_mut().zip(&inputs[2][j * p.dv as usize..]).for_each(|(o, v)| *o += weight * v);
        }
        out.iter_mut().for_each(|o| *o /= sum);
    };
    let shape = Shape::new([matrices, n, dv])?;
    let flops = 2 * (rows as u64).saturating_mul(m as u64).saturating_mul((d + dv) as u64);
    let iterations = product(&[m, d.saturating_mul(2).saturating_add(dv).saturating_add(5)]);
    let iterations = iterations.and_then(|all| all.checked_add(dv.checked_mul(2)?.checked_add(4)?));
    Naive { name: OP, kernel: &ATTENTION, params, shape, flops, parts: rows, part }
        .run(&[q, k, v], iterations)
}

/// Max-pooling of `[n, c, h, w]` by windows of `kernel` rows and columns that do not overlap, as [`Tensor::max_pool2d`]; only for
/// finite numbers.
///
/// # Errors
/// Another rank, an empty axis, a kernel of 0 or larger than the images, or the device fails.
pub fn max_pool2d(x: &Tensor, kernel: usize) -> Result<Tensor> {
    const OP: &str = "naive::max_pool2d";
    let [n, c, h, w] = dims(OP, x)?;
    if kernel == 0 || kernel > h.min(w) {
        return Err(Error::shape(OP, format!("a kernel of {kernel} for images of shape {}", x.shape())));
    }
    let shape = Shape::new([n, c, h / kernel, w / kernel])?;
    let u = |size| to_u32(OP, size);
    let params = Windows { outputs: u(shape.numel())?, h: u(h)?, w: u(w)?, kernel: u(kernel)? };
    let part = |p: &Windows, inputs: &[&[f32]], i: usize, out: &mut [f32]| {
        let [h, w, kernel] = [p.h, p.w, p.kernel].map(|size| size as usize);
        let (rows, cols) = (h / kernel, w / kernel);
        let (plane, row, col) = (i / (rows * cols), i / cols % rows * kernel, i % cols * kernel);
        let at = |j: usize| inputs[0][(plane * h + row + j / kernel) * w + col + j % kernel];
        out[0] = (0..kernel * kernel).map(at).fold(f32::MIN, f32::max);
    };
    let flops = (shape.numel() as u64).saturating_mul((kernel * kernel - 1) as u64);
    let iterations = product(&[kernel + 1, kernel + 1]);
    Naive { name: OP, kernel: &MAX_POOL2D, params, shape, flops, parts: shape.numel(), part }
        .run(&[x], iterations)
}

/// The gradient of the weight of a convolution with stride 1 and no padding: `x [n, c, h, w]` and the gradient
/// `dy [n, o, h - kh + 1, w - kw + 1]` give `[o, c, kh, kw]`.
///
/// # Errors
/// Other ranks, batches that differ, a gradient larger than the images, an empty axis, more than 65,535 terms for a weight, or the
/// device fails.
pub fn conv2d_weight(x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    const OP: &str = "naive::conv2d_weight";
    let ([n, c, h, w], [of_dy, o, rows, cols]) = (dims(OP, x)?, dims(OP, dy)?);
    if of_dy != n || rows > h || cols > w {
        return Err(Error::shape(
            OP,
            format!("images of shape {} and a gradient of {}", x.shape(), dy.shape()),
        ));
    }
    let (kh, kw) = (h - rows + 1, w - cols + 1);
    let shape = Shape::new([o, c, kh, kw])?;
    to_u32(OP, shape.numel())?;
    let u = |size| to_u32(OP, size);
    let params = Convolution { n: u(n)?, c: u(c)?, h: u(h)?, w: u(w)?, o: u(o)?, kh: u(kh)?, kw: u(kw)? };
    let part = |p: &Convolution, inputs: &[&[f32]], i: usize, out: &mut [f32]| {
        let [n, c, h, w, o, kh, kw] = [p.n, p.c, p.h, p.w, p.o, p.kh, p.kw].map(|size| size as usize);
        let (s, r, from, to) = (i % kw, i / kw % kh, i / (kw * kh) % c, i / (kw * kh * c));
        let (rows, cols) = (h - kh + 1, w - kw + 1);
        let term = |j: usize| {
            let (image, at) = (j / (rows * cols), j % (rows * cols));
            let x = inputs[0][((image * c + from) * h + at / cols + r) * w + at % cols + s];
            inputs[1][(image * o + to) * rows * cols + at] * x
        };
        out[0] = (0..n * rows * cols).map(term).sum();
    };
    let flops = 2 * (shape.numel() as u64).saturating_mul((n * rows * cols) as u64);
    let iterations =
        product(&[rows, cols]).and_then(|plane| product(&[n, plane.checked_add(2)?])?.checked_add(1));
    Naive { name: OP, kernel: &CONV2D_WEIGHT, params, shape, flops, parts: shape.numel(), part }
        .run(&[x, dy], iterations)
}
