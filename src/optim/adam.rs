//! Adam and AdamW.

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

pub(super) static ADAM: Kernel = kernel!("adam.wgsl", "adam", reads: 1, writes: 3, params: Params,
    "DECAY": &[0, 1, 2], "ALIGNED": &[0, 1], "WG": &[WG]);

params! {
    /// The factors of a step, from the hyperparameters and the step number. The dispatch sets `count` and `offset`.
    struct Params {
        count: u32, offset: u32, decay: f32, keep: f32, beta1: f32, fresh1: f32, beta2: f32,
        fresh2: f32, step: f32, scale: f32, eps: f32,
    }
}

/// The kind of weight decay, with its number in `adam.wgsl`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Decay {
    /// Added to the gradient: Adam.
    Penalty = 1,
    /// Subtracted from the weight: AdamW.
    Decoupled = 2,
}

/// Adam and AdamW: they differ only in the kind of weight decay.
struct Core {
    op: &'static str,
    decay: Decay,
    betas: (f64, f64),
    eps: f64,
    state: State,
}

impl Core {
    fn new(op: &'static str, decay: Decay, state: State) -> Core {
        Core { op, decay, betas: (0.9, 0.999), eps: 1e-8, state }
    }

    #[track_caller]
    fn step(&mut self, gradients: &Gradients) -> Result<()> {
        let &mut Core { op, decay, betas, eps, .. } = self;
        demand(op, (0.0..=f64::from(f32::MAX)).contains(&eps), "eps", eps, "at least 0 and finite as f32")?;
        for beta in [betas.0, betas.1] {
            demand(op, (0.0..1.0).contains(&beta), "beta", beta, "in [0, 1)")?;
        }
        self.state.step(gradients, |Rates { rate, weight_decay }, step| {
            // In f64: in f32, `1 - 0.999` has a relative error of about 1e-5.
            let bias = |beta: f64| 1.0 - beta.powf(f64::from(step));
            let params = Params {
                count: 0,
                offset: 0,
                decay: weight_decay as f32,
                keep: (1.0 - f64::from(rate) * weight_decay) as f32,
                beta1: betas.0 as f32,
                fresh1: (1.0 - betas.0) as f32,
                beta2: betas.1 as f32,
                fresh2: (1.0 - betas.1) as f32,
                step: (f64::from(rate) / bias(betas.0)) as f32,
                scale: bias(betas.1).sqrt().recip() as f32,
                eps: eps as f32,
            };
            let decay = if weight_decay == 0.0 { None } else { Some(decay) };
            Update { op, decay, params }
        })
    }
}

macro_rules! optimizer {
    ($(#[$doc:meta])* $name:ident, $op:literal, $decay:expr, $default:literal) => {
        $(#[$doc])*
        ///
        /// The betas default to 0.9 and 0.999, `eps` to 1e-8. Factors common to all elements are computed on the host
        /// in f64. The state is `step`, `exp_avg` (m) and `exp_avg_sq` (v).
        pub struct $name(Core);

        impl $name {
            /// For these parameters, with the default hyperparameters.
            pub fn new(parameters: impl IntoIterator<Item = Parameter>, learning_rate: f32) -> $name {
                let state =
                    State::new($op, &["exp_avg", "exp_avg_sq"], parameters, learning_rate, $default);
                $name(Core::new($op, $decay, state))
            }

            /// The decay rates of the running means of the gradient and of its square, each in `[0, 1)`.
            pub fn betas(mut self, beta1: f64, beta2: f64) -> $name {
                self.0.betas = (beta1, beta2);
                self
            }

            /// Added to the denominator; at least 0.
            pub fn eps(mut self, eps: f64) -> $name {
                self.0.eps = eps;
                self
            }

            /// The factor of the weight decay, at least 0.
            pub fn weight_decay(mut self, weight_decay: f64) -> $name {
                self.0.state.weight_decay = weight_decay;
                self
            }
        }

        impl Optimizer for $name {
            #[track_caller]
            fn step(&mut self, gradients: &Gradients) -> Result<()> {
                self.0.step(gradients)
            }

            by_state!(0.state);
        }
    };
}

optimizer! {
    /// Adam (Kingma & Ba, [arXiv:1412.6980](https://arxiv.org/abs/1412.6980), algorithm 1). At step `t`, with
    /// gradient `g` and weight `w`:
    ///
    /// ```text
    /// d = g + weight_decay·w                    an L2 penalty, by default none
    /// m = β₁·m + (1 - β₁)·d
    /// v = β₂·v + (1 - β₂)·d²
    /// w = w - lr·(m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + eps)
    /// ```
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::Parameter, optim::{Adam, Optimizer}};
    /// let w = Parameter::new(&Tensor::full([1], 5.0, &Device::cpu())?)?;
    /// let mut adam = Adam::new([w.clone()], 0.5).betas(0.9, 0.99).eps(1e-7).weight_decay(0.0);
    /// adam.step(&w.tensor().square()?.backward()?)?;
    /// assert!((w.tensor().item()? - 4.5).abs() < 1e-5); // the first step has the length of the learning rate
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    Adam, "adam", Decay::Penalty, 0.0
}

optimizer! {
    /// AdamW (Loshchilov & Hutter, [arXiv:1711.05101](https://arxiv.org/abs/1711.05101), algorithm 2): [`Adam`] with
    /// decoupled weight decay, by default 0.01:
    ///
    /// ```text
    /// w = w·(1 - lr·weight_decay)
    /// m = β₁·m + (1 - β₁)·g
    /// v = β₂·v + (1 - β₂)·g²
    /// w = w - lr·(m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + eps)
    /// ```
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, nn::Parameter, optim::{AdamW, Optimizer}};
    /// let w = Parameter::new(&Tensor::full([1], 5.0, &Device::cpu())?)?;
    /// let mut adam = AdamW::new([w.clone()], 0.5).weight_decay(0.2);
    /// adam.step(&w.tensor().square()?.backward()?)?;
    /// assert!((w.tensor().item()? - 4.0).abs() < 1e-5); // 5 · (1 - 0.5 · 0.2) - 0.5
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    AdamW, "adamw", Decay::Decoupled, 0.01
}

/// One step. Inputs: the gradient, and on the CPU the old parameter. Outputs: the parameter, m and v.
struct Update {
    op: &'static str,
    decay: Option<Decay>,
    params: Params,
}

impl Update {
    /// One loop per kind of decay, so that the compiler can vectorise it.
    fn each(
        &self,
        [grad, before]: [&[f32]; 2],
        [w, m, v]: [&mut [f32]; 3],
        decay: impl Fn(&mut f32, f32) -> f32 + Sync,
    ) {
        let Params { beta1, fresh1, beta2, fresh2, step, scale, eps, .. } = self.params;
        let states = w.par_chunks_mut(GRAIN).zip(m.par_chunks_mut(GRAIN)).zip(v.par_chunks_mut(GRAIN));
        let inputs = grad.par_chunks(GRAIN).zip(before.par_chunks(GRAIN));
        states.zip(inputs).for_each(|(((w, m), v), (grad, before))| {
            w.copy_from_slice(before);
            for (((w, m), v), &g) in w.iter_mut().zip(m).zip(v).zip(grad) {
                let d = decay(w, g);
                *m = beta1 * *m + fresh1 * d;
                *v = beta2 * *v + fresh2 * d * d;
                *w -= step * *m / (v.sqrt() * scale + eps);
            }
        });
    }
}

impl Op for Update {
    fn name(&self) -> &'static str {
        self.op
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        infer(self.op, inputs, 3)
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        // The mean of the gradient; that of its square; root, scale, eps, quotient, product and difference of the step.
        outputs[0].numel().saturating_mul(3 + 4 + 6)
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let [w, m, v] = outputs else { return Ok(()) };
        let inputs = [inputs[0].slice(), inputs[1].slice()];
        let states = [&mut *w.data, &mut *m.data, &mut *v.data];
        let Params { decay, keep, .. } = self.params;
        match self.decay {
            None => self.each(inputs, states, |_, g| g),
            Some(Decay::Penalty) => self.each(inputs, states, |w, g| g + decay * *w),
            Some(Decay::Decoupled) => self.each(inputs, states, |w, g| {
                *w *= keep;
                g
            }),
        }
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (grad, [w, m, v]) = (inputs[0], [outputs[0], outputs[1], outputs[2]]);
        let count = w.shape.numel();
        let offset = to_u32(self.op, grad.layout.offset)?;
        let params = Params { count: to_u32(self.op, count)?, offset, ..self.params };
        let constants = [self.decay.map_or(0, |decay| decay as u32), u32::from(offset % 4 == 0), WG];
        let buffers = [grad.buffer, w.buffer, m.buffer, v.buffer];
        rec.dispatch(&ADAM, &constants, &buffers, &params, workgroups(count))
    }
}
