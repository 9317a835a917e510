//! Tensor files: safetensors, and reading those of PyTorch (`.pt`, `.pth`, `.bin`); atomic writes.

mod archive;
mod file;
mod load;
mod pickle;
mod pytorch;
mod safetensors;
mod zip;

pub(crate) use archive::Archive;
pub use archive::Metadata;
pub use file::{check_writable, write_atomic};
pub use load::{load, parse};
pub use safetensors::save;
