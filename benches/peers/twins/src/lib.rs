//! What the twins share: the initial parameters and the data that the PyTorch twin wrote.

use gristmill::nn::{self, LoadOptions, Module};
use gristmill::{Device, Result, Tensor, io};
use std::collections::HashMap;

/// Loads the file that the first argument names: the parameters into the models, by their prefixes; returns the data.
pub fn start(models: &[(&str, &dyn Module)], device: &Device) -> Result<HashMap<String, Tensor>> {
    let path = std::env::args().nth(1).unwrap_or_default();
    for (prefix, model) in models {
        nn::load_parameters_with(*model, &path, &LoadOptions::new().prefix(*prefix))?;
    }
    Ok(io::load(&path, device)?.0.into_iter().collect())
}
