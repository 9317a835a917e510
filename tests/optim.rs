//! Optimizers, schedules and clipping: PyTorch's values over three steps, states, errors. The table (`tests/table.rs`)
//! compares single steps from any state with f64.
#![allow(clippy::unwrap_used)] // also in helpers, which clippy does not take for tests

mod common;

use common::*;
use gristmill::nn::Parameter;
use gristmill::optim::{Adam, AdamW, Optimizer, ParameterGroup, Schedule, Sgd, clip_grad_norm};
use gristmill::{Device, Gradients, Result, Tensor};
use proptest::prelude::*;

/// The smallest normal number.
const TINY: f64 = 1.2e-38;

/// The hyperparameters of any optimizer; `betas` tells Adam from SGD.
#[derive(Debug, Clone, Copy)]
struct Config {
    lr: f32,
    weight_decay: f32,
    momentum: f32,
    dampening: f32,
    nesterov: bool,
    betas: Option<(f64, f64)>,
    eps: f64,
    decoupled: bool,
}

const SGD: Config = Config {
    lr: 0.125,
    weight_decay: 0.0,
    momentum: 0.0,
    dampening: 0.0,
    nesterov: false,
    betas: None,
    eps: 1e-8,
    decoupled: false,
};
const ADAM: Config = Config { betas: Some((0.9, 0.999)), ..SGD };

impl Config {
    fn build(self, parameters: &[Parameter]) -> Box<dyn Optimizer> {
        let (all, decay) = (parameters.iter().cloned(), f64::from(self.weight_decay));
        match self.betas {
            None => Box::new(
                Sgd::new(all, self.lr)
                    .momentum(self.momentum)
                    .dampening(self.dampening)
                    .nesterov(self.nesterov)
                    .weight_decay(decay),
            ),
            Some((a, b)) if self.decoupled => {
                Box::new(AdamW::new(all, self.lr).betas(a, b).eps(self.eps).weight_decay(decay))
            }
            Some((a, b)) => Box::new(Adam::new(all, self.lr).betas(a, b).eps(self.eps).weight_decay(decay)),
        }
    }
}

fn parameter(values: &[f32], device: &Device) -> Parameter {
    Parameter::new(&Tensor::from_slice(values, [values.len()], device).unwrap()).unwrap()
}

/// Gradients in which `parameter` has the gradient `grad`.
fn gradient(parameter: &Parameter, grad: &Tensor) -> Gradients {
    parameter.tensor().backward_from(grad).unwrap()
}

fn step(optimizer: &mut dyn Optimizer, parameter: &Parameter, grad: &Tensor) -> Result<()> {
    optimizer.step(&gradient(parameter, grad))
}

/// The names that a module would give these parameters.
fn named(parameters: &[Parameter]) -> Vec<(String, Parameter)> {
    (0..).zip(parameters).map(|(at, parameter)| (format!("{at}"), parameter.clone())).collect()
}

const START: [f32; 4] = [1.0, -2.0, 0.5, 3.0];
const GRADS: [[f64; 4]; 3] = [[0.1, -0.2, 0.3, 0.0], [-0.4, 0.25, 1.5, -2.0], [0.05, 0.6, -0.7, 0.125]];

/// torch 1.13.0: `torch.optim.X([w], ...)` on f64 tensors, `w.grad` set to each row of `GRADS`, `w` after each step.
#[rustfmt::skip]
const TORCH: &[(&str, Config, [[f64; 4]; 3])] = &[
    ("SGD(lr=0.125)", SGD, [
        [0.9875, -1.975, 0.4625, 3.0],
        [1.0375, -2.00625, 0.275, 3.25],
        [1.03125, -2.08125, 0.3625, 3.234375],
    ]),
    ("SGD(lr=0.125, weight_decay=0.0625)", Config { weight_decay: 0.0625, ..SGD }, [
        [0.9796875, -1.959375, 0.45859375, 2.9765625],
        [1.02203369141, -1.97531738281, 0.267510986328, 3.20330810547],
        [1.00779905319, -2.03488521576, 0.352921056747, 3.16265726089],
    ]),
    ("SGD(lr=0.125, momentum=0.875)", Config { momentum: 0.875, ..SGD }, [
        [0.9875, -1.975, 0.4625, 3.0],
        [1.0265625, -1.984375, 0.2421875, 3.25],
        [1.0544921875, -2.067578125, 0.1369140625, 3.453125],
    ]),
    ("SGD(lr=0.125, momentum=0.875, dampening=0.25, weight_decay=0.0625)",
     Config { momentum: 0.875, dampening: 0.25, weight_decay: 0.0625, ..SGD }, [
        [0.9796875, -1.959375, 0.45859375, 2.9765625],
        [0.993673706055, -1.93578491211, 0.279051208496, 3.1261138916],
        [0.995401829481, -1.96005109549, 0.185941419005, 3.22693553567],
    ]),
    ("SGD(lr=0.125, momentum=0.875, nesterov=True, weight_decay=0.0625)",
     Config { momentum: 0.875, nesterov: true, weight_decay: 0.0625, ..SGD }, [
        [0.9619140625, -1.923828125, 0.42236328125, 2.9560546875],
        [1.02602176666, -1.92313728333, 0.0329121589661, 3.36355876923],
        [1.01819322649, -2.02079425938, 0.0226725642569, 3.44301449042],
    ]),
    ("Adam(lr=0.125)", ADAM, [
        [0.8750000125, -1.87500000625, 0.375000004167, 3.0],
        [0.944937946856, -1.89534153806, 0.267369222403, 3.09301710229],
        [0.988988541433, -1.9732005183, 0.224963064031, 3.15979593281],
    ]),
    ("Adam(lr=0.125, betas=(0.75, 0.9375), eps=1e-3, weight_decay=0.0625)",
     Config { betas: Some((0.75, 0.9375)), eps: 1e-3, weight_decay: 0.0625, ..ADAM }, [
        [0.875764525994, -1.87538343558, 0.375376222724, 2.87566312997],
        [0.934087459073, -1.84321390571, 0.262319870952, 2.9668841359],
        [0.948037828127, -1.90511196217, 0.226988198409, 3.01472900487],
    ]),
    ("AdamW(lr=0.125)", Config { weight_decay: 0.01, decoupled: true, ..ADAM }, [
        [0.8737500125, -1.87250000625, 0.374375004167, 2.99625],
        [0.942595759341, -1.89050091305, 0.266276253648, 3.08552178979],
        [0.985468109218, -1.96599676715, 0.223537249959, 3.14844371807],
    ]),
    ("AdamW(lr=0.125, betas=(0.75, 0.9375), eps=1e-3, weight_decay=0.25)",
     Config { betas: Some((0.75, 0.9375)), eps: 1e-3, weight_decay: 0.25, decoupled: true, ..ADAM }, [
        [0.844987623762, -1.81312189055, 0.359790282392, 2.90625],
        [0.896831904406, -1.7877647895, 0.236396357851, 2.91478490282],
        [0.912387605893, -1.82257280074, 0.196132098169, 2.88791999761],
    ]),
];

#[test]
fn three_steps_are_pytorch_s() {
    for &(name, config, rows) in TORCH {
        let run = |device: Device| {
            let w = parameter(&START, &device);
            let optimizer = config.build(std::slice::from_ref(&w));
            (w, optimizer, device)
        };
        let mut runs: Vec<_> = devices().into_iter().map(run).collect();
        for (t, (grads, want)) in (1..).zip(GRADS.iter().zip(&rows)) {
            for (w, optimizer, device) in &mut runs {
                let grads = Array::new([4], grads.to_vec());
                step(&mut **optimizer, w, &grads.to_tensor(device)).unwrap();
                // The table has the derived bounds; a larger difference here means another formula.
                assert_within(
                    &format!("{name}, step {t}"),
                    &w.tensor(),
                    &Array::new([4], want.to_vec()),
                    |_| 1e-6,
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn clipping_matches_f64(shapes in prop::collection::vec(shape(3, 500), 1..4), seed in any::<u64>(), max_norm in 0.0f32..20.0) {
        let grads: Vec<Array> =
            shapes.iter().zip(seed..=u64::MAX).map(|(s, seed)| Array::random(s.clone(), seed, -3.0, 3.0)).collect();
        let norm = grads.iter().flat_map(|g| &g.data).map(|g| g * g).sum::<f64>().sqrt();
        let factor = (f64::from(max_norm) / (norm + 1e-6)).min(1.0);
        // Each square is rounded, and each addition, at most 1500 in all; the root halves these relative errors. The
        // addition of 1e-6, the root and the quotient add a few roundings, the product one.
        let slack = (1500.0 / 2.0 + 8.0) * EPS;
        for device in devices() {
            let leaves: Vec<Parameter> =
                grads.iter().map(|g| Parameter::new(&g.to_tensor(&device)).unwrap()).collect();
            let mut gradients = Gradients::default();
            for (leaf, g) in leaves.iter().zip(&grads) {
                gradients.accumulate(gradient(leaf, &g.to_tensor(&device))).unwrap();
            }
            let got = clip_grad_norm(&mut gradients, max_norm).unwrap();
            assert!((f64::from(got) - norm).abs() <= slack * norm, "norm {got}, should be {norm}");
            for (leaf, g) in leaves.iter().zip(&grads) {
                let clipped = gradients.get(&leaf.tensor()).unwrap();
                assert_within("clipped", clipped, &g.map(|g| g * factor), |at| slack * g.data[at].abs() + TINY);
            }
        }
    }
}

#[test]
fn clipping_by_pytorch() {
    // torch.nn.utils.clip_grad_norm_ of [3, 4] and [[12]] at 6.5, torch 1.13.0: norm 13, factor 6.5 / 13.000001.
    let clip = |device: &Device, first: f32, max_norm: f32| {
        let (a, b) = (parameter(&[0.0; 2], device), parameter(&[0.0], device));
        let mut gradients = gradient(&a, &Tensor::from_slice(&[first, 4.0], [2], device).unwrap());
        gradients.accumulate(gradient(&b, &Tensor::from_slice(&[12.0], [1], device).unwrap())).unwrap();
        let norm = clip_grad_norm(&mut gradients, max_norm).unwrap();
        let of = |p: &Parameter| gradients.get(&p.tensor()).unwrap().to_vec().unwrap();
        (norm, [of(&a), of(&b)].concat())
    };
    for device in devices() {
        let (norm, grads) = clip(&device, 3.0, 6.5);
        assert_eq!(norm, 13.0);
        for (got, want) in grads.iter().zip([1.4999998808, 1.9999998808, 5.9999995232]) {
            // The quotient and the product are rounded, here and in PyTorch.
            assert!((f64::from(*got) - want).abs() <= 4.0 * EPS * want, "{got} {want}");
        }
        assert_eq!(clip(&device, 3.0, 14.0), (13.0, vec![3.0, 4.0, 12.0]));
        // As in PyTorch, a non-finite norm is returned and shows in the gradients.
        let (norm, grads) = clip(&device, f32::NAN, 6.5);
        assert!(norm.is_nan() && grads.iter().all(|g| g.is_nan()), "{norm} {grads:?}");
        let (norm, grads) = clip(&device, f32::INFINITY, 6.5);
        assert!(norm == f32::INFINITY && grads[0].is_nan() && grads[1..] == [0.0, 0.0], "{norm} {grads:?}");
        let error = clip_grad_norm(&mut Gradients::default(), f32::NAN).unwrap_err().to_string();
        assert!(error.contains("clip_grad_norm: max_norm of NaN"), "{error}");
        assert_eq!(clip_grad_norm(&mut Gradients::default(), 1.0), Ok(0.0));
    }
}

const CONFIGS: [Config; 4] =
    [SGD, Config { momentum: 0.9, ..SGD }, ADAM, Config { weight_decay: 0.01, decoupled: true, ..ADAM }];

#[test]
fn other_handles_do_not_see_the_update() {
    for device in devices() {
        for config in CONFIGS {
            let w = parameter(&[1.0, 2.0, 3.0], &device);
            let grad = Tensor::ones([3], &device).unwrap();
            let own = [w.clone()];
            let mut optimizer = config.build(&own);
            step(&mut *optimizer, &w, &grad).unwrap();

            let seen = w.tensor();
            let view = seen.slice(0, 1..3).unwrap();
            let (before, state) = (seen.to_vec().unwrap(), optimizer.state(&named(&own)).unwrap());
            let kept: Vec<Vec<f32>> = state.iter().skip(1).map(|(_, t)| t.to_vec().unwrap()).collect();
            // The gradient may even share the parameter's buffer.
            step(&mut *optimizer, &w, &seen.detach()).unwrap();
            assert_eq!(seen.to_vec().unwrap(), before);
            assert_eq!(view.to_vec().unwrap(), before[1..]);
            assert_ne!(w.tensor().to_vec().unwrap(), before);
            let still: Vec<Vec<f32>> = state.iter().skip(1).map(|(_, t)| t.to_vec().unwrap()).collect();
            assert_eq!(still, kept);
        }
    }
}

/// The last elements of a gradient at any offset are at the end of its buffer; 64 elements fill the buffer if it has no
/// guard words.
#[test]
fn a_gradient_ends_with_its_buffer() {
    for device in devices().iter().map(fresh) {
        let whole: Vec<f32> = (0..64).map(|i| i as f32).collect();
        let whole = Tensor::from_slice(&whole, [64], &device).unwrap();
        for start in 0..8 {
            let view = whole.slice(0, start..64).unwrap();
            let want: Vec<f32> = view.to_vec().unwrap().iter().map(|g| 100.0 - g).collect();
            let w = parameter(&vec![100.0; 64 - start], &device);
            let mut optimizer = Sgd::new([w.clone()], 1.0);
            step(&mut optimizer, &w, &view).unwrap();
            assert_eq!(w.tensor().to_vec().unwrap(), want, "from {start} on {}", device.id());
        }
    }
}

#[test]
fn a_step_is_one_kernel_and_no_new_memory() {
    let device = match device() {
        Device::Gpu(_) => {
            let name = std::env::var("GRISTMILL_DEVICE").unwrap_or_else(|_| "gpu".to_string());
            Device::open_with(&name, &Default::default()).unwrap() // its own, since other tests would change the counts
        }
        Device::Cpu(_) => Device::cpu_with_budget(u64::MAX),
    };
    for config in CONFIGS {
        let w = parameter(&[1.0; 1000], &device);
        let mut optimizer = config.build(std::slice::from_ref(&w));
        let mut step = || {
            let gradients = w.tensor().square().unwrap().sum_all().unwrap().backward().unwrap();
            let (counts, memory) = (device.counts(), device.memory());
            optimizer.step(&gradients).unwrap();
            let after = device.counts();
            (after.kernels + after.cpu_twins - counts.kernels - counts.cpu_twins, memory, device.memory())
        };
        step();
        let (_, _, earlier) = step();
        let (kernels, before, after) = step();
        assert_eq!(kernels, 1);
        assert_eq!(after, earlier);
        // On the CPU a step writes the new elements to another buffer, which the next step reuses.
        if device.is_gpu() {
            assert_eq!(after, before);
        }
    }
}

#[test]
fn a_leaf_keeps_its_gradient_after_updates_and_sets() {
    for device in devices() {
        let w = parameter(&[1.0, 2.0], &device);
        let gradients = w.tensor().square().unwrap().sum_all().unwrap().backward().unwrap();
        step(&mut Sgd::new([w.clone()], 0.5), &w, &Tensor::ones([2], &device).unwrap()).unwrap();
        w.set(&Tensor::from_slice(&[7.0, 8.0], [2], &Device::cpu()).unwrap()).unwrap();
        assert_eq!(gradients.get(&w.tensor()).unwrap().to_vec().unwrap(), [2.0, 4.0]);
        assert_eq!(w.tensor().to_vec().unwrap(), [7.0, 8.0]);
        assert!(w.tensor().is_leaf() && w.tensor().is_differentiable());
    }
}

#[test]
fn parameters_without_a_gradient_are_left_alone() {
    for device in devices() {
        for config in CONFIGS {
            let all = [parameter(&[1.0], &device), parameter(&[2.0], &device)];
            let mut optimizer = config.build(&all);
            let gradients = gradient(&all[1], &Tensor::ones([1], &device).unwrap());
            optimizer.step(&gradients).unwrap();
            assert_eq!(all[0].tensor().item(), Ok(1.0));
            assert_ne!(all[1].tensor().item(), Ok(2.0));
            let state = |optimizer: &dyn Optimizer| optimizer.state(&named(&all)).unwrap();
            assert!(state(&*optimizer).iter().all(|(name, _)| name.starts_with("1.")));
            // A parameter's step count starts with its first step.
            optimizer.step(&gradient(&all[0], &Tensor::ones([1], &device).unwrap())).unwrap();
            if config.betas.is_some() {
                let state = state(&*optimizer);
                let steps: Vec<u32> =
                    [0, 3].iter().map(|&at: &usize| state[at].1.to_ids().unwrap()[0]).collect();
                assert_eq!(steps, [1, 1]);
            }
        }
    }
}

/// State once belonged to places in a list: a parameter in another's place got its momentum.
#[test]
fn state_belongs_to_a_parameter_not_to_a_place() {
    for device in devices() {
        for config in CONFIGS {
            let ones = Tensor::ones([2], &device).unwrap();
            let [p, q, alone] = [(); 3].map(|()| parameter(&[1.0, 2.0], &device));
            let mut both = config.build(&[p.clone(), q.clone()]);
            step(&mut *both, &p, &ones).unwrap();
            step(&mut *both, &q, &ones).unwrap();
            step(&mut *config.build(std::slice::from_ref(&alone)), &alone, &ones).unwrap();
            assert_eq!(q.tensor().to_vec(), alone.tensor().to_vec(), "{config:?}");

            // Nor to an address: a new parameter does not inherit the state of one that is gone.
            drop((p, q));
            let fresh = parameter(&[1.0, 2.0], &device);
            both.add_group(ParameterGroup::new([fresh.clone()])).unwrap();
            step(&mut *both, &fresh, &ones).unwrap();
            assert_eq!(fresh.tensor().to_vec(), alone.tensor().to_vec(), "{config:?}");
        }
    }
}

#[test]
fn groups_have_rates_of_their_own() {
    for device in devices() {
        let ones = Tensor::ones([1], &device).unwrap();
        let [w, slow, bare] = [(); 3].map(|()| parameter(&[8.0], &device));
        let mut sgd = Sgd::new([w.clone()], 0.5).weight_decay(0.25);
        sgd.add_group(ParameterGroup::new([slow.clone()]).learning_rate(0.125)).unwrap();
        sgd.add_group(ParameterGroup::new([bare.clone()]).weight_decay(0.0)).unwrap();
        let values = || [&w, &slow, &bare].map(|p| p.tensor().item().unwrap());
        let step = |sgd: &mut Sgd| {
            let mut gradients = gradient(&w, &ones);
            gradients.accumulate(gradient(&slow, &ones)).unwrap();
            gradients.accumulate(gradient(&bare, &ones)).unwrap();
            sgd.step(&gradients).unwrap();
        };
        // The gradient is 1, and 3 with the decay of 0.25 · 8.
        step(&mut sgd);
        assert_eq!(values(), [8.0 - 0.5 * 3.0, 8.0 - 0.125 * 3.0, 8.0 - 0.5]);
        // A schedule that halves the rate halves that of each group: all numbers here are exact in f32.
        sgd.set_learning_rate(0.25);
        let before = values();
        step(&mut sgd);
        let want = [
            before[0] - 0.25 * (1.0 + 0.25 * before[0]),
            before[1] - 0.0625 * (1.0 + 0.25 * before[1]),
            before[2] - 0.25,
        ];
        assert_eq!((values(), sgd.learning_rate()), (want, 0.25));
    }
}

#[test]
fn a_saved_state_goes_on_with_the_same_bits() {
    for device in devices() {
        for config in CONFIGS {
            let grads = |t: u64| Array::random([40], t, -1.0, 1.0).to_tensor(&device);
            let start = Array::random([40], 9, -1.0, 1.0);
            let (through, cut) =
                (Parameter::new(&start.to_tensor(&device)), Parameter::new(&start.to_tensor(&device)));
            let (through, cut) = (through.unwrap(), cut.unwrap());
            let mut one = config.build(std::slice::from_ref(&through));
            for t in 0..6 {
                step(&mut *one, &through, &grads(t)).unwrap();
            }
            let own = [cut.clone()];
            let mut first = config.build(&own);
            for t in 0..3 {
                step(&mut *first, &cut, &grads(t)).unwrap();
            }
            // Through the CPU, as when loaded from a file.
            let state: Vec<_> = first.state(&named(&own)).unwrap();
            let state: Vec<_> = state.into_iter().map(|(n, t)| (n, t.to(&Device::cpu()).unwrap())).collect();
            let mut second = config.build(&own);
            second.load_state(&named(&own), &state).unwrap();
            for t in 3..6 {
                step(&mut *second, &cut, &grads(t)).unwrap();
            }
            assert_eq!(through.tensor().to_vec(), cut.tensor().to_vec(), "{config:?}");
        }
    }
}

#[test]
fn nan_and_infinity_are_pytorch_s() {
    // w = 1 and gradients NaN, inf, -inf, 1e30, by torch 1.13.0 in f32: Adam's quotient of two infinities is NaN;
    // 1e30 squared overflows, so its quotient is 0.
    for device in devices() {
        let g =
            Tensor::from_slice(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30], [4], &device).unwrap();
        for config in CONFIGS {
            let w = parameter(&[1.0; 4], &device);
            step(&mut *config.build(std::slice::from_ref(&w)), &w, &g).unwrap();
            let got = w.tensor().to_vec().unwrap();
            if config.betas.is_some() {
                let kept = if config.decoupled { 1.0 - 0.125 * 0.01 } else { 1.0 };
                assert!(got[..3].iter().all(|w| w.is_nan()) && got[3] == kept, "{got:?} on {device:?}");
            } else {
                assert!(got[0].is_nan() && got[1] == f32::NEG_INFINITY && got[2] == f32::INFINITY, "{got:?}");
            }
        }
        // A decay of 0 is skipped: infinity times 0 would be NaN.
        for config in [SGD, Config { momentum: 0.9, ..SGD }, ADAM] {
            let w = parameter(&[f32::INFINITY], &device);
            step(&mut *config.build(std::slice::from_ref(&w)), &w, &Tensor::ones([1], &device).unwrap())
                .unwrap();
            assert_eq!(w.tensor().item(), Ok(f32::INFINITY));
        }
    }
}

#[test]
fn empty_parameters_are_ordinary() {
    for device in devices() {
        for config in CONFIGS {
            let w = Parameter::new(&Tensor::zeros([3, 0], &device).unwrap()).unwrap();
            let mut optimizer = config.build(std::slice::from_ref(&w));
            step(&mut *optimizer, &w, &Tensor::zeros([3, 0], &device).unwrap()).unwrap();
            optimizer.step(&Gradients::default()).unwrap();
            config.build(&[]).step(&Gradients::default()).unwrap();
            assert_eq!(w.tensor().to_vec(), Ok(vec![]));
        }
    }
}

fn refused(result: Result<()>, parts: &[&str]) {
    let message = result.expect_err("should be refused").to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{message}, should have {parts:?}");
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let device = device();
    let grad = Tensor::ones([2], &device).unwrap();
    let w = parameter(&[1.0, 2.0], &device);
    let own = || [w.clone()];
    let bad: [(Box<dyn Optimizer>, &[&str]); 9] = [
        (Box::new(Sgd::new(own(), -1.0)), &["sgd", "learning rate of -1"]),
        (Box::new(Sgd::new(own(), f32::NAN)), &["sgd", "learning rate of NaN"]),
        (Box::new(Sgd::new(own(), 0.1).momentum(-0.5)), &["sgd", "momentum of -0.5"]),
        (Box::new(Sgd::new(own(), 0.1).weight_decay(-0.5)), &["sgd", "weight_decay of -0.5"]),
        (Box::new(Sgd::new(own(), 0.1).nesterov(true)), &["sgd", "nesterov"]),
        (Box::new(Adam::new(own(), 0.1).betas(1.0, 0.9)), &["adam", "beta of 1"]),
        (Box::new(Adam::new(own(), 0.1).betas(0.9, -0.1)), &["adam", "beta of -0.1"]),
        (Box::new(AdamW::new(own(), 0.1).eps(-1e-8)), &["adamw", "eps"]),
        (Box::new(AdamW::new(own(), 0.1).weight_decay(f64::NAN)), &["adamw", "weight_decay of NaN"]),
    ];
    for (mut optimizer, parts) in bad {
        refused(step(&mut *optimizer, &w, &grad), parts);
    }
    // No hyperparameter may be NaN or infinite.
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let wide = f64::from(value);
        let sgd = || Sgd::new(own(), 0.1).momentum(0.5);
        let bad: [(Box<dyn Optimizer>, &str); 11] = [
            (Box::new(sgd().dampening(value)), "dampening"),
            (Box::new(Sgd::new(own(), 0.1).dampening(value)), "dampening"),
            (Box::new(Sgd::new(own(), value)), "learning rate"),
            (Box::new(sgd().momentum(value)), "momentum"),
            (Box::new(sgd().weight_decay(wide)), "weight_decay"),
            (Box::new(Adam::new(own(), value)), "learning rate"),
            (Box::new(Adam::new(own(), 0.1).betas(wide, 0.9)), "beta"),
            (Box::new(Adam::new(own(), 0.1).betas(0.9, wide)), "beta"),
            (Box::new(AdamW::new(own(), 0.1).eps(wide)), "eps"),
            (Box::new(AdamW::new(own(), 0.1).weight_decay(wide)), "weight_decay"),
            // Infinite as an f32.
            (Box::new(AdamW::new(own(), 0.1).weight_decay(1e39)), "weight_decay"),
        ];
        for (mut optimizer, name) in bad {
            refused(
                step(&mut *optimizer, &w, &grad),
                &[name, "finite"][..if name == "beta" { 1 } else { 2 }],
            );
        }
    }
    for value in [f32::NAN, f32::NEG_INFINITY] {
        refused(clip_grad_norm(&mut gradient(&w, &grad), value).map(drop), &["max_norm"]);
    }
    assert_eq!(w.tensor().to_vec(), Ok(vec![1.0, 2.0]));

    let other = parameter(&[1.0, 2.0, 3.0], &device);
    let both = [w.clone(), other.clone()];
    let mut gradients = gradient(&w, &grad);
    gradients.accumulate(gradient(&other, &Tensor::ones([3], &device).unwrap())).unwrap();
    let mut twice = Adam::new([w.clone(), w.clone()], 0.1);
    refused(twice.step(&gradients), &["adam", "parameter of shape [2]", "twice"]);
    let mut adam = Adam::new(both.clone(), 0.1);
    adam.step(&gradients).unwrap();
    let before = (w.tensor().to_vec().unwrap(), other.tensor().to_vec().unwrap());
    refused(adam.add_group(ParameterGroup::new(own())), &["adam", "[2]", "another group"]);
    for group in [ParameterGroup::new([]).learning_rate(-1.0), ParameterGroup::new([]).weight_decay(-1.0)] {
        let mut adam = Adam::new(both.clone(), 0.1);
        adam.add_group(group).unwrap();
        refused(adam.step(&gradients), &["adam", "of -1 is not at least 0"]);
    }

    // A gradient on another device never reaches the optimizer.
    let stray = Tensor::ones([2], &Device::cpu_with_budget(u64::MAX)).unwrap();
    refused(w.tensor().backward_from(&stray).map(drop), &["backward", "different devices"]);

    let mut state = adam.state(&named(&both)).unwrap();
    refused(
        adam.load_state(&named(&[other.clone(), w.clone()]), &state),
        &["adam", "0.exp_avg is F32 [2], should be F32 [3]", "1.exp_avg_sq"],
    );
    refused(adam.load_state(&named(&both[..1]), &state), &["adam", "[3]", "no name"]);
    refused(adam.state(&named(&both[..1])).map(drop), &["adam", "[3]", "no name"]);
    let mut less = Adam::new(own(), 0.1);
    refused(less.load_state(&named(&both), &state), &["1.exp_avg is not known", "1.step is not known"]);
    state.remove(1);
    state[0].1 = Tensor::zeros([], &device).unwrap();
    state.push(("9.exp_avg".to_string(), grad.clone()));
    state.push(("9.exp_avg".to_string(), grad.clone()));
    let parts = [
        "0.exp_avg is missing",
        "0.step is not one u32",
        "9.exp_avg is not known",
        "9.exp_avg appears twice",
    ];
    refused(adam.load_state(&named(&both), &state), &parts);
    assert_eq!((w.tensor().to_vec().unwrap(), other.tensor().to_vec().unwrap()), before);
    adam.step(&gradients).unwrap();

    refused(w.set(&Tensor::zeros([3], &device).unwrap()), &["Parameter::set", "[3]", "[2]"]);
    refused(w.set(&Tensor::from_ids(&[1, 2], [2], &device).unwrap()), &["Parameter::set", "U32"]);
}

#[test]
fn schedules_by_hand() {
    let rates =
        |schedule: &Schedule, steps: &[u64]| steps.iter().map(|&s| schedule.lr_at(s)).collect::<Vec<_>>();
    assert_eq!(rates(&Schedule::constant(0.3), &[0, 9]), [0.3, 0.3]);
    let halved = Schedule::step(0.5, 10, 0.5);
    assert_eq!(rates(&halved, &[0, 9, 10, 19, 20, 10_000]), [0.5, 0.5, 0.25, 0.25, 0.125, 0.0]);
    assert_eq!(Schedule::step(0.5, 0, 0.5).lr_at(7), 0.5);
    // cos of 0, 60, 90, 120 and 180 degrees: 1, 1/2, 0, -1/2, -1.
    let cosine = Schedule::cosine(1.0, 0.2, 6);
    assert_eq!(rates(&cosine, &[0, 2, 3, 4, 6, 7, u64::MAX]), [1.0, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2]);
    assert_eq!(Schedule::cosine(1.0, 0.2, 0).lr_at(0), 0.2);
    let warm = cosine.clone().warm_up(4);
    assert_eq!(rates(&warm, &[0, 1, 2, 3, 4, 6, 10]), [0.25, 0.5, 0.75, 1.0, 1.0, 0.8, 0.2]);
    assert_eq!(cosine.clone().warm_up(0).lr_at(0), 1.0);
    // torch 1.13.0, CosineAnnealingLR(SGD(lr=0.1), T_max=10, eta_min=0.01), get_last_lr() after 1, 5 and 9 steps.
    let torch = [0.097_797_54, 0.055, 0.012_202_456];
    for (got, want) in rates(&Schedule::cosine(0.1, 0.01, 10), &[1, 5, 9]).iter().zip(torch) {
        // Half an ulp of a number below 0.125.
        assert!((got - want).abs() <= 0.125 * f32::EPSILON / 2.0, "{got} {want}");
    }
}
