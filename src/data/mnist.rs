//! Data sets in MNIST's layout: two image files and two label files in a directory.

use std::path::{Path, PathBuf};

use super::idx::{Idx, read_idx};
use super::images::ImageDataset;
use crate::error::{Error, Result};

/// The names of a data set's four unpacked files: training images and labels, then test images and labels.
pub const IDX_FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// MNIST and its drop-in replacements have ten classes.
const CLASSES: usize = 10;

/// The training or test part of a data set: grey images and their classes.
///
/// [`load_idx`] guarantees `images.len() == labels.len() * rows * cols`, and labels below `classes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Pixels `[n, rows, cols]`, row by row: 0 is background, 255 is full intensity.
    pub images: Vec<u8>,
    /// The class of each image, `[n]`.
    pub labels: Vec<u8>,
    /// Height of an image in pixels.
    pub rows: usize,
    /// Width of an image in pixels.
    pub cols: usize,
    /// The number of classes: 10.
    pub classes: usize,
}

impl Split {
    /// The number of images.
    ///
    /// ```
    /// # use gristmill::data::Split;
    /// let split = Split { images: vec![0, 255], labels: vec![7], rows: 1, cols: 2, classes: 10 };
    /// assert_eq!(split.len(), 1);
    /// assert!(!split.is_empty());
    /// ```
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The images as a data set of `[n, 1, rows, cols]`.
    ///
    /// ```
    /// # use gristmill::data::{Dataset, Split};
    /// let split = Split { images: vec![0, 255], labels: vec![7], rows: 1, cols: 2, classes: 10 };
    /// let batch = split.into_dataset()?.batch(&[0], 0)?;
    /// assert_eq!((batch.inputs.to_vec()?, batch.targets.to_ids()?), (vec![0.0, 1.0], vec![7]));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// The lengths do not agree, as [`ImageDataset::new`].
    pub fn into_dataset(self) -> Result<ImageDataset> {
        let shape = [self.labels.len(), 1, self.rows, self.cols];
        ImageDataset::new(self.images, shape, self.labels.into_iter().map(u32::from).collect())
    }

    /// Pairs images with labels. The paths are for error messages.
    fn pair(images: Named, labels: Named) -> Result<Split> {
        let &[count, rows, cols] = images.idx.dims.as_slice() else {
            return Err(images.wrong("[count, rows, cols]"));
        };
        let &[label_count] = labels.idx.dims.as_slice() else { return Err(labels.wrong("[count]")) };
        if label_count != count {
            return Err(Error::file(
                labels.path,
                format!("{label_count} labels for the {count} images of {}", images.path.display()),
            ));
        }
        let (images, path, labels) = (images.idx.data, labels.path, labels.idx.data);
        if let Some(at) = labels.iter().position(|&label| usize::from(label) >= CLASSES) {
            return Err(Error::file(path, format!("label {at} is {}, not 0 to {}", labels[at], CLASSES - 1)));
        }
        Ok(Split { images, labels, rows, cols, classes: CLASSES })
    }
}

/// An IDX file and where it came from.
pub(super) struct Named {
    pub(super) path: PathBuf,
    pub(super) idx: Idx,
}

impl Named {
    fn wrong(&self, expected: &str) -> Error {
        Error::file(&self.path, format!("dimensions {:?} where {expected} are expected", self.idx.dims))
    }
}

/// The training and test splits from four files in the order of [`IDX_FILES`].
pub(super) fn splits(files: [Named; 4]) -> Result<(Split, Split)> {
    let [train_images, train_labels, test_images, test_labels] = files;
    let train = Split::pair(train_images, train_labels)?;
    let test = Split::pair(test_images, test_labels)?;
    if (train.rows, train.cols) != (test.rows, test.cols) {
        return Err(Error::argument(
            "load_idx",
            format!(
                "training images are {} x {} pixels, test images {} x {}",
                train.rows, train.cols, test.rows, test.cols
            ),
        ));
    }
    Ok((train, test))
}

/// Loads the training and test splits of MNIST, Fashion-MNIST or another set from a directory.
///
/// Each of the four [`IDX_FILES`] may be plain or `.gz`, and named `train-images-idx3-ubyte` or
/// `train-images.idx3-ubyte`. Debian's package `dataset-fashion-mnist` installs them in
/// `/usr/share/datasets/fashion-mnist`.
///
/// ```
/// # use gristmill::data::{self, IDX_FILES};
/// # let dir = tempfile::tempdir().unwrap();
/// # let images = [&[0u8, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2][..], &[0, 255]].concat();
/// # let labels = [0u8, 0, 8, 1, 0, 0, 0, 1, 7].to_vec();
/// # for (name, bytes) in IDX_FILES.iter().zip([&images, &labels, &images, &labels]) {
/// #     std::fs::write(dir.path().join(name), bytes).unwrap();
/// # }
/// let (train, test) = data::load_idx(dir.path())?; // one image of 1 x 2 pixels each
/// assert_eq!((train.len(), train.rows, train.cols), (1, 1, 2));
/// assert_eq!((test.images, test.labels), (vec![0, 255], vec![7]));
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] with the path if a file is missing or damaged, the numbers of labels and images differ, or a label
/// is over 9; [`Error::Argument`] if training and test images differ in size.
pub fn load_idx(dir: impl AsRef<Path>) -> Result<(Split, Split)> {
    let [a, b, c, d] = IDX_FILES.map(|name| {
        let path = find(dir.as_ref(), name)?;
        Ok(Named { idx: read_idx(&path)?, path })
    });
    splits([a?, b?, c?, d?])
}

fn find(dir: &Path, name: &str) -> Result<PathBuf> {
    let dotted = name.replace("-idx", ".idx");
    let spellings = [name.to_string(), format!("{name}.gz"), dotted.clone(), format!("{dotted}.gz")];
    // `is_file`, because some archives unpack to a directory of the same name that holds the file.
    spellings.iter().map(|spelling| dir.join(spelling)).find(|path| path.is_file()).ok_or_else(|| {
        Error::file(dir, format!("no data set here: none of the files {} exists", spellings.join(", ")))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::super::idx::encode_idx;
    use super::super::{mean_std, unpack_idx};
    use super::*;

    pub(in super::super) fn repository_mnist() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("data/mnist")
    }

    /// An empty directory for one test, removed at its end.
    pub(in super::super) struct Scratch(pub PathBuf);

    impl Scratch {
        pub(in super::super) fn new(name: &str) -> Scratch {
            let dir = std::env::temp_dir().join(format!("gristmill-test-{}-{name}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Scratch(dir)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Two training images and one test image of 2 x 2 pixels, unpacked, in the order of `IDX_FILES`.
    pub(in super::super) fn small_set() -> [Vec<u8>; 4] {
        [
            encode_idx(&[2, 2, 2], &[0, 1, 2, 3, 4, 5, 6, 7]),
            encode_idx(&[2], &[9, 3]),
            encode_idx(&[1, 2, 2], &[8, 9, 10, 11]),
            encode_idx(&[1], &[0]),
        ]
    }

    fn write(dir: &Path, names: [&str; 4], files: [Vec<u8>; 4]) {
        for (name, bytes) in names.iter().zip(files) {
            fs::write(dir.join(name), bytes).unwrap();
        }
    }

    #[test]
    fn mnist_is_whole() {
        let (train, test) = load_idx(repository_mnist()).unwrap();
        assert_eq!((train.len(), test.len()), (60_000, 10_000));
        assert_eq!((train.rows, train.cols, train.classes), (28, 28, 10));
        let counts = |split: &Split| {
            let mut counts = [0; 10];
            split.labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
            counts
        };
        assert_eq!(counts(&train), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
        assert_eq!(counts(&test), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
        let measured = mean_std(&train.images).unwrap();
        assert_eq!(format!("{:.4} {:.4}", measured.mean, measured.std), "0.1307 0.3081");
    }

    #[test]
    fn loads_each_spelling() {
        let expected = Split { images: (0..8).collect(), labels: vec![9, 3], rows: 2, cols: 2, classes: 10 };
        for (case, names) in [
            IDX_FILES,
            // The contents decide whether a file is packed, not its name.
            ["train-images-idx3-ubyte.gz", IDX_FILES[1], "t10k-images-idx3-ubyte.gz", IDX_FILES[3]],
            [
                "train-images.idx3-ubyte",
                "train-labels.idx1-ubyte",
                "t10k-images.idx3-ubyte",
                "t10k-labels.idx1-ubyte.gz",
            ],
        ]
        .into_iter()
        .enumerate()
        {
            let dir = Scratch::new(&format!("spelling-{case}"));
            write(&dir.0, names, small_set());
            let (train, test) = load_idx(&dir.0).unwrap();
            assert_eq!(train, expected);
            assert_eq!((test.images, test.labels), (vec![8, 9, 10, 11], vec![0]));
        }
    }

    #[test]
    fn refuses_a_set_that_does_not_agree() {
        let dir = Scratch::new("disagree");
        let error = |at: usize, bytes: Vec<u8>| {
            let mut files = small_set();
            files[at] = bytes;
            write(&dir.0, IDX_FILES, files);
            let error = load_idx(&dir.0).unwrap_err().to_string();
            // `unpack_idx` gives the same error, and writes nothing.
            assert_eq!(unpack_idx(&dir.0, dir.0.join("cache")).unwrap_err().to_string(), error);
            assert!(!dir.0.join("cache").exists());
            error
        };
        let message = error(1, encode_idx(&[3], &[9, 3, 1]));
        assert!(message.contains("train-labels-idx1-ubyte: 3 labels for the 2 images"), "{message}");
        let message = error(3, encode_idx(&[1], &[10]));
        assert!(message.contains("t10k-labels-idx1-ubyte: label 0 is 10"), "{message}");
        let message = error(0, encode_idx(&[2], &[9, 3]));
        assert!(message.contains("train-images-idx3-ubyte: dimensions [2] where"), "{message}");
        let message = error(1, encode_idx(&[2, 1], &[9, 3]));
        assert!(message.contains("train-labels-idx1-ubyte: dimensions [2, 1] where"), "{message}");
        let message = error(2, encode_idx(&[1, 1, 4], &[8, 9, 10, 11]));
        assert!(message.contains("training images are 2 x 2 pixels, test images 1 x 4"), "{message}");
        let message = error(2, small_set()[2][..19].to_vec());
        assert!(message.contains("t10k-images-idx3-ubyte: cut short"), "{message}");
    }

    #[test]
    fn a_missing_file_names_what_was_looked_for() {
        let dir = Scratch::new("missing");
        let error = load_idx(&dir.0).unwrap_err().to_string();
        assert!(error.contains("train-images-idx3-ubyte.gz, train-images.idx3-ubyte,"), "{error}");
    }
}
