//! The list of all kernels.

use crate::gpu::Kernel;
use crate::{naive, ops, optim};

/// All kernels of the crate, for the tests that compile each with every combination of constants.
pub fn kernels() -> Vec<&'static Kernel> {
    [ops::KERNELS, &[optim::KERNELS, naive::KERNELS]].concat().concat()
}
