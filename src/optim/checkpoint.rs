//! Checkpoints for resuming training.

use super::Optimizer;
use crate::io::{self, Archive, Metadata};
use crate::nn::{self, LoadOptions, Module};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::path::Path;

/// The prefixes of the tensor names in a checkpoint.
const MODEL: &str = "model.";
const OPTIMIZER: &str = "optimizer.";

/// Writes a model, its optimizer's state, and metadata such as the step, to a safetensors file.
///
/// After [`load_checkpoint`], training continues with the same bits, given the same hyperparameters. The file is
/// replaced atomically.
///
/// ```no_run
/// # use gristmill::{Device, nn::{Init, Linear, Module}, optim::{self, AdamW}};
/// # let mut init = Init::new(1, &Device::cpu());
/// let model = Linear::new(4, 2, &mut init)?;
/// let mut optimizer = AdamW::new(model.parameters(), 1e-3);
/// let metadata = [("step".to_string(), "100".to_string())].into();
/// optim::save_checkpoint(&model, &optimizer, "run.safetensors", &metadata)?;
/// let metadata = optim::load_checkpoint(&model, &mut optimizer, "run.safetensors")?;
/// assert_eq!(metadata["step"], "100");
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// As [`io::save`], or the optimizer has a parameter that is not the module's.
pub fn save_checkpoint(
    module: &dyn Module,
    optimizer: &dyn Optimizer,
    path: impl AsRef<Path>,
    metadata: &Metadata,
) -> Result<()> {
    let state = module.named_state().into_iter().map(|(name, p)| (format!("{MODEL}{name}"), p.tensor()));
    let own = optimizer
        .state(&module.named_parameters())?
        .into_iter()
        .map(|(name, tensor)| (format!("{OPTIMIZER}{name}"), tensor));
    io::save(path, &state.chain(own).collect::<Vec<_>>(), metadata)
}

/// Loads a file of [`save_checkpoint`] into a model and an optimizer of the same kind; returns the metadata.
///
/// ```
/// # use gristmill::{Device, Tensor, nn::{Init, Layer, Linear, Module}, optim::{self, AdamW, Optimizer}};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("run.safetensors");
/// # let model = Linear::new(4, 2, &mut Init::new(1, &Device::cpu()))?;
/// # let mut optimizer = AdamW::new(model.parameters(), 1e-3);
/// # optimizer.step(&model.forward(&Tensor::ones([1, 4], &Device::cpu())?)?.sum_all()?.backward()?)?;
/// optim::save_checkpoint(&model, &optimizer, &path, &[("step".to_string(), "1".to_string())].into())?;
/// let mut resumed = AdamW::new(model.parameters(), 1e-3);
/// let metadata = optim::load_checkpoint(&model, &mut resumed, &path)?;
/// assert_eq!(metadata["step"], "1");
/// let names = model.named_parameters();
/// assert_eq!(resumed.state(&names)?[1].1.to_vec()?, optimizer.state(&names)?[1].1.to_vec()?);
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// As [`io::load`], or the file does not fit the model or the optimizer. The error lists all problems with the first
/// that does not fit; neither is changed.
pub fn load_checkpoint(
    module: &dyn Module,
    optimizer: &mut dyn Optimizer,
    path: impl AsRef<Path>,
) -> Result<Metadata> {
    let path = path.as_ref();
    let archive = Archive::open(path)?;
    let (pairs, _) = nn::fitting(module, &archive, path, &LoadOptions::new().prefix(MODEL))?;
    let names = module.named_parameters();
    let device = module.device();
    if let Some((name, why)) = archive.unreadable.iter().find(|(name, _)| name.starts_with(OPTIMIZER)) {
        return Err(Error::file(path, format!("has the tensor {name} {why}")));
    }
    let own = archive.entries.iter().filter_map(|entry| Some((entry.name.strip_prefix(OPTIMIZER)?, entry)));
    let state: Vec<(String, Tensor)> = own
        .map(|(name, entry)| Ok((name.to_string(), archive.tensor(entry, &device)?)))
        .collect::<Result<_>>()?;
    optimizer.load_state(&names, &state)?;
    nn::set_all(&pairs)?;
    Ok(archive.metadata)
}
