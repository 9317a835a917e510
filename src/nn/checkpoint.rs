//! Saving, loading and hashing of parameters.

use super::module::Module;
use super::parameter::Parameter;
use crate::io::{self, Archive, Metadata};
use crate::tensor::Tensor;
use crate::{DType, Error, Result};
use std::collections::HashMap;
use std::path::Path;

/// Writes a module's parameters and buffers to a safetensors file, under the names of PyTorch's `state_dict`.
///
/// The file is replaced atomically: see [`io::save`].
///
/// # Errors
/// As [`io::save`].
pub fn save_parameters(module: &dyn Module, path: impl AsRef<Path>) -> Result<()> {
    save_parameters_with(module, path, &Metadata::new())
}

/// As [`save_parameters`], with metadata, such as a seed and an epoch.
///
/// # Errors
/// As [`io::save`].
pub fn save_parameters_with(module: &dyn Module, path: impl AsRef<Path>, metadata: &Metadata) -> Result<()> {
    let tensors: Vec<(String, Tensor)> =
        module.named_state().into_iter().map(|(name, parameter)| (name, parameter.tensor())).collect();
    io::save(path, &tensors, metadata)
}

/// Reads a module's parameters and buffers from a safetensors file; returns its metadata.
///
/// The file must hold exactly these tensors, with their shapes. All are checked before the first parameter changes.
///
/// # Errors
/// As [`io::load`], or the file does not fit the module: the error lists missing and unknown tensors, and shapes and
/// types that differ. The module is unchanged then.
pub fn load_parameters(module: &dyn Module, path: impl AsRef<Path>) -> Result<Metadata> {
    let path = path.as_ref();
    let archive = Archive::open(path)?;
    set_all(&fitting(module, &archive, path, "")?)?;
    Ok(archive.metadata)
}

/// Pairs a module's parameters and buffers with the file's tensors whose names begin with `prefix`.
///
/// # Errors
/// They do not fit the module, or the device fails.
pub(crate) fn fitting(
    module: &dyn Module,
    archive: &Archive,
    path: &Path,
    prefix: &str,
) -> Result<Vec<(Parameter, Tensor)>> {
    let named = |name: &str| name.strip_prefix(prefix).map(str::to_string);
    let mut entries: HashMap<String, _> =
        archive.entries.iter().filter_map(|entry| Some((named(&entry.name)?, entry))).collect();
    let mut wrong = Vec::new();
    let mut pairs = Vec::new();
    for (name, parameter) in module.named_state() {
        let shape = parameter.shape();
        match entries.remove(&name) {
            None => wrong.push(format!("{name} is missing")),
            Some(entry) if entry.dtype != DType::F32 || entry.shape != shape => {
                wrong.push(format!("{name} is {:?} {}, should be F32 {shape}", entry.dtype, entry.shape));
            }
            Some(entry) => pairs.push((entry, parameter)),
        }
    }
    for name in archive.entries.iter().filter_map(|entry| named(&entry.name)) {
        if entries.contains_key(&name) {
            wrong.push(format!("{name} is not a parameter of the model"));
        }
    }
    if !wrong.is_empty() {
        return Err(Error::file(path, format!("does not fit the model: {}", wrong.join(", "))));
    }
    let made = pairs.into_iter().map(|(entry, parameter)| {
        let tensor = archive.tensor(entry, parameter.tensor().device())?;
        Ok((parameter, tensor))
    });
    made.collect()
}

/// Sets each parameter to its tensor.
///
/// # Errors
/// The device fails.
pub(crate) fn set_all(pairs: &[(Parameter, Tensor)]) -> Result<()> {
    pairs.iter().try_for_each(|(parameter, tensor)| parameter.set(tensor))
}

/// A 64-bit hash of the names, shapes and bits of a module's parameters and buffers.
///
/// For comparing runs; it is not cryptographic.
///
/// FNV-1a, 64 bits (Fowler, Noll & Vo, <http://www.isthe.com/chongo/tech/comp/fnv/>), in the order of
/// [`Module::named_state`], over the bytes of the name, 0xff, the rank and the axis lengths as 64-bit numbers, and the
/// bits of the elements; all little-endian.
///
/// # Errors
/// The device fails.
pub fn hash_parameters(module: &dyn Module) -> Result<u64> {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut eat = |bytes: &[u8]| {
        hash = bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    };
    for (name, parameter) in module.named_state() {
        let tensor = parameter.tensor();
        let shape = tensor.shape();
        eat(name.as_bytes());
        eat(&[0xff]);
        eat(&(shape.rank() as u64).to_le_bytes());
        shape.iter().for_each(|&length| eat(&(length as u64).to_le_bytes()));
        tensor.to_vec()?.iter().for_each(|x| eat(&x.to_bits().to_le_bytes()));
    }
    Ok(hash)
}
