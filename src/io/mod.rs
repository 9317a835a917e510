//! Files of tensors.

mod safetensors;

pub(crate) use safetensors::Archive;
pub use safetensors::{Metadata, load, parse, save};
