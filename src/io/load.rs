//! Reading a file of tensors, whatever its format.

use super::archive::{Archive, Entry, Metadata};
use super::{pytorch, safetensors};
use crate::device::Device;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Reads the tensors of a file to `device`, and its metadata. The file is a safetensors file, or one that PyTorch's
/// `torch.save` wrote (`.pt`, `.pth`, `.bin`); its content decides, not its name. A path that ends in `.index.json` is the
/// index of a model in several files, as Hugging Face stores large ones: all are read into memory, their tensors come in the
/// order of the files' names, and of metadata with one name in several files the last counts.
///
/// Tensors of a safetensors file are in the order of their offsets. Of tensors with the same start, empty ones come first,
/// sorted by name.
///
/// A file of `torch.save` may hold tensors, numbers, strings and `None` in lists, tuples and dicts, as
/// `torch.save(model.state_dict(), path)` writes them. Keys and positions are joined by dots: in
/// `{"model": model.state_dict(), "epoch": 3}`, a tensor is called `model.fc.weight`, and the metadata has `epoch`. A tensor
/// that was saved alone is called `tensor`. Tensors come in the order of the file, each with elements of its own, even if
/// PyTorch's share their memory. Metadata are numbers and strings as text, with `true` and `false`; `None` is left out.
/// Anything else is an error, such as a whole model, since reading it would mean running code.
///
/// Safe for untrusted files: nothing in a file is run, memory is bounded by a multiple of the file's size, and all is checked
/// before the first tensor is created.
///
/// ```
/// # use gristmill::{Device, io};
/// // torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, "checkpoint.pt")
/// let (tensors, metadata) = io::load("tests/golden/pytorch/checkpoint.pt", &Device::cpu())?;
/// assert_eq!((&*tensors[0].0, tensors[0].1.shape()[..].to_vec()), ("model.0.weight", vec![2, 1, 3, 3]));
/// assert_eq!((&*metadata["epoch"], &*metadata["optimizer.param_groups.0.lr"]), ("3", "0.01"));
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// The file can't be read, is truncated or malformed; a tensor has a rank over 6 or a type other than `F32`, `F16`,
/// `BF16` (all read as f32), `U32`, `I32` and `I64` (ids, which must fit u32); or the device is out of memory. Of a file of
/// `torch.save` also: it was written by a PyTorch before 1.6, has objects of other kinds, more than about a million of them,
/// or expanded tensors that together are over 16 times the size of the file.
pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<(Vec<(String, Tensor)>, Metadata)> {
    let path = path.as_ref();
    Archive::open(path)?.into_tensors(device, &path.to_string_lossy())
}

/// As [`load`], from the bytes of a file in memory.
///
/// ```
/// # use gristmill::{Device, io};
/// let bytes = std::fs::read("tests/golden/pytorch/tensor.pt").unwrap();
/// let (tensors, _) = io::parse(bytes, &Device::cpu())?;
/// assert_eq!((&*tensors[0].0, tensors[0].1.to_vec()?), ("tensor", vec![1.0, 2.5, -3.0]));
/// # Ok::<(), gristmill::Error>(())
/// ```
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

    fn parse(bytes: Vec<u8>) -> Result<Archive, String> {
        if pytorch::is_file(&bytes) { pytorch::parse(bytes) } else { safetensors::parse(bytes) }
    }
}
