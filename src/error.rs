//! Every failure of the crate, as a value that names the op, the shapes and what to do.

use std::path::{Path, PathBuf};

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed. No public function of the crate panics on its input; it returns one of these.
///
/// After any of them but [`Error::DeviceLost`] the device and every tensor on it work on. Messages have control characters
/// escaped, so that a name from a file does not command the terminal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Shapes, axes or element types that the op does not take.
    #[error("{op}: {}", escaped(message, &[]))]
    Shape {
        /// The op's name.
        op: &'static str,
        /// What is wrong, with the shapes.
        message: String,
    },
    /// An attribute or a value outside the op's domain: a probability of 1.5, a class id past the end.
    #[error("{op}: {}", escaped(message, &[]))]
    Argument {
        /// The op's name.
        op: &'static str,
        /// What is wrong, with the value.
        message: String,
    },
    /// The inputs of one op live on different devices.
    #[error("{op}: inputs are on different devices, {first} and {second}; move one with Tensor::to")]
    MixedDevices {
        /// The op's name.
        op: &'static str,
        /// The first input's device.
        first: String,
        /// The input's device that differs.
        second: String,
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
         free tensors, use a smaller batch, or raise the budget"
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
    },
    /// The request is over a limit of the adapter.
    #[error("{what} of {requested} is over the limit {limit} of {device}; use smaller tensors")]
    Limit {
        /// The device's id.
        device: String,
        /// The limited quantity.
        what: &'static str,
        /// How much was asked for.
        requested: u64,
        /// How much the adapter allows.
        limit: u64,
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
    #[error("backward: {message}")]
    Autograd {
        /// What is wrong.
        message: String,
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

impl Error {
    pub(crate) fn shape(op: &'static str, message: impl Into<String>) -> Error {
        Error::Shape { op, message: message.into() }
    }

    pub(crate) fn argument(op: &'static str, message: impl Into<String>) -> Error {
        Error::Argument { op, message: message.into() }
    }

    pub(crate) fn file(path: impl AsRef<Path>, message: impl ToString) -> Error {
        Error::File { path: path.as_ref().to_path_buf(), message: message.to_string() }
    }
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
