//! Training as one call: it does what a loop by hand does, and its callbacks what they say.
#![allow(clippy::unwrap_used)] // also in helpers, which clippy does not take for tests

mod common;

use common::{device, devices};
use gristmill::data::{DataLoader, TensorDataset};
use gristmill::nn::*;
use gristmill::optim::{AdamW, Optimizer, Schedule, Sgd, clip_grad_norm};
use gristmill::train::*;
use gristmill::{Device, Result, Tensor, no_grad};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Points in the plane, and whether they are right of the diagonal.
fn data(samples: usize, seed: u64, device: &Device) -> DataLoader {
    let x = Tensor::uniform([samples, 2], -1.0, 1.0, seed, device).unwrap();
    let classes: Vec<u32> = x.to_vec().unwrap().chunks(2).map(|x| u32::from(x[0] > x[1])).collect();
    let y = Tensor::from_ids(&classes, [samples], device).unwrap();
    DataLoader::new(TensorDataset::new(x, y).unwrap(), 32).unwrap().device(device)
}

fn model(device: &Device) -> Sequential {
    let init = &mut Init::new(1, device);
    Sequential::new()
        .push(Linear::new(2, 8, init).unwrap())
        .push(BatchNorm1d::new(8, init).unwrap())
        .push(Tanh)
        .push(Dropout::new(0.1, init.seed()).unwrap())
        .push(Linear::new(8, 2, init).unwrap())
}

fn loss(output: &Tensor, target: &Tensor) -> Result<Tensor> {
    output.cross_entropy(target)
}

fn trainer(model: &Sequential) -> Trainer<'_> {
    let schedule = Schedule::cosine(0.02, 0.0, 100).warm_up(3);
    let optimizer = AdamW::new(model.parameters(), 1.0);
    Trainer::new(model, optimizer, loss).metric("accuracy", accuracy).schedule(schedule).clip_grad_norm(0.5)
}

#[test]
fn a_trainer_does_what_a_loop_by_hand_does() {
    for device in devices() {
        let (train, validation) = (data(200, 1, &device).shuffle(7), data(50, 2, &device));
        let (by_call, by_hand) = (model(&device), model(&device));
        let history = trainer(&by_call).fit(&train, Some(&validation), 3).unwrap();

        let mut optimizer = AdamW::new(by_hand.parameters(), 1.0);
        let schedule = Schedule::cosine(0.02, 0.0, 100).warm_up(3);
        let mut step = 0;
        for epoch in 0..3 {
            by_hand.train();
            let (mut losses, mut right) = (0.0, 0.0);
            for batch in train.epoch(epoch).unwrap() {
                let batch = batch.unwrap();
                let output = by_hand.forward(&batch.inputs).unwrap();
                let loss = loss(&output, &batch.targets).unwrap();
                let mut gradients = loss.backward().unwrap();
                clip_grad_norm(&mut gradients, 0.5).unwrap();
                optimizer.set_learning_rate(schedule.lr_at(step));
                optimizer.step(&gradients).unwrap();
                step += 1;
                let count = batch.inputs.shape()[0] as f64;
                losses += count * f64::from(loss.item().unwrap());
                right += count * f64::from(accuracy(&output, &batch.targets).unwrap().item().unwrap());
            }
            let logs = &history.epochs()[epoch as usize];
            assert_eq!((logs.get("loss"), logs.get("accuracy")), (Some(losses / 200.0), Some(right / 200.0)));
            assert_eq!(logs.get("learning_rate"), Some(f64::from(optimizer.learning_rate())));
        }
        assert_eq!(hash_parameters(&by_call).unwrap(), hash_parameters(&by_hand).unwrap());
        // The figures of the validation data: in evaluation mode, of all samples alike.
        by_hand.eval();
        let (mut losses, mut samples) = (0.0, 0.0);
        for batch in validation.epoch(0).unwrap() {
            let batch = batch.unwrap();
            let loss = no_grad(|| loss(&by_hand.forward(&batch.inputs)?, &batch.targets)?.item()).unwrap();
            let count = batch.inputs.shape()[0] as f64;
            (losses, samples) = (losses + count * f64::from(loss), samples + count);
        }
        assert_eq!((history.last("val_loss"), samples), (Some(losses / samples), 50.0));
        let evaluated = trainer(&by_call).evaluate(&validation).unwrap();
        assert_eq!(evaluated.get("loss"), history.last("val_loss"));
        let names: Vec<&str> = evaluated.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["loss", "accuracy"]);
    }
}

#[test]
fn a_resumed_run_ends_with_the_same_bits() {
    for device in devices() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("last.safetensors");
        let (train, validation) = (data(100, 1, &device).shuffle(7), data(50, 2, &device));
        let whole = model(&device);
        let of_whole = trainer(&whole).fit(&train, Some(&validation), 4).unwrap();

        let first = model(&device);
        trainer(&first).callback(Checkpoint::last(&path)).fit(&train, Some(&validation), 2).unwrap();
        let second = model(&device);
        // The masks of dropout are counted by the layer: two epochs of four batches.
        let mask = second.get(3).unwrap();
        (0..8).for_each(|_| drop(mask.forward(&Tensor::ones([1], &device).unwrap())));
        let mut resumed = trainer(&second).resume(&path).unwrap();
        let of_second = resumed.fit(&train, Some(&validation), 4).unwrap();
        assert_eq!(of_second, of_whole);
        assert_eq!(hash_parameters(&second).unwrap(), hash_parameters(&whole).unwrap());
        // All four epochs are done.
        assert_eq!(resumed.fit(&train, None, 4).unwrap(), of_whole);

        let other = dir.path().join("other.safetensors");
        gristmill::optim::save_checkpoint(&first, &AdamW::new(first.parameters(), 1.0), &other, &[].into())
            .unwrap();
        let error = trainer(&first).resume(&other).err().unwrap().to_string();
        assert!(error.contains("is no checkpoint of a trainer"), "{error}");
    }
}

#[test]
fn early_stopping_waits_and_restores_the_best() {
    let device = Device::cpu();
    let weight = Tensor::zeros([1, 1], &device).unwrap();
    let model = Linear::from_tensors(&weight, None).unwrap();
    let ones = Tensor::ones([4, 1], &device).unwrap();
    let data = DataLoader::new(TensorDataset::new(ones.clone(), ones).unwrap(), 4).unwrap();
    // Each step adds 1 to the weight: the loss is |w - 1 - 2|, so that epoch 2 is the best (its figures are measured before
    // the step, those of the validation data after it).
    let loss = |y: &Tensor, _: &Tensor| y.mean_all()?.neg();
    let distance = |y: &Tensor, _: &Tensor| y.mean_all()?.sub_scalar(3.0)?.abs();
    let fit = |stopping: EarlyStopping| {
        model.weight().set(&weight).unwrap();
        let history = Trainer::new(&model, Sgd::new(model.parameters(), 1.0), loss)
            .metric("distance", distance)
            .callback(stopping)
            .fit(&data, Some(&data), 20)
            .unwrap();
        (history.epochs().len(), model.weight().tensor().to_vec().unwrap()[0])
    };
    assert_eq!(fit(EarlyStopping::lowest("val_distance", 2)), (5, 5.0));
    assert_eq!(fit(EarlyStopping::lowest("val_distance", 2).restore_best()), (5, 3.0));
    // 2, 1, 0, 1, 2, then ever higher.
    assert_eq!(fit(EarlyStopping::highest("val_distance", 4)), (5, 5.0));
    assert_eq!(fit(EarlyStopping::highest("val_distance", 5)), (20, 20.0));
    let error = Trainer::new(&model, Sgd::new(model.parameters(), 1.0), loss)
        .callback(EarlyStopping::lowest("val_accuracy", 1))
        .fit(&data, None, 1)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no figure val_accuracy to watch; there are loss, learning_rate"), "{error}");
}

#[test]
fn the_best_parameters_are_kept_in_a_file() {
    let device = device();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("best.safetensors");
    let (train, validation) = (data(100, 1, &device), data(50, 2, &device));
    let trained = model(&device);
    let history = trainer(&trained)
        .callback(Checkpoint::highest(&path, "val_accuracy"))
        .fit(&train, Some(&validation), 6)
        .unwrap();
    let best = history.epochs().iter().map(|logs| logs.get("val_accuracy").unwrap()).fold(0.0, f64::max);
    let loaded = model(&device);
    let metadata = load_parameters(&loaded, &path).unwrap();
    assert_eq!(metadata["val_accuracy"], best.to_string());
    let evaluated = trainer(&loaded).evaluate(&validation).unwrap();
    assert_eq!(evaluated.get("accuracy"), Some(best));
    // A path that can't be written is refused before the first step.
    let before = hash_parameters(&trained).unwrap();
    let wrong = dir.path().join("no/such/directory.safetensors");
    let error = trainer(&trained).callback(Checkpoint::last(wrong)).fit(&train, None, 1).unwrap_err();
    assert!(error.to_string().contains("no/such"), "{error}");
    assert_eq!(hash_parameters(&trained).unwrap(), before);
}

/// Counts the calls, and sets a flag in one of them.
struct Counts<'a> {
    calls: &'a [AtomicUsize; 5],
    flag: Arc<AtomicBool>,
    at_step: u64,
}

impl Callback for Counts<'_> {
    fn on_train_begin(&mut self, _: &mut Run) -> Result<()> {
        self.calls[0].fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn on_epoch_begin(&mut self, _: &mut Run) -> Result<()> {
        self.calls[1].fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn on_batch_end(&mut self, run: &mut Run, logs: &Logs) -> Result<()> {
        self.calls[2].fetch_add(1, Ordering::Relaxed);
        assert!(logs.get("loss").unwrap().is_finite() && run.batch <= run.batches);
        self.flag.fetch_or(run.step == self.at_step, Ordering::Relaxed);
        Ok(())
    }

    fn on_epoch_end(&mut self, _: &mut Run, _: &Logs) -> Result<()> {
        self.calls[3].fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn on_train_end(&mut self, _: &mut Run) -> Result<()> {
        self.calls[4].fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn a_flag_ends_the_training_after_its_step() {
    let device = Device::cpu();
    let train = data(320, 1, &device);
    let model = model(&device);
    let calls = Default::default();
    let flag = Arc::new(AtomicBool::new(false));
    let counts = Counts { calls: &calls, flag: flag.clone(), at_step: 14 };
    let history = trainer(&model).callback(counts).callback(StopFlag(flag)).fit(&train, None, 5).unwrap();
    // Ten steps an epoch: the second is cut short, and has no end.
    assert_eq!(history.epochs().len(), 1);
    assert_eq!(calls.each_ref().map(|count| count.load(Ordering::Relaxed)), [1, 2, 14, 1, 1]);
}

#[test]
fn the_search_of_a_rate_leaves_the_model_as_it_was() {
    for device in devices() {
        let (train, model) = (data(320, 1, &device), model(&device));
        let before = hash_parameters(&model).unwrap();
        let sgd = || Sgd::new(model.parameters(), 1.0);
        let tried = find_learning_rate(&model, sgd(), loss, &train, 1e-3, 10.0).unwrap();
        assert!(tried.len() > 2 && tried.windows(2).all(|pair| pair[0].rate < pair[1].rate));
        assert_eq!(hash_parameters(&model).unwrap(), before);
        for (from, to) in [(0.0, 1.0), (1.0, 1.0), (f32::NAN, 1.0), (1.0, f32::INFINITY)] {
            let error = find_learning_rate(&model, sgd(), loss, &train, from, to).unwrap_err().to_string();
            assert!(error.contains("find_learning_rate: rates from"), "{error}");
        }
    }
}
