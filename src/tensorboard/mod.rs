//! Logs for [TensorBoard](https://www.tensorflow.org/tensorboard): scalars, histograms, images, texts and hyperparameters.
//! Behind the feature `tensorboard`.
//!
//! [`SummaryWriter`] has the methods of PyTorch's `torch.utils.tensorboard.SummaryWriter`. Each run has a directory of its
//! own. `tensorboard --logdir runs` shows all runs under `runs`, also while they train.
//!
//! ```
//! use gristmill::nn::Parameter;
//! use gristmill::optim::{Optimizer, Sgd};
//! use gristmill::tensorboard::SummaryWriter;
//! use gristmill::{Device, Tensor};
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let runs = dir.path();
//! let device = Device::best()?;
//! let (x, y) = (Tensor::linspace(-1.0, 1.0, 64, &device)?, Tensor::linspace(-3.0, 3.0, 64, &device)?);
//! let w = Parameter::new(&Tensor::zeros([1], &device)?)?;
//! let rate = 0.1;
//! let mut optimizer = Sgd::new([w.clone()], rate);
//! let mut writer = SummaryWriter::new(runs.join("rate 0.1"))?;
//!
//! for step in 0..100 {
//!     let loss = x.mul(&w.tensor())?.sub(&y)?.square()?.mean_all()?;
//!     optimizer.step(&loss.backward()?)?;
//!     // Reading a tensor waits for the GPU, so not at each step.
//!     if step % 10 == 0 {
//!         writer.add_scalar("loss/train", loss.item()?, step)?;
//!         writer.add_histogram("weights", &w.tensor(), step)?;
//!     }
//! }
//! let error = (w.tensor().item()? - 3.0).abs();
//! writer.add_hparams(&[("rate", rate.into()), ("optimizer", "SGD".into())], &[("error", error.into())], 100)?;
//! assert!(error < 0.01);
//! # Ok::<(), gristmill::Error>(())
//! ```
//!
//! # The file
//!
//! A writer appends to a file of its own, `events.out.tfevents.<seconds>.<host>.<process>.<number>`. Each call hands whole
//! records to the operating system, so TensorBoard sees them at once, and a program that crashes loses nothing. If the
//! machine crashes, what was written after the last [`SummaryWriter::flush`] may be lost. TensorBoard ignores a last record
//! that is incomplete. If a disk is full in the middle of a record, the next call completes it first.
//!
//! The format is written here, with `crc` for the checksums and `png` for images, because no crate serves. tensorboard-rs
//! 0.5.9, tfrecord 0.15.0 and tboard 0.1.1 have no texts and no hyperparameters; the first has no histograms of values and
//! panics on errors, the last needs `protoc` to build. All bring an older protobuf library; what is needed of protobuf takes
//! 50 lines. The definitions are TensorBoard's `event.proto`, `summary.proto`, `tensor.proto` and
//! `plugins/hparams/plugin_data.proto`.

mod histogram;
mod image;
mod message;
mod records;

use message::Message;
use records::Records;

use crate::error::{Error, Result};
use crate::meta::DType;
use crate::tensor::Tensor;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Numbers of TensorBoard's enums.
const DT_FLOAT: u64 = 1;
const DT_STRING: u64 = 7;
const DATA_CLASS_TENSOR: u64 = 2;
const STATUS_SUCCESS: u64 = 1;

/// Writes the log of one run. See the [module's docs](self) for a training loop that logs.
///
/// A tag names a series, and the part before its first `/` groups the charts: `loss/train`, `loss/valid`. A tag may have
/// any characters but control characters, and at least one. To have two series in one chart, write them under the same tag
/// with two writers, whose directories are side by side.
///
/// Steps need not be in order. Times are those of the calls.
///
/// ```
/// # use gristmill::tensorboard::SummaryWriter;
/// # let dir = tempfile::tempdir().unwrap();
/// let mut writer = SummaryWriter::new(dir.path().join("runs/first"))?;
/// writer.add_scalar("loss/train", 0.5, 0)?;
/// let name = std::fs::read_dir(dir.path().join("runs/first")).unwrap().next().unwrap()?.file_name();
/// assert!(name.to_string_lossy().starts_with("events.out.tfevents."));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SummaryWriter {
    /// The path of the file, for error messages.
    path: PathBuf,
    records: Records<File>,
    /// Seconds since 1970. Tests have a clock that stands still.
    clock: fn() -> f64,
    /// When the run began.
    began: f64,
    has_hparams: bool,
}

/// The value of a hyperparameter. Numbers, `&str` and `bool` convert into it with `into()`.
///
/// ```
/// # use gristmill::tensorboard::HParam;
/// assert_eq!(HParam::from(64), HParam::Number(64.0));
/// assert_eq!(HParam::from("AdamW"), HParam::Text("AdamW".to_string()));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum HParam {
    /// A finite number.
    Number(f64),
    /// A text.
    Text(String),
    /// Whether something is on.
    Bool(bool),
}

macro_rules! from_numbers {
    ($($number:ty),*) => {$(
        impl From<$number> for HParam {
            fn from(value: $number) -> HParam {
                HParam::Number(value.into())
            }
        }
    )*};
}

from_numbers!(f64, f32, i32, u32);

impl From<&str> for HParam {
    fn from(value: &str) -> HParam {
        HParam::Text(value.to_string())
    }
}

impl From<bool> for HParam {
    fn from(value: bool) -> HParam {
        HParam::Bool(value)
    }
}

impl SummaryWriter {
    /// Starts the log of a run in a directory, which is created if there is none.
    ///
    /// A directory may have the files of several writers, but TensorBoard stops reading a file once there is a newer one. So
    /// two runs at the same time need two directories.
    ///
    /// ```
    /// # use gristmill::tensorboard::SummaryWriter;
    /// # let dir = tempfile::tempdir().unwrap();
    /// SummaryWriter::new(dir.path().join("runs/first"))?;
    /// assert_eq!(std::fs::read_dir(dir.path().join("runs/first")).unwrap().count(), 1);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::File`] if the directory or the file can't be created or written.
    pub fn new(dir: impl AsRef<Path>) -> Result<SummaryWriter> {
        SummaryWriter::with_clock(dir.as_ref(), now)
    }

    fn with_clock(dir: &Path, clock: fn() -> f64) -> Result<SummaryWriter> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let fail = |path: &Path, error| Error::file(path, format!("can't be created: {error}"));
        fs::create_dir_all(dir).map_err(|error| fail(dir, error))?;
        let began = clock();
        // Linux lets a host's name have any characters.
        let host = gethostname::gethostname().to_string_lossy().replace('/', "_");
        let (process, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = dir.join(format!("events.out.tfevents.{:010}.{host}.{process}.{number}", began as u64));
        let file = File::create_new(&path).map_err(|error| fail(&path, error))?;
        let mut writer =
            SummaryWriter { path, records: Records::new(file), clock, began, has_hparams: false };
        writer.event(0, 3, "brain.Event:2")?;
        Ok(writer)
    }

    /// Logs a number, which is stored as `f32`, as by PyTorch. NaN and infinities are kept.
    ///
    /// ```
    /// # use gristmill::tensorboard::SummaryWriter;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let mut writer = SummaryWriter::new(dir.path())?;
    /// writer.add_scalar("loss/train", 0.5, 0)?;
    /// assert!(writer.add_scalar("", 0.25, 1).is_err()); // an empty tag
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] for a tag that is empty or has control characters, [`Error::File`] if writing fails.
    pub fn add_scalar(&mut self, tag: &str, value: impl Into<f64>, step: u64) -> Result<()> {
        check("add_scalar", "tag", tag)?;
        self.summary(tag, step, scalar(value.into()))
    }

    /// Logs the distribution of a tensor's elements, of any shape.
    ///
    /// The bins are PyTorch's default, TensorFlow's: their limits are 0 and ±1e-12 · 1.1ⁿ up to 1e20, and the outermost
    /// bins have all that is larger. NaN and infinities are not counted; without finite elements the histogram is empty.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, tensorboard::SummaryWriter};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let mut writer = SummaryWriter::new(dir.path())?;
    /// let weights = Tensor::from_slice(&[-1.0, 0.0, 0.5, 2.0], [2, 2], &Device::cpu())?;
    /// writer.add_histogram("weights", &weights, 0)?;
    /// assert!(writer.add_histogram("ids", &weights.argmax(1, false)?, 0).is_err()); // not f32
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] for a tensor of ids, an error of the device that the tensor is read from, and the errors of
    /// [`SummaryWriter::add_scalar`].
    pub fn add_histogram(&mut self, tag: &str, values: &Tensor, step: u64) -> Result<()> {
        check("add_histogram", "tag", tag)?;
        values.expect(DType::F32, "add_histogram")?;
        let histogram = histogram::histogram(&values.to_vec()?);
        self.summary(tag, step, Message::new().bytes(5, histogram))
    }

    /// Logs an image `[channels, height, width]`, of 1 channel (gray) or 3 (red, green, blue), as a PNG of 8 bits per
    /// channel.
    ///
    /// 0 is dark and 1 is light. Values beyond are clamped, and NaN is 0. A value is rounded to the next of the 256
    /// levels, where PyTorch rounds down.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, tensorboard::SummaryWriter};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let mut writer = SummaryWriter::new(dir.path())?;
    /// writer.add_image("digit", &Tensor::full([1, 28, 28], 0.5, &Device::cpu())?, 0)?;
    /// assert!(writer.add_image("batch", &Tensor::zeros([8, 1, 28, 28], &Device::cpu())?, 0).is_err());
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] for another shape, an image without pixels or a tensor of ids, an error of the device that the
    /// tensor is read from, and the errors of [`SummaryWriter::add_scalar`].
    pub fn add_image(&mut self, tag: &str, image: &Tensor, step: u64) -> Result<()> {
        check("add_image", "tag", tag)?;
        self.summary(tag, step, Message::new().bytes(4, image::image(image)?))
    }

    /// Logs a text. TensorBoard shows it as Markdown.
    ///
    /// ```
    /// # use gristmill::tensorboard::SummaryWriter;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let mut writer = SummaryWriter::new(dir.path())?;
    /// writer.add_text("sample", "*ROMEO.* After the but so", 100)?;
    /// assert!(writer.add_text("a\nb", "a tag of two lines", 0).is_err());
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`SummaryWriter::add_scalar`].
    pub fn add_text(&mut self, tag: &str, text: &str, step: u64) -> Result<()> {
        check("add_text", "tag", tag)?;
        let scalar_shape = Message::new();
        let tensor = Message::new().int(1, DT_STRING).bytes(2, scalar_shape).bytes(8, text);
        self.summary(tag, step, of_plugin("text", Message::new(), tensor))
    }

    /// Logs the run's hyperparameters with the metrics that it reached, for the tab HPARAMS, which compares runs. Called
    /// once, at the end of the training: the run counts as finished then.
    ///
    /// Each metric is a scalar at `step` too. The tab has a column for every hyperparameter, and one with the last value
    /// of every scalar, for runs in directories below the one given as `--logdir`. Where PyTorch writes a run of its own in
    /// a subdirectory, this is part of the run, as with TensorFlow.
    ///
    /// ```
    /// # use gristmill::tensorboard::SummaryWriter;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let mut writer = SummaryWriter::new(dir.path())?;
    /// let hparams = [("rate", 1e-3.into()), ("optimizer", "AdamW".into()), ("augment", true.into())];
    /// writer.add_hparams(&hparams, &[("accuracy/test", 0.98)], 1000)?;
    /// assert!(writer.add_hparams(&hparams, &[], 1000).is_err()); // a second time
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] for a second call, a hyperparameter that is given twice or is NaN or infinite, which the tab
    /// can't show, and a name that is empty or has control characters: nothing is written then. [`Error::File`] if
    /// writing fails.
    pub fn add_hparams(
        &mut self,
        hparams: &[(&str, HParam)],
        metrics: &[(&str, f64)],
        step: u64,
    ) -> Result<()> {
        const OP: &str = "add_hparams";
        if self.has_hparams {
            return Err(Error::argument(OP, "this run has its hyperparameters; make a writer for each run"));
        }
        let mut start = Message::new();
        for (at, (name, value)) in hparams.iter().enumerate() {
            check(OP, "hyperparameter", name)?;
            if hparams[..at].iter().any(|(other, _)| other == name) {
                return Err(Error::argument(OP, format!("hyperparameter {name:?} is given twice")));
            }
            let value = match value {
                HParam::Number(number) if !number.is_finite() => {
                    return Err(Error::argument(OP, format!("hyperparameter {name:?} is {number}")));
                }
                HParam::Number(number) => Message::new().double(2, *number),
                HParam::Text(text) => Message::new().bytes(3, text),
                HParam::Bool(is_on) => Message::new().int(4, (*is_on).into()),
            };
            start = start.bytes(1, Message::new().bytes(1, name).bytes(2, value));
        }
        metrics.iter().try_for_each(|(name, _)| check(OP, "metric", name))?;
        let start = start.double(5, self.began);
        let end = Message::new().int(1, STATUS_SUCCESS).double(2, (self.clock)());
        for (tag, field, info) in [("session_start_info", 3, start), ("session_end_info", 4, end)] {
            let no_elements = Message::new().bytes(2, Message::new().int(1, 0));
            let tensor = Message::new().int(1, DT_FLOAT).bytes(2, no_elements);
            let value = of_plugin("hparams", Message::new().bytes(field, info), tensor);
            self.summary(&format!("_hparams_/{tag}"), step, value)?;
        }
        metrics.iter().try_for_each(|(name, value)| self.summary(name, step, scalar(*value)))?;
        self.has_hparams = true;
        Ok(())
    }

    /// Waits until all that was logged is on the disk, where it survives a power cut. TensorBoard does not need this.
    ///
    /// ```
    /// # use gristmill::tensorboard::SummaryWriter;
    /// # let dir = tempfile::tempdir().unwrap();
    /// let mut writer = SummaryWriter::new(dir.path())?;
    /// writer.add_scalar("loss/train", 0.5, 0)?;
    /// assert_eq!(writer.flush(), Ok(()));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::File`] if writing fails.
    pub fn flush(&mut self) -> Result<()> {
        self.records.sync().map_err(|error| self.error(&error))
    }

    /// Appends a summary: a value, whose tag is added.
    fn summary(&mut self, tag: &str, step: u64, value: Message) -> Result<()> {
        self.event(step, 5, Message::new().bytes(1, value.bytes(1, tag)))
    }

    /// Appends an event with one more field.
    fn event(&mut self, step: u64, field: u32, what: impl AsRef<[u8]>) -> Result<()> {
        let event = Message::new().double(1, (self.clock)()).int(2, step).bytes(field, what);
        self.records.append(event.as_ref()).map_err(|error| self.error(&error))
    }

    fn error(&self, error: &std::io::Error) -> Error {
        Error::file(&self.path, format!("can't be written: {error}"))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn check(op: &'static str, what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.contains(char::is_control) {
        let message =
            format!("{what} {name:?}; a name has at least one character, and no control characters");
        return Err(Error::argument(op, message));
    }
    Ok(())
}

fn scalar(value: f64) -> Message {
    Message::new().float(2, value as f32)
}

/// A value that a plugin of TensorBoard shows.
fn of_plugin(name: &str, content: Message, tensor: Message) -> Message {
    let plugin = Message::new().bytes(1, name).bytes(2, content);
    let metadata = Message::new().bytes(1, plugin).int(4, DATA_CLASS_TENSOR);
    Message::new().bytes(9, metadata).bytes(8, tensor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;
    use serde_json::{Value, json};

    const NOW: f64 = 1_700_000_000.25;

    /// Of each kind of record some. All numbers are exact in f32.
    fn write(writer: &mut SummaryWriter) -> Result<()> {
        let tensor = |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, &Device::cpu());
        let losses = [0.5, 0.25, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        for (step, loss) in (0..).zip(losses) {
            writer.add_scalar("loss/train", loss, step)?;
        }
        let weights = [-2.0, 0.0, 0.5, 0.5, 3.0, f32::NAN, f32::INFINITY];
        writer.add_histogram("weights", &tensor(&weights, &[7])?, 5)?;
        writer.add_histogram("weights", &tensor(&[f32::NAN], &[1, 1])?, 6)?;
        writer.add_image("gray", &tensor(&[0.0, 0.2, 0.4, 0.6, 0.8, 1.0], &[1, 2, 3])?, 7)?;
        writer.add_image("colors", &tensor(&[1.0, 0.0, 0.0, 2.0, -1.0, f32::NAN], &[3, 1, 2])?, 8)?;
        writer.add_text("sample/größe", "**bold**\n100 µm", 9)?;
        let hparams = [("rate", 0.125.into()), ("optimizer", "AdamW".into()), ("augment", true.into())];
        writer.add_hparams(&hparams, &[("accuracy/test", 0.75)], 10)
    }

    /// What TensorBoard says of the golden file (`read.py`) is what was written, and what is written today is that file.
    #[test]
    fn tensorboard_reads_what_was_written() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tensorboard");
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SummaryWriter::with_clock(dir.path(), || NOW).unwrap();
        write(&mut writer).unwrap();
        let written = fs::read(&writer.path).unwrap();
        if written != fs::read(golden.join("events.out.tfevents.golden")).unwrap_or_default() {
            panic!("the golden file differs from what was written to {}", dir.keep().display());
        }

        let read = fs::read_to_string(golden.join("read.json")).unwrap();
        let read: Value = serde_json::from_str(&read).unwrap();
        assert_eq!(read["wall_times"], json!([NOW]));
        let losses = json!([[0, 0.5], [1, 0.25], [2, "nan"], [3, "inf"], [4, "-inf"]]);
        assert_eq!(read["scalars"], json!({"accuracy/test": [[10, 0.75]], "loss/train": losses}));

        let [weights, nothing] = [0, 1].map(|at| &read["histograms"]["weights"][at]);
        assert_eq!([&weights["step"], &nothing["step"]], [&json!(5), &json!(6)]);
        // min, max, count, sum, sum of squares: of -2, 0, 0.5, 0.5 and 3.
        assert_eq!(weights["moments"], json!([-2.0, 3.0, 5.0, 2.0, 13.5]));
        assert_eq!(nothing["moments"], json!([0.0, 0.0, 0.0, 0.0, 0.0]));
        assert_eq!(nothing["bins"], json!([]));
        let bins: Vec<(f64, f64, f64)> = serde_json::from_value(weights["bins"].clone()).unwrap();
        for value in [-2.0, 0.0, 0.5, 3.0] {
            let bin = bins.iter().find(|(low, high, _)| (*low..*high).contains(&value));
            let (low, high, count) = *bin.unwrap();
            assert_eq!(count, if value == 0.5 { 2.0 } else { 1.0 });
            // A bin is a tenth wider than the one that is nearer to 0; that of 0 is 1e-12 wide.
            assert!(high - low <= 0.1001 * value.abs() + 1e-12, "{low} to {high} has {value}");
        }
        assert_eq!(bins.iter().map(|(.., count)| count).sum::<f64>(), 5.0);

        let gray = json!([0, 51, 102, 153, 204, 255]);
        assert_eq!(
            read["images"],
            json!({
                "gray": [{"step": 7, "size": [3, 2], "shown": [3, 2], "mode": "L", "pixels": gray}],
                // Red, then green, as all but the first of red and the second of green is clamped to 0.
                "colors": [{"step": 8, "size": [2, 1], "shown": [2, 1], "mode": "RGB",
                            "pixels": [[255, 0, 0], [0, 255, 0]]}],
            })
        );
        assert_eq!(read["texts"], json!({"sample/größe": [[9, "**bold**\n100 µm"]]}));
        assert_eq!(
            read["hparams"],
            json!([{
                "hparams": {"rate": 0.125, "optimizer": "AdamW", "augment": true},
                "metrics": {"accuracy/test": [10, 0.75], "loss/train": [4, "-inf"]},
                "status": "STATUS_SUCCESS", "start": NOW, "end": NOW,
            }])
        );
        // The scalar of the last record is missing, and no other.
        assert_eq!(read["scalars_without_the_last_byte"], json!({"loss/train": losses}));
    }
}
