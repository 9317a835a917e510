//! The public options of convolutions.

use super::geometry::{Geometry, Slide};
use crate::Result;
use crate::ops::unary::Activation;
use crate::shape::Shape;

/// Options of a 1-D convolution. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conv1dOptions {
    /// Input elements from one output element to the next; 1 by default.
    pub stride: usize,
    /// Zeros on each side of the input; 0 by default.
    pub padding: usize,
    /// Input elements from one tap of the kernel to the next; 1 by default.
    pub dilation: usize,
    /// The number of groups of channels; 1 by default.
    pub groups: usize,
    /// The activation that is applied to the sum; none by default.
    pub activation: Activation,
}

/// Options of a 2-D convolution; pairs are (vertical, horizontal). The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conv2dOptions {
    /// Input pixels from one output pixel to the next; 1 by default.
    pub stride: [usize; 2],
    /// Rows and columns of zeros on each side of the input; 0 by default.
    pub padding: [usize; 2],
    /// Input pixels from one tap of the kernel to the next; 1 by default.
    pub dilation: [usize; 2],
    /// The number of groups of channels, each convolved separately; 1 by default. As many groups as input channels make
    /// a depthwise convolution.
    pub groups: usize,
    /// The activation that is applied to the sum; none by default.
    pub activation: Activation,
}

/// Options of a 1-D transposed convolution. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvTranspose1dOptions {
    /// Output elements from one input element to the next; 1 by default.
    pub stride: usize,
    /// Elements removed from each side of the output; 0 by default.
    pub padding: usize,
    /// Elements added to the end of the output; 0 by default.
    pub output_padding: usize,
    /// Output elements from one tap of the kernel to the next; 1 by default.
    pub dilation: usize,
    /// The number of groups of channels; 1 by default.
    pub groups: usize,
    /// The activation that is applied to the sum; none by default.
    pub activation: Activation,
}

/// Options of a 2-D transposed convolution; pairs are (vertical, horizontal). The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvTranspose2dOptions {
    /// Output pixels from one input pixel to the next; 1 by default.
    pub stride: [usize; 2],
    /// Rows and columns removed from each side of the output: the padding of the convolution in the other direction; 0
    /// by default.
    pub padding: [usize; 2],
    /// Rows and columns added below and to the right of the output, below the stride or the dilation; 0 by default. A
    /// convolution of stride s maps s sizes of its input to one size; this chooses among the s.
    pub output_padding: [usize; 2],
    /// Output pixels from one tap of the kernel to the next; 1 by default.
    pub dilation: [usize; 2],
    /// The number of groups of channels; 1 by default.
    pub groups: usize,
    /// The activation that is applied to the sum; none by default.
    pub activation: Activation,
}

impl Default for Conv1dOptions {
    fn default() -> Conv1dOptions {
        Conv1dOptions { stride: 1, padding: 0, dilation: 1, groups: 1, activation: Activation::None }
    }
}

impl Default for Conv2dOptions {
    fn default() -> Conv2dOptions {
        Conv2dOptions {
            stride: [1; 2],
            padding: [0; 2],
            dilation: [1; 2],
            groups: 1,
            activation: Activation::None,
        }
    }
}

impl Default for ConvTranspose1dOptions {
    fn default() -> ConvTranspose1dOptions {
        ConvTranspose1dOptions {
            stride: 1,
            padding: 0,
            output_padding: 0,
            dilation: 1,
            groups: 1,
            activation: Activation::None,
        }
    }
}

impl Default for ConvTranspose2dOptions {
    fn default() -> ConvTranspose2dOptions {
        ConvTranspose2dOptions {
            stride: [1; 2],
            padding: [0; 2],
            output_padding: [0; 2],
            dilation: [1; 2],
            groups: 1,
            activation: Activation::None,
        }
    }
}

impl Conv1dOptions {
    pub(super) fn geometry(&self, x: &Shape, weight: &Shape) -> Result<Geometry> {
        let &Conv1dOptions { stride, padding, dilation, groups, .. } = self;
        Slide {
            op: "conv1d",
            axes: 1,
            stride: [1, stride],
            padding: [0, padding],
            dilation: [1, dilation],
            groups,
        }
        .forward(x, weight)
    }
}

impl Conv2dOptions {
    pub(super) fn geometry(&self, x: &Shape, weight: &Shape) -> Result<Geometry> {
        let &Conv2dOptions { stride, padding, dilation, groups, .. } = self;
        Slide { op: "conv2d", axes: 2, stride, padding, dilation, groups }.forward(x, weight)
    }
}

impl ConvTranspose1dOptions {
    pub(super) fn geometry(&self, x: &Shape, weight: &Shape) -> Result<Geometry> {
        let &ConvTranspose1dOptions { stride, padding, output_padding, dilation, groups, .. } = self;
        Slide {
            op: "conv_transpose1d",
            axes: 1,
            stride: [1, stride],
            padding: [0, padding],
            dilation: [1, dilation],
            groups,
        }
        .transposed([0, output_padding], x, weight)
    }
}

impl ConvTranspose2dOptions {
    pub(super) fn geometry(&self, x: &Shape, weight: &Shape) -> Result<Geometry> {
        let &ConvTranspose2dOptions { stride, padding, output_padding, dilation, groups, .. } = self;
        Slide { op: "conv_transpose2d", axes: 2, stride, padding, dilation, groups }.transposed(
            output_padding,
            x,
            weight,
        )
    }
}
