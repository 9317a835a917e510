//! Convolutions, forward and transposed.
//!
//! A convolution links pixels of a small plane with pixels of a big one: pixel o of the small plane and tap k of the
//! kernel are linked with pixel `o stride + k dilation - padding` of the big plane, if it exists. A convolution sums
//! over the links of a pixel of the small plane; a transposed convolution over those of a pixel of the big plane; the
//! gradient of the weight over those of a tap.

use super::pointwise::{sigmoid, tanh};
use crate::ops::unary::Activation;
use crate::proof::{Array, Bounded, Case, Gen, Input, Row, Work, unravel};
use crate::tensor::Tensor;
use crate::{
    Conv1dOptions, Conv2dKernel, Conv2dOptions, ConvTranspose1dOptions, ConvTranspose2dOptions, Result,
};

pub(super) const ROWS: &[Row] = &[
    Row { name: "conv2d", covers: &["conv2d", "conv2d_with"], draw: conv2d, bench: None },
    Row { name: "conv2d depthwise", covers: &["conv2d"], draw: depthwise, bench: None },
    Row { name: "conv1d", covers: &["conv1d"], draw: conv1d, bench: Some(conv1d_bench) },
    Row {
        name: "conv_transpose2d",
        covers: &["conv_transpose2d", "conv_transpose2d_with"],
        draw: conv_transpose2d,
        bench: Some(conv_transpose2d_bench),
    },
    Row { name: "conv_transpose1d", covers: &["conv_transpose1d"], draw: conv_transpose1d, bench: None },
];

/// The arguments of a convolution. In one dimension, planes have a single row.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Number of axes of a plane, 1 or 2.
    axes: usize,
    transposed: bool,
    images: usize,
    groups: usize,
    /// Channels per group of the small planes (`rows`) and of the big planes (`depth`).
    rows: usize,
    depth: usize,
    small: [usize; 2],
    big: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    /// The output padding of a transposed convolution.
    extra: [usize; 2],
    dilation: [usize; 2],
}

impl Sizes {
    /// Random sizes with at most `g.size` multiply-adds, near the kernels' tile sizes: 8 and 16 channels, 8, 32 and 64
    /// pixels.
    fn draw(g: &mut Gen, axes: usize, transposed: bool, depthwise: bool) -> Sizes {
        const ROWS: [usize; 10] = [0, 1, 1, 2, 3, 7, 8, 9, 16, 17];
        const DEPTH: [usize; 6] = [0, 1, 1, 2, 3, 5];
        let (few, many) = if transposed { (&ROWS[..], &DEPTH[..]) } else { (&DEPTH[..], &ROWS[..]) };
        let mut s = Sizes {
            axes,
            transposed,
            images: g.choose(&[0, 1, 1, 1, 2, 3]),
            groups: g.choose(&[1, 1, 2, 3]),
            rows: g.choose(many),
            depth: g.choose(few),
            small: [0; 2],
            big: [0; 2],
            kernel: [g.range(1..=5), g.range(1..=5)],
            stride: [g.range(1..=3), g.range(1..=3)],
            padding: [g.range(0..=3), g.range(0..=3)],
            extra: [0; 2],
            dilation: [g.range(1..=2), g.range(1..=3)],
        };
        if depthwise {
            (s.groups, s.depth) = (g.range(2..=5), 1);
        }
        if g.one_in(3) {
            (s.kernel, s.stride, s.padding) = ([1; 2], [1; 2], [0; 2]);
        }
        let mut plane = [g.some_length(), g.some_length()];
        if axes == 1 {
            (plane[0], s.kernel[0], s.stride[0], s.padding[0], s.dilation[0]) = (1, 1, 1, 0, 1);
        }
        // After 40 rounds of halving everything is as small as it gets.
        for _ in 0..40 {
            s.fit(g, plane);
            let links = s.rows * s.depth * area(s.small) * area(s.kernel);
            let elements = s.rows * area(s.small) + s.depth * area(s.big);
            if s.images * s.groups * links.max(elements) <= g.size {
                break;
            }
            // Halves a random subset, so that any length may stay long. A depthwise convolution keeps at least two
            // groups.
            let [height, width] = &mut plane;
            let [kernel_h, kernel_w] = &mut s.kernel;
            for length in [&mut s.images, &mut s.rows, &mut s.depth, height, width, kernel_h, kernel_w] {
                if g.flag() {
                    *length = length.div_ceil(2);
                }
            }
            s.groups = s.groups.min(g.range(1..=s.groups).max(if depthwise { 2 } else { 1 }));
        }
        s
    }

    /// Computes the sizes of both planes from the plane of x.
    fn fit(&mut self, g: &mut Gen, plane: [usize; 2]) {
        for (k, &plane) in plane.iter().enumerate() {
            let (stride, dilation) = (self.stride[k], self.dilation[k]);
            if self.transposed {
                let spare = stride.max(dilation);
                self.extra[k] = if self.axes == 1 && k == 0 { 0 } else { g.below(spare) };
                let whole = (plane - 1) * stride + (self.kernel[k] - 1) * dilation + 1 + self.extra[k];
                self.padding[k] = self.padding[k].min((whole - 1) / 2);
                (self.small[k], self.big[k]) = (plane, whole - 2 * self.padding[k]);
            } else {
                let padded = plane + 2 * self.padding[k];
                self.kernel[k] = self.kernel[k].min((padded - 1) / dilation + 1);
                let room = padded - (self.kernel[k] - 1) * dilation - 1;
                (self.big[k], self.small[k]) = (plane, room / stride + 1);
            }
        }
    }

    /// The shape `[a, b, ..plane]`.
    fn shape(&self, outer: [usize; 2], plane: [usize; 2]) -> Vec<usize> {
        [&outer[..], &plane[2 - self.axes..]].concat()
    }

    fn small_shape(&self) -> Vec<usize> {
        self.shape([self.images, self.groups * self.rows], self.small)
    }

    fn big_shape(&self) -> Vec<usize> {
        self.shape([self.images, self.groups * self.depth], self.big)
    }

    fn weight_shape(&self) -> Vec<usize> {
        self.shape([self.groups * self.rows, self.depth], self.kernel)
    }

    /// Calls `link` for each link, with the positions in the small tensor, the weight and the big tensor.
    fn links(&self, mut link: impl FnMut([usize; 3])) {
        let &Sizes { rows, depth, kernel, stride, padding, dilation, .. } = self;
        let small = [self.images, self.groups * rows, self.small[0], self.small[1]];
        for o in 0..small.iter().product() {
            let [image, channel, row, col] = unravel(o, &small)[..] else { return };
            for tap in 0..depth * kernel[0] * kernel[1] {
                let (c, ky, kx) = (tap / kernel[1] / kernel[0], tap / kernel[1] % kernel[0], tap % kernel[1]);
                let reached = |k: usize, at: usize, by: usize| {
                    let place = at * stride[k] + by * dilation[k];
                    place.checked_sub(padding[k]).filter(|&place| place < self.big[k])
                };
                if let (Some(row), Some(col)) = (reached(0, row, ky), reached(1, col, kx)) {
                    let plane = (image * self.groups + channel / rows) * depth + c;
                    let weight = channel * depth * kernel[0] * kernel[1] + tap;
                    link([o, weight, (plane * self.big[0] + row) * self.big[1] + col]);
                }
            }
        }
    }

    /// Computes tensor `to` of (small, weight, big): each element is the sum over its links of the products of the
    /// other two.
    ///
    /// A kernel may also add products for missing links: a 0 outside of a plane times an element of the other tensor.
    /// If such an element may not be finite, the sum has no bound.
    fn sum(&self, to: usize, shape: Vec<usize>, of: [&Array; 3]) -> Array {
        let (outside, inside) = [(2, 1), (2, 0), (0, 1)][to];
        let (outer, inner) = (of[outside], of[inside]);
        let is_odd = |x: &Bounded| !x.value().is_finite() || x.error() == f64::INFINITY;
        let mut terms = vec![Vec::new(); shape.iter().product()];
        let mut odd_linked = vec![0; terms.len()];
        self.links(|places| {
            let factor = inner.data[places[inside]];
            terms[places[to]].push(outer.data[places[outside]] * factor);
            odd_linked[places[to]] += usize::from(is_odd(&factor));
        });
        let odd = inner.data.iter().enumerate().filter(|(_, factor)| is_odd(factor));
        let odd: Vec<Vec<usize>> = odd.map(|(at, _)| unravel(at, &inner.shape)).collect();
        let mut sums = terms.into_iter().zip(odd_linked);
        Array::from_fn(shape, |index| {
            let channel = index[1];
            let meets = |its: &&Vec<usize>| match to {
                0 => its[0] == channel,
                1 => its[1] == index[0],
                _ => its[0] / self.rows == channel / self.depth && its[1] == channel % self.depth,
            };
            let (terms, linked) = sums.next().unwrap_or_default();
            match odd.iter().filter(meets).count() > linked {
                true => Bounded::UNKNOWN,
                false => Bounded::sum(terms),
            }
        })
    }

    /// The sums, plus the bias of each channel.
    fn forward(&self, x: &[Array]) -> Array {
        let none = Array::zeros(vec![0]);
        let sums = match self.transposed {
            false => self.sum(0, self.small_shape(), [&none, &x[1], &x[0]]),
            true => self.sum(2, self.big_shape(), [&x[0], &x[1], &none]),
        };
        let Some(bias) = x.get(2) else { return sums };
        Array::from_fn(sums.shape.clone(), |index| sums.at(index) + bias.data[index[1]])
    }

    /// The gradients of the inputs, from the gradient of the sums.
    fn backward(&self, x: &[Array], dy: &Array) -> Vec<Option<Array>> {
        let none = Array::zeros(vec![0]);
        let (dx, dw) = match self.transposed {
            false => (
                self.sum(2, self.big_shape(), [dy, &x[1], &none]),
                self.sum(1, self.weight_shape(), [dy, &none, &x[0]]),
            ),
            true => (
                self.sum(0, self.small_shape(), [&none, &x[1], dy]),
                self.sum(1, self.weight_shape(), [&x[0], &none, dy]),
            ),
        };
        let db = x.get(2).map(|bias| {
            let mut terms = vec![Vec::new(); bias.numel()];
            let channel = |at: usize| unravel(at, &dy.shape)[1];
            dy.data.iter().enumerate().for_each(|(at, &dy)| terms[channel(at)].push(dy));
            Array { shape: bias.shape.clone(), data: terms.into_iter().map(Bounded::sum).collect() }
        });
        [Some(dx), Some(dw), db].into_iter().take(x.len()).collect()
    }

    fn run(&self, t: &[Tensor], activation: Activation, kernel: Conv2dKernel) -> Result<Tensor> {
        let &Sizes { stride, padding, extra: output_padding, dilation, groups, .. } = self;
        let (x, weight, bias) = (&t[0], &t[1], t.get(2));
        let ([_, s], [_, p], [_, e], [_, d]) = (stride, padding, output_padding, dilation);
        match (self.axes, self.transposed) {
            (1, false) => {
                let options = Conv1dOptions { stride: s, padding: p, dilation: d, groups, activation };
                x.conv1d(weight, bias, options)
            }
            (1, true) => {
                let (stride, padding, output_padding, dilation) = (s, p, e, d);
                let options =
                    ConvTranspose1dOptions { stride, padding, output_padding, dilation, groups, activation };
                x.conv_transpose1d(weight, bias, options)
            }
            (_, false) => {
                let options = Conv2dOptions { stride, padding, dilation, groups, activation };
                x.conv2d_with(weight, bias, options, kernel)
            }
            (_, true) => {
                let options =
                    ConvTranspose2dOptions { stride, padding, output_padding, dilation, groups, activation };
                x.conv_transpose2d_with(weight, bias, options, kernel)
            }
        }
    }

    fn case(self, g: &mut Gen, activation: Activation, kernel: Conv2dKernel) -> Case {
        let (x, channels) = match self.transposed {
            false => (self.big_shape(), self.groups * self.rows),
            true => (self.small_shape(), self.groups * self.depth),
        };
        let mut inputs: Vec<Input> = vec![g.values(&x, -1.0, 1.0), g.values(&self.weight_shape(), -1.0, 1.0)];
        if g.flag() {
            inputs.push(g.values(&[channels], -1.0, 1.0));
        }
        Case::new(
            format!("{self:?}, {activation:?}, {kernel:?}"),
            inputs,
            move |t| self.run(t, activation, kernel),
            move |x| self.forward(x).map(|sum| activated(activation, sum)),
        )
        .gradient(move |x, dy| {
            let sums = self.forward(x);
            self.backward(x, &sums.zip(dy, |sum, dy| dy * slope(activation, sum)))
        })
    }
}

/// Number of elements of a plane.
fn area(plane: [usize; 2]) -> usize {
    plane[0] * plane[1]
}

/// Applies the activation to a sum.
fn activated(activation: Activation, y: Bounded) -> Bounded {
    match activation {
        Activation::None => y,
        Activation::Relu => y.max(Bounded::ZERO),
        Activation::Sigmoid => sigmoid(y),
        Activation::Tanh => tanh(y),
    }
}

/// The derivative of the activation.
fn slope(activation: Activation, y: Bounded) -> Bounded {
    let z = activated(activation, y);
    match activation {
        Activation::None => Bounded::ONE,
        // No bound at the corner.
        Activation::Relu if y.error() > 0.0 && y.value().abs() <= y.error() => Bounded::UNKNOWN,
        Activation::Relu if y.value() <= 0.0 => Bounded::ZERO,
        Activation::Relu => Bounded::ONE,
        Activation::Sigmoid => z * (-z + 1.0),
        Activation::Tanh => (-z + 1.0) * (z + 1.0),
    }
}

/// A case with a random activation and kernel.
fn draw(g: &mut Gen, axes: usize, transposed: bool, depthwise: bool) -> Case {
    use Activation::{None, Relu, Sigmoid, Tanh};
    use Conv2dKernel::{Auto, Naive, Registers};
    let sizes = Sizes::draw(g, axes, transposed, depthwise);
    let (activation, kernel) =
        (g.choose(&[None, None, Relu, Sigmoid, Tanh]), g.choose(&[Auto, Auto, Naive, Registers]));
    sizes.case(g, activation, kernel)
}

fn conv2d(g: &mut Gen) -> Case {
    draw(g, 2, false, false)
}

fn depthwise(g: &mut Gen) -> Case {
    draw(g, 2, false, true)
}

fn conv1d(g: &mut Gen) -> Case {
    let depthwise = g.one_in(4);
    draw(g, 1, false, depthwise)
}

fn conv_transpose2d(g: &mut Gen) -> Case {
    let depthwise = g.one_in(4);
    draw(g, 2, true, depthwise)
}

fn conv_transpose1d(g: &mut Gen) -> Case {
    let depthwise = g.one_in(4);
    draw(g, 1, true, depthwise)
}

/// A case for benches.
fn bench(g: &mut Gen, sizes: Sizes) -> (Work, Case) {
    let mut links = 0;
    sizes.links(|_| links += 1);
    (Work::Flops(2 * links), sizes.case(g, Activation::None, Conv2dKernel::Auto))
}

fn conv1d_bench(g: &mut Gen) -> (Work, Case) {
    let line = Sizes {
        axes: 1,
        transposed: false,
        images: 1,
        groups: 1,
        rows: 64,
        depth: 32,
        small: [1, 1024],
        big: [1, 1024],
        kernel: [1, 5],
        stride: [1; 2],
        padding: [0, 2],
        extra: [0; 2],
        dilation: [1; 2],
    };
    bench(g, line)
}

fn conv_transpose2d_bench(g: &mut Gen) -> (Work, Case) {
    let planes = Sizes {
        axes: 2,
        transposed: true,
        images: 1,
        groups: 1,
        rows: 32,
        depth: 32,
        small: [24; 2],
        big: [48; 2],
        kernel: [4; 2],
        stride: [2; 2],
        padding: [1; 2],
        extra: [0; 2],
        dilation: [1; 2],
    };
    bench(g, planes)
}
