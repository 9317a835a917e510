//! Gated linear units: one half of an axis times a function of the other, in one pass.

use super::{WG, arity, floats, to_u32};
use crate::cpu::CpuDevice;
use crate::cpu::functions::{gelu, gelu_slope, relu, sigmoid, silu, silu_slope};
use crate::cpu::strided::GRAIN;
use crate::gpu::{GpuBuffer, Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, Saved, Saves, apply};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Error, Result, params};
use rayon::prelude::*;
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&STRIDED, &VECTOR, &GRAD_STRIDED, &GRAD_VECTOR];

const GATES: &[u32] = &[0, 1, 2, 3];

static STRIDED: Kernel =
    kernel!("glu.wgsl", "strided", reads: 1, writes: 1, params: Params, "GATE": GATES, "WG": &[WG]);
static VECTOR: Kernel =
    kernel!("glu.wgsl", "vector", reads: 1, writes: 1, params: Params, "GATE": GATES, "WG": &[WG]);
static GRAD_STRIDED: Kernel =
    kernel!("glu_grad.wgsl", "strided", reads: 2, writes: 1, params: Params, "GATE": GATES, "WG": &[WG]);
static GRAD_VECTOR: Kernel =
    kernel!("glu_grad.wgsl", "vector", reads: 2, writes: 1, params: Params, "GATE": GATES, "WG": &[WG]);

params! {
    struct Params {
        count: u32, run: u32, gate: u32, value: u32, x_offset: u32, dy_offset: u32, pad: [u32; 2],
    }
}

/// The function that is applied to the gate; the numbers match `shared/glu.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Gate {
    Sigmoid = 0,
    Silu = 1,
    Gelu = 2,
    Relu = 3,
}

/// `f(g) v` of the gate g, the first half of an axis, and the value v, the second; for the sigmoid v is the first.
#[derive(Debug, Clone, Copy)]
struct Glu {
    gate: Gate,
    axis: usize,
}

impl Glu {
    #[track_caller]
    fn half(&self, x: Shape) -> Result<Shape> {
        let length = x[self.axis];
        if !length.is_multiple_of(2) {
            let message = format!("axis {} of shape {x} has no two halves", self.axis);
            return Err(Error::shape(self.name(), message));
        }
        x.with(self.axis, length / 2)
    }

    /// Contiguous elements in a half.
    fn run(&self, x: Shape) -> usize {
        x[self.axis..].iter().product::<usize>() / 2
    }

    fn is_gate_last(&self) -> bool {
        self.gate == Gate::Sigmoid
    }

    /// The gate and the value of a block.
    fn sorted<T>(&self, halves: (T, T)) -> [T; 2] {
        if self.is_gate_last() { [halves.1, halves.0] } else { [halves.0, halves.1] }
    }

    fn dispatch(
        &self,
        rec: &mut Recorder,
        [strided, vector]: [&'static Kernel; 2],
        x: GpuView,
        dy_offset: usize,
        buffers: &[&GpuBuffer],
    ) -> Result<()> {
        let (shape, run) = (x.layout.shape, self.run(x.layout.shape));
        let fours = [run, x.layout.offset, dy_offset].iter().all(|n| n.is_multiple_of(4));
        let (kernel, step) = if fours { (vector, 4) } else { (strided, 1) };
        to_u32(self.name(), shape.numel())?;
        let count = shape.numel() / 2 / step;
        let w = |value: usize| to_u32(self.name(), value / step);
        let [gate, value] = self.sorted((0, run));
        let params = Params {
            count: to_u32(self.name(), count)?,
            run: w(run)?,
            gate: w(gate)?,
            value: w(value)?,
            x_offset: w(x.layout.offset)?,
            dy_offset: w(dy_offset)?,
            pad: [0; 2],
        };
        rec.dispatch(kernel, &[self.gate as u32, WG], buffers, &params, count.div_ceil(WG as usize))
    }
}

impl Op for Glu {
    fn name(&self) -> &'static str {
        match self.gate {
            Gate::Sigmoid => "glu",
            Gate::Silu => "swiglu",
            Gate::Gelu => "geglu",
            Gate::Relu => "reglu",
        }
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x] = arity(self.name(), inputs)?;
        floats(self.name(), inputs)?;
        Ok(vec![Meta::f32(self.half(x.shape)?)])
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        // The function, and the product.
        outputs[0].numel().saturating_mul(2)
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        // One monomorphic loop per function, so that the compiler can vectorise it.
        let (x, y) = (inputs[0], &mut *outputs[0].data);
        match self.gate {
            Gate::Sigmoid => self.each(x, y, sigmoid),
            Gate::Silu => self.each(x, y, silu),
            Gate::Gelu => self.each(x, y, gelu),
            Gate::Relu => self.each(x, y, relu),
        }
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let buffers = [inputs[0].buffer, outputs[0].buffer];
        self.dispatch(rec, [&STRIDED, &VECTOR], inputs[0], 0, &buffers)
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[0], outputs: &[] }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(apply(GluGrad(*self), &[saved.input(0)?, grad])?)])
    }
}

impl Glu {
    fn each(&self, x: CpuView, y: &mut [f32], f: impl Fn(f32) -> f32 + Sync) {
        let run = self.run(x.shape());
        let blocks = y.par_chunks_mut(run).zip(x.slice().par_chunks(2 * run));
        blocks.with_min_len(GRAIN.div_ceil(run)).for_each(|(y, x)| {
            let [g, v] = self.sorted(x.split_at(run));
            y.iter_mut().zip(g).zip(v).for_each(|((y, &g), v)| *y = f(g) * v);
        });
    }

    /// `f` returns the function and its derivative.
    fn each_gradient(&self, x: CpuView, dy: CpuView, dx: &mut [f32], f: impl Fn(f32) -> [f32; 2] + Sync) {
        let run = self.run(x.shape());
        let blocks = dx.par_chunks_mut(2 * run).zip(x.slice().par_chunks(2 * run));
        let blocks = blocks.zip(dy.slice().par_chunks(run)).with_min_len(GRAIN.div_ceil(run));
        blocks.for_each(|((dx, x), dy)| {
            let ([dg, dv], [g, v]) = (self.sorted(dx.split_at_mut(run)), self.sorted(x.split_at(run)));
            for ((((dg, dv), &g), v), d) in dg.iter_mut().zip(dv).zip(g).zip(v).zip(dy) {
                let [value, slope] = f(g);
                *dg = d * v * slope;
                *dv = d * value;
            }
        });
    }
}

/// The gradient of a [`Glu`]. Inputs: x and dy.
struct GluGrad(Glu);

impl Op for GluGrad {
    fn name(&self) -> &'static str {
        "glu_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x, _] = arity(self.name(), inputs)?;
        Ok(vec![Meta::f32(x.shape)])
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        // Of each half: the function or its derivative, and two products.
        outputs[0].numel().saturating_mul(3)
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (x, dy, dx) = (inputs[0], inputs[1], &mut *outputs[0].data);
        match self.0.gate {
            Gate::Sigmoid => self.0.each_gradient(x, dy, dx, |x| [sigmoid(x), sigmoid(x) * sigmoid(-x)]),
            Gate::Silu => self.0.each_gradient(x, dy, dx, |x| [silu(x), silu_slope(x)]),
            Gate::Gelu => self.0.each_gradient(x, dy, dx, |x| [gelu(x), gelu_slope(x)]),
            Gate::Relu => self.0.each_gradient(x, dy, dx, |x| [relu(x), f32::from(x > 0.0 || x.is_nan())]),
        }
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (x, dy) = (inputs[0], inputs[1]);
        let buffers = [x.buffer, dy.buffer, outputs[0].buffer];
        self.0.dispatch(rec, [&GRAD_STRIDED, &GRAD_VECTOR], x, dy.layout.offset, &buffers)
    }
}

impl Tensor {
    #[track_caller]
    fn gated(&self, gate: Gate, name: &'static str, axis: isize) -> Result<Tensor> {
        apply(Glu { gate, axis: self.shape().axis(name, axis)? }, &[self])
    }

    /// Gated linear unit ([Dauphin et al.](https://arxiv.org/abs/1612.08083)), as PyTorch's `glu`: `v sigmoid(g)`,
    /// where v is the first half of an axis and g the second.
    ///
    /// One pass over memory, and one for the gradient.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[6.0, 0.0], [1, 2], &Device::cpu())?;
    /// assert_eq!(x.glu(-1)?.to_vec()?, [3.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, one of odd length, a tensor of ids, or the device fails.
    #[track_caller]
    pub fn glu(&self, axis: isize) -> Result<Tensor> {
        self.gated(Gate::Sigmoid, "glu", axis)
    }

    /// SwiGLU ([Shazeer](https://arxiv.org/abs/2002.05202)): `silu(g) v`, where g is the first half of an axis and v
    /// the second.
    ///
    /// With the paper's matrices this tensor is `[x W | x V]`. The order of the halves is not that of [`Tensor::glu`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 10.0], [1, 2], &Device::cpu())?;
    /// let y = x.swiglu(-1)?.item()?; // silu(1) · 10
    /// assert_eq!(format!("{y:.3}"), "7.311");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::glu`].
    #[track_caller]
    pub fn swiglu(&self, axis: isize) -> Result<Tensor> {
        self.gated(Gate::Silu, "swiglu", axis)
    }

    /// GEGLU: `gelu(g) v`, with the halves as in [`Tensor::swiglu`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 10.0], [1, 2], &Device::cpu())?;
    /// let y = x.geglu(-1)?.item()?; // gelu(1) · 10
    /// assert_eq!(format!("{y:.3}"), "8.413");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::glu`].
    #[track_caller]
    pub fn geglu(&self, axis: isize) -> Result<Tensor> {
        self.gated(Gate::Gelu, "geglu", axis)
    }

    /// ReGLU: `max(g, 0) v`, with the halves as in [`Tensor::swiglu`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[3.0, -1.0, 10.0, 10.0], [1, 4], &Device::cpu())?;
    /// assert_eq!(x.reglu(-1)?.to_vec()?, [30.0, 0.0]); // max(3, 0) · 10 and max(-1, 0) · 10
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::glu`].
    #[track_caller]
    pub fn reglu(&self, axis: isize) -> Result<Tensor> {
        self.gated(Gate::Relu, "reglu", axis)
    }
}
