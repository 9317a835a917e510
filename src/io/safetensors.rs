//! The safetensors format (<https://huggingface.co/docs/safetensors>): the length of the header in 8 bytes, a JSON
//! header with each tensor's type, shape and offsets, then the elements; all little-endian.

use super::file::AtomicFile;
use crate::device::Device;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{DType, Error, Result};
use ::safetensors::tensor::{self as format, Dtype};
use half::f16;
use std::collections::{BTreeMap, BTreeSet, HashSet};
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

/// Reads the tensors of a safetensors file to `device`, and its metadata. A path that ends in `.index.json` is the index
/// of a model in several files, as Hugging Face stores large ones: all are read into memory, their tensors come in the order
/// of the files' names, and of metadata with one name in several files the last counts.
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
    let path = path.as_ref();
    Archive::open(path)?.into_tensors(device, &path.to_string_lossy())
}

/// As [`load`], from the bytes of a file in memory.
///
/// # Errors
/// As [`load`].
pub fn parse(bytes: Vec<u8>, device: &Device) -> Result<(Vec<(String, Tensor)>, Metadata)> {
    let place = "bytes in memory";
    Archive::parse(bytes).map_err(|message| Error::file(place, message))?.into_tensors(device, place)
}

/// The file of each tensor, by an index.
fn weight_map(index: &[u8]) -> Result<BTreeMap<String, String>, serde_json::Error> {
    let mut index: serde_json::Value = serde_json::from_slice(index)?;
    let map = index.get_mut("weight_map").map(serde_json::Value::take).unwrap_or_default();
    serde_json::from_value(map)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| Error::file(path, format!("can't be read: {error}")))
}

/// A file that has been read and checked.
#[derive(Default)]
pub(crate) struct Archive {
    /// Its bytes; several files if a model is stored in parts.
    files: Vec<Vec<u8>>,
    pub(crate) entries: Vec<Entry>,
    /// The names of tensors that no tensor here can hold, and why. A model may do without them.
    pub(crate) unreadable: Vec<(String, String)>,
    pub(crate) metadata: Metadata,
}

/// A tensor of a file.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    /// The type in the file, which file, and the byte range in it.
    stored: Dtype,
    file: usize,
    place: Range<usize>,
}

impl Archive {
    pub(crate) fn open(path: &Path) -> Result<Archive> {
        let bytes = read(path)?;
        if path.to_string_lossy().ends_with(".index.json") {
            return Archive::of_parts(path, &bytes);
        }
        Archive::parse(bytes).map_err(|message| Error::file(path, message))
    }

    /// Reads the files that an index names, `model.safetensors.index.json` by Hugging Face's convention: an object with
    /// `weight_map`, from the name of each tensor to that of a file beside the index.
    fn of_parts(path: &Path, index: &[u8]) -> Result<Archive> {
        let wrong = |message: String| Error::file(path, message);
        let files = weight_map(index).map_err(|error| wrong(format!("is not an index: {error}")))?;
        let names: BTreeSet<&String> = files.values().collect();
        let mut whole = Archive::default();
        for name in names {
            // An index must not lead out of its directory.
            if Path::new(name).file_name().is_none_or(|own| own != name.as_str()) {
                return Err(wrong(format!("names the file {name}, which is not a file beside it")));
            }
            let part = Archive::open_part(&path.with_file_name(name), whole.files.len())?;
            let kept = |entry: &Entry| files.get(&entry.name) == Some(name);
            whole.entries.extend(part.entries.into_iter().filter(kept));
            let kept = |(tensor, _): &(String, String)| files.get(tensor) == Some(name);
            whole.unreadable.extend(part.unreadable.into_iter().filter(kept));
            whole.files.extend(part.files);
            whole.metadata.extend(part.metadata);
        }
        let names = whole.entries.iter().map(|entry| &entry.name);
        let found: BTreeSet<&String> = names.chain(whole.unreadable.iter().map(|(name, _)| name)).collect();
        match files.iter().find(|(name, _)| !found.contains(name)) {
            Some((name, file)) => Err(wrong(format!("says that {name} is in {file}, but it is not"))),
            None => Ok(whole),
        }
    }

    /// A file that is number `at` of several.
    fn open_part(path: &Path, at: usize) -> Result<Archive> {
        let mut part = Archive::parse(read(path)?).map_err(|message| Error::file(path, message))?;
        part.entries.iter_mut().for_each(|entry| entry.file = at);
        Ok(part)
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
                    let why = format!("of type {other}; only F32, F16, BF16, U32 and I64 are read");
                    return Err((name, why));
                }
            };
            let shape = match Shape::new(&info.shape) {
                Ok(shape) => shape,
                Err(error) => return Err((name, format!("of a shape that is not read: {error}"))),
            };
            let place = start + info.data_offsets.0..start + info.data_offsets.1;
            Ok(Entry { name, dtype, shape, stored: info.dtype, file: 0, place })
        };
        // An empty tensor has the same start as the next one.
        let mut infos: Vec<_> = header.tensors().into_iter().collect();
        infos.sort_by(|(a, x), (b, y)| (x.data_offsets, a).cmp(&(y.data_offsets, b)));
        let (mut entries, mut unreadable) = (Vec::new(), Vec::new());
        for info in infos {
            match entry(info) {
                Ok(entry) => entries.push(entry),
                Err(why) => unreadable.push(why),
            }
        }
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Archive { files: vec![bytes], entries, unreadable, metadata })
    }

    /// All tensors of a file that errors name as `place`.
    fn into_tensors(self, device: &Device, place: &str) -> Result<(Vec<(String, Tensor)>, Metadata)> {
        if let Some((name, why)) = self.unreadable.first() {
            return Err(Error::file(place, format!("has the tensor {name} {why}")));
        }
        let tensors = self.entries.iter().map(|entry| Ok((entry.name.clone(), self.tensor(entry, device)?)));
        Ok((tensors.collect::<Result<_>>()?, self.metadata))
    }

    /// Creates the tensor of an entry on `device`.
    pub(crate) fn tensor(&self, entry: &Entry, device: &Device) -> Result<Tensor> {
        let bytes = &self.files[entry.file][entry.place.clone()];
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
