//! Ops from outside the crate: the example, and functions of one number.
#![allow(clippy::unwrap_used)] // also in helpers, which clippy does not take for tests

mod common;
#[path = "../examples/custom_op.rs"]
#[allow(dead_code)] // its main
mod example;

use common::{device, devices};
use gristmill::gpu::Recorder;
use gristmill::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, apply};
use gristmill::proof::{Array, Bounded, Case, Gen, Row, Values, check, check_differences, check_tightness};
use gristmill::{CpuDevice, Device, Layout, Pointwise, Result, Shape, Tensor, parallel_map};
use std::sync::Arc;

static SOFTSIGN: Pointwise = Pointwise::new(
    "softsign",
    "fn value(x: f32) -> f32 { return x / (1.0 + abs(x)); }
     fn slope(x: f32) -> f32 { let d = 1.0 + abs(x); return 1.0 / (d * d); }",
    |x| x / (1.0 + x.abs()),
    |x| 1.0 / ((1.0 + x.abs()) * (1.0 + x.abs())),
);

const ROW: Row = Row { name: "softsign", covers: &[], draw: softsign, bench: None };

fn softsign(g: &mut Gen) -> Case {
    let shape = g.shape(4);
    let x = g.values(&shape, -9.0, 9.0);
    let d = |x: Bounded| Bounded::ONE + x.abs();
    Case::new(String::new(), vec![x], |t| SOFTSIGN.apply(&t[0]), move |x: &[Array]| x[0].map(|x| x / d(x)))
        .gradient(move |x, dy| vec![Some(x[0].zip(dy, |x, dy| dy / (d(x) * d(x))))])
}

#[test]
fn the_example_holds_its_own_proof() {
    device(); // the install hint, where there is none
    example::run().unwrap();
}

#[test]
fn a_function_from_outside_stays_within_its_bound_in_all_layouts() {
    for seed in 0..16 {
        let case = ROW.case(seed, 60, Values::Ordinary);
        check_differences(&case, seed).unwrap();
        check_tightness(&case, seed).unwrap();
        for device in devices() {
            check(&case, &device, seed).unwrap();
        }
    }
}

#[test]
fn a_function_from_outside_is_refused_by_name() {
    static BROKEN: Pointwise =
        Pointwise::new("broken", "fn value(x: f32) -> f32 { return y; }", |x| x, |x| x);
    for device in devices() {
        let ids = Tensor::from_ids(&[1], [1], &device).unwrap();
        assert!(SOFTSIGN.apply(&ids).unwrap_err().to_string().contains("softsign"));
        let x = Tensor::ones([3], &device).unwrap();
        match BROKEN.apply(&x).and_then(|y| y.to_vec()) {
            Ok(y) => assert_eq!((device.is_gpu(), y), (false, vec![1.0; 3])),
            Err(error) => assert!(device.is_gpu() && error.to_string().contains("broken"), "{error}"),
        }
        // The device works on.
        assert_eq!(SOFTSIGN.apply(&x).unwrap().to_vec().unwrap(), [0.5; 3]);
    }
}

/// The first half of its input, and nothing after it.
struct Half;

impl Op for Half {
    fn name(&self) -> &'static str {
        "half"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        Ok(inputs.to_vec())
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        0
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let half = outputs[0].data.len() / 2;
        outputs[0].data[..half].copy_from_slice(&inputs[0].slice()[..half]);
        Ok(())
    }

    fn gpu(&self, _: &mut Recorder, _: &[GpuView], _: &[GpuOut]) -> Result<()> {
        Ok(())
    }
}

#[test]
#[cfg(debug_assertions)]
fn a_twin_that_leaves_elements_unwritten_is_found() {
    let x = Tensor::ones([10], &Device::cpu()).unwrap();
    let error = apply(Half, &[&x]).unwrap_err().to_string();
    assert_eq!(error, "kernel half: the twin left 5 of 10 elements of output 0 unwritten, the first at 5");
}

#[test]
fn a_parallel_map_checks_its_views() {
    let data = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let shape = |dims: &[usize]| Shape::new(dims).unwrap();
    let view = |dims: &[usize]| CpuView { data: &data, layout: Layout::contiguous(shape(dims)) };
    let map = |to: &[usize], from: &[usize]| {
        let mut out = vec![0.0; to.iter().product()];
        parallel_map(&mut CpuOut { data: &mut out, shape: shape(to) }, [view(from)], |[x]| 10.0 * x)
            .map(|()| out)
    };
    assert_eq!(map(&[2, 3], &[2, 3]).unwrap(), [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
    assert_eq!(map(&[2, 3], &[2, 1]).unwrap(), [10.0, 10.0, 10.0, 20.0, 20.0, 20.0]);
    assert_eq!(map(&[0, 3], &[3]).unwrap(), [0.0; 0]);
    assert!(map(&[2, 3], &[2]).is_err());
    assert!(map(&[7], &[7]).unwrap_err().to_string().contains("6 elements"));
    let mut short = [0.0; 2];
    let out = &mut CpuOut { data: &mut short, shape: shape(&[3]) };
    assert!(parallel_map(out, [view(&[3])], |[x]| x).is_err());
}
