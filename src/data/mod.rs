//! Data sets: reading, checking, shuffling, batching.
//!
//! From image files to a training step:
//!
//! 1. [`load_idx`] reads a directory in MNIST's layout (MNIST, Fashion-MNIST; plain or `.gz`) into two
//!    [`Split`]s. [`unpack_idx`] checks and unpacks the same four files into a cache, for parsers that need plain
//!    files.
//! 2. [`Batches`] iterates over the sample indices of one epoch, shuffled by (seed, epoch).
//! 3. [`gather_images`] converts a list of indices to normalized `f32` pixels and class ids.
//!
//! For text, [`Vocabulary`] converts characters to ids, and [`Windows`] cuts windows of ids.
//!
//! A seed gives the same batches on every platform. A damaged file is an error that names it.

mod batch;
mod cache;
mod idx;
mod mnist;
mod text;

pub use batch::{Batches, Normalization, RandomShift, gather_images, mean_std};
pub use cache::{cache_dir, unpack_idx, unpack_idx_bytes};
pub use idx::{Idx, MAX_IDX_BYTES, parse_idx, read_idx};
pub use mnist::{IDX_FILES, Split, load_idx};
pub use text::{Vocabulary, Windows};
