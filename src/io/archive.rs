//! What the readers of tensor files give: named tensors, whose elements are bytes of a file.

use crate::device::Device;
use crate::shape::{Layout, Shape};
use crate::tensor::Tensor;
use crate::{DType, Error, Result};
use ::safetensors::tensor::Dtype;
use half::f16;
use std::collections::BTreeMap;
use std::ops::Range;

/// The metadata of a file, such as a seed and an epoch.
pub type Metadata = BTreeMap<String, String>;

/// A file that has been read and checked.
#[derive(Default)]
pub(crate) struct Archive {
    /// Its bytes; several files if a model is stored in parts.
    pub(super) files: Vec<Vec<u8>>,
    pub(crate) entries: Vec<Entry>,
    /// The names of tensors that no tensor here can hold, and why. A model may do without them.
    pub(crate) unreadable: Vec<(String, String)>,
    pub(crate) metadata: Metadata,
}

/// A tensor of a file.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    /// How the elements lie in `place`.
    pub(crate) layout: Layout,
    /// The type in the file, which file, and the byte range in it.
    stored: Dtype,
    pub(super) file: usize,
    place: Range<usize>,
}

impl Archive {
    /// Adds a tensor of the first file. Its elements lie in `place`, and with `strides` (one for each axis) their last
    /// ends there; without, they fill it in row-major order.
    pub(super) fn push(
        &mut self,
        name: String,
        stored: Dtype,
        dims: &[usize],
        strides: Option<&[usize]>,
        place: Range<usize>,
    ) {
        let dtype = match stored {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => DType::F32,
            Dtype::U32 | Dtype::I32 | Dtype::I64 => DType::U32,
            other => {
                let why = format!("of type {other}; only F32, F16, BF16, U32, I32 and I64 are read");
                return self.unreadable.push((name, why));
            }
        };
        let mut layout = match Shape::new(dims) {
            Ok(shape) => Layout::contiguous(shape),
            Err(error) => {
                return self.unreadable.push((name, format!("of a shape that is not read: {error}")));
            }
        };
        for (own, &stride) in layout.strides.iter_mut().zip(strides.into_iter().flatten()) {
            *own = stride;
        }
        self.entries.push(Entry { name, dtype, layout, stored, file: 0, place });
    }

    /// All tensors of a file that errors name as `place`.
    pub(super) fn into_tensors(
        self,
        device: &Device,
        place: &str,
    ) -> Result<(Vec<(String, Tensor)>, Metadata)> {
        if let Some((name, why)) = self.unreadable.first() {
            return Err(Error::file(place, format!("has the tensor {name} {why}")));
        }
        let tensors = self.entries.iter().map(|entry| Ok((entry.name.clone(), self.tensor(entry, device)?)));
        Ok((tensors.collect::<Result<_>>()?, self.metadata))
    }

    /// Creates the tensor of an entry on `device`.
    pub(crate) fn tensor(&self, entry: &Entry, device: &Device) -> Result<Tensor> {
        let bytes = &self.files[entry.file][entry.place.clone()];
        let layout = &entry.layout;
        let floats = |values: Vec<f32>| Tensor::from_slice(&values, layout.shape, device);
        let ids = |ids: Option<Vec<u32>>| {
            let ids = ids.ok_or_else(|| {
                let message = format!("{} has numbers that are not from 0 to {}", entry.name, u32::MAX);
                Error::argument("load", message)
            })?;
            Tensor::from_ids(&ids, layout.shape, device)
        };
        match entry.stored {
            Dtype::F16 => floats(elements(bytes, layout, |half| f16::from_le_bytes(half).to_f32())),
            Dtype::BF16 => floats(elements(bytes, layout, |half| {
                f32::from_bits(u32::from(u16::from_le_bytes(half)) << 16)
            })),
            Dtype::I64 => ids(elements(bytes, layout, |id| u32::try_from(i64::from_le_bytes(id)).ok())),
            Dtype::I32 => ids(elements(bytes, layout, |id| u32::try_from(i32::from_le_bytes(id)).ok())),
            Dtype::U32 => ids(elements(bytes, layout, |id| Some(u32::from_le_bytes(id)))),
            _ => floats(elements(bytes, layout, f32::from_le_bytes)),
        }
    }
}

/// The elements of `SIZE` bytes that lie as `layout` says, in row-major order.
fn elements<const SIZE: usize, T, C: FromIterator<T>>(
    bytes: &[u8],
    layout: &Layout,
    value: impl Fn([u8; SIZE]) -> T,
) -> C {
    let all = bytes.as_chunks::<SIZE>().0;
    if layout.is_contiguous() {
        return all.iter().map(|&bytes| value(bytes)).collect();
    }
    (0..layout.shape.numel()).map(|at| value(all[layout.position(at)])).collect()
}
