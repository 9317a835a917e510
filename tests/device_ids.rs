//! Ids that only the device knows: an id out of range is an error of every tensor computed from it, and of no other.

mod common;

use common::works::{assert_works, tensor};
use common::*;
use gristmill::gpu::{GpuOptions, Recorder};
use gristmill::nn::Parameter;
use gristmill::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, apply};
use gristmill::optim::{Adam, Optimizer, Sgd};
use gristmill::{CpuDevice, DType, Device, Error, Result, Tensor, io};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A device for one test: other tests must not finish its checks.
fn own() -> Option<Device> {
    opened(&GpuOptions::default())
}

/// The ids 9 and 0, computed on the device: all below 10.
fn nine_and_zero(device: &Device) -> Tensor {
    let x: Vec<f32> = (0..10).map(|i| i as f32).chain((0..10).map(|i| -(i as f32))).collect();
    Tensor::from_slice(&x, [2, 10], device).unwrap().argmax(1, false).unwrap()
}

/// A table of `rows` rows and two columns.
fn table(rows: usize, device: &Device) -> Tensor {
    tensor(&[rows, 2], 1, device)
}

/// Asserts that a tensor can't be read, now and later, because of the ids of `op`.
fn assert_bad(tensor: &Tensor, op: &str) {
    for _ in 0..2 {
        match tensor.to_vec() {
            Err(Error::Argument { op: name, message, .. }) => {
                assert_eq!(name, op, "{message}");
                assert!(message.contains("out of range") && message.contains("below"), "{message}");
            }
            other => panic!("{other:?} instead of an error of {op}"),
        }
    }
}

#[test]
fn an_error_of_ids_reaches_the_readers_of_its_tensors_and_no_other() {
    let Some(device) = own() else { return };
    let ids = nine_and_zero(&device);
    let earlier = tensor(&[8], 2, &device).neg().unwrap();
    let embedded = table(4, &device).embedding(&ids).unwrap();
    let hot = ids.one_hot(5).unwrap();
    let loss = tensor(&[2, 3], 1, &device).cross_entropy(&ids).unwrap();
    let later = tensor(&[8], 3, &device).neg().unwrap();
    let good = table(10, &device).embedding(&ids).unwrap();
    let zeros = tensor(&[4, 1], 1, &device);
    let selected = zeros.index_select(0, &ids).unwrap();
    let src = tensor(&[2], 1, &device);
    let added = Tensor::zeros([6], &device).unwrap().scatter_add(0, &ids, &src).unwrap();

    // Whichever thread reads first, a thread that does not use the ids gets no error.
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| tensor(&[100], 1, &device).square().unwrap().to_vec().map(drop));
        assert_eq!(reader.join().unwrap(), Ok(()));
    });
    assert_eq!(device.synchronize(), Ok(()));
    for innocent in [&earlier, &later, &good, &zeros] {
        assert!(innocent.to_vec().is_ok());
    }
    assert_eq!(ids.to_ids().unwrap(), [9, 0]);
    let all =
        [(&embedded, "embedding"), (&hot, "one_hot"), (&loss, "cross_entropy"), (&selected, "index_select")];
    for (guilty, op) in all.into_iter().chain([(&added, "scatter_add")]) {
        assert_bad(guilty, op);
        assert!(earlier.to_vec().is_ok(), "after {op}");
    }
    assert_works(&device, 1);
}

#[test]
fn what_is_computed_from_a_bad_id_is_bad_however_far_away() {
    let Some(device) = own() else { return };
    let ids = nine_and_zero(&device);
    let leaf = table(4, &device).requires_grad().unwrap();
    let innocent = table(4, &device).requires_grad().unwrap();
    let rows = leaf.embedding(&ids).unwrap();
    let loss = rows.mul(&rows).unwrap().sum_all().unwrap().add(&innocent.sum_all().unwrap()).unwrap();
    let chain = (0..300).fold(rows.clone(), |y, _| y.neg().unwrap()); // several batches away
    let gradients = loss.backward().unwrap();
    for bad in [
        &rows,
        &loss,
        &chain,
        &rows.t().unwrap(),
        &rows.slice(1, 0..1).unwrap(),
        &rows.t().unwrap().copy().unwrap(),
        &Tensor::cat(&[&table(1, &device), &rows], 0).unwrap(),
    ] {
        assert_bad(bad, "embedding");
    }
    assert!(matches!(rows.to(&Device::cpu()), Err(Error::Argument { op: "embedding", .. })));
    assert!(gradients.get(&leaf).unwrap().to_vec().is_err());
    // Its gradient is 1 whatever the loss.
    assert_eq!(gradients.get(&innocent).unwrap().to_vec().unwrap(), [1.0; 8]);
    assert!(table(4, &device).add(&leaf).unwrap().to_vec().is_ok(), "the table itself is well");
}

#[test]
fn ids_made_from_numbers_are_checked() {
    let Some(device) = own() else { return };
    let x = Tensor::from_slice(&[3.9, f32::INFINITY], [2], &device).unwrap();
    let ids = x.to_dtype(DType::U32).unwrap();
    assert_bad(&table(4, &device).embedding(&ids).unwrap(), "embedding");
    assert_eq!(ids.to_ids().unwrap(), [3, u32::MAX]);
    let good = x.minimum_scalar(3.0).unwrap().to_dtype(DType::U32).unwrap();
    assert!(table(4, &device).embedding(&good).unwrap().to_vec().is_ok());
}

#[test]
fn a_parameter_updated_from_a_bad_id_stays_bad_until_it_is_set() {
    let Some(device) = own() else { return };
    let ids = nine_and_zero(&device);
    for by_adam in [false, true] {
        let parameter = Parameter::new(&table(4, &device)).unwrap();
        let other = Parameter::new(&table(4, &device)).unwrap();
        let both = [parameter.clone(), other.clone()];
        let mut optimizer: Box<dyn Optimizer> =
            if by_adam { Box::new(Adam::new(both, 0.1)) } else { Box::new(Sgd::new(both, 0.1)) };
        let loss = |ids: &Tensor| {
            let read = parameter.tensor().embedding(ids).unwrap().sum_all().unwrap();
            read.add(&other.tensor().sum_all().unwrap()).unwrap().backward().unwrap()
        };
        optimizer.step(&loss(&ids)).unwrap();
        let good = Tensor::from_ids(&[1, 0], [2], &device).unwrap();
        optimizer.step(&loss(&good)).unwrap();
        assert_eq!(device.synchronize(), Ok(()));
        let read = parameter.tensor().to_vec();
        assert!(matches!(read, Err(Error::Argument { .. })), "{read:?}");
        assert!(other.tensor().to_vec().is_ok());
        parameter.set(&table(4, &device)).unwrap();
        assert!(parameter.tensor().to_vec().is_ok());
    }
}

#[test]
fn a_bad_id_does_not_keep_another_tensor_from_being_saved() {
    let Some(device) = own() else { return };
    let ids = nine_and_zero(&device);
    let bad = table(4, &device).embedding(&ids).unwrap();
    let path = std::env::temp_dir().join(format!("gristmill-ids-{}.safetensors", std::process::id()));
    let good = ("good".to_string(), tensor(&[5], 1, &device));
    io::save(&path, std::slice::from_ref(&good), &Default::default()).unwrap();
    let saved = std::fs::read(&path).unwrap();
    let both = [good, ("bad".to_string(), bad)];
    assert!(matches!(
        io::save(&path, &both, &Default::default()),
        Err(Error::Argument { op: "embedding", .. })
    ));
    assert_eq!(std::fs::read(&path).unwrap(), saved, "what was saved before is still there");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_bad_id_is_found_among_hundreds_of_checks() {
    let Some(device) = own() else { return };
    let ids = nine_and_zero(&device);
    // The check of each step is still open when the next step begins; there are more checks than words.
    let step = |x: &Tensor, rows: usize| {
        let wide = Tensor::cat(&[x, &tensor(&[rows - 2, 2], 1, &device)], 0).unwrap();
        wide.embedding(&ids).unwrap()
    };
    for bad in [None, Some(0), Some(599), Some(300)] {
        let mut x = table(2, &device);
        for at in 0..600 {
            // Eleven rows suffice for any of these ids: the host knows that they are below ten.
            x = step(&x, if Some(at) == bad { 9 } else { 10 + at % 2 });
        }
        match bad {
            None => assert!(x.to_vec().is_ok()),
            Some(_) => assert_bad(&x, "embedding"),
        }
        assert!(ids.to_ids().is_ok());
    }
    assert_works(&device, 2);
}

#[test]
fn threads_with_good_and_bad_ids_do_not_disturb_each_other() {
    let Some(device) = own() else { return };
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let device = &device;
            scope.spawn(move || {
                for round in 0..20 {
                    let ids = nine_and_zero(device);
                    let is_bad = (thread + round) % 3 == 0;
                    let rows = table(if is_bad { 9 } else { 12 }, device).embedding(&ids).unwrap();
                    let sum = rows.sum_all().unwrap();
                    assert_eq!(sum.item().is_err(), is_bad, "thread {thread}, round {round}");
                }
            });
        }
    });
}

/// An op that records the status word assigned to the check of its input's ids; 0 if none is needed.
struct Slot(Arc<AtomicU32>);

impl Op for Slot {
    fn name(&self) -> &'static str {
        "slot"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta::f32(inputs[0].shape)])
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        0
    }

    fn cpu(&self, _: &Arc<CpuDevice>, _: &[CpuView], _: &mut [CpuOut]) -> Result<()> {
        unreachable!("it is run on GPUs")
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], _: &[GpuOut]) -> Result<()> {
        self.0.store(rec.id_check("slot", &inputs[0], 10)?.1, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn ids_that_are_known_to_fit_need_no_check() {
    let Some(device) = own() else { return };
    let is_checked = |ids: &Tensor| {
        let slot = Arc::new(AtomicU32::new(0));
        apply(Slot(slot.clone()), &[ids]).unwrap();
        slot.load(Ordering::Relaxed) != 0
    };
    let of_ten = nine_and_zero(&device);
    let of_eleven = tensor(&[2, 11], 1, &device).argmax(1, false).unwrap();
    let uploaded = Tensor::from_ids(&[3, 9, 1], [3], &device).unwrap();
    let x = tensor(&[2, 10], 1, &device);
    let known = [
        &of_ten,
        &uploaded,
        &x.argsort(1, false).unwrap(),
        &x.topk(3, 1, true).unwrap().1,
        &uploaded.index_select(0, &Tensor::from_ids(&[2, 2], [2], &device).unwrap()).unwrap(),
        &Tensor::cat(&[&of_ten, &uploaded], 0).unwrap(),
        &of_ten.expand([4, 2]).unwrap().copy().unwrap(),
        &uploaded.slice(0, 1..3).unwrap(),
        &of_ten.to(&Device::cpu()).unwrap().to(&device).unwrap(),
        &of_ten.eq_scalar(0.0).unwrap().where_cond(&of_ten, &uploaded.slice(0, 0..2).unwrap()).unwrap(),
    ];
    for (at, ids) in known.into_iter().enumerate() {
        assert!(!is_checked(ids), "{at}");
    }
    let mask = of_ten.eq_scalar(0.0).unwrap();
    for ids in [
        &of_eleven,
        &Tensor::cat(&[&of_ten, &of_eleven], 0).unwrap(),
        &mask.where_cond(&of_ten, &of_eleven).unwrap(),
        &mask.to_dtype(DType::U32).unwrap(),
    ] {
        assert!(is_checked(ids));
    }
}
