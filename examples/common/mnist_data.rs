//! MNIST for the examples: the copy in this repository, or the data set of `--data DIR`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use gristmill::data::{self, IDX_FILES, Split};
use gristmill::{Error, Result};

macro_rules! embedded {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/mnist/", $name, ".gz"))
    };
}

/// In the order of [`IDX_FILES`].
const MNIST: [&[u8]; 4] = [
    embedded!("train-images-idx3-ubyte"),
    embedded!("train-labels-idx1-ubyte"),
    embedded!("t10k-images-idx3-ubyte"),
    embedded!("t10k-labels-idx1-ubyte"),
];

/// The training and the test split: MNIST, or the data set of the same sizes (such as Fashion-MNIST) in `dir`.
///
/// The `mnist` crate parses the files. It panics on anything but 60,000 and 10,000 complete images of 28 x 28, and does
/// not read `.gz`, so the files are unpacked to the cache directory and checked first.
///
/// # Errors
/// [`Error::File`] with the name of the file if one is missing, damaged or of another size, or if the cache cannot be
/// written.
pub fn load(dir: Option<&Path>) -> Result<(Split, Split)> {
    let cache = data::cache_dir()?;
    let unpacked = match dir {
        None => data::unpack_idx_bytes(MNIST, cache.join("mnist"))?,
        Some(dir) => data::unpack_idx(dir, cache.join(folder(dir)))?,
    };
    let (train, test) = data::load_idx(&unpacked)?;
    if (train.len(), test.len(), train.rows, train.cols) != (60_000, 10_000, 28, 28) {
        let (rows, cols) = (train.rows, train.cols);
        let sizes = format!("{} + {} images of {rows} x {cols}", train.len(), test.len());
        return Err(file(dir.unwrap_or(&unpacked), format!("{sizes}, not 60000 + 10000 of 28 x 28")));
    }

    let path = unpacked.to_str().ok_or_else(|| file(&unpacked, "the path is not UTF-8".into()))?;
    let [train_images, train_labels, test_images, test_labels] = IDX_FILES;
    let parsed = mnist::MnistBuilder::new()
        .base_path(path)
        .training_images_filename(train_images)
        .training_labels_filename(train_labels)
        .test_images_filename(test_images)
        .test_labels_filename(test_labels)
        .finalize();
    Ok((
        Split { images: parsed.trn_img, labels: parsed.trn_lbl, ..train },
        Split { images: parsed.tst_img, labels: parsed.tst_lbl, ..test },
    ))
}

/// A cache directory per source, so that data sets do not overwrite each other.
fn folder(source: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    source.canonicalize().as_deref().unwrap_or(source).hash(&mut hasher);
    format!("data-{:016x}", hasher.finish())
}

fn file(path: &Path, message: String) -> Error {
    Error::File { path: path.to_path_buf(), message }
}
