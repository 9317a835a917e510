//! Images as tensors: normalization, augmentation, images in memory.

use super::dataset::{Batch, Dataset, check_indices};
use crate::cpu::host_list;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::random::{Use, below, pair, unit, words};
use crate::tensor::Tensor;

/// Pixel `p` of a channel becomes `(p / 255 - mean) / std`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalization {
    /// The mean of the training pixels, scaled to 0 to 1.
    pub mean: f32,
    /// The standard deviation of the training pixels, scaled to 0 to 1.
    pub std: f32,
}

impl Normalization {
    /// The constants of MNIST's training images, with the four digits of PyTorch's example.
    pub const MNIST: Normalization = Normalization { mean: 0.1307, std: 0.3081 };

    /// The constants of ImageNet's red, green and blue, as torchvision's models take them.
    pub const IMAGENET: [Normalization; 3] = [
        Normalization { mean: 0.485, std: 0.229 },
        Normalization { mean: 0.456, std: 0.224 },
        Normalization { mean: 0.406, std: 0.225 },
    ];
}

/// The mean and population standard deviation of pixels scaled to 0 to 1.
///
/// Sums are exact integers, divided in `f64`. Use it on the training images only.
///
/// ```
/// # use gristmill::data::{Normalization, mean_std};
/// let pixels = [0, 255, 0, 255];
/// assert_eq!(mean_std(&pixels)?, Normalization { mean: 0.5, std: 0.5 });
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// [`Error::Argument`] if there are no pixels.
#[track_caller]
pub fn mean_std(images: &[u8]) -> Result<Normalization> {
    if images.is_empty() {
        return Err(Error::argument("mean_std", "no pixels to measure"));
    }
    let (sum, squares) = images.iter().fold((0u64, 0u64), |(sum, squares), &pixel| {
        let pixel = u64::from(pixel);
        (sum + pixel, squares + pixel * pixel)
    });
    let count = images.len() as f64;
    let mean = sum as f64 / count;
    // n * squares - sum² is exact in u128: there is no cancellation, and equal pixels give 0.
    let spread = images.len() as u128 * u128::from(squares) - u128::from(sum) * u128::from(sum);
    let std = (spread as f64).sqrt() / count;
    Ok(Normalization { mean: (mean / 255.0) as f32, std: (std / 255.0) as f32 })
}

/// What happens to the images of a data set on their way into a batch: augmentation, which differs from epoch to epoch,
/// then normalization. It starts as neither: pixels become `p / 255`, 0 to 1.
///
/// What is drawn for an image depends only on the seed, the epoch and the image's index, not on its batch or on the number
/// of workers.
///
/// ```
/// # use gristmill::data::{Dataset, ImageDataset, ImageTransform, Normalization};
/// let one = ImageDataset::new(vec![0, 255], [1, 1, 1, 2], vec![7])?;
/// let half = ImageTransform::new().normalize(&[Normalization { mean: 0.5, std: 0.5 }]);
/// assert_eq!(one.transform(half.clone()).batch(&[0], 0)?.inputs.to_vec()?, [-1.0, 1.0]);
/// let two = ImageDataset::new(vec![0, 255], [1, 1, 1, 2], vec![7])?;
/// let flipped = two.transform(half.random_horizontal_flip(1.0)).batch(&[0], 0)?;
/// assert_eq!(flipped.inputs.to_vec()?, [1.0, -1.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageTransform {
    seed: u64,
    crop: Option<([usize; 2], usize)>,
    flip: f32,
    normalization: Option<Vec<Normalization>>,
}

impl ImageTransform {
    /// Pixels become `p / 255`, 0 to 1.
    pub fn new() -> ImageTransform {
        ImageTransform::default()
    }

    /// Subtracts a mean from each channel and divides by its standard deviation, which must be positive.
    pub fn normalize(self, channels: &[Normalization]) -> ImageTransform {
        ImageTransform { normalization: Some(channels.to_vec()), ..self }
    }

    /// Pads an image on all sides with `padding` pixels of background (0, normalized like all others), and cuts out a
    /// window of `size`, height and width, at a random place: torchvision's `RandomCrop(size, padding)`. With the size
    /// of the images this shifts each by up to `padding` pixels along both axes.
    ///
    /// `padding` must be below both lengths of `size`, so that a part of the image stays.
    ///
    /// ```
    /// # use gristmill::data::{Dataset, ImageDataset, ImageTransform};
    /// let grey = ImageDataset::new(vec![51; 16], [1, 1, 4, 4], vec![7])?;
    /// let cropped = grey.transform(ImageTransform::new().random_crop([2, 2], 0).seed(1)).batch(&[0], 0)?;
    /// assert_eq!(cropped.inputs.shape(), [1, 1, 2, 2]);
    /// assert_eq!(cropped.inputs.to_vec()?, [0.2; 4]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn random_crop(self, size: [usize; 2], padding: usize) -> ImageTransform {
        ImageTransform { crop: Some((size, padding)), ..self }
    }

    /// Mirrors left and right with this probability: torchvision's `RandomHorizontalFlip(p)`, where 0.5 is usual.
    pub fn random_horizontal_flip(self, p: f32) -> ImageTransform {
        ImageTransform { flip: p, ..self }
    }

    /// The seed of the augmentation, which is 0 otherwise.
    pub fn seed(self, seed: u64) -> ImageTransform {
        ImageTransform { seed, ..self }
    }

    /// Makes a batch `[n, channels, height, width]` of images of the shape `[channels, rows, columns]`: for each index the
    /// bytes of its image, whose channels follow each other or, if `interleaved`, vary fastest.
    ///
    /// # Errors
    /// A transform that does not fit these images, an image that can't be read, or no room.
    pub(super) fn batch<B: AsRef<[u8]>>(
        &self,
        shape: [usize; 3],
        interleaved: bool,
        indices: &[usize],
        epoch: u64,
        image: impl Fn(usize) -> Result<B>,
    ) -> Result<Tensor> {
        let values = self.values(shape[0])?;
        let size = self.size(shape)?;
        let numel = shape[0].saturating_mul(size[0]).saturating_mul(size[1]);
        let mut out = host_list(indices.len().saturating_mul(numel))?;
        for &index in indices {
            let pixels = Pixels { bytes: image(index)?, shape, interleaved };
            self.append(pixels, size, &values, index, epoch, &mut out);
        }
        Tensor::from_slice(&out, [indices.len(), shape[0], size[0], size[1]], &Device::cpu())
    }

    /// What each byte of each channel becomes.
    fn values(&self, channels: usize) -> Result<Vec<[f32; 256]>> {
        let wrong = |message: String| Err(Error::argument("ImageTransform", message));
        if !(0.0..=1.0).contains(&self.flip) {
            return wrong(format!("cannot flip with probability {}; it must be from 0 to 1", self.flip));
        }
        // Images without pixels may claim any number of channels.
        let mut values = host_list(channels)?;
        let Some(normalization) = &self.normalization else {
            values.resize(channels, std::array::from_fn(|pixel| pixel as f32 / 255.0));
            return Ok(values);
        };
        if normalization.len() != channels {
            let message = format!(
                "normalizes {} channels; the images have {channels} (ImageFolder::grey makes it 1)",
                normalization.len()
            );
            return wrong(message);
        }
        for &Normalization { mean, std } in normalization {
            if !(mean.is_finite() && std.is_finite() && std > 0.0) {
                return wrong(format!("cannot normalize by mean {mean} and standard deviation {std}"));
            }
            values.push(std::array::from_fn(|pixel| (pixel as f32 / 255.0 - mean) / std));
        }
        Ok(values)
    }

    /// Height and width of the results.
    fn size(&self, [_, rows, columns]: [usize; 3]) -> Result<[usize; 2]> {
        let Some((size, padding)) = self.crop else { return Ok([rows, columns]) };
        let fits = |(length, size): (usize, usize)| {
            let padded = padding.checked_mul(2).and_then(|both| both.checked_add(length));
            padding < size && padded.is_some_and(|padded| size <= padded)
        };
        if [(rows, size[0]), (columns, size[1])].into_iter().all(fits) {
            return Ok(size);
        }
        let [height, width] = size;
        Err(Error::argument(
            "ImageTransform",
            format!(
                "a crop of {height} x {width} with a padding of {padding} from images of {rows} x {columns}; it must \
                 be larger than the padding, and no larger than the padded image"
            ),
        ))
    }

    fn append(
        &self,
        Pixels { bytes, shape: [channels, rows, columns], interleaved }: Pixels<impl AsRef<[u8]>>,
        [height, width]: [usize; 2],
        values: &[[f32; 256]],
        index: usize,
        epoch: u64,
        out: &mut Vec<f32>,
    ) {
        let bytes = bytes.as_ref();
        // The first row and column of the window.
        let (mut top, mut left) = (0, 0);
        if let Some((_, padding)) = self.crop {
            let [down, right] = pair(self.seed, Use::Shift, epoch, index as u32);
            let first = |bits, free: usize| {
                (free - below(bits, free as u64 + 1) as usize) as isize - padding as isize
            };
            top = first(down, rows + 2 * padding - height);
            left = first(right, columns + 2 * padding - width);
        }
        let flipped = unit(words(self.seed, Use::Flip, epoch, index as u32)[0]) < f64::from(self.flip);
        let (plane, step) = if interleaved { (1, channels) } else { (rows * columns, 1) };
        for (channel, value) in values.iter().enumerate() {
            for row in 0..height {
                let row = row.checked_add_signed(top).filter(|&row| row < rows);
                out.extend((0..width).map(|column| {
                    let column = if flipped { width - 1 - column } else { column };
                    let column = column.checked_add_signed(left).filter(|&column| column < columns);
                    let place = row.zip(column).map(|(row, column)| row * columns + column);
                    value[usize::from(place.map_or(0, |place| bytes[channel * plane + place * step]))]
                }));
            }
        }
    }
}

/// The bytes of an image.
struct Pixels<B> {
    bytes: B,
    shape: [usize; 3],
    interleaved: bool,
}

/// Images in memory, a byte for each pixel and channel, and their classes. [`Split::into_dataset`](super::Split::into_dataset)
/// makes one of MNIST.
///
/// A batch has `f32` inputs `[n, channels, rows, columns]` and class ids `[n]`.
///
/// ```
/// # use gristmill::data::{DataLoader, Dataset, ImageDataset};
/// // Two images of one channel and 1 x 2 pixels.
/// let images = ImageDataset::new(vec![0, 255, 51, 102], [2, 1, 1, 2], vec![4, 7])?;
/// let batch = images.batch(&[1, 0], 0)?;
/// assert_eq!(batch.inputs.to_vec()?, [0.2, 0.4, 0.0, 1.0]);
/// assert_eq!(batch.targets.to_ids()?, [7, 4]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct ImageDataset {
    pixels: Vec<u8>,
    labels: Vec<u32>,
    shape: [usize; 3],
    transform: ImageTransform,
}

impl ImageDataset {
    /// Of pixels in the shape `[n, channels, rows, columns]`, row by row, 0 background and 255 full intensity, and the `n`
    /// class ids.
    ///
    /// # Errors
    /// Not that many pixels or labels.
    #[track_caller]
    pub fn new(pixels: Vec<u8>, shape: [usize; 4], labels: Vec<u32>) -> Result<ImageDataset> {
        let [count, channels, rows, columns] = shape;
        let wanted = shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
        if wanted != Some(pixels.len()) || labels.len() != count {
            let found = format!("{} pixel bytes and {} labels", pixels.len(), labels.len());
            let message = format!("{found} are not {count} images of {channels} x {rows} x {columns}");
            return Err(Error::argument("ImageDataset", message));
        }
        Ok(ImageDataset {
            pixels,
            labels,
            shape: [channels, rows, columns],
            transform: ImageTransform::new(),
        })
    }

    /// Normalizes and augments the images of each batch.
    ///
    /// ```
    /// # use gristmill::data::{Dataset, ImageDataset, ImageTransform};
    /// let images = ImageDataset::new(vec![0, 255], [1, 1, 1, 2], vec![7])?;
    /// let flipped = images.transform(ImageTransform::new().random_horizontal_flip(1.0));
    /// assert_eq!(flipped.batch(&[0], 0)?.inputs.to_vec()?, [1.0, 0.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn transform(self, transform: ImageTransform) -> ImageDataset {
        ImageDataset { transform, ..self }
    }
}

impl Dataset for ImageDataset {
    fn len(&self) -> usize {
        self.labels.len()
    }

    /// # Errors
    /// An index out of range, a transform that does not fit, or no room.
    fn batch(&self, indices: &[usize], epoch: u64) -> Result<Batch> {
        check_indices("ImageDataset", indices, self.len())?;
        let size: usize = self.shape.iter().product();
        let image = |index: usize| Ok(&self.pixels[index * size..][..size]);
        let inputs = self.transform.batch(self.shape, false, indices, epoch, image)?;
        let labels: Vec<u32> = indices.iter().map(|&index| self.labels[index]).collect();
        Ok(Batch { inputs, targets: Tensor::from_ids(&labels, [labels.len()], &Device::cpu())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(pixels: Vec<u8>, shape: [usize; 4]) -> ImageDataset {
        ImageDataset::new(pixels, shape, (0..shape[0] as u32).collect()).unwrap()
    }

    fn gather(images: &ImageDataset, indices: &[usize], epoch: u64) -> Vec<f32> {
        images.batch(indices, epoch).unwrap().inputs.to_vec().unwrap()
    }

    #[test]
    fn mean_and_deviation_by_hand() {
        // 0, 0, 255, 255: mean 1/2, deviation 1/2. A constant has deviation 0.
        assert_eq!(mean_std(&[0, 0, 255, 255]).unwrap(), Normalization { mean: 0.5, std: 0.5 });
        assert_eq!(mean_std(&[51; 7]).unwrap(), Normalization { mean: 0.2, std: 0.0 });
        assert!(mean_std(&[]).is_err());
    }

    #[test]
    fn gathers_and_normalizes() {
        let set = ImageDataset::new(vec![0, 255, 51, 102], [2, 1, 1, 2], vec![4, 7]).unwrap();
        let set = set.transform(ImageTransform::new().normalize(&[Normalization { mean: 0.5, std: 0.5 }]));
        let batch = set.batch(&[1, 0, 1], 0).unwrap();
        // 51 / 255 = .2, 102 / 255 = .4: (.2 - .5) / .5 = -.6 and -.2, up to the rounding of three operations.
        let expected = [-0.6, -0.2, -1.0, 1.0, -0.6, -0.2];
        let values = batch.inputs.to_vec().unwrap();
        assert!(values.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{values:?}");
        assert_eq!(batch.inputs.shape(), [3, 1, 1, 2]);
        assert_eq!(batch.targets.to_ids().unwrap(), [7, 4, 7]);
        assert_eq!(set.batch(&[], 0).unwrap().inputs.shape(), [0, 1, 1, 2]);
    }

    #[test]
    fn each_channel_has_its_own_mean() {
        let set = images(vec![0, 255, 0, 255], [1, 2, 1, 2]);
        let [a, b] = [(0.0, 1.0), (1.0, 0.5)].map(|(mean, std)| Normalization { mean, std });
        let set = set.transform(ImageTransform::new().normalize(&[a, b]));
        assert_eq!(gather(&set, &[0], 0), [0.0, 1.0, -2.0, 0.0]);
    }

    #[test]
    fn a_shift_moves_the_pixel() {
        // 200 samples with one lit pixel in the centre of 3 x 3. It must appear exactly once per image, and in each of
        // the 9 positions at least once.
        let mut one = [0; 9];
        one[4] = 255;
        let set = images(one.repeat(200), [200, 1, 3, 3]);
        let set = set.transform(ImageTransform::new().random_crop([3, 3], 1).seed(3));
        let shifted = gather(&set, &(0..200).collect::<Vec<_>>(), 0);
        let mut seen = std::collections::HashSet::new();
        for image in shifted.chunks(9) {
            assert_eq!(image.iter().sum::<f32>(), 1.0, "{image:?}");
            seen.insert(image.iter().position(|&value| value == 1.0).unwrap());
        }
        assert_eq!(seen.len(), 9);
        // Computed independently in Python. A change here would change every training run.
        let place = |index: usize| shifted[index * 9..][..9].iter().position(|&value| value == 1.0).unwrap();
        assert_eq!((0..6).map(place).collect::<Vec<_>>(), [5, 8, 2, 3, 2, 5]);
    }

    #[test]
    fn a_crop_shows_a_window_of_the_image() {
        let set = images((0..12).collect(), [1, 1, 3, 4]);
        let set = set.transform(ImageTransform::new().random_crop([2, 2], 0));
        let mut seen = std::collections::HashSet::new();
        for epoch in 0..100 {
            let window: Vec<u8> =
                gather(&set, &[0], epoch).iter().map(|value| (value * 255.0).round() as u8).collect();
            let first = window[0];
            assert_eq!(window, [first, first + 1, first + 4, first + 5]);
            seen.insert(first);
        }
        assert_eq!(seen.len(), 2 * 3, "every place of the window");
    }

    #[test]
    fn about_half_of_the_images_are_flipped() {
        let set = images([0, 51, 102].repeat(1000), [1000, 1, 1, 3]);
        let set = set.transform(ImageTransform::new().random_horizontal_flip(0.5).seed(1));
        let values = gather(&set, &(0..1000).collect::<Vec<_>>(), 0);
        let flipped = values.chunks(3).filter(|image| image[0] > image[2]).count();
        assert!(values.chunks(3).all(|image| image[1] == 0.2));
        // Binomial(1000, 1/2): deviation 15.8, so 79 is five of them.
        assert!(flipped.abs_diff(500) < 79, "{flipped} of 1000");
        assert_ne!(values, gather(&set, &(0..1000).collect::<Vec<_>>(), 1));
    }

    #[test]
    fn augmentation_depends_on_seed_epoch_and_index_alone() {
        let pixels: Vec<u8> = (0..16 * 40).map(|at| (at * 7 % 256) as u8).collect();
        let transform = ImageTransform::new().random_crop([4, 4], 2).random_horizontal_flip(0.5);
        let of = |transform: ImageTransform| images(pixels.clone(), [40, 1, 4, 4]).transform(transform);
        let set = of(transform.clone().seed(9));
        let all: Vec<_> = (0..40).collect();
        assert_eq!(gather(&set, &[17], 1), gather(&set, &all, 1)[17 * 16..18 * 16]);
        assert_ne!(gather(&set, &all, 1), gather(&set, &all, 2));
        assert_ne!(gather(&set, &all, 1), gather(&of(transform.seed(8)), &all, 1));
        let still = of(ImageTransform::new().random_crop([4, 4], 0).seed(9));
        assert_eq!(gather(&still, &all, 1), gather(&of(ImageTransform::new()), &all, 1));
    }

    #[test]
    fn background_is_normalized_like_a_pixel() {
        let transform = ImageTransform::new().normalize(&[Normalization::MNIST]).random_crop([2, 2], 1);
        let values = gather(&images(vec![0; 4], [1, 1, 2, 2]).transform(transform), &[0], 0);
        assert!(values.iter().all(|&value| value == -0.1307 / 0.3081), "{values:?}");
    }

    #[test]
    fn refuses_what_it_cannot_gather() {
        let error = |at: usize, transform: ImageTransform| {
            images(vec![0; 8], [2, 1, 2, 2]).transform(transform).batch(&[at], 0).unwrap_err().to_string()
        };
        assert!(error(2, ImageTransform::new()).contains("index 2 of 2 samples"));
        for (size, padding) in [([2, 2], 2), ([2, 2], usize::MAX), ([3, 2], 0), ([2, 5], 1), ([0, 0], 0)] {
            let message = error(0, ImageTransform::new().random_crop(size, padding));
            assert!(message.contains("no larger than the padded image"), "{message}");
        }
        for std in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let message = error(0, ImageTransform::new().normalize(&[Normalization { mean: 0.0, std }]));
            assert!(message.contains("cannot normalize"), "{message}");
        }
        let message = error(0, ImageTransform::new().normalize(&Normalization::IMAGENET));
        assert!(message.contains("normalizes 3 channels; the images have 1"), "{message}");
        for p in [-0.5, 1.5, f32::NAN] {
            assert!(error(0, ImageTransform::new().random_horizontal_flip(p)).contains("probability"));
        }
        let new = |shape, labels| ImageDataset::new(vec![0; 8], shape, labels).err().unwrap().to_string();
        assert!(
            new([2, 1, 2, 1], vec![0; 2])
                .contains("8 pixel bytes and 2 labels are not 2 images of 1 x 2 x 1")
        );
        assert!(new([2, 1, 2, 2], vec![0; 3]).contains("3 labels"));
        assert!(new([2, usize::MAX, usize::MAX, 2], vec![0; 2]).contains("8 pixel bytes"));
    }
}
