//! Layers, initialization, losses and training; files are in `io.rs`.
#![allow(clippy::unwrap_used)] // also in helpers, which clippy does not take for tests

mod common;
#[path = "../examples/common/network.rs"]
mod network;

use common::*;
use gristmill::nn::*;
use gristmill::optim::{Adam, AdamW, Optimizer, Sgd};
use gristmill::{
    Activation, AvgPool2dOptions, Conv1dOptions, Conv2dOptions, ConvTranspose2dOptions, Device, Gradients,
    Pool2dOptions, Result, Shape, Tensor, dry_run,
};

fn tensor(data: &[f32], shape: &[usize], device: &Device) -> Tensor {
    Tensor::from_slice(data, shape, device).unwrap()
}

fn values(parameter: &Parameter) -> Vec<f32> {
    parameter.tensor().to_vec().unwrap()
}

fn mlp(seed: u64, device: &Device) -> Sequential {
    let mut init = Init::new(seed, device).with_scheme(Scheme::XavierUniform);
    Sequential::new()
        .push(Linear::new(2, 8, &mut init).unwrap().with_activation(Activation::Tanh))
        .push(Linear::new(8, 1, &mut init).unwrap())
}

#[test]
fn a_dense_layer_by_hand() {
    for device in devices() {
        let weight = tensor(&[1.0, 2.0, -1.0, 0.5, 0.0, -3.0], &[3, 2], &device);
        let bias = tensor(&[0.5, 0.0, 1.0], &[3], &device);
        let layer = Linear::from_tensors(&weight, Some(&bias)).unwrap();
        let x = tensor(&[1.0, 1.0, 2.0, -1.0], &[2, 2], &device);
        assert_eq!(layer.forward(&x).unwrap().to_vec().unwrap(), [3.5, -0.5, -2.0, 0.5, -2.5, 4.0]);
        let layer = layer.with_activation(Activation::Relu);
        assert_eq!(layer.forward(&x).unwrap().to_vec().unwrap(), [3.5, 0.0, 0.0, 0.5, 0.0, 4.0]);
        assert_eq!(layer.describe(), "Linear 2 -> 3, relu");
        // Two products, a sum, the bias and the activation for each of 2 x 3 outputs.
        assert_eq!(dry(&layer, &x).unwrap().1, 6 * 5);

        let plain = Linear::from_tensors(&weight, None).unwrap();
        assert_eq!(plain.forward(&x).unwrap().to_vec().unwrap(), [3.0, -0.5, -3.0, 0.0, -2.5, 3.0]);
        assert_eq!(dry(&plain, &x).unwrap().1, 6 * 3);
        assert_eq!(plain.named_parameters().len(), 1);
        // Leading axes are batches.
        let deep = x.reshape([1, 2, 1, 2]).unwrap();
        assert_eq!(plain.forward(&deep).unwrap().shape(), [1, 2, 1, 3]);
    }
}

#[test]
fn small_layers() {
    for device in devices() {
        let x = Array::random([2, 3, 4, 5], 1, -2.0, 2.0).to_tensor(&device);
        let check = |layer: &dyn Layer, want: Tensor, flops: u64| {
            let y = layer.forward(&x).unwrap();
            assert_eq!(y.to_vec(), want.to_vec(), "{}", layer.describe());
            assert_eq!(dry(layer, &x), Ok((y.shape(), flops)));
            assert!(layer.parameters().is_empty());
        };
        check(&Flatten, x.reshape([2, 60]).unwrap(), 0);
        check(&Relu, x.relu().unwrap(), 120);
        check(&Sigmoid, x.sigmoid().unwrap(), 120);
        check(&Tanh, x.tanh().unwrap(), 120);
        check(&Gelu, x.gelu().unwrap(), 120);
        check(&Silu, x.silu().unwrap(), 120);
        check(&Hardswish, x.hardswish().unwrap(), 120);
        check(&Softplus, x.softplus().unwrap(), 120);
        check(&LeakyRelu(0.01), x.leaky_relu(0.01).unwrap(), 120);
        check(&Elu(1.5), x.elu(1.5).unwrap(), 120);
        assert_eq!([Silu.describe(), Elu(1.5).describe()], ["Silu", "Elu 1.5"]);
        // Three comparisons for each of 2 x 3 x 2 x 2 windows.
        let pooled = x.max_pool2d(Pool2dOptions::new([2, 2])).unwrap();
        check(&MaxPool2d::new([2, 2]), pooled, 24 * 3);
        let options =
            Pool2dOptions { stride: [1, 2], padding: [1, 0], ceil_mode: true, ..Pool2dOptions::new([3, 2]) };
        let layer = MaxPool2d::with_options(options);
        check(&layer, x.max_pool2d(options).unwrap(), 2 * 3 * 4 * 3 * 5);
        assert_eq!(layer.describe(), "MaxPool2d 3x2, stride 1x2, padding 1x0, ceil");
        let pooled = x.avg_pool2d(AvgPool2dOptions::new([2, 2])).unwrap();
        check(&AvgPool2d::new([2, 2]), pooled, 24 * 4);
        let options = AvgPool2dOptions {
            stride: [1, 2],
            padding: [1, 0],
            ceil_mode: true,
            count_include_pad: false,
            divisor_override: Some(5),
            ..AvgPool2dOptions::new([3, 2])
        };
        let layer = AvgPool2d::with_options(options);
        check(&layer, x.avg_pool2d(options).unwrap(), 2 * 3 * 4 * 3 * 6);
        assert_eq!(
            layer.describe(),
            "AvgPool2d 3x2, stride 1x2, padding 1x0, ceil, padding not counted, divisor 5"
        );
        // Three windows of two rows, times two of three columns.
        let layer = AdaptiveAvgPool2d::new([3, 2]);
        check(&layer, x.adaptive_avg_pool2d([3, 2]).unwrap(), 2 * 3 * 6 * 6);
        assert_eq!(layer.describe(), "AdaptiveAvgPool2d 3x2");
        check(&Upsample::nearest([2, 3]), x.upsample_nearest2d([8, 15]).unwrap(), 0);
        let layer = Upsample::bilinear([3, 1], true);
        check(&layer, x.upsample_bilinear2d([12, 5], true).unwrap(), 360 * 7);
        assert_eq!(layer.describe(), "Upsample 3x1, bilinear, corners aligned");
        assert_eq!(Upsample::nearest([2, 2]).describe(), "Upsample 2x2, nearest");
        let flat = x.reshape([6, 20]).unwrap();
        let error = Upsample::nearest([2, 2]).forward(&flat).unwrap_err().to_string();
        assert!(error.contains("upsample: wants [n, c, h, w], got shape [6, 20]"), "{error}");
        check(&Sequential::new(), x.clone(), 0);
        check(&Sequential::new().push(Relu).push(Flatten), x.relu().unwrap().flatten(1, -1).unwrap(), 120);
        check(&Dropout::new(0.0, 1).unwrap(), x.clone(), 0);
    }
}

#[test]
fn a_convolution_by_hand() {
    for device in devices() {
        // Two groups of one channel: the sum of each 2x2 window, and its first element minus its last.
        let weight = tensor(&[1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, -1.0], &[2, 1, 2, 2], &device);
        let bias = tensor(&[-14.0, 5.0], &[2], &device);
        let x = tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0, 1.0, 0.0, 2.0, 0.0, 3.0], &[1, 2, 2, 3], &device);
        let options = Conv2dOptions { groups: 2, ..Conv2dOptions::default() };
        let layer = Conv2d::from_tensors(&weight, Some(&bias), options).unwrap();
        assert_eq!(layer.forward(&x).unwrap().to_vec().unwrap(), [-2.0, 2.0, 5.0, 3.0]);
        let layer = layer.with_activation(Activation::Relu);
        let y = layer.forward(&x).unwrap();
        assert_eq!(
            (y.shape(), y.to_vec().unwrap()),
            (Shape::new([1, 2, 1, 2]).unwrap(), vec![0.0, 2.0, 5.0, 3.0])
        );
        // Four products, three sums, the bias and the activation, for each of 4 outputs.
        assert_eq!(dry(&layer, &x), Ok((y.shape(), 4 * 9)));
        assert_eq!(layer.describe(), "Conv2d 2 -> 2, 2x2, groups 2, relu");
        let names: Vec<String> = layer.named_parameters().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["weight", "bias"]);

        let options =
            Conv2dOptions { stride: [2, 1], padding: [0, 1], dilation: [1, 2], groups: 3, ..options };
        let layer = Conv2d::with_options(6, 9, [3, 2], options, &mut Init::new(1, &device)).unwrap();
        let x = Array::random([2, 6, 7, 8], 1, -1.0, 1.0).to_tensor(&device);
        assert_eq!(layer.forward(&x).unwrap().shape(), dry(&layer, &x).unwrap().0);
        assert_eq!(layer.describe(), "Conv2d 6 -> 9, 3x2, stride 2x1, padding 0x1, dilation 1x2, groups 3");
        let weight = &layer.parameters()[0];
        assert_eq!(weight.shape(), [9, 2, 3, 2]);
        // PyTorch's bound for the 2 x 3 x 2 terms of each sum.
        let bound = (1.0f32 / 12.0).sqrt();
        assert!(
            values(weight).iter().all(|w| w.abs() <= bound)
                && values(weight).iter().any(|w| w.abs() > 0.8 * bound)
        );
    }
    let device = device();
    let mut init = Init::new(1, &device);
    let options = |groups| Conv2dOptions { groups, ..Conv2dOptions::default() };
    for groups in [0, 2] {
        let error = Conv2d::with_options(3, 4, [1, 1], options(groups), &mut init).err().unwrap().to_string();
        assert!(error.contains("conv2d") && error.contains(&format!("{groups} groups")), "{error}");
    }
    assert!(Conv2d::new(1, 1, [usize::MAX, 2], &mut init).is_err());
    let flat = Tensor::zeros([3, 4], &device).unwrap();
    let error = Conv2d::from_tensors(&flat, None, options(1)).err().unwrap().to_string();
    assert!(error.contains("conv2d: a weight of shape [3, 4]"), "{error}");
}

#[test]
fn one_dimensional_and_transposed_convolution_layers() {
    for device in devices() {
        let weight = tensor(&[1.0, 2.0, 3.0, 1.0, 0.0, -1.0], &[2, 1, 3], &device);
        let bias = tensor(&[10.0, 0.0], &[2], &device);
        let x = tensor(&[1.0, 2.0, 4.0, 8.0], &[1, 1, 4], &device);
        let layer = Conv1d::from_tensors(&weight, Some(&bias), Conv1dOptions::default()).unwrap();
        assert_eq!(layer.forward(&x).unwrap().to_vec().unwrap(), [27.0, 44.0, -3.0, -6.0]);
        // Three products, two sums and the bias, for each of 4 outputs.
        assert_eq!(dry(&layer, &x).unwrap().1, 4 * 6);
        assert_eq!(layer.describe(), "Conv1d 1 -> 2, 3");
        let options = Conv1dOptions { stride: 2, padding: 1, dilation: 3, groups: 2, ..Default::default() };
        let layer = Conv1d::with_options(4, 6, 3, options, &mut Init::new(1, &device)).unwrap();
        let layer = layer.with_activation(Activation::Tanh);
        let x = Tensor::ones([2, 4, 9], &device).unwrap();
        assert_eq!(layer.forward(&x).unwrap().shape(), dry(&layer, &x).unwrap().0);
        assert_eq!(layer.describe(), "Conv1d 4 -> 6, 3, stride 2, padding 1, dilation 3, groups 2, tanh");

        let weight = tensor(&[1.0, 2.0, 3.0, 4.0, 1.0, 1.0, 1.0, 1.0], &[1, 2, 2, 2], &device);
        let bias = tensor(&[0.0, 1.0], &[2], &device);
        let x = tensor(&[1.0, 10.0], &[1, 1, 1, 2], &device);
        let options = ConvTranspose2dOptions { padding: [0, 1], ..Default::default() };
        let layer = ConvTranspose2d::from_tensors(&weight, Some(&bias), options).unwrap();
        let y = layer.forward(&x).unwrap();
        assert_eq!(
            (y.shape(), y.to_vec().unwrap()),
            (Shape::new([1, 2, 2, 1]).unwrap(), vec![12.0, 34.0, 12.0, 12.0])
        );
        // Each of 2 inputs is multiplied by 8 weights; each product is added, starting from the bias.
        assert_eq!(dry(&layer, &x).unwrap().1, 2 * 8 * 2);
        let options = ConvTranspose2dOptions {
            stride: [2, 2],
            padding: [1, 0],
            output_padding: [1, 0],
            groups: 3,
            ..options
        };
        let layer = ConvTranspose2d::with_options(6, 9, [4, 2], options, &mut Init::new(1, &device)).unwrap();
        let x = Array::random([2, 6, 3, 5], 1, -1.0, 1.0).to_tensor(&device);
        assert_eq!(layer.forward(&x).unwrap().shape(), dry(&layer, &x).unwrap().0);
        assert_eq!(dry(&layer, &x).unwrap().0, [2, 9, 7, 10]);
        assert_eq!(
            layer.describe(),
            "ConvTranspose2d 6 -> 9, 4x2, stride 2x2, padding 1x0, output padding 1x0, groups 3"
        );
        let weight = &layer.parameters()[0];
        assert_eq!(weight.shape(), [6, 3, 4, 2]);
        // PyTorch's bound takes the second axis and the window, 3 x 4 x 2, for the number of terms.
        let bound = (1.0f32 / 24.0).sqrt();
        assert!(
            values(weight).iter().all(|w| w.abs() <= bound)
                && values(weight).iter().any(|w| w.abs() > 0.8 * bound)
        );
        assert_eq!(layer.parameters()[1].shape(), [9]);
        let error = ConvTranspose2d::from_tensors(&tensor(&[0.0; 4], &[4], &device), None, options);
        let error = error.err().unwrap().to_string();
        assert!(
            error.contains("conv_transpose2d: a weight of shape [4], should be [in, out / groups, ..]"),
            "{error}"
        );
    }
}

#[test]
fn the_summary_of_the_mnist_network() {
    let network = network::mnist_cnn(&Device::cpu(), 1, 0.0).unwrap();
    // conv: 32·26·26 outputs of 9 products, 9 sums (the bias's included) and a relu. pool: 32·13·13 outputs of 3
    // comparisons. dense: 128 outputs of 5408 products, 5408 sums and a relu; 10 of 128 and 128.
    let expected = [
        "   Layer                      Output shape     Parameters      FLOPs",
        "====================================================================",
        "0  Conv2d 1 -> 32, 3x3, relu  [1, 32, 26, 26]         320    411,008",
        "1  MaxPool2d 2x2              [1, 32, 13, 13]           0     16,224",
        "2  Flatten                    [1, 5408]                 0          0",
        "3  Linear 5408 -> 128, relu   [1, 128]            692,352  1,384,576",
        "4  Dropout 0                  [1, 128]                  0          0",
        "5  Linear 128 -> 10           [1, 10]               1,290      2,560",
        "====================================================================",
        "Total parameters: 693,962 (2.65 MiB)",
        "Total FLOPs: 1,814,368",
    ];
    let table = summary(&network, [1, 1, 28, 28]).unwrap().to_string();
    assert_eq!(table.lines().collect::<Vec<_>>(), expected);
    // A size that no kernel can count is refused, without overflow.
    let linear = Linear::new(1, 1, &mut Init::new(1, &Device::cpu())).unwrap();
    assert!(summary(&linear, [1 << 60, 1]).unwrap_err().to_string().contains("elements"));
    let error = summary(&network, [1, 3, 28, 28]).unwrap_err().to_string();
    assert!(error.contains("conv2d") && error.contains("(layer 0: Conv2d 1 -> 32"), "{error}");
}

#[test]
fn dropout_draws_anew_at_each_call_and_repeats_with_its_seed() {
    for device in devices() {
        let x = Tensor::ones([500], &device).unwrap();
        let run = |layer: &Dropout| layer.forward(&x).unwrap().to_vec().unwrap();
        let (one, two, other) = (Dropout::new(0.5, 7), Dropout::new(0.5, 7), Dropout::new(0.5, 8));
        let (one, two, other) = (one.unwrap(), two.unwrap(), other.unwrap());
        let (first, second) = (run(&one), run(&one));
        assert_ne!(first, second);
        assert_eq!((run(&two), run(&two)), (first.clone(), second));
        assert_ne!(run(&other), first);

        let model = Sequential::new().push(Sequential::new().push(Dropout::new(0.5, 7).unwrap()));
        assert_eq!(model.forward(&x).unwrap().to_vec().unwrap(), first);
        model.eval();
        assert_eq!(model.forward(&x).unwrap().to_vec(), x.to_vec());
        model.train();
        assert_ne!(model.forward(&x).unwrap().to_vec(), x.to_vec());
    }
    for probability in [-0.1, 1.1, f32::NAN] {
        let error = Dropout::new(probability, 0).err().unwrap().to_string();
        assert!(error.contains("dropout: probability"), "{error}");
    }
}

/// A custom module that uses one layer twice.
#[derive(Module)]
struct Twice {
    #[module(name = "first")]
    layer: Linear,
    scale: Parameter,
    dropout: Dropout,
    /// Passed over.
    exponent: f32,
    #[module(skip)]
    _name: Box<str>,
}

impl Layer for Twice {
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let hidden = self.dropout.forward(&self.layer.forward(input)?)?;
        self.layer.forward(&hidden)?.mul(&self.scale.tensor())?.pow_scalar(self.exponent)
    }
}

#[test]
fn parameters_have_pytorch_s_paths() {
    let device = device();
    let mut init = Init::new(1, &device);
    let twice = Twice {
        layer: Linear::new(3, 3, &mut init).unwrap(),
        scale: Parameter::new(&Tensor::full([3], 2.0, &device).unwrap()).unwrap(),
        dropout: Dropout::new(0.5, init.seed()).unwrap(),
        exponent: 1.0,
        _name: "twice".into(),
    };
    assert_eq!(twice.describe(), "Twice");
    let boxed: Box<dyn Layer> = Box::new(Relu);
    let inner = Sequential::new().push(boxed).push(Linear::new(3, 2, &mut init).unwrap());
    let model = Sequential::new().push(twice).push(Sequential::new()).push(inner);
    let names: Vec<String> = model.named_parameters().into_iter().map(|(name, _)| name).collect();
    // The layer that is used twice is listed once, at its first use.
    assert_eq!(names, ["0.scale", "0.first.weight", "0.first.bias", "2.1.weight", "2.1.bias"]);
    assert_eq!(model.parameters().len(), 5);

    // Training mode reaches the dropout through the module's children, and gradients reach the shared layer once.
    model.eval();
    let x = Tensor::ones([4, 3], &device).unwrap();
    let run = || model.forward(&x).unwrap().to_vec().unwrap();
    assert_eq!(run(), run());
    model.train();
    assert_ne!(run(), run());
    let gradients = model.forward(&x).unwrap().sum_all().unwrap().backward().unwrap();
    Sgd::new(model.parameters(), 0.1).step(&gradients).unwrap();

    // A row for each call; the second of the shared layer adds no parameters. `mul` and `pow` are in no layer.
    let summary = summary(&model, [4, 3]).unwrap();
    let rows: Vec<_> = summary.rows.iter().map(|row| (&*row.path, row.parameters, row.flops)).collect();
    let of_linear = 4 * 3 * 6;
    let expected = [
        ("0.first", 12, of_linear),
        ("0.dropout", 0, 12),
        ("0.first", 0, of_linear),
        ("2.0", 0, 12),
        ("2.1", 8, 4 * 2 * 6),
        ("", 3, 12 + 12),
    ];
    assert_eq!(rows, expected, "{summary}");
    assert_eq!((summary.parameters, summary.flops), (23, expected.iter().map(|row| row.2).sum()));
    assert!(summary.to_string().contains("Total parameters: 23 (0.00 MiB)"), "{summary}");
}

/// Parts of every kind that a field may have.
#[derive(Module)]
struct Parted<L: Layer> {
    #[module(flatten)]
    stem: Stem,
    blocks: Vec<L>,
    heads: [Linear; 2],
    norm: Kind,
    none: Option<Parameter>,
    r#type: Parameter,
    boxed: Box<dyn Layer>,
    mode: Mode,
}

#[derive(Module)]
struct Stem(Linear);

#[derive(Module)]
enum Kind {
    Batch(BatchNorm1d),
    #[allow(dead_code)]
    Layer(LayerNorm),
}

#[test]
fn a_derived_module_lists_the_parts_of_its_fields() {
    let device = Device::cpu();
    let mut init = Init::new(1, &device);
    let norm = Kind::Batch(BatchNorm1d::new(2, &init).unwrap());
    let mut linear = || Linear::from_tensors(&init.weights([2, 2]).unwrap(), None).unwrap();
    let (stem, blocks, heads) = (Stem(linear()), vec![linear(), linear()], [linear(), linear()]);
    let module = Parted {
        stem,
        blocks,
        heads,
        norm,
        none: None,
        r#type: Parameter::new(&Tensor::ones([1], &device).unwrap()).unwrap(),
        boxed: Box::new(linear()),
        mode: Mode::new(),
    };
    let names: Vec<String> = module.named_state().into_iter().map(|(name, _)| name).collect();
    let expected = [
        "type",
        "0.weight",
        "blocks.0.weight",
        "blocks.1.weight",
        "heads.0.weight",
        "heads.1.weight",
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        "boxed.weight",
    ];
    assert_eq!(names, expected);
    // Buffers are saved, but not trained.
    assert_eq!(module.parameters().len(), expected.len() - 2);
    assert_eq!((module.describe(), module.norm.describe()), ("Parted".into(), "BatchNorm1d 2".into()));
    module.eval();
    assert!(!module.mode.is_training());
    let x = Tensor::ones([3, 2], &device).unwrap();
    let rows = summary_with(&module, || {
        let Kind::Batch(norm) = &module.norm else { panic!("it is one") };
        module.boxed.forward(&norm.forward(&module.heads[1].forward(&x)?)?)
    });
    let paths: Vec<String> = rows.unwrap().rows.into_iter().map(|row| row.path).collect();
    assert_eq!(paths, ["heads.1", "norm", "boxed", ""]);
}

#[test]
fn a_dry_run_changes_nothing_and_takes_no_memory() {
    for device in devices() {
        let init = &mut Init::new(1, &device);
        let model = Sequential::new()
            .push(Linear::new(3, 4, init).unwrap())
            .push(BatchNorm1d::new(4, init).unwrap())
            .push(Dropout::new(0.5, 3).unwrap());
        let before = hash_parameters(&model).unwrap();
        let x = Tensor::ones([5, 3], &device).unwrap();
        let dry = dry_run(|| {
            let huge = Tensor::uniform([1 << 28, 3], 0.0, 1.0, 1, &device)?;
            let loss = model.forward(&huge)?.sum_all()?;
            let gradients = loss.backward()?;
            let mut optimizer = Sgd::new(model.parameters(), 0.1);
            optimizer.step(&gradients)?;
            model.parameters()[0].set(&gradients.get(&model.parameters()[0].tensor())?.mul_scalar(2.0)?)?;
            let message = loss.item().unwrap_err().to_string();
            assert!(message.contains("a tensor of a dry run has a shape, but no elements"), "{message}");
            Ok(loss)
        });
        let (loss, flops) = dry.unwrap();
        assert!(flops > 1 << 32);
        // What it made has no elements afterwards either.
        for error in
            [loss.to_vec().err(), loss.add_scalar(1.0).err(), loss.to(&Device::cpu_with_budget(99)).err()]
        {
            assert!(error.unwrap().to_string().contains("of a dry run"));
        }
        assert!(Parameter::new(&Tensor::ones([], &device).unwrap()).unwrap().set(&loss).is_err());
        // Parameters, running statistics and the masks of dropout are as before.
        assert_eq!(hash_parameters(&model).unwrap(), before);
        let twin = Sequential::new().push(Dropout::new(0.5, 3).unwrap());
        let normed = |x: &Tensor| model.get(1).unwrap().forward(&model.get(0).unwrap().forward(x)?);
        let whole = model.forward(&x).unwrap().to_vec().unwrap();
        assert_eq!(whole, twin.forward(&normed(&x).unwrap()).unwrap().to_vec().unwrap());
        // It ends with an error, and with a panic.
        assert!(dry_run(|| x.reshape([7, 7])).is_err());
        let panicked = std::panic::catch_unwind(|| dry_run(|| -> Result<()> { panic!("on purpose") }));
        assert!(panicked.is_err());
        assert_eq!(x.sum_all().unwrap().item().unwrap(), 15.0);
        // What a dry run inside counts, counts outside too.
        let twice = dry_run(|| {
            dry_run(|| x.relu())?;
            x.relu()
        });
        assert_eq!(twice.unwrap().1, 30);
    }
    let small = Device::cpu_with_budget(1 << 10);
    dry_run(|| Tensor::zeros([1 << 28], &small)?.relu()).unwrap();
    assert_eq!((small.counts().cpu_twins, small.memory().in_use), (0, 0));
}

#[test]
fn a_sequence_of_layers_is_edited() {
    let mut model: Sequential = [Box::new(Flatten) as Box<dyn Layer>, Box::new(Relu)].into_iter().collect();
    model.extend([Box::new(Tanh) as Box<dyn Layer>]);
    assert!(
        model.insert(4, Relu).unwrap_err().to_string().contains("Sequential::insert: index 4 of 3 layers")
    );
    assert!(model.replace(3, Relu).err().unwrap().to_string().contains("index 3 of 3 layers"));
    model.insert(3, Sigmoid).unwrap();
    assert_eq!(model.pop().unwrap().describe(), "Sigmoid");
    assert_eq!(model.replace(0, Gelu).unwrap().describe(), "Flatten");
    let kinds: Vec<String> = model.iter().map(|layer| layer.describe()).collect();
    assert_eq!(kinds, ["Gelu", "Relu", "Tanh"]);
    assert!(model.get(3).is_none() && Sequential::new().pop().is_none());
}

#[test]
fn a_bad_input_names_the_layer() {
    let device = device();
    let mut init = Init::new(1, &device);
    let model = Sequential::new()
        .push(Linear::new(4, 3, &mut init).unwrap())
        .push(Sequential::new().push(Linear::new(5, 2, &mut init).unwrap()));
    let x = Tensor::zeros([2, 4], &device).unwrap();
    let parts = ["linear: ", "[2, 3]", "(layer 0: Linear 5 -> 2)", "(layer 1: Sequential of 1)"];
    for error in [model.forward(&x).err(), summary(&model, [2, 4]).err()] {
        let error = error.unwrap().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    assert!(summary(&Flatten, [3]).is_err() && summary(&model, []).is_err());
    let bias = Tensor::zeros([3], &device).unwrap();
    let error = Linear::from_tensors(&x, Some(&bias)).err().unwrap().to_string();
    assert!(error.contains("linear: a bias of shape [3] for a weight of [2, 4]"), "{error}");
    let error = Linear::from_tensors(&bias, None).err().unwrap().to_string();
    assert!(error.contains("linear: a weight of shape [3]"), "{error}");
}

#[test]
fn initial_weights_have_the_papers_distribution() {
    let (inputs, outputs) = (300, 100);
    let count = (inputs * outputs) as f64;
    let cases = [
        (Scheme::Default, 1.0 / 900.0),
        (Scheme::Normal(0.02), 0.02 * 0.02),
        (Scheme::HeUniform, 2.0 / 300.0),
        (Scheme::HeNormal, 2.0 / 300.0),
        (Scheme::XavierUniform, 2.0 / 400.0),
        (Scheme::XavierNormal, 2.0 / 400.0),
    ];
    for device in devices() {
        for (scheme, variance) in cases {
            let weights = |seed| {
                let mut init = Init::new(seed, &device).with_scheme(scheme);
                let both = [(); 2].map(|()| Linear::new(inputs, outputs, &mut init).unwrap());
                both.map(|layer| values(&layer.parameters()[0]))
            };
            let [first, second] = weights(5);
            assert_eq!(weights(5), [first.clone(), second.clone()]);
            assert_ne!(first, second);
            assert_ne!(weights(6)[0], first);
            let mean = |f: fn(f64) -> f64| first.iter().map(|&w| f(w.into())).sum::<f64>() / count;
            // Within five standard deviations. That of the mean is √(v / n). The variance of w² is 2v² for a normal
            // distribution and 4b⁴/45 = 0.8v² for a uniform one.
            assert!(mean(|w| w).abs() < 5.0 * (variance / count).sqrt());
            let normal = matches!(scheme, Scheme::HeNormal | Scheme::XavierNormal | Scheme::Normal(_));
            let spread = variance * (if normal { 2.0 } else { 0.8 } / count).sqrt();
            assert!((mean(|w| w * w) - variance).abs() < 5.0 * spread, "{scheme:?}");
            let largest = first.iter().fold(0.0f64, |m, &w| m.max(f64::from(w).abs()));
            let bound = (3.0 * variance).sqrt();
            assert_eq!(largest > bound * 1.000_001, normal, "{scheme:?}: {largest} against {bound}");
        }
        let bias = |scheme| {
            let mut init = Init::new(1, &device).with_scheme(scheme);
            values(&Linear::new(inputs, outputs, &mut init).unwrap().parameters()[1])
        };
        assert_eq!(bias(Scheme::HeUniform), [0.0; 100]);
        // 100 uniform numbers over ±1/√300: all within it, and the largest above 0.9 of it but for one in 37,000 seeds.
        let (bound, largest) =
            (1.0 / 300f32.sqrt(), bias(Scheme::Default).iter().fold(0f32, |m, w| m.max(w.abs())));
        assert!(largest <= bound && largest > 0.9 * bound, "{largest} of {bound}");
        // No inputs: nothing to draw, nothing to divide by.
        let empty = Linear::new(0, 4, &mut Init::new(1, &device)).unwrap();
        let y = empty.forward(&Tensor::zeros([2, 0], &device).unwrap()).unwrap();
        assert_eq!(y.to_vec().unwrap(), [0.0; 8]);
    }
}

/// The loss of a classifier that knows nothing is ln(classes). He's distribution for every layer once started such a network
/// at 3.29 instead of 2.30.
#[test]
fn an_untouched_classifier_knows_nothing() {
    for device in devices() {
        for seed in 0..8 {
            let mut init = Init::new(seed, &device);
            let model = Sequential::new()
                .push(Linear::new(64, 128, &mut init).unwrap().with_activation(Activation::Relu))
                .push(Linear::new(128, 128, &mut init).unwrap().with_activation(Activation::Relu))
                .push(Linear::new(128, 10, &mut init).unwrap());
            let x = Tensor::randn([256, 64], 0.0, 1.0, seed + 100, &device).unwrap();
            let classes: Vec<u32> = (0..256).map(|i| i % 10).collect();
            let classes = Tensor::from_ids(&classes, [256], &device).unwrap();
            let loss = model.forward(&x).unwrap().cross_entropy(&classes).unwrap().item().unwrap();
            // The logits have a standard deviation of about 0.1: half its square adds 0.2 % to the loss, and the mean of
            // 256 of them deviates by 0.3 %.
            assert!((loss / 10f32.ln() - 1.0).abs() < 0.02, "{loss} with seed {seed}");
        }
    }
}

#[test]
fn a_frozen_parameter_gets_no_gradient_and_stays() {
    for device in devices() {
        let model = mlp(1, &device);
        let x = tensor(&[0.5, -0.25], &[1, 2], &device);
        let all = model.parameters();
        let gradients = || model.forward(&x).unwrap().sum_all().unwrap().backward().unwrap();
        let found = |of: &Gradients| all.iter().map(|p| of.get(&p.tensor()).is_ok()).collect::<Vec<_>>();
        let early = gradients();
        assert_eq!(found(&early), [true; 4]);

        all[0].freeze();
        assert!(all[0].is_frozen() && !all[0].tensor().is_differentiable());
        assert_eq!(found(&gradients()), [false, true, true, true]);
        let before = values(&all[0]);
        let mut sgd = Sgd::new(all.clone(), 0.5);
        // Not by a gradient from before it was frozen either.
        sgd.step(&early).unwrap();
        sgd.step(&gradients()).unwrap();
        assert_eq!(values(&all[0]), before);
        assert_eq!(model.named_state().len(), 4);

        {
            let first = model.frozen();
            assert!(model.forward(&x).unwrap().is_leaf(), "nothing is recorded");
            let second = model.frozen();
            drop(first);
            model.unfreeze();
            assert!(model.forward(&x).unwrap().is_leaf(), "the second guard holds");
            all[0].freeze();
            drop(second);
        }
        // What was frozen before the guard stays frozen.
        assert_eq!(found(&gradients()), [false, true, true, true]);
        model.unfreeze();
        assert_eq!(found(&gradients()), [true; 4]);
        // The leaf is the same as before.
        assert_eq!(found(&early), [true; 4]);
        model.freeze();
        assert!(all.iter().all(Parameter::is_frozen));
    }
}

/// A generator's step computes no gradients of the discriminator's weights, and the same ones of its own.
#[test]
fn a_frozen_discriminator_passes_gradients_on() {
    let device = device();
    let mut init = Init::new(1, &device);
    let layer = |inputs: usize, outputs: usize, init: &mut Init| Linear::new(inputs, outputs, init).unwrap();
    let (generator, discriminator) = (layer(4, 8, &mut init), layer(8, 1, &mut init));
    let noise = Tensor::randn([16, 4], 0.0, 1.0, 1, &device).unwrap();
    let run = || {
        let fake = generator.forward(&noise).unwrap();
        let loss = discriminator.forward(&fake).unwrap().mean_all().unwrap();
        let gradients = loss.backward().unwrap();
        let own = generator.parameters();
        let own = own.iter().map(|p| gradients.get(&p.tensor()).unwrap().to_vec().unwrap());
        (own.collect::<Vec<_>>(), gradients.iter().count())
    };
    let (with, all) = run();
    let _guard = discriminator.frozen();
    assert_eq!((run(), all), ((with, 2), 4));
}

#[test]
fn mean_squared_error() {
    for device in devices() {
        let (x, y) = (
            tensor(&[1.0, 2.0, 3.0, 4.0], &[2, 2], &device),
            tensor(&[1.0, 0.0, 4.0, 1.0], &[2, 2], &device),
        );
        // (0 + 4 + 1 + 9) / 4
        assert_eq!(mse_loss(&x, &y).unwrap().item(), Ok(3.5));
        let error = mse_loss(&x, &y.reshape([4]).unwrap()).unwrap_err().to_string();
        assert!(error.contains("mse_loss") && error.contains("[2, 2]") && error.contains("[4]"), "{error}");
        let empty = Tensor::zeros([0], &device).unwrap();
        assert!(mse_loss(&empty, &empty).unwrap().item().unwrap().is_nan());
    }
}

/// Trains on XOR; the last loss and the parameters' hash.
fn train_xor(seed: u64, device: &Device) -> (f32, u64) {
    let x = tensor(&[0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0], &[4, 2], device);
    let y = tensor(&[0.0, 1.0, 1.0, 0.0], &[4, 1], device);
    let model = mlp(seed, device);
    let mut optimizer = Adam::new(model.parameters(), 0.05);
    let mut last = f32::NAN;
    for _ in 0..250 {
        let loss = mse_loss(&model.forward(&x).unwrap(), &y).unwrap();
        optimizer.step(&loss.backward().unwrap()).unwrap();
        last = loss.item().unwrap();
    }
    (last, hash_parameters(&model).unwrap())
}

#[test]
fn xor_is_learnt_and_the_same_seed_gives_the_same_bits() {
    for device in devices() {
        let (loss, hash) = train_xor(3, &device);
        // A linear model reaches only 0.25.
        assert!(loss < 1e-3, "loss {loss} on {device:?}");
        assert_eq!(train_xor(3, &device).1, hash);
        assert_ne!(train_xor(4, &device).1, hash);
    }
}

#[test]
fn linear_regression_converges() {
    // y = 2 a - 3 b + 0.5 exactly, so the loss is convex with its minimum there.
    for device in devices() {
        let points = Array::random([32, 2], 1, -1.0, 1.0);
        let line =
            Array::from_fn([32, 1], |i| 2.0 * points.at(&[i[0], 0]) - 3.0 * points.at(&[i[0], 1]) + 0.5);
        let (x, y) = (points.to_tensor(&device), line.to_tensor(&device));
        for by_adam in [false, true] {
            let model = Linear::new(2, 1, &mut Init::new(1, &device)).unwrap();
            let mut optimizer: Box<dyn Optimizer> = match by_adam {
                false => Box::new(Sgd::new(model.parameters(), 0.1).momentum(0.9)),
                true => Box::new(AdamW::new(model.parameters(), 0.1).weight_decay(0.0)),
            };
            for _ in 0..300 {
                let loss = mse_loss(&model.forward(&x).unwrap(), &y).unwrap();
                optimizer.step(&loss.backward().unwrap()).unwrap();
            }
            let found = [values(&model.parameters()[0]), values(&model.parameters()[1])].concat();
            assert!(
                found.iter().zip([2.0, -3.0, 0.5]).all(|(got, want)| (got - want).abs() < 1e-2),
                "{found:?}"
            );
        }
    }
}

#[test]
fn hashes_see_names_shapes_and_bits() {
    let device = device();
    let linear =
        |data: &[f32], shape: &[usize]| Linear::from_tensors(&tensor(data, shape, &device), None).unwrap();
    let hash = |module: &dyn Module| hash_parameters(module).unwrap();
    let one = hash(&linear(&[1.0, 0.0], &[1, 2]));
    assert_eq!(one, hash(&linear(&[1.0, 0.0], &[1, 2])));
    assert_ne!(one, hash(&linear(&[1.0, 0.0], &[2, 1])));
    assert_ne!(one, hash(&linear(&[1.0, -0.0], &[1, 2])));
    assert_ne!(one, hash(&Sequential::new().push(linear(&[1.0, 0.0], &[1, 2]))));
    // FNV-1a of no bytes is its offset basis.
    assert_eq!(hash(&Relu), 0xcbf2_9ce4_8422_2325);
}
