//! Ops used only in training: dropout, and the steps of the optimizers.

use crate::nn::Parameter;
use crate::optim::{Adam, AdamW, Optimizer, Sgd};
use crate::proof::{Array, Bounded, Case, Gen, Input, Kind, Row};
use crate::random::{Use, words};
use crate::tensor::Tensor;

pub(super) const ROWS: &[Row] = &[
    Row { name: "dropout", covers: &["dropout"], draw: dropout, bench: None },
    Row { name: "sgd", covers: &[], draw: sgd, bench: None },
    Row { name: "adam", covers: &[], draw: adam, bench: None },
    Row { name: "adamw", covers: &[], draw: adamw, bench: None },
];

/// The mask depends on integers only, so it must match exactly.
fn dropout(g: &mut Gen) -> Case {
    let shape = g.shape(4);
    let probability = match g.below(4) {
        0 => g.choose(&[0.0, 1e-9, 0.5, 1.0 - f64::from(f32::EPSILON) / 2.0, 1.0]),
        _ => g.number(0.0, 1.0),
    };
    let (seed, offset) = (g.bits(), g.bits());
    let x = g.values(&shape, -3.0, 3.0);
    let masked = move |x: &Array| {
        let threshold = probability * 4_294_967_296.0;
        let kept = |at: usize| {
            let word = words(seed, Use::Dropout, offset, (at / 4) as u32)[at % 4];
            f64::from(word) >= threshold.floor() && probability < 1.0
        };
        let scale = Bounded::rounded(1.0 / (1.0 - probability));
        let data = x.data.iter().enumerate().map(|(at, &x)| match kept(at) {
            true if probability == 0.0 => x,
            true => x * scale,
            false => Bounded::ZERO,
        });
        Array { shape: x.shape.clone(), data: data.collect() }
    };
    let run = move |t: &[Tensor]| t[0].dropout(probability as f32, seed, offset);
    Case::new(format!("probability {probability}"), vec![x], run, move |x| masked(&x[0]))
        .gradient(move |_, dy| vec![Some(masked(dy))])
}

/// One step of an optimizer. `step` maps the number of the step, an element's gradient, and its old weight and state to
/// the new weight and state. Inputs: the weight, the gradient, and after the first step one state tensor for each of
/// `names`. The output is the new weight or one of the new state tensors.
fn update<O: Optimizer>(
    g: &mut Gen,
    names: &'static [&'static str],
    optimizer: impl Fn(Parameter) -> O + 'static,
    step: impl Fn(u32, Bounded, [Bounded; 3]) -> [Bounded; 3] + 'static,
) -> Case {
    let shape = g.shape(3);
    let done = if g.flag() { g.range(1..=2000) as u32 } else { 0 };
    let shown = g.below(1 + names.len());
    let mut inputs = vec![g.constants(&shape, -3.0, 3.0), g.constants(&shape, -3.0, 3.0)];
    if done > 0 && !names.is_empty() {
        inputs.push(g.constants(&shape, -2.0, 2.0));
    }
    if done > 0 && names.len() == 2 {
        // A running mean of squares: not negative, so without special values.
        let squares: Vec<f64> = (0..inputs[0].array.numel()).map(|_| g.number(0.0, 4.0)).collect();
        inputs.push(Input { array: Array::exact(&*shape, &squares), kind: Kind::Constant });
    }
    let run = move |t: &[Tensor]| {
        let parameter = Parameter::new(&t[0])?;
        let named = [("w".to_string(), parameter.clone())];
        let mut optimizer = optimizer(parameter.clone());
        if done > 0 && !names.is_empty() {
            let step = Tensor::from_ids(&[done], [], t[0].device())?;
            let tensors =
                names.iter().zip(&t[2..]).map(|(name, tensor)| (format!("w.{name}"), tensor.clone()));
            let state: Vec<_> = [("w.step".to_string(), step)].into_iter().chain(tensors).collect();
            optimizer.load_state(&named, &state)?;
        }
        // The optimizer gets the gradient with the layout of t[1].
        optimizer.step(&parameter.tensor().backward_from(&t[1])?)?;
        match shown {
            0 => Ok(parameter.tensor().detach()),
            at => Ok(optimizer.state(&named)?[at].1.clone()),
        }
    };
    let reference = move |x: &[Array]| {
        let state = |at: usize, which: usize| match x.get(which) {
            Some(array) => array.data[at],
            None => Bounded::ZERO,
        };
        let element =
            |at: usize| step(done + 1, x[1].data[at], [x[0].data[at], state(at, 2), state(at, 3)])[shown];
        Array { shape: x[0].shape.clone(), data: (0..x[0].numel()).map(element).collect() }
    };
    Case::new(format!("step {}, shows {shown}", done + 1), inputs, run, reference)
}

/// A weight decay; 0 in half of the cases.
fn decay(g: &mut Gen) -> f64 {
    if g.flag() { 0.0 } else { g.number(1e-4, 0.5) }
}

fn sgd(g: &mut Gen) -> Case {
    let (rate, decay) = (g.number(1e-3, 1.0), decay(g));
    let momentum = if g.one_in(3) { 0.0 } else { g.number(0.1, 1.0) };
    let nesterov = momentum > 0.0 && g.flag();
    let dampening = if nesterov { 0.0 } else { g.number(0.0, 1.0) };
    let build = move |w| {
        Sgd::new([w], rate as f32)
            .momentum(momentum as f32)
            .dampening(dampening as f32)
            .nesterov(nesterov)
            .weight_decay(decay)
    };
    let names: &[&str] = if momentum > 0.0 { &["momentum_buffer"] } else { &[] };
    update(g, names, build, move |t, g, [w, v, _]| {
        let d = if decay == 0.0 { g } else { g + w * decay };
        if momentum == 0.0 {
            return [w - d * rate, v, v];
        }
        let fresh = if t == 1 { Bounded::ONE } else { Bounded::rounded(1.0 - dampening) };
        let v = v * momentum + d * fresh;
        let along = if nesterov { d + v * momentum } else { v };
        [w - along * rate, v, v]
    })
}

fn adam(g: &mut Gen) -> Case {
    adam_of(g, false)
}

fn adamw(g: &mut Gen) -> Case {
    adam_of(g, true)
}

fn adam_of(g: &mut Gen, decoupled: bool) -> Case {
    let (rate, decay) = (g.number(1e-4, 0.5), decay(g));
    let betas = (g.number(0.0, 0.99), g.number(0.5, 0.9999));
    let eps = 10f64.powf(g.number(-10.0, -2.0));
    let step = move |t: u32, g: Bounded, [mut w, m, v]: [Bounded; 3]| {
        let mut d = g;
        if decoupled && decay > 0.0 {
            w = w * Bounded::rounded(1.0 - rate * decay);
        } else if decay > 0.0 {
            d = g + w * decay;
        }
        let mean = |beta: f64, old: Bounded, new: Bounded| old * beta + new * Bounded::rounded(1.0 - beta);
        let m = mean(betas.0, m, d);
        // In the order of the kernel: (1 - beta) d d.
        let v = v * betas.1 + d * Bounded::rounded(1.0 - betas.1) * d;
        let bias = |beta: f64| 1.0 - beta.powf(f64::from(t));
        let below = v.sqrt() * Bounded::rounded(1.0 / bias(betas.1).sqrt()) + Bounded::rounded(eps);
        [w - m * Bounded::rounded(rate / bias(betas.0)) / below, m, v]
    };
    const NAMES: &[&str] = &["exp_avg", "exp_avg_sq"];
    match decoupled {
        true => {
            let build =
                move |w| AdamW::new([w], rate as f32).betas(betas.0, betas.1).eps(eps).weight_decay(decay);
            update(g, NAMES, build, step)
        }
        false => {
            let build =
                move |w| Adam::new([w], rate as f32).betas(betas.0, betas.1).eps(eps).weight_decay(decay);
            update(g, NAMES, build, step)
        }
    }
}
