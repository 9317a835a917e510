//! What happens around the steps of a [`Trainer`](super::Trainer).

use super::{History, Logs, Run, metadata};
use crate::nn::{LoadOptions, load_state_dict, save_parameters_with};
use crate::optim::save_checkpoint;
use crate::tensor::Tensor;
use crate::{Error, Result, io};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Called by a [`Trainer`](super::Trainer) at fixed points. All functions have a default that does nothing. An error ends
/// the training.
///
/// ```
/// use gristmill::train::{Callback, Logs, Run};
/// # use gristmill::Result;
///
/// /// Halves the learning rate after each epoch.
/// struct Halve;
///
/// impl Callback for Halve {
///     fn on_epoch_end(&mut self, run: &mut Run, _: &Logs) -> Result<()> {
///         let rate = run.optimizer.learning_rate();
///         run.optimizer.set_learning_rate(rate / 2.0);
///         Ok(())
///     }
/// }
/// # use gristmill::data::{DataLoader, TensorDataset};
/// # use gristmill::{Device, Tensor, nn::{Init, Linear, Module, mse_loss}, optim::Sgd, train::Trainer};
/// # let x = Tensor::uniform([64, 1], -1.0, 1.0, 1, &Device::cpu())?;
/// # let data = DataLoader::new(TensorDataset::new(x.clone(), x.mul_scalar(3.0)?)?, 8)?;
/// # let model = Linear::new(1, 1, &mut Init::new(1, &Device::cpu()))?;
/// let mut trainer = Trainer::new(&model, Sgd::new(model.parameters(), 0.5), mse_loss).callback(Halve);
/// assert_eq!(trainer.fit(&data, None, 3)?.last("learning_rate"), Some(0.125)); // the third epoch's
/// # Ok::<(), gristmill::Error>(())
/// ```
pub trait Callback {
    /// Before the first epoch. `run.history` has the epochs of the run that is resumed.
    ///
    /// # Errors
    /// The callback's own.
    fn on_train_begin(&mut self, run: &mut Run) -> Result<()> {
        let _ = run;
        Ok(())
    }

    /// Before the first batch of an epoch.
    ///
    /// # Errors
    /// The callback's own.
    fn on_epoch_begin(&mut self, run: &mut Run) -> Result<()> {
        let _ = run;
        Ok(())
    }

    /// After a step. `logs` are means over the epoch up to the batches that were read last: the first, the last, and every
    /// 20 between.
    ///
    /// # Errors
    /// The callback's own.
    fn on_batch_end(&mut self, run: &mut Run, logs: &Logs) -> Result<()> {
        let _ = (run, logs);
        Ok(())
    }

    /// After an epoch, with its figures, those of the validation data included.
    ///
    /// # Errors
    /// The callback's own.
    fn on_epoch_end(&mut self, run: &mut Run, logs: &Logs) -> Result<()> {
        let _ = (run, logs);
        Ok(())
    }

    /// After the last epoch.
    ///
    /// # Errors
    /// The callback's own.
    fn on_train_end(&mut self, run: &mut Run) -> Result<()> {
        let _ = run;
        Ok(())
    }
}

/// A figure to watch, and whether a lower or a higher one is better.
struct Watch {
    name: String,
    higher: bool,
    best: Option<f64>,
}

impl Watch {
    fn new(name: &str, higher: bool) -> Watch {
        Watch { name: name.to_string(), higher, best: None }
    }

    /// Whether the figure is better than all before. NaN never is.
    ///
    /// # Errors
    /// There is no such figure.
    fn is_better(&mut self, logs: &Logs) -> Result<bool> {
        let found = logs.get(&self.name).ok_or_else(|| {
            let names: Vec<&str> = logs.iter().map(|(name, _)| name).collect();
            Error::argument(
                "fit",
                format!("no figure {} to watch; there are {}", self.name, names.join(", ")),
            )
        })?;
        let better = match self.best {
            _ if found.is_nan() => false,
            None => true,
            Some(best) => {
                if self.higher {
                    found > best
                } else {
                    found < best
                }
            }
        };
        if better {
            self.best = Some(found);
        }
        Ok(better)
    }

    /// The epochs since the best one.
    fn replay(&mut self, history: &History) -> Result<u64> {
        self.best = None;
        let mut since = 0;
        for logs in history.epochs() {
            since = if self.is_better(logs)? { 0 } else { since + 1 };
        }
        Ok(since)
    }
}

/// Ends the training when a figure has not become better for a number of epochs, as `EarlyStopping` of Keras.
///
/// ```
/// # use gristmill::data::{DataLoader, TensorDataset};
/// # use gristmill::train::{EarlyStopping, Trainer};
/// # use gristmill::{Device, Tensor, nn::{Init, Linear, Module, mse_loss}, optim::Sgd};
/// # let x = Tensor::uniform([64, 1], -1.0, 1.0, 1, &Device::cpu())?;
/// # let data = DataLoader::new(TensorDataset::new(x.clone(), x.mul_scalar(3.0)?)?, 8)?;
/// # let model = Linear::new(1, 1, &mut Init::new(1, &Device::cpu()))?;
/// let stopping = EarlyStopping::lowest("val_loss", 2).restore_best();
/// let sgd = Sgd::new(model.parameters(), 0.0); // learns nothing
/// let history = Trainer::new(&model, sgd, mse_loss).callback(stopping).fit(&data, Some(&data), 100)?;
/// assert_eq!(history.epochs().len(), 3); // the best, and two that are no better
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct EarlyStopping {
    watch: Watch,
    patience: u64,
    since: u64,
    /// The best parameters, if they are to be restored.
    best: Option<Vec<(String, Tensor)>>,
}

impl EarlyStopping {
    /// Ends when this figure was no lower than its lowest for `patience` epochs.
    pub fn lowest(figure: &str, patience: u64) -> EarlyStopping {
        EarlyStopping { watch: Watch::new(figure, false), patience, since: 0, best: None }
    }

    /// Ends when this figure was no higher than its highest for `patience` epochs.
    ///
    /// ```
    /// # use gristmill::data::{DataLoader, TensorDataset};
    /// # use gristmill::train::{EarlyStopping, Trainer};
    /// # use gristmill::{Device, Tensor, nn::{Init, Linear, Module, mse_loss}, optim::Sgd};
    /// # let x = Tensor::uniform([64, 1], -1.0, 1.0, 1, &Device::cpu())?;
    /// # let data = DataLoader::new(TensorDataset::new(x.clone(), x.mul_scalar(3.0)?)?, 8)?;
    /// # let model = Linear::new(1, 1, &mut Init::new(1, &Device::cpu()))?;
    /// let stopping = EarlyStopping::highest("score", 1);
    /// let mut trainer = Trainer::new(&model, Sgd::new(model.parameters(), 0.0), mse_loss) // learns nothing
    ///     .metric("score", |output, target| mse_loss(output, target)?.neg())
    ///     .callback(stopping);
    /// assert_eq!(trainer.fit(&data, None, 100)?.epochs().len(), 2);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn highest(figure: &str, patience: u64) -> EarlyStopping {
        EarlyStopping { watch: Watch::new(figure, true), patience, since: 0, best: None }
    }

    /// Gives the model the parameters of the best epoch at the end of the training, whatever ends it. Of a resumed run, of
    /// the best epoch since.
    pub fn restore_best(self) -> EarlyStopping {
        EarlyStopping { best: Some(Vec::new()), ..self }
    }
}

impl Callback for EarlyStopping {
    fn on_train_begin(&mut self, run: &mut Run) -> Result<()> {
        self.since = self.watch.replay(run.history)?;
        Ok(())
    }

    fn on_epoch_end(&mut self, run: &mut Run, logs: &Logs) -> Result<()> {
        if self.watch.is_better(logs)? {
            self.since = 0;
            if let Some(best) = &mut self.best {
                *best = run.model.state_dict();
            }
            return Ok(());
        }
        self.since += 1;
        if self.since >= self.patience {
            run.stop();
        }
        Ok(())
    }

    fn on_train_end(&mut self, run: &mut Run) -> Result<()> {
        match &self.best {
            Some(best) if !best.is_empty() => load_state_dict(run.model, best, &LoadOptions::new()).map(drop),
            _ => Ok(()),
        }
    }
}

/// Writes a checkpoint after each epoch, or after each that is the best so far.
///
/// ```
/// # use gristmill::data::{DataLoader, TensorDataset};
/// # use gristmill::train::{Checkpoint, Trainer};
/// # use gristmill::{Device, Tensor, nn::{self, Init, Linear, Module, mse_loss}, optim::Sgd};
/// # let dir = tempfile::tempdir().unwrap();
/// # let dir = dir.path();
/// # let x = Tensor::uniform([64, 1], -1.0, 1.0, 1, &Device::cpu())?;
/// # let data = DataLoader::new(TensorDataset::new(x.clone(), x.mul_scalar(3.0)?)?, 8)?;
/// # let model = Linear::new(1, 1, &mut Init::new(1, &Device::cpu()))?;
/// let best = Checkpoint::lowest(dir.join("best.safetensors"), "loss"); // parameters, for nn::load_parameters
/// let last = Checkpoint::last(dir.join("last.safetensors")); // with the optimizer, for Trainer::resume
/// let sgd = Sgd::new(model.parameters(), 0.1);
/// Trainer::new(&model, sgd, mse_loss).callback(best).callback(last).fit(&data, None, 3)?;
/// let metadata = nn::load_parameters(&model, dir.join("best.safetensors"))?;
/// assert_eq!(metadata["epoch"], "2"); // the loss fell in each
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct Checkpoint {
    path: PathBuf,
    /// `None`: after each epoch.
    best: Option<Watch>,
}

impl Checkpoint {
    /// After each epoch model, optimizer and history, from which [`Trainer::resume`](super::Trainer::resume) continues.
    pub fn last(path: impl AsRef<Path>) -> Checkpoint {
        Checkpoint { path: path.as_ref().to_path_buf(), best: None }
    }

    /// The parameters, when this figure is lower than ever. Metadata: `epoch`, from 0, and the figure.
    pub fn lowest(path: impl AsRef<Path>, figure: &str) -> Checkpoint {
        Checkpoint { path: path.as_ref().to_path_buf(), best: Some(Watch::new(figure, false)) }
    }

    /// The parameters, when this figure is higher than ever. Metadata: `epoch`, from 0, and the figure.
    ///
    /// ```
    /// # use gristmill::data::{DataLoader, TensorDataset};
    /// # use gristmill::train::{Checkpoint, Trainer};
    /// # use gristmill::{Device, Tensor, nn::{self, Init, Linear, Module, mse_loss}, optim::Sgd};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let dir = dir.path();
    /// # let x = Tensor::uniform([64, 1], -1.0, 1.0, 1, &Device::cpu())?;
    /// # let data = DataLoader::new(TensorDataset::new(x.clone(), x.mul_scalar(3.0)?)?, 8)?;
    /// # let model = Linear::new(1, 1, &mut Init::new(1, &Device::cpu()))?;
    /// let best = Checkpoint::highest(dir.join("best.safetensors"), "score");
    /// let mut trainer = Trainer::new(&model, Sgd::new(model.parameters(), 0.1), mse_loss)
    ///     .metric("score", |output, target| mse_loss(output, target)?.neg()) // higher is better
    ///     .callback(best);
    /// trainer.fit(&data, None, 3)?;
    /// assert_eq!(nn::load_parameters(&model, dir.join("best.safetensors"))?["epoch"], "2"); // it rose in each
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn highest(path: impl AsRef<Path>, figure: &str) -> Checkpoint {
        Checkpoint { path: path.as_ref().to_path_buf(), best: Some(Watch::new(figure, true)) }
    }
}

impl Callback for Checkpoint {
    fn on_train_begin(&mut self, run: &mut Run) -> Result<()> {
        io::check_writable(&self.path)?;
        self.best.as_mut().map_or(Ok(0), |watch| watch.replay(run.history)).map(drop)
    }

    fn on_epoch_end(&mut self, run: &mut Run, logs: &Logs) -> Result<()> {
        let Some(watch) = &mut self.best else {
            return save_checkpoint(run.model, run.optimizer, &self.path, &metadata(run));
        };
        if !watch.is_better(logs)? {
            return Ok(());
        }
        let figure = watch.best.unwrap_or(f64::NAN).to_string();
        let metadata = [("epoch".to_string(), run.epoch.to_string()), (watch.name.clone(), figure)].into();
        save_parameters_with(run.model, &self.path, &metadata)
    }
}

/// Prints a line after each epoch: `epoch 3/10 - 4.1 s - loss: 0.0512 - val_loss: 0.0622`.
///
/// ```
/// # use gristmill::data::{DataLoader, TensorDataset};
/// # use gristmill::train::{PrintEpochs, Trainer};
/// # use gristmill::{Device, Tensor, nn::{Init, Linear, Module, mse_loss}, optim::Sgd};
/// # let x = Tensor::uniform([64, 1], -1.0, 1.0, 1, &Device::cpu())?;
/// # let data = DataLoader::new(TensorDataset::new(x.clone(), x.mul_scalar(3.0)?)?, 8)?;
/// # let model = Linear::new(1, 1, &mut Init::new(1, &Device::cpu()))?;
/// let lines = PrintEpochs::default(); // to standard output
/// let mut trainer = Trainer::new(&model, Sgd::new(model.parameters(), 0.1), mse_loss).callback(lines);
/// assert_eq!(trainer.fit(&data, None, 2)?.epochs().len(), 2); // two lines
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Default)]
pub struct PrintEpochs {
    began: Option<Instant>,
}

impl Callback for PrintEpochs {
    fn on_epoch_begin(&mut self, _: &mut Run) -> Result<()> {
        self.began = Some(Instant::now());
        Ok(())
    }

    fn on_epoch_end(&mut self, run: &mut Run, logs: &Logs) -> Result<()> {
        let seconds = self.began.map_or(0.0, |began| began.elapsed().as_secs_f64());
        let line = format!("epoch {}/{} - {seconds:.1} s - {logs}\n", run.epoch + 1, run.epochs);
        // A closed standard output does not end the training.
        let _ = std::io::stdout().write_all(line.as_bytes());
        Ok(())
    }
}

/// Ends the training after the step during which the flag is set, such as by a handler of Ctrl-C. The file of
/// [`Checkpoint::last`] is that of the last whole epoch.
///
/// ```
/// use gristmill::train::StopFlag;
/// use std::sync::{Arc, atomic::{AtomicBool, Ordering}};
///
/// let flag = Arc::new(AtomicBool::new(false));
/// let stop = StopFlag(flag.clone()); // for Trainer::callback
/// // With the crate ctrlc: ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
/// flag.store(true, Ordering::Relaxed);
/// assert!(stop.0.load(Ordering::Relaxed));
/// ```
pub struct StopFlag(pub Arc<AtomicBool>);

impl Callback for StopFlag {
    fn on_batch_end(&mut self, run: &mut Run, _: &Logs) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            run.stop();
        }
        Ok(())
    }
}

/// Logs the figures of each epoch for TensorBoard, at the number of steps made: `loss/train` and `loss/validation` in one
/// group, and so on. With the feature `tensorboard`.
///
/// ```
/// # use gristmill::train::TensorBoard;
/// # let dir = tempfile::tempdir().unwrap();
/// # let runs = dir.path();
/// let logs = TensorBoard::new(runs.join("first"))?; // for Trainer::callback; `tensorboard --logdir runs` shows it
/// assert_eq!(std::fs::read_dir(runs.join("first")).unwrap().count(), 1);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[cfg(feature = "tensorboard")]
pub struct TensorBoard(crate::tensorboard::SummaryWriter);

#[cfg(feature = "tensorboard")]
impl TensorBoard {
    /// Starts a log in this directory.
    ///
    /// # Errors
    /// As [`SummaryWriter::new`](crate::tensorboard::SummaryWriter::new).
    pub fn new(dir: impl AsRef<Path>) -> Result<TensorBoard> {
        crate::tensorboard::SummaryWriter::new(dir).map(TensorBoard)
    }
}

#[cfg(feature = "tensorboard")]
impl Callback for TensorBoard {
    fn on_epoch_end(&mut self, run: &mut Run, logs: &Logs) -> Result<()> {
        logs.iter().try_for_each(|(name, value)| {
            let tag = match name.strip_prefix("val_") {
                Some(name) => format!("{name}/validation"),
                None => format!("{name}/train"),
            };
            self.0.add_scalar(&tag, value, run.step)
        })
    }
}

/// Shows a bar with the figures so far during each epoch, on standard error if that is a terminal, and prints the line of
/// [`PrintEpochs`] after it. With the feature `progress`.
///
/// ```
/// # use gristmill::data::{DataLoader, TensorDataset};
/// # use gristmill::train::{ProgressBar, Trainer};
/// # use gristmill::{Device, Tensor, nn::{Init, Linear, Module, mse_loss}, optim::Sgd};
/// # let x = Tensor::uniform([64, 1], -1.0, 1.0, 1, &Device::cpu())?;
/// # let data = DataLoader::new(TensorDataset::new(x.clone(), x.mul_scalar(3.0)?)?, 8)?;
/// # let model = Linear::new(1, 1, &mut Init::new(1, &Device::cpu()))?;
/// let bar = ProgressBar::default(); // in place of PrintEpochs
/// let mut trainer = Trainer::new(&model, Sgd::new(model.parameters(), 0.1), mse_loss).callback(bar);
/// assert_eq!(trainer.fit(&data, None, 2)?.epochs().len(), 2);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[cfg(feature = "progress")]
#[derive(Default)]
pub struct ProgressBar {
    bar: Option<indicatif::ProgressBar>,
    lines: PrintEpochs,
}

#[cfg(feature = "progress")]
impl Callback for ProgressBar {
    fn on_epoch_begin(&mut self, run: &mut Run) -> Result<()> {
        let style =
            indicatif::ProgressStyle::with_template("{prefix} {pos}/{len} {bar:30} {elapsed} - {msg}");
        let bar = indicatif::ProgressBar::new(run.batches as u64);
        let bar = bar.with_prefix(format!("epoch {}/{}", run.epoch + 1, run.epochs));
        // The template is valid; without it the bar looks otherwise.
        self.bar = Some(match style {
            Ok(style) => bar.with_style(style.progress_chars("=>.")),
            Err(_) => bar,
        });
        self.lines.on_epoch_begin(run)
    }

    fn on_batch_end(&mut self, run: &mut Run, logs: &Logs) -> Result<()> {
        if let Some(bar) = &self.bar {
            bar.set_message(logs.to_string());
            bar.set_position(run.batch as u64);
        }
        Ok(())
    }

    fn on_epoch_end(&mut self, run: &mut Run, logs: &Logs) -> Result<()> {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.lines.on_epoch_end(run, logs)
    }
}
