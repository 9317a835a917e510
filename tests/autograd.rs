//! The autograd graph: what is recorded, the results of a backward pass, what it frees, and what it refuses.

mod common;

use common::*;
use gristmill::gpu::Recorder;
use gristmill::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, apply};
use gristmill::{CpuDevice, Device, Error, Gradients, Layout, Result, Tensor, no_grad};
use std::sync::Arc;

fn leaf(data: &[f32], device: &Device) -> Tensor {
    Tensor::from_slice(data, [data.len()], device).unwrap().requires_grad().unwrap()
}

fn gradient(grads: &Gradients, leaf: &Tensor) -> Vec<f32> {
    grads.get(leaf).unwrap().to_vec().unwrap()
}

/// Runs `work` on a stack so small that recursion over a long graph would overflow it.
fn on_a_small_stack(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        std::thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, work).unwrap().join().unwrap();
    });
}

const LONG: usize = 100_000;

#[test]
fn backward_and_drop_of_a_hundred_thousand_nodes_do_not_recurse() {
    // Three kinds of nodes: one that saves nothing, one that saves a tensor, and a view.
    let step = |y: &Tensor, at: usize| match at % 3 {
        0 => y.neg(),
        1 => y.abs(),
        _ => y.reshape([1]),
    };
    let x = leaf(&[1.0], &Device::cpu());
    let chain = || (0..LONG).try_fold(x.clone(), |y, at| step(&y, at)).unwrap();
    on_a_small_stack(|| drop(chain()));
    on_a_small_stack(|| {
        let y = chain();
        // neg, then abs of a negative number: each pair has slope 1; the last of the 100,000 nodes is a neg.
        assert_eq!(gradient(&y.backward().unwrap(), &x), [-1.0]);
    });
}

#[test]
fn a_shared_subexpression_is_visited_once_with_the_sum_of_its_gradients() {
    for device in devices().iter().map(fresh) {
        let x = leaf(&[2.0, -3.0], &device);
        // s = x^2, y = s*s + s: y' = (2s + 1) 2x = 4x^3 + 2x.
        let s = x.square().unwrap();
        let y = s.mul(&s).unwrap().add(&s).unwrap().sum_all().unwrap();
        assert_eq!(gradient(&y.backward().unwrap(), &x), [36.0, -114.0], "on {device}");
        // The same tensor on both sides of one op.
        let y = x.mul(&x).unwrap().sum_all().unwrap();
        assert_eq!(gradient(&y.backward().unwrap(), &x), [4.0, -6.0], "on {device}");
        // A diamond that doubles the number of paths at each of 40 levels, but not the number of nodes.
        let x = leaf(&[1.0], &device);
        let y = (0..40).try_fold(x.clone(), |y, _| y.add(&y)).unwrap();
        assert_eq!(gradient(&y.backward().unwrap(), &x), [2f32.powi(40)], "on {device}");
    }
}

#[test]
fn only_inputs_of_the_result_have_a_gradient() {
    for device in devices() {
        let (a, b, unused) = (leaf(&[1.0, 2.0], &device), leaf(&[3.0], &device), leaf(&[4.0], &device));
        let constant = Tensor::from_slice(&[5.0, 6.0], [2], &device).unwrap();
        let y = a.mul(&constant).unwrap().mul(&b).unwrap().sum_all().unwrap();
        let grads = y.backward().unwrap();
        assert_eq!(gradient(&grads, &a), [15.0, 18.0]);
        // b was broadcast along an axis of a: its gradient is summed to its own shape.
        assert_eq!((grads.get(&b).unwrap().shape().to_vec(), gradient(&grads, &b)), (vec![1], vec![17.0]));
        assert!(grads.get(&unused).is_err() && grads.get(&constant).is_err());
        let all: Vec<Vec<f32>> = grads.iter().map(|grad| grad.to_vec().unwrap()).collect();
        assert_eq!(all, [vec![15.0, 18.0], vec![17.0]], "in the order in which the leaves were made");
        // A copy of the handle is the same leaf, and a leaf stays the one it is; another one of the same elements is not.
        assert!(grads.get(&a.clone()).is_ok() && grads.get(&a.requires_grad().unwrap()).is_ok());
        assert!(grads.get(&a.detach().requires_grad().unwrap()).is_err());
    }
}

#[test]
fn a_leaf_is_its_own_gradient() {
    for device in devices() {
        let x = leaf(&[7.0], &device);
        assert_eq!(gradient(&x.backward().unwrap(), &x), [1.0]);
        let seed = Tensor::from_slice(&[2.5], [1], &device).unwrap();
        assert_eq!(gradient(&x.backward_from(&seed).unwrap(), &x), [2.5]);
    }
}

#[test]
fn unneeded_gradients_are_not_computed() {
    for device in devices() {
        // Counts are compared, so no other test may use the device.
        let device = fresh(&device);
        let work = |both: bool| {
            let a = Tensor::from_slice(&[1.0, 2.0], [2], &device).unwrap();
            let a = if both { a.requires_grad().unwrap() } else { a };
            let b = leaf(&[3.0, 4.0], &device);
            let y = a.mul(&b).unwrap();
            let seed = Tensor::ones([2], &device).unwrap();
            let before = device.counts();
            let grads = y.backward_from(&seed).unwrap();
            assert_eq!((gradient(&grads, &b), grads.get(&a).is_ok()), (vec![1.0, 2.0], both));
            let after = device.counts();
            (after.kernels - before.kernels) + (after.cpu_twins - before.cpu_twins)
        };
        assert_eq!((work(false), work(true)), (1, 2), "one product a gradient on {device}");
    }
}

#[test]
fn gradients_accumulate_and_scale() {
    for device in devices() {
        let (a, b) = (leaf(&[1.0, 2.0], &device), leaf(&[3.0, 5.0], &device));
        let loss = |x: &Tensor, by: f32| x.mul_scalar(by).unwrap().sum_all().unwrap();
        let mut sum = loss(&a, 2.0).backward().unwrap();
        sum.accumulate(loss(&a, 5.0).backward().unwrap()).unwrap();
        sum.accumulate(loss(&b, 4.0).backward().unwrap()).unwrap();
        sum.scale(0.5).unwrap();
        assert_eq!((gradient(&sum, &a), gradient(&sum, &b)), (vec![3.5, 3.5], vec![2.0, 2.0]));
        assert!(sum.iter().all(|grad| !grad.is_differentiable()));
    }
}

fn refused<T>(result: Result<T>, parts: &[&str]) {
    match result.map(|_| ()) {
        Err(ref error @ Error::Autograd { .. }) => {
            let text = error.to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "`{text}` does not say {parts:?}");
        }
        other => panic!("{other:?} instead of an error of backward that says {parts:?}"),
    }
}

#[test]
fn a_graph_is_differentiated_once() {
    for device in devices() {
        let x = leaf(&[3.0], &device);
        let shared = x.square().unwrap();
        let (first, second) = (shared.exp().unwrap(), shared.mul_scalar(2.0).unwrap());
        assert!(first.backward().is_ok());
        refused(first.backward(), &["walked before", "anew"]);
        // The subgraph that both share is freed too.
        refused(second.backward(), &["walked before", "anew"]);
        // The values are untouched, and a new graph on the same leaf works.
        assert_eq!(shared.to_vec().unwrap(), [9.0]);
        assert_eq!(gradient(&x.square().unwrap().backward().unwrap(), &x), [6.0]);
    }
}

#[test]
fn backward_refuses_invalid_starts() {
    for device in devices() {
        let x = leaf(&[1.0, 2.0], &device);
        refused(x.backward(), &["[2]", "sum it first"]);
        refused(Tensor::ones([1], &device).unwrap().backward(), &["requires a gradient"]);
        let y = x.neg().unwrap();
        refused(y.backward_from(&Tensor::ones([3], &device).unwrap()), &["[3]", "[2]"]);
        // backward_from does not broadcast the gradient.
        refused(y.backward_from(&Tensor::ones([1], &device).unwrap()), &["[1]", "[2]"]);
        let ids = Tensor::from_ids(&[1, 1], [2], &device).unwrap();
        assert!(matches!(y.backward_from(&ids), Err(Error::Shape { op: "backward", .. })));
        // None of these calls has run a backward pass.
        assert_eq!(gradient(&y.sum_all().unwrap().backward().unwrap(), &x), [-1.0, -1.0]);
    }
}

#[test]
fn no_grad_records_nothing_on_its_thread_alone() {
    for device in devices() {
        let x = leaf(&[2.0], &device);
        let y = no_grad(|| {
            no_grad(|| ());
            assert!(!gristmill::autograd::is_recording(), "an inner no_grad ends without ending the outer");
            std::thread::scope(|scope| {
                let other = scope.spawn(|| x.square().unwrap().is_differentiable());
                assert!(other.join().unwrap(), "another thread records");
            });
            assert!(x.is_differentiable());
            [x.square(), x.reshape([1, 1]), x.copy(), x.add(&x)]
        });
        assert!(y.into_iter().all(|y| !y.unwrap().is_differentiable()));
        assert!(x.square().unwrap().is_differentiable(), "recording is on again");
    }
    let _ = std::panic::catch_unwind(|| no_grad(|| std::panic::resume_unwind(Box::new(()))));
    assert!(gristmill::autograd::is_recording(), "also after a panic");
}

#[test]
fn detach_stops_the_gradient() {
    for device in devices() {
        let x = leaf(&[3.0], &device);
        let y = x.square().unwrap();
        assert!(!y.is_leaf() && x.is_leaf() && !y.detach().is_differentiable());
        // d/dx (x * const(x^2)) = 9, not 27.
        let z = x.mul(&y.detach()).unwrap();
        assert_eq!(gradient(&z.backward().unwrap(), &x), [9.0]);
        // A result made a leaf starts a new graph.
        let y = y.requires_grad().unwrap();
        let grads = y.mul_scalar(2.0).unwrap().backward().unwrap();
        assert_eq!((y.is_leaf(), gradient(&grads, &y), grads.get(&x).is_err()), (true, vec![2.0], true));
    }
}

#[test]
fn devices_do_not_mix() {
    for device in devices() {
        let other = fresh(&device);
        let (x, y) = (leaf(&[1.0], &device), leaf(&[1.0], &other));
        let mixed = |result: Result<Tensor>, name: &str| match result {
            Err(Error::MixedDevices { op, first, second, .. }) => {
                assert_eq!((op, &*first, &*second), (name, device.id(), other.id()));
            }
            result => panic!("{name}: {result:?}"),
        };
        mixed(x.add(&y), "add");
        mixed(x.matmul(&y), "matmul");
        let mixed_seed = x.backward_from(&y.detach()).map(|_| ());
        assert!(matches!(mixed_seed, Err(Error::MixedDevices { op: "backward", .. })), "{mixed_seed:?}");
        assert_eq!(x.add(&y.to(&device).unwrap()).unwrap().to_vec().unwrap(), [2.0]);
    }
}

#[test]
fn the_backward_pass_frees_saved_tensors_as_it_goes() {
    const STEPS: u64 = 20;
    let data = vec![0.5; 64 << 10];
    let bytes = 4 * data.len() as u64;
    for device in devices().iter().map(fresh) {
        let x = leaf(&data, &device);
        let small = Tensor::scalar(0.0, &device).unwrap();
        let before = device.memory().in_use;
        // tanh saves its output, so the graph holds every step.
        let mut y = (0..STEPS).try_fold(x.clone(), |y, _| y.tanh()).unwrap();
        y = y.sum_all().unwrap();
        let forward = device.memory();
        assert!(forward.in_use >= before + STEPS * bytes, "the graph saves its steps on {device}");
        let grads = y.backward().unwrap();
        // Two gradients in progress and that of the sum: the peak stays near the memory of the graph.
        assert!(device.memory().peak <= forward.peak + 4 * bytes, "{:?} on {device}", device.memory());
        let scalar = device.memory().in_use - before - bytes;
        assert!(scalar <= 256, "the leaf's gradient and the loss are left, and {scalar} bytes, on {device}");
        drop((grads, y));
        assert_eq!(device.memory().in_use, before, "on {device}");
        drop((x, small));
        assert_eq!(device.memory().in_use, 0, "on {device}");
    }
}

#[test]
fn a_graph_dropped_before_backward_frees_all() {
    for device in devices().iter().map(fresh) {
        let x = leaf(&[1.0; 1000], &device);
        let before = device.memory().in_use;
        let y = x.exp().unwrap().mul(&x.square().unwrap()).unwrap();
        drop(y);
        assert_eq!(device.memory().in_use, before, "on {device}");
    }
}

/// An op that declares more differentiable outputs than it has, and requests the shape of an input that does not exist.
struct Odd;

impl Op for Odd {
    fn name(&self) -> &'static str {
        "odd"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        Ok(inputs.to_vec())
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        0
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let past = Layout { offset: usize::MAX, ..inputs[0].layout };
        assert!(CpuView { layout: past, ..inputs[0] }.slice().is_empty());
        outputs[0].data.copy_from_slice(inputs[0].slice());
        Ok(())
    }

    fn gpu(&self, _: &mut Recorder, _: &[GpuView], _: &[GpuOut]) -> Result<()> {
        unreachable!("it is run on the CPU")
    }

    fn differentiable(&self) -> usize {
        usize::MAX
    }

    fn backward(&self, saved: &Saved, _: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        saved.shape(9).map(|_| Vec::new())
    }
}

#[test]
fn an_op_that_promises_too_much_gets_errors_and_no_panic() {
    let y = apply(Odd, &[&leaf(&[1.0, 2.0], &Device::cpu())]).unwrap();
    assert_eq!(y.to_vec().unwrap(), [1.0, 2.0]);
    assert!(matches!(y.sum_all().unwrap().backward().map(drop), Err(Error::Autograd { .. })));
}

#[test]
fn a_gradient_that_is_not_there_says_why() {
    for device in devices() {
        let w = leaf(&[1.0, 2.0], &device);
        let hidden = w.square().unwrap();
        let gradients = hidden.sum_all().unwrap().backward().unwrap();
        let why = |x: &Tensor| {
            let error = gradients.get(x).unwrap_err().to_string();
            assert!(error.contains("no gradient of this tensor of shape [2]"), "{error}");
            error
        };
        assert!(why(&hidden).contains("retain_grad"));
        assert!(why(&leaf(&[1.0, 2.0], &device)).contains("took no part"));
        assert!(why(&w.detach()).contains("requires none"));
        // A gradient of a gradient is refused.
        let error =
            gradients.get(&w).unwrap().sum_all().unwrap().backward().map(drop).unwrap_err().to_string();
        assert!(error.contains("gradients themselves are not differentiable"), "{error}");
    }
}

#[test]
fn retained_gradients_of_intermediate_results() {
    for device in devices() {
        let w = leaf(&[1.0, 2.0], &device);
        let pass = || {
            let hidden = w.mul_scalar(3.0).unwrap();
            hidden.retain_grad().unwrap();
            let parts = hidden.split(&[1, 1], 0).unwrap();
            parts[1].retain_grad().unwrap();
            // 9 w0² + 2 · 3 w1
            let loss = parts[0].square().unwrap().add(&parts[1].mul_scalar(2.0).unwrap()).unwrap();
            loss.retain_grad().unwrap();
            (loss.backward().unwrap(), hidden, parts, loss)
        };
        let (mut gradients, hidden, parts, loss) = pass();
        assert_eq!(gradient(&gradients, &hidden), [6.0, 2.0]);
        assert_eq!(gradient(&gradients, &parts[1]), [2.0]);
        assert!(gradients.get(&parts[0]).is_err());
        assert_eq!(gradient(&gradients, &loss), [1.0]);
        assert_eq!(gradient(&gradients, &w), [18.0, 6.0]);
        // They take no part in what is done with the gradients of all leaves: clipping must not change them.
        assert_eq!(gradients.iter().count(), 1);
        gradients.scale(0.5).unwrap();
        gradients.accumulate(pass().0).unwrap();
        assert_eq!(gradient(&gradients, &hidden), [6.0, 2.0]);
        // Too late for these.
        parts[0].retain_grad().unwrap();
        let error = gradients.get(&parts[0]).unwrap_err().to_string();
        assert!(error.contains("retain_grad was called only afterwards"), "{error}");
        assert_eq!(gradient(&gradients, &w), [27.0, 9.0]);
        // Of a leaf it is kept anyway; of a constant there is none.
        w.retain_grad().unwrap();
        assert!(w.detach().retain_grad().unwrap_err().to_string().contains("requires no gradient"));
    }
}
