//! `optim`, `io`, `data`, `metrics`: training and files.

use crate::calls;
use crate::nn::module;
use crate::world::{Call, Out, World, said};
use gristmill::data::*;
use gristmill::io::{self, Metadata};
use gristmill::metrics::{self, ConfusionMatrix};
use gristmill::nn::{Linear, Parameter};
use gristmill::optim::*;
use gristmill::{Device, Gradients, Result, Tensor};
use std::path::PathBuf;
use std::sync::Arc;

/// Parameters of one graph and their gradients. Rarely one is duplicated, on another device, without a gradient, or
/// with one computed from ids that are out of range.
fn trained(w: &mut World) -> Result<(Vec<Parameter>, Gradients)> {
    let mut parameters = vec![Parameter::new(&w.of_rank(1)?)?, Parameter::new(&w.of_rank(2)?)?];
    let mut loss = if w.odd() { w.tensor()? } else { parameters[0].tensor().square()?.sum_all()? };
    if w.flag() {
        loss = loss.add(&parameters[1].tensor().sum_all()?)?;
    }
    // The gradient of an empty table has no element that could report a bad id.
    if w.odd() && parameters[1].numel() > 0 {
        let ids = w.ids(&[2], parameters[1].shape().first().copied().unwrap_or(1))?;
        loss = loss.add(&parameters[1].tensor().embedding(&ids)?.sum_all()?)?;
    }
    if w.odd() {
        parameters.push(parameters[0].clone());
    }
    Ok((parameters, loss.backward()?))
}

/// An optimizer of no parameters yet: [`steps`] adds them.
fn optimizer(w: &mut World) -> Box<dyn Optimizer> {
    let rate = w.positive();
    match w.draw.below(4) {
        0 => Box::new(Sgd::new([], rate)),
        1 => Box::new(Sgd::new([], rate).momentum(w.probability()).nesterov(w.flag())),
        2 => Box::new(Adam::new([], rate)),
        _ => Box::new(AdamW::new([], rate)),
    }
}

fn group(w: &mut World, parameters: &[Parameter]) -> ParameterGroup {
    let group = ParameterGroup::new(parameters.iter().cloned());
    match w.draw.below(3) {
        0 => group,
        1 => group.learning_rate(w.number()),
        _ => group.weight_decay(f64::from(w.number())),
    }
}

/// Two steps; in rare cases a group is there twice.
fn steps(w: &mut World, optimizer: &mut dyn Optimizer) -> Result<Out> {
    let (parameters, gradients) = trained(w)?;
    optimizer.add_group(group(w, &parameters))?;
    optimizer.step(&gradients)?;
    if w.odd() {
        optimizer.add_group(group(w, &parameters))?;
    }
    optimizer.step(&gradients)?;
    Ok(parameters.iter().map(Parameter::tensor).collect::<Vec<_>>().into())
}

fn by_place(parameters: &[Parameter]) -> Vec<(String, Parameter)> {
    (0..).zip(parameters).map(|(at, parameter)| (format!("{at}"), parameter.clone())).collect()
}

fn hyper(w: &mut World) -> f64 {
    f64::from(w.probability()) * if w.flag() { 1.0 } else { 0.9 }
}

/// A model, an optimizer after a step, and their checkpoint.
fn checkpoint(w: &mut World) -> Result<(Linear, Box<dyn Optimizer>, PathBuf)> {
    let [inputs, outputs] = [w.small(), w.small()];
    let model = Linear::new(inputs, outputs, &mut w.init())?;
    let mut optimizer = optimizer(w);
    let loss = w.through(&model, &[2, inputs])?.tensors.remove(0).sum_all()?;
    optimizer.add_group(group(w, &gristmill::nn::Module::parameters(&model)))?;
    optimizer.step(&loss.backward()?)?;
    let path = w.dir.join("checkpoint.safetensors");
    save_checkpoint(&model, &*optimizer, &path, &Metadata::new())?;
    Ok((model, optimizer, path))
}

fn named(w: &mut World) -> Result<Vec<(String, Tensor)>> {
    let names = ["a", "a", "", "__metadata__", "b\"\n\u{1b}", "c.d"];
    let count = w.draw.below(4);
    (0..count).map(|_| Ok((names[w.draw.below(names.len())].to_string(), w.tensor()?))).collect()
}

/// The bytes of a safetensors file, sometimes damaged.
fn bytes(w: &mut World) -> Result<Vec<u8>> {
    let headers = [
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F16","shape":[2,2],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[0,18446744073709551615,18446744073709551615],"data_offsets":[0,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,2],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}}"#,
        r#"{"__metadata__":{"k":"v"}}"#,
        "[[[[[[[[[[",
        "{",
        "",
    ];
    let header = headers[w.draw.below(headers.len())];
    let length = if w.odd() { w.huge() as u64 } else { header.len() as u64 };
    let mut bytes = [&length.to_le_bytes()[..], header.as_bytes(), &[0x3f; 8]].concat();
    if w.odd() {
        bytes = include_bytes!("../golden/pytorch/list.pt").to_vec();
    }
    if w.flag() {
        let at = w.draw.below(bytes.len());
        bytes[at] = w.draw.bits() as u8;
    }
    if w.odd() {
        bytes.truncate(w.draw.below(bytes.len()));
    }
    w.tell(String::from_utf8_lossy(&bytes).into_owned());
    Ok(bytes)
}

fn tensors((named, metadata): (Vec<(String, Tensor)>, Metadata)) -> Out {
    let names: Vec<String> = named.iter().map(|(name, _)| name.clone()).collect();
    let tensors = named.into_iter().map(|(_, tensor)| tensor).collect();
    Out { tensors, said: format!("{names:?} {metadata:?}") }
}

fn split(w: &mut World) -> Split {
    let [n, rows, cols] = [w.small(), w.small(), w.small()];
    let mut split = Split { images: vec![9; n * rows * cols], labels: vec![1; n], rows, cols, classes: 10 };
    if w.odd() {
        (split.rows, split.cols) = (w.size(), w.size());
    }
    if w.odd() {
        split.labels.clear();
    }
    split
}

/// An IDX file with two images of one pixel, and one with their labels.
const IMAGES: &[u8] = &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 7, 9];
const LABELS: &[u8] = &[0, 0, 8, 1, 0, 0, 0, 2, 5, 6];

/// A copy of a file, sometimes damaged.
fn damaged(w: &mut World, file: &[u8]) -> Vec<u8> {
    let mut bytes = file.to_vec();
    if w.odd() {
        let at = w.draw.below(bytes.len());
        bytes[at] = w.draw.bits() as u8;
    }
    if w.odd() {
        bytes.truncate(w.draw.below(bytes.len()));
    }
    w.tell(bytes)
}

fn idx(w: &mut World) -> Vec<u8> {
    let file = w.pick(&[IMAGES, LABELS]);
    damaged(w, file)
}

/// The four files of a data set, in the order of `IDX_FILES`.
fn data_set(w: &mut World) -> [Vec<u8>; 4] {
    [IMAGES, LABELS, IMAGES, LABELS].map(|file| damaged(w, file))
}

/// A directory with a data set.
fn data_directory(w: &mut World) -> PathBuf {
    let dir = w.dir.join("idx-files");
    std::fs::create_dir_all(&dir).unwrap();
    for (name, bytes) in IDX_FILES.iter().zip(data_set(w)) {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    if w.odd() { w.path() } else { dir }
}

/// Up to three indices, rarely one that is out of range.
fn indices(w: &mut World, len: usize) -> Vec<usize> {
    let count = w.draw.below(4);
    let indices = (0..count).map(|_| if w.odd() { w.huge() } else { w.draw.below(len.max(1)) }).collect();
    w.tell(indices)
}

fn rows(w: &mut World) -> Result<TensorDataset> {
    let n = w.small();
    let targets = if w.flag() { w.ids(&[n], 3)? } else { w.of(&[n, 2])? };
    TensorDataset::new(w.of(&[n, 3])?, targets)
}

/// A data set that claims any number of samples, and gives up to nine.
struct Endless(usize);

impl Dataset for Endless {
    fn len(&self) -> usize {
        self.0
    }

    fn batch(&self, indices: &[usize], epoch: u64) -> Result<Batch> {
        let x = Tensor::full([indices.len().min(9)], epoch as f32, &Device::cpu())?;
        Ok(Batch { inputs: x.clone(), targets: x })
    }
}

fn loader(w: &mut World) -> Result<DataLoader> {
    let (dataset, size): (Arc<dyn Dataset>, usize) = match w.draw.below(3) {
        0 => (Arc::new(Endless(w.size())), w.size()),
        1 => (Arc::new(images(w)?), w.size()),
        _ => (Arc::new(rows(w)?), w.size()),
    };
    let loader = DataLoader::new(dataset, size)?.drop_last(w.flag()).device(&w.device);
    let loader = if w.flag() { loader.shuffle(w.seed()) } else { loader };
    Ok(loader.workers(w.pick(&[0, 0, 1, 3])))
}

/// The first batches of an epoch; the rest is dropped.
fn first(w: &mut World, loader: &DataLoader) -> Result<Out> {
    let batches = loader.epoch(w.seed())?.take(3).collect::<Result<Vec<Batch>>>()?;
    Ok(batches.into_iter().flat_map(|batch| [batch.inputs, batch.targets]).collect::<Vec<_>>().into())
}

fn transform(w: &mut World) -> ImageTransform {
    let mut transform = ImageTransform::new().seed(w.seed());
    if w.flag() {
        let size = if w.odd() { [w.size(), w.size()] } else { [1, 1] };
        transform = transform.random_crop(size, w.padding());
    }
    if w.flag() {
        transform = transform.random_horizontal_flip(w.probability());
    }
    if w.flag() {
        transform =
            transform.normalize(&vec![Normalization { mean: w.number(), std: w.positive() }; w.small()]);
    }
    transform
}

fn images(w: &mut World) -> Result<ImageDataset> {
    let shape = [w.small(), w.side(), w.small(), w.small()];
    let count = w.count_for(&shape);
    let claimed = if w.odd() { [w.size(); 4] } else { shape };
    Ok(ImageDataset::new(vec![7; count], claimed, vec![1; shape[0]])?.transform(transform(w)))
}

fn csv(w: &mut World) -> Csv {
    let names = w.pick(&[&["a"][..], &["a", "b"], &["a", "a"], &[]]);
    let csv = match w.draw.below(4) {
        0 => Csv::new().numbers(names.to_vec()),
        1 => Csv::new().categories(names.to_vec()),
        _ => Csv::new().numbers(["a"]).categories(["c"]),
    };
    match w.draw.below(4) {
        0 => csv,
        1 => csv.target_class("d"),
        2 => csv.target_number("d"),
        _ => csv.target_number("d").target_number(w.pick(&["b", "d"])),
    }
}

/// A table with missing values and quotes.
const CSV: &[u8] = b"a,b,c,d\n1,2,x,4\r\n-1e30,NA,\"y, \"\"z\",5\n0.5,,,6\n";

/// Its text, sometimes damaged.
fn csv_text(w: &mut World) -> String {
    String::from_utf8_lossy(&damaged(w, CSV)).into_owned()
}

fn table(w: &mut World) -> Result<Table> {
    let text = csv_text(w);
    csv(w).parse(&text)
}

/// Rows, rarely in another shape. New ones, since rounding on a device may make a number infinite, which can't be fitted.
fn measured(w: &mut World) -> Result<Tensor> {
    let shape = if w.odd() { w.small_shape(3) } else { vec![w.small(), w.pick(&[1, 2, 2, 2])] };
    let values = w.floats(shape.iter().product());
    Tensor::from_slice(&values, &shape, &w.device)
}

/// Rows to fit to, and others.
fn fitted(w: &mut World) -> Result<[Tensor; 2]> {
    Ok([measured(w)?, measured(w)?])
}

fn strategy(w: &mut World) -> Strategy {
    w.pick(&[Strategy::Mean, Strategy::Median, Strategy::Constant(1.5), Strategy::Constant(f32::NAN)])
}

/// The metadata of scalers, sometimes with an entry of another kind.
fn saved(w: &mut World) -> Result<Metadata> {
    let [x, _] = fitted(w)?;
    let mut metadata = Metadata::new();
    StandardScaler::fit(&x)?.save(&mut metadata, "s");
    MinMaxScaler::fit(&x)?.save(&mut metadata, "s");
    SimpleImputer::fit(&x, Strategy::Mean)?.save(&mut metadata, "s");
    csv(w).save(&mut metadata, "s");
    if w.draw.one_in(4) {
        let other = w.pick(&["", "1 2 3", "NaN", "-1", "{\"columns\":[]}", "[[[["]);
        metadata.values_mut().for_each(|value| *value = other.to_string());
    }
    Ok(metadata)
}

fn labels(w: &mut World, classes: usize) -> [Vec<u32>; 2] {
    let count = w.small();
    let mut draw =
        |count: usize| -> Vec<u32> { (0..count).map(|_| w.draw.below(classes.max(1)) as u32).collect() };
    let (a, b) = (draw(count), draw(count));
    if w.odd() { [a, vec![u32::MAX; w.draw.below(5)]] } else { [a, b] }
}

fn counted(w: &mut World) -> Result<ConfusionMatrix> {
    let classes = w.small();
    let mut matrix = ConfusionMatrix::new(classes)?;
    let [a, b] = labels(w, classes);
    matrix.add(&a, &b)?;
    Ok(matrix)
}

fn lr_at(w: &mut World, schedule: &Schedule) -> Out {
    let steps = [0, 1, u64::MAX, w.seed()];
    said(steps.map(|step| schedule.lr_at(step).to_bits()))
}

calls! {
    "Sgd::new": |w| {
        let rate = w.number();
        steps(w, &mut Sgd::new([], rate))?
    };
    "Sgd::momentum": |w| {
        let momentum = w.probability();
        steps(w, &mut Sgd::new([], 0.1).momentum(momentum))?
    };
    "Sgd::dampening": |w| {
        let dampening = w.number();
        steps(w, &mut Sgd::new([], 0.1).momentum(0.5).dampening(dampening))?
    };
    "Sgd::nesterov": |w| {
        let (momentum, nesterov) = (w.probability(), w.flag());
        steps(w, &mut Sgd::new([], 0.1).momentum(momentum).nesterov(nesterov))?
    };
    "Sgd::weight_decay": |w| {
        let decay = hyper(w);
        steps(w, &mut Sgd::new([], 0.1).weight_decay(decay))?
    };
    "Adam::new": |w| {
        let rate = w.number();
        steps(w, &mut Adam::new([], rate))?
    };
    "Adam::betas": |w| {
        let betas = (hyper(w), hyper(w));
        steps(w, &mut Adam::new([], 0.1).betas(betas.0, betas.1))?
    };
    "Adam::eps": |w| {
        let eps = hyper(w);
        steps(w, &mut Adam::new([], 0.1).eps(eps))?
    };
    "Adam::weight_decay": |w| {
        let decay = hyper(w);
        steps(w, &mut Adam::new([], 0.1).weight_decay(decay))?
    };
    "AdamW::new": |w| {
        let rate = w.number();
        steps(w, &mut AdamW::new([], rate))?
    };
    "AdamW::betas": |w| {
        let betas = (hyper(w), hyper(w));
        steps(w, &mut AdamW::new([], 0.1).betas(betas.0, betas.1))?
    };
    "AdamW::eps": |w| {
        let eps = hyper(w);
        steps(w, &mut AdamW::new([], 0.1).eps(eps))?
    };
    "AdamW::weight_decay": |w| {
        let decay = hyper(w);
        steps(w, &mut AdamW::new([], 0.1).weight_decay(decay))?
    };
    "Optimizer::step": |w| {
        let mut optimizer = optimizer(w);
        steps(w, &mut *optimizer)?
    };
    "Optimizer::add_group": |w| {
        let mut optimizer = optimizer(w);
        steps(w, &mut *optimizer)?
    };
    "ParameterGroup::new": |w| {
        let (parameters, gradients) = trained(w)?;
        let mut optimizer = optimizer(w);
        optimizer.add_group(ParameterGroup::new(parameters.iter().cloned()))?;
        optimizer.step(&gradients)?;
        parameters.iter().map(Parameter::tensor).collect::<Vec<_>>()
    };
    "ParameterGroup::learning_rate": |w| {
        let (parameters, gradients) = trained(w)?;
        let mut optimizer = optimizer(w);
        optimizer.add_group(ParameterGroup::new(parameters.iter().cloned()).learning_rate(w.number()))?;
        optimizer.set_learning_rate(w.number());
        optimizer.step(&gradients)?;
        parameters.iter().map(Parameter::tensor).collect::<Vec<_>>()
    };
    "ParameterGroup::weight_decay": |w| {
        let (parameters, gradients) = trained(w)?;
        let mut optimizer = optimizer(w);
        let decay = f64::from(w.number());
        optimizer.add_group(ParameterGroup::new(parameters.iter().cloned()).weight_decay(decay))?;
        optimizer.step(&gradients)?;
        parameters.iter().map(Parameter::tensor).collect::<Vec<_>>()
    };
    "Optimizer::learning_rate": |w| said(optimizer(w).learning_rate().to_bits());
    "Optimizer::set_learning_rate": |w| {
        let mut optimizer = optimizer(w);
        optimizer.set_learning_rate(w.number());
        steps(w, &mut *optimizer)?
    };
    "Optimizer::state": |w| {
        let mut optimizer = optimizer(w);
        let (parameters, gradients) = trained(w)?;
        optimizer.add_group(group(w, &parameters))?;
        optimizer.step(&gradients)?;
        let names = by_place(if w.odd() { &parameters[1..] } else { &parameters });
        let state = optimizer.state(&names)?.into_iter().map(|(_, tensor)| tensor);
        state.chain(parameters.iter().map(Parameter::tensor)).collect::<Vec<_>>()
    };
    "Optimizer::load_state": |w| {
        let (mut one, mut other) = (optimizer(w), optimizer(w));
        let (parameters, gradients) = trained(w)?;
        one.add_group(group(w, &parameters))?;
        other.add_group(group(w, &parameters))?;
        one.step(&gradients)?;
        let names = by_place(&parameters);
        let mut state = one.state(&names)?;
        if w.odd() && !state.is_empty() {
            state[0].1 = w.tensor()?;
        }
        if w.flag() { one.load_state(&names, &state)? } else { other.load_state(&names, &state)? };
        one.step(&gradients)?;
        parameters.iter().map(Parameter::tensor).collect::<Vec<_>>()
    };
    "clip_grad_norm": |w| {
        let (_, mut gradients) = trained(w)?;
        clip_grad_norm(&mut gradients, w.positive())?;
        gradients.iter().cloned().collect::<Vec<_>>()
    };
    "Schedule::constant": |w| {
        let schedule = Schedule::constant(w.number());
        lr_at(w, &schedule)
    };
    "Schedule::step": |w| {
        let schedule = Schedule::step(w.number(), w.seed(), w.number());
        lr_at(w, &schedule)
    };
    "Schedule::cosine": |w| {
        let schedule = Schedule::cosine(w.number(), w.number(), w.seed());
        lr_at(w, &schedule)
    };
    "Schedule::warm_up": |w| {
        let schedule = Schedule::step(w.number(), 3, 0.5).warm_up(w.seed()).warm_up(w.seed());
        lr_at(w, &schedule)
    };
    "Schedule::lr_at": |w| {
        let schedule = Schedule::cosine(w.number(), 0.0, 0).warm_up(0);
        lr_at(w, &schedule)
    };
    "save_checkpoint": |w| {
        let (model, optimizer, _) = checkpoint(w)?;
        save_checkpoint(&model, &*optimizer, w.path(), &Metadata::new())?;
        said("a file")
    };
    "load_checkpoint": |w| {
        let (model, _, path) = checkpoint(w)?;
        let (other, mut optimizer) = (module(w)?.0, optimizer(w));
        optimizer.add_group(group(w, &gristmill::nn::Module::parameters(&model)))?;
        let path = if w.odd() { w.path() } else { path };
        if w.odd() { load_checkpoint(&other, &mut *optimizer, path)? } else { load_checkpoint(&model, &mut *optimizer, path)? };
        gristmill::nn::Module::parameters(&model).iter().map(Parameter::tensor).collect::<Vec<_>>()
    };
    "write_atomic": |w| {
        io::write_atomic(w.path(), [0; 9])?;
        said("a file")
    };
    "check_writable": |w| {
        io::check_writable(w.path())?;
        said("a file")
    };
    "save": |w| {
        let all = named(w)?;
        io::save(w.path(), &all, &[("\u{7f}".to_string(), String::new())].into())?;
        said("a file")
    };
    "load": |w| {
        let (all, file) = (named(w)?, w.dir.join("load.safetensors"));
        io::save(&file, &all, &Metadata::new())?;
        if w.odd() {
            std::fs::write(&file, include_bytes!("../golden/pytorch/views.pt")).unwrap();
        }
        if w.flag() {
            let mut bytes = std::fs::read(&file).unwrap();
            let at = w.draw.below(bytes.len());
            bytes[at] ^= 1 << w.draw.below(8);
            std::fs::write(&file, bytes).unwrap();
        }
        let path = if w.odd() { w.dir.join("none") } else { file };
        tensors(io::load(path, &w.device)?)
    };
    "parse": |w| tensors(io::parse(bytes(w)?, &w.device)?);
    "mean_std": |w| said(mean_std(&vec![3; w.size().min(1 << 16)])?);
    "Dataset::len": |w| said(rows(w)?.len());
    "Dataset::is_empty": |w| said(images(w)?.is_empty());
    "Dataset::batch": |w| {
        let dataset: Box<dyn Dataset> = if w.flag() { Box::new(rows(w)?) } else { Box::new(images(w)?) };
        let batch = dataset.batch(&indices(w, dataset.len()), w.seed())?;
        [batch.inputs.to(&w.device)?, batch.targets.to(&w.device)?]
    };
    "Batch::collate": |w| {
        let shape = w.small_shape(2);
        let count = w.draw.below(4);
        let samples = (0..count).map(|_| Ok((w.of(&shape)?, w.ids(&[2], 3)?))).collect::<Vec<Result<_>>>();
        let batch = Batch::collate(samples)?;
        [batch.inputs.to(&w.device)?, batch.targets.to(&w.device)?]
    };
    "Batch::to": |w| {
        let batch = Batch { inputs: w.tensor()?, targets: w.tensor()? }.to(&w.device)?;
        [batch.inputs, batch.targets]
    };
    "TensorDataset::new": |w| {
        said(if w.flag() { rows(w)? } else { TensorDataset::new(w.tensor()?, w.tensor()?)? }.len())
    };
    "Subset::new": |w| {
        let dataset = rows(w)?;
        let subset = Subset::new(dataset, indices(w, 2))?;
        said(subset.batch(&indices(w, subset.len()), 0)?.inputs.shape())
    };
    "Subset::indices": |w| said(Subset::new(Endless(w.size()), indices(w, 2))?.indices());
    "DataLoader::new": |w| said(DataLoader::new(Endless(w.size()), w.size())?.len());
    "DataLoader::shuffle": |w| {
        let loader = loader(w)?.shuffle(w.seed());
        first(w, &loader)?
    };
    "DataLoader::drop_last": |w| {
        let loader = loader(w)?.drop_last(w.flag());
        first(w, &loader)?
    };
    "DataLoader::workers": |w| {
        let loader = loader(w)?.workers(w.size());
        first(w, &loader)?
    };
    "DataLoader::device": |w| {
        let loader = loader(w)?.device(&w.other);
        said(first(w, &loader)?.tensors.len())
    };
    "DataLoader::len": |w| said(loader(w)?.len());
    "DataLoader::is_empty": |w| said(loader(w)?.is_empty());
    "DataLoader::epoch": |w| {
        let loader = loader(w)?;
        first(w, &loader)?
    };
    "random_split": |w| {
        let fractions = w.pick(&[[0.5, 0.5], [1.0, 0.0], [0.9, 0.2], [f64::NAN, 1.0], [-1.0, 2.0]]);
        said(random_split(w.size(), fractions, w.seed())?)
    };
    "k_fold": |w| said(k_fold(w.size(), w.size(), w.seed())?.len());
    "ImageTransform::new": |w| {
        let transform = ImageTransform::new();
        said(images(w)?.transform(transform).batch(&[0], w.seed())?.inputs.to_vec()?)
    };
    "ImageTransform::normalize": |w| {
        let transform = transform(w).normalize(&[Normalization { mean: w.number(), std: w.number() }]);
        said(images(w)?.transform(transform).batch(&[0], 0)?.inputs.to_vec()?)
    };
    "ImageTransform::random_crop": |w| {
        let transform = transform(w).random_crop([w.size(), w.size()], w.size());
        said(images(w)?.transform(transform).batch(&[0], 0)?.inputs.to_vec()?)
    };
    "ImageTransform::random_horizontal_flip": |w| {
        let transform = transform(w).random_horizontal_flip(w.number());
        said(images(w)?.transform(transform).batch(&[0], 0)?.inputs.to_vec()?)
    };
    "ImageTransform::seed": |w| {
        let transform = transform(w).seed(w.seed());
        said(images(w)?.transform(transform).batch(&[0], w.seed())?.inputs.to_vec()?)
    };
    "ImageDataset::new": |w| said(images(w)?.len());
    "ImageDataset::transform": |w| {
        let transform = transform(w);
        said(images(w)?.transform(transform).batch(&[0], w.seed())?.inputs.to_vec()?)
    };
    "Split::into_dataset": |w| said(split(w).into_dataset()?.batch(&indices(w, 1), 0)?.targets.to_ids()?);
    "Csv::new": |w| said(Csv::new().parse(&csv_text(w))?.len());
    "Csv::numbers": |w| said(Csv::new().numbers(["a", "b"]).parse(&csv_text(w))?.missing());
    "Csv::categories": |w| said(Csv::new().categories(["a", "c"]).parse(&csv_text(w))?.feature_names());
    "Csv::target_number": |w| said(Csv::new().target_number("d").parse(&csv_text(w))?.targets()?.to_vec()?);
    "Csv::target_class": |w| said(Csv::new().target_class("d").parse(&csv_text(w))?.targets()?.to_ids()?);
    "Csv::missing": |w| {
        let words = w.pick(&[&["x"][..], &[], &["", "1"]]);
        said(csv(w).missing(words.to_vec()).parse(&csv_text(w))?.missing())
    };
    "Csv::delimiter": |w| {
        let delimiter = w.pick(b",;a\"\n\xff");
        said(csv(w).delimiter(delimiter).parse(&csv_text(w))?.len())
    };
    "Csv::features_only": |w| said(csv(w).features_only().parse(&csv_text(w))?.feature_names());
    "Csv::read": |w| {
        let file = w.dir.join("table.csv");
        std::fs::write(&file, damaged(w, CSV)).unwrap();
        said(csv(w).read(if w.odd() { w.dir.join("none") } else { file })?.len())
    };
    "Csv::parse": |w| said(table(w)?.len());
    "Csv::save": |w| said(saved(w)?);
    "Csv::load": |w| {
        let text = csv_text(w);
        said(Csv::load(&saved(w)?, w.pick(&["s", "s", "s", "t"]))?.parse(&text)?.len())
    };
    "Table::len": |w| said(table(w)?.len());
    "Table::is_empty": |w| said(table(w)?.is_empty());
    "Table::csv": |w| {
        let text = csv_text(w);
        said(table(w)?.csv().parse(&text)?.feature_names())
    };
    "Table::missing": |w| said(table(w)?.missing());
    "Table::drop_missing": |w| said(table(w)?.drop_missing()?.len());
    "Table::rows": |w| {
        let table = table(w)?;
        said(table.rows(&indices(w, table.len()))?.missing())
    };
    "Table::feature_names": |w| said(table(w)?.feature_names());
    "Table::features": |w| table(w)?.features()?.to(&w.device)?;
    "Table::targets": |w| table(w)?.targets()?.to(&w.device)?;
    "Table::column": |w| table(w)?.column(w.pick(&["a", "c", "e"]))?.to(&w.device)?;
    "Table::categories": |w| said(table(w)?.categories(w.pick(&["c", "c", "a", "e"]))?);
    "StandardScaler::fit": |w| said(StandardScaler::fit(&measured(w)?).map(drop)?);
    "StandardScaler::mean": |w| said(StandardScaler::fit(&fitted(w)?[0])?.mean().len());
    "StandardScaler::scale": |w| said(StandardScaler::fit(&fitted(w)?[0])?.scale().len());
    "StandardScaler::transform": |w| {
        let [x, y] = fitted(w)?;
        StandardScaler::fit(&x)?.transform(&y)?
    };
    "StandardScaler::inverse_transform": |w| {
        let [x, y] = fitted(w)?;
        StandardScaler::fit(&x)?.inverse_transform(&y)?
    };
    "StandardScaler::save": |w| said(saved(w)?.len());
    "StandardScaler::load": |w| said(StandardScaler::load(&saved(w)?, w.pick(&["s", "s", "s", "t"])).map(drop)?);
    "MinMaxScaler::fit": |w| said(MinMaxScaler::fit(&measured(w)?).map(drop)?);
    "MinMaxScaler::data_min": |w| said(MinMaxScaler::fit(&fitted(w)?[0])?.data_min().len());
    "MinMaxScaler::data_max": |w| said(MinMaxScaler::fit(&fitted(w)?[0])?.data_max().len());
    "MinMaxScaler::transform": |w| {
        let [x, y] = fitted(w)?;
        MinMaxScaler::fit(&x)?.transform(&y)?
    };
    "MinMaxScaler::inverse_transform": |w| {
        let [x, y] = fitted(w)?;
        MinMaxScaler::fit(&x)?.inverse_transform(&y)?
    };
    "MinMaxScaler::save": |w| said(saved(w)?.len());
    "MinMaxScaler::load": |w| said(MinMaxScaler::load(&saved(w)?, w.pick(&["s", "s", "s", "t"])).map(drop)?);
    "SimpleImputer::fit": |w| said(SimpleImputer::fit(&measured(w)?, strategy(w)).map(drop)?);
    "SimpleImputer::statistics": |w| said(SimpleImputer::fit(&fitted(w)?[0], strategy(w))?.statistics().len());
    "SimpleImputer::transform": |w| {
        let [x, y] = fitted(w)?;
        SimpleImputer::fit(&x, strategy(w))?.transform(&y)?
    };
    "SimpleImputer::save": |w| said(saved(w)?.len());
    "SimpleImputer::load": |w| said(SimpleImputer::load(&saved(w)?, w.pick(&["s", "s", "s", "t"])).map(drop)?);
    "WordVocabulary::of": |w| said(WordVocabulary::of(["a b", w.pick(&["", "B \u{130}'", "''"])], w.size())?.words());
    "WordVocabulary::from_words": |w| said(WordVocabulary::from_words([w.pick(&["", "a", "b"]), "b"])?.words());
    "WordVocabulary::words": |w| said(WordVocabulary::of(["a b"], w.size())?.words());
    "WordVocabulary::size": |w| said(WordVocabulary::of(["a b"], w.size())?.size());
    "WordVocabulary::encode": |w| said(WordVocabulary::of(["a b"], w.size())?.encode(w.pick(&["", "b c"])));
    "WordVocabulary::encode_to": |w| {
        said(WordVocabulary::of(["a b"], 9)?.encode_to(w.pick(&["", "b c"]), w.size())?.len())
    };
    "WordVocabulary::decode": |w| said(WordVocabulary::of(["a b"], 9)?.decode(&[w.pick(&[0, 1, 2, 4, u32::MAX])])?);
    "cache_dir": |_w| said(cache_dir());
    "unpack_idx": |w| {
        let from = data_directory(w);
        unpack_idx(from, w.dir.join("cache"))?;
        said("files")
    };
    "unpack_idx_bytes": |w| {
        let files = data_set(w);
        let cache = if w.odd() { w.path() } else { w.dir.join("cache") };
        unpack_idx_bytes(files.each_ref().map(|file| &file[..]), cache)?;
        said("files")
    };
    "load_idx": |w| said(load_idx(data_directory(w))?.0.len());
    "read_idx": |w| {
        let file = w.dir.join("idx");
        std::fs::write(&file, idx(w)).unwrap();
        said(read_idx(if w.odd() { w.dir.join("none") } else { file })?)
    };
    "parse_idx": |w| said(parse_idx(&idx(w)));
    "Split::len": |w| said(split(w).len());
    "Split::is_empty": |w| said(split(w).is_empty());
    "Vocabulary::of": |w| said(Vocabulary::of(w.pick(&["", "abc", "\u{0}\u{10ffff}aa"])));
    "Vocabulary::len": |w| said(Vocabulary::of(w.pick(&["", "abc"])).len());
    "Vocabulary::is_empty": |w| said(Vocabulary::of(w.pick(&["", "abc"])).is_empty());
    "Vocabulary::characters": |w| said(Vocabulary::of(w.pick(&["", "cba"])).characters());
    "Vocabulary::encode": |w| said(Vocabulary::of("abc").encode(w.pick(&["", "ab", "d\u{10ffff}"]))?);
    "Vocabulary::decode": |w| said(Vocabulary::of("abc").decode(&[w.pick(&[0, 1, u32::MAX])])?);
    "Windows::new": |w| said(Windows::new(&vec![1; w.size().min(1 << 16)], w.size())?.count());
    "Windows::count": |w| said(Windows::new(&[1, 2, 3], w.small())?.count());
    "Windows::random": |w| said(Windows::new(&[1, 2, 3], w.small())?.random(w.size(), w.seed(), w.seed())?);
    "Windows::in_order": |w| said(Windows::new(&[1, 2, 3], w.small())?.in_order(w.size(), w.size())?);
    "accuracy": |w| {
        let [a, b] = labels(w, 3);
        said(metrics::accuracy(&a, &b)?)
    };
    "ConfusionMatrix::new": |w| said(ConfusionMatrix::new(w.size())?.classes());
    "ConfusionMatrix::add": |w| {
        let mut matrix = counted(w)?;
        let [a, b] = labels(w, 5);
        matrix.add(&a, &b)?;
        said(matrix.total())
    };
    "ConfusionMatrix::classes": |w| said(counted(w)?.classes());
    "ConfusionMatrix::counts": |w| said(counted(w)?.counts());
    "ConfusionMatrix::total": |w| said(counted(w)?.total());
    "ConfusionMatrix::accuracy": |w| said(counted(w)?.accuracy());
    "ConfusionMatrix::scores": |w| said(counted(w)?.scores());
    "ConfusionMatrix::macro_average": |w| said(counted(w)?.macro_average());
    "ConfusionMatrix::weighted_average": |w| said(counted(w)?.weighted_average());
}
