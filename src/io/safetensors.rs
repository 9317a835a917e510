//! The safetensors format (<https://huggingface.co/docs/safetensors>): the length of the header in 8 bytes, a JSON
//! header with each tensor's type, shape and offsets, then the elements; all little-endian.

use super::archive::{Archive, Metadata};
use super::file::AtomicFile;
use crate::tensor::Tensor;
use crate::{DType, Error, Result};
use ::safetensors::tensor as format;
use std::collections::HashSet;
use std::path::Path;

/// Writes tensors and metadata to a safetensors file: `f32` as `F32`, ids as `U32`.
///
/// Deterministic: the same contents give the same bytes.
///
/// The file is replaced atomically, as by [`write_atomic`](super::write_atomic).
///
/// ```
/// # use gristmill::{Device, Tensor, io};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("x.safetensors");
/// let x = Tensor::from_slice(&[1.0, 2.5], [2], &Device::cpu())?;
/// io::save(&path, &[("x".to_string(), x)], &[("epoch".to_string(), "3".to_string())].into())?;
/// let (tensors, metadata) = io::load(&path, &Device::cpu())?;
/// assert_eq!((&*tensors[0].0, tensors[0].1.to_vec()?), ("x", vec![1.0, 2.5]));
/// assert_eq!(metadata["epoch"], "3");
/// # Ok::<(), gristmill::Error>(())
/// ```
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

/// `SafeTensors::deserialize` of the safetensors crate adds lengths from the header unchecked, so only the crate's
/// header type is used. Its validation ensures that tensors are adjacent and have the size of their shape.
pub(super) fn parse(bytes: Vec<u8>) -> Result<Archive, String> {
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
    // An empty tensor has the same start as the next one.
    let mut infos: Vec<_> = header.tensors().into_iter().collect();
    infos.sort_by(|(a, x), (b, y)| (x.data_offsets, a).cmp(&(y.data_offsets, b)));
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let mut archive = Archive { metadata, ..Archive::default() };
    for (name, info) in infos {
        let (from, to) = info.data_offsets;
        archive.push(name, info.dtype, &info.shape, None, start + from..start + to);
    }
    archive.files.push(bytes);
    Ok(archive)
}
