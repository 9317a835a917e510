//! Batches: shuffled sample indices, normalized and augmented images.

use super::mnist::Split;
use crate::cpu::host_list;
use crate::error::{Error, Result};
use crate::random::{Use, below, pair};

/// An iterator over the batches of one epoch: lists of `batch_size` sample indices; the last may be shorter.
///
/// Every index of `0..len` occurs exactly once. The order depends only on (seed, epoch): a Fisher-Yates shuffle
/// (Durstenfeld, CACM algorithm 235) with random numbers from Philox, the same on every platform.
#[derive(Debug, Clone)]
pub struct Batches {
    order: Vec<usize>,
    position: usize,
    batch_size: usize,
}

impl Batches {
    /// The shuffled batches of epoch `epoch` over `len` samples.
    ///
    /// # Errors
    /// [`Error::Argument`] if `batch_size` is 0, or if memory for `len` indices runs out.
    pub fn shuffled(len: usize, batch_size: usize, seed: u64, epoch: u64) -> Result<Batches> {
        let mut batches = Batches::in_order(len, batch_size)?;
        let random = (0u64..).flat_map(|at| pair(seed, Use::Shuffle, epoch, at as u32));
        for (last, bits) in (1..len).rev().zip(random) {
            batches.order.swap(last, below(bits, last as u64 + 1) as usize);
        }
        Ok(batches)
    }

    /// The batches over `len` samples in order, for a test set.
    ///
    /// # Errors
    /// [`Error::Argument`] if `batch_size` is 0, or if memory for `len` indices runs out.
    pub fn in_order(len: usize, batch_size: usize) -> Result<Batches> {
        if batch_size == 0 {
            return Err(Error::argument("Batches", "batch size 0; it must be at least 1"));
        }
        let no_room = |_| Error::argument("Batches", format!("no memory for the order of {len} samples"));
        let mut order = host_list(len).map_err(no_room)?;
        order.extend(0..len);
        Ok(Batches { order, position: 0, batch_size })
    }
}

impl Iterator for Batches {
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        let rest = &self.order[self.position..];
        let batch = &rest[..rest.len().min(self.batch_size)];
        self.position += batch.len();
        (!batch.is_empty()).then(|| batch.to_vec())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.order.len() - self.position).div_ceil(self.batch_size);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Batches {}

/// Pixel `p` becomes `(p / 255 - mean) / std`.
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
}

/// The mean and population standard deviation of pixels scaled to 0 to 1.
///
/// Sums are exact integers, divided in `f64`. Use it on the training images only.
///
/// # Errors
/// [`Error::Argument`] if there are no pixels.
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

/// Augmentation: shifts each image by up to `max` pixels along both axes, and fills with background.
///
/// The shift of a sample depends only on (seed, epoch, index), not on its batch. The two axes are independent, and
/// uniform over `-max..=max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomShift {
    /// The largest shift in pixels, below the image's height and width.
    pub max: u32,
    /// The seed of the training run.
    pub seed: u64,
    /// The epoch: each epoch shifts a sample differently.
    pub epoch: u64,
}

impl RandomShift {
    /// The shift of sample `index` in pixels, (down, right); negative is up or left.
    fn of(&self, index: usize) -> (isize, isize) {
        let moved = |bits| below(bits, 2 * u64::from(self.max) + 1) as isize - self.max as isize;
        pair(self.seed, Use::Shift, self.epoch, index as u32).map(moved).into()
    }
}

/// A batch of `split`: normalized pixels `[n, 1, rows, cols]` and class ids `[n]` of the samples `indices`.
///
/// Pixels shifted in from outside are background (pixel value 0), normalized like all others.
///
/// # Errors
/// [`Error::Argument`] if an index is out of range, the split's lengths do not agree, the standard deviation is not
/// positive, the largest shift is not below the image's height and width, or memory runs out.
pub fn gather_images(
    split: &Split,
    indices: &[usize],
    normalisation: Normalization,
    augment: Option<RandomShift>,
) -> Result<(Vec<f32>, Vec<u32>)> {
    let error = |message: String| Err(Error::argument("gather_images", message));
    let &Split { rows, cols, .. } = split;
    let Normalization { mean, std } = normalisation;
    if !(mean.is_finite() && std.is_finite() && std > 0.0) {
        return error(format!("cannot normalise by mean {mean} and standard deviation {std}"));
    }
    let pixels = rows.saturating_mul(cols);
    if pixels.checked_mul(split.len()) != Some(split.images.len()) {
        return error(format!(
            "{} pixel bytes are not {} images of {rows} x {cols}",
            split.images.len(),
            split.len()
        ));
    }
    if let Some(shift) = augment
        && shift.max as usize >= rows.min(cols)
    {
        return error(format!("a shift of {} pixels in images of {rows} x {cols}", shift.max));
    }
    if let Some(index) = indices.iter().find(|&&index| index >= split.len()) {
        return error(format!("index {index} in a split of {} images", split.len()));
    }

    let value: [f32; 256] = std::array::from_fn(|pixel| (pixel as f32 / 255.0 - mean) / std);
    let Ok(mut images) = host_list(indices.len().saturating_mul(pixels)) else {
        return error(format!("no memory for {} images of {rows} x {cols}", indices.len()));
    };
    for &index in indices {
        let image = &split.images[index * pixels..][..pixels];
        match augment {
            None => images.extend(image.iter().map(|&pixel| value[usize::from(pixel)])),
            Some(shift) => {
                let (down, right) = shift.of(index);
                images.extend((0..pixels).map(|at| {
                    let row = (at / cols).checked_add_signed(-down).filter(|&row| row < rows);
                    let col = (at % cols).checked_add_signed(-right).filter(|&col| col < cols);
                    let pixel = row.zip(col).map_or(0, |(row, col)| image[row * cols + col]);
                    value[usize::from(pixel)]
                }));
            }
        }
    }
    Ok((images, indices.iter().map(|&index| split.labels[index].into()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(images: Vec<u8>, labels: Vec<u8>, rows: usize, cols: usize) -> Split {
        Split { images, labels, rows, cols, classes: 10 }
    }

    /// Keeps pixels as p / 255.
    const PLAIN: Normalization = Normalization { mean: 0.0, std: 1.0 };

    #[test]
    fn an_epoch_is_a_permutation_in_batches() {
        let batches = Batches::shuffled(1003, 64, 1, 0).unwrap();
        assert_eq!(batches.len(), 16);
        let batches: Vec<_> = batches.collect();
        assert!(batches[..15].iter().all(|batch| batch.len() == 64));
        assert_eq!(batches[15].len(), 1003 - 15 * 64);
        let mut all = batches.concat();
        assert_ne!(all, (0..1003).collect::<Vec<_>>());
        all.sort();
        assert_eq!(all, (0..1003).collect::<Vec<_>>());
    }

    #[test]
    fn seed_and_epoch_decide_the_order() {
        let order = |seed, epoch| Batches::shuffled(100, 100, seed, epoch).unwrap().next().unwrap();
        assert_eq!(order(1, 2), order(1, 2));
        assert_ne!(order(1, 2), order(2, 1));
        assert_ne!(order(1, 2), order(1, 3));
        // Computed independently in Python. A change here would change every training run.
        assert_eq!(Batches::shuffled(8, 8, 0, 0).unwrap().next().unwrap(), [5, 7, 6, 0, 4, 3, 1, 2]);
    }

    #[test]
    fn every_order_is_as_likely() {
        let mut counts = std::collections::HashMap::new();
        for epoch in 0..6_000 {
            *counts.entry(Batches::shuffled(3, 3, 5, epoch).unwrap().next().unwrap()).or_insert(0u32) += 1;
        }
        // Binomial(6000, 1/6): deviation 28.9, so 145 is five of them.
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|&count| count.abs_diff(1_000) < 145), "{counts:?}");
    }

    #[test]
    fn edges_of_batches() {
        assert!(Batches::shuffled(5, 0, 0, 0).unwrap_err().to_string().contains("batch size 0"));
        assert_eq!(Batches::shuffled(0, 4, 0, 0).unwrap().count(), 0);
        assert_eq!(Batches::in_order(5, 2).unwrap().collect::<Vec<_>>(), [vec![0, 1], vec![2, 3], vec![4]]);
        assert!(Batches::in_order(usize::MAX, 1).unwrap_err().to_string().contains("no memory"));
        assert_eq!(Batches::in_order(2, usize::MAX).unwrap().collect::<Vec<_>>(), [vec![0, 1]]);
    }

    #[test]
    fn mean_and_deviation_by_hand() {
        // 0, 0, 255, 255: mean 1/2, deviation 1/2. A constant has deviation 0.
        assert_eq!(mean_std(&[0, 0, 255, 255]).unwrap(), Normalization { mean: 0.5, std: 0.5 });
        assert_eq!(mean_std(&[51; 7]).unwrap(), Normalization { mean: 0.2, std: 0.0 });
        assert!(mean_std(&[]).is_err());
    }

    #[test]
    fn gathers_and_normalises() {
        let set = split(vec![0, 255, 51, 102], vec![4, 7], 1, 2);
        let half = Normalization { mean: 0.5, std: 0.5 };
        let (images, labels) = gather_images(&set, &[1, 0, 1], half, None).unwrap();
        // 51 / 255 = .2, 102 / 255 = .4: (.2 - .5) / .5 = -.6 and -.2.
        let expected = [-0.6, -0.2, -1.0, 1.0, -0.6, -0.2];
        assert!(images.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{images:?}");
        assert_eq!((images.len(), labels), (6, vec![7, 4, 7]));
        assert_eq!(gather_images(&set, &[], half, None).unwrap(), (vec![], vec![]));
    }

    #[test]
    fn a_shift_moves_the_pixel() {
        // 200 samples with one lit pixel in the centre of 3 x 3. It must appear exactly once per image, where the shift
        // puts it, and in each of the 9 positions at least once.
        let mut one = [0; 9];
        one[4] = 255;
        let set = split(one.repeat(200), vec![0; 200], 3, 3);
        let shift = RandomShift { max: 1, seed: 3, epoch: 0 };
        let indices: Vec<_> = (0..200).collect();
        let (images, _) = gather_images(&set, &indices, PLAIN, Some(shift)).unwrap();
        let mut seen = std::collections::HashSet::new();
        for (index, image) in images.chunks(9).enumerate() {
            let (down, right) = shift.of(index);
            let place = (1 + down) * 3 + 1 + right;
            let expected: Vec<_> = (0..9).map(|at| if at == place { 1.0 } else { 0.0 }).collect();
            assert_eq!(image, expected, "moved by {down}, {right}");
            seen.insert(place);
        }
        assert_eq!(seen.len(), 9);
        let down_left = (0..200).find(|&index| shift.of(index) == (1, -1)).unwrap();
        assert_eq!(images[down_left * 9..][..9], [0., 0., 0., 0., 0., 0., 1., 0., 0.]);
    }

    #[test]
    fn a_shift_depends_on_seed_epoch_and_index_alone() {
        let pixels: Vec<u8> = (0..16 * 40).map(|at| (at * 7 % 256) as u8).collect();
        let set = split(pixels, vec![1; 40], 4, 4);
        let gather = |indices: &[usize], epoch| {
            let shift = RandomShift { max: 2, seed: 9, epoch };
            gather_images(&set, indices, PLAIN, Some(shift)).unwrap().0
        };
        let all: Vec<_> = (0..40).collect();
        assert_eq!(gather(&[17], 1), gather(&all, 1)[17 * 16..18 * 16]);
        assert_ne!(gather(&all, 1), gather(&all, 2));
        let still = RandomShift { max: 0, seed: 9, epoch: 1 };
        assert_eq!(
            gather_images(&set, &all, PLAIN, Some(still)).unwrap(),
            gather_images(&set, &all, PLAIN, None).unwrap()
        );
    }

    #[test]
    fn background_is_normalised_like_a_pixel() {
        let set = split(vec![0; 4], vec![0], 2, 2);
        let (images, _) =
            gather_images(&set, &[0], Normalization::MNIST, Some(RandomShift { max: 1, seed: 0, epoch: 0 }))
                .unwrap();
        assert!(images.iter().all(|&value| value == -0.1307 / 0.3081), "{images:?}");
    }

    #[test]
    fn refuses_what_it_cannot_gather() {
        let set = split(vec![0; 8], vec![0, 1], 2, 2);
        let error = |set: &Split, at, normalisation, max| {
            let shift = RandomShift { max, seed: 0, epoch: 0 };
            gather_images(set, &[at], normalisation, Some(shift)).unwrap_err().to_string()
        };
        assert!(error(&set, 2, PLAIN, 0).contains("index 2 in a split of 2 images"));
        assert!(error(&set, 0, PLAIN, 2).contains("shift of 2 pixels"));
        assert!(error(&set, 0, PLAIN, u32::MAX).contains("shift"));
        for std in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(error(&set, 0, Normalization { mean: 0.0, std }, 0).contains("cannot normalise"));
        }
        assert!(error(&split(vec![0; 7], vec![0, 1], 2, 2), 0, PLAIN, 0).contains("7 pixel bytes"));
        assert!(error(&split(vec![], vec![0], usize::MAX, 2), 0, PLAIN, 0).contains("0 pixel bytes"));
    }
}
