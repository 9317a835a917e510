//! Every failure of the crate, as a value that names the op, the shapes and what to do.

use std::cell::Cell;
use std::fmt;
use std::panic::Location;
use std::path::{Path, PathBuf};

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A line of the program that uses the crate.
pub type Line = &'static Location<'static>;

/// Why an operation failed. No public function of the crate panics on its input; it returns one of these.
///
/// Errors of tensor operations name the line of your program that called the operation or the layer: also those of the
/// backward pass, which name the line of the forward pass, and those of ids that a GPU finds out of range later.
///
/// ```
/// # use gristmill::{Device, Tensor};
/// # let device = Device::cpu();
/// let (a, b) = (Tensor::zeros([2, 3], &device)?, Tensor::zeros([4, 5], &device)?);
/// println!("{}", a.matmul(&b).unwrap_err());
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// After any of them but [`Error::DeviceLost`] the device and every tensor on it work on. Messages have control characters
/// escaped, so that a name from a file does not command the terminal.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Shapes, axes or element types that the op does not take.
    #[error("{op}: {}{}", escaped(message, &[]), at(line))]
    Shape {
        /// The op's name.
        op: &'static str,
        /// What is wrong, with the shapes.
        message: String,
        /// The line of your program that called the op, where it is known.
        line: Option<Line>,
    },
    /// An attribute or a value outside the op's domain: a probability of 1.5, a class id past the end.
    #[error("{op}: {}{}", escaped(message, &[]), at(line))]
    Argument {
        /// The op's name.
        op: &'static str,
        /// What is wrong, with the value.
        message: String,
        /// The line of your program that called the op, where it is known.
        line: Option<Line>,
    },
    /// The inputs of one op live on different devices.
    #[error(
        "{op}: inputs are on different devices, {first} and {second}; move one with Tensor::to{}",
        at(line)
    )]
    MixedDevices {
        /// The op's name.
        op: &'static str,
        /// The first input's device.
        first: String,
        /// The input's device that differs.
        second: String,
        /// The line of your program that called the op, where it is known.
        line: Option<Line>,
    },
    /// No adapter answers to the wish, or more than one does.
    #[error("device: {}", escaped(message, &[]))]
    Adapter {
        /// What was asked for, what there is, and what to install.
        message: String,
    },
    /// The request does not fit the device's byte budget or the device's memory.
    #[error(
        "out of memory on {device}: {requested} bytes asked for, {in_use} bytes in use, budget {budget} bytes; \
         free tensors, use a smaller batch, or raise the budget{}",
        at(line)
    )]
    OutOfMemory {
        /// The device's id.
        device: String,
        /// Bytes asked for.
        requested: u64,
        /// Bytes held by live tensors at that moment.
        in_use: u64,
        /// The most bytes the device may hold.
        budget: u64,
        /// The line of your program that called the op, where it is known.
        line: Option<Line>,
    },
    /// The request is over a limit of the adapter.
    #[error("{what} of {requested} is over the limit {limit} of {device}; use smaller tensors{}", at(line))]
    Limit {
        /// The device's id.
        device: String,
        /// The limited quantity.
        what: &'static str,
        /// How much was asked for.
        requested: u64,
        /// How much the adapter allows.
        limit: u64,
        /// The line of your program that called the op, where it is known.
        line: Option<Line>,
    },
    /// The device is gone (driver reset, unplugged, destroyed). Open a new one and load the last checkpoint.
    #[error("device {device} was lost: {}; open a new device and reload the tensors", escaped(reason, &LINES))]
    DeviceLost {
        /// The device's id.
        device: String,
        /// The driver's reason.
        reason: String,
    },
    /// A kernel did not compile, or was asked for constants outside its domain.
    #[error("kernel {kernel}: {}", escaped(message, &LINES))]
    Kernel {
        /// File and entry point.
        kernel: String,
        /// The compiler's message.
        message: String,
    },
    /// The driver or wgpu reported an error that no other variant describes.
    #[error("gpu: {}", escaped(message, &LINES))]
    Gpu {
        /// The message as reported.
        message: String,
    },
    /// A gradient was asked for where there is none.
    #[error("backward: {message}{}", at(line))]
    Autograd {
        /// What is wrong.
        message: String,
        /// The line of your program that called the op, where it is known.
        line: Option<Line>,
    },
    /// A file could not be read, written or understood.
    #[error("{}: {}", escaped(&path.to_string_lossy(), &[]), escaped(message, &[]))]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}

/// The same as `Display`, since this is what a `main` that returns a `Result` prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// [`Error::Shape`] at the caller's line: what [`Op::infer`](crate::op::Op::infer) of your own op returns.
    ///
    /// ```
    /// # use gristmill::Error;
    /// let error = Error::shape("matmul", "shapes [2, 3] and [4, 5] do not fit");
    /// assert!(error.to_string().starts_with("matmul: shapes [2, 3] and [4, 5] do not fit"));
    /// ```
    #[track_caller]
    pub fn shape(op: &'static str, message: impl Into<String>) -> Error {
        Error::Shape { op, message: message.into(), line: caller() }
    }

    /// [`Error::Argument`] at the caller's line.
    ///
    /// ```
    /// # use gristmill::Error;
    /// let error = Error::argument("dropout", "a probability of 1.5");
    /// assert!(matches!(error, Error::Argument { op: "dropout", .. }));
    /// ```
    #[track_caller]
    pub fn argument(op: &'static str, message: impl Into<String>) -> Error {
        Error::Argument { op, message: message.into(), line: caller() }
    }

    #[track_caller]
    pub(crate) fn autograd(message: impl Into<String>) -> Error {
        Error::Autograd { message: message.into(), line: caller() }
    }

    /// With this line, unless it has one.
    pub(crate) fn or_at(mut self, here: Option<Line>) -> Error {
        match &mut self {
            Error::Shape { line, .. }
            | Error::Argument { line, .. }
            | Error::MixedDevices { line, .. }
            | Error::OutOfMemory { line, .. }
            | Error::Limit { line, .. }
            | Error::Autograd { line, .. } => *line = line.or(here),
            _ => {}
        }
        self
    }

    pub(crate) fn file(path: impl AsRef<Path>, message: impl ToString) -> Error {
        Error::File { path: path.as_ref().to_path_buf(), message: message.to_string() }
    }
}

thread_local! {
    /// The program's line that called the layer at work on this thread, for the operations that the layer calls.
    static CALLED_FROM: Cell<Option<Line>> = const { Cell::new(None) };
}

/// The program's line that called the function that calls this, which has `#[track_caller]`. If the crate itself called it:
/// the line that [`at_line`] keeps.
#[track_caller]
pub(crate) fn caller() -> Option<Line> {
    let (line, sources) = (Location::caller(), file!().strip_suffix("error.rs").unwrap_or_default());
    if line.file().starts_with(sources) { CALLED_FROM.get() } else { Some(line) }
}

/// Runs `work` on behalf of this line of the program, if it is known: operations that the crate itself calls in it name the
/// line in their errors.
pub(crate) fn at_line<T>(line: Option<Line>, work: impl FnOnce() -> T) -> T {
    struct Restore(Option<Line>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CALLED_FROM.set(self.0);
        }
    }
    let around = CALLED_FROM.get();
    let _restore = Restore(around);
    CALLED_FROM.set(line.or(around));
    work()
}

fn at(line: &Option<Line>) -> String {
    line.map(|line| format!(" (at {line})")).unwrap_or_default()
}

/// What messages of compilers and drivers are laid out with.
const LINES: [char; 2] = ['\n', '\t'];

/// Text with its control characters escaped but for those to keep: names come from files, and a terminal would obey them.
/// So it would the characters that change the direction of the text.
fn escaped(text: &str, keep: &[char]) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let obeyed = c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if obeyed && !keep.contains(&c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
