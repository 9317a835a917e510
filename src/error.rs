//! Every failure of the crate, as a value that names the op, the shapes and what to do.

use std::path::{Path, PathBuf};

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed. No public function of the crate panics on its input; it returns one of these.
///
/// After any of them but [`Error::DeviceLost`] the device and every tensor on it work on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Shapes, axes or element types that the op does not take.
    #[error("{op}: {message}")]
    Shape {
        /// The op's name.
        op: &'static str,
        /// What is wrong, with the shapes.
        message: String,
    },
    /// An attribute or a value outside the op's domain: a probability of 1.5, a class id past the end.
    #[error("{op}: {message}")]
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
    #[error("device: {message}")]
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
    #[error("device {device} was lost: {reason}; open a new device and reload the tensors")]
    DeviceLost {
        /// The device's id.
        device: String,
        /// The driver's reason.
        reason: String,
    },
    /// A kernel did not compile, or was asked for constants outside its domain.
    #[error("kernel {kernel}: {message}")]
    Kernel {
        /// File and entry point.
        kernel: String,
        /// The compiler's message.
        message: String,
    },
    /// The driver or wgpu reported an error that no other variant describes.
    #[error("gpu: {message}")]
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
    #[error("{}: {message}", path.display())]
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
