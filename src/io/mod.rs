//! Tensor files (safetensors) and atomic writes.

mod file;
mod safetensors;

pub use file::{check_writable, write_atomic};
pub(crate) use safetensors::Archive;
pub use safetensors::{Metadata, load, parse, save};
