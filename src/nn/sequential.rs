//! A sequence of layers.

use super::module::{Layer, Module, Parts};
use crate::error::{at_line, caller};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Layers applied one after the other; the identity if there are none.
///
/// Parameters are named after the layer's index: `0.weight`.
///
/// ```
/// # use gristmill::{Device, Tensor, nn::{Flatten, Layer, Relu, Sequential}};
/// let model = Sequential::new().push(Flatten).push(Relu);
/// let x = Tensor::from_slice(&[-1.0, 2.0], [1, 1, 2], &Device::cpu())?;
/// assert_eq!(model.forward(&x)?.to_vec()?, [0.0, 2.0]);
/// assert!(model.len() == 2 && !model.is_empty());
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Default)]
pub struct Sequential {
    layers: Vec<Box<dyn Layer>>,
}

impl Sequential {
    /// An empty sequence.
    pub fn new() -> Sequential {
        Sequential::default()
    }

    /// Appends a layer.
    pub fn push(mut self, layer: impl Layer + 'static) -> Sequential {
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

    /// The layer at `index`, if there are so many.
    ///
    /// ```
    /// # use gristmill::nn::{Flatten, Module, Relu, Sequential};
    /// let model = Sequential::new().push(Flatten).push(Relu);
    /// assert_eq!(model.get(1).map(|layer| layer.describe()), Some("Relu".to_string()));
    /// assert!(model.get(2).is_none());
    /// ```
    pub fn get(&self, index: usize) -> Option<&dyn Layer> {
        self.layers.get(index).map(|layer| &**layer)
    }

    /// The layers in order.
    ///
    /// ```
    /// # use gristmill::nn::{Flatten, Module, Relu, Sequential};
    /// let model = Sequential::new().push(Flatten).push(Relu);
    /// let kinds: Vec<String> = model.iter().map(|layer| layer.describe()).collect();
    /// assert_eq!(kinds, ["Flatten", "Relu"]);
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = &dyn Layer> {
        self.layers.iter().map(|layer| &**layer)
    }

    /// Puts a layer before that at `index`, or at the end.
    ///
    /// ```
    /// # use gristmill::nn::{Flatten, Module, Relu, Sequential, Tanh};
    /// let mut model = Sequential::new().push(Flatten).push(Relu);
    /// model.insert(1, Tanh)?;
    /// assert_eq!(model.get(1).map(|layer| layer.describe()), Some("Tanh".to_string()));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// An index past the end.
    #[track_caller]
    pub fn insert(&mut self, index: usize, layer: impl Layer + 'static) -> Result<()> {
        if index > self.len() {
            let message = format!("index {index} of {} layers", self.len());
            return Err(Error::argument("Sequential::insert", message));
        }
        self.layers.insert(index, Box::new(layer));
        Ok(())
    }

    /// Removes the last layer and returns it, such as the classifier of a network that is to learn other classes.
    ///
    /// ```
    /// # use gristmill::nn::{Flatten, Module, Relu, Sequential};
    /// let mut model = Sequential::new().push(Flatten).push(Relu);
    /// assert_eq!(model.pop().map(|layer| layer.describe()), Some("Relu".to_string()));
    /// assert_eq!(model.len(), 1);
    /// ```
    pub fn pop(&mut self) -> Option<Box<dyn Layer>> {
        self.layers.pop()
    }

    /// Puts a layer in the place of another, and returns that one.
    ///
    /// ```
    /// # use gristmill::nn::{Flatten, Module, Relu, Sequential, Tanh};
    /// let mut model = Sequential::new().push(Flatten).push(Relu);
    /// assert_eq!(model.replace(1, Tanh)?.describe(), "Relu");
    /// assert_eq!(model.get(1).map(|layer| layer.describe()), Some("Tanh".to_string()));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No layer at `index`.
    #[track_caller]
    pub fn replace(&mut self, index: usize, layer: impl Layer + 'static) -> Result<Box<dyn Layer>> {
        let len = self.len();
        match self.layers.get_mut(index) {
            Some(place) => Ok(std::mem::replace(place, Box::new(layer))),
            None => Err(Error::argument("Sequential::replace", format!("index {index} of {len} layers"))),
        }
    }
}

impl Module for Sequential {
    fn parts(&self) -> Parts<'_> {
        Parts::new().with("", &self.layers)
    }

    fn describe(&self) -> String {
        format!("Sequential of {}", self.layers.len())
    }
}

impl Layer for Sequential {
    #[track_caller]
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let forward = |x: Tensor, (place, layer): (usize, &dyn Layer)| {
            layer.forward(&x).map_err(|mut error| {
                if let Error::Shape { message, .. } | Error::Argument { message, .. } = &mut error {
                    *message += &format!(" (layer {place}: {})", layer.describe());
                }
                error
            })
        };
        at_line(caller(), || self.iter().enumerate().try_fold(input.clone(), forward))
    }
}

impl Extend<Box<dyn Layer>> for Sequential {
    fn extend<I: IntoIterator<Item = Box<dyn Layer>>>(&mut self, layers: I) {
        self.layers.extend(layers);
    }
}

impl FromIterator<Box<dyn Layer>> for Sequential {
    fn from_iter<I: IntoIterator<Item = Box<dyn Layer>>>(layers: I) -> Sequential {
        Sequential { layers: layers.into_iter().collect() }
    }
}
