//! The checks: a device against a case, a gradient reference against finite differences, and bounds for tightness.

use super::array::{Array, unravel};
use super::bounded::Bounded;
use super::case::Case;
use super::r#gen::{Gen, Values};
use super::input::{Input, Kind};
use crate::device::Device;
use crate::tensor::Tensor;
use crate::{DType, Result};

/// Result of a case on a device.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// The largest error of an output element, as a fraction of its bound.
    pub forward: f64,
    /// The same for the gradients; 0 if there are none.
    pub backward: f64,
    /// Number of elements compared.
    pub elements: usize,
    /// Number of elements with an infinite bound, for which any value passes.
    pub unknown: usize,
}

impl Outcome {
    /// Merges two outcomes.
    pub fn and(self, other: Outcome) -> Outcome {
        Outcome {
            forward: self.forward.max(other.forward),
            backward: self.backward.max(other.backward),
            elements: self.elements + other.elements,
            unknown: self.unknown + other.unknown,
        }
    }
}

/// Why a case failed.
pub type Failure = String;

/// Runs a case on a device, and its gradient if it has one. `seed` selects the layouts of the inputs, the gradient of
/// the output, and the inputs that require a gradient.
///
/// # Errors
/// A result outside its bound or of another shape, or an error of the device.
pub fn check(case: &Case, device: &Device, seed: u64) -> Result<Outcome, Failure> {
    let mut layouts = Gen::new(seed ^ 0x77, 0, Values::Ordinary);
    // Otherwise kernels that need all operands contiguous would rarely run.
    let plain = layouts.one_in(3);
    let tensors = case
        .inputs
        .iter()
        .map(|input| if plain { input.to_tensor(device) } else { laid_out(input, &mut layouts, device) })
        .collect::<Result<Vec<_>>>()
        .map_err(|error| error.to_string())?;
    let want = (case.reference)(&case.arrays());
    let y = (case.run)(&tensors).map_err(|error| error.to_string())?;
    let forward = compare("output", &y, &want)?;
    let mut outcome =
        Outcome { forward: forward.0, elements: want.numel(), unknown: forward.1, ..Outcome::default() };
    if let Some(gradient) = &case.gradient {
        let dy = dy(&mut layouts, &want.shape);
        let wants: Vec<bool> =
            case.inputs.iter().map(|input| input.kind == Kind::Variable && !layouts.one_in(4)).collect();
        let given = (case.arrays(), &dy.array);
        let grads = backward(
            case,
            &tensors,
            &wants,
            &laid_out(&dy, &mut layouts, device).map_err(|e| e.to_string())?,
        )
        .map_err(|error| format!("gradient: {error}"))?;
        let references = gradient(&given.0, given.1);
        for (at, (grad, reference)) in grads.iter().zip(&references).enumerate() {
            let (Some(grad), Some(reference)) = (grad, reference) else { continue };
            let (share, unknown) = compare(&format!("gradient {at}"), grad, reference)?;
            outcome.backward = outcome.backward.max(share);
            outcome.elements += reference.numel();
            outcome.unknown += unknown;
        }
    }
    Ok(outcome)
}

/// A random gradient for the output of a case.
fn dy(layouts: &mut Gen, shape: &[usize]) -> Input {
    layouts.values(shape, -1.0, 1.0)
}

/// The gradients of the wanted inputs; zeros for an input that is not part of the graph.
fn backward(case: &Case, tensors: &[Tensor], wants: &[bool], dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
    if !wants.contains(&true) {
        return Ok(vec![None; tensors.len()]);
    }
    let leaves = tensors
        .iter()
        .zip(wants)
        .map(|(tensor, &wanted)| if wanted { tensor.requires_grad() } else { Ok(tensor.clone()) })
        .collect::<Result<Vec<_>>>()?;
    let grads = (case.run)(&leaves)?.backward_from(dy)?;
    let grad = |(leaf, &wanted): (&Tensor, &bool)| match grads.find(leaf) {
        _ if !wanted => Ok(None),
        Some(grad) => Ok(Some(grad.clone())),
        None => Tensor::zeros(leaf.shape(), leaf.device()).map(Some),
    };
    leaves.iter().zip(wants).map(grad).collect()
}

/// The largest error as a fraction of its bound, and the number of elements with an infinite bound.
fn compare(what: &str, got: &Tensor, want: &Array) -> Result<(f64, usize), Failure> {
    if got.shape()[..] != want.shape[..] {
        return Err(format!("{what} has shape {}, should have {:?}", got.shape(), want.shape));
    }
    let values = match got.dtype() {
        DType::F32 => got.to_vec(),
        // Ids in the table are below 2^24, or compared as the nearest f32.
        DType::U32 => got.to_ids().map(|ids| ids.into_iter().map(|id| id as f32).collect()),
    };
    let values = values.map_err(|error| format!("{what}: {error}"))?;
    let (mut worst, shape) = (0f64, &want.shape);
    for (at, (&got, &want)) in values.iter().zip(&want.data).enumerate() {
        if !want.admits(got) {
            let (index, value, error) = (unravel(at, shape), want.value(), want.error());
            return Err(format!(
                "{what}: element {index:?} of {shape:?} is {got:e}, should be {value:e} within {error:e}"
            ));
        }
        worst = worst.max(want.share(got));
    }
    Ok((worst, want.data.iter().filter(|x| x.error() == f64::INFINITY).count()))
}

/// Uploads an input in a random layout: contiguous, transposed, or a slice of a larger tensor filled with NaN (or the
/// id 0).
fn laid_out(input: &Input, layouts: &mut Gen, device: &Device) -> Result<Tensor> {
    let values = input.array.values();
    let shape = &input.array.shape;
    let rank = shape.len();
    let upload = |values: &[f64], shape: &[usize]| {
        Input { array: Array::exact(shape, values), kind: input.kind }.to_tensor(device)
    };
    // Ids are checked at upload, so the filling must be a valid id.
    let around = if input.kind == Kind::Ids { 0.0 } else { f64::NAN };
    match layouts.below(5) {
        1 if rank >= 2 => {
            let order: Vec<usize> = (0..rank).rev().collect();
            upload(&values, shape)?.permute(&order)?.copy()?.permute(&order)
        }
        // Every second element, starting at index 1, of an axis of length 2n + 1.
        2 if rank >= 1 && !values.is_empty() => {
            let last = shape[rank - 1];
            let mut wide = Vec::with_capacity(2 * values.len() + 8);
            for row in values.chunks(last) {
                wide.push(around);
                row.iter().for_each(|&x| wide.extend([x, around]));
            }
            let mut larger = shape.clone();
            larger[rank - 1] = 2 * last + 1;
            upload(&wide, &larger)?.slice_step(-1, 1..2 * last + 1, 2)
        }
        // A slice of a longer buffer, aligned to four elements or not.
        3 | 4 => {
            let before = layouts.choose(&[1, 2, 3, 4, 8, 64]);
            // Without elements, a kernel may still read where the first rows and columns would be.
            let behind = if values.is_empty() { 1 << 16 } else { 3 };
            let long = [vec![around; before], values.clone(), vec![around; behind]].concat();
            upload(&long, &[long.len()])?.slice(0, before..before + values.len())?.reshape(shape)
        }
        _ => input.to_tensor(device),
    }
}

/// Compares a case's gradient reference with central differences of its reference, both in f64 and contracted with the
/// same random weights. Returns the number of elements compared, and the number skipped because the reference has a
/// corner there.
///
/// # Errors
/// A gradient that differs from the slope.
pub fn check_differences(case: &Case, seed: u64) -> Result<(usize, usize), Failure> {
    // The truncation error of a central difference is h²/6 times the third derivative; the rounding error is eps/h.
    // Both are near 1e-10 for values and derivatives near 1.
    const H: f64 = 1e-5;
    let Some(gradient) = &case.gradient else { return Ok((0, 0)) };
    let inputs = case.arrays();
    let out = (case.reference)(&inputs);
    let weights = dy(&mut Gen::new(seed, 0, Values::Ordinary), &out.shape).array;
    let dot = |inputs: &[Array]| -> f64 {
        (case.reference)(inputs).data.iter().zip(&weights.data).map(|(y, w)| y.value() * w.value()).sum()
    };
    let grads = gradient(&inputs, &weights);
    if grads.len() != inputs.len() {
        return Err(format!("{} gradients for {} inputs", grads.len(), inputs.len()));
    }
    let middle = dot(&inputs);
    let mut shifted = inputs.clone();
    let (mut compared, mut corners) = (0, 0);
    for (which, (input, grad)) in case.inputs.iter().zip(&grads).enumerate() {
        let Some(grad) = grad.as_ref().filter(|_| input.kind == Kind::Variable) else { continue };
        if grad.shape != input.array.shape {
            return Err(format!("gradient {which} has shape {:?} for {:?}", grad.shape, input.array.shape));
        }
        let scale = grad.data.iter().fold(1.0f64, |most, g| most.max(g.value().abs()));
        for at in 0..input.array.numel() {
            let x = inputs[which].data[at];
            let mut side = |h: f64| {
                shifted[which].data[at] = Bounded::new(x.value() + h, 0.0);
                (dot(&shifted) - middle) / h
            };
            let (left, right) = (side(-H), side(H));
            shifted[which].data[at] = x;
            if (left - right).abs() > 1e-2 * scale {
                corners += 1;
                continue;
            }
            compared += 1;
            let (slope, got) = (0.5 * (left + right), grad.data[at].value());
            let allowed = 1e-6 * scale + 1e-4 * (left - right).abs();
            if (got - slope).abs() > allowed || got.is_nan() {
                return Err(format!("gradient {which}: element {at} is {got:e}, differences say {slope:e}"));
            }
        }
    }
    Ok((compared, corners))
}

/// Checks that a case's bounds reject wrong results: the reference with one element of an input set to 0, and the
/// reference shifted by one place.
///
/// # Errors
/// A wrong result within all bounds, or an infinite bound.
pub fn check_tightness(case: &Case, seed: u64) -> Result<(), Failure> {
    const TRIES: usize = 8;
    let inputs = case.arrays();
    let right = (case.reference)(&inputs);
    let unknown = right.data.iter().filter(|y| y.error() == f64::INFINITY).count();
    if unknown > 0 {
        return Err(format!("{unknown} of {} elements have no bound", right.numel()));
    }
    let seen =
        |wrong: &[f64]| right.data.iter().zip(wrong).any(|(right, &wrong)| !right.admits(wrong as f32));
    let values = right.values();
    let mut moved = values.clone();
    if !moved.is_empty() {
        moved.rotate_left(1);
    }
    // Smaller differences are not counted as differences.
    let most = values.iter().filter(|y| y.is_finite()).fold(0.0f64, |most, y| most.max(y.abs()));
    let differ = |(a, b): (&f64, &f64)| (a - b).abs() > 1e-4 * most || a.is_nan() != b.is_nan();
    if values.len() >= 8 && moved.iter().zip(&values).any(differ) && !seen(&moved) {
        return Err("a result off by one place passes".to_string());
    }
    let mut pick = Gen::new(seed, 0, Values::Ordinary);
    let mut tried = 0;
    // Elements that hardly change the result do not count as tries, such as all but the largest of a steep softmax.
    // There may be no others.
    for _ in 0..8 * TRIES {
        if tried == TRIES {
            break;
        }
        let which = pick.below(inputs.len());
        if case.inputs[which].kind == Kind::Ids || inputs[which].numel() == 0 {
            continue;
        }
        let mut fewer = inputs.clone();
        fewer[which].data[pick.below(inputs[which].numel())] = Bounded::ZERO;
        let dropped = (case.reference)(&fewer).values();
        if !dropped.iter().zip(&values).any(differ) {
            continue;
        }
        if seen(&dropped) {
            return Ok(());
        }
        tried += 1;
    }
    if tried > 0 { Err(format!("none of {tried} dropped elements shows")) } else { Ok(()) }
}

/// Adds to a failure what is needed to draw its case again.
pub fn located(row: &str, case: &Case, device: &str, seed: u64, size: usize, failure: &Failure) -> String {
    format!("{row} on {device} (seed {seed}, size {size}; {}): {failure}", case.label)
}
