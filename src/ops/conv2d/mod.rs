//! Convolution in one and two dimensions and its transpose, with bias and activation in the epilogue, and their
//! gradients.
//!
//! One pair of ops serves all. `Convolve` computes both directions, each of which is the gradient of the other with
//! respect to x. `WeightGrad` is the gradient of both with respect to the weight. One dimension is a plane of one row.
//!
//! `options.rs` has the public options, `geometry.rs` the shape rules, `cpu.rs` the CPU twins, and `gpu.rs` the
//! dispatches of `shaders/conv2d*.wgsl`.

mod cpu;
mod geometry;
mod gpu;
mod options;

use super::{arity, floats, product_flops};
use crate::cpu::CpuDevice;
use crate::gpu::Recorder;
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Layouts, Meta, Op, Saved, Saves, apply};
use crate::ops::unary::Activation;
use crate::tensor::Tensor;
use crate::{Error, Result};
use geometry::Geometry;
use std::sync::Arc;

pub(crate) use gpu::KERNELS;
pub use options::{Conv1dOptions, Conv2dOptions, ConvTranspose1dOptions, ConvTranspose2dOptions};

/// The kernel of `shaders/conv2d*.wgsl` that computes a convolution and its gradients on a GPU. The CPU ignores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Conv2dKernel {
    /// The fastest for this kind of adapter and large shapes. For small ones another may be faster.
    #[default]
    Auto,
    /// One invocation per element, for comparison.
    Naive,
    /// 8 channels at 8 pixels per invocation, in registers.
    Registers,
    /// 16 channels at 8 pixels per invocation, with the weights shared by subgroup broadcast. Every subgroup must have
    /// 4 or 8 invocations. The gradient with respect to the weight uses `Registers`.
    Subgroup,
}

/// The direction of a convolution through its geometry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// From the geometry's input to its output.
    Forward,
    /// From its output to its input: the gradient of `Forward`.
    Transposed,
}

/// `activation(x * weight + bias)`, where `*` is a convolution or a transposed convolution. Inputs: x, weight, and
/// optionally bias.
#[derive(Clone, Copy)]
struct Convolve {
    name: &'static str,
    direction: Direction,
    geometry: Geometry,
    activation: Activation,
    kernel: Conv2dKernel,
}

impl Convolve {
    /// Channels of the result.
    fn channels(&self) -> usize {
        let Geometry { groups, rows, depth, .. } = self.geometry;
        groups * if self.direction == Direction::Forward { rows } else { depth }
    }

    /// The gradient with respect to x: the other direction.
    fn input_grad(&self) -> Convolve {
        let (name, direction) = match self.direction {
            Direction::Forward => ("conv2d_input_grad", Direction::Transposed),
            Direction::Transposed => ("conv_transpose2d_input_grad", Direction::Forward),
        };
        Convolve { name, direction, activation: Activation::None, ..*self }
    }
}

impl Op for Convolve {
    fn name(&self) -> &'static str {
        self.name
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        floats(self.name, inputs)?;
        if let Some(bias) = inputs.get(2).filter(|bias| bias.shape != [self.channels()]) {
            let message = format!("a bias of shape {} for weight {}", bias.shape, inputs[1].shape);
            return Err(Error::shape(self.name, message));
        }
        let out = match self.direction {
            Direction::Forward => self.geometry.output_shape(),
            Direction::Transposed => self.geometry.input_shape(),
        };
        Ok(vec![Meta::f32(out?)])
    }

    fn flops(&self, inputs: &[Meta], outputs: &[Meta]) -> u64 {
        // Each element of the geometry's output is multiplied with the whole weight but its first axis.
        let from = if self.direction == Direction::Forward { outputs[0] } else { inputs[0] };
        let each = inputs[1].shape.iter().skip(1).product();
        product_flops(outputs[0], from.numel(), each, inputs.len() > 2, self.activation)
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let run = match self.direction {
            Direction::Forward => cpu::forward,
            Direction::Transposed => cpu::transposed,
        };
        let epilogue = cpu::Epilogue { bias: inputs.get(2).map(CpuView::slice), activation: self.activation };
        run(cpu, &self.geometry, epilogue, inputs[0].slice(), inputs[1].slice(), outputs[0].data)
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        gpu::convolve(rec, self, inputs, outputs[0])
    }

    fn saves(&self) -> Saves {
        match self.activation {
            Activation::None => Saves { inputs: &[0, 1], outputs: &[] },
            _ => Saves { inputs: &[0, 1], outputs: &[0] },
        }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let dy = match self.activation {
            Activation::None => grad.clone(),
            activation => activation.backward(saved.output(0)?, grad)?,
        };
        let dy = dy.contiguous()?; // once for all three gradients
        let &Convolve { geometry, kernel, .. } = self;
        let dx = || apply(self.input_grad(), &[&dy, saved.input(1)?]);
        let dw = || {
            let slices = match dy.device().is_gpu() {
                true => gpu::slices(&geometry, kernel),
                false => cpu::slices(&geometry),
            };
            let x = saved.input(0)?;
            let (from, to) = if self.direction == Direction::Forward { (x, &dy) } else { (&dy, x) };
            let partial = apply(WeightGrad { geometry, kernel, slices }, &[to, from])?;
            if slices == 1 { partial.reshape(saved.shape(1)?) } else { partial.sum(&[0], false) }
        };
        let mut grads = vec![needs[0].then(dx).transpose()?, needs[1].then(dw).transpose()?];
        if let Some(&needs_bias) = needs.get(2) {
            grads.push(needs_bias.then(|| dy.sum(geometry.bias_axes(), false)).transpose()?);
        }
        Ok(grads)
    }
}

/// The gradient with respect to the weight, as `[slices, ..]` partial sums. Inputs: the tensors at the geometry's
/// output and at its input. One is x, the other the gradient of the result.
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
        Ok(vec![Meta::f32(self.geometry.partial_shape(self.slices)?)])
    }

    fn flops(&self, inputs: &[Meta], outputs: &[Meta]) -> u64 {
        let Geometry { depth, kernel, .. } = self.geometry;
        product_flops(outputs[0], inputs[0].numel(), depth * kernel[0] * kernel[1], false, Activation::None)
    }

    fn layout(&self, _: usize) -> Layouts {
        Layouts::Contiguous
    }

    fn cpu(&self, cpu: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        let [dy, x] = [0, 1].map(|at| inputs[at].slice());
        cpu::weight_grad(cpu, &self.geometry, self.slices, dy, x, outputs[0].data)
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        gpu::weight_grad(rec, self.kernel, &self.geometry, self.slices, inputs[0], inputs[1], outputs[0])
    }
}

/// Runs a convolution whose shapes are checked.
#[track_caller]
fn convolve(op: Convolve, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        Some(bias) => apply(op, &[x, weight, bias]),
        None => apply(op, &[x, weight]),
    }
}

impl Tensor {
    /// 2-D convolution (cross-correlation), as PyTorch's `conv2d`.
    ///
    /// This tensor is `[n, c_in, h, w]`, `weight` is `[c_out, c_in / groups, kh, kw]`, and `bias` is `[c_out]`. The
    /// result, after the activation, is `[n, c_out, h', w']` with
    /// `h' = (h + 2 padding - dilation (kh - 1) - 1) / stride + 1`, rounded down; `w'` likewise.
    ///
    /// A GPU runs a direct convolution with a tile of outputs in registers; the gradient with respect to the input is
    /// the same with input and output exchanged. The CPU runs a matrix product over columns of pixels (im2col,
    /// [Chellapilla, Puri & Simard 2006](https://inria.hal.science/inria-00112631)).
    ///
    /// Padding is multiplied as zeros. So a weight that is not finite may give NaN where one of its taps lies in the
    /// padding, and a gradient of the output that is not finite may give NaN in the gradient of the weight.
    ///
    /// ```
    /// # use gristmill::{Conv2dOptions, Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1, 1, 2, 3], &Device::cpu())?;
    /// let kernel = Tensor::from_slice(&[1.0, 0.0, 0.0, 10.0], [1, 1, 2, 2], &Device::cpu())?;
    /// let y = x.conv2d(&kernel, None, Conv2dOptions::default())?; // [1, 1, 1, 2]
    /// assert_eq!(y.to_vec()?, [51.0, 62.0]); // 1 + 10 · 5 and 2 + 10 · 6: the kernel is not flipped
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Ranks other than 4, channels that do not divide into the groups, a kernel larger than the padded input, a bias
    /// of another shape, a stride, dilation or number of groups of 0, tensors of ids, or the device fails.
    #[track_caller]
    pub fn conv2d(&self, weight: &Tensor, bias: Option<&Tensor>, options: Conv2dOptions) -> Result<Tensor> {
        self.conv2d_with(weight, bias, options, Conv2dKernel::Auto)
    }

    /// As [`Tensor::conv2d`], with a choice of the GPU kernel.
    ///
    /// ```
    /// # use gristmill::{Activation, Conv2dKernel, Conv2dOptions, Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0], [1, 1, 1, 2], &Device::cpu())?;
    /// let weight = Tensor::from_slice(&[1.0, -1.0], [2, 1, 1, 1], &Device::cpu())?;
    /// let bias = Tensor::from_slice(&[0.5, 1.5], [2], &Device::cpu())?;
    /// let options = Conv2dOptions { activation: Activation::Relu, ..Conv2dOptions::default() };
    /// let y = x.conv2d_with(&weight, Some(&bias), options, Conv2dKernel::Naive)?;
    /// assert_eq!(y.to_vec()?, [1.5, 2.5, 0.5, 0.0]); // two channels
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::conv2d`], or an adapter that can't run that kernel.
    #[track_caller]
    pub fn conv2d_with(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        options: Conv2dOptions,
        kernel: Conv2dKernel,
    ) -> Result<Tensor> {
        let geometry = options.geometry(&self.shape(), &weight.shape())?;
        let activation = options.activation;
        convolve(
            Convolve { name: "conv2d", direction: Direction::Forward, geometry, activation, kernel },
            self,
            weight,
            bias,
        )
    }

    /// 1-D convolution: [`Tensor::conv2d`] over planes of one row, by the same kernels.
    ///
    /// This tensor is `[n, c_in, l]`, `weight` is `[c_out, c_in / groups, k]`, and `bias` is `[c_out]`. The result,
    /// after the activation, is `[n, c_out, l']`.
    ///
    /// ```
    /// # use gristmill::{Conv1dOptions, Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0], [1, 1, 4], &Device::cpu())?;
    /// let kernel = Tensor::from_slice(&[1.0, 10.0, 100.0], [1, 1, 3], &Device::cpu())?;
    /// let options = Conv1dOptions { stride: 2, padding: 1, ..Conv1dOptions::default() };
    /// assert_eq!(x.conv1d(&kernel, None, options)?.to_vec()?, [210.0, 432.0]); // of 0 1 2 and 2 3 4
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::conv2d`], for ranks of 3.
    #[track_caller]
    pub fn conv1d(&self, weight: &Tensor, bias: Option<&Tensor>, options: Conv1dOptions) -> Result<Tensor> {
        let geometry = options.geometry(&self.shape(), &weight.shape())?;
        let (activation, kernel) = (options.activation, Conv2dKernel::Auto);
        convolve(
            Convolve { name: "conv1d", direction: Direction::Forward, geometry, activation, kernel },
            self,
            weight,
            bias,
        )
    }

    /// 2-D transposed convolution, as PyTorch's `conv_transpose2d`
    /// ([Dumoulin & Visin](https://arxiv.org/abs/1603.07285), chapter 4).
    ///
    /// This tensor is `[n, c_in, h, w]`, `weight` is `[c_in, c_out / groups, kh, kw]`, and `bias` is `[c_out]`. Each
    /// input pixel adds its multiple of the kernel to the output; the kernels of neighbouring pixels are `stride`
    /// pixels apart. The result, after the activation, is `[n, c_out, h', w']` with
    /// `h' = (h - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1`; `w'` likewise.
    ///
    /// It is the gradient of [`Tensor::conv2d`] with respect to its input, computed by the same kernels: each output
    /// gathers its terms, so no atomics are needed. Its own gradient is a `conv2d`.
    ///
    /// ```
    /// # use gristmill::{ConvTranspose2dOptions, Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0], [1, 1, 1, 2], &Device::cpu())?;
    /// let kernel = Tensor::from_slice(&[1.0, 10.0, 100.0], [1, 1, 1, 3], &Device::cpu())?;
    /// let options = ConvTranspose2dOptions { stride: [1, 2], ..Default::default() };
    /// assert_eq!(x.conv_transpose2d(&kernel, None, options)?.to_vec()?, [1.0, 10.0, 102.0, 20.0, 200.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Ranks other than 4, channels that do not fit or do not divide into the groups, a bias of another shape, a
    /// stride, dilation or number of groups of 0, an output padding that is not below the stride or the dilation, a
    /// padding that leaves no output, an empty plane, tensors of ids, or the device fails.
    #[track_caller]
    pub fn conv_transpose2d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        options: ConvTranspose2dOptions,
    ) -> Result<Tensor> {
        self.conv_transpose2d_with(weight, bias, options, Conv2dKernel::Auto)
    }

    /// As [`Tensor::conv_transpose2d`], with a choice of the GPU kernel.
    ///
    /// ```
    /// # use gristmill::{Conv2dKernel, ConvTranspose2dOptions, Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0], [1, 1, 1, 2], &Device::cpu())?;
    /// let kernel = Tensor::from_slice(&[1.0, 10.0], [1, 1, 1, 2], &Device::cpu())?;
    /// let options = ConvTranspose2dOptions { stride: [1, 2], ..Default::default() };
    /// let y = x.conv_transpose2d_with(&kernel, None, options, Conv2dKernel::Naive)?;
    /// assert_eq!(y.to_vec()?, [1.0, 10.0, 2.0, 20.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::conv_transpose2d`], or an adapter that can't run that kernel.
    #[track_caller]
    pub fn conv_transpose2d_with(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        options: ConvTranspose2dOptions,
        kernel: Conv2dKernel,
    ) -> Result<Tensor> {
        let geometry = options.geometry(&self.shape(), &weight.shape())?;
        let (name, direction, activation) = ("conv_transpose2d", Direction::Transposed, options.activation);
        convolve(Convolve { name, direction, geometry, activation, kernel }, self, weight, bias)
    }

    /// 1-D transposed convolution: [`Tensor::conv_transpose2d`] over planes of one row.
    ///
    /// This tensor is `[n, c_in, l]`, `weight` is `[c_in, c_out / groups, k]`, and `bias` is `[c_out]`. The result,
    /// after the activation, is `[n, c_out, l']`.
    ///
    /// ```
    /// # use gristmill::{ConvTranspose1dOptions, Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0, 2.0], [1, 1, 2], &Device::cpu())?;
    /// let kernel = Tensor::from_slice(&[1.0, 10.0, 100.0], [1, 1, 3], &Device::cpu())?;
    /// let y = x.conv_transpose1d(&kernel, None, ConvTranspose1dOptions::default())?;
    /// assert_eq!(y.to_vec()?, [1.0, 12.0, 120.0, 200.0]); // 1 10 100 0 + 2 · (0 1 10 100)
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::conv_transpose2d`], for ranks of 3.
    #[track_caller]
    pub fn conv_transpose1d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        options: ConvTranspose1dOptions,
    ) -> Result<Tensor> {
        let geometry = options.geometry(&self.shape(), &weight.shape())?;
        let (activation, kernel) = (options.activation, Conv2dKernel::Auto);
        let (name, direction) = ("conv_transpose1d", Direction::Transposed);
        convolve(Convolve { name, direction, geometry, activation, kernel }, self, weight, bias)
    }
}
