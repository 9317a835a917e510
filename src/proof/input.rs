//! An input of a case.

use super::array::Array;
use crate::Result;
use crate::device::Device;
use crate::tensor::Tensor;

/// The role of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Numbers with a gradient.
    Variable,
    /// Numbers without a gradient.
    Constant,
    /// `u32` ids.
    Ids,
}

/// An input of a case.
#[derive(Debug, Clone)]
pub struct Input {
    /// The elements.
    pub array: Array,
    /// The role.
    pub kind: Kind,
}

impl Input {
    /// The input as a contiguous tensor.
    ///
    /// # Errors
    /// Out of memory, or an error of the device.
    pub fn to_tensor(&self, device: &Device) -> Result<Tensor> {
        let values = self.array.data.iter().map(|x| x.value());
        match self.kind {
            Kind::Ids => {
                Tensor::from_ids(&values.map(|x| x as u32).collect::<Vec<_>>(), &self.array.shape, device)
            }
            _ => Tensor::from_slice(&values.map(|x| x as f32).collect::<Vec<_>>(), &self.array.shape, device),
        }
    }
}
