//! Element-wise functions from outside the crate: in WGSL and in Rust, with their derivatives.

use super::{Elementwise, ElementwiseKernels, WG, arity, floats};
use crate::cpu::CpuDevice;
use crate::cpu::strided::rows;
use crate::gpu::{Kernel, Recorder};
use crate::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, Saved, Saves, apply};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::sync::{Arc, OnceLock};

/// A differentiable function of one number, of your own, that runs element by element on every device.
///
/// Held as a `static`: its kernels are compiled once. Views are read in place, and four elements at a time where the layout
/// allows it, as the crate's own functions do.
///
/// ```
/// use gristmill::{Device, Pointwise, Tensor};
///
/// static SOFTSIGN: Pointwise = Pointwise::new(
///     "softsign",
///     "fn value(x: f32) -> f32 { return x / (1.0 + abs(x)); }
///      fn slope(x: f32) -> f32 { let d = 1.0 + abs(x); return 1.0 / (d * d); }",
///     |x| x / (1.0 + x.abs()),
///     |x| 1.0 / (1.0 + x.abs()).powi(2),
/// );
///
/// let x = Tensor::from_slice(&[-1.0, 0.0, 3.0], [3], &Device::best()?)?.requires_grad()?;
/// let y = SOFTSIGN.apply(&x)?;
/// assert_eq!(y.to_vec()?, [-0.5, 0.0, 0.75]);
/// assert_eq!(y.sum_all()?.backward()?.get(&x)?.to_vec()?, [0.25, 1.0, 0.0625]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct Pointwise {
    name: &'static str,
    wgsl: &'static str,
    value: fn(f32) -> f32,
    slope: fn(f32) -> f32,
    /// Strided and vector entry, of the function and of its gradient.
    kernels: OnceLock<[Kernel; 4]>,
}

impl Pointwise {
    /// A function by its WGSL, which declares `fn value(x: f32) -> f32` and `fn slope(x: f32) -> f32`, the derivative, and by
    /// their twins in Rust. `name` is what errors and profiles show.
    ///
    /// WGSL lets a compiler assume that there is no NaN and no infinity; [`proof`](crate::proof) has the checks by which
    /// the crate tests its own functions, and the example `custom_op` shows how to run them on yours.
    pub const fn new(
        name: &'static str,
        wgsl: &'static str,
        value: fn(f32) -> f32,
        slope: fn(f32) -> f32,
    ) -> Pointwise {
        Pointwise { name, wgsl, value, slope, kernels: OnceLock::new() }
    }

    /// The function of each element of `x`, recorded for the backward pass.
    ///
    /// # Errors
    /// A tensor of ids, WGSL that does not compile (on a GPU), or the device fails.
    #[track_caller]
    pub fn apply(&'static self, x: &Tensor) -> Result<Tensor> {
        apply(Value(self), &[x])
    }

    /// The kernels of the function (`gradient` false) or of its gradient.
    fn kernels(&'static self, gradient: bool) -> ElementwiseKernels {
        let all = self.kernels.get_or_init(|| {
            // Once for the life of the program, as the `static` itself.
            let source = |call: &str| -> &'static str {
                let operands = "a: f32, b: f32, c: f32";
                let own = self.wgsl;
                let whole = format!(
                    "#import shared/elementwise.wgsl\nalias Element = f32;\n{own}\nfn f({operands}) -> f32 {{ return {call}; }}\n"
                );
                Box::leak(whole.into_boxed_str())
            };
            let kernel = |entry: &'static str, source: &'static str| {
                let kernel = Kernel::new(self.name, entry, source).buffers(3, 1).params::<Elementwise>();
                kernel.constants(&[("WG", &[WG])])
            };
            let (value, slope) = (source("value(a)"), source("slope(a) * b"));
            [("strided", value), ("vector", value), ("strided", slope), ("vector", slope)]
                .map(|(entry, source)| kernel(entry, source))
        });
        let [strided, vector] = if gradient { [&all[2], &all[3]] } else { [&all[0], &all[1]] };
        ElementwiseKernels { strided, vector }
    }
}

struct Value(&'static Pointwise);

impl Op for Value {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        floats(self.name(), inputs)?;
        arity::<1>(self.name(), inputs).map(Vec::from)
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        outputs[0].numel()
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        parallel_map(&mut outputs[0], [inputs[0]], |[x]| (self.0.value)(x))
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        self.0.kernels(false).dispatch(rec, self.name(), &[WG], [0.0; 2], inputs, outputs[0])
    }

    fn saves(&self) -> Saves {
        Saves { inputs: &[0], outputs: &[] }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(apply(Slope(self.0), &[saved.input(0)?, grad])?)])
    }
}

/// The gradient of a [`Value`]. Inputs: x and dy.
struct Slope(&'static Pointwise);

impl Op for Slope {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn infer(&self, inputs: &[Meta]) -> Result<Vec<Meta>> {
        let [x, _] = arity(self.name(), inputs)?;
        Ok(vec![x])
    }

    fn flops(&self, _: &[Meta], outputs: &[Meta]) -> u64 {
        outputs[0].numel().saturating_mul(2)
    }

    fn cpu(&self, _: &Arc<CpuDevice>, inputs: &[CpuView], outputs: &mut [CpuOut]) -> Result<()> {
        parallel_map(&mut outputs[0], [inputs[0], inputs[1]], |[x, dy]| (self.0.slope)(x) * dy)
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        self.0.kernels(true).dispatch(rec, self.name(), &[WG], [0.0; 2], inputs, outputs[0])
    }
}

/// Sets each element of `out` to a function of the inputs' elements there, in parallel: the twin of an element-wise kernel.
/// The inputs may have any layout and broadcast to the shape of `out`.
///
/// ```
/// # use gristmill::op::{CpuOut, CpuView};
/// # use gristmill::{Layout, Shape, parallel_map};
/// # let (a, b, mut y) = ([1.0, 2.0, 3.0, 4.0], [10.0], [0.0; 4]);
/// # let view = |data, shape| CpuView { data, layout: Layout::contiguous(shape) };
/// # let (two, one) = (Shape::new([2, 2])?, Shape::new([1])?);
/// # let (a, b) = (view(&a, two), view(&b, one));
/// // In Op::cpu: `inputs` and `outputs` as given.
/// parallel_map(&mut CpuOut { data: &mut y, shape: two }, [a, b], |[a, b]| a + b)?;
/// assert_eq!(y, [11.0, 12.0, 13.0, 14.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// An input that does not broadcast to the shape of `out`, or views of fewer elements than their layouts say.
pub fn parallel_map<const N: usize>(
    out: &mut CpuOut,
    inputs: [CpuView; N],
    f: impl Fn([f32; N]) -> f32 + Sync,
) -> Result<()> {
    const OP: &str = "parallel_map";
    let mut layouts = inputs.map(|input| input.layout);
    for (layout, input) in layouts.iter_mut().zip(&inputs) {
        *layout = layout.expand(out.shape, OP)?;
        let reach = (0..out.shape.rank()).map(|axis| (out.shape[axis].max(1) - 1) * layout.strides[axis]);
        if out.shape.numel() > 0 && layout.offset + reach.sum::<usize>() >= input.data.len() {
            return Err(Error::shape(OP, format!("{} elements for the layout {layout:?}", input.data.len())));
        }
    }
    if out.data.len() != out.shape.numel() {
        return Err(Error::shape(OP, format!("{} elements for shape {}", out.data.len(), out.shape)));
    }
    rows(out.data, layouts, |out, starts, steps| {
        for (j, y) in out.iter_mut().enumerate() {
            *y = f(std::array::from_fn(|k| inputs[k].data[starts[k] + j * steps[k]]));
        }
    });
    Ok(())
}
