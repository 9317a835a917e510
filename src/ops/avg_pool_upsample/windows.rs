//! The window of inputs of each output along an axis, computed on the host in integers that can't overflow, and
//! uploaded as a table.

use crate::Result;
use crate::cpu::host_list;
use crate::ops::to_u32;
use std::ops::Range;

/// Along one axis, output o is `scale · Σ_k weight_k · x[first + k]` over a window of consecutive inputs. The begins
/// and the ends of the windows never decrease with o.
#[derive(Debug, PartialEq)]
pub(super) struct Windows {
    pub(super) list: Vec<Window>,
    /// The weights of all windows, from index [`Window::weights`]; empty if every weight is 1.
    pub(super) weights: Vec<f32>,
    /// The length of the input axis.
    pub(super) input: usize,
}

/// An entry of the table.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Window {
    pub(super) first: u32,
    pub(super) length: u32,
    /// The index of its first weight.
    pub(super) weights: u32,
    pub(super) scale: f32,
}

impl Window {
    /// The window of these inputs, each with a weight of 1.
    pub(super) fn new(inputs: Range<usize>, scale: f32) -> Window {
        Window { first: inputs.start as u32, length: inputs.len() as u32, weights: 0, scale }
    }

    pub(super) fn inputs(&self) -> Range<usize> {
        self.first as usize..self.first as usize + self.length as usize
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// `⌊a · b / c⌋`, exactly.
fn ratio(a: usize, b: usize, c: usize) -> usize {
    a.checked_mul(b).map_or_else(|| (a as u128 * b as u128 / c as u128) as usize, |product| product / c)
}

/// As [`ratio`], rounded up.
fn ratio_up(a: usize, b: usize, c: usize) -> usize {
    let down = ratio(a, b, c);
    down + usize::from(a as u128 * b as u128 > down as u128 * c as u128)
}

/// The rule for the windows of an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::ops) enum Method {
    /// Means of `kernel` inputs, `stride` apart; the first window starts `padding` before the first input.
    Pool { kernel: usize, stride: usize, padding: usize, divisor: Divisor },
    /// Adaptive pooling: the axis is cut into as many equal parts as there are outputs, and window o has the inputs
    /// that part o touches.
    Even,
    /// Each output is the input in which its start falls.
    Nearest,
    /// Each output interpolates between its two neighbouring inputs. Positions are the centres of elements, or with
    /// `corners` the first and the last elements of both axes coincide (PyTorch's `align_corners`).
    Linear { corners: bool },
}

/// What the sum over a window is divided by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::ops) enum Divisor {
    /// The number of inputs in the window.
    Inputs,
    /// The number of inputs and padding elements in the window.
    Padded,
    /// This number.
    Fixed(usize),
}

/// An axis from `input` to `output` elements.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops) struct Axis {
    pub(in crate::ops) input: usize,
    pub(in crate::ops) output: usize,
    pub(in crate::ops) method: Method,
}

impl Axis {
    /// The total length of all windows, of interpolation the number of outputs.
    pub(super) fn terms(&self) -> u64 {
        let &Axis { input, output, .. } = self;
        let terms = match self.method {
            Method::Pool { kernel, .. } => output.saturating_mul(kernel),
            Method::Even if output == 0 => 0,
            // If two windows meet inside an input, both contain it.
            Method::Even => input.saturating_add(output - gcd(input, output)),
            Method::Nearest | Method::Linear { .. } => output,
        };
        terms as u64
    }

    /// The windows of the outputs.
    ///
    /// # Errors
    /// The host is out of memory.
    pub(super) fn windows(&self) -> Result<Windows> {
        let &Axis { input, output, .. } = self;
        let plain = |window: &dyn Fn(usize) -> Window| -> Result<Windows> {
            let mut list = host_list(output)?;
            list.extend((0..output).map(window));
            Ok(Windows { list, weights: Vec::new(), input })
        };
        match self.method {
            Method::Pool { kernel, stride, padding, divisor } => plain(&|o| {
                // In coordinates of the padded axis. The last window may extend past its end.
                let begin = o * stride;
                let end = (begin + kernel).min(input + 2 * padding);
                let inputs = begin.max(padding) - padding..end.min(input + padding) - padding;
                let count = match divisor {
                    Divisor::Inputs => inputs.len(),
                    Divisor::Padded => end - begin,
                    Divisor::Fixed(count) => count,
                };
                Window::new(inputs, mean_weight(count))
            }),
            Method::Even => plain(&|o| {
                let inputs = ratio(o, input, output)..ratio_up(o + 1, input, output);
                Window::new(inputs.clone(), mean_weight(inputs.len()))
            }),
            Method::Nearest => plain(&|o| {
                let place = ratio(o, input, output);
                Window::new(place..place + 1, 1.0)
            }),
            Method::Linear { corners } => Windows::linear(input, output, corners),
        }
    }
}

impl Windows {
    /// Each output is its input.
    ///
    /// # Errors
    /// The host is out of memory.
    pub(super) fn same(len: usize) -> Result<Windows> {
        Axis { input: len, output: len, method: Method::Nearest }.windows()
    }

    fn linear(input: usize, output: usize, corners: bool) -> Result<Windows> {
        let (last, wide) = (input as u128 - 1, output as u128);
        let mut windows = Windows { list: host_list(output)?, weights: host_list(2 * output)?, input };
        for o in 0..wide {
            // Its position among the inputs is place / unit.
            let (place, unit) = match corners {
                true => (o * last, (wide - 1).max(1)),
                false => (((2 * o + 1) * input as u128).saturating_sub(wide), 2 * wide),
            };
            let (first, rest) = (place / unit, place % unit);
            let between = rest > 0 && first < last;
            let first = first as usize;
            let inputs = first..first + if between { 2 } else { 1 };
            windows.list.push(Window { weights: windows.weights.len() as u32, ..Window::new(inputs, 1.0) });
            let part = |n: u128| (n as f64 / unit as f64) as f32;
            match between {
                true => windows.weights.extend([part(unit - rest), part(rest)]),
                false => windows.weights.push(1.0),
            }
        }
        Ok(windows)
    }

    /// The transposed windows, for the gradient: for each input, the outputs that read it, with the same weights.
    ///
    /// # Errors
    /// The host is out of memory.
    pub(super) fn transposed(&self) -> Result<Windows> {
        let (output, plain) = (self.list.len(), self.weights.is_empty());
        // If the windows have no weights, the weights of an input are the scales of the windows that contain it.
        let alike = self.list.windows(2).all(|pair| pair[0].scale == pair[1].scale);
        let scale = self.list.first().filter(|_| alike).map_or(1.0, |window| window.scale);
        // If the windows have no weights, there are none here, or one per output; else one per pair of input and
        // output.
        let mut weights: Vec<f32> = host_list(if plain { output } else { self.reads() })?;
        if plain && !alike {
            weights.extend(self.list.iter().map(|window| window.scale));
        }
        let mut outputs = 0..0;
        let mut list = host_list(self.input)?;
        list.extend((0..self.input).map(|r| {
            while outputs.start < output && self.list[outputs.start].inputs().end <= r {
                outputs.start += 1;
            }
            outputs.end = outputs.end.max(outputs.start);
            while outputs.end < output && self.list[outputs.end].inputs().start <= r {
                outputs.end += 1;
            }
            let window = Window::new(outputs.clone(), scale);
            if plain {
                return Window { weights: if alike { 0 } else { window.first }, ..window };
            }
            let at = weights.len() as u32;
            weights.extend(self.list[outputs.clone()].iter().map(|w| {
                self.weights[w.weights as usize + r - w.first as usize] * if alike { 1.0 } else { w.scale }
            }));
            Window { weights: at, ..window }
        }));
        Ok(Windows { list, weights, input: output })
    }

    /// Splits windows into two steps if one is longer than `most`: parts of the windows, and the sums of the parts.
    ///
    /// # Errors
    /// More parts than a kernel can count, or the host is out of memory.
    pub(super) fn split(&self, op: &'static str, most: usize) -> Result<Option<[Windows; 2]>> {
        if self.longest() <= most {
            return Ok(None);
        }
        let count = self.list.iter().map(|window| window.inputs().len().div_ceil(most)).sum();
        to_u32(op, count)?;
        let mut weights = host_list(self.weights.len())?;
        weights.extend_from_slice(&self.weights);
        let mut parts = Windows { list: host_list(count)?, weights, input: self.input };
        let mut sums = Windows { list: host_list(self.list.len())?, weights: Vec::new(), input: 0 };
        for window in &self.list {
            let first = parts.list.len();
            for begin in window.inputs().step_by(most) {
                let done = begin as u32 - window.first;
                let length = (window.length - done).min(most as u32);
                let weights = if self.weights.is_empty() { 0 } else { window.weights + done };
                parts.list.push(Window { first: begin as u32, length, weights, scale: 1.0 });
            }
            sums.list.push(Window::new(first..parts.list.len(), window.scale));
        }
        sums.input = parts.list.len();
        Ok(Some([parts, sums]))
    }

    /// The weight of element `k` of a window.
    pub(super) fn weight(&self, window: &Window, k: usize) -> f32 {
        if self.weights.is_empty() { 1.0 } else { self.weights[window.weights as usize + k] }
    }

    /// The weighted sum over a window, not scaled.
    pub(super) fn sum(&self, window: &Window, x: &[f32]) -> f32 {
        let x = &x[window.inputs()];
        match self.weights.is_empty() {
            true => x.iter().sum(),
            false => {
                self.weights[window.weights as usize..].iter().zip(x).map(|(weight, x)| weight * x).sum()
            }
        }
    }

    /// The length of the longest window.
    pub(super) fn longest(&self) -> usize {
        self.list.iter().map(|window| window.length as usize).max().unwrap_or(0)
    }

    /// The size of the table in bytes.
    pub(super) fn bytes(&self) -> u64 {
        (size_of_val(&*self.list) + size_of_val(&*self.weights)) as u64
    }

    /// The total length of all windows.
    pub(super) fn reads(&self) -> usize {
        self.list.iter().map(|window| window.length as usize).sum()
    }
}

/// `1 / n`.
fn mean_weight(n: usize) -> f32 {
    (1.0 / n as f64) as f32
}
