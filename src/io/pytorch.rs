//! Checkpoints of PyTorch (`.pt`, `.pth`, `.bin`): what `torch.save` writes since PyTorch 1.6.
//!
//! A file is a zip archive (<https://github.com/pytorch/pytorch/blob/main/torch/serialization.py>). `NAME/data.pkl` is a
//! pickle of the saved object, in which a tensor has its type, shape, strides, offset and the key of its storage;
//! `NAME/data/KEY` has the bytes of a storage. Tensors may share a storage.

use super::archive::Archive;
use super::pickle::{MOST, Pickle, Strided, Value};
use super::zip;
use ::safetensors::tensor::Dtype;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// A number at the beginning of files of PyTorch before 1.6.
const OLD: &[u8] = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/// The most bytes of names and metadata for one byte of a pickle. A list of small integers, two bytes each, needs 50 or so.
const NAMES: usize = 128;
/// The most bytes of tensors for one byte of the file. Half precision needs 2; models that share tensors, and expanded
/// tensors, more.
const TENSORS: usize = 16;

fn is_old(bytes: &[u8]) -> bool {
    // Behind the protocol's version and an opcode with a length, or two.
    bytes.starts_with(b"\x80") && bytes[..bytes.len().min(32)].windows(OLD.len()).any(|part| part == OLD)
}

/// Whether bytes are a file of `torch.save`, by how they begin.
pub(super) fn is_file(bytes: &[u8]) -> bool {
    bytes.starts_with(zip::MAGIC) || is_old(bytes)
}

/// # Errors
/// The file is malformed, or has anything but what [`io::load`](super::load()) says.
pub(super) fn parse(bytes: Vec<u8>) -> Result<Archive, String> {
    if is_old(&bytes) {
        let advice = "load it with a newer PyTorch, and save it again with torch.save";
        return Err(format!("is in the format of PyTorch before 1.6, which is not read: {advice}"));
    }
    let mut archive = Archive::default();
    read(&bytes, &mut archive)?;
    let numel = archive.entries.iter().map(|entry| entry.layout.shape.numel());
    let tensors = numel.fold(0usize, |sum, numel| sum.saturating_add(numel.saturating_mul(4)));
    if tensors > bytes.len().saturating_mul(TENSORS) {
        let advice = "save expanded tensors after .contiguous()";
        return Err(format!("has {tensors} bytes of tensors, over {TENSORS} times its own size: {advice}"));
    }
    archive.files.push(bytes);
    Ok(archive)
}

/// Adds the tensors and the metadata of a file.
fn read(bytes: &[u8], archive: &mut Archive) -> Result<(), String> {
    let files = zip::files(bytes)?;
    let folder = files.keys().filter_map(|name| name.strip_suffix("data.pkl")).min();
    let folder = folder.ok_or("is a zip archive without data.pkl, so it is not a file of torch.save")?;
    let inside = files.iter().filter_map(|(name, place)| Some((name.strip_prefix(folder)?, place.clone())));
    let files: HashMap<&str, Range<usize>> = inside.collect();
    if files.get("byteorder").is_some_and(|order| &bytes[order.clone()] != b"little") {
        return Err("is from a big-endian machine, and only little-endian files are read".to_string());
    }
    let data = &bytes[files["data.pkl"].clone()];
    let unread = |message| format!("can't be read as a file of torch.save: {message}");
    let (pickle, root) = Pickle::run(data).map_err(unread)?;
    let mut open = match root {
        Value::List(_) | Value::Dict(_) => vec![(None, root)],
        Value::Tensor(_) => vec![(Some("tensor".to_string()), root)],
        _ => return Err(unread("it is a single value, and no tensor".to_string())),
    };
    // What a list or dict contains is named anew wherever that is, so a small pickle may have very many names.
    let mut left = NAMES * data.len().min(MOST);
    let mut spend = |bytes: usize| {
        left = left.checked_sub(bytes).ok_or_else(|| {
            unread("its lists and dicts contain each other so often that it has too many values".to_string())
        })?;
        Ok::<(), String>(())
    };
    while let Some((name, value)) = open.pop() {
        let below = open.len();
        let mut push = |key: String, value| {
            let name = name.as_ref().map_or_else(|| key.clone(), |name| format!("{name}.{key}"));
            spend(name.len() + 64)?;
            open.push((Some(name), value));
            Ok::<(), String>(())
        };
        match value {
            Value::List(list) => {
                let mut values = pickle.lists[list].iter().enumerate();
                values.try_for_each(|(at, &value)| push(at.to_string(), value))?;
            }
            Value::Dict(dict) => pickle.dicts[dict].iter().try_for_each(|&(key, value)| {
                let wrong =
                    || unread("it has a dict with a key that is neither text nor a number".to_string());
                push(text(key).ok_or_else(wrong)?, value)
            })?,
            Value::Tensor(tensor) => {
                let (name, tensor) = (name.unwrap_or_default(), &pickle.tensors[tensor]);
                let storage = format!("data/{}", tensor.storage.key);
                let place =
                    files.get(&*storage).and_then(|storage| place(tensor, storage)).ok_or_else(|| {
                        format!(
                            "is malformed: the tensor {name} is not in {storage}, or that has another size"
                        )
                    })?;
                archive.push(name, tensor.dtype, &tensor.dims, Some(&tensor.strides), place);
            }
            Value::None => {}
            _ => {
                let name = name.unwrap_or_default();
                let text = text(value)
                    .ok_or_else(|| unread(format!("{name} is a type or a storage, which is not read")))?;
                spend(text.len())?;
                archive.metadata.insert(name, text);
            }
        }
        open[below..].reverse();
    }
    let names = archive.entries.iter().map(|entry| &entry.name);
    let mut seen = HashSet::new();
    match names.chain(archive.unreadable.iter().map(|(name, _)| name)).find(|name| !seen.insert(*name)) {
        Some(name) => Err(unread(format!("two of its tensors are called {name}"))),
        None => Ok(()),
    }
}

/// A number or a string as text.
fn text(value: Value) -> Option<String> {
    match value {
        Value::Bool(value) => Some(value.to_string()),
        Value::Int(value) => Some(value.to_string()),
        Value::Float(value) => Some(format!("{value:?}")),
        Value::Text(value) => Some(value.to_string()),
        _ => None,
    }
}

/// The bytes from a tensor's first element to its last, if its storage is as large as it should be and has them.
fn place(tensor: &Strided, storage: &Range<usize>) -> Option<Range<usize>> {
    let size = |dtype: Dtype| dtype.bitsize() / 8;
    let whole = tensor.storage.numel.checked_mul(tensor.storage.dtype.map_or(1, size))?;
    if whole != storage.len() {
        return None;
    }
    if tensor.dims.contains(&0) {
        return Some(storage.start..storage.start);
    }
    let mut axes = tensor.dims.iter().zip(&tensor.strides);
    let first = tensor.offset;
    let last =
        axes.try_fold(first, |last, (dim, stride)| last.checked_add((dim - 1).checked_mul(*stride)?))?;
    let (start, end) =
        (first.checked_mul(size(tensor.dtype))?, last.checked_add(1)?.checked_mul(size(tensor.dtype))?);
    (end <= whole).then(|| storage.start + start..storage.start + end)
}
