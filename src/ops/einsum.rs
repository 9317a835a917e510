//! Einstein's summation over named axes, composed of matrix products and sums.

use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::BTreeMap;

const NAME: &str = "einsum";

/// A tensor with a name for each axis.
struct Named {
    tensor: Tensor,
    names: Vec<char>,
}

impl Named {
    fn has(&self, name: char) -> bool {
        self.names.contains(&name)
    }

    /// The lengths of these axes.
    fn lengths(&self, names: &[char]) -> Vec<usize> {
        let length = |name: &char| {
            self.names.iter().position(|own| own == name).map_or(1, |axis| self.tensor.shape()[axis])
        };
        names.iter().map(length).collect()
    }

    /// Replaces a name that is there twice by one axis, the diagonal of both.
    #[track_caller]
    fn diagonal(mut self) -> Result<Named> {
        let twice = |names: &[char]| {
            let second = (0..names.len()).rev().find(|&at| names[..at].contains(&names[at]))?;
            Some((names.iter().position(|&name| name == names[second])?, second))
        };
        while let Some((first, second)) = twice(&self.names) {
            let shape = self.tensor.shape();
            let mut along = vec![1; shape.rank()];
            (along[first], along[second]) = (shape[first], shape[second]);
            let eye = Tensor::eye(shape[first], self.tensor.device())?.reshape(along)?;
            let zero = Tensor::scalar(0.0, self.tensor.device())?;
            // Selected, not multiplied: infinity times 0 is NaN.
            self.tensor = eye.where_cond(&self.tensor, &zero)?.sum(&[second as isize], false)?;
            self.names.remove(second);
        }
        Ok(self)
    }

    /// The sum over the axes that `kept` refuses.
    #[track_caller]
    fn sum_but(self, kept: impl Fn(char) -> bool) -> Result<Named> {
        let axes: Vec<isize> =
            (0..).zip(&self.names).filter(|&(_, &name)| !kept(name)).map(|(axis, _)| axis).collect();
        let tensor = if axes.is_empty() { self.tensor } else { self.tensor.sum(&axes, false)? };
        Ok(Named { tensor, names: self.names.into_iter().filter(|&name| kept(name)).collect() })
    }

    /// With its axes in this order, joined to three: those of each list.
    #[track_caller]
    fn joined(&self, lists: [&[char]; 3]) -> Result<Tensor> {
        let axes: Vec<usize> =
            lists.concat().iter().filter_map(|name| self.names.iter().position(|own| own == name)).collect();
        let lengths: [usize; 3] = lists.map(|names| self.lengths(names).iter().product());
        self.tensor.permute(&axes)?.reshape(lengths)
    }

    /// The sum of products over the axes of both that `kept` refuses, as one batched matrix product.
    #[track_caller]
    fn contract(self, other: Named, kept: impl Fn(char) -> bool) -> Result<Named> {
        let (a, b) = (self, other);
        let (in_a, in_b) = (a.names.clone(), b.names.clone());
        let a = a.sum_but(|name| kept(name) || in_b.contains(&name))?;
        let b = b.sum_but(|name| kept(name) || in_a.contains(&name))?;
        let pick = |of: &Named, wanted: &dyn Fn(char) -> bool| -> Vec<char> {
            of.names.iter().copied().filter(|&name| wanted(name)).collect()
        };
        let batch = pick(&a, &|name| b.has(name) && kept(name));
        let summed = pick(&a, &|name| b.has(name) && !kept(name));
        let (rows, columns) = (pick(&a, &|name| !b.has(name)), pick(&b, &|name| !a.has(name)));
        let (x, y) = (a.joined([&batch, &rows, &summed])?, b.joined([&batch, &summed, &columns])?);
        // Where nothing is summed, a matrix product would be one of 1 x 1 matrices per element, or an outer product.
        let product = if summed.is_empty() { x.mul(&y)? } else { x.matmul(&y)? };
        let lengths = [a.lengths(&batch), a.lengths(&rows), b.lengths(&columns)].concat();
        Ok(Named { tensor: product.reshape(lengths)?, names: [batch, rows, columns].concat() })
    }
}

/// The names of each operand's axes, and those of the result.
#[track_caller]
fn parse(equation: &str) -> Result<(Vec<Vec<char>>, Vec<char>), String> {
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (inputs, output) = match text.split_once("->") {
        Some((inputs, output)) => (inputs, Some(output)),
        None => (&*text, None),
    };
    let inputs: Vec<Vec<char>> = inputs.split(',').map(|names| names.chars().collect()).collect();
    let mut counts = BTreeMap::new();
    for &name in inputs.iter().flatten() {
        if !name.is_ascii_alphabetic() {
            return Err(format!("{name:?} is not the name of an axis: a letter"));
        }
        *counts.entry(name).or_insert(0) += 1;
    }
    let output: Vec<char> = match output {
        Some(output) => output.chars().collect(),
        None => counts.iter().filter(|(_, count)| **count == 1).map(|(name, _)| *name).collect(),
    };
    for (at, name) in output.iter().enumerate() {
        if !counts.contains_key(name) {
            return Err(format!("the result's axis {name:?} is in no operand"));
        }
        if output[..at].contains(name) {
            return Err(format!("the result's axis {name:?} appears twice"));
        }
    }
    Ok((inputs, output))
}

impl Tensor {
    /// The sum of products that an equation names, as `torch.einsum`: a letter per axis, an operand after each comma; over
    /// the letters that are not in the result it sums. Without `->` the result has the letters that occur once, in
    /// alphabetical order.
    ///
    /// Two operands at a time, from the left, become one batched matrix product. `...` and the broadcasting of an axis of
    /// length 1 are not supported.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let a = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0], [2, 2], &Device::cpu())?;
    /// let x = Tensor::from_slice(&[10.0, 1.0], [2], &Device::cpu())?;
    /// assert_eq!(Tensor::einsum("ij,j->i", &[&a, &x])?.to_vec()?, [12.0, 34.0]); // a x
    /// assert_eq!(Tensor::einsum("ij->ji", &[&a])?.to_vec()?, [1.0, 3.0, 2.0, 4.0]); // the transpose
    /// assert_eq!(Tensor::einsum("ii", &[&a])?.item()?, 5.0); // the trace
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// An equation that does not fit the operands, lengths that differ under one letter, an intermediate result of rank
    /// over 6, tensors of ids, different devices, or the device fails.
    #[track_caller]
    pub fn einsum(equation: &str, operands: &[&Tensor]) -> Result<Tensor> {
        let wrong = |message: String| Error::shape(NAME, format!("{equation}: {message}"));
        let (inputs, output) = parse(equation).map_err(wrong)?;
        if inputs.len() != operands.len() {
            return Err(wrong(format!("operands given: {}", operands.len())));
        }
        let mut lengths: BTreeMap<char, usize> = BTreeMap::new();
        for (names, operand) in inputs.iter().zip(operands) {
            let shape = operand.shape();
            if names.len() != shape.rank() {
                return Err(wrong(format!("{} letters for shape {shape}", names.len())));
            }
            for (&name, &length) in names.iter().zip(shape.iter()) {
                let known = *lengths.entry(name).or_insert(length);
                if known != length {
                    return Err(wrong(format!("the axis {name} has lengths {known} and {length}")));
                }
            }
        }
        let mut named = inputs
            .iter()
            .zip(operands)
            .map(|(names, &tensor)| Named { tensor: tensor.clone(), names: names.clone() });
        // An equation has an operand at least.
        let mut result = named.next().ok_or_else(|| wrong("no operand".to_string()))?.diagonal()?;
        for (at, next) in (1..).zip(named) {
            let later = &inputs[at + 1..];
            let kept = |name: char| output.contains(&name) || later.iter().any(|names| names.contains(&name));
            result = result.contract(next.diagonal()?, kept)?;
        }
        let result = result.sum_but(|name| output.contains(&name))?;
        let axes: Vec<usize> =
            output.iter().filter_map(|name| result.names.iter().position(|own| own == name)).collect();
        result.tensor.permute(&axes)
    }
}
