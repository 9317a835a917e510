//! Sums of terms along an axis by destination id: scatter_add, and the gradients of gather.

use super::copy::{copy_to, copy_to_on_cpu};
use super::sort_rows::Sort;
use super::{StridedIndexer, WG, arity, floats, to_u32};
use crate::cpu::CpuDevice;
use crate::gpu::{Kernel, Recorder, kernel};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves, apply};
use crate::shape::{Layout, Shape};
use crate::tensor::Tensor;
use crate::{DType, Error, Result, params};
use rayon::prelude::*;
use std::sync::Arc;

pub(crate) const KERNELS: &[&Kernel] = &[&SCATTER_ADD];

const NAME: &str = "scatter_add";

/// Terms per invocation.
const CHUNK: u32 = 64;

static SCATTER_ADD: Kernel = kernel!("scatter_add.wgsl", "scatter_add", reads: 3, writes: 4, params: Params,
    "FIRST": &[0, 1], "CHUNK": &[CHUNK], "WG": &[WG]);

params! {
    struct Params {
        indexer: StridedIndexer, lanes: u32, shared_by: u32, count: u32, chunks: u32,
        src_stride: u32, y_stride: u32, length: u32, check: u32,
    }
}

/// The layout of `x` in the shape of an index, with stride 0 along the axis: where each gathered element is, before its
/// id is added.
pub(super) fn lanes(x: &Layout, axis: usize, index: Shape) -> Layout {
    let mut strides = x.strides;
    strides[axis] = 0;
    Layout { shape: index, strides, offset: x.offset }
}

/// Checks that an index holds ids and fits `x` along all axes but `axis`, and that its ids are in range if that is
/// known.
#[track_caller]
pub(super) fn fits(op: &'static str, axis: usize, x: Shape, index: Meta) -> Result<()> {
    let ids = index.shape;
    let inside = ids.rank() == x.rank() && (0..x.rank()).all(|k| k == axis || ids[k] <= x[k]);
    if !inside || index.dtype != DType::U32 {
        let message = format!("an index of {:?} {ids} along axis {axis} of shape {x}", index.dtype);
        return Err(Error::shape(op, message));
    }
    match index.max_id.known() {
        Some(id) if ids.numel() > 0 && id as usize >= x[axis] => Err(out_of_range(op, id, axis, x)),
        _ => Ok(()),
    }
}

#[track_caller]
fn out_of_range(op: &'static str, id: u32, axis: usize, x: Shape) -> Error {
    Error::argument(op, format!("index {id} is past the end of axis {axis} of shape {x}"))
}

/// Checks the ids on the CPU, once along expanded axes.
pub(super) fn check(op: &'static str, axis: usize, x: Shape, index: &CpuView) -> Result<()> {
    let mut apart = index.layout;
    for k in (0..apart.shape.rank()).filter(|&k| index.layout.strides[k] == 0) {
        apart.shape = apart.shape.with(k, apart.shape[k].min(1))?;
    }
    let ids: &[u32] = bytemuck::cast_slice(index.data);
    let is_outside = |id: &u32| *id as usize >= x[axis];
    let count = apart.shape.numel();
    let outside = match apart.is_contiguous() {
        true => ids[apart.offset..][..count].iter().copied().find(is_outside),
        false => (0..count).map(|at| ids[apart.position(at)]).find(is_outside),
    };
    outside.map_or(Ok(()), |id| Err(out_of_range(op, id, axis, x)))
}

/// `y[.., index[.., i, ..], ..] += src[.., i, ..]` along an axis; index and src have the same shape. An expanded index
/// is sorted once for all lanes that share it.
pub(super) fn add(
    rec: &mut Recorder,
    name: &'static str,
    axis: usize,
    index: GpuView,
    src: GpuView,
    y: GpuOut,
) -> Result<()> {
    let shape = index.layout.shape;
    let is_shared = |k: &usize| index.layout.strides[*k] == 0 && shape[*k] > 1;
    let (shared, apart): (Vec<usize>, Vec<usize>) =
        (0..shape.rank()).filter(|&k| k != axis).partition(is_shared);
    let sorted = index.layout.permute(&[&apart[..], &[axis]].concat())?;
    let order = [apart, shared].concat();
    let to = Layout::contiguous(y.shape);
    let strided = [lanes(&to, axis, shape).permute(&order)?, src.layout.permute(&order)?];
    let mut count = shape[axis];
    let (all, rows) = (strided[0].shape.numel(), sorted.shape.numel() / count.max(1));
    if all == 0 || count == 0 {
        return Ok(());
    }

    let mut keys = rec.scratch(rows * count)?;
    let places = rec.scratch(rows * count)?;
    let sort = Sort { name, keep: count, descending: false, dtype: DType::U32 };
    sort.dispatch(rec, GpuView { layout: sorted, ..index }, &keys, &places)?;

    let (status, check) = rec.id_check(name, &index, y.shape[axis])?;
    let mut terms = None;
    loop {
        let chunks = count.div_ceil(CHUNK as usize);
        let params = Params {
            indexer: StridedIndexer::new(name, strided)?,
            lanes: to_u32(name, all)?,
            shared_by: to_u32(name, all / rows)?,
            count: to_u32(name, count)?,
            chunks: to_u32(name, chunks)?,
            src_stride: to_u32(name, src.layout.strides[axis])?,
            y_stride: to_u32(name, to.strides[axis])?,
            length: to_u32(name, y.shape[axis])?,
            check,
        };
        // The largest indices in the kernel.
        to_u32(name, all * count.max(2 * chunks) + WG as usize)?;
        let (keys_out, sums_out) = (rec.scratch(rows * 2 * chunks)?, rec.scratch(all * 2 * chunks)?);
        let from = terms.as_ref().unwrap_or(src.buffer);
        let buffers = [&keys, &places, from, y.buffer, &keys_out, &sums_out, &*status];
        let groups = (all * chunks).div_ceil(WG as usize);
        rec.dispatch(&SCATTER_ADD, &[u32::from(terms.is_none()), CHUNK, WG], &buffers, &params, groups)?;
        if chunks == 1 {
            return Ok(());
        }
        (keys, terms, count) = (keys_out, Some(sums_out), 2 * chunks);
    }
}

/// The CPU twin of [`add`]. The caller has checked the ids.
pub(super) fn add_on_cpu(
    cpu: &Arc<CpuDevice>,
    axis: usize,
    index: CpuView,
    src: CpuView,
    y: &mut CpuOut,
) -> Result<()> {
    let (shape, whole) = (index.shape(), y.shape);
    if shape.numel() == 0 {
        return Ok(());
    }
    let ids: &[u32] = bytemuck::cast_slice(index.data);
    let (lead, tail): (Vec<usize>, Vec<usize>) = ((0..axis).collect(), (axis + 1..shape.rank()).collect());
    let (count, length) = (shape[axis], whole[axis]);
    // Positions in a line of y, of the index and of src.
    let to = Layout { shape, ..Layout::contiguous(whole) };
    let line = [to.permute(&tail)?, index.layout.permute(&tail)?, src.layout.permute(&tail)?];
    let line = line.map(|layout| Layout { offset: 0, ..layout });
    let inner = whole[axis + 1..].iter().product::<usize>();
    let line_length = line[0].shape.numel();
    let places = cpu.list(line_length, (0..line_length).map(|at| line.map(|layout| layout.position(at))))?;
    let is_shared = tail.iter().all(|&k| index.layout.strides[k] == 0 || shape[k] <= 1);

    // A slab is the part of y at one position of the leading axes. The index may be shorter than y along these.
    let lead = Layout::contiguous(whole).permute(&lead)?.shape;
    let slab_starts = |slab: usize| -> Option<[usize; 2]> {
        let mut rest = slab;
        let mut starts = [index.layout.offset, src.layout.offset];
        for k in (0..axis).rev() {
            let at = rest % lead[k];
            rest /= lead[k];
            if at >= shape[k] {
                return None;
            }
            starts[0] += at * index.layout.strides[k];
            starts[1] += at * src.layout.strides[k];
        }
        Some(starts)
    };
    // Each task owns a range of adjacent destinations, so tasks do not race, and reads all ids of its slab. If the
    // lines share their ids, that is cheap compared with the additions.
    let tasks = if is_shared { (4 * rayon::current_num_threads()).div_ceil(lead.numel().max(1)) } else { 1 };
    let lines = length.div_ceil(tasks.min(length));
    let strides = [index.layout.strides[axis], src.layout.strides[axis]];
    y.data.par_chunks_mut(length * inner).enumerate().for_each(|(slab, y)| {
        let Some(starts) = slab_starts(slab) else { return };
        y.par_chunks_mut(lines * inner).enumerate().for_each(|(task, y)| {
            let here = (task * lines) as u32..((task + 1) * lines) as u32;
            for i in 0..count {
                let [at, from] = [0, 1].map(|k| starts[k] + i * strides[k]);
                if is_shared && !here.contains(&ids[at]) {
                    continue;
                }
                for &[to, dj, ds] in &*places {
                    let id = ids[at + dj];
                    if here.contains(&id) {
                        y[(id - here.start) as usize * inner + to] += src.data[from + ds];
                    }
                }
            }
        });
    });
    Ok(())
}

/// Adds terms at the positions in an index. Inputs: the tensor, the index, the terms.
struct ScatterAdd {
    axis: usize,
}

impl Op for ScatterAdd {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x, index, src] = arity(NAME, inputs)?;
        floats(NAME, &[x, src])?;
        fits(NAME, self.axis, x.shape, index)?;
        Ok(vec![Meta::f32(x.shape)])
    }

    fn flops(&self, inputs: &[Meta], _: &[Meta]) -> u64 {
        inputs[2].numel()
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let y = &mut outputs[0];
        check(NAME, self.axis, y.shape, &inputs[1])?;
        copy_to_on_cpu(inputs[0], y.data, Layout::contiguous(y.shape));
        add_on_cpu(cpu, self.axis, inputs[1], inputs[2], y)
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        copy_to(rec, inputs[0], outputs[0], Layout::contiguous(outputs[0].shape))?;
        add(rec, NAME, self.axis, inputs[1], inputs[2], outputs[0])
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[1], outputs: &[] }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let src = if needs[2] { Some(grad.gather(self.axis as isize, saved.input(1)?)?) } else { None };
        Ok(vec![Some(grad.clone()), None, src])
    }
}

impl Tensor {
    /// Adds terms of `src` at the positions in `index`, as PyTorch's `scatter_add`.
    ///
    /// For axis 1 of three, `y[i, index[i, j, k], k] += src[i, j, k]` for every element of the index. The index is
    /// `u32` and has the rank of both tensors. It must not be longer than `src` along any axis, nor than this tensor
    /// along any axis but `axis`.
    ///
    /// Deterministic: the terms of one destination are summed in a fixed order, and the sum is added. For that the ids
    /// are sorted, so the cost does not depend on their values.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let cpu = Device::cpu();
    /// let index = Tensor::from_ids(&[2, 0, 2], [3], &cpu)?;
    /// let src = Tensor::from_slice(&[1.0, 2.0, 4.0], [3], &cpu)?;
    /// assert_eq!(Tensor::ones([3], &cpu)?.scatter_add(0, &index, &src)?.to_vec()?, [3.0, 1.0, 6.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, shapes or types that do not fit, or the device fails; ids out of range, reported as in
    /// [`Tensor::gather`].
    #[track_caller]
    pub fn scatter_add(&self, axis: isize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
        let at = self.shape().axis(NAME, axis)?;
        let (terms, ids) = (src.shape(), index.shape());
        if terms.rank() != ids.rank() || (0..ids.rank()).any(|k| ids[k] > terms[k]) {
            return Err(Error::shape(NAME, format!("an index of shape {ids} for terms of shape {terms}")));
        }
        let used = (0..ids.rank())
            .filter(|&k| ids[k] < terms[k])
            .try_fold(src.clone(), |src, k| src.slice(k as isize, 0..ids[k]))?;
        apply(ScatterAdd { axis: at }, &[self, index, &used])
    }
}
