//! Data sets: reading, checking, splitting, preprocessing, batching.
//!
//! From data to a training step:
//!
//! 1. Read it. [`Csv`] reads a table, [`load_idx`] a directory in MNIST's layout (MNIST, Fashion-MNIST; plain or `.gz`),
//!    and `ImageFolder`, with the feature `images`, pictures in a directory for each class. [`Vocabulary`] and
//!    [`WordVocabulary`] turn text into ids; for the subwords of pretrained models, the example `embed` takes those of the
//!    crate `tokenizers`. [`unpack_idx`] unpacks MNIST's files for parsers that need plain ones.
//! 2. Split it: [`random_split`] and [`k_fold`] give lists of indices, for [`Table::rows`] or a [`Subset`].
//! 3. Fit what prepares a table on the training rows: [`SimpleImputer`], [`StandardScaler`], [`MinMaxScaler`]. They are
//!    saved in the metadata of the model's file. [`ImageTransform`] normalizes and augments images.
//! 4. Make a [`Dataset`] of it: [`TensorDataset`], [`ImageDataset`], or your own.
//! 5. [`DataLoader`] makes its batches, shuffled by (seed, epoch), on threads of its own, and moves them to the device.
//!
//! ```
//! use gristmill::data::{Csv, DataLoader, StandardScaler, TensorDataset, random_split};
//! use gristmill::nn::{Init, Layer, Linear, Module};
//! use gristmill::optim::{Adam, Optimizer};
//! # let text = "species,mass,length\n".to_string() + &"A,3.7,181\nB,5.0,217\nA,NA,190\nB,5.2,220\n".repeat(20);
//!
//! let device = gristmill::Device::best()?;
//! let csv = Csv::new().numbers(["mass", "length"]).target_class("species");
//! let table = csv.parse(&text)?.drop_missing()?; // or `csv.read("animals.csv")?`
//! let [train, test] = random_split(table.len(), [0.8, 0.2], 1)?;
//! let (train, test) = (table.rows(&train)?, table.rows(&test)?);
//! let scaler = StandardScaler::fit(&train.features()?)?;
//! let dataset = TensorDataset::new(scaler.transform(&train.features()?)?, train.targets()?)?;
//! let loader = DataLoader::new(dataset, 16)?.shuffle(1).workers(1).device(&device);
//!
//! let model = Linear::new(2, table.categories("species")?.len(), &mut Init::new(1, &device))?;
//! let mut adam = Adam::new(model.parameters(), 0.05);
//! for epoch in 0..10 {
//!     for batch in loader.epoch(epoch)? {
//!         let batch = batch?;
//!         let loss = model.forward(&batch.inputs)?.cross_entropy(&batch.targets)?;
//!         adam.step(&loss.backward()?)?;
//!     }
//! }
//! let logits = model.forward(&scaler.transform(&test.features()?)?.to(&device)?)?;
//! assert_eq!(logits.argmax(1, false)?.to_ids()?, test.targets()?.to_ids()?);
//! # Ok::<(), gristmill::Error>(())
//! ```
//!
//! [`Windows`] cuts windows of ids for a language model.
//!
//! A seed gives the same batches on every platform, with any number of worker threads. A damaged file is an error that names
//! it.

mod cache;
mod dataset;
mod idx;
#[cfg(feature = "images")]
mod image_folder;
mod images;
mod loader;
mod mnist;
mod preprocess;
mod split;
mod table;
mod text;

pub use cache::{cache_dir, unpack_idx, unpack_idx_bytes};
pub use dataset::{Batch, Dataset, Subset, TensorDataset};
pub use idx::{Idx, MAX_IDX_BYTES, parse_idx, read_idx};
#[cfg(feature = "images")]
pub use image_folder::ImageFolder;
pub use images::{ImageDataset, ImageTransform, Normalization, mean_std};
pub use loader::{DataLoader, Epoch};
pub use mnist::{IDX_FILES, Split, load_idx};
pub use preprocess::{MinMaxScaler, SimpleImputer, StandardScaler, Strategy};
pub use split::{k_fold, random_split};
pub use table::{Csv, MAX_CSV_BYTES, Table};
pub use text::{Vocabulary, Windows, WordVocabulary};
