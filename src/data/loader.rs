//! Batches of a data set, made ahead of the training step on other threads.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use super::dataset::{Batch, Dataset};
use super::split::shuffled;
use crate::cpu::host_list;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::random::Use;

/// Batches that a worker may have ready, as PyTorch's `prefetch_factor`.
const PREFETCH: usize = 2;
/// More threads than this make no batch faster.
const MAX_WORKERS: usize = 256;

/// Makes the batches of a [`Dataset`], epoch by epoch, and moves them to a device.
///
/// ```
/// # use gristmill::{Device, Tensor, data::{DataLoader, TensorDataset}};
/// # let device = Device::best()?;
/// # let x = Tensor::randn([100, 4], 0.0, 1.0, 1, &device)?;
/// # let y = Tensor::from_ids(&[1; 100], [100], &device)?;
/// let loader = DataLoader::new(TensorDataset::new(x, y)?, 32)?.shuffle(1).workers(2).device(&device);
/// let mut rows = Vec::new();
/// for batch in loader.epoch(0)? {
///     rows.push(batch?.inputs.shape()[0]);
/// }
/// assert_eq!((loader.len(), rows), (4, vec![32, 32, 32, 4]));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone)]
pub struct DataLoader {
    dataset: Arc<dyn Dataset>,
    batch_size: usize,
    seed: Option<u64>,
    drop_last: bool,
    workers: usize,
    device: Device,
}

impl DataLoader {
    /// Batches of `batch_size` samples in order, the last one smaller if they don't divide evenly; made on the calling
    /// thread, for [`Device::cpu`]. An [`Arc`] shares the data set with other code.
    ///
    /// # Errors
    /// A batch size of 0.
    #[track_caller]
    pub fn new(dataset: impl Dataset + 'static, batch_size: usize) -> Result<DataLoader> {
        if batch_size == 0 {
            return Err(Error::argument("DataLoader", "batch size 0; it must be at least 1"));
        }
        let (dataset, device) = (Arc::new(dataset), Device::cpu());
        Ok(DataLoader { dataset, batch_size, seed: None, drop_last: false, workers: 0, device })
    }

    /// Shuffles the samples. The order depends only on this seed and the epoch, on every platform, so a resumed run sees
    /// the same batches.
    pub fn shuffle(self, seed: u64) -> DataLoader {
        DataLoader { seed: Some(seed), ..self }
    }

    /// Whether to leave out a last batch that is smaller than the others.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor, data::{DataLoader, TensorDataset}};
    /// # let x = Tensor::arange(0.0, 9.0, 1.0, &Device::cpu())?;
    /// let loader = DataLoader::new(TensorDataset::new(x.clone(), x)?, 4)?; // of 9 samples
    /// assert_eq!(loader.len(), 3);
    /// let loader = loader.drop_last(true);
    /// assert!(loader.len() == 2 && !loader.is_empty());
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn drop_last(self, drop_last: bool) -> DataLoader {
        DataLoader { drop_last, ..self }
    }

    /// Makes batches on this many threads, up to 256, while the program trains on earlier ones; 0 makes them on the
    /// calling thread. Each thread has up to two batches ready, so memory for three a thread is needed.
    ///
    /// The number changes neither the batches nor their order.
    pub fn workers(self, workers: usize) -> DataLoader {
        DataLoader { workers, ..self }
    }

    /// Moves the batches to this device, on the thread that takes them.
    pub fn device(self, device: &Device) -> DataLoader {
        DataLoader { device: device.clone(), ..self }
    }

    /// The number of batches of an epoch.
    pub fn len(&self) -> usize {
        self.count(self.dataset.len())
    }

    /// Whether an epoch has no batches.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn count(&self, samples: usize) -> usize {
        if self.drop_last { samples / self.batch_size } else { samples.div_ceil(self.batch_size) }
    }

    /// Begins an epoch.
    ///
    /// # Errors
    /// No room for the order of the samples, or no thread for a worker. Other errors come from the iterator.
    #[track_caller]
    pub fn epoch(&self, epoch: u64) -> Result<Epoch> {
        let samples = self.dataset.len();
        let order = self.seed.map(|seed| shuffled(samples, Use::Shuffle, seed, epoch)).transpose()?;
        let (dataset, batch_size) = (self.dataset.clone(), self.batch_size);
        let plan = Arc::new(Plan { dataset, samples, order, batch_size, epoch });
        let batches = self.count(samples);
        let count = self.workers.min(batches).min(MAX_WORKERS);
        let start = |first: usize| Plan::start(plan.clone(), (first..batches).step_by(count));
        let workers = (0..count).map(start).collect::<Result<_>>()?;
        Ok(Epoch { plan, workers, next: 0, batches, device: self.device.clone() })
    }
}

/// The batches of an epoch, made by [`DataLoader::epoch`]: an iterator of [`Result<Batch>`]. It ends after an error.
///
/// An error or a panic of the data set is an error here. Workers end with the last batch, with the first error, or when
/// this is dropped; what they are making then, they finish first.
///
/// ```
/// # use gristmill::{Device, Tensor, data::{DataLoader, TensorDataset}};
/// # let x = Tensor::arange(0.0, 9.0, 1.0, &Device::cpu())?;
/// let loader = DataLoader::new(TensorDataset::new(x.clone(), x)?, 4)?.drop_last(true);
/// let mut epoch = loader.epoch(0)?;
/// assert_eq!(epoch.next().transpose()?.unwrap().inputs.to_vec()?, [0.0, 1.0, 2.0, 3.0]);
/// assert_eq!(epoch.count(), 1);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct Epoch {
    plan: Arc<Plan>,
    /// Worker `w` of `n` makes the batches `w`, `w + n`, `w + 2n` and so on.
    workers: Vec<Receiver<Result<Batch>>>,
    next: usize,
    batches: usize,
    device: Device,
}

impl Iterator for Epoch {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        if self.next >= self.batches {
            return None;
        }
        let made = match self.workers.len() {
            0 => self.plan.batch(self.next),
            count => self.workers[self.next % count].recv().unwrap_or_else(|_| {
                let message = format!("the worker of batch {} ended without it", self.next);
                Err(Error::argument("DataLoader", message))
            }),
        };
        let batch = made.and_then(|batch| batch.to(&self.device));
        self.next += 1;
        if batch.is_err() {
            self.next = self.batches;
            self.workers.clear();
        }
        Some(batch)
    }
}

/// What the batches of an epoch consist of.
struct Plan {
    dataset: Arc<dyn Dataset>,
    samples: usize,
    /// `None`: in order.
    order: Option<Vec<usize>>,
    batch_size: usize,
    epoch: u64,
}

impl Plan {
    /// Starts a worker that makes the batches of these numbers.
    #[track_caller]
    fn start(
        plan: Arc<Plan>,
        numbers: impl Iterator<Item = usize> + Send + 'static,
    ) -> Result<Receiver<Result<Batch>>> {
        let (sender, receiver) = sync_channel(PREFETCH);
        let work = move || {
            for number in numbers {
                let batch = plan.batch(number);
                let failed = batch.is_err();
                // Nobody receives any more if the epoch was dropped.
                if sender.send(batch).is_err() || failed {
                    return;
                }
            }
        };
        let started = thread::Builder::new().name("gristmill data".to_string()).spawn(work);
        let wrong =
            |error| Error::argument("DataLoader", format!("a worker can't be started: {error}; use fewer"));
        started.map(|_| receiver).map_err(wrong)
    }

    #[track_caller]
    fn batch(&self, number: usize) -> Result<Batch> {
        let start = number.saturating_mul(self.batch_size);
        let places = start..start.saturating_add(self.batch_size).min(self.samples);
        let mut indices = host_list(places.len())?;
        match &self.order {
            Some(order) => indices.extend_from_slice(&order[places]),
            None => indices.extend(places),
        }
        let made = catch_unwind(AssertUnwindSafe(|| self.dataset.batch(&indices, self.epoch)));
        let batch = made.unwrap_or_else(|panic| {
            let message = format!("the data set panicked at batch {number}: {}", said(&*panic));
            Err(Error::argument("DataLoader", message))
        })?;
        for (what, tensor) in [("inputs", &batch.inputs), ("targets", &batch.targets)] {
            if tensor.shape().first() != Some(&indices.len()) {
                let message = format!("the data set gave {what} of shape {}", tensor.shape());
                let message =
                    format!("{message} for {} samples; the first axis must be theirs", indices.len());
                return Err(Error::shape("DataLoader", message));
            }
        }
        Ok(batch)
    }
}

/// The message of a panic.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    /// Samples that are their own indices, with the epoch as the target.
    struct Numbers {
        len: usize,
        /// Where a batch is an error, panics or has the wrong length.
        fail: usize,
        panic: usize,
        short: usize,
        made: AtomicUsize,
    }

    impl Numbers {
        fn new(len: usize) -> Numbers {
            let none = usize::MAX;
            Numbers { len, fail: none, panic: none, short: none, made: AtomicUsize::new(0) }
        }
    }

    impl Dataset for Numbers {
        fn len(&self) -> usize {
            self.len
        }

        fn batch(&self, indices: &[usize], epoch: u64) -> Result<Batch> {
            self.made.fetch_add(1, Ordering::SeqCst);
            if indices.contains(&self.fail) {
                return Err(Error::argument("Numbers", format!("no sample {}", self.fail)));
            }
            assert!(!indices.contains(&self.panic), "sample {} is bad", self.panic);
            let mut ids: Vec<u32> = indices.iter().map(|&index| index as u32).collect();
            let targets = Tensor::from_ids(&vec![epoch as u32; ids.len()], [ids.len()], &Device::cpu())?;
            ids.truncate(ids.len() - usize::from(indices.contains(&self.short)));
            Ok(Batch { inputs: Tensor::from_ids(&ids, [ids.len()], &Device::cpu())?, targets })
        }
    }

    fn ids(loader: &DataLoader, epoch: u64) -> Vec<Vec<u32>> {
        loader.epoch(epoch).unwrap().map(|batch| batch.unwrap().inputs.to_ids().unwrap()).collect()
    }

    #[test]
    fn an_epoch_holds_every_sample_once() {
        let loader = DataLoader::new(Numbers::new(1003), 64).unwrap().shuffle(1);
        let batches = ids(&loader, 0);
        assert_eq!((loader.len(), batches.len(), batches[15].len()), (16, 16, 1003 - 15 * 64));
        assert!(batches[..15].iter().all(|batch| batch.len() == 64));
        let mut all = batches.concat();
        assert_ne!(all, (0..1003).collect::<Vec<_>>());
        all.sort_unstable();
        assert_eq!(all, (0..1003).collect::<Vec<_>>());
        assert_ne!(ids(&loader, 1), batches);
        // As `shuffled` orders eight samples with seed 0.
        assert_eq!(
            ids(&DataLoader::new(Numbers::new(8), 8).unwrap().shuffle(0), 0),
            [[5, 7, 6, 0, 4, 3, 1, 2]]
        );
    }

    #[test]
    fn edges_of_batches() {
        assert!(DataLoader::new(Numbers::new(5), 0).err().unwrap().to_string().contains("batch size 0"));
        let of = |len, size| DataLoader::new(Numbers::new(len), size).unwrap();
        assert_eq!(ids(&of(5, 2), 0), [vec![0, 1], vec![2, 3], vec![4]]);
        assert_eq!(ids(&of(5, 2).drop_last(true), 0), [[0, 1], [2, 3]]);
        assert_eq!(ids(&of(2, usize::MAX), 0), [[0, 1]]);
        assert!(of(2, 3).drop_last(true).is_empty() && of(0, 4).workers(3).is_empty());
        assert_eq!(ids(&of(0, 4).shuffle(1).workers(3), 0).len(), 0);
        assert!(of(usize::MAX, 1).shuffle(1).epoch(0).is_err());
        // In order no list of all samples is needed, but one of a batch.
        assert_eq!(
            of(usize::MAX, 2).epoch(0).unwrap().next().unwrap().unwrap().inputs.to_ids().unwrap(),
            [0, 1]
        );
        assert!(of(usize::MAX, usize::MAX).epoch(0).unwrap().next().unwrap().is_err());
    }

    #[test]
    fn the_number_of_workers_changes_nothing() {
        let loader = DataLoader::new(Numbers::new(97), 5).unwrap().shuffle(3);
        let expected = ids(&loader, 2);
        for workers in [1, 2, 3, 19, 1000, usize::MAX] {
            let loader = loader.clone().workers(workers);
            assert_eq!(ids(&loader, 2), expected, "{workers} workers");
            let batch = loader.epoch(2).unwrap().last().unwrap().unwrap();
            assert_eq!(batch.targets.to_ids().unwrap(), [2, 2]);
        }
    }

    #[test]
    fn errors_and_panics_of_a_worker_are_errors_and_the_last_item() {
        for workers in [0, 1, 3] {
            let items = |numbers: Numbers| -> Vec<Result<Batch>> {
                DataLoader::new(numbers, 2).unwrap().workers(workers).epoch(0).unwrap().collect()
            };
            let message = |items: &[Result<Batch>]| match items {
                [Ok(_), Ok(_), Err(error)] => error.to_string(),
                _ => panic!("{items:?}"),
            };
            let failed = items(Numbers { fail: 5, ..Numbers::new(100) });
            assert_eq!(message(&failed), "Numbers: no sample 5");
            let panicked = items(Numbers { panic: 5, ..Numbers::new(100) });
            assert_eq!(message(&panicked), "DataLoader: the data set panicked at batch 2: sample 5 is bad");
            let short = message(&items(Numbers { short: 5, ..Numbers::new(100) }));
            assert!(short.contains("inputs of shape [1] for 2 samples"), "{short}");
        }
    }

    #[test]
    fn a_dropped_epoch_ends_its_workers() {
        let numbers = Arc::new(Numbers::new(1_000_000));
        let loader = DataLoader::new(numbers.clone(), 1).unwrap().workers(3);
        let mut epoch = loader.epoch(0).unwrap();
        epoch.next().unwrap().unwrap();
        drop((epoch, loader));
        // The workers hold the data set while they run. Each has two batches ready, waits to send one, and made at most
        // one more for the one taken.
        let began = Instant::now();
        while Arc::strong_count(&numbers) > 1 {
            assert!(began.elapsed() < Duration::from_secs(60), "a worker still runs");
            thread::sleep(Duration::from_millis(1));
        }
        let made = numbers.made.load(Ordering::SeqCst);
        assert!(made <= 3 * (PREFETCH + 1) + 1, "{made} batches made for one taken");
    }

    #[test]
    fn batches_move_to_the_device() {
        let device = Device::cpu_with_budget(1 << 20);
        let loader = DataLoader::new(Numbers::new(4), 2).unwrap().workers(1).device(&device);
        for batch in loader.epoch(0).unwrap() {
            let batch = batch.unwrap();
            assert!(batch.inputs.device().same(&device) && batch.targets.device().same(&device));
        }
        let tiny = DataLoader::new(Numbers::new(4), 2).unwrap().device(&Device::cpu_with_budget(1));
        assert!(matches!(tiny.epoch(0).unwrap().next(), Some(Err(Error::OutOfMemory { .. }))));
    }
}
