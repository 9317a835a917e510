//! Data sets: what gives a batch of samples for a list of their indices.

use std::sync::Arc;

use crate::cpu::host_list;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::meta::DType;
use crate::tensor::Tensor;

/// Samples that a [`DataLoader`](super::DataLoader) makes batches of.
///
/// The loader's worker threads call [`Dataset::batch`]. It makes tensors on [`Device::cpu`]; the loader moves them to
/// its device.
///
/// ```
/// use gristmill::data::{Batch, DataLoader, Dataset};
/// use gristmill::{Device, Result, Tensor};
///
/// /// Numbers and their squares.
/// struct Squares;
///
/// impl Dataset for Squares {
///     fn len(&self) -> usize {
///         10
///     }
///
///     fn batch(&self, indices: &[usize], _epoch: u64) -> Result<Batch> {
///         let x: Vec<f32> = indices.iter().map(|&index| index as f32).collect();
///         let inputs = Tensor::from_slice(&x, [x.len(), 1], &Device::cpu())?;
///         let targets = inputs.square()?;
///         Ok(Batch { inputs, targets })
///     }
/// }
///
/// let batch = DataLoader::new(Squares, 4)?.epoch(0)?.next().unwrap()?;
/// assert_eq!(batch.targets.to_vec()?, [0.0, 1.0, 4.0, 9.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub trait Dataset: Send + Sync {
    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether there are no samples.
    ///
    /// ```
    /// # use gristmill::data::{Dataset, ImageDataset};
    /// let none = ImageDataset::new(vec![], [0, 1, 28, 28], vec![])?;
    /// assert!(none.is_empty());
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The samples at these indices, in this order. [`Batch::collate`] puts samples together that are made one by one.
    ///
    /// Augmentation must depend only on a seed, `epoch` and the index of a sample, so that a run can be repeated with
    /// any number of workers. [`ImageTransform`](super::ImageTransform) does so.
    ///
    /// # Errors
    /// An index that is not below [`Dataset::len`]; a sample that can't be read.
    fn batch(&self, indices: &[usize], epoch: u64) -> Result<Batch>;
}

/// A data set may be shared: between a loader and other code, or between the [`Subset`]s of a split.
impl<D: Dataset + ?Sized> Dataset for Arc<D> {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn batch(&self, indices: &[usize], epoch: u64) -> Result<Batch> {
        (**self).batch(indices, epoch)
    }
}

/// Samples for one training step. The first axis of both tensors is that of the samples.
///
/// ```
/// # use gristmill::{Device, Tensor, data::Batch};
/// # let device = Device::cpu();
/// let inputs = Tensor::zeros([2, 3], &device)?;
/// let batch = Batch { inputs, targets: Tensor::from_ids(&[4, 9], [2], &device)? };
/// assert_eq!((batch.inputs.shape()[0], batch.targets.to_ids()?), (2, vec![4, 9]));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Batch {
    /// What the model takes.
    pub inputs: Tensor,
    /// What it should give: class ids, or numbers.
    pub targets: Tensor,
}

impl Batch {
    /// Stacks samples, pairs of an input and a target, along a new first axis, as PyTorch's `default_collate`. All
    /// inputs must have one shape and type, and all targets.
    ///
    /// ```
    /// # use gristmill::{Device, Shape, Tensor, data::Batch};
    /// # let cpu = Device::cpu();
    /// let sample = |x: f32, class: u32| {
    ///     Ok((Tensor::from_slice(&[x, -x], [2], &cpu)?, Tensor::from_ids(&[class], Shape::SCALAR, &cpu)?))
    /// };
    /// let batch = Batch::collate([sample(1.0, 5), sample(2.0, 6)])?;
    /// assert_eq!((batch.inputs.shape()[..].to_vec(), batch.inputs.to_vec()?), (vec![2, 2], vec![1.0, -1.0, 2.0, -2.0]));
    /// assert_eq!(batch.targets.to_ids()?, [5, 6]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No sample, a sample that is an error, or samples that differ in shape or type.
    #[track_caller]
    pub fn collate(samples: impl IntoIterator<Item = Result<(Tensor, Tensor)>>) -> Result<Batch> {
        let samples = samples.into_iter().collect::<Result<Vec<_>>>()?;
        let (inputs, targets): (Vec<Tensor>, Vec<Tensor>) = samples.into_iter().unzip();
        Ok(Batch { inputs: stack("inputs", &inputs)?, targets: stack("targets", &targets)? })
    }

    /// The batch on another device; the same tensors if they are there already.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, data::Batch};
    /// # let x = Tensor::zeros([2, 3], &Device::cpu())?;
    /// let device = Device::cpu_with_budget(1 << 20);
    /// let batch = Batch { inputs: x.clone(), targets: x }.to(&device)?;
    /// assert!(batch.inputs.device().same(&device) && batch.targets.device().same(&device));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::to`].
    #[track_caller]
    pub fn to(&self, device: &Device) -> Result<Batch> {
        Ok(Batch { inputs: self.inputs.to(device)?, targets: self.targets.to(device)? })
    }
}

/// The elements as words.
fn words(tensor: &Tensor) -> Result<Vec<u32>> {
    match tensor.dtype() {
        DType::F32 => Ok(bytemuck::allocation::cast_vec(tensor.to_vec()?)),
        DType::U32 => tensor.to_ids(),
    }
}

/// A tensor of these words.
fn tensor(words: &[u32], dtype: DType, shape: &[usize]) -> Result<Tensor> {
    match dtype {
        DType::F32 => Tensor::from_slice(bytemuck::cast_slice(words), shape, &Device::cpu()),
        DType::U32 => Tensor::from_ids(words, shape, &Device::cpu()),
    }
}

/// Without the ops of the CPU device, whose counts are to show what a training step computes there.
#[track_caller]
fn stack(what: &str, samples: &[Tensor]) -> Result<Tensor> {
    let Some(first) = samples.first() else {
        return Err(Error::argument("collate", "no samples; a batch has at least one"));
    };
    let (dtype, shape) = (first.dtype(), first.shape());
    let mut all = host_list(samples.len().saturating_mul(shape.numel()))?;
    for sample in samples {
        if (sample.dtype(), sample.shape()) != (dtype, shape) {
            let other = format!("{:?} {}", sample.dtype(), sample.shape());
            let message = format!("{what} of {dtype:?} {shape} and of {other}; all must be alike");
            return Err(Error::shape("collate", message));
        }
        all.extend(words(sample)?);
    }
    tensor(&all, dtype, &[&[samples.len()], &shape[..]].concat())
}

/// # Errors
/// An index that is not below `len`.
#[track_caller]
pub(super) fn check_indices(op: &'static str, indices: &[usize], len: usize) -> Result<()> {
    match indices.iter().find(|&&index| index >= len) {
        Some(index) => Err(Error::argument(op, format!("index {index} of {len} samples"))),
        None => Ok(()),
    }
}

/// Features and targets in the memory of the host. A sample is an index along the first axis of both.
///
/// ```
/// # use gristmill::{Device, Tensor, data::{DataLoader, TensorDataset}};
/// # let device = Device::cpu();
/// let features = Tensor::from_slice(&[0.0, 0.5, 1.0, 1.5, 2.0, 2.5], [3, 2], &device)?;
/// let dataset = TensorDataset::new(features, Tensor::from_ids(&[7, 8, 9], [3], &device)?)?;
/// let batches = DataLoader::new(dataset, 2)?.epoch(0)?.collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(batches[1].inputs.to_vec()?, [2.0, 2.5]);
/// assert_eq!(batches[1].targets.to_ids()?, [9]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct TensorDataset {
    len: usize,
    features: Rows,
    targets: Rows,
}

/// A tensor on the host by its rows.
struct Rows {
    words: Vec<u32>,
    dtype: DType,
    /// Of a row.
    shape: Vec<usize>,
    /// Elements of a row.
    numel: usize,
}

impl Rows {
    fn new(tensor: &Tensor) -> Result<Rows> {
        let shape = tensor.shape().get(1..).unwrap_or_default().to_vec();
        // The product of the others may overflow if the first axis is empty; then nothing is ever taken.
        let numel = tensor.numel().checked_div(tensor.shape().first().copied().unwrap_or(1)).unwrap_or(0);
        Ok(Rows { words: words(tensor)?, dtype: tensor.dtype(), shape, numel })
    }

    fn take(&self, indices: &[usize]) -> Result<Tensor> {
        let mut taken = host_list(indices.len().saturating_mul(self.numel))?;
        indices
            .iter()
            .for_each(|&index| taken.extend_from_slice(&self.words[index * self.numel..][..self.numel]));
        tensor(&taken, self.dtype, &[&[indices.len()], &self.shape[..]].concat())
    }
}

impl TensorDataset {
    /// Of the features `[n, ..]` and the targets `[n, ..]`, each numbers or ids, from any device.
    ///
    /// # Errors
    /// First axes that differ, a tensor without axes, or a device that fails.
    #[track_caller]
    pub fn new(features: Tensor, targets: Tensor) -> Result<TensorDataset> {
        match (features.shape().first(), targets.shape().first()) {
            (Some(&len), Some(&other)) if len == other => {
                Ok(TensorDataset { len, features: Rows::new(&features)?, targets: Rows::new(&targets)? })
            }
            _ => {
                let shapes = format!("features {} and targets {}", features.shape(), targets.shape());
                Err(Error::shape("TensorDataset", format!("{shapes}; their first axes must be equal")))
            }
        }
    }
}

impl Dataset for TensorDataset {
    fn len(&self) -> usize {
        self.len
    }

    fn batch(&self, indices: &[usize], _epoch: u64) -> Result<Batch> {
        check_indices("TensorDataset", indices, self.len)?;
        Ok(Batch { inputs: self.features.take(indices)?, targets: self.targets.take(indices)? })
    }
}

/// Some samples of a data set, such as a part of [`random_split`](super::random_split).
///
/// ```
/// # use gristmill::{Device, Tensor, data::{Dataset, Subset, TensorDataset, random_split}};
/// # use std::sync::Arc;
/// # let x = Tensor::arange(0.0, 10.0, 1.0, &Device::cpu())?;
/// let dataset = Arc::new(TensorDataset::new(x.clone(), x)?); // 0 to 9
/// let [train, validation] = random_split(dataset.len(), [0.8, 0.2], 7)?;
/// let (train, validation) = (Subset::new(dataset.clone(), train)?, Subset::new(dataset, validation)?);
/// assert_eq!((train.len(), validation.len()), (8, 2));
/// assert_eq!(validation.batch(&[0], 0)?.inputs.to_vec()?, [validation.indices()[0] as f32]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct Subset {
    dataset: Arc<dyn Dataset>,
    indices: Vec<usize>,
}

impl Subset {
    /// The samples at these indices, in this order. An [`Arc`] shares the data set.
    ///
    /// # Errors
    /// An index out of range.
    #[track_caller]
    pub fn new(dataset: impl Dataset + 'static, indices: Vec<usize>) -> Result<Subset> {
        check_indices("Subset", &indices, dataset.len())?;
        Ok(Subset { dataset: Arc::new(dataset), indices })
    }

    /// The indices in the whole data set.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }
}

impl Dataset for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn batch(&self, indices: &[usize], epoch: u64) -> Result<Batch> {
        check_indices("Subset", indices, self.len())?;
        let indices: Vec<usize> = indices.iter().map(|&index| self.indices[index]).collect();
        self.dataset.batch(&indices, epoch)
    }
}
