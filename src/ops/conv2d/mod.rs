//! 2-D convolution with bias and activation in its epilogue, and its gradients.
//!
//! `cpu.rs` has the CPU twins, `gpu.rs` the kernels of `shaders/conv2d*.wgsl`.

mod cpu;
mod gpu;

use super::{arity, floats};
use crate::gpu::Recorder;
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, Saved, Saves, apply};
use crate::ops::unary::Activation;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::{Error, Result};

pub(crate) use gpu::KERNELS;

/// How a convolution slides; pairs are (vertical, horizontal). The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conv2dOptions {
    /// Input pixels from one output pixel to the next; 1 by default.
    pub stride: [usize; 2],
    /// Rows and columns of zeros on each side of the input; 0 by default.
    pub padding: [usize; 2],
    /// Input pixels from one tap of the kernel to the next; 1 by default.
    pub dilation: [usize; 2],
    /// Into how many groups the channels are divided, each convolved for itself; 1 by default. As many as there are
    /// input channels makes a depthwise convolution.
    pub groups: usize,
    /// What is applied to the sum; nothing by default.
    pub activation: Activation,
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

/// Which of the kernels of `shaders/conv2d*.wgsl` computes a convolution, and its gradients, on a GPU. The CPU has one
/// way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conv2dKernel {
    /// The fastest for the adapter.
    #[default]
    Auto,
    /// One invocation an element: the first rung of the ladder, for comparison.
    Naive,
    /// 8 channels at 8 pixels an invocation, in registers.
    Registers,
    /// 16 channels at 8 pixels an invocation, the weights shared by subgroup broadcast; only where every subgroup has 4
    /// or 8 invocations. The gradient with regard to the weight is computed as by `Registers`.
    Subgroup,
}

impl Conv2dOptions {
    /// The output's shape for an input `[n, c, h, w]` and a weight `[c_out, c / groups, kh, kw]`.
    ///
    /// # Errors
    /// As [`Tensor::conv2d`].
    pub fn output_shape(&self, input: Shape, weight: Shape) -> Result<Shape> {
        Geometry::new(&input, &weight, self)?.output_shape()
    }
}

/// The sizes of a convolution, checked.
#[derive(Debug, Clone, Copy)]
struct Geometry {
    images: usize,
    groups: usize,
    /// Output channels a group.
    rows: usize,
    /// Input channels a group.
    depth: usize,
    input: [usize; 2],
    output: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
}

impl Geometry {
    fn new(x: &Shape, weight: &Shape, options: &Conv2dOptions) -> Result<Geometry> {
        let &Conv2dOptions { stride, padding, dilation, groups, .. } = options;
        let (&[images, channels, height, width], &[out, depth, kernel_h, kernel_w]) = (&x[..], &weight[..])
        else {
            let message =
                format!("input {x} and weight {weight}: wants [n, c, h, w] and [c_out, c / groups, kh, kw]");
            return Err(Error::shape("conv2d", message));
        };
        if stride.contains(&0) || dilation.contains(&0) || groups == 0 {
            let message =
                format!("stride {stride:?}, dilation {dilation:?} and groups {groups} must be positive");
            return Err(Error::argument("conv2d", message));
        }
        if channels != depth.saturating_mul(groups) || out % groups != 0 {
            let message = format!("input {x} and weight {weight} do not divide into {groups} groups");
            return Err(Error::shape("conv2d", message));
        }
        let (input, kernel) = ([height, width], [kernel_h, kernel_w]);
        let mut output = [0; 2];
        for axis in 0..2 {
            // The kernels count in 32 bits, and need one of them for places before the input's first.
            let padded = padding[axis].checked_mul(2).and_then(|p| p.checked_add(input[axis]));
            let Some(padded) = padded.filter(|&padded| padded < 1 << 31) else {
                let message = format!("input {x} with padding {padding:?} is larger than a kernel can count");
                return Err(Error::shape("conv2d", message));
            };
            let reach = kernel[axis].checked_sub(1).and_then(|taps| taps.checked_mul(dilation[axis]));
            let Some(room) = reach.and_then(|reach| padded.checked_sub(reach.checked_add(1)?)) else {
                let message = format!(
                    "weight {weight} with dilation {dilation:?} does not fit in input {x} with padding {padding:?}"
                );
                return Err(Error::shape("conv2d", message));
            };
            output[axis] = room / stride[axis] + 1;
        }
        let rows = out / groups;
        Ok(Geometry { images, groups, rows, depth, input, output, kernel, stride, padding, dilation })
    }

    /// Taps of the kernel.
    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Columns of a group's weight as a matrix: its channels times the taps.
    fn columns(&self) -> usize {
        self.depth * self.taps()
    }

    fn input_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn output_plane(&self) -> usize {
        self.output[0] * self.output[1]
    }

    fn input_shape(&self) -> Result<Shape> {
        Shape::new([self.images, self.groups * self.depth, self.input[0], self.input[1]])
    }

    fn output_shape(&self) -> Result<Shape> {
        Shape::new([self.images, self.groups * self.rows, self.output[0], self.output[1]])
    }

    /// The input's pixel, along one axis, that tap `tap` of output pixel `out` reads, unless it is in the padding.
    fn reached(&self, axis: usize, out: usize, tap: usize) -> Option<usize> {
        let at = (out * self.stride[axis] + tap * self.dilation[axis]).checked_sub(self.padding[axis])?;
        (at < self.input[axis]).then_some(at)
    }
}

/// `activation(x * weight + bias)`; inputs x, weight and, where there is one, bias.
struct Conv2d {
    options: Conv2dOptions,
    kernel: Conv2dKernel,
}

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        floats("conv2d", inputs)?;
        let weight = inputs[1].shape;
        let out = Geometry::new(&inputs[0].shape, &weight, &self.options)?.output_shape()?;
        if let Some(bias) = inputs.get(2).filter(|bias| bias.shape != [weight[0]]) {
            let message = format!("a bias of shape {} for weight {weight}", bias.shape);
            return Err(Error::shape("conv2d", message));
        }
        Ok(vec![Meta::f32(out)])
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let geometry = Geometry::new(&inputs[0].shape(), &inputs[1].shape(), &self.options)?;
        let bias = inputs.get(2).map(CpuView::slice);
        cpu::forward(
            &geometry,
            self.options.activation,
            inputs[0].slice(),
            inputs[1].slice(),
            bias,
            outputs[0].data,
        );
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let geometry = Geometry::new(&inputs[0].layout.shape, &inputs[1].layout.shape, &self.options)?;
        let operands = gpu::Operands { x: inputs[0], weight: inputs[1], bias: inputs.get(2).copied() };
        gpu::forward(rec, self.kernel, &geometry, self.options.activation, operands, outputs[0])
    }

    fn saves(&self) -> Saves {
        match self.options.activation {
            Activation::None => Saves { inputs: &[0, 1], outputs: &[] },
            _ => Saves { inputs: &[0, 1], outputs: &[0] },
        }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let dy = match self.options.activation {
            Activation::None => grad.clone(),
            activation => activation.backward(saved.output(0)?, grad)?,
        };
        let dy = dy.contiguous()?; // once for all three
        let geometry = Geometry::new(&saved.shape(0), &saved.shape(1), &self.options)?;
        let kernel = self.kernel;
        let dx = || apply(InputGrad { geometry, kernel }, &[&dy, saved.input(1)?]);
        let dw = || {
            let slices = match dy.device().is_gpu() {
                true => gpu::slices(&geometry, kernel),
                false => cpu::slices(&geometry),
            };
            let partial = apply(WeightGrad { geometry, kernel, slices }, &[&dy, saved.input(0)?])?;
            if slices == 1 { partial.reshape(saved.shape(1)) } else { partial.sum(&[0], false) }
        };
        let mut grads = vec![needs[0].then(dx).transpose()?, needs[1].then(dw).transpose()?];
        if let Some(&needs_bias) = needs.get(2) {
            grads.push(needs_bias.then(|| dy.sum(&[0, 2, 3], false)).transpose()?);
        }
        Ok(grads)
    }
}

/// The gradient with regard to x; inputs the output's gradient, and the weight.
struct InputGrad {
    geometry: Geometry,
    kernel: Conv2dKernel,
}

impl Op for InputGrad {
    fn name(&self) -> &'static str {
        "conv2d_input_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        arity::<2>(self.name(), inputs)?;
        Ok(vec![Meta::f32(self.geometry.input_shape()?)])
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        cpu::input_grad(&self.geometry, inputs[0].slice(), inputs[1].slice(), outputs[0].data);
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        gpu::input_grad(rec, self.kernel, &self.geometry, inputs[0], inputs[1], outputs[0])
    }
}

/// The gradient with regard to the weight as partial sums `[slices, c_out, c_in / groups, kh, kw]`, whose sum it is;
/// inputs the output's gradient, and x.
struct WeightGrad {
    geometry: Geometry,
    kernel: Conv2dKernel,
    slices: usize,
}

impl Op for WeightGrad {
    fn name(&self) -> &'static str {
        "conv2d_weight_grad"
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        arity::<2>(self.name(), inputs)?;
        let Geometry { groups, rows, depth, kernel: [kh, kw], .. } = self.geometry;
        Ok(vec![Meta::f32(Shape::new([self.slices, groups * rows, depth, kh, kw])?)])
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        cpu::weight_grad(&self.geometry, self.slices, inputs[0].slice(), inputs[1].slice(), outputs[0].data);
        Ok(())
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        gpu::weight_grad(rec, self.kernel, &self.geometry, self.slices, inputs[0], inputs[1], outputs[0])
    }
}

impl Tensor {
    /// 2-D convolution (cross-correlation, as PyTorch's `conv2d`) of this `[n, c_in, h, w]` with `weight`
    /// `[c_out, c_in / groups, kh, kw]`, plus `bias` `[c_out]`, under an activation; gives `[n, c_out, h', w']` with
    /// `h' = (h + 2 padding - dilation (kh - 1) - 1) / stride + 1`, rounded down, and so for `w'`.
    ///
    /// On a GPU a direct convolution with a tile of outputs in registers, of which the gradient with regard to the input
    /// is a mirror image; on the CPU a matrix product over columns of pixels
    /// ([Chellapilla, Puri & Simard 2006](https://inria.hal.science/inria-00112631)).
    ///
    /// Padding takes part as zeros: a weight that is not finite may make NaN of an output of which a tap lies in the
    /// padding, and so may an output's gradient of the weight's.
    ///
    /// # Errors
    /// Ranks other than 4, channels that do not divide into the groups, a kernel larger than the padded input, a bias
    /// of another shape, a stride, dilation or number of groups of 0, or the device fails.
    pub fn conv2d(&self, weight: &Tensor, bias: Option<&Tensor>, options: Conv2dOptions) -> Result<Tensor> {
        self.conv2d_with(weight, bias, options, Conv2dKernel::Auto)
    }

    /// As [`Tensor::conv2d`], on a GPU by the kernel `kernel`.
    ///
    /// # Errors
    /// As [`Tensor::conv2d`], or an adapter that can't run that kernel.
    pub fn conv2d_with(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        options: Conv2dOptions,
        kernel: Conv2dKernel,
    ) -> Result<Tensor> {
        let op = Conv2d { options, kernel };
        match bias {
            Some(bias) => apply(op, &[self, weight, bias]),
            None => apply(op, &[self, weight]),
        }
    }
}
