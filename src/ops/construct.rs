//! Tensors made from a rule: ranges, triangles, and those shaped as another.

use crate::device::Device;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// The most elements of a range: what kernels can count.
const MOST: f64 = u32::MAX as f64;

/// A tensor whose element at place `i`, in row-major order, is `element(i)`.
#[track_caller]
fn by_place(
    shape: impl AsRef<[usize]>,
    device: &Device,
    element: impl Fn(usize) -> f32 + Sync,
) -> Result<Tensor> {
    Tensor::from_host(Shape::new(shape)?, device, |start, values| {
        (start..).zip(values).for_each(|(i, value)| *value = element(i));
    })
}

impl Tensor {
    /// The numbers from `start` up to but without `end`, `step` apart: `[⌈(end - start) / step⌉]`. Each is computed as
    /// `start + i · step` in f64, as in PyTorch, and rounded to f32.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::arange(0.0, 2.0, 0.5, &Device::cpu())?;
    /// assert_eq!(x.to_vec()?, [0.0, 0.5, 1.0, 1.5]);
    /// assert_eq!(Tensor::arange(3.0, 0.0, -1.0, &Device::cpu())?.to_vec()?, [3.0, 2.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A number that is not finite, a step of 0 or away from `end`, over 2³² - 1 numbers, or no room.
    #[track_caller]
    pub fn arange(start: f64, end: f64, step: f64, device: &Device) -> Result<Tensor> {
        let wrong =
            |what: &str| Err(Error::argument("arange", format!("{start} to {end} by {step}: {what}")));
        if !(start.is_finite() && end.is_finite() && step.is_finite()) {
            return wrong("not finite");
        }
        if step == 0.0 || (end - start) * step < 0.0 {
            return wrong("the step does not lead to the end");
        }
        let count = ((end - start) / step).ceil();
        if count > MOST {
            return wrong("more than 2^32 - 1 numbers");
        }
        by_place([count as usize], device, |i| (start + i as f64 * step) as f32)
    }

    /// `steps` numbers from `start` to `end`, both included, evenly apart.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::linspace(-1.0, 1.0, 5, &Device::cpu())?;
    /// assert_eq!(x.to_vec()?, [-1.0, -0.5, 0.0, 0.5, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// An end that is not finite, over 2³² - 1 steps, or no room.
    #[track_caller]
    pub fn linspace(start: f64, end: f64, steps: usize, device: &Device) -> Result<Tensor> {
        if !(start.is_finite() && end.is_finite()) || steps as f64 > MOST {
            return Err(Error::argument("linspace", format!("{steps} numbers from {start} to {end}")));
        }
        let last = steps.saturating_sub(1).max(1) as f64;
        let number = |i: usize| {
            let along = i as f64 / last;
            (start * (1.0 - along) + end * along) as f32
        };
        by_place([steps], device, number)
    }

    /// The identity matrix `[n, n]`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::eye(2, &Device::cpu())?;
    /// assert_eq!(x.to_vec()?, [1.0, 0.0, 0.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No room.
    #[track_caller]
    pub fn eye(n: usize, device: &Device) -> Result<Tensor> {
        by_place([n, n], device, |i| f32::from(i % (n + 1) == 0))
    }

    /// A tensor of zeros with this one's shape, on its device; always of `f32`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::ones([2, 3], &Device::cpu())?;
    /// assert_eq!(x.zeros_like()?.to_vec()?, [0.0; 6]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No room.
    #[track_caller]
    pub fn zeros_like(&self) -> Result<Tensor> {
        self.full_like(0.0)
    }

    /// A tensor of ones with this one's shape, on its device; always of `f32`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::zeros([2, 3], &Device::cpu())?;
    /// assert_eq!(x.ones_like()?.to_vec()?, [1.0; 6]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No room.
    #[track_caller]
    pub fn ones_like(&self) -> Result<Tensor> {
        self.full_like(1.0)
    }

    /// A tensor filled with `value`, with this one's shape, on its device; always of `f32`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::zeros([2], &Device::cpu())?;
    /// assert_eq!(x.full_like(0.5)?.to_vec()?, [0.5, 0.5]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No room.
    #[track_caller]
    pub fn full_like(&self, value: f32) -> Result<Tensor> {
        Tensor::full(self.shape(), value, self.device())
    }

    /// The lower triangle of the last two axes, 0 elsewhere, by a mask made on the host. It includes the diagonal `diagonal`: 0 is the main one,
    /// those above are positive.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::ones([2, 3], &Device::cpu())?;
    /// assert_eq!(x.tril(0)?.to_vec()?, [1.0, 0.0, 0.0, 1.0, 1.0, 0.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Rank below 2, a tensor of ids, or the device fails.
    #[track_caller]
    pub fn tril(&self, diagonal: isize) -> Result<Tensor> {
        self.where_on("tril", |row, column| column <= row.saturating_add(diagonal))
    }

    /// The upper triangle of the last two axes, 0 elsewhere; see [`Tensor::tril`].
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::ones([2, 3], &Device::cpu())?;
    /// assert_eq!(x.triu(1)?.to_vec()?, [0.0, 1.0, 1.0, 0.0, 0.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Rank below 2, a tensor of ids, or the device fails.
    #[track_caller]
    pub fn triu(&self, diagonal: isize) -> Result<Tensor> {
        self.where_on("triu", |row, column| column >= row.saturating_add(diagonal))
    }

    /// The elements in the rows and columns of the last two axes where `kept` holds, 0 elsewhere.
    #[track_caller]
    fn where_on(&self, op: &'static str, kept: impl Fn(isize, isize) -> bool + Sync) -> Result<Tensor> {
        let shape = self.shape();
        let Some(&[rows, columns]) = shape.last_chunk::<2>() else {
            return Err(Error::shape(op, format!("shape {shape} has no rows and columns")));
        };
        // Selected, not multiplied: infinity times 0 is NaN.
        let at = |i: usize| f32::from(kept((i / columns) as isize, (i % columns) as isize));
        let mask = by_place([rows, columns], self.device(), at)?;
        mask.where_cond(self, &Tensor::zeros(Shape::SCALAR, self.device())?)
    }

    /// `value` where `mask` is not 0, else this tensor's element, with broadcasting. No gradient flows to what was
    /// replaced.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0], [3], &Device::cpu())?;
    /// let y = x.masked_fill(&x.gt_scalar(1.5)?, f32::NEG_INFINITY)?;
    /// assert_eq!(y.to_vec()?, [1.0, f32::NEG_INFINITY, f32::NEG_INFINITY]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// The shapes do not broadcast, a tensor of ids, the devices differ, or the device fails.
    #[track_caller]
    pub fn masked_fill(&self, mask: &Tensor, value: f32) -> Result<Tensor> {
        mask.where_cond(&Tensor::scalar(value, self.device())?, self)
    }
}
