//! Training as one call: [`Trainer`], its callbacks, and what they see.
//!
//! ```
//! use gristmill::data::{DataLoader, TensorDataset};
//! use gristmill::nn::{Init, Linear, Module, Sequential, Tanh};
//! use gristmill::optim::AdamW;
//! use gristmill::train::{EarlyStopping, Trainer, accuracy};
//! use gristmill::{Device, Tensor};
//!
//! let device = Device::best()?;
//! let x = Tensor::uniform([256, 2], -1.0, 1.0, 1, &device)?;
//! let y = Tensor::from_ids(&x.to_vec()?.chunks(2).map(|x| u32::from(x[0] > x[1])).collect::<Vec<_>>(), [256], &device)?;
//! let data = DataLoader::new(TensorDataset::new(x, y)?, 32)?.shuffle(1);
//!
//! let mut init = Init::new(1, &device);
//! let model = Sequential::new().push(Linear::new(2, 8, &mut init)?).push(Tanh).push(Linear::new(8, 2, &mut init)?);
//! let history = Trainer::new(&model, AdamW::new(model.parameters(), 0.02), |output, target| output.cross_entropy(target))
//!     .metric("accuracy", accuracy)
//!     .callback(EarlyStopping::lowest("val_loss", 3))
//!     .fit(&data, Some(&data), 20)?;
//! assert!(history.last("val_accuracy").unwrap() > 0.9);
//! # Ok::<(), gristmill::Error>(())
//! ```
//!
//! A loop by hand does the same, and anything else: see the example `mnist_cnn` and [`nn`](crate::nn).

mod callback;
mod finder;

#[cfg(feature = "progress")]
pub use callback::ProgressBar;
#[cfg(feature = "tensorboard")]
pub use callback::TensorBoard;
pub use callback::{Callback, Checkpoint, EarlyStopping, PrintEpochs, StopFlag};
pub use finder::{RateLoss, find_learning_rate};

use crate::data::{Batch, DataLoader};
use crate::error::{at_line, caller};
use crate::io::Metadata;
use crate::nn::Layer;
use crate::optim::{Optimizer, Schedule, clip_grad_norm, load_checkpoint};
use crate::tensor::Tensor;
use crate::{DType, Error, Result, no_grad};
use std::path::Path;

/// Batches whose figures stay on the device before they are read, so that it need not be waited for at each step.
const READ_EVERY: usize = 20;

/// Named figures, such as `loss` and `val_accuracy`, in the order in which they were made.
///
/// ```
/// # use gristmill::train::Logs;
/// let logs = Logs::from_iter([("loss".to_string(), 0.5), ("accuracy".to_string(), 0.9)]);
/// assert_eq!((logs.get("accuracy"), logs.get("val_loss")), (Some(0.9), None));
/// assert_eq!(logs.iter().next(), Some(("loss", 0.5)));
/// assert_eq!(logs.to_string(), "loss: 0.5000 - accuracy: 0.9000");
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Logs(Vec<(String, f64)>);

impl Logs {
    /// The figure of this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| *value)
    }

    /// All names and figures.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (&**name, *value))
    }
}

impl FromIterator<(String, f64)> for Logs {
    fn from_iter<I: IntoIterator<Item = (String, f64)>>(figures: I) -> Logs {
        Logs(figures.into_iter().collect())
    }
}

impl std::fmt::Display for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, (name, value)) in self.iter().enumerate() {
            let dash = if at == 0 { "" } else { " - " };
            // A learning rate needs its first digits, a loss its first places.
            match value != 0.0 && value.abs() < 1e-3 {
                true => write!(f, "{dash}{name}: {value:.4e}")?,
                false => write!(f, "{dash}{name}: {value:.4}")?,
            }
        }
        Ok(())
    }
}

/// The figures of each epoch, from the first on; of a resumed run those before as well.
///
/// ```
/// # use gristmill::data::{DataLoader, TensorDataset};
/// # use gristmill::{Device, Tensor, nn::{Init, Linear, Module, mse_loss}, optim::Sgd, train::Trainer};
/// # let x = Tensor::uniform([64, 1], -1.0, 1.0, 1, &Device::cpu())?;
/// # let data = DataLoader::new(TensorDataset::new(x.clone(), x.mul_scalar(3.0)?)?, 8)?;
/// # let model = Linear::new(1, 1, &mut Init::new(1, &Device::cpu()))?;
/// let mut trainer = Trainer::new(&model, Sgd::new(model.parameters(), 0.1), mse_loss);
/// let history = trainer.fit(&data, None, 2)?;
/// assert_eq!(history.epochs().len(), 2);
/// assert_eq!(history.last("loss"), history.epochs()[1].get("loss"));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    epochs: Vec<Logs>,
}

impl History {
    /// The figures of each epoch.
    pub fn epochs(&self) -> &[Logs] {
        &self.epochs
    }

    /// A figure of the last epoch.
    pub fn last(&self, name: &str) -> Option<f64> {
        self.epochs.last()?.get(name)
    }

    /// As text for a checkpoint's metadata: JSON, with the bits of the figures, which decimals need not keep.
    fn encode(&self) -> String {
        let figure = |(name, value): (&str, f64)| [name.to_string(), format!("{:016x}", value.to_bits())];
        let epochs: Vec<Vec<[String; 2]>> =
            self.epochs.iter().map(|logs| logs.iter().map(figure).collect()).collect();
        serde_json::json!(epochs).to_string()
    }

    fn decode(text: &str) -> Option<History> {
        let figure =
            |[name, bits]: [String; 2]| Some((name, f64::from_bits(u64::from_str_radix(&bits, 16).ok()?)));
        let epochs: Vec<Vec<[String; 2]>> = serde_json::from_str(text).ok()?;
        let epochs = epochs.into_iter().map(|epoch| epoch.into_iter().map(figure).collect::<Option<Logs>>());
        Some(History { epochs: epochs.collect::<Option<_>>()? })
    }
}

/// The fraction of outputs `[n, classes]` whose largest element is that of the target, class ids `[n]`: a metric for
/// [`Trainer::metric`]. Of ids on the host: [`metrics::accuracy`](crate::metrics::accuracy).
///
/// ```
/// # use gristmill::{Device, Tensor, train};
/// # let device = Device::cpu();
/// let logits = Tensor::from_slice(&[1.0, 2.0, 5.0, 0.0], [2, 2], &device)?;
/// let classes = Tensor::from_ids(&[1, 1], [2], &device)?;
/// assert_eq!(train::accuracy(&logits, &classes)?.item()?, 0.5);
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// Other shapes or types, or the device fails.
pub fn accuracy(output: &Tensor, target: &Tensor) -> Result<Tensor> {
    target.expect(DType::U32, "accuracy")?;
    output.argmax(-1, false)?.eq(target)?.mean_all()
}

type Figure<'a> = Box<dyn Fn(&Tensor, &Tensor) -> Result<Tensor> + 'a>;

/// Trains a model on the batches of a [`DataLoader`], in the manner of Keras's `compile` and `fit`.
///
/// The [module](self) has an example with a metric and a callback.
///
/// ```
/// # use gristmill::data::{DataLoader, TensorDataset};
/// # use gristmill::{Device, Tensor, nn::{Init, Linear, Module, mse_loss}, optim::{Schedule, Sgd}, train::Trainer};
/// # let x = Tensor::uniform([64, 1], -1.0, 1.0, 1, &Device::cpu())?;
/// # let data = DataLoader::new(TensorDataset::new(x.clone(), x.mul_scalar(3.0)?)?, 8)?;
/// # let model = Linear::new(1, 1, &mut Init::new(1, &Device::cpu()))?;
/// let mut trainer = Trainer::new(&model, Sgd::new(model.parameters(), 0.5), mse_loss)
///     .schedule(Schedule::cosine(0.5, 0.0, 160))
///     .clip_grad_norm(10.0);
/// let history = trainer.fit(&data, None, 20)?; // of 8 steps each
/// assert!(history.last("loss").unwrap() < history.epochs()[0].get("loss").unwrap());
/// assert!(trainer.evaluate(&data)?.get("loss").unwrap() < 0.01);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct Trainer<'a> {
    model: &'a dyn Layer,
    optimizer: Box<dyn Optimizer + 'a>,
    loss: Figure<'a>,
    metrics: Vec<(String, Figure<'a>)>,
    callbacks: Vec<Box<dyn Callback + 'a>>,
    schedule: Option<Schedule>,
    clip: Option<f32>,
    history: History,
    /// Steps made.
    step: u64,
}

/// What a [`Callback`] sees of the training, and may change.
pub struct Run<'r> {
    /// The model.
    pub model: &'r dyn Layer,
    /// The optimizer.
    pub optimizer: &'r mut dyn Optimizer,
    /// The epoch, from 0.
    pub epoch: u64,
    /// The epochs that are to be run.
    pub epochs: u64,
    /// Batches done of the epoch.
    pub batch: usize,
    /// Batches of an epoch.
    pub batches: usize,
    /// Optimizer steps made in all epochs.
    pub step: u64,
    /// The figures of the epochs that are done.
    pub history: &'r History,
    stop: &'r mut bool,
}

impl Run<'_> {
    /// Ends the training after this batch; within an epoch, without the rest of it.
    ///
    /// ```
    /// # use gristmill::train::{Callback, Logs, Run};
    /// # use gristmill::Result;
    /// # struct Once;
    /// impl Callback for Once {
    ///     fn on_epoch_end(&mut self, run: &mut Run, _: &Logs) -> Result<()> {
    ///         run.stop();
    ///         Ok(())
    ///     }
    /// }
    /// # use gristmill::data::{DataLoader, TensorDataset};
    /// # use gristmill::{Device, Tensor, nn::{Init, Linear, Module, mse_loss}, optim::Sgd, train::Trainer};
    /// # let x = Tensor::uniform([64, 1], -1.0, 1.0, 1, &Device::cpu())?;
    /// # let data = DataLoader::new(TensorDataset::new(x.clone(), x.mul_scalar(3.0)?)?, 8)?;
    /// # let model = Linear::new(1, 1, &mut Init::new(1, &Device::cpu()))?;
    /// let mut trainer = Trainer::new(&model, Sgd::new(model.parameters(), 0.1), mse_loss).callback(Once);
    /// assert_eq!(trainer.fit(&data, None, 100)?.epochs().len(), 1);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn stop(&mut self) {
        *self.stop = true;
    }
}

impl<'a> Trainer<'a> {
    /// For a model, the optimizer of its parameters, and a loss: a function of output and target that gives one number, the
    /// mean over the batch.
    pub fn new(
        model: &'a dyn Layer,
        optimizer: impl Optimizer + 'a,
        loss: impl Fn(&Tensor, &Tensor) -> Result<Tensor> + 'a,
    ) -> Trainer<'a> {
        Trainer {
            model,
            optimizer: Box::new(optimizer),
            loss: Box::new(loss),
            metrics: Vec::new(),
            callbacks: Vec::new(),
            schedule: None,
            clip: None,
            history: History::default(),
            step: 0,
        }
    }

    /// Measures another figure: a function of output and target that gives one number, the mean over the batch. It is
    /// in the logs under this name, for the validation data under `val_` and the name.
    ///
    /// ```
    /// # use gristmill::data::{DataLoader, TensorDataset};
    /// # use gristmill::{Device, Tensor, nn::{Init, Linear, Module, l1_loss, mse_loss}, optim::Sgd, train::Trainer};
    /// # let x = Tensor::uniform([64, 1], -1.0, 1.0, 1, &Device::cpu())?;
    /// # let data = DataLoader::new(TensorDataset::new(x.clone(), x.mul_scalar(3.0)?)?, 8)?;
    /// # let model = Linear::new(1, 1, &mut Init::new(1, &Device::cpu()))?;
    /// let sgd = Sgd::new(model.parameters(), 0.1);
    /// let mut trainer = Trainer::new(&model, sgd, mse_loss).metric("distance", l1_loss);
    /// let history = trainer.fit(&data, Some(&data), 10)?;
    /// assert!(history.last("val_distance").unwrap() < history.epochs()[0].get("val_distance").unwrap());
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn metric(
        mut self,
        name: &str,
        metric: impl Fn(&Tensor, &Tensor) -> Result<Tensor> + 'a,
    ) -> Trainer<'a> {
        self.metrics.push((name.to_string(), Box::new(metric)));
        self
    }

    /// Adds a callback. They are called in the order in which they were added.
    ///
    /// ```
    /// # use gristmill::data::{DataLoader, TensorDataset};
    /// # use gristmill::train::{EarlyStopping, Trainer};
    /// # use gristmill::{Device, Tensor, nn::{Init, Linear, Module, mse_loss}, optim::Sgd};
    /// # let x = Tensor::uniform([64, 1], -1.0, 1.0, 1, &Device::cpu())?;
    /// # let data = DataLoader::new(TensorDataset::new(x.clone(), x.mul_scalar(3.0)?)?, 8)?;
    /// # let model = Linear::new(1, 1, &mut Init::new(1, &Device::cpu()))?;
    /// let mut trainer = Trainer::new(&model, Sgd::new(model.parameters(), 0.0), mse_loss) // learns nothing
    ///     .callback(EarlyStopping::lowest("loss", 1));
    /// assert_eq!(trainer.fit(&data, None, 100)?.epochs().len(), 2);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn callback(mut self, callback: impl Callback + 'a) -> Trainer<'a> {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Sets the learning rate before each step. Without a schedule it stays the optimizer's.
    pub fn schedule(self, schedule: Schedule) -> Trainer<'a> {
        Trainer { schedule: Some(schedule), ..self }
    }

    /// Scales the gradients down to this norm ([`clip_grad_norm`]) and leaves out a step whose norm is not finite. Waits for
    /// the device at each step.
    pub fn clip_grad_norm(self, max_norm: f32) -> Trainer<'a> {
        Trainer { clip: Some(max_norm), ..self }
    }

    /// Continues the run of a checkpoint by [`Checkpoint::last`], with the same bits as if it had not ended, if model,
    /// optimizer, data and options are the same. Only dropout, which counts its masks, draws the first ones again.
    ///
    /// ```
    /// # use gristmill::data::{DataLoader, TensorDataset};
    /// # use gristmill::train::{Checkpoint, Trainer};
    /// # use gristmill::{Device, Tensor, nn::{Init, Linear, Module, mse_loss}, optim::Sgd};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let dir = dir.path();
    /// # let x = Tensor::uniform([64, 1], -1.0, 1.0, 1, &Device::cpu())?;
    /// # let data = DataLoader::new(TensorDataset::new(x.clone(), x.mul_scalar(3.0)?)?, 8)?;
    /// # let model = Linear::new(1, 1, &mut Init::new(1, &Device::cpu()))?;
    /// let trainer = || Trainer::new(&model, Sgd::new(model.parameters(), 0.1), mse_loss);
    /// trainer().callback(Checkpoint::last(dir.join("last.safetensors"))).fit(&data, None, 2)?;
    /// let history = trainer().resume(dir.join("last.safetensors"))?.fit(&data, None, 3)?; // one more
    /// assert_eq!(history.epochs().len(), 3);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`load_checkpoint`], or a file that a trainer did not write.
    pub fn resume(mut self, path: impl AsRef<Path>) -> Result<Trainer<'a>> {
        let path = path.as_ref();
        let metadata = load_checkpoint(self.model, &mut *self.optimizer, path)?;
        let read = || {
            let step = metadata.get("step")?.parse().ok()?;
            Some((step, History::decode(metadata.get("history")?)?))
        };
        let wrong = || Error::file(path, "is no checkpoint of a trainer: it lacks step or history");
        (self.step, self.history) = read().ok_or_else(wrong)?;
        Ok(self)
    }

    /// Trains until `epochs` epochs are done, those of a resumed run included, or a callback ends it. An epoch that a callback
    /// ends in its middle is not in the history, has no figures and no checkpoint: a resumed run repeats it from its
    /// beginning. After each epoch the figures of the validation data are measured, if there are any, in evaluation mode. Batches move to the device of
    /// the model.
    ///
    /// The figures of the training data are means over the epoch's batches, each measured before its step, as in Keras.
    ///
    /// # Errors
    /// Those of the model, the loss, the data, the optimizer and the callbacks. What was trained stays; the epoch that
    /// failed is not in the history.
    #[track_caller]
    pub fn fit(
        &mut self,
        train: &DataLoader,
        validation: Option<&DataLoader>,
        epochs: u64,
    ) -> Result<History> {
        at_line(caller(), || self.run(train, validation, epochs))
    }

    fn run(&mut self, train: &DataLoader, validation: Option<&DataLoader>, epochs: u64) -> Result<History> {
        let (mut stop, device) = (false, self.model.device());
        let mut at =
            Position { epoch: self.history.epochs.len() as u64, epochs, batch: 0, batches: train.len() };
        self.tell(&mut stop, at, |callback, run| callback.on_train_begin(run))?;
        while at.epoch < epochs && !stop {
            at.batch = 0;
            self.model.train();
            self.tell(&mut stop, at, |callback, run| callback.on_epoch_begin(run))?;
            let mut figures = Figures::new(self, "");
            for batch in train.epoch(at.epoch)? {
                figures.add(self.step_with(&batch?.to(&device)?)?)?;
                at.batch += 1;
                // The first figures at once, for those who watch.
                if at.batch == 1 || at.batch == at.batches {
                    figures.read()?;
                }
                let logs = figures.means();
                self.tell(&mut stop, at, |callback, run| callback.on_batch_end(run, &logs))?;
                if stop {
                    break;
                }
            }
            if at.batch < at.batches {
                break;
            }
            let mut logs = figures.means();
            logs.0.push(("learning_rate".to_string(), f64::from(self.optimizer.learning_rate())));
            if let Some(validation) = validation {
                logs.0.extend(self.measure(validation, "val_")?.0);
            }
            self.history.epochs.push(logs.clone());
            self.tell(&mut stop, at, |callback, run| callback.on_epoch_end(run, &logs))?;
            at.epoch += 1;
        }
        self.tell(&mut stop, at, |callback, run| callback.on_train_end(run))?;
        Ok(self.history.clone())
    }

    /// The loss and the metrics on other data, in evaluation mode, after which the model is in it. Their names have no `val_`:
    /// `loss`, and those given to [`Trainer::metric`].
    ///
    /// # Errors
    /// Those of the model, the loss and the data.
    #[track_caller]
    pub fn evaluate(&self, data: &DataLoader) -> Result<Logs> {
        at_line(caller(), || self.measure(data, ""))
    }

    fn measure(&self, data: &DataLoader, prefix: &str) -> Result<Logs> {
        self.model.eval();
        let (mut figures, device) = (Figures::new(self, prefix), self.model.device());
        for batch in data.epoch(0)? {
            let batch = batch?.to(&device)?;
            let measured = no_grad(|| {
                let output = self.model.forward(&batch.inputs)?;
                self.figures(&output, &(self.loss)(&output, &batch.targets)?, &batch)
            })?;
            figures.add(measured)?;
        }
        figures.read()?;
        Ok(figures.means())
    }

    /// One step; the figures of the batch before it.
    fn step_with(&mut self, batch: &Batch) -> Result<(f64, Tensor)> {
        let output = self.model.forward(&batch.inputs)?;
        let loss = (self.loss)(&output, &batch.targets)?;
        let mut gradients = loss.backward()?;
        if let Some(schedule) = &self.schedule {
            self.optimizer.set_learning_rate(schedule.lr_at(self.step));
        }
        let whole = match self.clip {
            Some(most) => clip_grad_norm(&mut gradients, most)?.is_finite(),
            None => true,
        };
        if whole {
            self.optimizer.step(&gradients)?;
        }
        self.step += 1;
        no_grad(|| self.figures(&output.detach(), &loss.detach(), batch))
    }

    /// The number of samples of a batch, and the loss and the metrics, `[1 + metrics]`.
    fn figures(&self, output: &Tensor, loss: &Tensor, batch: &Batch) -> Result<(f64, Tensor)> {
        let metrics = self.metrics.iter().map(|(_, metric)| metric(output, &batch.targets)?.reshape([1]));
        let all = std::iter::once(loss.reshape([1])).chain(metrics).collect::<Result<Vec<_>>>()?;
        let samples = batch.inputs.shape().first().copied().unwrap_or(1);
        Ok((samples as f64, Tensor::cat(&all.iter().collect::<Vec<_>>(), 0)?))
    }

    fn tell(
        &mut self,
        stop: &mut bool,
        at: Position,
        call: impl Fn(&mut dyn Callback, &mut Run) -> Result<()>,
    ) -> Result<()> {
        let Position { epoch, epochs, batch, batches } = at;
        let mut run = Run {
            model: self.model,
            optimizer: &mut *self.optimizer,
            epoch,
            epochs,
            batch,
            batches,
            step: self.step,
            history: &self.history,
            stop,
        };
        self.callbacks.iter_mut().try_for_each(|callback| call(&mut **callback, &mut run))
    }
}

#[derive(Clone, Copy)]
struct Position {
    epoch: u64,
    epochs: u64,
    batch: usize,
    batches: usize,
}

/// Weighted means of figures over batches.
struct Figures {
    names: Vec<String>,
    sums: Vec<f64>,
    samples: f64,
    /// Not read yet: a batch's samples and its figures.
    waiting: Vec<(f64, Tensor)>,
}

impl Figures {
    fn new(trainer: &Trainer, prefix: &str) -> Figures {
        let names = std::iter::once("loss").chain(trainer.metrics.iter().map(|(name, _)| &**name));
        let names: Vec<String> = names.map(|name| format!("{prefix}{name}")).collect();
        Figures { sums: vec![0.0; names.len()], names, samples: 0.0, waiting: Vec::new() }
    }

    /// Adds those of a batch, and reads what waits if that is much.
    fn add(&mut self, batch: (f64, Tensor)) -> Result<()> {
        self.waiting.push(batch);
        if self.waiting.len() == READ_EVERY { self.read() } else { Ok(()) }
    }

    /// Reads what waits, all at once.
    fn read(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        let all =
            Tensor::stack(&waiting.iter().map(|(_, figures)| figures).collect::<Vec<_>>(), 0)?.to_vec()?;
        for ((samples, _), figures) in waiting.iter().zip(all.chunks(self.sums.len())) {
            self.samples += samples;
            self.sums.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += samples * f64::from(*figure));
        }
        Ok(())
    }

    /// The means of what was read; nothing before that.
    fn means(&self) -> Logs {
        if self.samples == 0.0 {
            return Logs::default();
        }
        self.names.iter().cloned().zip(self.sums.iter().map(|sum| sum / self.samples)).collect()
    }
}

/// The metadata of a checkpoint from which [`Trainer::resume`] continues.
fn metadata(run: &Run) -> Metadata {
    [("step", run.step.to_string()), ("history", run.history.encode())]
        .map(|(name, value)| (name.to_string(), value))
        .into()
}
