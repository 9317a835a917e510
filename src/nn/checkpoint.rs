//! Saving, loading and hashing of parameters.

use super::module::Module;
use super::parameter::Parameter;
use crate::io::{self, Archive, Metadata};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{DType, Error, Result};
use std::collections::HashMap;
use std::path::Path;

/// Writes a module's parameters and buffers to a safetensors file, under the names of PyTorch's `state_dict`.
///
/// The file is replaced atomically: see [`io::save`].
///
/// ```
/// # use gristmill::{Device, nn::{self, Init, Linear}};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("model.safetensors");
/// # let mut init = Init::new(1, &Device::cpu());
/// let (model, copy) = (Linear::new(4, 2, &mut init)?, Linear::new(4, 2, &mut init)?);
/// nn::save_parameters(&model, &path)?;
/// nn::load_parameters(&copy, &path)?;
/// assert_eq!(nn::hash_parameters(&copy)?, nn::hash_parameters(&model)?);
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// As [`io::save`].
#[track_caller]
pub fn save_parameters(module: &dyn Module, path: impl AsRef<Path>) -> Result<()> {
    save_parameters_with(module, path, &Metadata::new())
}

/// As [`save_parameters`], with metadata, such as a seed and an epoch.
///
/// ```
/// # use gristmill::{Device, nn::{self, Init, Linear}};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("model.safetensors");
/// # let mut init = Init::new(1, &Device::cpu());
/// # let model = Linear::new(4, 2, &mut init)?;
/// let metadata = [("epoch".to_string(), "3".to_string())].into();
/// nn::save_parameters_with(&model, &path, &metadata)?;
/// assert_eq!(nn::load_parameters(&model, &path)?["epoch"], "3");
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// As [`io::save`].
#[track_caller]
pub fn save_parameters_with(module: &dyn Module, path: impl AsRef<Path>, metadata: &Metadata) -> Result<()> {
    let tensors: Vec<(String, Tensor)> =
        module.named_state().into_iter().map(|(name, parameter)| (name, parameter.tensor())).collect();
    io::save(path, &tensors, metadata)
}

/// Reads a module's parameters and buffers from a file of safetensors, or of PyTorch's `torch.save`; returns its metadata.
///
/// The file must hold exactly these tensors, with their shapes. All are checked before the first parameter changes.
/// [`load_parameters_with`] reads a part of a file, under other names, or only the tensors that both have.
///
/// ```
/// # use gristmill::{Device, nn::{self, Init, Linear}};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("model.safetensors");
/// # let mut init = Init::new(1, &Device::cpu());
/// let (model, other) = (Linear::new(4, 2, &mut init)?, Linear::new(5, 2, &mut init)?);
/// nn::save_parameters(&model, &path)?;
/// assert!(nn::load_parameters(&model, &path).is_ok());
/// let message = nn::load_parameters(&other, &path).unwrap_err().to_string();
/// assert!(message.contains("weight is F32 [2, 4], should be F32 [2, 5]"), "{message}");
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// As [`io::load`], or the file does not fit the module: the error lists missing and unexpected tensors, and shapes and
/// types that differ. The module is unchanged then.
#[track_caller]
pub fn load_parameters(module: &dyn Module, path: impl AsRef<Path>) -> Result<Metadata> {
    Ok(load_parameters_with(module, path, &LoadOptions::new())?.metadata)
}

/// As [`load_parameters`], with options. A checkpoint of PyTorch, `{"model": model.state_dict(), ...}`, is read with
/// `prefix("model.")`. PyTorch's `num_batches_tracked` has no counterpart here, and is passed over.
///
/// ```no_run
/// # use gristmill::{Device, nn::{self, Init, Linear, LoadOptions}};
/// # let encoder = Linear::new(4, 2, &mut Init::new(1, &Device::cpu()))?;
/// // The encoder of a larger model, whose layers are called `gamma` instead of `weight`, without a bias.
/// let options = LoadOptions::new().prefix("bert.encoder.").rename(|name| name.replace("gamma", "weight"));
/// let report = nn::load_parameters_with(&encoder, "bert.safetensors", &options.strict(false))?;
/// assert_eq!((report.missing, report.unexpected), (vec!["bias".to_string()], vec![]));
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// As [`load_parameters`]. If not strict, missing and unexpected tensors are no error.
#[track_caller]
pub fn load_parameters_with(
    module: &dyn Module,
    path: impl AsRef<Path>,
    options: &LoadOptions,
) -> Result<LoadReport> {
    let path = path.as_ref();
    let archive = Archive::open(path)?;
    let (pairs, report) = fitting(module, &archive, path, options)?;
    set_all(&pairs)?;
    Ok(LoadReport { metadata: archive.metadata, ..report })
}

/// Sets a module's parameters and buffers to the tensors of [`Module::state_dict`], of this module or of one like it.
///
/// ```
/// # use gristmill::{Device, nn::{self, Init, Linear, LoadOptions, Module}};
/// # let device = Device::cpu();
/// let (trained, copy) = (Linear::new(4, 2, &mut Init::new(1, &device))?, Linear::new(4, 2, &mut Init::new(2, &device))?);
/// nn::load_state_dict(&copy, &trained.state_dict(), &LoadOptions::new())?;
/// assert_eq!(nn::hash_parameters(&copy)?, nn::hash_parameters(&trained)?);
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// As [`load_parameters_with`].
#[track_caller]
pub fn load_state_dict(
    module: &dyn Module,
    state: &[(String, Tensor)],
    options: &LoadOptions,
) -> Result<LoadReport> {
    let found = state.iter().map(|(name, tensor)| (&**name, Ok((tensor.dtype(), tensor.shape(), tensor))));
    let wrong = |message| Error::argument("load_state_dict", message);
    let (pairs, report) = options.fit(module, found).map_err(wrong)?;
    set_all(&pairs.into_iter().map(|(parameter, tensor)| (parameter, tensor.clone())).collect::<Vec<_>>())?;
    Ok(report)
}

type Rename<'a> = Box<dyn Fn(&str) -> String + 'a>;

/// Which of the tensors of a file go to which parameters.
///
/// ```
/// # use gristmill::{Device, nn::{self, Init, Linear, LoadOptions, Module}};
/// # let layer = Linear::new(4, 2, &mut Init::new(1, &Device::cpu()))?;
/// // A state of a larger model, where this layer is `head` and its weight is called `gamma`.
/// let mut state = layer.state_dict();
/// state.iter_mut().for_each(|(name, _)| *name = format!("head.{}", name.replace("weight", "gamma")));
/// let prefixed = || LoadOptions::new().prefix("head.");
/// let renamed = prefixed().rename(|name| name.replace("gamma", "weight"));
/// assert!(nn::load_state_dict(&layer, &state, &renamed).is_ok());
/// assert!(nn::load_state_dict(&layer, &state, &prefixed()).is_err()); // `weight` is missing, `gamma` unexpected
/// let report = nn::load_state_dict(&layer, &state, &prefixed().strict(false))?;
/// assert_eq!((report.missing, report.unexpected), (vec!["weight".to_string()], vec!["gamma".to_string()]));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Default)]
pub struct LoadOptions<'a> {
    prefix: String,
    rename: Option<Rename<'a>>,
    partial: bool,
}

impl<'a> LoadOptions<'a> {
    /// All tensors, under their names: the file must have exactly those of the module.
    pub fn new() -> LoadOptions<'a> {
        LoadOptions::default()
    }

    /// Only the tensors whose names begin so; the rest of the name is that of the parameter.
    pub fn prefix(self, prefix: impl Into<String>) -> LoadOptions<'a> {
        LoadOptions { prefix: prefix.into(), ..self }
    }

    /// Gives each tensor another name, after the prefix is cut off.
    pub fn rename(self, rename: impl Fn(&str) -> String + 'a) -> LoadOptions<'a> {
        LoadOptions { rename: Some(Box::new(rename)), ..self }
    }

    /// Whether it is an error if tensors are missing, or there are more. Tensors of another shape are always an error.
    pub fn strict(self, strict: bool) -> LoadOptions<'a> {
        LoadOptions { partial: !strict, ..self }
    }

    /// Pairs a module's parameters and buffers with what was found: names; types, shapes and anything else, or why it can't
    /// be read.
    ///
    /// # Errors
    /// What does not fit.
    fn fit<'t, T>(
        &self,
        module: &dyn Module,
        found: impl Iterator<Item = (&'t str, Result<(DType, Shape, T), &'t str>)>,
    ) -> Result<(Vec<(Parameter, T)>, LoadReport), String> {
        let mut wrong = Vec::new();
        let mut report = LoadReport::default();
        let mut pairs = Vec::new();
        let named = module.named_state();
        let order: Vec<String> = named.iter().map(|(name, _)| name.clone()).collect();
        let mut wanted: HashMap<String, Parameter> = named.into_iter().collect();
        for (name, content) in found {
            let Some(name) = name.strip_prefix(&*self.prefix) else { continue };
            let name = self.rename.as_ref().map_or_else(|| name.to_string(), |rename| rename(name));
            let Some(parameter) = wanted.remove(&name) else {
                match order.contains(&name) {
                    true => wrong.push(format!("{name} appears twice")),
                    // PyTorch's batch normalization counts its batches, and uses the number only without a momentum.
                    false if name.ends_with("num_batches_tracked") => {}
                    false => report.unexpected.push(name),
                }
                continue;
            };
            match content {
                Err(why) => wrong.push(format!("{name} is {why}")),
                Ok((dtype, shape, _)) if dtype != DType::F32 || shape != parameter.shape() => {
                    let shapes = format!("{dtype:?} {shape}, should be F32 {}", parameter.shape());
                    wrong.push(format!("{name} is {shapes}"));
                }
                Ok((_, _, content)) => pairs.push((parameter, content)),
            }
        }
        report.missing = order.into_iter().filter(|name| wanted.contains_key(name)).collect();
        if !self.partial {
            wrong.extend(report.missing.iter().map(|name| format!("{name} is missing")));
            let of_none = |name| format!("{name} is not a parameter of the model");
            wrong.extend(report.unexpected.iter().map(of_none));
        }
        if wrong.is_empty() { Ok((pairs, report)) } else { Err(wrong.join(", ")) }
    }
}

/// What [`load_parameters_with`] read, and what it did not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadReport {
    /// The parameters and buffers of the module that were not there, and stay as they were.
    pub missing: Vec<String>,
    /// The tensors that the module has no parameter for, under their new names.
    pub unexpected: Vec<String>,
    /// The file's metadata.
    pub metadata: Metadata,
}

/// Pairs a module's parameters and buffers with the file's tensors.
///
/// # Errors
/// They do not fit the module, or the device fails.
pub(crate) fn fitting(
    module: &dyn Module,
    archive: &Archive,
    path: &Path,
    options: &LoadOptions,
) -> Result<(Vec<(Parameter, Tensor)>, LoadReport)> {
    let found =
        archive.entries.iter().map(|entry| (&*entry.name, Ok((entry.dtype, entry.layout.shape, entry))));
    let found = found.chain(archive.unreadable.iter().map(|(name, why)| (&**name, Err(&**why))));
    let wrong = |message| Error::file(path, format!("does not fit the model: {message}"));
    let (pairs, report) = options.fit(module, found).map_err(wrong)?;
    let made = pairs.into_iter().map(|(parameter, entry)| {
        let tensor = archive.tensor(entry, parameter.tensor().device())?;
        Ok((parameter, tensor))
    });
    Ok((made.collect::<Result<_>>()?, report))
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
/// ```
/// # use gristmill::{Device, nn::{Init, Linear, hash_parameters}};
/// let model = |seed| Linear::new(4, 2, &mut Init::new(seed, &Device::cpu()));
/// assert_eq!(hash_parameters(&model(1)?)?, hash_parameters(&model(1)?)?);
/// assert_ne!(hash_parameters(&model(1)?)?, hash_parameters(&model(2)?)?);
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// The device fails.
#[track_caller]
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
