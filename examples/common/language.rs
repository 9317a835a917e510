//! Code shared by the examples that write text: the data, training with checkpoints, and sampling.

#[path = "output.rs"]
pub mod output;

use clap::Args;
use gristmill::data::{Vocabulary, Windows};
use gristmill::io::{self, Metadata};
use gristmill::nn::{self, Layer, Sampling};
use gristmill::optim::{AdamW, Optimizer, Schedule, clip_grad_norm, load_checkpoint, save_checkpoint};
use gristmill::{Device, Error, Result, Tensor, no_grad};
use indicatif::{ProgressBar, ProgressStyle};
use output::{print, say};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Eight plays of Shakespeare, 1 MB.
const SHAKESPEARE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/text/shakespeare.txt"));

/// A network that predicts the next character.
pub trait LanguageModel: Layer + Sized {
    /// The state after the characters so far.
    type Memory;

    /// The initial state.
    fn memory(&self) -> Result<Self::Memory>;

    /// Processes more characters, `u32 [1, n]`, and returns the logits `[1, n, characters]` of the next character of
    /// each.
    fn feed(&self, ids: &Tensor, memory: &mut Self::Memory) -> Result<Tensor>;

    /// The maximum number of characters; `None` if unlimited.
    fn most(&self) -> Option<usize>;

    /// The options that do not follow from the shapes of the parameters, by name. A checkpoint must be resumed with the
    /// same ones.
    fn hidden_options(&self) -> Metadata {
        Metadata::new()
    }
}

/// Options for training and sampling.
#[derive(Args)]
#[group(skip)] // the struct has the name of its wrapper, which clap would take for the same group
pub struct Options {
    /// cpu, gpu, or the id of an adapter such as vulkan:llvmpipe [default: the best available]
    #[arg(long)]
    pub device: Option<String>,
    /// The text to learn from, UTF-8 [default: eight plays of Shakespeare]; its last tenth is used for validation
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Steps to train; with 0 and --resume, only write
    #[arg(long, default_value_t = 2400)]
    steps: u64,
    /// Windows of text per step
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
    /// Characters per window
    #[arg(long, default_value_t = 128)]
    pub context: usize,
    /// Learning rate after the warm-up; it decays to a tenth by half a cosine
    #[arg(long, default_value_t = 3e-3)]
    learning_rate: f32,
    /// Steps over which the learning rate rises
    #[arg(long, default_value_t = 100)]
    warm_up: u64,
    /// Weight decay of AdamW
    #[arg(long, default_value_t = 0.5)]
    weight_decay: f64,
    /// Probability of dropping an activation
    #[arg(long, default_value_t = 0.0)]
    pub dropout: f32,
    /// Steps between validations, each of which also writes the checkpoint
    #[arg(long, default_value_t = 250)]
    check_every: u64,
    /// Seeds the weights, the windows, the dropout and the sampling
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The checkpoint, as safetensors
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Continue from this checkpoint, with the same options
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Start of the text to write
    #[arg(long, default_value = "ROMEO.\\n")]
    prompt: String,
    /// Characters to write
    #[arg(long, default_value_t = 500)]
    write: usize,
    /// Divisor of the logits; 0 takes the likeliest character
    #[arg(long, default_value_t = 0.8)]
    temperature: f32,
    /// Sample only from this many of the likeliest characters
    #[arg(long)]
    top_k: Option<usize>,
    /// Sample only from the fewest of the likeliest characters whose probabilities add up to this
    #[arg(long)]
    top_p: Option<f32>,
}

/// Windows per step of a validation pass, and windows per validation during training.
const VALIDATION_BATCH: usize = 8;
const VALIDATION_WINDOWS: usize = 128;
/// Gradients with a larger norm are scaled down to it.
const CLIP: f32 = 1.0;
/// Steps between read-backs.
const LOOK_EVERY: u64 = 10;

/// Trains the model that `build` makes for a given number of characters, and samples text from it.
pub fn run<M: LanguageModel>(
    name: &'static str,
    options: &Options,
    build: impl Fn(usize, &Device) -> Result<M>,
) -> Result<()> {
    let checkpoint = options.save.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.safetensors")));
    if options.steps > 0 {
        io::check_writable(&checkpoint)?;
    }
    let device = Device::open_or_best(options.device.as_deref())?;
    let text = match &options.text {
        Some(path) => read(path)?,
        None => SHAKESPEARE.to_string(),
    };
    let vocabulary = Vocabulary::of(&text);
    let ids = vocabulary.encode(&text)?;
    let (train, validation) = ids.split_at(ids.len() / 10 * 9);
    // Before the model is built, because its position table has the length of the context.
    let [train, validation] =
        [Windows::new(train, options.context)?, Windows::new(validation, options.context)?];
    let model = build(vocabulary.len(), &device)?;
    let count: usize = model.parameters().iter().map(nn::Parameter::numel).sum();
    say(format!("device: {device}"));
    say(format!(
        "{} characters of {} kinds, {} of them for validation; {count} parameters",
        ids.len(),
        vocabulary.len(),
        ids.len() - ids.len() / 10 * 9
    ));
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = stopped.clone();
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
        .map_err(|error| Error::argument(name, format!("Ctrl-C can not be caught: {error}")))?;

    let mut run = Run {
        options,
        device: &device,
        optimizer: AdamW::new(model.parameters(), options.learning_rate)
            .betas(0.9, 0.99)
            .weight_decay(options.weight_decay),
        model,
        train,
        validation,
        checkpoint,
        stopped,
    };
    let first = match &options.resume {
        Some(path) => run.resume(path, &vocabulary)?,
        None => 0,
    };
    run.train(first, &vocabulary)?;
    if options.steps > first {
        let loss = run.validate(usize::MAX)?;
        say(format!("validation loss over all of the text kept for it: {loss:.4} nats a character"));
    }
    run.write(&vocabulary)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| Error::File { path: path.to_path_buf(), message: error.to_string() })
}

struct Run<'a, M> {
    options: &'a Options,
    device: &'a Device,
    model: M,
    optimizer: AdamW,
    train: Windows<'a>,
    validation: Windows<'a>,
    checkpoint: PathBuf,
    stopped: Arc<AtomicBool>,
}

impl<M: LanguageModel> Run<'_, M> {
    /// Loads a checkpoint and returns the next step.
    fn resume(&mut self, path: &Path, vocabulary: &Vocabulary) -> Result<u64> {
        let metadata = load_checkpoint(&self.model, &mut self.optimizer, path)?;
        let wrong = |message: &str| Error::File { path: path.to_path_buf(), message: message.to_string() };
        for (option, value) in self.model.hidden_options() {
            match metadata.get(&option) {
                Some(saved) if *saved == value => {}
                Some(saved) => {
                    return Err(wrong(&format!("was trained with --{option} {saved}, not {value}")));
                }
                None => return Err(wrong(&format!("does not say with which --{option} it was trained"))),
            }
        }
        if metadata.get("characters") != Some(&vocabulary.characters()) {
            return Err(wrong("was trained on a text of other characters"));
        }
        let step = metadata.get("step").and_then(|step| step.parse().ok());
        step.ok_or_else(|| wrong("does not say at which step it was written"))
    }

    fn save(&self, step: u64, vocabulary: &Vocabulary) -> Result<()> {
        let mut metadata = self.model.hidden_options();
        metadata.insert("step".to_string(), step.to_string());
        metadata.insert("characters".to_string(), vocabulary.characters());
        save_checkpoint(&self.model, &self.optimizer, &self.checkpoint, &metadata)
    }

    /// Trains from step `first` on.
    fn train(&mut self, first: u64, vocabulary: &Vocabulary) -> Result<()> {
        let options = self.options;
        let schedule =
            Schedule::cosine(options.learning_rate, 0.1 * options.learning_rate, options.steps.max(1))
                .warm_up(options.warm_up);
        self.model.train();
        let bar = progress_bar(options.steps);
        bar.set_position(first);
        let mut trained = Duration::ZERO;
        let mut losses = Vec::new();
        for step in first..options.steps {
            let began = Instant::now();
            let (inputs, targets) = self.train.random(options.batch_size, options.seed, step)?;
            let loss = self.loss(&inputs, &targets)?;
            let mut gradients = loss.backward()?;
            clip_grad_norm(&mut gradients, CLIP)?;
            self.optimizer.set_learning_rate(schedule.lr_at(step));
            self.optimizer.step(&gradients)?;
            losses.push(loss.detach());
            let done = step + 1;
            let last = done == options.steps || self.stopped.load(Ordering::Relaxed);
            let check = done % options.check_every.max(1) == 0 || last;
            if done % LOOK_EVERY == 0 || check {
                let mean = mean(&std::mem::take(&mut losses))?;
                trained += began.elapsed();
                let rate = (done - first) as f64 * inputs.len() as f64 / trained.as_secs_f64();
                bar.set_message(format!("loss: {mean:.3} - {rate:.0} characters/s"));
                bar.set_position(done);
            } else {
                trained += began.elapsed();
            }
            if check {
                let loss = self.validate(VALIDATION_WINDOWS)?;
                self.save(done, vocabulary)?;
                // Read it first: the bar is locked while it is suspended.
                let message = bar.message();
                let line = format!("step {done}/{} - {message} - val_loss: {loss:.4}", options.steps);
                bar.suspend(|| say(line));
                self.model.train();
            }
            if last && done < options.steps {
                bar.suspend(|| say(format!("stopped by Ctrl-C after step {done}")));
                break;
            }
        }
        bar.finish_and_clear();
        if options.steps > first {
            say(format!("checkpoint: {}", self.checkpoint.display()));
        }
        Ok(())
    }

    fn loss(&self, inputs: &[u32], targets: &[u32]) -> Result<Tensor> {
        let length = self.options.context;
        let x = Tensor::from_ids(inputs, [inputs.len() / length, length], self.device)?;
        let logits = self.model.forward(&x)?;
        let classes = logits.shape()[2];
        let y = Tensor::from_ids(targets, [targets.len()], self.device)?;
        logits.reshape([targets.len(), classes])?.cross_entropy(&y)
    }

    /// The mean loss over at most `most` windows of the validation text, evenly spaced.
    fn validate(&self, most: usize) -> Result<f64> {
        self.model.eval();
        let every = self.validation.count().div_ceil(most).max(1);
        let windows: Vec<usize> = (0..self.validation.count()).step_by(every).collect();
        let (mut sum, mut count) = (0.0, 0);
        for batch in windows.chunks(VALIDATION_BATCH) {
            let each = batch.iter().map(|&window| self.validation.in_order(window, 1));
            let (inputs, targets): (Vec<_>, Vec<_>) = each.collect::<Result<Vec<_>>>()?.into_iter().unzip();
            let (inputs, targets) = (inputs.concat(), targets.concat());
            let loss = no_grad(|| self.loss(&inputs, &targets)?.item())?;
            sum += f64::from(loss) * targets.len() as f64;
            count += targets.len();
        }
        Ok(sum / f64::from(count as u32))
    }

    /// Samples text after the prompt and prints each character at once.
    fn write(&self, vocabulary: &Vocabulary) -> Result<()> {
        let options = self.options;
        if options.write == 0 {
            return Ok(());
        }
        let sampling =
            Sampling { temperature: options.temperature, top_k: options.top_k, top_p: options.top_p };
        let prompt = options.prompt.replace("\\n", "\n");
        if prompt.is_empty() {
            return Err(Error::argument("prompt", "is empty"));
        }
        let mut written = vocabulary.encode(&prompt)?;
        self.model.eval();
        let began = Instant::now();
        say(format!("\n{prompt}"));
        let (mut memory, mut held, mut fed) = (self.model.memory()?, 0, 0);
        for at in 0..options.write {
            // If the memory is full, start again with the second half of what it can hold.
            let room = self.model.most().unwrap_or(usize::MAX);
            if held + written.len() - fed > room {
                (memory, held, fed) = (self.model.memory()?, 0, written.len() - (room / 2).max(1));
            }
            let ids = Tensor::from_ids(&written[fed..], [1, written.len() - fed], self.device)?;
            (held, fed) = (held + written.len() - fed, written.len());
            let logits = no_grad(|| self.model.feed(&ids, &mut memory)?.to_vec())?;
            let next =
                sampling.choose(&logits[logits.len() - vocabulary.len()..], options.seed, at as u64)?;
            if !print(vocabulary.decode(&[next])?) {
                return Ok(()); // standard output is closed
            }
            written.push(next);
        }
        let rate = options.write as f64 / began.elapsed().as_secs_f64();
        say(format!("\n\n{} characters written, {rate:.0} a second", options.write));
        Ok(())
    }
}

fn mean(losses: &[Tensor]) -> Result<f64> {
    let values = losses.iter().map(Tensor::item).collect::<Result<Vec<f32>>>()?;
    Ok(values.iter().map(|&loss| f64::from(loss)).sum::<f64>() / values.len().max(1) as f64)
}

fn progress_bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    match ProgressStyle::with_template("{pos}/{len} {bar:30} {elapsed} (eta {eta}) - {msg}") {
        Ok(style) => bar.with_style(style.progress_chars("=>.")),
        Err(_) => bar,
    }
}
