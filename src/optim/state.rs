//! The state of an optimizer per parameter, and the update loop common to all optimizers.

use crate::autograd::Gradients;
use crate::nn::Parameter;
use crate::op::{self, Op};
use crate::tensor::Tensor;
use crate::{DType, Error, Result};
use std::collections::{HashMap, HashSet};

/// One entry per index in the list of parameters; `None` until the first update.
pub(super) struct State {
    /// The optimizer's name, for messages.
    op: &'static str,
    /// PyTorch's names of an entry's tensors.
    names: &'static [&'static str],
    entries: Vec<Option<Entry>>,
}

struct Entry {
    /// The number of updates so far.
    steps: u32,
    /// One per name, each of the parameter's shape.
    tensors: Vec<Tensor>,
}

impl State {
    pub(super) fn new(op: &'static str, names: &'static [&'static str]) -> State {
        State { op, names, entries: Vec::new() }
    }

    /// Updates each parameter that has a gradient by the op that `rule` returns for the step number, which starts at 1.
    /// The op's outputs are the parameter and the entry's tensors. Its input is the gradient; on the CPU also the old
    /// parameter, because there the parameter moves to a new buffer.
    pub(super) fn step<O: Op>(
        &mut self,
        parameters: &[Parameter],
        gradients: &Gradients,
        rule: impl Fn(u32) -> O,
    ) -> Result<()> {
        let mut seen = HashSet::new();
        let mut updates = Vec::new();
        for (at, parameter) in parameters.iter().enumerate() {
            let held = parameter.tensor();
            let wrong = |message: String| {
                Err(Error::shape(self.op, format!("parameter {at}, of shape {}: {message}", held.shape())))
            };
            if !seen.insert(parameter.id()) {
                return wrong("it is in the list twice".to_string());
            }
            let Some(grad) = gradients.get(&held) else { continue };
            if grad.shape() != held.shape() {
                return wrong(format!("its gradient has shape {}", grad.shape()));
            }
            let known = self.entries.get(at).and_then(Option::as_ref);
            if let Some(kept) = known.and_then(|e| e.tensors.iter().find(|t| t.shape() != held.shape())) {
                let shape = kept.shape();
                return wrong(format!("the state of its place has shape {shape}; keep the list's order"));
            }
            updates.push((at, grad));
        }

        // Allocates all states before the first update: running out of memory here changes no parameter.
        if self.entries.len() < parameters.len() {
            self.entries.resize_with(parameters.len(), || None);
        }
        for &(at, grad) in &updates {
            if self.entries[at].is_none() {
                let zeros = |_: &&str| Tensor::zeros(grad.shape(), grad.device());
                let tensors = self.names.iter().map(zeros).collect::<Result<_>>()?;
                self.entries[at] = Some(Entry { steps: 0, tensors });
            }
        }
        for (at, grad) in updates {
            let Some(entry) = &mut self.entries[at] else { continue };
            for tensor in &mut entry.tensors {
                *tensor = tensor.to(grad.device())?;
            }
            let steps = entry.steps.saturating_add(1);
            let (rule, parameter) = (rule(steps), &parameters[at]);
            if grad.device().is_gpu() {
                let mut held = parameter.lock();
                let mut states: Vec<&mut Tensor> =
                    std::iter::once(&mut *held).chain(&mut entry.tensors).collect();
                op::update(rule, &[grad], &mut states)?;
            } else {
                // Without the lock: the op waits for rayon, which may run another task on this thread that uses the
                // parameter.
                let before = parameter.tensor();
                let mut after = Tensor::stale(before.shape(), before.device())?;
                let mut states: Vec<&mut Tensor> =
                    std::iter::once(&mut after).chain(&mut entry.tensors).collect();
                op::update(rule, &[grad, &before], &mut states)?;
                parameter.lock().show(&after);
            }
            entry.steps = steps;
        }
        Ok(())
    }

    /// See [`Optimizer::state`](super::Optimizer::state).
    pub(super) fn export(&self) -> Result<Vec<(String, Tensor)>> {
        let mut all = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            let Some(entry) = entry else { continue };
            let Some(first) = entry.tensors.first() else { continue };
            all.push((format!("{at}.step"), Tensor::from_ids(&[entry.steps], [], first.device())?));
            all.extend(
                self.names.iter().zip(&entry.tensors).map(|(name, t)| (format!("{at}.{name}"), t.clone())),
            );
        }
        Ok(all)
    }

    /// See [`Optimizer::load_state`](super::Optimizer::load_state).
    pub(super) fn import(&mut self, parameters: &[Parameter], state: &[(String, Tensor)]) -> Result<()> {
        let mut given: HashMap<&str, &Tensor> = HashMap::new();
        let mut wrong = Vec::new();
        for (name, tensor) in state {
            if given.insert(name, tensor).is_some() {
                wrong.push(format!("{name} is there twice"));
            }
        }
        let mut entries = Vec::new();
        for (at, parameter) in parameters.iter().enumerate() {
            let keys: Vec<String> =
                std::iter::once(&"step").chain(self.names).map(|name| format!("{at}.{name}")).collect();
            let found: Vec<Option<&Tensor>> = keys.iter().map(|key| given.remove(&**key)).collect();
            if self.names.is_empty() || found.iter().all(Option::is_none) {
                entries.push(None);
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
            entries.push(Some((found, parameter.tensor())));
        }
        let mut unknown: Vec<String> = given.keys().map(|name| format!("{name} is not known")).collect();
        unknown.sort();
        wrong.append(&mut unknown);
        if !wrong.is_empty() {
            return Err(Error::argument(self.op, format!("the state does not fit: {}", wrong.join(", "))));
        }
        let taken = |(found, held): (Vec<Option<&Tensor>>, Tensor)| -> Result<Entry> {
            let mut found = found.into_iter().flatten();
            let steps = found.next().map_or(Ok(Vec::new()), Tensor::to_ids)?.first().copied().unwrap_or(0);
            let tensors = found.map(|t| Ok(t.to(held.device())?.detach())).collect::<Result<_>>()?;
            Ok(Entry { steps, tensors })
        };
        self.entries =
            entries.into_iter().map(|entry| entry.map(taken).transpose()).collect::<Result<_>>()?;
        Ok(())
    }
}
