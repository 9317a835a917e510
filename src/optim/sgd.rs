//! Stochastic gradient descent.

use super::state::{Rates, State};
use super::{Optimizer, ParameterGroup, by_state, demand, infer, workgroups};
use crate::autograd::Gradients;
use crate::cpu::CpuDevice;
use crate::cpu::strided::GRAIN;
use crate::gpu::{Kernel, Recorder, kernel};
use crate::nn::Parameter;
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op};
use crate::ops::{WG, to_u32};
use crate::tensor::Tensor;
use crate::{Result, params};
use rayon::prelude::*;
use std::sync::Arc;

pub(super) static SGD: Kernel = kernel!("sgd.wgsl", "sgd", reads: 1, writes: 1, params: Params,
    "DECAY": &[0, 1], "NESTEROV": &[0], "ALIGNED": &[0, 1], "WG": &[WG]);
pub(super) static SGD_MOMENTUM: Kernel = kernel!("sgd.wgsl", "sgd_momentum", reads: 1, writes: 2, params: Params,
    "DECAY": &[0, 1], "NESTEROV": &[0, 1], "ALIGNED": &[0, 1], "WG": &[WG]);

params! {
    struct Params { count: u32, offset: u32, rate: f32, decay: f32, momentum: f32, fresh: f32 }
}

/// Stochastic gradient descent with optional momentum and weight decay, as in PyTorch. With gradient `g` and weight
/// `w`:
///
/// ```text
/// d = g + weight_decay·w
/// v = momentum·v + (1 - dampening)·d        v = d at the first step
/// w = w - lr·v                              w - lr·(d + momentum·v) with Nesterov's momentum
/// ```
///
/// Sutskever, Martens, Dahl & Hinton, [ICML 2013](https://proceedings.mlr.press/v28/sutskever13.html). With momentum,
/// the state is `momentum_buffer`.
///
/// ```
/// # use gristmill::{Device, Tensor, nn::Parameter, optim::{Optimizer, Sgd}};
/// let w = Parameter::new(&Tensor::full([1], 5.0, &Device::cpu())?)?;
/// let mut sgd = Sgd::new([w.clone()], 1.0).momentum(0.5);
/// for _ in 0..2 {
///     sgd.step(&w.tensor().sum_all()?.backward()?)?; // the gradient is 1
/// }
/// assert_eq!(w.tensor().to_vec()?, [2.5]); // 5 - 1 - (0.5 · 1 + 1)
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct Sgd {
    momentum: f32,
    nesterov: bool,
    dampening: f32,
    state: State,
}

#[derive(Clone, Copy)]
struct Hyperparameters {
    rate: f32,
    decay: f32,
    momentum: f32,
}

impl Sgd {
    /// For these parameters: no momentum, no weight decay.
    pub fn new(parameters: impl IntoIterator<Item = Parameter>, learning_rate: f32) -> Sgd {
        let state = State::new("sgd", &[], parameters, learning_rate, 0.0);
        Sgd { momentum: 0.0, nesterov: false, dampening: 0.0, state }
    }

    /// The factor of the last velocity, at least 0. Set it before the first step: it resets the state.
    pub fn momentum(mut self, momentum: f32) -> Sgd {
        self.momentum = momentum;
        self.state.set_names(if momentum == 0.0 { &[] } else { &["momentum_buffer"] });
        self
    }

    /// The gradient enters the velocity with weight `1 - dampening`, but fully at the first step.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::Parameter, optim::{Optimizer, Sgd}};
    /// # let w = Parameter::new(&Tensor::full([1], 5.0, &Device::cpu())?)?;
    /// let mut sgd = Sgd::new([w.clone()], 1.0).momentum(0.5).dampening(0.5); // of a parameter 5
    /// for _ in 0..2 {
    ///     sgd.step(&w.tensor().sum_all()?.backward()?)?; // the gradient is 1
    /// }
    /// assert_eq!(w.tensor().to_vec()?, [3.0]); // 5 - 1 - (0.5 · 1 + 0.5 · 1)
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn dampening(mut self, dampening: f32) -> Sgd {
        self.dampening = dampening;
        self
    }

    /// Nesterov's momentum; requires momentum, and no dampening.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::Parameter, optim::{Optimizer, Sgd}};
    /// let w = Parameter::new(&Tensor::full([1], 5.0, &Device::cpu())?)?;
    /// let mut sgd = Sgd::new([w.clone()], 1.0).momentum(0.5).nesterov(true);
    /// sgd.step(&w.tensor().sum_all()?.backward()?)?; // the gradient is 1
    /// assert_eq!(w.tensor().to_vec()?, [3.5]); // 5 - (1 + 0.5 · 1)
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn nesterov(mut self, nesterov: bool) -> Sgd {
        self.nesterov = nesterov;
        self
    }

    /// The factor of the weight in the gradient (L2 penalty), at least 0.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::Parameter, optim::{Optimizer, Sgd}};
    /// let w = Parameter::new(&Tensor::full([1], 5.0, &Device::cpu())?)?;
    /// let mut sgd = Sgd::new([w.clone()], 1.0).weight_decay(0.5);
    /// sgd.step(&w.tensor().sum_all()?.backward()?)?; // the gradient is 1
    /// assert_eq!(w.tensor().to_vec()?, [1.5]); // 5 - (1 + 0.5 · 5)
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn weight_decay(mut self, weight_decay: f64) -> Sgd {
        self.state.weight_decay = weight_decay;
        self
    }

    fn check(&self) -> Result<()> {
        let (momentum, dampening) = (self.momentum, self.dampening);
        let fits = (0.0..f32::INFINITY).contains(&momentum);
        demand("sgd", fits, "momentum", momentum, "finite and at least 0")?;
        demand("sgd", dampening.is_finite(), "dampening", dampening, "finite")?;
        let fits = !self.nesterov || (momentum > 0.0 && dampening == 0.0);
        demand("sgd", fits, "nesterov", "true", "allowed without momentum or with dampening")
    }
}

impl Optimizer for Sgd {
    #[track_caller]
    fn step(&mut self, gradients: &Gradients) -> Result<()> {
        self.check()?;
        let (momentum, nesterov, dampening) = (self.momentum, self.nesterov, self.dampening);
        let hyper = move |Rates { rate, weight_decay }| Hyperparameters {
            rate,
            decay: weight_decay as f32,
            momentum,
        };
        if momentum == 0.0 {
            return self.state.step(gradients, |rates, _| Plain(hyper(rates)));
        }
        self.state.step(gradients, |rates, step| {
            let fresh = if step == 1 { 1.0 } else { 1.0 - dampening };
            Momentum { hyper: hyper(rates), fresh, nesterov }
        })
    }

    by_state!(state);
}

impl Hyperparameters {
    /// The gradient plus weight decay. A decay of 0 is skipped, because 0 times an infinite weight is NaN.
    fn decayed(self, g: f32, w: f32) -> f32 {
        if self.decay == 0.0 { g } else { g + self.decay * w }
    }

    fn params(self, name: &'static str, grad: &GpuView, fresh: f32) -> Result<Params> {
        let Hyperparameters { rate, decay, momentum } = self;
        let (count, offset) = (to_u32(name, grad.layout.shape.numel())?, to_u32(name, grad.layout.offset)?);
        Ok(Params { count, offset, rate, decay, momentum, fresh })
    }
}

/// The step without momentum. Inputs: the gradient, and on the CPU the old parameter. Output: the parameter.
struct Plain(Hyperparameters);

impl Op for Plain {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        infer(self.name(), inputs, 1)
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        outputs[0].numel().saturating_mul(2)
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let hyper = self.0;
        let [grad, before] = [0, 1].map(|at: usize| inputs[at].slice().par_chunks(GRAIN));
        outputs[0].data.par_chunks_mut(GRAIN).zip(grad.zip(before)).for_each(|(w, (grad, before))| {
            w.copy_from_slice(before);
            for (w, &g) in w.iter_mut().zip(grad) {
                *w -= hyper.rate * hyper.decayed(g, *w);
            }
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (grad, w) = (inputs[0], outputs[0]);
        let params = self.0.params(self.name(), &grad, 0.0)?;
        let constants = [u32::from(self.0.decay != 0.0), 0, u32::from(params.offset % 4 == 0), WG];
        rec.dispatch(&SGD, &constants, &[grad.buffer, w.buffer], &params, workgroups(w.shape.numel()))
    }
}

/// The step with momentum. Inputs: the gradient, and on the CPU the old parameter. Outputs: the parameter and its
/// velocity.
struct Momentum {
    hyper: Hyperparameters,
    /// The weight of the gradient in the velocity.
    fresh: f32,
    nesterov: bool,
}

impl Op for Momentum {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        infer(self.name(), inputs, 2)
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        outputs[0].numel().saturating_mul(4)
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let &Momentum { hyper, fresh, nesterov } = self;
        let [w, v] = outputs else { return Ok(()) };
        let states = w.data.par_chunks_mut(GRAIN).zip(v.data.par_chunks_mut(GRAIN));
        let [grad, before] = [0, 1].map(|at: usize| inputs[at].slice().par_chunks(GRAIN));
        states.zip(grad.zip(before)).for_each(|((w, v), (grad, before))| {
            w.copy_from_slice(before);
            for ((w, v), &g) in w.iter_mut().zip(v).zip(grad) {
                let d = hyper.decayed(g, *w);
                *v = hyper.momentum * *v + fresh * d;
                *w -= hyper.rate * if nesterov { d + hyper.momentum * *v } else { *v };
            }
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (grad, w, v) = (inputs[0], outputs[0], outputs[1]);
        let params = self.hyper.params(self.name(), &grad, self.fresh)?;
        let [decay, nesterov, aligned] =
            [self.hyper.decay != 0.0, self.nesterov, params.offset % 4 == 0].map(u32::from);
        let constants = [decay, nesterov, aligned, WG];
        let buffers = [grad.buffer, w.buffer, v.buffer];
        rec.dispatch(&SGD_MOMENTUM, &constants, &buffers, &params, workgroups(w.shape.numel()))
    }
}
