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

use chart::{MOST_MISSES, Miss};
use clap::Parser;
use gristmill::data::{DataLoader, Dataset, ImageDataset, ImageTransform, Normalization, Split, mean_std};
use gristmill::metrics::ConfusionMatrix;
use gristmill::nn::{self, Layer, Module, Sequential};
use gristmill::optim::{Adam, Schedule};
use gristmill::train::{self, ProgressBar, StopFlag, Trainer};
use gristmill::{Chain, Device, Error, Result, Tensor, io, no_grad};
use output::{print, say};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

pub(crate) fn main() -> ExitCode {
    output::exit(run(&Options::parse()))
}

fn run(options: &Options) -> Result<()> {
    let device = Device::open_or_best(options.device.as_deref())?;
    let model = network::mnist_cnn(&device, options.seed, options.dropout)?;
    if let Some(path) = &options.load {
        nn::load_parameters(&model, path)?;
    }
    if let Some(path) = &options.predict {
        return predict(&model, path);
    }
    if options.epochs > 0 {
        io::check_writable(&options.save)?;
        io::check_writable(&options.chart)?;
    }
    say(format!("device: {device}"));
    print(nn::summary(&model, [1, 1, 28, 28])?);

    let (train, test) = data(options)?;
    let normalization = match options.data {
        None => Normalization::MNIST,
        Some(_) => mean_std(&train.images)?,
    };
    let plain = ImageTransform::new().normalize(&[normalization]);
    let shifted = plain.clone().random_crop([train.rows, train.cols], options.shift).seed(options.seed);
    let batches = DataLoader::new(train.into_dataset()?.transform(shifted), options.batch_size)?;
    let batches = batches.shuffle(options.seed).workers(1).device(&device);
    let test_batches = DataLoader::new(test.clone().into_dataset()?.transform(plain), 500)?;
    let test_batches = test_batches.workers(1).device(&device);

    if options.epochs > 0 {
        let history = fit(options, &model, &batches, &test_batches)?;
        nn::save_parameters(&model, &options.save)?;
        say(format!("parameters saved to {}", options.save.display()));
        let misses = misses(&test, &classify(&model, &test_batches)?);
        let picture = chart::draw("mnist_cnn", &history, &misses, test.cols)
            .map_err(|error| Error::File { path: options.chart.clone(), message: error.to_string() })?;
        io::write_atomic(&options.chart, picture)?;
        say(format!("curves and misread digits drawn to {}", options.chart.display()));
    }

    let mut confusion = ConfusionMatrix::new(test.classes)?;
    let labels: Vec<u32> = test.labels.iter().copied().map(u32::from).collect();
    confusion.add(&classify(&model, &test_batches)?, &labels)?;
    say(format!("\n{confusion:.4}"));
    let (kernels, twins) = (device.counts().kernels, Device::cpu().counts().cpu_twins);
    say(format!("kernels dispatched: {kernels}, CPU twins run: {twins}"));
    say(format!("seed {}, parameters' hash {:016x}", options.seed, nn::hash_parameters(&model)?));
    say(format!("test accuracy: {:.4}", confusion.accuracy()));
    Ok(())
}

/// The training and the test images, as many as were asked for.
fn data(options: &Options) -> Result<(Split, Split)> {
    let (mut train, mut test) = mnist_data::load(options.data.as_deref())?;
    if let Some(count) = options.images {
        for split in [&mut train, &mut test] {
            split.images.truncate(count.get().saturating_mul(split.rows * split.cols));
            split.labels.truncate(count.get());
        }
    }
    Ok((train, test))
}

/// Trains until all epochs are done, or Ctrl-C ends it.
fn fit(
    options: &Options,
    model: &Sequential,
    train: &DataLoader,
    test: &DataLoader,
) -> Result<train::History> {
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = stopped.clone();
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
        .map_err(|error| Error::argument("mnist_cnn", format!("Ctrl-C can not be caught: {error}")))?;
    let rate = options.learning_rate;
    let schedule = match options.schedule {
        Decay::Constant => Schedule::constant(rate),
        Decay::Cosine => Schedule::cosine(rate, 0.0, train.len() as u64 * options.epochs),
    };
    let cross_entropy = |logits: &Tensor, classes: &Tensor| logits.cross_entropy(classes);
    let history = Trainer::new(model, Adam::new(model.parameters(), rate), cross_entropy)
        .schedule(schedule)
        .metric("accuracy", train::accuracy)
        .callback(ProgressBar::default())
        .callback(StopFlag(stopped.clone()))
        .fit(train, Some(test), options.epochs)?;
    if stopped.load(Ordering::Relaxed) {
        say(format!("stopped by Ctrl-C after {} whole epochs", history.epochs().len()));
    }
    Ok(history)
}

/// The class of each image.
fn classify(model: &Sequential, batches: &DataLoader) -> Result<Vec<u32>> {
    model.eval();
    let mut classes = Vec::new();
    for batch in batches.epoch(0)? {
        let inputs = batch?.inputs;
        classes.extend(no_grad(|| model.forward(&inputs).argmax(-1, false))?.to_ids()?);
    }
    Ok(classes)
}

/// The first misread images.
fn misses(test: &Split, predicted: &[u32]) -> Vec<Miss> {
    let images = test.images.chunks(test.rows * test.cols).zip(&test.labels).zip(predicted);
    let missed = images.filter(|((_, label), predicted)| u32::from(**label) != **predicted);
    missed
        .map(|((pixels, &label), &predicted)| Miss {
            pixels: pixels.to_vec(),
            predicted,
            label: label.into(),
        })
        .take(MOST_MISSES)
        .collect()
}

fn predict(model: &Sequential, path: &Path) -> Result<()> {
    model.eval();
    let digit = ImageDataset::new(picture::read(path, 28, 28)?, [1, 1, 28, 28], vec![0])?;
    let digit = digit.transform(ImageTransform::new().normalize(&[Normalization::MNIST]));
    let x = digit.batch(&[0], 0)?.inputs.to(&model.device())?;
    let probabilities = no_grad(|| model.forward(&x).softmax(-1))?;
    let (best, sure) = (probabilities.argmax(-1, false)?.to_ids()?[0], probabilities.max_all()?.item()?);
    say(format!("{}: {best} ({:.1} % sure)", path.display(), 100.0 * sure));
    Ok(())
}
