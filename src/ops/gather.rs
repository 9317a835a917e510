//! Gathering along an axis by ids: gather, index_select, embedding.

use super::copy::Fill;
use super::scatter::{self, check, fits, lanes};
use super::{StridedIndexer, WG, arity, in_fours, to_u32};
use crate::cpu::CpuDevice;
use crate::cpu::strided::rows;
use crate::gpu::{Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves, apply};
use crate::shape::{Layout, MAX_RANK, Shape};
use crate::tensor::Tensor;
use crate::{DType, Error, Result, params};
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&STRIDED, &VECTOR, &SCATTER];

static STRIDED: Kernel = kernel!("gather.wgsl", "strided", reads: 2, writes: 2, params: Params, "WG": &[WG]);
static VECTOR: Kernel = kernel!("gather.wgsl", "vector", reads: 2, writes: 2, params: Params, "WG": &[WG]);
static SCATTER: Kernel = kernel!("gather.wgsl", "scatter", reads: 2, writes: 2, params: Params, "WG": &[WG]);

params! {
    struct Params { indexer: StridedIndexer, count: u32, stride: u32, length: u32, check: u32 }
}

/// `y[i, j, k] = x[i, index[i, j, k], k]`, here for axis 1 of three. Selections are gathers too: their index is
/// expanded, so its strides are 0 along all other axes.
struct Gather {
    /// The name of the public function.
    name: &'static str,
    axis: usize,
}

impl Params {
    fn new<const N: usize>(op: &'static str, operands: [Layout; N], stride: usize) -> Result<Params> {
        let count = to_u32(op, operands[0].shape.numel())?;
        Ok(Params {
            indexer: StridedIndexer::new(op, operands)?,
            count,
            stride: to_u32(op, stride)?,
            length: 0,
            check: 0,
        })
    }
}

impl Op for Gather {
    fn name(&self) -> &'static str {
        self.name
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x, index] = arity(self.name, inputs)?;
        fits(self.name, self.axis, x.shape, index)?;
        Ok(vec![Meta { shape: index.shape, dtype: x.dtype, max_id: x.max_id.of_some() }])
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        0
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let (x, index) = (inputs[0], inputs[1]);
        check(self.name, self.axis, x.shape(), &index)?;
        let (ids, stride): (&[u32], _) = (bytemuck::cast_slice(index.data), x.layout.strides[self.axis]);
        let lanes = lanes(&x.layout, self.axis, index.shape());
        rows(outputs[0].data, [index.layout, lanes], |y, [i, x0], steps| match steps {
            // A whole row, or a part of one.
            [0, 1] => y.copy_from_slice(&x.data[x0 + ids[i] as usize * stride..][..y.len()]),
            [di, dx] => y.iter_mut().enumerate().for_each(|(j, y)| {
                *y = x.data[x0 + j * dx + ids[i + j * di] as usize * stride];
            }),
        });
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (x, index, y) = (inputs[0], inputs[1], outputs[0]);
        let stride = x.layout.strides[self.axis];
        let operands = [index.layout, lanes(&x.layout, self.axis, y.shape)];
        let fours = if stride.is_multiple_of(4) { in_fours(operands, [false, true]) } else { None };
        let (kernel, params) = match fours {
            Some(operands) => (&VECTOR, Params::new(self.name, operands, stride / 4)?),
            None => (&STRIDED, Params::new(self.name, operands, stride)?),
        };
        let length = x.layout.shape[self.axis];
        let (status, check) = rec.id_check(self.name, &index, length)?;
        let params = Params { length: to_u32(self.name, length)?, check, ..params };
        let groups = params.count.div_ceil(WG) as usize;
        rec.dispatch(kernel, &[WG], &[index.buffer, x.buffer, y.buffer, &*status], &params, groups)
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[1], outputs: &[] }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let op = GatherGrad { axis: self.axis, shape: saved.shape(0)?, distinct: false };
        Ok(vec![Some(apply(op, &[saved.input(1)?, grad])?), None])
    }
}

/// The gradient of a gather, of shape `shape`: for each element, the sum of the gradients of its copies. Inputs: the
/// index, and the gradient of the output.
pub(super) struct GatherGrad {
    pub(super) axis: usize,
    pub(super) shape: Shape,
    /// Whether no element was gathered twice: then there is nothing to sum.
    pub(super) distinct: bool,
}

impl Op for GatherGrad {
    fn name(&self) -> &'static str {
        "gather_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [index, _] = arity(self.name(), inputs)?;
        fits(self.name(), self.axis, self.shape, index)?;
        Ok(vec![Meta::f32(self.shape)])
    }

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        inputs[1].numel()
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        check(self.name(), self.axis, self.shape, &inputs[0])?;
        outputs[0].data.fill(0.0);
        scatter::add_on_cpu(cpu, self.axis, inputs[0], inputs[1], &mut outputs[0])
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let (index, dy, dx, name) = (inputs[0], inputs[1], outputs[0], self.name());
        Fill::dispatch(rec, dx, 0)?;
        if !self.distinct {
            return scatter::add(rec, name, self.axis, index, dy, dx);
        }
        let to = Layout::contiguous(dx.shape);
        let operands = [index.layout, lanes(&to, self.axis, index.layout.shape), dy.layout];
        let length = self.shape[self.axis];
        let (status, check) = rec.id_check(name, &index, length)?;
        let params = Params {
            length: to_u32(name, length)?,
            check,
            ..Params::new(name, operands, to.strides[self.axis])?
        };
        let groups = params.count.div_ceil(WG) as usize;
        rec.dispatch(&SCATTER, &[WG], &[index.buffer, dy.buffer, dx.buffer, &*status], &params, groups)
    }
}

impl Tensor {
    /// Gathers elements along an axis by ids, as PyTorch's `gather`.
    ///
    /// For axis 1 of three, `y[i, j, k] = x[i, index[i, j, k], k]`. The index is `u32` and has the rank of this tensor;
    /// along the other axes it may be shorter. The result has the shape of the index.
    ///
    /// The gradient of an element is the sum of the gradients of its copies, in a fixed order.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0], [2, 2], &Device::cpu())?;
    /// let index = Tensor::from_ids(&[1, 1, 0, 1], [2, 2], &Device::cpu())?;
    /// assert_eq!(x.gather(1, &index)?.to_vec()?, [2.0, 2.0, 3.0, 4.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, an index that does not fit or is not of ids, or the device fails. An id out of range is an error
    /// at once if the ids were uploaded or are on the CPU. If a GPU computed them, reading the result, or anything
    /// computed from it, is an error.
    #[track_caller]
    pub fn gather(&self, axis: isize, index: &Tensor) -> Result<Tensor> {
        let axis = self.shape().axis("gather", axis)?;
        apply(Gather { name: "gather", axis }, &[self, index])
    }

    /// Selects the elements of an axis by `ids`, `u32 [n]`, as PyTorch's `index_select`.
    ///
    /// Axis 0 of `[5, 3]` by the ids `[4, 4, 0]` gives `[3, 3]`.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [3, 2], &Device::cpu())?;
    /// let ids = Tensor::from_ids(&[2, 0], [2], x.device())?;
    /// assert_eq!(x.index_select(0, &ids)?.to_vec()?, [5.0, 6.0, 1.0, 2.0]); // rows 2 and 0
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, ids that are not of rank 1, or as [`Tensor::gather`].
    #[track_caller]
    pub fn index_select(&self, axis: isize, ids: &Tensor) -> Result<Tensor> {
        const NAME: &str = "index_select";
        let axis = self.shape().axis(NAME, axis)?;
        ids.expect(DType::U32, NAME)?;
        let &[count] = &ids.shape()[..] else {
            return Err(Error::shape(NAME, format!("wants ids of shape [n], got {}", ids.shape())));
        };
        let mut along = [1; MAX_RANK];
        along[axis] = count;
        let index = ids.reshape(&along[..self.rank()])?.expand(self.shape().with(axis, count)?)?;
        apply(Gather { name: NAME, axis }, &[self, &index])
    }

    /// Looks up rows of this table, `[count, width]`, by `ids`, `u32 [..]`, as PyTorch's `embedding`. The result is
    /// `[.., width]`.
    ///
    /// The gradient of a row is the sum of the gradients of its uses, in a fixed order.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let table = Tensor::from_slice(&[0.0, 0.1, 1.0, 1.1], [2, 2], &Device::cpu())?;
    /// let ids = Tensor::from_ids(&[1, 0, 1], [1, 3], &Device::cpu())?;
    /// assert_eq!(table.embedding(&ids)?.to_vec()?, [1.0, 1.1, 0.0, 0.1, 1.0, 1.1]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A table that is not of rank 2, ids of rank 6, or as [`Tensor::gather`].
    #[track_caller]
    pub fn embedding(&self, ids: &Tensor) -> Result<Tensor> {
        const NAME: &str = "embedding";
        ids.expect(DType::U32, NAME)?;
        let &[_, width] = &self.shape()[..] else {
            return Err(Error::shape(NAME, format!("wants a table [count, width], got {}", self.shape())));
        };
        if ids.rank() == MAX_RANK {
            return Err(Error::shape(
                NAME,
                format!("ids of shape {} have no room for another axis", ids.shape()),
            ));
        }
        let index = ids.reshape([ids.numel(), 1])?.expand([ids.numel(), width])?;
        apply(Gather { name: NAME, axis: 0 }, &[self, &index])?.reshape([&ids.shape()[..], &[width]].concat())
    }
}
