//! Trains a convolutional network to read handwritten digits, on the WGSL kernels or their CPU twins.
//!
//!     cargo run --release --example mnist_cnn
//!
//! MNIST is embedded; `--help` lists the options. The last line is the accuracy on the 10,000 test images.

mod chart;
#[path = "../common/mnist_data.rs"]
mod mnist_data;
#[path = "../common/network.rs"]
mod network;
#[path = "../common/output.rs"]
mod output;
mod picture;

use chart::{Epoch, MOST_MISSES, Miss};
use clap::Parser;
use gristmill::data::{
    Batch, DataLoader, Dataset, ImageDataset, ImageTransform, Normalization, Split, mean_std,
};
use gristmill::metrics::{ConfusionMatrix, accuracy};
use gristmill::nn::{self, Layer, Module, Sequential};
use gristmill::optim::{Adam, Optimizer, Schedule};
use gristmill::{Device, Error, Result, Tensor, io, no_grad};
use indicatif::{ProgressBar, ProgressStyle};
use output::{print, say};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Trains a convolutional network on MNIST and reports its accuracy on the test images.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// cpu, gpu, or the id of an adapter such as vulkan:llvmpipe [default: the best available]
    #[arg(long)]
    device: Option<String>,
    /// Passes over the training images
    #[arg(long, default_value_t = 10)]
    epochs: u64,
    /// Images per step
    #[arg(long, default_value_t = 64)]
    batch_size: usize,
    /// Seeds the weights, the order of the images, the shifts and the dropout
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Initial learning rate of Adam
    #[arg(long, default_value_t = 1e-3)]
    learning_rate: f32,
    /// Schedule of the learning rate: constant, or half a cosine down to 0 over all epochs
    #[arg(long, value_enum, default_value_t = Decay::Cosine)]
    schedule: Decay,
    /// Probability of dropping an activation before the last layer
    #[arg(long, default_value_t = 0.0)]
    dropout: f32,
    /// Maximum random shift of a training image, in pixels
    #[arg(long, default_value_t = 1)]
    shift: usize,
    /// Directory with the four IDX files of another data set of the same sizes, such as Fashion-MNIST
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Use only this many training images, and this many test images: for a quick try
    #[arg(long, value_name = "N")]
    images: Option<NonZeroUsize>,
    /// Output file for the trained parameters, as safetensors
    #[arg(long, value_name = "FILE", default_value = "mnist_cnn.safetensors")]
    save: PathBuf,
    /// Output file for the chart with the curves and the misread digits
    #[arg(long, value_name = "FILE", default_value = "mnist_cnn.svg")]
    chart: PathBuf,
    /// Start from these parameters; with --epochs 0, only test them
    #[arg(long, value_name = "FILE")]
    load: Option<PathBuf>,
    /// Classify the digit in this picture with the parameters of --load, and exit
    #[arg(long, value_name = "IMAGE", requires = "load")]
    predict: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Decay {
    Constant,
    Cosine,
}

/// Steps between read-backs; losses and logits stay on the device until then.
const LOOK_EVERY: usize = 20;
/// Images per step of a test pass.
const TEST_BATCH: usize = 500;

pub(crate) fn main() -> ExitCode {
    output::exit(run(&Options::parse()))
}

fn run(options: &Options) -> Result<()> {
    let device = Device::open_or_best(options.device.as_deref())?;
    if !(0.0..1.0).contains(&options.dropout) {
        let message = format!("--dropout {} is not a probability below 1", options.dropout);
        return Err(Error::Argument { op: "mnist_cnn", message });
    }
    let model = network::mnist_cnn(&device, options.seed, options.dropout)?;
    if let Some(path) = &options.load {
        nn::load_parameters(&model, path)?;
    }
    if let Some(path) = &options.predict {
        return predict(&model, &device, path);
    }
    if options.epochs > 0 {
        io::check_writable(&options.save)?;
        io::check_writable(&options.chart)?;
    }
    say(format!("device: {device}"));
    print(nn::summary(&model, [1, 1, 28, 28])?);
    let (mut train, mut test) = mnist_data::load(options.data.as_deref())?;
    if let Some(count) = options.images {
        for split in [&mut train, &mut test] {
            split.images.truncate(count.get().saturating_mul(split.rows * split.cols));
            split.labels.truncate(count.get());
        }
    }
    let normalization = match options.data {
        None => Normalization::MNIST,
        Some(_) => mean_std(&train.images)?,
    };
    let plain = ImageTransform::new().normalize(&[normalization]);
    let shifted = plain.clone().random_crop([train.rows, train.cols], options.shift).seed(options.seed);
    let train = DataLoader::new(train.into_dataset()?.transform(shifted), options.batch_size)?;
    let train = train.shuffle(options.seed).workers(1).device(&device);
    let test_batches = DataLoader::new(test.clone().into_dataset()?.transform(plain), TEST_BATCH)?;
    let test_batches = test_batches.workers(1).device(&device);

    let stopped = Arc::new(AtomicBool::new(false));
    let flag = stopped.clone();
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).map_err(|e| Error::Argument {
        op: "mnist_cnn",
        message: format!("Ctrl-C can not be caught: {e}"),
    })?;

    let mut run = Run { options, model, test_batches, stopped };
    let mut optimizer = Adam::new(run.model.parameters(), options.learning_rate);
    let mut epochs = Vec::new();
    for epoch in 0..options.epochs {
        let (train_loss, train_accuracy) = run.train_epoch(&train, epoch, &mut optimizer)?;
        let tested = run.test(&test)?;
        say(format!(" - val_loss: {:.4} - val_accuracy: {:.4}", tested.loss, tested.accuracy));
        epochs.push(Epoch {
            train_loss,
            train_accuracy,
            test_loss: tested.loss,
            test_accuracy: tested.accuracy,
        });
        if run.is_stopped() {
            say(format!("stopped by Ctrl-C in epoch {}", epoch + 1));
            break;
        }
    }

    if options.epochs > 0 {
        nn::save_parameters(&run.model, &options.save)?;
        say(format!("parameters saved to {}", options.save.display()));
    }
    let tested = run.test(&test)?;
    if options.epochs > 0 {
        let picture = chart::draw("mnist_cnn", &epochs, &tested.misses, test.cols)
            .map_err(|e| Error::File { path: options.chart.clone(), message: e.to_string() })?;
        io::write_atomic(&options.chart, picture)?;
        say(format!("curves and misread digits drawn to {}", options.chart.display()));
    }
    say(format!("\n{:.4}", tested.confusion));
    let counts = device.counts();
    let twins = Device::cpu().counts().cpu_twins;
    say(format!("kernels dispatched: {}, CPU twins run: {twins}", counts.kernels));
    say(format!("seed {}, parameters' hash {:016x}", options.seed, nn::hash_parameters(&run.model)?));
    say(format!("test accuracy: {:.4}", tested.accuracy));
    Ok(())
}

/// Results of a pass over the test images.
struct Tested {
    loss: f64,
    accuracy: f64,
    confusion: ConfusionMatrix,
    misses: Vec<Miss>,
}

struct Run<'a> {
    options: &'a Options,
    model: Sequential,
    test_batches: DataLoader,
    stopped: Arc<AtomicBool>,
}

impl Run<'_> {
    /// One pass over the training images. Returns the mean loss and the accuracy, both measured at each step before its
    /// update.
    fn train_epoch(&mut self, train: &DataLoader, epoch: u64, optimizer: &mut Adam) -> Result<(f64, f64)> {
        self.model.train();
        let (steps, rate) = (train.len() as u64, self.options.learning_rate);
        let schedule = match self.options.schedule {
            Decay::Constant => Schedule::constant(rate),
            Decay::Cosine => Schedule::cosine(rate, 0.0, steps * self.options.epochs),
        };
        let bar = progress_bar(train.len(), epoch + 1, self.options.epochs);
        let began = Instant::now();
        let mut figures = Figures::default();
        let mut waiting: Vec<(Tensor, Tensor, Tensor)> = Vec::new();
        for (step, batch) in train.epoch(epoch)?.enumerate() {
            let Batch { inputs, targets } = batch?;
            let logits = self.model.forward(&inputs)?;
            let loss = logits.cross_entropy(&targets)?;
            let gradients = loss.backward()?;
            optimizer.set_learning_rate(schedule.lr_at(epoch * steps + step as u64));
            optimizer.step(&gradients)?;
            waiting.push((loss.detach(), logits.detach(), targets));
            let stop = self.is_stopped();
            if waiting.len() == LOOK_EVERY || stop || bar.length() == Some(step as u64 + 1) {
                for (loss, logits, targets) in waiting.drain(..) {
                    let y = targets.to_ids()?;
                    figures.add(f64::from(loss.item()?), &best_class(&logits.to_vec()?, y.len()), &y)?;
                }
                let per_step = began.elapsed().as_secs_f64() * 1e3 / (step + 1) as f64;
                let (loss, accuracy) = figures.mean();
                bar.set_message(format!("{per_step:.1} ms/step - loss: {loss:.4} - accuracy: {accuracy:.4}"));
                bar.set_position(step as u64 + 1);
            }
            if stop {
                break;
            }
        }
        bar.finish_and_clear();
        print(format!("epoch {}/{} - {}", epoch + 1, self.options.epochs, bar.message()));
        Ok(figures.mean())
    }

    /// The loss, accuracy and misses on the test images.
    fn test(&mut self, test: &Split) -> Result<Tested> {
        self.model.eval();
        let mut figures = Figures::default();
        let mut confusion = ConfusionMatrix::new(test.classes)?;
        let mut misses = Vec::new();
        for (number, batch) in self.test_batches.epoch(0)?.enumerate() {
            let Batch { inputs, targets } = batch?;
            let (loss, logits) = no_grad(|| -> Result<_> {
                let logits = self.model.forward(&inputs)?;
                let loss = logits.cross_entropy(&targets)?;
                Ok((loss.item()?, logits.to_vec()?))
            })?;
            let y = targets.to_ids()?;
            let predicted = best_class(&logits, y.len());
            figures.add(f64::from(loss), &predicted, &y)?;
            confusion.add(&predicted, &y)?;
            let size = test.rows * test.cols;
            for ((at, &predicted), &label) in (number * TEST_BATCH..).zip(&predicted).zip(&y) {
                if predicted != label && misses.len() < MOST_MISSES {
                    misses.push(Miss { pixels: test.images[at * size..][..size].to_vec(), predicted, label });
                }
            }
        }
        let (loss, accuracy) = figures.mean();
        Ok(Tested { loss, accuracy, confusion, misses })
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Sums over the images seen so far.
#[derive(Default)]
struct Figures {
    loss: f64,
    right: f64,
    images: f64,
}

impl Figures {
    fn add(&mut self, mean_loss: f64, predicted: &[u32], labels: &[u32]) -> Result<()> {
        let count = labels.len() as f64;
        self.loss += mean_loss * count;
        self.right += accuracy(predicted, labels)? * count;
        self.images += count;
        Ok(())
    }

    fn mean(&self) -> (f64, f64) {
        (self.loss / self.images, self.right / self.images)
    }
}

/// The class with the largest logit, for each of `rows` rows.
fn best_class(logits: &[f32], rows: usize) -> Vec<u32> {
    let classes = logits.len() / rows.max(1);
    let best = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0) as u32;
    logits.chunks(classes.max(1)).map(best).collect()
}

/// A progress line in the style of Keras: epoch, step, bar, time, figures.
fn progress_bar(steps: usize, epoch: u64, epochs: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {pos}/{len} {bar:30} {elapsed} - {msg}");
    let bar = ProgressBar::new(steps as u64).with_prefix(format!("epoch {epoch}/{epochs}"));
    match style {
        Ok(style) => bar.with_style(style.progress_chars("=>.")),
        Err(_) => bar,
    }
}

fn predict(model: &Sequential, device: &Device, path: &std::path::Path) -> Result<()> {
    model.eval();
    let pixels = picture::read(path, 28, 28)?;
    let digit = ImageDataset::new(pixels, [1, 1, 28, 28], vec![0])?;
    let digit = digit.transform(ImageTransform::new().normalize(&[Normalization::MNIST]));
    let x = digit.batch(&[0], 0)?.inputs.to(device)?;
    let probabilities = no_grad(|| model.forward(&x)?.softmax(-1)?.to_vec())?;
    let best = best_class(&probabilities, 1)[0];
    say(format!("{}: {best} ({:.1} % sure)", path.display(), 100.0 * probabilities[best as usize]));
    Ok(())
}
