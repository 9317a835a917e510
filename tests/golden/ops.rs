//! The call of each op in the golden files, and the error bounds.

use super::{Attrs, Bound};
use gristmill::nn::{Loss, Reduction};
use gristmill::{
    Activation, AttentionMask, AttentionOptions, AvgPool2dOptions, Conv1dOptions, Conv2dOptions,
    ConvTranspose1dOptions, ConvTranspose2dOptions, CrossEntropyOptions, PadMode, Pool2dOptions, Result,
    RotaryPairs, Tensor,
};

/// Runs a case: its attributes and inputs to its outputs.
pub(super) type Call = fn(&Attrs, &[Tensor]) -> Result<Vec<Tensor>>;

/// Name, bound of the outputs, bound of the gradients, call.
pub(super) struct Row(pub(super) &'static str, pub(super) Bound, pub(super) Bound, pub(super) Call);

fn one(y: Result<Tensor>) -> Result<Vec<Tensor>> {
    Ok(vec![y?])
}

const EXACT: Bound = Bound::EXACT;

/// Roundings of a single result, in units of half an ulp, in addition to those of the longest sum.
const fn each(roundings: f64) -> Bound {
    Bound { roundings, ..Bound::EACH }
}

/// As `each`, relative to the largest element, for elements that are small because larger terms cancelled.
const fn whole(roundings: f64) -> Bound {
    Bound { roundings, whole: true, ..Bound::EACH }
}

/// As `each`, for intermediate values of up to `size`.
const fn near(size: f64, roundings: f64) -> Bound {
    Bound { roundings, size, conditioned: false, ..Bound::EACH }
}

/// As `each`, plus an absolute error.
const fn floor(floor: f64, roundings: f64) -> Bound {
    Bound { roundings, floor, ..Bound::EACH }
}

/// The bounds follow from WGSL's accuracy table (<https://www.w3.org/TR/WGSL/#concrete-float-accuracy>), where an ulp
/// counts twice, the formulas of the ops, and the accuracy of gristmill's own functions as documented in
/// `src/cpu/functions.rs`.
#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row("add", each(1.0), each(0.0), |_, x| one(x[0].add(&x[1]))),
    Row("sub", each(1.0), each(0.0), |_, x| one(x[0].sub(&x[1]))),
    Row("mul", each(1.0), each(1.0), |_, x| one(x[0].mul(&x[1]))),
    // A quotient is within 2.5 ulp; the gradient has two, and a product.
    Row("div", each(5.0), each(11.0), |_, x| one(x[0].div(&x[1]))),
    // The gradient is halved at a tie.
    Row("maximum", EXACT, each(0.0), |_, x| one(x[0].maximum(&x[1]))),
    Row("minimum", EXACT, each(0.0), |_, x| one(x[0].minimum(&x[1]))),
    // exp2(b log2 a): log2 is within 3 ulp, or 2^-21 = 8 halves absolute; exp2 within 3 + 2 ulp of its exponent e. The
    // relative error is 0.7 |b| (8 + 6 |log2 a|) + 0.7 |e| + 6 + 4 |e|; the condition is |b| + 0.7 |e|.
    Row("pow", each(13.0), each(24.0), |_, x| one(x[0].pow(&x[1]))),
    Row("neg", EXACT, each(0.0), |_, x| one(x[0].neg())),
    // 3 + 2 |x| ulp; the condition is |x|.
    Row("exp", each(6.0), each(7.0), |_, x| one(x[0].exp())),
    // 3 ulp, or 8 halves absolute near 1, where the condition is 1.
    Row("log", each(8.0), each(5.0), |_, x| one(x[0].log())),
    // 1 / inverseSqrt(x): 2 ulp and 2.5 ulp; the gradient divides once more.
    Row("sqrt", each(9.0), each(14.0), |_, x| one(x[0].sqrt())),
    Row("recip", each(5.0), each(12.0), |_, x| one(x[0].recip())),
    Row("abs", EXACT, each(0.0), |_, x| one(x[0].abs())),
    Row("relu", EXACT, each(0.0), |_, x| one(x[0].relu())),
    // e = exp(-|x|) has a relative error of 6 + 4 |x|, the sum of 1, the quotient of 5. 1 - y cancels in the gradient:
    // 2 dy has the error of y.
    Row("sigmoid", each(12.0), floor(4.0 * 24.0 * EPS, 14.0), |_, x| one(x[0].sigmoid())),
    // 7 ulp; (1 - y)(1 + y) in the gradient has twice that, relative to 1.
    Row("tanh", each(14.0), near(4.0, 18.0), |_, x| one(x[0].tanh())),
    // erf has a relative error of 8, and is at most 1; times |x| / 2 of up to 3, in the gradient times |dy| / 2.
    Row("gelu", floor(30.0 * EPS, 4.0), floor(20.0 * EPS, 30.0), |_, x| one(x[0].gelu())),
    Row("square", each(1.0), each(1.0), |_, x| one(x[0].square())),
    Row("rsqrt", each(4.0), each(15.0), |_, x| one(x[0].rsqrt())),
    // 6 ulp of the result, and 2^-28.
    Row("sin", floor(SMALL, 12.0), floor(2.0 * SMALL, 14.0), |_, x| one(x[0].sin())),
    Row("cos", floor(SMALL, 12.0), floor(2.0 * SMALL, 14.0), |_, x| one(x[0].cos())),
    // 4 ulp; the gradient is an exponential of x², whose condition is 2 x².
    Row("erf", each(8.0), each(10.0), |_, x| one(x[0].erf())),
    Row("floor", EXACT, EXACT, |_, x| one(x[0].floor())),
    Row("ceil", EXACT, EXACT, |_, x| one(x[0].ceil())),
    Row("round", EXACT, EXACT, |_, x| one(x[0].round())),
    Row("sign", EXACT, EXACT, |_, x| one(x[0].sign())),
    Row("leaky_relu", each(1.0), each(1.0), |a, x| one(x[0].leaky_relu(a.float("negative_slope", 0.01)))),
    // e^x - 1 errs by 7 near 0; for smaller x, e^x errs by 6.
    Row("elu", each(12.0), each(8.0), |a, x| one(x[0].elu(a.float("alpha", 1.0)))),
    // The sigmoid and a product; in the gradient, terms of up to 1.3 |dy| cancel in y (1 + x (1 - y)).
    Row("silu", each(14.0), near(3.0, 24.0), |_, x| one(x[0].silu())),
    Row("hardswish", each(8.0), each(8.0), |_, x| one(x[0].hardswish())),
    // ln(1 + e) errs by 13, and by the error of e^-|x|; the gradient is the sigmoid.
    Row("softplus", each(20.0), each(14.0), |_, x| one(x[0].softplus())),
    Row("clamp", EXACT, each(0.0), |a, x| one(x[0].clamp(a.float("min", -INF), a.float("max", INF)))),
    Row("eq", EXACT, EXACT, |_, x| one(x[0].eq(&x[1]))),
    Row("ne", EXACT, EXACT, |_, x| one(x[0].ne(&x[1]))),
    Row("lt", EXACT, EXACT, |_, x| one(x[0].lt(&x[1]))),
    Row("le", EXACT, EXACT, |_, x| one(x[0].le(&x[1]))),
    Row("gt", EXACT, EXACT, |_, x| one(x[0].gt(&x[1]))),
    Row("ge", EXACT, EXACT, |_, x| one(x[0].ge(&x[1]))),
    Row("logical_and", EXACT, EXACT, |_, x| one(x[0].logical_and(&x[1]))),
    Row("logical_or", EXACT, EXACT, |_, x| one(x[0].logical_or(&x[1]))),
    Row("logical_xor", EXACT, EXACT, |_, x| one(x[0].logical_xor(&x[1]))),
    Row("logical_not", EXACT, EXACT, |_, x| one(x[0].logical_not())),
    Row("where_cond", EXACT, each(0.0), |_, x| one(x[0].where_cond(&x[1], &x[2]))),

    Row("sum", each(0.0), each(0.0), |a, x| one(x[0].sum(&a.ints("axes"), a.flag("keepdim")))),
    // A division, or a product with a quotient.
    Row("mean", each(6.0), each(6.0), |a, x| one(x[0].mean(&a.ints("axes"), a.flag("keepdim")))),
    // Ties split the gradient: a division.
    Row("max", EXACT, each(5.0), |a, x| one(x[0].max(&a.ints("axes"), a.flag("keepdim")))),
    Row("min", EXACT, each(5.0), |a, x| one(x[0].min(&a.ints("axes"), a.flag("keepdim")))),
    // One product per factor; the gradient divides by one.
    Row("prod", each(0.0), each(10.0), |a, x| one(x[0].prod(&a.ints("axes"), a.flag("keepdim")))),
    Row("logsumexp", near(2.0, 24.0), near(2.0, 24.0), |a, x| one(x[0].logsumexp(&a.ints("axes"), a.flag("keepdim")))),
    // The quotient of the mean, differences, squares, another quotient; a root.
    Row("var", each(16.0), each(16.0), |a, x| one(x[0].var(&a.ints("axes"), a.size("correction", 1), a.flag("keepdim")))),
    Row("std", each(24.0), each(32.0), |a, x| one(x[0].std(&a.ints("axes"), a.size("correction", 1), a.flag("keepdim")))),
    // Two powers, as above; the gradient has a third.
    Row("norm", each(26.0), each(40.0), |a, x| one(x[0].norm(a.number("p"), &a.ints("axes"), a.flag("keepdim")))),
    Row("cumsum", each(0.0), each(0.0), |a, x| one(x[0].cumsum(a.int("axis", 0)))),
    Row("argmax", EXACT, EXACT, |a, x| one(x[0].argmax(a.int("axis", 0), a.flag("keepdim")))),
    Row("argmin", EXACT, EXACT, |a, x| one(x[0].argmin(a.int("axis", 0), a.flag("keepdim")))),

    // exp(x - m) has a relative error of 6 + 4 |x - m|; the absolute error is at most 6 + 4 / e, and that of the
    // quotient 5. For the logarithm see log. In the gradients sum y dy <= 2 and sum dy <= 2 n for rows of n <= 7.
    Row("softmax", near(1.0, 13.0), near(4.0, 16.0), |a, x| one(x[0].softmax(a.int("axis", -1)))),
    Row("log_softmax", near(1.0, 24.0), near(16.0, 16.0), |a, x| one(x[0].log_softmax(a.int("axis", -1)))),

    // Scores of up to s are sums of d products and err by d + 2 units of their size. Weights have that error, 6 + 4 |s|
    // of an exponential, and 8 for each rescaling by a tile. The gradients cancel terms as large as the largest; if a
    // query sees one key everything cancels: products of up to 4 that err by 4, times a key of up to 2.
    Row("scaled_dot_product_attention", whole(64.0), Bound { floor: 32.0 * EPS, ..whole(160.0) }, |a, x| {
        one(x[0].scaled_dot_product_attention(&x[1], &x[2], &attention(a, x)))
    }),

    // Differences of logits of up to 8, and 1e4 in y itself; the logarithm as above. Probabilities times dy <= 2.
    Row("cross_entropy", near(16.0, 24.0), near(2.0, 16.0), |_, x| one(x[0].cross_entropy(&x[1]))),
    Row("cross_entropy_with", near(32.0, 24.0), near(4.0, 24.0), |a, x| one(x[0].cross_entropy_with(&x[1], &cross_entropy(a, x)))),
    // A difference, a product, the quotient of the mean.
    Row("mse_loss", each(8.0), each(8.0), |a, x| one(Loss::Mse.of(&x[0], &x[1], reduction(a)))),
    Row("l1_loss", each(8.0), each(8.0), |a, x| one(Loss::L1.of(&x[0], &x[1], reduction(a)))),
    Row("huber_loss", each(10.0), each(8.0), |a, x| one(Loss::Huber { delta: a.float("delta", 1.0) }.of(&x[0], &x[1], reduction(a)))),
    Row("hinge_loss", each(8.0), each(8.0), |a, x| one(Loss::Hinge.of(&x[0], &x[1], reduction(a)))),
    // Logits of up to 4, or as large as y, times weights of up to 3; logarithms as above.
    Row("bce_with_logits", near(16.0, 24.0), whole(40.0), |a, x| {
        one(Loss::BceWithLogits { pos_weight: x.get(2).cloned() }.of(&x[0], &x[1], reduction(a)))
    }),
    Row("kl_div", near(8.0, 24.0), whole(40.0), |a, x| {
        one(Loss::KlDiv { log_target: a.flag("log_target") }.of(&x[0], &x[1], reduction(a)))
    }),

    Row("matmul", each(1.0), each(1.0), |_, x| one(x[0].matmul(&x[1]))),
    Row("linear", each(2.0), each(2.0), |a, x| one(x[0].linear(&x[1], x.get(2), activation(a)))),
    Row("conv2d", each(2.0), each(2.0), |a, x| one(x[0].conv2d(&x[1], x.get(2), conv2d(a)))),
    Row("max_pool2d", EXACT, each(0.0), |a, x| one(x[0].max_pool2d(max_pool2d(a)))),
    Row("conv1d", each(2.0), each(2.0), |a, x| one(x[0].conv1d(&x[1], x.get(2), conv1d(a)))),
    Row("conv_transpose1d", each(2.0), each(2.0), |a, x| one(x[0].conv_transpose1d(&x[1], x.get(2), conv_transpose1d(a)))),
    Row("conv_transpose2d", each(2.0), each(2.0), |a, x| one(x[0].conv_transpose2d(&x[1], x.get(2), conv_transpose2d(a)))),
    Row("avg_pool2d", each(6.0), each(6.0), |a, x| one(x[0].avg_pool2d(avg_pool2d(a)))),
    Row("adaptive_avg_pool2d", each(6.0), each(6.0), |a, x| one(x[0].adaptive_avg_pool2d(a.pair("output_size", [0; 2])))),
    Row("upsample_nearest2d", EXACT, each(0.0), |a, x| one(x[0].upsample_nearest2d(a.pair("size", [0; 2])))),
    // Weights are positions of up to 9 with a handful of roundings; `whole`, because a weight may cancel to 0.
    Row("upsample_bilinear2d", whole(60.0), whole(60.0), |a, x| {
        one(x[0].upsample_bilinear2d(a.pair("size", [0; 2]), a.flag("align_corners")))
    }),

    // Sums, a root, a quotient and three products, forward and again backward, where terms cancel.
    Row("layer_norm", whole(30.0), whole(60.0), |a, x| {
        one(x[0].layer_norm(a.ints("normalized_shape").len(), x.get(1), x.get(2), a.float("eps", 0.0)))
    }),
    Row("rms_norm", whole(30.0), whole(60.0), |a, x| one(x[0].rms_norm(a.size("axes", 1), x.get(1), a.float("eps", 0.0)))),
    Row("add_layer_norm", whole(31.0), whole(61.0), |a, x| {
        let axes = a.ints("normalized_shape").len();
        Ok(x[0].add_layer_norm(&x[1], axes, x.get(2), x.get(3), a.float("eps", 0.0))?.into())
    }),
    Row("add_rms_norm", whole(31.0), whole(61.0), |a, x| {
        Ok(x[0].add_rms_norm(&x[1], a.size("axes", 1), x.get(2), a.float("eps", 0.0))?.into())
    }),
    Row("group_norm", whole(30.0), whole(60.0), |a, x| {
        one(x[0].group_norm(a.size("num_groups", 1), x.get(1), x.get(2), a.float("eps", 0.0)))
    }),
    Row("instance_norm", whole(30.0), whole(60.0), |a, x| {
        one(x[0].instance_norm(x.get(1), x.get(2), a.float("eps", 0.0)))
    }),
    // The running statistics, which have no condition, are sums of values of up to 2.
    Row("batch_norm", Bound { size: 2.0, ..whole(30.0) }, whole(60.0), |a, x| {
        let y = x[0].batch_norm(x.get(3), x.get(4), a.float("eps", 0.0))?;
        let (mut mean, mut variance) = (x[1].clone(), x[2].clone());
        y.update(&mut mean, &mut variance, a.float("momentum", 0.0))?;
        Ok(vec![y.output, mean, variance])
    }),
    Row("batch_norm_by", whole(30.0), whole(60.0), |a, x| {
        one(x[0].batch_norm_by(&x[1], &x[2], x.get(3), x.get(4), a.float("eps", 0.0)))
    }),

    // The gate as above (see sigmoid, silu, gelu), and a product with values of up to 5; two products in the gradient.
    Row("glu", each(16.0), floor(8.0 * 24.0 * EPS, 24.0), |a, x| one(x[0].glu(a.int("axis", -1)))),
    Row("swiglu", each(18.0), near(30.0, 30.0), |a, x| one(x[0].swiglu(a.int("axis", -1)))),
    Row("geglu", floor(150.0 * EPS, 6.0), floor(200.0 * EPS, 40.0), |a, x| one(x[0].geglu(a.int("axis", -1)))),
    Row("reglu", each(1.0), each(1.0), |a, x| one(x[0].reglu(a.int("axis", -1)))),
    // Two products and a sum.
    Row("rotary_embedding", each(2.0), each(2.0), |a, x| {
        let pairs = if a.text("pairs", "") == "halves" { RotaryPairs::Halves } else { RotaryPairs::Neighbours };
        one(x[0].rotary_embedding(&x[1], &x[2], pairs))
    }),
    // Sigmoids and tanh, each within 24 roundings of 1, times states of up to 5; the same for their derivatives, times
    // gradients of up to 2 for each output.
    Row("lstm_cell", near(8.0, 24.0), near(20.0, 24.0), |_, x| Ok(x[0].lstm_cell(&x[1], &x[2])?.into())),
    Row("gru_cell", near(8.0, 24.0), near(20.0, 24.0), |_, x| one(x[0].gru_cell(&x[1], &x[2]))),

    // Copies; the gradients sum over the copies of an element.
    Row("cat", EXACT, each(0.0), |a, x| one(Tensor::cat(&x.iter().collect::<Vec<_>>(), a.int("axis", 0)))),
    Row("stack", EXACT, each(0.0), |a, x| one(Tensor::stack(&x.iter().collect::<Vec<_>>(), a.int("axis", 0)))),
    Row("split", EXACT, each(0.0), |a, x| x[0].split(&a.sizes("sizes"), a.int("axis", 0))),
    Row("chunk", EXACT, each(0.0), |a, x| x[0].chunk(a.size("chunks", 1), a.int("axis", 0))),
    Row("pad", EXACT, each(0.0), |a, x| one(pad(a, &x[0]))),
    Row("gather", EXACT, each(0.0), |a, x| one(x[0].gather(a.int("axis", 0), &x[1]))),
    Row("scatter_add", each(0.0), each(0.0), |a, x| one(x[0].scatter_add(a.int("axis", 0), &x[1], &x[2]))),
    Row("index_select", EXACT, each(0.0), |a, x| one(x[0].index_select(a.int("axis", 0), &x[1]))),
    Row("embedding", EXACT, each(0.0), |_, x| one(x[0].embedding(&x[1]))),
    Row("one_hot", EXACT, EXACT, |a, x| one(x[0].one_hot(a.size("num_classes", 0)))),
    Row("topk", EXACT, each(0.0), |a, x| {
        let (values, places) = x[0].topk(a.size("k", 0), a.int("axis", 0), a.flag("largest"))?;
        Ok(vec![values, places])
    }),
    Row("sort", EXACT, each(0.0), |a, x| {
        let (values, places) = x[0].sort(a.int("axis", 0), a.flag("descending"))?;
        Ok(vec![values, places])
    }),
    Row("argsort", EXACT, EXACT, |a, x| one(x[0].argsort(a.int("axis", 0), a.flag("descending")))),
];

const EPS: f64 = super::common::EPS;
/// 2^-28.
const SMALL: f64 = 1.0 / (1u64 << 28) as f64;
const INF: f32 = f32::INFINITY;

fn activation(a: &Attrs) -> Activation {
    match a.text("activation", "none") {
        "relu" => Activation::Relu,
        "sigmoid" => Activation::Sigmoid,
        "tanh" => Activation::Tanh,
        _ => Activation::None,
    }
}

fn conv2d(a: &Attrs) -> Conv2dOptions {
    Conv2dOptions {
        stride: a.pair("stride", [1; 2]),
        padding: a.pair("padding", [0; 2]),
        dilation: a.pair("dilation", [1; 2]),
        groups: a.size("groups", 1),
        activation: activation(a),
    }
}

fn max_pool2d(a: &Attrs) -> Pool2dOptions {
    let kernel = a.pair("kernel_size", [0; 2]);
    Pool2dOptions {
        kernel,
        stride: a.pair("stride", kernel),
        padding: a.pair("padding", [0; 2]),
        dilation: a.pair("dilation", [1; 2]),
        ceil_mode: a.flag("ceil_mode"),
    }
}

fn conv1d(a: &Attrs) -> Conv1dOptions {
    Conv1dOptions {
        stride: a.size("stride", 1),
        padding: a.size("padding", 0),
        dilation: a.size("dilation", 1),
        groups: a.size("groups", 1),
        activation: Activation::None,
    }
}

fn conv_transpose1d(a: &Attrs) -> ConvTranspose1dOptions {
    ConvTranspose1dOptions {
        stride: a.size("stride", 1),
        padding: a.size("padding", 0),
        output_padding: a.size("output_padding", 0),
        dilation: a.size("dilation", 1),
        groups: a.size("groups", 1),
        activation: Activation::None,
    }
}

fn conv_transpose2d(a: &Attrs) -> ConvTranspose2dOptions {
    ConvTranspose2dOptions {
        stride: a.pair("stride", [1; 2]),
        padding: a.pair("padding", [0; 2]),
        output_padding: a.pair("output_padding", [0; 2]),
        dilation: a.pair("dilation", [1; 2]),
        groups: a.size("groups", 1),
        activation: Activation::None,
    }
}

/// A mask without a gradient that says which keys are visible.
fn attention(a: &Attrs, x: &[Tensor]) -> AttentionOptions {
    let mask = x.get(3).cloned().map(|mask| match mask.is_differentiable() {
        true => AttentionMask::Additive(mask),
        false => AttentionMask::Boolean(mask),
    });
    AttentionOptions {
        causal: a.flag("causal"),
        mask,
        scale: a.option("scale"),
        softcap: a.option("softcap"),
        window: a.reaches("window"),
        ..AttentionOptions::default()
    }
}

fn avg_pool2d(a: &Attrs) -> AvgPool2dOptions {
    let kernel = a.pair("kernel_size", [0; 2]);
    AvgPool2dOptions {
        kernel,
        stride: a.pair("stride", kernel),
        padding: a.pair("padding", [0; 2]),
        ceil_mode: a.flag("ceil_mode"),
        count_include_pad: a.flag_or("count_include_pad", true),
        divisor_override: None,
    }
}

fn reduction(a: &Attrs) -> Reduction {
    match a.text("reduction", "mean") {
        "sum" => Reduction::Sum,
        "none" => Reduction::None,
        "batchmean" => Reduction::BatchMean,
        _ => Reduction::Mean,
    }
}

fn cross_entropy(a: &Attrs, x: &[Tensor]) -> CrossEntropyOptions {
    CrossEntropyOptions {
        label_smoothing: a.float("label_smoothing", 0.0),
        ignore_index: a.id("ignore_index"),
        weight: x.get(2).cloned(),
        reduction: reduction(a),
    }
}

fn pad(a: &Attrs, x: &Tensor) -> Result<Tensor> {
    let mode = match a.text("mode", "constant") {
        "reflect" => PadMode::Reflect,
        _ => PadMode::Constant(a.float("value", 0.0)),
    };
    x.pad(&a.pairs("pads"), mode)
}
