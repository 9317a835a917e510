//! The LSTM and GRU cells: the part of a time step after the matrix products.

use super::{WG, arity, floats, to_u32};
use crate::cpu::CpuDevice;
use crate::cpu::functions::{sigmoid, tanh};
use crate::cpu::strided::GRAIN;
use crate::gpu::{Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, Saved, Saves, apply, apply_all};
use crate::tensor::Tensor;
use crate::{Error, Result, params};
use rayon::prelude::*;
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&LSTM, &LSTM_GRAD, &GRU, &GRU_GRAD];

static LSTM: Kernel =
    kernel!("lstm_cell.wgsl", "lstm_cell", reads: 3, writes: 2, params: LstmParams, "WG": &[WG]);
static LSTM_GRAD: Kernel = kernel!("lstm_cell_grad.wgsl", "lstm_cell_grad", reads: 5, writes: 2, params: LstmGradParams, "WG": &[WG]);
static GRU: Kernel =
    kernel!("gru_cell.wgsl", "gru_cell", reads: 3, writes: 1, params: GruParams, "WG": &[WG]);
static GRU_GRAD: Kernel =
    kernel!("gru_cell_grad.wgsl", "gru_cell_grad", reads: 4, writes: 3, params: GruGradParams, "WG": &[WG]);

params! {
    struct LstmParams {
        count: u32, units: u32, x_offset: u32, h_offset: u32, c_offset: u32, pad: [u32; 3],
    }
}

params! {
    struct LstmGradParams {
        count: u32, units: u32, x_offset: u32, h_offset: u32, c_offset: u32, dh_offset: u32,
        dc_offset: u32, pad: u32,
    }
}

params! {
    struct GruParams { count: u32, units: u32, x_offset: u32, h_offset: u32, s_offset: u32, pad: [u32; 3] }
}

params! {
    struct GruGradParams {
        count: u32, units: u32, x_offset: u32, h_offset: u32, s_offset: u32, ds_offset: u32,
        pad: [u32; 2],
    }
}

/// Checks two inputs `[.., gates * units]` and a state `[.., units]`; returns the state's.
#[track_caller]
fn step(op: &'static str, inputs: &[Meta], gates: usize) -> Result<Meta> {
    let [x, h, state] = arity(op, inputs)?;
    floats(op, inputs)?;
    let fits = match (x.shape.split_last(), state.shape.split_last()) {
        (Some((wide, outer)), Some((units, own))) => {
            x.shape == h.shape && outer == own && *wide == units.saturating_mul(gates)
        }
        _ => false,
    };
    match fits {
        true => Ok(Meta::f32(state.shape)),
        false => {
            let message = format!(
                "gates of shapes {} and {} for a state {}, should both be [.., {gates} units] for [.., units]",
                x.shape, h.shape, state.shape
            );
            Err(Error::shape(op, message))
        }
    }
}

/// The rows of a contiguous input, each of `units` elements.
fn rows<'a>(x: CpuView<'a>, units: usize) -> impl IndexedParallelIterator<Item = &'a [f32]> {
    x.slice().par_chunks(units)
}

/// The fewest rows per rayon task.
fn least(units: usize) -> usize {
    // The functions of the gates cost more than the ops that GRAIN is meant for.
    (GRAIN / 8).div_ceil(units)
}

/// The element count, the units, and the inputs' offsets, as u32.
fn words<const N: usize>(op: &'static str, state: GpuView, inputs: &[GpuView]) -> Result<[u32; N]> {
    let shape = state.layout.shape;
    to_u32(op, 4 * shape.numel())?;
    let sizes = [shape.numel(), shape[shape.rank() - 1]];
    let all = sizes.into_iter().chain(inputs.iter().map(|input| input.layout.offset));
    let all = all.map(|value| to_u32(op, value)).collect::<Result<Vec<u32>>>()?;
    all.try_into().map_err(|_| Error::shape(op, "another number of inputs"))
}

/// The activated gates of one LSTM unit, and its new cell state.
struct LstmUnit {
    input: f32,
    forget: f32,
    candidate: f32,
    output: f32,
    cell: f32,
}

impl LstmUnit {
    #[inline(always)]
    fn new([i, f, g, o]: [f32; 4], c: f32) -> LstmUnit {
        let [input, forget, output] = [i, f, o].map(sigmoid);
        let candidate = tanh(g);
        LstmUnit { input, forget, candidate, output, cell: forget * c + input * candidate }
    }
}

/// Inputs: the gates from the input, the gates from the hidden state, and c. Outputs: h' and c', both differentiable.
struct Lstm;

impl Op for Lstm {
    fn name(&self) -> &'static str {
        "lstm_cell"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        Ok(vec![step(self.name(), inputs, 4)?; 2])
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        // Of each unit: four sums and functions of the gates, and five operations for the two states.
        outputs[0].numel().saturating_mul(4 + 4 + 5)
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let [h_next, c_next] = outputs else { return Err(Error::shape(self.name(), "has two outputs")) };
        let units = h_next.shape[h_next.shape.rank() - 1];
        let gates = rows(inputs[0], 4 * units).zip(rows(inputs[1], 4 * units)).zip(rows(inputs[2], units));
        let next = h_next.data.par_chunks_mut(units).zip(c_next.data.par_chunks_mut(units));
        next.zip(gates).with_min_len(least(units)).for_each(|((h_next, c_next), ((x, h), c))| {
            for j in 0..units {
                let unit = LstmUnit::new([0, 1, 2, 3].map(|k| x[j + k * units] + h[j + k * units]), c[j]);
                c_next[j] = unit.cell;
                h_next[j] = unit.output * tanh(unit.cell);
            }
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let [count, units, x_offset, h_offset, c_offset] = words(self.name(), inputs[2], inputs)?;
        let params = LstmParams { count, units, x_offset, h_offset, c_offset, pad: [0; 3] };
        let buffers =
            [inputs[0].buffer, inputs[1].buffer, inputs[2].buffer, outputs[0].buffer, outputs[1].buffer];
        rec.dispatch(&LSTM, &[WG], &buffers, &params, (count as usize).div_ceil(WG as usize))
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[0, 1, 2], outputs: &[] }
    }

    fn differentiable(&self) -> usize {
        2
    }

    fn backward_all(
        &self,
        saved: &Saved,
        grads: &[Option<Tensor>],
        _: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        let c = saved.input(2)?;
        // A missing gradient is 0: usually that of the last c', since losses use only h'.
        let given = |at: usize| match &grads[at] {
            Some(grad) => Ok(grad.clone()),
            None => Tensor::zeros(c.shape(), c.device()),
        };
        let inputs = [saved.input(0)?, saved.input(1)?, c, &given(0)?, &given(1)?];
        let mut outputs = apply_all(LstmGrad, &inputs)?.into_iter();
        let da = outputs.next();
        Ok(vec![da.clone(), da, outputs.next()])
    }
}

/// The gradients for the gates and c. Inputs: the inputs of [`Lstm`], then the gradients of h' and c'.
struct LstmGrad;

impl Op for LstmGrad {
    fn name(&self) -> &'static str {
        "lstm_cell_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        Ok(vec![inputs[0], inputs[2]])
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        // Of each unit: the gates and c' again; the gradient of c', those of the four gates, and that of c.
        outputs[1].numel().saturating_mul(4 + 4 + 3 + 7 + (4 + 4 + 5 + 4) + 1)
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let [da, dc] = outputs else { return Err(Error::shape(self.name(), "has two outputs")) };
        let units = dc.shape[dc.shape.rank() - 1];
        let gates = rows(inputs[0], 4 * units).zip(rows(inputs[1], 4 * units)).zip(rows(inputs[2], units));
        let grads = rows(inputs[3], units).zip(rows(inputs[4], units));
        let to = da.data.par_chunks_mut(4 * units).zip(dc.data.par_chunks_mut(units));
        let all = to.zip(gates).zip(grads).with_min_len(least(units));
        all.for_each(|(((da, dc), ((x, h), c)), (dh, dc_next))| {
            for j in 0..units {
                let a = [0, 1, 2, 3].map(|k| x[j + k * units] + h[j + k * units]);
                let unit = LstmUnit::new(a, c[j]);
                let (tanh_c, d) = (tanh(unit.cell), dh[j]);
                let d_cell = dc_next[j] + d * unit.output * ((1.0 - tanh_c) * (1.0 + tanh_c));
                da[j] = d_cell * unit.candidate * (unit.input * sigmoid(-a[0]));
                da[j + units] = d_cell * c[j] * (unit.forget * sigmoid(-a[1]));
                da[j + 2 * units] = d_cell * unit.input * ((1.0 - unit.candidate) * (1.0 + unit.candidate));
                da[j + 3 * units] = d * tanh_c * (unit.output * sigmoid(-a[3]));
                dc[j] = d_cell * unit.forget;
            }
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let [count, units, x_offset, h_offset, c_offset, dh_offset, dc_offset] =
            words(self.name(), inputs[2], inputs)?;
        let params =
            LstmGradParams { count, units, x_offset, h_offset, c_offset, dh_offset, dc_offset, pad: 0 };
        let buffers: Vec<_> =
            inputs.iter().map(|input| input.buffer).chain(outputs.iter().map(|out| out.buffer)).collect();
        rec.dispatch(&LSTM_GRAD, &[WG], &buffers, &params, (count as usize).div_ceil(WG as usize))
    }
}

/// The activated gates of one GRU unit.
struct GruUnit {
    reset: f32,
    update: f32,
    /// 1 - update, without cancellation.
    rest: f32,
    candidate: f32,
}

impl GruUnit {
    #[inline(always)]
    fn new(x: [f32; 3], h: [f32; 3]) -> GruUnit {
        let (reset, update) = (sigmoid(x[0] + h[0]), x[1] + h[1]);
        let candidate = tanh(x[2] + reset * h[2]);
        GruUnit { reset, update: sigmoid(update), rest: sigmoid(-update), candidate }
    }
}

/// Inputs: the gates from the input, the gates from the state, and the state. Output: the next state.
struct Gru;

impl Op for Gru {
    fn name(&self) -> &'static str {
        "gru_cell"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        Ok(vec![step(self.name(), inputs, 3)?])
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        // Of each unit: three sums and functions of the gates, and six operations for the next state.
        outputs[0].numel().saturating_mul(3 + 3 + 6)
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let next = &mut outputs[0];
        let units = next.shape[next.shape.rank() - 1];
        let gates = rows(inputs[0], 3 * units).zip(rows(inputs[1], 3 * units)).zip(rows(inputs[2], units));
        let all = next.data.par_chunks_mut(units).zip(gates).with_min_len(least(units));
        all.for_each(|(next, ((x, h), s))| {
            for (j, next) in next.iter_mut().enumerate() {
                let unit =
                    GruUnit::new([0, 1, 2].map(|k| x[j + k * units]), [0, 1, 2].map(|k| h[j + k * units]));
                *next = unit.rest * unit.candidate + unit.update * s[j];
            }
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let [count, units, x_offset, h_offset, s_offset] = words(self.name(), inputs[2], inputs)?;
        let params = GruParams { count, units, x_offset, h_offset, s_offset, pad: [0; 3] };
        let buffers = [inputs[0].buffer, inputs[1].buffer, inputs[2].buffer, outputs[0].buffer];
        rec.dispatch(&GRU, &[WG], &buffers, &params, (count as usize).div_ceil(WG as usize))
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[0, 1, 2], outputs: &[] }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let inputs = [saved.input(0)?, saved.input(1)?, saved.input(2)?, grad];
        Ok(apply_all(GruGrad, &inputs)?.into_iter().map(Some).collect())
    }
}

/// The gradients for the inputs of [`Gru`]. Inputs: the inputs of [`Gru`], then the gradient of the next state.
struct GruGrad;

impl Op for GruGrad {
    fn name(&self) -> &'static str {
        "gru_cell_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        Ok(inputs[..3].to_vec())
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        // Of each unit: the gates again; the gradients of candidate, reset and update, of the candidate's part from h, and of h.
        outputs[2].numel().saturating_mul(4 + 4 + (5 + 5 + 4) + 1 + 1)
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let [dx, dh, ds] = outputs else { return Err(Error::shape(self.name(), "has three outputs")) };
        let units = ds.shape[ds.shape.rank() - 1];
        let gates = rows(inputs[0], 3 * units).zip(rows(inputs[1], 3 * units));
        let states = rows(inputs[2], units).zip(rows(inputs[3], units));
        let to = dx.data.par_chunks_mut(3 * units).zip(dh.data.par_chunks_mut(3 * units));
        let all = to.zip(ds.data.par_chunks_mut(units)).zip(gates).zip(states).with_min_len(least(units));
        all.for_each(|((((dx, dh), ds), (x, h)), (s, ds_next))| {
            for j in 0..units {
                let [x, h] = [x, h].map(|of| [0, 1, 2].map(|k| of[j + k * units]));
                let (unit, d) = (GruUnit::new(x, h), ds_next[j]);
                let d_candidate = d * unit.rest * ((1.0 - unit.candidate) * (1.0 + unit.candidate));
                let d_reset = d_candidate * h[2] * (unit.reset * sigmoid(-(x[0] + h[0])));
                let d_update = d * (s[j] - unit.candidate) * (unit.update * unit.rest);
                for (k, (of_x, of_h)) in
                    [(d_reset, d_reset), (d_update, d_update), (d_candidate, d_candidate * unit.reset)]
                        .into_iter()
                        .enumerate()
                {
                    (dx[j + k * units], dh[j + k * units]) = (of_x, of_h);
                }
                ds[j] = d * unit.update;
            }
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let [count, units, x_offset, h_offset, s_offset, ds_offset] = words(self.name(), inputs[2], inputs)?;
        let params = GruGradParams { count, units, x_offset, h_offset, s_offset, ds_offset, pad: [0; 2] };
        let buffers: Vec<_> =
            inputs.iter().map(|input| input.buffer).chain(outputs.iter().map(|out| out.buffer)).collect();
        rec.dispatch(&GRU_GRAD, &[WG], &buffers, &params, (count as usize).div_ceil(WG as usize))
    }
}

impl Tensor {
    /// One LSTM step after its matrix products, in one kernel; returns `[h', c']`.
    ///
    /// With `a = self + hidden`, `c' = sigmoid(a_f) c + sigmoid(a_i) tanh(a_g)` and `h' = sigmoid(a_o) tanh(c')`
    /// ([Hochreiter & Schmidhuber](https://doi.org/10.1162/neco.1997.9.8.1735)). `self` and `hidden` are
    /// `[.., 4 units]` with the gates in PyTorch's order i, f, g, o; c is `[.., units]`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let gates = Tensor::zeros([1, 4], &Device::cpu())?; // sigmoid(0) = ½, tanh(0) = 0
    /// let [h, c] = gates.lstm_cell(&gates, &Tensor::full([1, 1], 4.0, &Device::cpu())?)?;
    /// assert_eq!(c.to_vec()?, [2.0]); // ½ · 4 + ½ · 0
    /// assert!((h.item()? - 0.5 * 2f32.tanh()).abs() < 1e-6);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Shapes that do not fit, tensors of ids, or the device fails.
    #[track_caller]
    pub fn lstm_cell(&self, hidden: &Tensor, c: &Tensor) -> Result<[Tensor; 2]> {
        let outputs = apply_all(Lstm, &[self, hidden, c])?;
        outputs.try_into().map_err(|_| Error::shape("lstm_cell", "an output is missing"))
    }

    /// One GRU step after its matrix products, in one kernel; returns the next state.
    ///
    /// With x = `self` and h = `hidden`: `r = sigmoid(x_r + h_r)`, `z = sigmoid(x_z + h_z)`, `n = tanh(x_n + r h_n)`,
    /// and the result is `(1 - z) n + z state` ([Cho et al.](https://arxiv.org/abs/1406.1078)). `self` and `hidden` are
    /// `[.., 3 units]` with the gates in PyTorch's order r, z, n; `state` is `[.., units]`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let gates = Tensor::zeros([1, 3], &Device::cpu())?; // sigmoid(0) = ½, tanh(0) = 0
    /// let state = Tensor::full([1, 1], 4.0, &Device::cpu())?;
    /// assert_eq!(gates.gru_cell(&gates, &state)?.to_vec()?, [2.0]); // ½ · 0 + ½ · 4
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::lstm_cell`].
    #[track_caller]
    pub fn gru_cell(&self, hidden: &Tensor, state: &Tensor) -> Result<Tensor> {
        apply(Gru, &[self, hidden, state])
    }
}
