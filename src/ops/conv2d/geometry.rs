//! The sizes of a convolution: the shape rules of both directions, and the numbers that the kernels and their CPU twins
//! use.

use crate::shape::Shape;
use crate::{Error, Result};

/// How a kernel slides along one or two axes; along one, it slides over a plane of one row. Pairs are (vertical,
/// horizontal).
#[derive(Debug, Clone, Copy)]
pub(super) struct Slide {
    pub(super) op: &'static str,
    /// Axes that the kernel slides along, 1 or 2.
    pub(super) axes: usize,
    pub(super) stride: [usize; 2],
    pub(super) padding: [usize; 2],
    pub(super) dilation: [usize; 2],
    pub(super) groups: usize,
}

/// The checked sizes of a convolution from `input` to `output`. A transposed convolution goes from `output` to `input`.
/// The gradient of each goes in the other direction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    axes: usize,
    pub(super) images: usize,
    pub(super) groups: usize,
    /// Output channels per group.
    pub(super) rows: usize,
    /// Input channels per group.
    pub(super) depth: usize,
    pub(super) input: [usize; 2],
    pub(super) output: [usize; 2],
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) padding: [usize; 2],
    pub(super) dilation: [usize; 2],
}

/// The sizes of a tensor of images or of a weight: its two outer lengths, and its plane.
struct Sizes {
    outer: [usize; 2],
    plane: [usize; 2],
}

impl Slide {
    /// The sizes of x and of the weight. `outer`: the weight's outer axes, for error messages.
    #[track_caller]
    fn sizes(&self, x: &Shape, weight: &Shape, outer: &str) -> Result<[Sizes; 2]> {
        let sizes = |shape: &Shape| match (self.axes, &shape[..]) {
            (2, &[a, b, height, width]) => Some(Sizes { outer: [a, b], plane: [height, width] }),
            (1, &[a, b, length]) => Some(Sizes { outer: [a, b], plane: [1, length] }),
            _ => None,
        };
        let (Some(x_sizes), Some(weight_sizes)) = (sizes(x), sizes(weight)) else {
            let (plane, kernel) = if self.axes == 2 { ("h, w", "kh, kw") } else { ("l", "k") };
            let message =
                format!("input {x} and weight {weight}: wants [n, c, {plane}] and [{outer}, {kernel}]");
            return Err(Error::shape(self.op, message));
        };
        if self.stride.contains(&0) || self.dilation.contains(&0) || self.groups == 0 {
            let [stride, dilation] = [&self.stride, &self.dilation].map(|pair| self.shown(pair));
            let groups = self.groups;
            let message =
                format!("stride {stride:?}, dilation {dilation:?} and groups {groups} must be positive");
            return Err(Error::argument(self.op, message));
        }
        Ok([x_sizes, weight_sizes])
    }

    /// The elements of a pair that belong to the axes.
    fn shown<'a>(&self, pair: &'a [usize; 2]) -> &'a [usize] {
        &pair[2 - self.axes..]
    }

    #[track_caller]
    fn indivisible(&self, x: &Shape, weight: &Shape, takes: usize) -> Error {
        Error::shape(
            self.op,
            match self.groups {
                1 => format!("input {x} has {} channels, weight {weight} takes {takes}", x[1]),
                groups => format!("input {x} and weight {weight} do not divide into {groups} groups"),
            },
        )
    }

    /// Checks a padded length. The kernels' positions are 32-bit, and half of their range is for positions before the
    /// first.
    #[track_caller]
    fn counted(&self, padded: Option<usize>, x: &Shape) -> Result<usize> {
        padded.filter(|&padded| padded < 1 << 31).ok_or_else(|| {
            let padding = self.shown(&self.padding);
            let message = format!("input {x} with padding {padding:?} is larger than a kernel can count");
            Error::shape(self.op, message)
        })
    }

    /// The sizes of a convolution of `x` `[n, c_in, h, w]` with a weight `[c_out, c_in / groups, kh, kw]`.
    #[track_caller]
    pub(super) fn forward(&self, x: &Shape, weight: &Shape) -> Result<Geometry> {
        let [from, taps] = self.sizes(x, weight, "c_out, c / groups")?;
        let ([images, channels], [out, depth]) = (from.outer, taps.outer);
        if channels != depth.saturating_mul(self.groups) || out % self.groups != 0 {
            return Err(self.indivisible(x, weight, depth));
        }
        let mut output = [0; 2];
        for (axis, output) in output.iter_mut().enumerate() {
            let padded = self.padding[axis].checked_mul(2).and_then(|p| p.checked_add(from.plane[axis]));
            let padded = self.counted(padded, x)?;
            let reach = taps.plane[axis].checked_sub(1).and_then(|n| n.checked_mul(self.dilation[axis]));
            let Some(room) = reach.and_then(|reach| padded.checked_sub(reach.checked_add(1)?)) else {
                let [dilation, padding] = [&self.dilation, &self.padding].map(|pair| self.shown(pair));
                let message = format!(
                    "weight {weight} with dilation {dilation:?} does not fit in input {x} with padding {padding:?}"
                );
                return Err(Error::shape(self.op, message));
            };
            *output = room / self.stride[axis] + 1;
        }
        Ok(self.geometry(images, [out / self.groups, depth], from.plane, output, taps.plane))
    }

    /// The sizes of a transposed convolution of `x` `[n, c_in, h, w]` with a weight `[c_in, c_out / groups, kh, kw]`:
    /// the sizes of the convolution from its result to x.
    #[track_caller]
    pub(super) fn transposed(&self, extra: [usize; 2], x: &Shape, weight: &Shape) -> Result<Geometry> {
        let [from, taps] = self.sizes(x, weight, "c, c_out / groups")?;
        let ([images, channels], [rows, depth]) = (from.outer, taps.outer);
        if channels != rows || rows % self.groups != 0 {
            return Err(self.indivisible(x, weight, rows));
        }
        let mut input = [0; 2];
        for axis in 0..2 {
            let (stride, dilation) = (self.stride[axis], self.dilation[axis]);
            if extra[axis] >= stride.max(dilation) {
                let message = format!(
                    "output padding {:?} is not below the stride {:?} or the dilation {:?}",
                    self.shown(&extra),
                    self.shown(&self.stride),
                    self.shown(&self.dilation)
                );
                return Err(Error::argument(self.op, message));
            }
            let last = from.plane[axis].checked_sub(1).zip(taps.plane[axis].checked_sub(1));
            let Some((last_pixel, last_tap)) = last else {
                let message = format!("input {x} and weight {weight}: an empty plane");
                return Err(Error::shape(self.op, message));
            };
            let spans = last_pixel.checked_mul(stride).zip(last_tap.checked_mul(dilation));
            let padded = spans.and_then(|(a, b)| a.checked_add(b)?.checked_add(extra[axis] + 1));
            let padded = self.counted(padded, x)?;
            let left = self.padding[axis].checked_mul(2).and_then(|cut| padded.checked_sub(cut));
            input[axis] = left.filter(|&left| left > 0).ok_or_else(|| {
                let padding = self.shown(&self.padding);
                let message = format!("padding {padding:?} leaves nothing of input {x} by weight {weight}");
                Error::shape(self.op, message)
            })?;
        }
        Ok(self.geometry(images, [rows / self.groups, depth], input, from.plane, taps.plane))
    }

    fn geometry(
        &self,
        images: usize,
        [rows, depth]: [usize; 2],
        input: [usize; 2],
        output: [usize; 2],
        kernel: [usize; 2],
    ) -> Geometry {
        let &Slide { axes, stride, padding, dilation, groups, .. } = self;
        Geometry { axes, images, groups, rows, depth, input, output, kernel, stride, padding, dilation }
    }
}

impl Geometry {
    /// Taps of the kernel.
    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Columns of a group's weight as a matrix: its input channels times the taps.
    pub(super) fn columns(&self) -> usize {
        self.depth * self.taps()
    }

    pub(super) fn input_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    pub(super) fn output_plane(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// `[a, b]` followed by the axes of a plane.
    fn shape(&self, outer: &[usize], plane: [usize; 2]) -> Result<Shape> {
        Shape::new([outer, &plane[2 - self.axes..]].concat())
    }

    pub(super) fn input_shape(&self) -> Result<Shape> {
        self.shape(&[self.images, self.groups * self.depth], self.input)
    }

    pub(super) fn output_shape(&self) -> Result<Shape> {
        self.shape(&[self.images, self.groups * self.rows], self.output)
    }

    /// The shape of `slices` partial sums of the gradient of the weight.
    pub(super) fn partial_shape(&self, slices: usize) -> Result<Shape> {
        self.shape(&[slices, self.groups * self.rows, self.depth], self.kernel)
    }

    /// All axes but the channels, over which the gradient of the bias is summed.
    pub(super) fn bias_axes(&self) -> &'static [isize] {
        if self.axes == 2 { &[0, 2, 3] } else { &[0, 2] }
    }

    /// The input pixel, along one axis, that tap `tap` of output pixel `out` reads; `None` in the padding.
    pub(super) fn reached(&self, axis: usize, out: usize, tap: usize) -> Option<usize> {
        let at = (out * self.stride[axis] + tap * self.dilation[axis]).checked_sub(self.padding[axis])?;
        (at < self.input[axis]).then_some(at)
    }
}
