//! A sequence of layers.

use super::module::{Module, Row, join};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Layers applied one after the other; the identity if there are none.
///
/// Parameters are named after the layer's index: `0.weight`.
#[derive(Default)]
pub struct Sequential {
    layers: Vec<Box<dyn Module>>,
}

impl Sequential {
    /// An empty sequence.
    pub fn new() -> Sequential {
        Sequential::default()
    }

    /// Appends a layer.
    pub fn push(mut self, layer: impl Module + 'static) -> Sequential {
        self.layers.push(Box::new(layer));
        self
    }

    /// The number of layers.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there are no layers.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }
}

/// Adds the index and description of the failed layer to an error.
fn at<T>(place: usize, layer: &dyn Module, result: Result<T>) -> Result<T> {
    let of = |message: String| format!("{message} (layer {place}: {})", layer.describe());
    result.map_err(|error| match error {
        Error::Shape { op, message } => Error::Shape { op, message: of(message) },
        Error::Argument { op, message } => Error::Argument { op, message: of(message) },
        other => other,
    })
}

impl Module for Sequential {
    fn describe(&self) -> String {
        format!("Sequential of {}", self.layers.len())
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let mut x = input.clone();
        for (place, layer) in self.layers.iter().enumerate() {
            x = at(place, layer, layer.forward(&x))?;
        }
        Ok(x)
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        self.summarize("", input, &mut Vec::new())
    }

    fn flops(&self, input: Shape) -> Result<u64> {
        let mut rows = Vec::new();
        self.summarize("", input, &mut rows)?;
        Ok(rows.iter().fold(0, |sum, row| row.flops.saturating_add(sum)))
    }

    fn children(&self) -> Vec<(String, &dyn Module)> {
        self.layers.iter().enumerate().map(|(place, layer)| (place.to_string(), &**layer)).collect()
    }

    fn summarize(&self, path: &str, input: Shape, rows: &mut Vec<Row>) -> Result<Shape> {
        let mut shape = input;
        for (place, layer) in self.layers.iter().enumerate() {
            shape = at(place, layer, layer.summarize(&join(path, &place.to_string()), shape, rows))?;
        }
        Ok(shape)
    }
}
