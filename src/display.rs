//! `Display` and `Debug` of a tensor, in NumPy's format.
//!
//! The rules are those of NumPy 2's `array2string` with its default options: see `numpy/_core/arrayprint.py`.

use crate::autograd::no_grad;
use crate::meta::DType;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::fmt;

/// A tensor with more elements is printed in part.
const THRESHOLD: usize = 1000;
/// The elements printed at each end of an axis then.
const EDGE: usize = 3;
/// The most characters per line.
const WIDTH: usize = 75;
/// The most digits after the point.
const PRECISION: usize = 8;

impl fmt::Display for Tensor {
    /// The values as NumPy prints them, then element type, shape and device. On a GPU this reads the values that are
    /// printed, which waits for the device.
    ///
    /// A tensor of over 1,000 elements is printed in part: three elements at each end of an axis.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = values(self);
        let between = if values.contains('\n') { '\n' } else { ' ' };
        write!(f, "{values}{between}{}", label(self))
    }
}

impl fmt::Debug for Tensor {
    /// As `Display`, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = values(self);
        let words: Vec<&str> = values.split_whitespace().collect();
        write!(f, "Tensor({}, {})", words.join(" "), label(self))
    }
}

/// `f32 [2, 3] on cpu`.
fn label(tensor: &Tensor) -> String {
    let dtype = match tensor.dtype() {
        DType::F32 => "f32",
        DType::U32 => "u32",
    };
    format!("{dtype} {} on {}", tensor.shape(), tensor.device().id())
}

/// The values, or why they could not be read: formatting must not fail.
fn values(tensor: &Tensor) -> String {
    let whole = tensor.shape();
    let printed = ends(&tensor.detach()).and_then(|part| {
        let words = match part.dtype() {
            DType::F32 if part.rank() == 0 => vec![scalar(part.item()?)],
            DType::F32 => floats(&part.to_vec()?),
            DType::U32 => aligned(part.to_ids()?.iter().map(u32::to_string).collect()),
        };
        let layout = Printer { whole: &whole, shown: &part.shape(), words: &words };
        Ok(if words.is_empty() { "[]".to_string() } else { layout.print(0, 0, WIDTH) })
    });
    printed.unwrap_or_else(|error: Error| format!("<{error}>"))
}

/// The elements that are printed.
fn ends(tensor: &Tensor) -> Result<Tensor> {
    if tensor.numel() <= THRESHOLD {
        return Ok(tensor.clone());
    }
    no_grad(|| {
        let (shape, mut part) = (tensor.shape(), tensor.clone());
        let mut long: Vec<usize> = (0..shape.rank()).filter(|&axis| shape[axis] > 2 * EDGE).collect();
        // The longest first, so that little is copied.
        long.sort_by_key(|&axis| std::cmp::Reverse(shape[axis]));
        for axis in long {
            let (along, length) = (axis as isize, shape[axis]);
            let ends = [part.slice(along, 0..EDGE)?, part.slice(along, length - EDGE..length)?];
            part = Tensor::cat(&[&ends[0], &ends[1]], along)?;
        }
        Ok(part)
    })
}

/// Pads words to the same width.
fn aligned(words: Vec<String>) -> Vec<String> {
    let width = words.iter().map(String::len).max().unwrap_or(0);
    words.into_iter().map(|word| format!("{word:>width$}")).collect()
}

/// Numbers with their points below each other: with an exponent if some are very large, very small, or far apart.
fn floats(values: &[f32]) -> Vec<String> {
    let sizes = || values.iter().filter(|x| x.is_finite() && **x != 0.0).map(|x| x.abs());
    let (largest, smallest) = (sizes().fold(0.0, f32::max), sizes().fold(f32::INFINITY, f32::min));
    let exponent = largest >= 1e8 || smallest < 1e-4 || largest / smallest > 1000.0;
    let split = |x: f32| {
        let digits = if exponent { format!("{x:e}") } else { fixed(x) };
        let (mantissa, power) = digits.split_once('e').unwrap_or((&digits, ""));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        [whole.to_string(), fraction.to_string(), power.to_string()]
    };
    let longest = values.iter().filter(|x| x.is_finite()).map(|&x| split(x)[1].len()).max().unwrap_or(0);
    let word = |&x: &f32| {
        if !x.is_finite() {
            return format!("{x}").to_lowercase();
        }
        let [whole, mut fraction, power] = split(x);
        if !exponent {
            return format!("{whole}.{fraction:longest$}");
        }
        while fraction.len() < longest {
            fraction.push('0');
        }
        format!("{whole}.{fraction}e{}", power_of(&power))
    };
    aligned(values.iter().map(word).collect())
}

/// A number alone: the fewest digits that give it back.
fn scalar(x: f32) -> String {
    let digits = format!("{x:?}");
    match digits.split_once('e') {
        _ if !x.is_finite() => digits.to_lowercase(),
        Some((mantissa, power)) => format!("{mantissa}e{}", power_of(power)),
        None => digits,
    }
}

/// A power of ten as C writes it: `+05`, `-12`.
fn power_of(power: &str) -> String {
    let (sign, digits) = power.strip_prefix('-').map_or(('+', power), |digits| ('-', digits));
    format!("{sign}{digits:0>2}")
}

/// The fewest digits that give this number back, but at most [`PRECISION`] after the point.
fn fixed(x: f32) -> String {
    let digits = format!("{x}");
    match digits.split_once('.') {
        Some((_, fraction)) if fraction.len() > PRECISION => {
            format!("{x:.PRECISION$}").trim_end_matches('0').trim_end_matches('.').to_string()
        }
        _ => digits,
    }
}

/// Brackets and lines around the words of the printed elements.
struct Printer<'a> {
    /// The shape of the tensor, and of the part of it that is printed.
    whole: &'a [usize],
    shown: &'a [usize],
    words: &'a [String],
}

impl Printer<'_> {
    /// The axes from `axis` on, of the elements from place `first` on, in lines of this width.
    fn print(&self, axis: usize, first: usize, width: usize) -> String {
        let Some(&count) = self.shown.get(axis) else { return self.words[first].trim().to_string() };
        let step: usize = self.shown[axis + 1..].iter().product();
        let indent = " ".repeat(axis + 1);
        let innermost = axis + 1 == self.shown.len();
        let mut parts: Vec<String> = (0..count)
            .map(|at| match innermost {
                true => self.words[first + at].clone(),
                false => self.print(axis + 1, first + at * step, width - 1),
            })
            .collect();
        if count < self.whole[axis] {
            parts.insert(EDGE, "...".to_string());
        }
        if !innermost {
            let lines = "\n".repeat(self.shown.len() - axis - 1);
            return format!("[{}]", parts.join(&(lines + &indent)));
        }
        let (mut text, mut line) = (String::new(), String::new());
        for part in parts {
            // The last word of a line is followed by a bracket.
            if !line.is_empty() && indent.len() + line.len() + 1 + part.len() > width - 1 {
                text += line.trim_end();
                text += "\n";
                text += &indent;
                line.clear();
            }
            if !line.is_empty() {
                line += " ";
            }
            line += &part;
        }
        format!("[{text}{line}]")
    }
}
