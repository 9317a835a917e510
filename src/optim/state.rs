//! Groups of parameters, the state of each parameter, and the update loop common to all optimizers.

use super::demand;
use crate::autograd::Gradients;
use crate::dry_run;
use crate::nn::Parameter;
use crate::op::{self, Op};
use crate::tensor::Tensor;
use crate::{DType, Error, Result};
use std::collections::{HashMap, HashSet};

/// Parameters that an optimizer updates with a learning rate and a weight decay of their own, as `param_groups` in
/// PyTorch.
///
/// ```
/// # use gristmill::{Device, Tensor, nn::Parameter, optim::{Optimizer, ParameterGroup, Sgd}};
/// # let ones = Tensor::ones([1], &Device::cpu())?;
/// let (backbone, head) = (Parameter::new(&ones)?, Parameter::new(&ones)?);
/// let mut sgd = Sgd::new([backbone.clone()], 0.25);
/// sgd.add_group(ParameterGroup::new([head.clone()]).learning_rate(0.5).weight_decay(0.0))?;
/// sgd.step(&backbone.tensor().add(&head.tensor())?.backward()?)?; // both gradients are 1
/// assert_eq!((backbone.tensor().item()?, head.tensor().item()?), (0.75, 0.5));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ParameterGroup {
    parameters: Vec<Parameter>,
    rate: Option<f32>,
    weight_decay: Option<f64>,
}

impl ParameterGroup {
    /// These parameters, with the optimizer's learning rate and weight decay.
    pub fn new(parameters: impl IntoIterator<Item = Parameter>) -> ParameterGroup {
        ParameterGroup { parameters: parameters.into_iter().collect(), rate: None, weight_decay: None }
    }

    /// The group's learning rate before a schedule changes it: see [`Optimizer::set_learning_rate`](super::Optimizer).
    pub fn learning_rate(self, rate: f32) -> ParameterGroup {
        ParameterGroup { rate: Some(rate), ..self }
    }

    /// The group's weight decay.
    pub fn weight_decay(self, weight_decay: f64) -> ParameterGroup {
        ParameterGroup { weight_decay: Some(weight_decay), ..self }
    }
}

/// The learning rate and the weight decay of one group in one step.
#[derive(Clone, Copy)]
pub(super) struct Rates {
    pub(super) rate: f32,
    pub(super) weight_decay: f64,
}

/// What all optimizers hold: the groups, and the state of each parameter from its first update on.
pub(super) struct State {
    /// The optimizer's name, for messages.
    op: &'static str,
    /// PyTorch's names of an entry's tensors.
    names: &'static [&'static str],
    groups: Vec<ParameterGroup>,
    /// The learning rate that the optimizer was made with, and the present one.
    initial_rate: f32,
    pub(super) rate: f32,
    pub(super) weight_decay: f64,
    /// By [`Parameter::id`].
    entries: HashMap<u64, Entry>,
}

struct Entry {
    /// The number of updates so far.
    steps: u32,
    /// One per name, each of the parameter's shape.
    tensors: Vec<Tensor>,
}

impl State {
    pub(super) fn new(
        op: &'static str,
        names: &'static [&'static str],
        parameters: impl IntoIterator<Item = Parameter>,
        rate: f32,
        weight_decay: f64,
    ) -> State {
        let groups = vec![ParameterGroup::new(parameters)];
        State { op, names, groups, initial_rate: rate, rate, weight_decay, entries: HashMap::new() }
    }

    /// Other tensors per entry, before the first step.
    pub(super) fn set_names(&mut self, names: &'static [&'static str]) {
        self.names = names;
        self.entries.clear();
    }

    /// See [`Optimizer::add_group`](super::Optimizer::add_group).
    #[track_caller]
    pub(super) fn add_group(&mut self, group: ParameterGroup) -> Result<()> {
        let known: HashSet<u64> = self.parameters().map(Parameter::id).collect();
        if let Some(parameter) = group.parameters.iter().find(|parameter| known.contains(&parameter.id())) {
            let message = format!("a parameter of shape {} is in another group already", parameter.shape());
            return Err(Error::argument(self.op, message));
        }
        self.groups.push(group);
        Ok(())
    }

    fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.groups.iter().flat_map(|group| &group.parameters)
    }

    /// The rates of each group: a schedule that halves the optimizer's learning rate halves each group's.
    fn rates(&self) -> Result<Vec<Rates>> {
        let factor = if self.rate == self.initial_rate || self.initial_rate == 0.0 {
            1.0
        } else {
            f64::from(self.rate) / f64::from(self.initial_rate)
        };
        let rates = |group: &ParameterGroup| {
            let rate = group.rate.map_or(self.rate, |rate| (f64::from(rate) * factor) as f32);
            let weight_decay = group.weight_decay.unwrap_or(self.weight_decay);
            for (name, value) in [("learning rate", f64::from(rate)), ("weight_decay", weight_decay)] {
                let fits = (0.0..=f64::from(f32::MAX)).contains(&value);
                demand(self.op, fits, name, value, "at least 0 and finite as f32")?;
            }
            Ok(Rates { rate, weight_decay })
        };
        self.groups.iter().map(rates).collect()
    }

    /// Updates each parameter that has a gradient by the op that `rule` returns for its group's rates and the step
    /// number, which starts at 1. The op's outputs are the parameter and the entry's tensors. Its input is the gradient;
    /// on the CPU also the old parameter, because there the parameter moves to a new buffer.
    #[track_caller]
    pub(super) fn step<O: Op>(
        &mut self,
        gradients: &Gradients,
        rule: impl Fn(Rates, u32) -> O,
    ) -> Result<()> {
        let rates = self.rates()?;
        let mut seen = HashSet::new();
        let mut updates = Vec::new();
        for (group, rates) in self.groups.iter().zip(rates) {
            for parameter in &group.parameters {
                let held = parameter.tensor();
                let wrong = |message: String| {
                    Err(Error::shape(self.op, format!("a parameter of shape {}: {message}", held.shape())))
                };
                if !seen.insert(parameter.id()) {
                    return wrong("the optimizer was given it twice".to_string());
                }
                let Some(grad) = gradients.find(&held) else { continue };
                if grad.shape() != held.shape() {
                    return wrong(format!("its gradient has shape {}", grad.shape()));
                }
                updates.push((parameter, grad, rates));
            }
        }

        if dry_run::is_active() {
            let flops =
                |(_, grad, rates): (_, &Tensor, _)| rule(rates, 1).flops(&[grad.meta()], &[grad.meta()]);
            updates.into_iter().map(flops).for_each(dry_run::count);
            return Ok(());
        }
        // Allocates all states before the first update: running out of memory here changes no parameter.
        for (parameter, grad, _) in &updates {
            if !self.entries.contains_key(&parameter.id()) {
                let zeros = |_: &&str| Tensor::zeros(grad.shape(), grad.device());
                let tensors = self.names.iter().map(zeros).collect::<Result<_>>()?;
                self.entries.insert(parameter.id(), Entry { steps: 0, tensors });
            }
        }
        for (parameter, grad, rates) in updates {
            let Some(entry) = self.entries.get_mut(&parameter.id()) else { continue };
            for tensor in &mut entry.tensors {
                *tensor = tensor.to(grad.device())?;
            }
            let steps = entry.steps.saturating_add(1);
            let rule = rule(rates, steps);
            if grad.device().is_gpu() {
                let mut held = parameter.lock();
                let mut states: Vec<&mut Tensor> =
                    std::iter::once(&mut *held).chain(&mut entry.tensors).collect();
                op::update(rule, &[grad], &mut states)?;
            } else {
                // Without the lock: the op waits for rayon, which may run another task on this thread that uses the
                // parameter.
                let before = parameter.tensor();
                let mut after = Tensor::stale(before.shape(), before.dtype(), before.device())?;
                let mut states: Vec<&mut Tensor> =
                    std::iter::once(&mut after).chain(&mut entry.tensors).collect();
                op::update(rule, &[grad, &before], &mut states)?;
                parameter.lock().show(&after);
            }
            entry.steps = steps;
        }
        Ok(())
    }

    /// The optimizer's parameters with their names, in order.
    #[track_caller]
    fn named<'a>(&'a self, names: &'a [(String, Parameter)]) -> Result<Vec<(&'a str, &'a Parameter)>> {
        let by_id: HashMap<u64, &str> = names.iter().map(|(name, p)| (p.id(), &**name)).collect();
        let named = self.parameters().map(|parameter| match by_id.get(&parameter.id()) {
            Some(name) => Ok((*name, parameter)),
            None => {
                let message = format!("a parameter of shape {} has no name in the list", parameter.shape());
                Err(Error::argument(self.op, message))
            }
        });
        named.collect()
    }

    /// See [`Optimizer::state`](super::Optimizer::state).
    pub(super) fn export(&self, names: &[(String, Parameter)]) -> Result<Vec<(String, Tensor)>> {
        let mut all = Vec::new();
        for (name, parameter) in self.named(names)? {
            let Some(entry) = self.entries.get(&parameter.id()) else { continue };
            let Some(first) = entry.tensors.first() else { continue };
            all.push((format!("{name}.step"), Tensor::from_ids(&[entry.steps], [], first.device())?));
            let tensors = self.names.iter().zip(&entry.tensors);
            all.extend(tensors.map(|(kind, tensor)| (format!("{name}.{kind}"), tensor.clone())));
        }
        Ok(all)
    }

    /// See [`Optimizer::load_state`](super::Optimizer::load_state).
    #[track_caller]
    pub(super) fn import(&mut self, names: &[(String, Parameter)], state: &[(String, Tensor)]) -> Result<()> {
        let mut given: HashMap<&str, &Tensor> = HashMap::new();
        let mut wrong = Vec::new();
        for (name, tensor) in state {
            if given.insert(name, tensor).is_some() {
                wrong.push(format!("{name} appears twice"));
            }
        }
        let mut entries = Vec::new();
        for (name, parameter) in self.named(names)? {
            let keys: Vec<String> =
                std::iter::once(&"step").chain(self.names).map(|kind| format!("{name}.{kind}")).collect();
            let found: Vec<Option<&Tensor>> = keys.iter().map(|key| given.remove(&**key)).collect();
            if self.names.is_empty() || found.iter().all(Option::is_none) {
                continue;
            }
            let shape = parameter.shape();
            for (place, (key, found)) in keys.iter().zip(&found).enumerate() {
                match found {
                    None => wrong.push(format!("{key} is missing")),
                    Some(t) if place == 0 && (t.dtype() != DType::U32 || t.numel() != 1) => {
                        wrong.push(format!("{key} is not one u32"));
                    }
                    Some(t) if place > 0 && (t.dtype() != DType::F32 || t.shape() != shape) => {
                        wrong.push(format!("{key} is {:?} {}, should be F32 {shape}", t.dtype(), t.shape()));
                    }
                    Some(_) => {}
                }
            }
            entries.push((parameter.id(), parameter.tensor(), found));
        }
        let mut unknown: Vec<String> = given.keys().map(|name| format!("{name} is not known")).collect();
        unknown.sort();
        wrong.append(&mut unknown);
        if !wrong.is_empty() {
            return Err(Error::argument(self.op, format!("the state does not fit: {}", wrong.join(", "))));
        }
        let taken = |(id, held, found): (u64, Tensor, Vec<Option<&Tensor>>)| -> Result<(u64, Entry)> {
            let mut found = found.into_iter().flatten();
            let steps = found.next().map_or(Ok(Vec::new()), Tensor::to_ids)?.first().copied().unwrap_or(0);
            let tensors = found.map(|t| Ok(t.to(held.device())?.detach())).collect::<Result<_>>()?;
            Ok((id, Entry { steps, tensors }))
        };
        self.entries = entries.into_iter().map(taken).collect::<Result<_>>()?;
        Ok(())
    }
}
