//! The safetensors format (<https://huggingface.co/docs/safetensors>): the length of the header in 8 bytes, a JSON
//! header with each tensor's type, shape and offsets, then the elements; all little-endian.

use super::file::AtomicFile;
use crate::device::Device;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{DType, Error, Result};
use ::safetensors::tensor::{self as format, Dtype};
use half::f16;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::ops::Range;
use std::path::Path;

/// The metadata of a file, such as a seed and an epoch.
pub type Metadata = BTreeMap<String, String>;

/// Writes tensors and metadata to a safetensors file: `f32` as `F32`, ids as `U32`.
///
/// Deterministic: the same contents give the same bytes.
///
/// The file is replaced atomically, as by [`write_atomic`](super::write_atomic).
///
/// # Errors
/// A duplicate name, the name `__metadata__`, a device that fails, or a file that can't be written.
pub fn save(path: impl AsRef<Path>, tensors: &[(String, Tensor)], metadata: &Metadata) -> Result<()> {
    let path = path.as_ref();
    let header = header(tensors, metadata).map_err(|message| Error::file(path, message))?;
    let mut file = AtomicFile::create(path)?;
    file.write(&(header.len() as u64).to_le_bytes())?;
    file.write(header.as_bytes())?;
    for (_, tensor) in tensors {
        let words = match tensor.dtype() {
            DType::U32 => tensor.to_ids()?,
            DType::F32 => bytemuck::allocation::cast_vec(tensor.to_vec()?),
        };
        words.iter().try_for_each(|word| file.write(&word.to_le_bytes()))?;
    }
    file.commit()
}

/// The header, padded with spaces so that the elements start at a multiple of 8.
fn header(tensors: &[(String, Tensor)], metadata: &Metadata) -> Result<String, String> {
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let mut names = HashSet::from(["__metadata__"]);
    let mut entries = Vec::new();
    if !metadata.is_empty() {
        let pairs: Vec<_> = metadata.iter().map(|(k, v)| format!("{}:{}", quote(k), quote(v))).collect();
        entries.push(format!("\"__metadata__\":{{{}}}", pairs.join(",")));
    }
    let mut end = 0;
    for (name, tensor) in tensors {
        if !names.insert(name) {
            return Err(format!("two tensors can't both be named {name}"));
        }
        let start = end;
        end += tensor.numel() * 4;
        let (dtype, shape) = (tensor.dtype(), tensor.shape());
        entries.push(format!(
            "{}:{{\"dtype\":\"{dtype:?}\",\"shape\":{shape},\"data_offsets\":[{start},{end}]}}",
            quote(name)
        ));
    }
    let header = format!("{{{}}}", entries.join(","));
    let padded = header.len().next_multiple_of(8);
    Ok(format!("{header:padded$}"))
}

/// Reads the tensors of a safetensors file to `device`, and its metadata.
///
/// Tensors are in the order of their offsets. Of tensors with the same start, empty ones come first, sorted by name.
///
/// Safe for untrusted files: memory is bounded by a small multiple of the file's size, and the whole header is checked
/// before the first tensor is created.
///
/// # Errors
/// The file can't be read, is truncated or malformed; a tensor has a rank over 6 or a type other than `F32`, `F16`,
/// `BF16` (all read as f32), `U32` and `I64` (ids, which must fit u32); or the device is out of memory.
pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<(Vec<(String, Tensor)>, Metadata)> {
    Archive::open(path.as_ref())?.into_tensors(device)
}

/// As [`load`], from the bytes of a file in memory.
///
/// # Errors
/// As [`load`].
pub fn parse(bytes: Vec<u8>, device: &Device) -> Result<(Vec<(String, Tensor)>, Metadata)> {
    Archive::parse(bytes).map_err(|message| Error::file("bytes in memory", message))?.into_tensors(device)
}

/// A file that has been read and checked.
pub(crate) struct Archive {
    bytes: Vec<u8>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) metadata: Metadata,
}

/// A tensor of a file.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    /// The type in the file, and the byte range.
    stored: Dtype,
    place: Range<usize>,
}

impl Archive {
    pub(crate) fn open(path: &Path) -> Result<Archive> {
        let bytes = fs::read(path).map_err(|error| Error::file(path, format!("can't be read: {error}")))?;
        Archive::parse(bytes).map_err(|message| Error::file(path, message))
    }

    /// `SafeTensors::deserialize` of the safetensors crate adds lengths from the header unchecked, so only the crate's
    /// header type is used. Its validation ensures that tensors are adjacent and have the size of their shape.
    fn parse(bytes: Vec<u8>) -> Result<Archive, String> {
        let truncated = || format!("is truncated: it ends after {} bytes, within its header", bytes.len());
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(truncated)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (header, data) = rest.split_at_checked(length).ok_or_else(truncated)?;
        let header: format::Metadata = serde_json::from_slice(header)
            .map_err(|error| format!("is not a safetensors file: its header is malformed: {error}"))?;
        let wanted = header.data_len();
        if wanted > data.len() {
            return Err(format!("is truncated: it has {} of {wanted} bytes of tensors", data.len()));
        }
        if wanted < data.len() {
            return Err(format!("has {} bytes after its tensors", data.len() - wanted));
        }
        let start = bytes.len() - wanted;
        let entry = |(name, info): (String, &format::TensorInfo)| {
            let dtype = match info.dtype {
                Dtype::F32 | Dtype::F16 | Dtype::BF16 => DType::F32,
                Dtype::U32 | Dtype::I64 => DType::U32,
                other => {
                    let read = "only F32, F16, BF16, U32 and I64 are read";
                    return Err(format!("has the tensor {name} of type {other}; {read}"));
                }
            };
            let shape = Shape::new(&info.shape).map_err(|error| format!("has the tensor {name}: {error}"))?;
            let place = start + info.data_offsets.0..start + info.data_offsets.1;
            Ok(Entry { name, dtype, shape, stored: info.dtype, place })
        };
        // An empty tensor has the same start as the next one.
        let mut infos: Vec<_> = header.tensors().into_iter().collect();
        infos.sort_by(|(a, x), (b, y)| (x.data_offsets, a).cmp(&(y.data_offsets, b)));
        let entries = infos.into_iter().map(entry).collect::<Result<_, String>>()?;
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Archive { bytes, entries, metadata })
    }

    fn into_tensors(self, device: &Device) -> Result<(Vec<(String, Tensor)>, Metadata)> {
        let tensors = self.entries.iter().map(|entry| Ok((entry.name.clone(), self.tensor(entry, device)?)));
        Ok((tensors.collect::<Result<_>>()?, self.metadata))
    }

    /// Creates the tensor of an entry on `device`.
    pub(crate) fn tensor(&self, entry: &Entry, device: &Device) -> Result<Tensor> {
        let bytes = &self.bytes[entry.place.clone()];
        let halves = || bytes.as_chunks::<2>().0.iter().map(|&half| u16::from_le_bytes(half));
        let words = || bytes.as_chunks::<4>().0.iter().map(|&word| u32::from_le_bytes(word));
        let floats = |values: Vec<f32>| Tensor::from_slice(&values, entry.shape, device);
        match entry.stored {
            Dtype::F16 => floats(halves().map(|half| f16::from_bits(half).to_f32()).collect()),
            Dtype::BF16 => floats(halves().map(|half| f32::from_bits(u32::from(half) << 16)).collect()),
            Dtype::I64 => {
                let ids = bytes.as_chunks::<8>().0.iter().map(|&id| u32::try_from(i64::from_le_bytes(id)));
                let ids = ids.collect::<Result<Vec<u32>, _>>().map_err(|_| {
                    let message = format!("{} has numbers that are not from 0 to {}", entry.name, u32::MAX);
                    Error::argument("safetensors", message)
                })?;
                Tensor::from_ids(&ids, entry.shape, device)
            }
            Dtype::U32 => Tensor::from_ids(&words().collect::<Vec<_>>(), entry.shape, device),
            _ => floats(words().map(f32::from_bits).collect()),
        }
    }
}
