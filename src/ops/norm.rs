//! P-norms over any axes.

use super::reduce::{Reduce, ReduceOp};
use super::reduction::{Axes, CpuReduction, GpuReduction, LANES, Params, WG, reduce};
use super::{StridedIndexer, arity, to_u32};
use crate::cpu::CpuDevice;
use crate::cpu::strided::rows;
use crate::gpu::{Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves, apply};
use crate::tensor::Tensor;
use crate::{Error, Result, params};
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&NORM, &NORM_GRAD];

const NAME: &str = "norm";
/// The largest finite p. The p-th power of a mantissa then fits f32, and so does the sum of 2^32 such powers.
const MOST: f32 = 64.0;

static NORM: Kernel = kernel!("norm.wgsl", "norm", reads: 1, writes: 1, params: Params,
    "SQUARE": &[0, 1], "PARTS": &[0, 1], "FLAT": &[0, 1], "WG": &[WG], "LANES": LANES);
static NORM_GRAD: Kernel = kernel!("norm_grad.wgsl", "norm_grad", reads: 3, writes: 1, params: GradParams,
    "OP": &[0, 1, 2, 3], "WG": &[super::WG]);

params! {
    struct GradParams { indexer: StridedIndexer, count: u32, power: f32, pad: [u32; 2] }
}

/// `(Σ |x|^p)^(1/p)`; the largest `|x|` for infinite p, the number of nonzero x for p = 0.
#[derive(Clone, Copy)]
struct Norm {
    p: f32,
    axes: Axes,
}

/// A partial result: the sum of `(|x| / 2^exponent)^p` and the exponent, biased; as in `norm.wgsl`.
#[derive(Clone, Copy)]
struct Scaled {
    exponent: u32,
    sum: f32,
}

impl Scaled {
    const NONE: Scaled = Scaled { exponent: 0, sum: 0.0 };
    const INFINITE: u32 = 255;
    const BROKEN: u32 = 256;

    fn of(x: f32, p: f32) -> Scaled {
        let (exponent, fraction) = (x.to_bits() >> 23 & 255, x.to_bits() & 0x7f_ffff);
        match exponent {
            0 => Scaled::NONE,
            Scaled::INFINITE if fraction != 0 => Scaled { exponent: Scaled::BROKEN, sum: 1.0 },
            _ => Scaled { exponent, sum: f32::from_bits(fraction | 0x3f80_0000).powf(p) },
        }
    }

    fn and(self, other: Scaled, p: f32) -> Scaled {
        let (low, high) = if self.exponent > other.exponent { (other, self) } else { (self, other) };
        let shrunk = (-p * (high.exponent - low.exponent) as f32).exp2();
        Scaled { exponent: high.exponent, sum: low.sum * shrunk + high.sum }
    }

    fn root(self, p: f32) -> f32 {
        match self.exponent {
            0 => 0.0,
            Scaled::INFINITE => f32::INFINITY,
            Scaled::BROKEN => f32::NAN,
            exponent => f32::from_bits(exponent << 23) * self.sum.powf(1.0 / p),
        }
    }
}

impl Norm {
    /// The reduction of `reduce.wgsl` that computes this norm, if there is one.
    fn plain(&self) -> Option<Reduce> {
        let op = match self.p {
            0.0 => ReduceOp::Count,
            1.0 => ReduceOp::AbsSum,
            f32::INFINITY => ReduceOp::AbsMax,
            _ => return None,
        };
        Some(Reduce { op, axes: self.axes })
    }
}

impl Op for Norm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta::f32(self.axes.infer(NAME, inputs, self.p == f32::INFINITY)?)])
    }

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        // The power, and the sum.
        inputs[0].numel().saturating_mul(2)
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let p = self.p;
        if let Some(reduce) = self.plain() {
            return reduce.cpu(cpu, inputs, outputs);
        }
        let y = outputs[0].data.iter_mut();
        if p == 2.0 {
            // No square of an f32 overflows f64.
            let squares = CpuReduction {
                identity: 0.0,
                update: |sum, x: f32, _| sum + f64::from(x) * f64::from(x),
                merge: |a, b| a + b,
            };
            let mut sums = cpu.filled(0.0, outputs[0].shape.numel())?;
            reduce(cpu, squares, inputs[0], &self.axes, &mut sums)?;
            outputs[0].data.iter_mut().zip(&*sums).for_each(|(y, sum): (_, &f64)| *y = sum.sqrt() as f32);
            return Ok(());
        }
        let powers = CpuReduction {
            identity: Scaled::NONE,
            update: |sum: Scaled, x, _| sum.and(Scaled::of(x, p), p),
            merge: |a: Scaled, b| a.and(b, p),
        };
        let mut states = cpu.filled(Scaled::NONE, outputs[0].shape.numel())?;
        reduce(cpu, powers, inputs[0], &self.axes, &mut states)?;
        y.zip(&*states).for_each(|(y, state)| *y = state.root(p));
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        if let Some(reduce) = self.plain() {
            return reduce.gpu(rec, inputs, outputs);
        }
        let square = u32::from(self.p == 2.0);
        let constants = [&[square, 0][..], &[square, 1]];
        let reduction = GpuReduction { name: NAME, kernel: &NORM, constants, words: 2, value: self.p };
        reduction.dispatch(rec, inputs[0], &self.axes, outputs[0].buffer)
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[0], outputs: &[0] }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (x, y) = (saved.input(0)?, saved.output(0)?);
        let dx = match self.p {
            0.0 => Tensor::zeros(x.shape(), x.device())?,
            // Split evenly among all elements that equal the maximum, as in PyTorch.
            f32::INFINITY => {
                let ties = x.abs()?.same(y)?;
                let count = apply(Reduce { op: ReduceOp::Sum, axes: self.axes }, &[&ties])?;
                apply(NormGrad { p: self.p }, &[x, y, &grad.div(&count)?])?
            }
            p => apply(NormGrad { p }, &[x, y, grad])?,
        };
        Ok(vec![Some(dx)])
    }
}

/// The gradient of [`Norm`]: `sign(x) (|x| / y)^(p - 1) dy`. Inputs: x, the norm y, and dy; for infinite p, dy divided
/// by the number of maxima.
struct NormGrad {
    p: f32,
}

impl NormGrad {
    fn slope(&self, x: f32, y: f32) -> f32 {
        let sign = if x == 0.0 { 0.0 } else { x.signum() };
        match self.p {
            _ if x.is_nan() => x,
            1.0 => sign,
            f32::INFINITY => {
                if x.abs() == y {
                    sign
                } else {
                    0.0
                }
            }
            _ if y.is_nan() => y,
            _ if x == 0.0 || y == 0.0 => 0.0,
            p => sign * (x.abs() / y).powf(p - 1.0),
        }
    }
}

impl Op for NormGrad {
    fn name(&self) -> &'static str {
        "norm_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x, _, _] = arity(self.name(), inputs)?;
        Ok(vec![Meta::f32(x.shape)])
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        // The power, and the product with the scale.
        outputs[0].numel().saturating_mul(2)
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let shape = outputs[0].shape;
        let [x, y, dy] = [inputs[0], inputs[1], inputs[2]];
        let layouts = [x.layout, y.layout.expand(shape, NAME)?, dy.layout.expand(shape, NAME)?];
        rows(outputs[0].data, layouts, |dx, [x0, y0, d0], [xs, ys, ds]| {
            for (j, dx) in dx.iter_mut().enumerate() {
                *dx = self.slope(x.data[x0 + j * xs], y.data[y0 + j * ys]) * dy.data[d0 + j * ds];
            }
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (shape, name) = (outputs[0].shape, self.name());
        let [x, y, dy] = [inputs[0], inputs[1], inputs[2]];
        let layouts = [x.layout, y.layout.expand(shape, NAME)?, dy.layout.expand(shape, NAME)?];
        let count = shape.numel();
        let params = GradParams {
            indexer: StridedIndexer::new(name, layouts)?,
            count: to_u32(name, count)?,
            power: self.p - 1.0,
            pad: [0; 2],
        };
        let op = match self.p {
            2.0 => 1,
            1.0 => 2,
            f32::INFINITY => 3,
            _ => 0,
        };
        let buffers = [x.buffer, y.buffer, dy.buffer, outputs[0].buffer];
        rec.dispatch(&NORM_GRAD, &[op, super::WG], &buffers, &params, count.div_ceil(super::WG as usize))
    }
}

impl Tensor {
    /// The p-norm over `axes`, `(Σ |x|^p)^(1/p)`, as PyTorch's `linalg.vector_norm`.
    ///
    /// For infinite p it is the largest `|x|`, for p = 0 the number of nonzero x. For p of 1 or more it overflows only
    /// if the result does, since powers are computed relative to a power of two near the largest element. NaN gives
    /// NaN, except for p = 0.
    ///
    /// The gradient is 0 at 0; for infinite p it is split evenly among the maxima. Negative axes count from the end;
    /// `keepdim` keeps the reduced axes with length 1.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[3e30, -4e30], [2], &Device::cpu())?;
    /// assert_eq!(x.norm(2.0, &[0], false)?.item()?, 5e30);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A p that is negative, NaN, or finite and over 64; no such axis, or one named twice; an empty reduced axis for
    /// infinite p; a tensor of ids, or the device fails.
    #[track_caller]
    pub fn norm(&self, p: f32, axes: &[isize], keepdim: bool) -> Result<Tensor> {
        if p.is_nan() || p < 0.0 || (p > MOST && p.is_finite()) {
            let message = format!("p = {p} is not in 0 to {MOST} or infinite, for shape {}", self.shape());
            return Err(Error::argument(NAME, message));
        }
        self.reduce_by(NAME, axes, keepdim, |axes| Norm { p, axes })
    }
}
