//! Pictures on disk, in a directory for each class.

use std::fs;
use std::path::{Path, PathBuf};

use image::imageops::{FilterType, resize};
use image::{ImageReader, Limits};

use super::dataset::{Batch, Dataset, check_indices};
use super::images::ImageTransform;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The longest side that pictures are resized to.
const MAX_SIZE: usize = 4096;
/// The longest side of a picture in a file. Resizing one takes up to 16 bytes for each of its columns and of the rows that it
/// is resized to.
const MAX_SIDE: u32 = 16_384;

/// PNG and JPEG pictures `root/class/x.png`, read when a batch needs them: torchvision's `ImageFolder`. With the feature
/// `images`.
///
/// The classes are the names of the directories in `root`, sorted; the samples are the files in them and in their
/// subdirectories, sorted by class and path. Inside a class, links to directories are not followed.
///
/// A batch has `f32` inputs `[n, 3, height, width]` (red, green, blue) and class ids `[n]`. Pictures are resized as a
/// whole, by bilinear interpolation that averages where it makes them smaller.
///
/// ```
/// # use gristmill::data::{DataLoader, ImageFolder, ImageTransform};
/// # let dir = tempfile::tempdir().unwrap();
/// # let root = dir.path();
/// # for class in ["daisy", "tulip"] {
/// #     std::fs::create_dir(root.join(class)).unwrap();
/// #     image::RgbImage::new(8, 8).save(root.join(class).join("1.png")).unwrap();
/// # }
/// let flowers = ImageFolder::new(root, [64, 64])?.transform(ImageTransform::new().random_horizontal_flip(0.5));
/// assert_eq!(flowers.classes(), ["daisy", "tulip"]);
/// let batch = DataLoader::new(flowers, 32)?.shuffle(1).workers(4).epoch(0)?.next().unwrap()?;
/// assert_eq!(batch.inputs.shape(), [2, 3, 64, 64]);
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// A copy shares no transform, so that of two parts the training part alone is augmented:
///
/// ```
/// # use gristmill::data::{ImageFolder, ImageTransform, Subset, random_split};
/// # let dir = tempfile::tempdir().unwrap();
/// # let root = dir.path();
/// # for (class, count) in [("daisy", 6), ("tulip", 4)] {
/// #     std::fs::create_dir(root.join(class)).unwrap();
/// #     for at in 0..count { image::RgbImage::new(8, 8).save(root.join(class).join(format!("{at}.png"))).unwrap(); }
/// # }
/// let flowers = ImageFolder::new(root, [64, 64])?;
/// let [train, validation] = random_split(flowers.samples().len(), [0.8, 0.2], 1)?;
/// let flipped = flowers.clone().transform(ImageTransform::new().random_horizontal_flip(0.5));
/// let (train, validation) = (Subset::new(flipped, train)?, Subset::new(flowers, validation)?);
/// assert_eq!((train.indices().len(), validation.indices().len()), (8, 2));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone)]
pub struct ImageFolder {
    classes: Vec<String>,
    samples: Vec<(PathBuf, u32)>,
    size: [usize; 2],
    is_grey: bool,
    transform: ImageTransform,
}

impl ImageFolder {
    /// Lists the pictures in `root`, to be resized to `size`, height and width, each up to 4096.
    ///
    /// # Errors
    /// [`Error::File`] with the path if a directory can't be read, there is no class, or a class has no picture;
    /// [`Error::Argument`] if the size is 0 or too large.
    #[track_caller]
    pub fn new(root: impl AsRef<Path>, size: [usize; 2]) -> Result<ImageFolder> {
        let root = root.as_ref();
        if !size.iter().all(|side| (1..=MAX_SIZE).contains(side)) {
            let message = format!("a size of {} x {}; each takes 1 to {MAX_SIZE}", size[0], size[1]);
            return Err(Error::argument("ImageFolder", message));
        }
        let (mut classes, mut samples) = (Vec::new(), Vec::new());
        for directory in entries(root)?.into_iter().filter(|path| path.is_dir()) {
            let name = directory.file_name().and_then(|name| name.to_str());
            let name =
                name.ok_or_else(|| Error::file(&directory, "has a name that is not UTF-8"))?.to_string();
            let paths = pictures(&directory)?;
            if paths.is_empty() {
                return Err(Error::file(&directory, "has no picture; names end in .png, .jpg or .jpeg"));
            }
            samples.extend(paths.into_iter().map(|path| (path, classes.len() as u32)));
            classes.push(name);
        }
        if classes.is_empty() {
            return Err(Error::file(root, "has no class; a directory for each is expected"));
        }
        Ok(ImageFolder { classes, samples, size, is_grey: false, transform: ImageTransform::new() })
    }

    /// Converts the pictures to grey: inputs `[n, 1, height, width]`.
    ///
    /// ```
    /// # use gristmill::data::{Dataset, ImageFolder};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let root = dir.path();
    /// # for class in ["daisy", "tulip"] {
    /// #     std::fs::create_dir(root.join(class)).unwrap();
    /// #     image::RgbImage::new(8, 8).save(root.join(class).join("1.png")).unwrap();
    /// # }
    /// let flowers = ImageFolder::new(root, [4, 4])?.grey();
    /// assert_eq!(flowers.batch(&[0], 0)?.inputs.shape(), [1, 1, 4, 4]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn grey(self) -> ImageFolder {
        ImageFolder { is_grey: true, ..self }
    }

    /// Normalizes and augments the images of each batch.
    pub fn transform(self, transform: ImageTransform) -> ImageFolder {
        ImageFolder { transform, ..self }
    }

    /// The names of the classes in the order of their ids.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The file and the class id of each sample.
    ///
    /// ```
    /// # use gristmill::data::ImageFolder;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let root = dir.path();
    /// # for class in ["daisy", "tulip"] {
    /// #     std::fs::create_dir(root.join(class)).unwrap();
    /// #     image::RgbImage::new(8, 8).save(root.join(class).join("1.png")).unwrap();
    /// # }
    /// let flowers = ImageFolder::new(root, [4, 4])?;
    /// assert_eq!(flowers.samples()[1], (root.join("tulip/1.png"), 1));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn samples(&self) -> &[(PathBuf, u32)] {
        &self.samples
    }

    /// The bytes of a picture, its channels interleaved.
    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let wrong =
            |error: &dyn std::fmt::Display| Error::file(path, format!("can't be read as a picture: {error}"));
        let mut reader = ImageReader::open(path).map_err(|error| wrong(&error))?;
        // By its contents, since names may be wrong.
        reader = reader.with_guessed_format().map_err(|error| wrong(&error))?;
        let mut limits = Limits::default();
        (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
        reader.limits(limits);
        let picture = reader.decode().map_err(|error| wrong(&error))?;
        let (height, width) = (self.size[0] as u32, self.size[1] as u32);
        let is_resized = (picture.width(), picture.height()) != (width, height);
        Ok(match (self.is_grey, is_resized) {
            (false, false) => picture.into_rgb8().into_raw(),
            (false, true) => resize(&picture.into_rgb8(), width, height, FilterType::Triangle).into_raw(),
            (true, false) => picture.into_luma8().into_raw(),
            (true, true) => resize(&picture.into_luma8(), width, height, FilterType::Triangle).into_raw(),
        })
    }
}

/// What is in a directory, sorted.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let wrong = |error| Error::file(directory, format!("can't be read: {error}"));
    let entries = fs::read_dir(directory).map_err(wrong)?;
    let mut paths =
        entries.map(|entry| entry.map(|entry| entry.path()).map_err(wrong)).collect::<Result<Vec<_>>>()?;
    paths.sort_unstable();
    Ok(paths)
}

/// The pictures in a directory and its subdirectories, sorted.
fn pictures(directory: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut open) = (Vec::new(), vec![directory.to_path_buf()]);
    while let Some(directory) = open.pop() {
        for path in entries(&directory)? {
            let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            if path.is_dir() {
                // A link could lead back here.
                if !path.is_symlink() {
                    open.push(path);
                }
            } else if path.is_file() && ["png", "jpg", "jpeg"].contains(&&*extension.to_lowercase()) {
                found.push(path);
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

impl Dataset for ImageFolder {
    fn len(&self) -> usize {
        self.samples.len()
    }

    /// # Errors
    /// An index out of range, a file that is no picture or has a side over 16,384 pixels, a transform that does not fit,
    /// or no room.
    fn batch(&self, indices: &[usize], epoch: u64) -> Result<Batch> {
        check_indices("ImageFolder", indices, self.len())?;
        let shape = [if self.is_grey { 1 } else { 3 }, self.size[0], self.size[1]];
        let read = |index: usize| self.read(&self.samples[index].0);
        let inputs = self.transform.batch(shape, true, indices, epoch, read)?;
        let ids: Vec<u32> = indices.iter().map(|&index| self.samples[index].1).collect();
        Ok(Batch { inputs, targets: Tensor::from_ids(&ids, [ids.len()], &Device::cpu())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DataLoader, Normalization};
    use image::{GrayImage, Luma, Rgb, RgbImage};
    use tempfile::{TempDir, tempdir};

    /// Three cats and two dogs, of one colour each; the class `cat` has a subdirectory.
    fn folder() -> TempDir {
        let dir = tempdir().unwrap();
        let save = |name: &str, colour: [u8; 3], size: u32| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            RgbImage::from_pixel(size, size, Rgb(colour)).save(path).unwrap();
        };
        save("dog/a.png", [255, 0, 0], 4);
        save("dog/b.PNG", [0, 255, 0], 9);
        save("cat/z.png", [0, 0, 255], 2);
        save("cat/y.jpg", [128, 128, 128], 16);
        save("cat/deep/x.png", [51, 102, 153], 3);
        fs::write(dir.path().join("cat/notes.txt"), "no picture").unwrap();
        fs::write(dir.path().join("readme.png"), "in no class").unwrap();
        dir
    }

    #[test]
    fn classes_and_files_are_sorted() {
        let dir = folder();
        let images = ImageFolder::new(dir.path(), [4, 4]).unwrap();
        assert_eq!(images.classes(), ["cat", "dog"]);
        let names: Vec<_> = images
            .samples()
            .iter()
            .map(|(path, class)| {
                (path.strip_prefix(dir.path()).unwrap().to_str().unwrap().replace('\\', "/"), *class)
            })
            .collect();
        let expected =
            [("cat/deep/x.png", 0), ("cat/y.jpg", 0), ("cat/z.png", 0), ("dog/a.png", 1), ("dog/b.PNG", 1)];
        assert_eq!(names, expected.map(|(name, class)| (name.to_string(), class)));
    }

    #[test]
    fn pictures_become_planes_of_one_size() {
        let dir = folder();
        let images = ImageFolder::new(dir.path(), [4, 5]).unwrap();
        let batch = images.batch(&[3, 0, 1], 0).unwrap();
        assert_eq!(batch.inputs.shape(), [3, 3, 4, 5]);
        assert_eq!(batch.targets.to_ids().unwrap(), [1, 0, 0]);
        let values = batch.inputs.to_vec().unwrap();
        let plane = |value: f32| vec![value; 20];
        assert_eq!(values[..60], [plane(1.0), plane(0.0), plane(0.0)].concat());
        assert_eq!(values[60..120], [plane(0.2), plane(0.4), plane(0.6)].concat());
        // JPEG rounds a colour by a step or two of 255.
        assert!(values[120..].iter().all(|value| (value - 128.0 / 255.0).abs() < 3.0 / 255.0));
        // Red counts 0.2126 in grey, 54 of 255 (ITU-R BT.709), up to a step.
        let grey = ImageFolder::new(dir.path(), [2, 2]).unwrap().grey().batch(&[3], 0).unwrap();
        assert_eq!(grey.inputs.shape(), [1, 1, 2, 2]);
        assert!(
            grey.inputs.to_vec().unwrap().iter().all(|value| (value - 54.0 / 255.0).abs() <= 1.0 / 255.0)
        );
    }

    #[test]
    fn rows_and_columns_keep_their_places() {
        let dir = tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        let picture = GrayImage::from_fn(3, 2, |x, y| Luma([(10 * y + x) as u8]));
        picture.save(dir.path().join("a/0.png")).unwrap();
        let images = ImageFolder::new(dir.path(), [2, 3])
            .unwrap()
            .transform(ImageTransform::new().normalize(&[Normalization { mean: 0.0, std: 1.0 / 255.0 }; 3]));
        let values = images.batch(&[0], 0).unwrap().inputs.to_vec().unwrap();
        let values: Vec<f32> = values.iter().map(|value| value.round()).collect();
        assert_eq!(values, [0.0, 1.0, 2.0, 10.0, 11.0, 12.0].repeat(3));
        // Half the size: the mean of each half's pixels, as the filter averages.
        let half = ImageFolder::new(dir.path(), [1, 1]).unwrap().batch(&[0], 0).unwrap();
        assert!((half.inputs.to_vec().unwrap()[0] * 255.0 - 6.0).abs() <= 1.0);
    }

    #[test]
    fn workers_read_the_same_pictures() {
        let dir = folder();
        let transform = ImageTransform::new().random_crop([3, 3], 2).random_horizontal_flip(0.5).seed(5);
        let images = ImageFolder::new(dir.path(), [4, 4]).unwrap().transform(transform);
        let loader = DataLoader::new(images, 2).unwrap().shuffle(1);
        let epoch = |workers| -> Vec<Vec<f32>> {
            let loader = loader.clone().workers(workers);
            loader.epoch(3).unwrap().map(|batch| batch.unwrap().inputs.to_vec().unwrap()).collect()
        };
        assert_eq!(epoch(0), epoch(3));
    }

    #[test]
    fn what_is_no_picture_or_no_folder_is_named() {
        let dir = folder();
        let error = |root: &Path, size| ImageFolder::new(root, size).err().unwrap().to_string();
        assert!(error(&dir.path().join("none"), [4, 4]).contains("none: can't be read"));
        assert!(error(&dir.path().join("dog"), [4, 4]).contains("dog: has no class"));
        for size in [[0, 4], [4, 4097], [usize::MAX; 2]] {
            assert!(error(dir.path(), size).contains("each takes 1 to 4096"));
        }
        fs::write(dir.path().join("dog/c.png"), "no picture").unwrap();
        let whole = fs::read(dir.path().join("dog/a.png")).unwrap();
        fs::write(dir.path().join("dog/d.png"), &whole[..whole.len() / 2]).unwrap();
        // A picture of 1 x 100,000 pixels.
        GrayImage::new(1, 100_000).save(dir.path().join("dog/e.png")).unwrap();
        let images = ImageFolder::new(dir.path(), [4, 4]).unwrap();
        for (index, name) in [(5, "c.png"), (6, "d.png"), (7, "e.png")] {
            let message = images.batch(&[index], 0).unwrap_err().to_string();
            assert!(message.contains(&format!("{name}: can't be read as a picture")), "{message}");
        }
        assert!(images.batch(&[8], 0).unwrap_err().to_string().contains("index 8 of 8 samples"));
        fs::create_dir(dir.path().join("empty")).unwrap();
        assert!(error(dir.path(), [4, 4]).contains("empty: has no picture"));
    }
}
