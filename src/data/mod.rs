//! Data sets: reading, checking, shuffling, batching.
//!
//! The road from files of images to a training step:
//!
//! 1. [`load_idx`] reads a directory in MNIST's layout (MNIST, Fashion-MNIST; plain or `.gz`) into two
//!    [`Split`]s. [`unpack_idx`] puts the same four files, checked and unpacked, into a cache for parsers that
//!    want plain files.
//! 2. [`Batches`] deals the sample indices of one epoch, shuffled by (seed, epoch).
//! 3. [`gather_images`] turns a list of indices into normalised `f32` pixels and class ids.
//!
//! Of text, [`Vocabulary`] makes ids, and [`Windows`] deals pieces of them.
//!
//! A seed gives the same batches on every platform. A damaged file is an error that names it.

mod batch;
mod cache;
mod idx;
mod mnist;
mod text;

pub use batch::{Batches, Normalisation, RandomShift, gather_images, mean_std};
pub use cache::{cache_dir, unpack_idx, unpack_idx_bytes};
pub use idx::{Idx, MAX_IDX_BYTES, parse_idx, read_idx};
pub use mnist::{IDX_FILES, Split, load_idx};
pub use text::{Vocabulary, Windows};
