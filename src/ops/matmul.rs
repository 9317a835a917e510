//! Matrix product, batched with broadcasting, with bias and activation in the epilogue.

use super::slicing::{Epilogue, Slicing, add_slices};
use super::{StridedIndexer, floats, product_flops, to_u32};
use crate::cpu::CpuDevice;
use crate::cpu::{Matrix, gemm};
use crate::gpu::{Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves, apply};
use crate::ops::unary::Activation;
use crate::shape::{Layout, MAX_RANK, Shape};
use crate::tensor::Tensor;
use crate::{Error, Result, params};
use rayon::prelude::*;
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&NAIVE, &REGISTERS, &SUBGROUP, &TILED];

static NAIVE: Kernel =
    kernel!("matmul.wgsl", "naive", reads: 3, writes: 1, params: Params, "ACTIVATION": Activation::ALL);
static REGISTERS: Kernel =
    kernel!("matmul.wgsl", "registers", reads: 3, writes: 1, params: Params, "ACTIVATION": Activation::ALL);
static SUBGROUP: Kernel = kernel!("matmul_subgroup.wgsl", "subgroup", reads: 3, writes: 1, params: Params,
    "ACTIVATION": Activation::ALL, "SUBGROUP": &[4, 8]);
static TILED: Kernel =
    kernel!("matmul.wgsl", "tiled", reads: 3, writes: 1, params: Params, "ACTIVATION": Activation::ALL);

params! {
    struct Params {
        indexer: StridedIndexer, m: u32, n: u32, k: u32, batches: u32, a_row: u32, a_col: u32,
        b_row: u32, b_col: u32, slices: u32, bias_offset: u32, bias_step: u32, has_bias: u32,
    }
}

/// The GPU kernel of a matrix product, from `shaders/matmul.wgsl` and `matmul_subgroup.wgsl`. The CPU ignores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum MatMulKernel {
    /// The fastest for the adapter.
    #[default]
    Auto,
    /// One invocation per element; for comparison.
    Naive,
    /// 8 x 8 elements per invocation, in registers.
    Registers,
    /// 16 x 8 elements per invocation, with one operand shared by subgroup broadcast. An error unless all subgroups
    /// have 4 invocations, or all have 8.
    Subgroup,
    /// 64 x 64 elements per workgroup, tiled in workgroup memory.
    Tiled,
}

/// `activation(a · b + bias)`. Inputs: a `[.., m, k]`, b `[.., k, n]` and optionally bias `[n]`.
struct MatMul {
    kernel: MatMulKernel,
    activation: Activation,
}

/// The sizes and strides of a product.
struct Plan {
    m: usize,
    n: usize,
    k: usize,
    /// The operands' layouts over the broadcast batch axes.
    batch: [Layout; 2],
    /// Row and column strides of a, then of b.
    strides: [usize; 4],
}

impl Plan {
    fn new(a: &Layout, b: &Layout, out: &Shape) -> Result<Plan> {
        let rank = out.rank();
        let batch_shape = Shape::new(&out[..rank - 2])?;
        let lead = |x: &Layout| -> Result<Layout> {
            let axes = x.shape.rank() - 2;
            let mut strides = [0; MAX_RANK];
            strides[..axes].copy_from_slice(&x.strides[..axes]);
            Layout { shape: Shape::new(&x.shape[..axes])?, strides, offset: x.offset }
                .expand(batch_shape, "matmul")
        };
        let last = |x: &Layout| (x.strides[x.shape.rank() - 2], x.strides[x.shape.rank() - 1]);
        let ((a_row, a_col), (b_row, b_col)) = (last(a), last(b));
        Ok(Plan {
            m: out[rank - 2],
            n: out[rank - 1],
            k: a.shape[a.shape.rank() - 1],
            batch: [lead(a)?, lead(b)?],
            strides: [a_row, a_col, b_row, b_col],
        })
    }

    fn batches(&self) -> usize {
        self.batch[0].shape.numel()
    }

    /// The offsets of matrix `index` of each operand.
    fn starts(&self, index: usize) -> [usize; 2] {
        self.batch.map(|layout| {
            let mut rest = index;
            (0..layout.shape.rank()).rev().fold(layout.offset, |at, axis| {
                let step = rest % layout.shape[axis] * layout.strides[axis];
                rest /= layout.shape[axis];
                at + step
            })
        })
    }
}

impl Op for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        floats("matmul", inputs)?;
        let (a, b) = (inputs[0].shape, inputs[1].shape);
        let wrong = |what: String| Err(Error::shape("matmul", what));
        if a.rank() < 2 || b.rank() < 2 {
            return wrong(format!("shapes {a} and {b}: both need two axes or more"));
        }
        let ((lead_a, [m, k]), (lead_b, [k2, n])) = (a.split_at(a.rank() - 2), b.split_at(b.rank() - 2))
        else {
            return wrong(format!("shapes {a} and {b}"));
        };
        if k != k2 {
            return wrong(format!(
                "shapes {a} and {b}: the last axis of the first is not the last but one of the second"
            ));
        }
        if *k > LONGEST {
            return wrong(format!(
                "an inner axis of {k} is longer than the {LONGEST} that the kernels can sum"
            ));
        }
        if let Some(bias) = inputs.get(2).filter(|bias| bias.shape != [*n]) {
            return wrong(format!("a bias of shape {} for {n} columns", bias.shape));
        }
        let batch = Shape::new(lead_a)?.broadcast(&Shape::new(lead_b)?, "matmul")?;
        Ok(vec![Meta::f32(Shape::new([&batch[..], &[*m, *n]].concat())?)])
    }

    fn flops(&self, inputs: &[Meta], outputs: &[Meta]) -> u64 {
        let k = inputs[0].shape.last().copied().unwrap_or(0);
        product_flops(outputs[0], outputs[0].numel(), k, inputs.len() > 2, self.activation)
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let out = &mut outputs[0];
        let plan = Plan::new(&inputs[0].layout, &inputs[1].layout, &out.shape)?;
        let [a_row, a_col, b_row, b_col] = plan.strides;
        let size = plan.m * plan.n;
        let one = |index: usize, c: &mut [f32], parallel: bool| {
            if plan.k == 0 {
                return c.fill(0.0);
            }
            let [a, b] = plan.starts(index);
            let a = Matrix { data: &inputs[0].data[a..], rows: a_row, cols: a_col };
            let b = Matrix { data: &inputs[1].data[b..], rows: b_row, cols: b_col };
            gemm(c, (plan.m, plan.n, plan.k), a, b, false, parallel);
        };
        if plan.batches() == 1 {
            one(0, out.data, true);
        } else {
            out.data.par_chunks_mut(size).enumerate().for_each(|(index, c)| one(index, c, false));
        }
        let bias = inputs.get(2);
        if bias.is_some() || self.activation != Activation::None {
            out.data.par_chunks_mut(plan.n).for_each(|row| {
                if let Some(bias) = bias {
                    let step = bias.layout.strides[0];
                    row.iter_mut()
                        .enumerate()
                        .for_each(|(j, y)| *y += bias.data[bias.layout.offset + j * step]);
                }
                row.iter_mut().for_each(|y| *y = self.activation.apply(*y));
            });
        }
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (a, b, c) = (inputs[0], inputs[1], outputs[0]);
        let plan = Plan::new(&a.layout, &b.layout, &c.shape)?;
        let w = |n: usize| to_u32("matmul", n);
        let batches = plan.batches();
        let subgroup = rec.subgroup_size().filter(|size| [4, 8].contains(size));
        let choice = match self.kernel {
            MatMulKernel::Auto if !rec.is_software() && rec.takes_tiles() => MatMulKernel::Tiled,
            MatMulKernel::Auto if subgroup.is_some() => MatMulKernel::Subgroup,
            MatMulKernel::Auto => MatMulKernel::Registers,
            chosen => chosen,
        };
        let activation = self.activation as u32;
        // The kernel, its constants, the rows and columns of a tile, and the tiles per workgroup.
        let (kernel, constants, rows, cols, pieces): (_, &[u32], _, _, _) = match (choice, subgroup) {
            (MatMulKernel::Naive, _) => (&NAIVE, &[activation], 1, 1, 64),
            (MatMulKernel::Registers, _) => (&REGISTERS, &[activation], 8, 8, 64),
            (MatMulKernel::Subgroup, Some(size)) => {
                (&SUBGROUP, &[activation, size], 16, 8 * size as usize, 64 / size as usize)
            }
            (MatMulKernel::Subgroup, None) => {
                let message =
                    "this adapter's subgroups are not all of 4 or 8 invocations; use MatMulKernel::Auto";
                return Err(Error::argument("matmul", message));
            }
            (MatMulKernel::Tiled | MatMulKernel::Auto, _) => (&TILED, &[activation], 64, 64, 1),
        };
        let tiles = plan.m.div_ceil(rows) * plan.n.div_ceil(cols) * batches;
        let slices = SLICING.cut(tiles / pieces, plan.k, 1).count;
        let partial = if slices > 1 { Some(rec.scratch(c.shape.numel() * slices)?) } else { None };
        // Without a bias a buffer must still be bound; the kernel does not read it.
        let (bias, has_bias) = inputs.get(2).map_or((&a, 0), |bias| (bias, 1));
        let (bias_offset, bias_step) = (w(bias.layout.offset)?, w(bias.layout.strides[0])?);
        let [a_row, a_col, b_row, b_col] = plan.strides;
        let params = Params {
            indexer: StridedIndexer::new("matmul", plan.batch)?,
            m: w(plan.m)?,
            n: w(plan.n)?,
            k: w(plan.k)?,
            batches: w(batches)?,
            a_row: w(a_row)?,
            a_col: w(a_col)?,
            b_row: w(b_row)?,
            b_col: w(b_col)?,
            slices: w(slices)?,
            bias_offset,
            bias_step,
            has_bias,
        };
        w(c.shape.numel() * slices)?;
        w(tiles * slices)?;
        let to = partial.as_ref().unwrap_or(c.buffer);
        let groups = (tiles * slices).div_ceil(pieces);
        rec.dispatch(kernel, constants, &[a.buffer, b.buffer, bias.buffer, to], &params, groups)?;
        let Some(partial) = partial else { return Ok(()) };
        let epilogue =
            Epilogue { columns: plan.n, bias: inputs.get(2).copied(), activation: self.activation };
        add_slices(rec, "matmul", [&partial, c.buffer], [slices, c.shape.numel()], epilogue)
    }

    fn saves(&self) -> Saves {
        match self.activation {
            Activation::None => Saves { inputs: &[0, 1], outputs: &[] },
            _ => Saves { inputs: &[0, 1], outputs: &[0] },
        }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let dz = match self.activation {
            Activation::None => grad.clone(),
            activation => activation.backward(saved.output(0)?, grad)?,
        };
        let (a, b) = (saved.input(0)?, saved.input(1)?);
        let da = || {
            if is_transposed(a) { b.matmul(&dz.t()?)?.t() } else { dz.matmul(&b.t()?) }
        };
        let db = || {
            if is_transposed(b) { dz.t()?.matmul(a)?.t() } else { a.t()?.matmul(&dz) }
        };
        let mut grads = vec![needs[0].then(da).transpose()?, needs[1].then(db).transpose()?];
        if let Some(&needs_bias) = needs.get(2) {
            grads.push(needs_bias.then_some(dz));
        }
        Ok(grads)
    }
}

/// Whether a matrix is a transposed view. Then the gradient is computed transposed and transposed back, so that the
/// leaf's gradient is contiguous, as optimizers need it.
fn is_transposed(x: &Tensor) -> bool {
    let layout = x.layout();
    let (row, col) = (layout.strides[x.rank() - 2], layout.strides[x.rank() - 1]);
    row < col && layout.shape[x.rank() - 2] > 1
}

/// How k is cut (split-K). The units of work are workgroups; no loop exceeds 65,535 iterations.
const SLICING: Slicing =
    Slicing { units_wanted: 64, shortest: 512, most_slices: usize::MAX, longest: 16 << 10 };
/// The longest inner axis: 60,000 slices, which the second dispatch adds in one loop.
const LONGEST: usize = 60_000 * SLICING.longest;

impl Tensor {
    /// The matrix product over the last two axes, `[.., m, k] · [.., k, n] -> [.., m, n]`.
    ///
    /// Leading axes broadcast. Transposed views are read in place.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], &Device::cpu())?;
    /// let y = Tensor::from_slice(&[1.0, 10.0, 100.0], [3, 1], &Device::cpu())?;
    /// assert_eq!(x.matmul(&y)?.to_vec()?, [321.0, 654.0]); // 1 + 2 · 10 + 3 · 100, ..
    /// let batch = Tensor::ones([5, 2, 3], x.device())?;
    /// assert_eq!(batch.matmul(&y)?.shape(), [5, 2, 1]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Fewer than two axes, inner lengths that differ or exceed 983,040,000, batch axes that do not broadcast, a tensor
    /// of ids, or the device fails.
    #[track_caller]
    pub fn matmul(&self, other: &Tensor) -> Result<Tensor> {
        self.matmul_with(other, None, Activation::None, MatMulKernel::Auto)
    }

    /// `activation(self · other + bias)` in one kernel, with a bias of shape `[n]`. `kernel` chooses the GPU kernel.
    ///
    /// ```
    /// # use gristmill::{Activation, Device, MatMulKernel, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0], [1, 2], &Device::cpu())?;
    /// let weight = Tensor::from_slice(&[1.0, 0.0, 0.0, -1.0], [2, 2], &Device::cpu())?;
    /// let bias = Tensor::from_slice(&[10.0, 1.0], [2], &Device::cpu())?;
    /// let y = x.matmul_with(&weight, Some(&bias), Activation::Relu, MatMulKernel::Auto)?;
    /// assert_eq!(y.to_vec()?, [11.0, 0.0]); // without the activation [11, -1]
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::matmul`], a bias of another shape, or a kernel that the adapter does not support.
    #[track_caller]
    pub fn matmul_with(
        &self,
        other: &Tensor,
        bias: Option<&Tensor>,
        activation: Activation,
        kernel: MatMulKernel,
    ) -> Result<Tensor> {
        let op = MatMul { kernel, activation };
        match bias {
            Some(bias) => apply(op, &[self, other, bias]),
            None => apply(op, &[self, other]),
        }
    }

    /// A dense layer: `activation(self · weightᵀ + bias)` with `self` `[.., in]`, `weight` `[out, in]` and `bias`
    /// `[out]`, to `[.., out]`.
    ///
    /// ```
    /// # use gristmill::{Activation, Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0], [1, 2], &Device::cpu())?;
    /// let weight = Tensor::from_slice(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], [3, 2], &Device::cpu())?;
    /// let bias = Tensor::from_slice(&[0.0, 0.0, 10.0], [3], &Device::cpu())?;
    /// let y = x.linear(&weight, Some(&bias), Activation::None)?;
    /// assert_eq!(y.to_vec()?, [1.0, 2.0, 13.0]); // one result for each row of the weight
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Shapes that do not fit, tensors of ids, or the device fails.
    #[track_caller]
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Tensor> {
        let (shape, weight_shape) = (self.shape(), weight.shape());
        let (Some((&inputs, lead)), &[out, wanted]) = (shape.split_last(), &weight_shape[..]) else {
            let message = format!("input {shape} and weight {weight_shape}: wants [.., in] and [out, in]");
            return Err(Error::shape("linear", message));
        };
        if inputs != wanted {
            let message =
                format!("input {shape} has {inputs} features, weight {weight_shape} takes {wanted}");
            return Err(Error::shape("linear", message));
        }
        // Flattened to one matrix, so that the weight's gradient is one product, not a sum over batches.
        let rows = self.reshape([lead.iter().product(), inputs])?;
        let y = rows.matmul_with(&weight.t()?, bias, activation, MatMulKernel::Auto)?;
        y.reshape([lead, &[out]].concat())
    }
}
