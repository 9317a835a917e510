//! Neural networks: parameters, layers, initialisation, losses.

mod parameter;

pub use parameter::Parameter;
