//! The methods of `Tensor`, and of autograd results, shapes, layouts and devices.

use crate::calls;
use crate::world::{Call, Out, World, said};
use gristmill::nn::Loss;
use gristmill::nn::Reduction;
use gristmill::*;
use std::f32::consts::PI;

static HALVED: Pointwise = Pointwise::new(
    "halved",
    "fn value(x: f32) -> f32 { return x * 0.5; }
     fn slope(x: f32) -> f32 { return 0.5; }",
    |x| x * 0.5,
    |_| 0.5,
);

/// Methods without arguments.
macro_rules! methods {
    ($($name:ident)*) => {
        &[$(Call { name: concat!("Tensor::", stringify!($name)), run: |w| Ok(w.tensor()?.$name()?.into()) }),*]
    };
}

/// Methods of two tensors.
macro_rules! pairs {
    ($($name:ident)*) => {
        &[$(Call {
            name: concat!("Tensor::", stringify!($name)),
            run: |w| {
                let (a, b) = w.two()?;
                Ok(a.$name(&b)?.into())
            },
        }),*]
    };
}

/// Comparisons of two tensors, of numbers or of ids.
macro_rules! comparisons {
    ($($name:ident)*) => {
        &[$(Call {
            name: concat!("Tensor::", stringify!($name)),
            run: |w| {
                let (a, b) = w.two()?;
                match w.flag() {
                    true => Ok(a.to_dtype(DType::U32)?.$name(&b.to_dtype(DType::U32)?)?.into()),
                    false => Ok(a.$name(&b)?.into()),
                }
            },
        }),*]
    };
}

/// Methods with an axis.
macro_rules! axis {
    ($($name:ident)*) => {
        &[$(Call {
            name: concat!("Tensor::", stringify!($name)),
            run: |w| {
                let x = w.tensor()?;
                let axis = w.axis(x.rank());
                Ok(x.$name(axis)?.into())
            },
        }),*]
    };
}

/// Methods with axes and `keepdim`.
macro_rules! reductions {
    ($($name:ident)*) => {
        &[$(Call {
            name: concat!("Tensor::", stringify!($name)),
            run: |w| {
                let x = w.tensor()?;
                let axes = w.axes(x.rank());
                Ok(x.$name(&axes, w.flag())?.into())
            },
        }),*]
    };
}

pub const METHODS: &[&[Call]] = &[
    methods! { neg exp log sqrt rsqrt recip abs square sin cos erf floor ceil round sign relu sigmoid tanh gelu silu hardswish
    softplus logical_not t copy contiguous sum_all mean_all max_all min_all requires_grad },
    pairs! { add sub mul div maximum minimum pow logical_and logical_or logical_xor },
    comparisons! { eq ne lt le gt ge },
    axis! { softmax log_softmax cumsum glu swiglu geglu reglu unsqueeze squeeze },
    reductions! { sum mean prod max min logsumexp },
];

fn scalars(w: &mut World, f: fn(&Tensor, f32) -> Result<Tensor>) -> Result<Out> {
    let (x, value) = (w.tensor()?, w.number());
    Ok(f(&x, value)?.into())
}

/// The arguments of a convolution in so many dimensions: an input `[n, in, ..]`, a weight, an optional bias, and the
/// groups.
fn convolved(
    w: &mut World,
    sides: usize,
    transposed: bool,
) -> Result<(Tensor, Tensor, Option<Tensor>, usize)> {
    let groups = if w.odd() { w.size() } else { w.pick(&[1, 1, 2, 3]) };
    let [n, each, out] = [0; 3].map(|_| w.small());
    let (inputs, outputs) = (each.saturating_mul(groups), out.saturating_mul(groups));
    let kernel: Vec<usize> = (0..sides).map(|_| w.side()).collect();
    let space = w.small_shape(sides);
    let x = w.of(&[&[n, inputs][..], &space].concat())?;
    let channels = if transposed { [inputs, out] } else { [outputs, each] };
    let weight = w.of(&[&channels[..], &kernel].concat())?;
    let bias = w.optional(|w| w.of(&[outputs]))?;
    Ok((x, weight, bias, groups))
}

pub fn conv1d_options(w: &mut World, groups: usize) -> Conv1dOptions {
    let (stride, padding, dilation) = (w.side(), w.padding(), w.side());
    Conv1dOptions { stride, padding, dilation, groups, activation: w.activation() }
}

pub fn conv2d_options(w: &mut World, groups: usize) -> Conv2dOptions {
    let (stride, padding, dilation) = (w.sides(), w.paddings(), w.sides());
    Conv2dOptions { stride, padding, dilation, groups, activation: w.activation() }
}

pub fn transpose_options(w: &mut World, groups: usize) -> ConvTranspose2dOptions {
    let (stride, padding, output_padding, dilation) = (w.sides(), w.paddings(), w.paddings(), w.sides());
    ConvTranspose2dOptions { stride, padding, output_padding, dilation, groups, activation: w.activation() }
}

fn transpose1d_options(w: &mut World, groups: usize) -> ConvTranspose1dOptions {
    let (stride, padding, output_padding, dilation) = (w.side(), w.padding(), w.padding(), w.side());
    ConvTranspose1dOptions { stride, padding, output_padding, dilation, groups, activation: w.activation() }
}

pub fn max_pool(w: &mut World) -> Pool2dOptions {
    let (kernel, stride, padding, dilation) = (w.sides(), w.sides(), w.paddings(), w.sides());
    Pool2dOptions { kernel, stride, padding, dilation, ceil_mode: w.flag() }
}

pub fn avg_pool(w: &mut World) -> AvgPool2dOptions {
    let (kernel, stride, padding) = (w.sides(), w.sides(), w.paddings());
    let divisor_override = if w.odd() { Some(w.size()) } else { None };
    let (ceil_mode, count_include_pad) = (w.flag(), w.flag());
    AvgPool2dOptions { kernel, stride, padding, ceil_mode, count_include_pad, divisor_override }
}

fn kernels(w: &mut World) -> Conv2dKernel {
    w.pick(&[Conv2dKernel::Auto, Conv2dKernel::Naive, Conv2dKernel::Registers, Conv2dKernel::Subgroup])
}

pub fn attention_options(w: &mut World, scores: &[usize]) -> Result<AttentionOptions> {
    let mask = if w.draw.one_in(3) {
        let mut shape = scores.to_vec();
        if w.flag() && !shape.is_empty() {
            shape[0] = 1;
        }
        let mask = w.of(&shape)?;
        Some(if w.flag() { AttentionMask::Boolean(mask) } else { AttentionMask::Additive(mask) })
    } else {
        None
    };
    let window = [0; 2].map(|_| if w.odd() { Some(w.size()) } else { None });
    let scale = if w.odd() { Some(w.number()) } else { None };
    let softcap = if w.odd() { Some(w.number()) } else { None };
    let dropout = if w.flag() { w.probability() } else { 0.0 };
    Ok(AttentionOptions {
        causal: w.flag(),
        mask,
        scale,
        softcap,
        window,
        dropout,
        seed: w.seed(),
        offset: w.seed(),
    })
}

fn reduction(w: &mut World) -> Reduction {
    w.pick(&[Reduction::Mean, Reduction::Sum, Reduction::BatchMean, Reduction::None])
}

/// Weight and bias of a normalization.
fn affine(w: &mut World, shape: &[usize]) -> Result<[Option<Tensor>; 2]> {
    Ok([w.optional(|w| w.of(shape))?, w.optional(|w| w.of(shape))?])
}

/// A tensor, how many of its last axes to normalize over, and weight and bias of that shape.
fn by_row(w: &mut World) -> Result<(Tensor, usize, [Option<Tensor>; 2])> {
    let x = w.tensor()?;
    let axes = if w.odd() { w.size() } else { 1 + w.draw.below(x.rank().max(1)) };
    let last = x.shape()[x.rank().saturating_sub(axes)..].to_vec();
    let affine = affine(w, &last)?;
    Ok((x, w.tell(axes), affine))
}

/// A tensor `[n, c, ..]` with weight and bias of its channels.
fn by_channel(w: &mut World) -> Result<(Tensor, [Option<Tensor>; 2])> {
    let rank = w.pick(&[2, 3, 4]);
    let x = w.of_rank(rank)?;
    let channels = x.shape().get(1).copied().unwrap_or(1);
    let affine = affine(w, &[channels])?;
    Ok((x, affine))
}

fn gathered(w: &mut World) -> Result<(Tensor, isize, Tensor)> {
    let x = w.tensor()?;
    let axis = w.axis(x.rank());
    let mut shape = x.shape().to_vec();
    let at = x.shape().axis("gather", axis).unwrap_or(0);
    let length = shape.get(at).copied().unwrap_or(1);
    if let Some(length) = shape.get_mut(at) {
        *length = w.small();
    }
    let index = w.ids(&shape, length)?;
    Ok((x, axis, index))
}

fn shape(w: &mut World) -> Result<Shape> {
    Shape::new(w.shape())
}

fn gradients(w: &mut World) -> Result<(Vec<Tensor>, Gradients)> {
    let leaves = vec![w.of_rank(1)?.requires_grad()?, w.of_rank(2)?.requires_grad()?];
    let mut loss = leaves[0].square()?.sum_all()?;
    if w.flag() {
        loss = loss.add(&leaves[1].sum_all()?)?;
    }
    Ok((leaves, loss.backward()?))
}

fn all(gradients: &Gradients) -> Out {
    gradients.iter().cloned().collect::<Vec<_>>().into()
}

calls! {
    "Tensor::from_slice": |w| {
        let shape = w.shape();
        let count = w.count_for(&shape);
        Tensor::from_slice(&w.floats(count), &shape, &w.device)?
    };
    "Tensor::from_ids": |w| {
        let shape = w.shape();
        let ids = vec![7; w.count_for(&shape)];
        Tensor::from_ids(&ids, &shape, &w.device)?
    };
    "Tensor::scalar": |w| Tensor::scalar(w.number(), &w.device)?;
    "Tensor::full": |w| Tensor::full(w.shape(), w.number(), &w.device)?;
    "Tensor::zeros": |w| Tensor::zeros(w.shape(), &w.device)?;
    "Tensor::ones": |w| Tensor::ones(w.shape(), &w.device)?;
    "Tensor::randn": |w| Tensor::randn(w.shape(), w.number(), w.positive(), w.seed(), &w.device)?;
    "Tensor::uniform": |w| Tensor::uniform(w.shape(), w.number(), w.positive(), w.seed(), &w.device)?;
    "Tensor::to_vec": |w| said(w.tensor()?.to_vec()?.len());
    "Tensor::to_ids": |w| {
        let (shape, below) = (w.small_shape(1), w.small());
        said(w.ids(&shape, below)?.to_ids()?)
    };
    "Tensor::item": |w| {
        let x = w.of(&[1, 1])?;
        x.item()?;
        said("a number")
    };
    "Tensor::to": |w| {
        let x = w.tensor()?;
        let device = if w.flag() { &w.device } else { &w.other };
        x.to(device)?
    };
    "Tensor::shape": |w| said(w.tensor()?.shape());
    "Tensor::rank": |w| said(w.tensor()?.rank());
    "Tensor::numel": |w| said(w.tensor()?.numel());
    "Tensor::dtype": |w| said(w.tensor()?.dtype());
    "Tensor::device": |w| {
        let x = w.tensor()?;
        said(x.device().same(&w.device))
    };
    "Tensor::layout": |w| said(w.tensor()?.layout().shape); // whether an op returns a view may differ
    "Tensor::is_differentiable": |w| said(w.tensor()?.is_differentiable());
    "Tensor::is_leaf": |w| said(w.tensor()?.is_leaf());
    "Tensor::detach": |w| w.tensor()?.detach();
    "sum": |w| naive::sum(&w.of_rank(2)?)?;
    "softmax": |w| naive::softmax(&w.of_rank(2)?)?;
    "layer_norm": |w| naive::layer_norm(&w.of_rank(2)?, w.number())?;
    "attention": |w| {
        let [matrices, n, m, d] = [0; 4].map(|_| w.small());
        let size = if w.odd() { w.size() } else { d };
        let (q, k) = (w.of(&[matrices, n, size])?, w.of(&[matrices, m, d])?);
        naive::attention(&q, &k, &w.of(&[matrices, m, d])?)?
    };
    "max_pool2d": |w| naive::max_pool2d(&w.of_rank(4)?, if w.odd() { w.size() } else { w.small() })?;
    "conv2d_weight": |w| {
        let (x, other) = (w.of_rank(4)?, w.of_rank(4)?);
        let [n, rows, cols] = [0, 2, 3].map(|axis| x.shape().get(axis).copied().unwrap_or(1));
        let dy = if w.odd() { other } else { w.of(&[n, 2, rows.min(2), cols.min(2)])? };
        naive::conv2d_weight(&x, &dy)?
    };
    "Tensor::backward": |w| all(&w.tensor()?.backward()?);
    "Tensor::backward_from": |w| {
        let x = w.tensor()?;
        let grad = w.like(&x)?;
        all(&x.backward_from(&grad)?)
    };
    "Gradients::get": |w| {
        let (leaves, gradients) = gradients(w)?;
        let stranger = w.tensor()?;
        let found = leaves.iter().chain([&stranger]).filter_map(|leaf| gradients.get(leaf).ok().cloned());
        found.collect::<Vec<_>>()
    };
    "Tensor::retain_grad": |w| {
        let (leaves, gradients) = gradients(w)?;
        leaves[0].retain_grad()?;
        w.tensor()?.retain_grad()?;
        all(&gradients)
    };
    "Gradients::accumulate": |w| {
        let (leaves, mut sums) = gradients(w)?;
        let more = if w.flag() { gradients(w)?.1 } else { leaves[0].sum_all()?.backward()? };
        sums.accumulate(more)?;
        all(&sums)
    };
    "Gradients::scale": |w| {
        let (_, mut gradients) = gradients(w)?;
        gradients.scale(w.number())?;
        all(&gradients)
    };
    "Gradients::iter": |w| all(&gradients(w)?.1);
    "is_recording": |_w| said(autograd::is_recording());
    "no_grad": |w| {
        let x = w.tensor()?;
        no_grad(|| x.square())?
    };
    "Tensor::add_scalar": |w| scalars(w, Tensor::add_scalar)?;
    "Tensor::sub_scalar": |w| scalars(w, Tensor::sub_scalar)?;
    "Tensor::mul_scalar": |w| scalars(w, Tensor::mul_scalar)?;
    "Tensor::div_scalar": |w| scalars(w, Tensor::div_scalar)?;
    "Tensor::maximum_scalar": |w| scalars(w, Tensor::maximum_scalar)?;
    "Tensor::minimum_scalar": |w| scalars(w, Tensor::minimum_scalar)?;
    "Tensor::eq_scalar": |w| scalars(w, Tensor::eq_scalar)?;
    "Tensor::ne_scalar": |w| scalars(w, Tensor::ne_scalar)?;
    "Tensor::lt_scalar": |w| scalars(w, Tensor::lt_scalar)?;
    "Tensor::le_scalar": |w| scalars(w, Tensor::le_scalar)?;
    "Tensor::gt_scalar": |w| scalars(w, Tensor::gt_scalar)?;
    "Tensor::ge_scalar": |w| scalars(w, Tensor::ge_scalar)?;
    "Tensor::arange": |w| Tensor::arange(w.number().into(), w.number().into(), w.number().into(), &w.place())?;
    "Tensor::linspace": |w| Tensor::linspace(w.number().into(), w.number().into(), w.size(), &w.place())?;
    "Tensor::eye": |w| Tensor::eye(w.size(), &w.place())?;
    "Tensor::einsum": |w| {
        let (a, b) = w.two()?;
        let equation = w.pick(&["ij,jk->ik", "ij,ij->", "i,i", "ij,kj", "ii,i", "a,b->ba", "..,", "->"]);
        Tensor::einsum(equation, &[&a, &b])?
    };
    "Dims::dims": |w| said(Dims::dims(&w.shape()));
    "Tensor::zeros_like": |w| w.tensor()?.zeros_like()?;
    "Tensor::ones_like": |w| w.tensor()?.ones_like()?;
    "Tensor::full_like": |w| {
        let value = w.number();
        w.tensor()?.full_like(value)?
    };
    "Tensor::tril": |w| {
        let x = w.tensor()?;
        x.tril(w.axis(2))?
    };
    "Tensor::triu": |w| {
        let x = w.tensor()?;
        x.triu(w.axis(2))?
    };
    "Tensor::masked_fill": |w| {
        let (x, mask, value) = (w.tensor()?, w.tensor()?, w.number());
        x.masked_fill(&mask, value)?
    };
    "Tensor::i": |w| {
        let x = w.tensor()?;
        match w.draw.below(4) {
            0 => x.i(w.axis(2))?,
            1 => x.i((.., w.axis(2)))?,
            2 => x.i((w.size().., ..w.size()))?,
            _ => x.i((w.small()..w.size(), w.axis(2), 0..=w.size()))?,
        }
    };
    "Indices::indices": |w| said(Indices::indices((w.axis(2), w.size()..=w.size(), ..)));
    "Generator::new": |w| Generator::new(w.seed()).randn([3], &w.place())?;
    "Generator::seed": |w| said(Generator::new(w.seed()).seed());
    "Generator::randn": |w| Generator::new(w.seed()).randn(w.shape(), &w.place())?;
    "Generator::uniform": |w| {
        let mut generator = Generator::new(w.seed());
        generator.uniform(w.shape(), w.number(), w.number(), &w.place())?
    };
    "Expr::eval": |w| {
        let [a, b] = [w.tensor()?, w.tensor()?];
        let value = w.number();
        ((&a + &b) * value - value / &a).eval()?
    };
    "Tensor::pow_scalar": |w| scalars(w, Tensor::pow_scalar)?;
    "Tensor::leaky_relu": |w| scalars(w, Tensor::leaky_relu)?;
    "Tensor::elu": |w| scalars(w, Tensor::elu)?;
    "Tensor::clamp": |w| w.tensor()?.clamp(w.number(), w.number())?;
    "Tensor::dropout": |w| w.tensor()?.dropout(w.probability(), w.seed(), w.seed())?;
    "Tensor::where_cond": |w| {
        let (mut a, mut b) = w.two()?;
        if w.odd() {
            (a, b) = (a.to_dtype(DType::U32)?, b.to_dtype(DType::U32)?);
        }
        w.like(&a)?.where_cond(&a, &b)?
    };
    "Tensor::to_dtype": |w| {
        let x = w.tensor()?;
        x.to_dtype(w.pick(&[DType::F32, DType::U32]))?
    };
    "Tensor::sum_to": |w| {
        let (a, b) = w.two()?;
        a.sum_to(b.shape())?
    };
    "Tensor::argmax": |w| {
        let x = w.tensor()?;
        x.argmax(w.axis(x.rank()), w.flag())?
    };
    "Tensor::argmin": |w| {
        let x = w.tensor()?;
        x.argmin(w.axis(x.rank()), w.flag())?
    };
    "Tensor::var": |w| {
        let x = w.tensor()?;
        x.var(&w.axes(x.rank()), w.padding(), w.flag())?
    };
    "Tensor::std": |w| {
        let x = w.tensor()?;
        x.std(&w.axes(x.rank()), w.padding(), w.flag())?
    };
    "Tensor::norm": |w| {
        let x = w.tensor()?;
        let p = if w.flag() { w.number() } else { w.pick(&[0.0, 1.0, 2.0, PI, f32::INFINITY]) };
        x.norm(p, &w.axes(x.rank()), w.flag())?
    };
    "Tensor::sort": |w| {
        let x = w.tensor()?;
        x.sort(w.axis(x.rank()), w.flag())?
    };
    "Tensor::argsort": |w| {
        let x = w.tensor()?;
        x.argsort(w.axis(x.rank()), w.flag())?
    };
    "Tensor::topk": |w| {
        let x = w.tensor()?;
        x.topk(w.size(), w.axis(x.rank()), w.flag())?
    };
    "Tensor::gather": |w| {
        let (x, axis, index) = gathered(w)?;
        x.gather(axis, &index)?
    };
    "Tensor::index_select": |w| {
        let x = w.tensor()?;
        let axis = w.axis(x.rank());
        let length = x.shape().axis("", axis).map_or(1, |axis| x.shape()[axis]);
        let count = w.small();
        x.index_select(axis, &w.ids(&[count], length)?)?
    };
    "Tensor::embedding": |w| {
        let x = w.of_rank(2)?;
        let shape = w.small_shape(2);
        x.embedding(&w.ids(&shape, x.shape().first().copied().unwrap_or(1))?)?
    };
    "Tensor::scatter_add": |w| {
        let (x, axis, index) = gathered(w)?;
        x.scatter_add(axis, &index, &w.of(&index.shape())?)?
    };
    "Tensor::one_hot": |w| {
        let (shape, classes) = (w.small_shape(2), w.size());
        w.ids(&shape, classes)?.one_hot(classes)?
    };
    "Tensor::cat": |w| {
        let (a, b) = w.two()?;
        Tensor::cat(&[&a, &b, &a][w.draw.below(4)..], w.axis(a.rank()))?
    };
    "Tensor::stack": |w| {
        let (a, b) = w.two()?;
        Tensor::stack(&[&a, &b, &a][w.draw.below(4)..], w.axis(a.rank()))?
    };
    "Tensor::split": |w| {
        let x = w.tensor()?;
        let axis = w.axis(x.rank());
        let length = x.shape().axis("", axis).map_or(1, |axis| x.shape()[axis]);
        let first = w.draw.below(length.saturating_add(1));
        let lengths = if w.odd() { vec![w.size(), w.size()] } else { vec![first, length - first] };
        x.split(&w.tell(lengths), axis)?
    };
    "Tensor::chunk": |w| {
        let x = w.tensor()?;
        x.chunk(w.size(), w.axis(x.rank()))?.into_iter().take(8).collect::<Vec<_>>()
    };
    "Tensor::pad": |w| {
        let x = w.tensor()?;
        let rank = if w.odd() { w.small() } else { x.rank() };
        let pads: Vec<(usize, usize)> = (0..rank).map(|_| (w.padding(), w.padding())).collect();
        x.pad(&pads, if w.flag() { PadMode::Reflect } else { PadMode::Constant(w.number()) })?
    };
    "Tensor::reshape": |w| {
        let x = w.tensor()?;
        let shape = if w.flag() { vec![x.numel()] } else { w.shape() };
        x.reshape(shape)?
    };
    "Tensor::permute": |w| {
        let x = w.tensor()?;
        let mut axes: Vec<usize> = (0..x.rank()).collect();
        axes.rotate_left(w.draw.below(x.rank().max(1)));
        if w.odd() {
            axes.push(w.size());
        }
        if w.odd() {
            axes.fill(0);
        }
        x.permute(&w.tell(axes))?
    };
    "Tensor::flatten": |w| {
        let x = w.tensor()?;
        x.flatten(w.axis(x.rank()), w.axis(x.rank()))?
    };
    "Tensor::transpose": |w| {
        let x = w.tensor()?;
        x.transpose(w.axis(x.rank()), w.axis(x.rank()))?
    };
    "Tensor::slice": |w| {
        let x = w.tensor()?;
        let axis = w.axis(x.rank());
        let length = x.shape().axis("", axis).map_or(1, |axis| x.shape()[axis]);
        x.slice(axis, w.range(length))?
    };
    "Tensor::slice_step": |w| {
        let x = w.tensor()?;
        let axis = w.axis(x.rank());
        let length = x.shape().axis("", axis).map_or(1, |axis| x.shape()[axis]);
        x.slice_step(axis, w.range(length), w.size())?
    };
    "Tensor::expand": |w| {
        let x = w.tensor()?;
        let mut shape = x.shape().to_vec();
        for length in shape.iter_mut().filter(|length| **length == 1) {
            *length = w.size();
        }
        if w.flag() {
            shape.insert(0, w.size());
        }
        x.expand(w.tell(shape))?
    };
    "Tensor::matmul": |w| {
        let [m, k, n] = [w.size(), w.size(), w.size()];
        let batch = if w.flag() { vec![w.small()] } else { vec![] };
        let a = w.of(&[&batch[..], &[m, k]].concat())?;
        a.matmul(&w.of(&[k, n])?)?
    };
    "Tensor::matmul_with": |w| {
        let [m, k, n] = [w.size(), w.size(), w.size()];
        let kernels = [MatMulKernel::Auto, MatMulKernel::Naive, MatMulKernel::Registers, MatMulKernel::Subgroup, MatMulKernel::Tiled];
        let (a, b, bias) = (w.of(&[m, k])?, w.of(&[k, n])?, w.optional(|w| w.of(&[n]))?);
        a.matmul_with(&b, bias.as_ref(), w.activation(), w.pick(&kernels))?
    };
    "Tensor::linear": |w| {
        let [m, k, n] = [w.size(), w.size(), w.size()];
        let (x, weight, bias) = (w.of(&[m, k])?, w.of(&[n, k])?, w.optional(|w| w.of(&[n]))?);
        x.linear(&weight, bias.as_ref(), w.activation())?
    };
    "Tensor::conv1d": |w| {
        let (x, weight, bias, groups) = convolved(w, 1, false)?;
        x.conv1d(&weight, bias.as_ref(), conv1d_options(w, groups))?
    };
    "Tensor::conv2d": |w| {
        let (x, weight, bias, groups) = convolved(w, 2, false)?;
        x.conv2d(&weight, bias.as_ref(), conv2d_options(w, groups))?
    };
    "Tensor::conv2d_with": |w| {
        let (x, weight, bias, groups) = convolved(w, 2, false)?;
        x.conv2d_with(&weight, bias.as_ref(), conv2d_options(w, groups), kernels(w))?
    };
    "Tensor::conv_transpose1d": |w| {
        let (x, weight, bias, groups) = convolved(w, 1, true)?;
        x.conv_transpose1d(&weight, bias.as_ref(), transpose1d_options(w, groups))?
    };
    "Tensor::conv_transpose2d": |w| {
        let (x, weight, bias, groups) = convolved(w, 2, true)?;
        x.conv_transpose2d(&weight, bias.as_ref(), transpose_options(w, groups))?
    };
    "Tensor::conv_transpose2d_with": |w| {
        let (x, weight, bias, groups) = convolved(w, 2, true)?;
        x.conv_transpose2d_with(&weight, bias.as_ref(), transpose_options(w, groups), kernels(w))?
    };
    "Pointwise::apply": |w| HALVED.apply(&w.tensor()?)?;
    "Pool2dOptions::new": |w| {
        let x = w.of_rank(4)?;
        x.max_pool2d(Pool2dOptions::new(w.sides()))?
    };
    "Tensor::max_pool2d": |w| w.of_rank(4)?.max_pool2d(max_pool(w))?;
    "AvgPool2dOptions::new": |w| {
        let x = w.of_rank(4)?;
        x.avg_pool2d(AvgPool2dOptions::new(w.sides()))?
    };
    "Tensor::avg_pool2d": |w| w.of_rank(4)?.avg_pool2d(avg_pool(w))?;
    "Tensor::adaptive_avg_pool2d": |w| w.of_rank(4)?.adaptive_avg_pool2d(w.sides())?;
    "Tensor::upsample_nearest2d": |w| w.of_rank(4)?.upsample_nearest2d(w.sides())?;
    "Tensor::upsample_bilinear2d": |w| w.of_rank(4)?.upsample_bilinear2d(w.sides(), w.flag())?;
    "Tensor::scaled_dot_product_attention": |w| {
        let [batch, heads, n, m, d] = [0; 5].map(|_| w.small());
        let kv_heads = if w.odd() { w.size() } else { heads };
        let size = if w.odd() { w.pick(&[1, 64, 256, 257]) } else { d };
        let q = w.of(&[batch, heads, n, size])?;
        let (k, v) = (w.of(&[batch, kv_heads, m, size])?, w.of(&[batch, kv_heads, m, size])?);
        q.scaled_dot_product_attention(&k, &v, &attention_options(w, &[batch, heads, n, m])?)?
    };
    "Tensor::rotary_embedding": |w| {
        let [heads, n, pairs] = [0; 3].map(|_| w.small());
        let (x, cos, sin) = (w.of(&[heads, n, 2 * pairs])?, w.of(&[n, pairs])?, w.of(&[n, pairs])?);
        x.rotary_embedding(&cos, &sin, w.pick(&[RotaryPairs::Halves, RotaryPairs::Neighbours]))?
    };
    "Tensor::lstm_cell": |w| {
        let [n, hidden] = [w.small(), w.size()];
        let gates = hidden.saturating_mul(4);
        w.of(&[n, gates])?.lstm_cell(&w.of(&[n, gates])?, &w.of(&[n, hidden])?)?
    };
    "Tensor::gru_cell": |w| {
        let [n, hidden] = [w.small(), w.size()];
        let gates = hidden.saturating_mul(3);
        w.of(&[n, gates])?.gru_cell(&w.of(&[n, gates])?, &w.of(&[n, hidden])?)?
    };
    "Tensor::cross_entropy": |w| {
        let [n, classes] = [w.size(), w.size()];
        w.of(&[n, classes])?.cross_entropy(&w.ids(&[n], classes)?)?
    };
    "Tensor::cross_entropy_with": |w| {
        let [n, classes] = [w.size(), w.size()];
        let (x, targets) = (w.of(&[n, classes])?, w.ids(&[n], classes)?);
        let options = CrossEntropyOptions {
            label_smoothing: w.probability(),
            ignore_index: if w.flag() { Some(w.pick(&[0, 1, u32::MAX])) } else { None },
            weight: w.optional(|w| w.of(&[classes]))?,
            reduction: reduction(w),
        };
        x.cross_entropy_with(&targets, &options)?
    };
    "Loss::of": |w| {
        let (x, t) = w.two()?;
        let loss = match w.draw.below(6) {
            0 => Loss::Mse,
            1 => Loss::L1,
            2 => Loss::Huber { delta: w.positive() },
            3 => Loss::Hinge,
            4 => Loss::BceWithLogits { pos_weight: w.optional(|w| w.like(&x))? },
            _ => Loss::KlDiv { log_target: w.flag() },
        };
        loss.of(&x, &t, reduction(w))?
    };
    "Tensor::layer_norm": |w| {
        let (x, axes, [weight, bias]) = by_row(w)?;
        x.layer_norm(axes, weight.as_ref(), bias.as_ref(), w.positive())?
    };
    "Tensor::rms_norm": |w| {
        let (x, axes, [weight, _]) = by_row(w)?;
        x.rms_norm(axes, weight.as_ref(), w.positive())?
    };
    "Tensor::add_layer_norm": |w| {
        let (x, axes, [weight, bias]) = by_row(w)?;
        x.add_layer_norm(&w.like(&x)?, axes, weight.as_ref(), bias.as_ref(), w.positive())?
    };
    "Tensor::add_rms_norm": |w| {
        let (x, axes, [weight, _]) = by_row(w)?;
        x.add_rms_norm(&w.like(&x)?, axes, weight.as_ref(), w.positive())?
    };
    "Tensor::group_norm": |w| {
        let (x, [weight, bias]) = by_channel(w)?;
        x.group_norm(w.side(), weight.as_ref(), bias.as_ref(), w.positive())?
    };
    "Tensor::instance_norm": |w| {
        let (x, [weight, bias]) = by_channel(w)?;
        x.instance_norm(weight.as_ref(), bias.as_ref(), w.positive())?
    };
    "Tensor::batch_norm": |w| {
        let (x, [weight, bias]) = by_channel(w)?;
        let BatchNorm { output, mean, variance } = x.batch_norm(weight.as_ref(), bias.as_ref(), w.positive())?;
        [output, mean, variance]
    };
    "Tensor::batch_norm_by": |w| {
        let (x, [weight, bias]) = by_channel(w)?;
        let channels = x.shape().get(1).copied().unwrap_or(1);
        let (mean, variance) = (w.of(&[channels])?, w.of(&[channels])?);
        x.batch_norm_by(&mean, &variance, weight.as_ref(), bias.as_ref(), w.positive())?
    };
    "BatchNorm::update": |w| {
        let (x, _) = by_channel(w)?;
        let channels = x.shape().get(1).copied().unwrap_or(1);
        let (mut mean, mut variance) = (w.of(&[channels])?, w.of(&[channels])?);
        x.batch_norm(None, None, 1e-5)?.update(&mut mean, &mut variance, w.probability())?;
        [mean, variance]
    };
    "Shape::new": |w| said(Shape::new(w.shape())?);
    "Shape::rank": |w| said(shape(w)?.rank());
    "Shape::numel": |w| said(shape(w)?.numel());
    "Shape::strides": |w| said(shape(w)?.strides());
    "Shape::axis": |w| {
        let shape = shape(w)?;
        said(shape.axis("test", w.axis(shape.rank()))?)
    };
    "Shape::broadcast": |w| said(shape(w)?.broadcast(&shape(w)?, "test")?);
    "Layout::contiguous": |w| said(Layout::contiguous(shape(w)?));
    "Layout::is_contiguous": |w| {
        let shape = shape(w)?;
        let layout = Layout { shape, strides: [0; MAX_RANK].map(|_| w.size()), offset: w.size() };
        said(layout.is_contiguous())
    };
    "Layout::expand": |w| {
        let (from, to) = (Shape::new([1, w.small()])?, Shape::new([w.size(), w.small()])?);
        let layout = Layout { strides: [0; MAX_RANK].map(|_| w.size()), ..Layout::contiguous(from) };
        said(layout.expand(to, "test")?)
    };
    "Device::cpu": |_w| said(Device::cpu().id());
    "Device::cpu_with_budget": |w| {
        let device = Device::cpu_with_budget(w.size() as u64);
        said(Tensor::ones(w.shape(), &device)?.square()?.to_vec()?.len())
    };
    "Device::is_gpu": |w| {
        w.device.is_gpu();
        said("a device")
    };
    "Device::id": |w| said(w.device.id().is_empty());
    "Device::memory": |w| said(w.device.memory().peak < 1 << 32);
    "Device::trim": |w| {
        w.device.trim();
        said(w.device.memory().cached)
    };
    "Device::counts": |w| said(w.device.counts().kernels > 0 && w.device.counts().cpu_twins > 0);
    "Device::synchronize": |w| said(w.device.synchronize()?);
    "Device::same": |w| said(w.device.same(&w.other));
}
