//! `optim`, `io`, `data`, `metrics`: training and files.

use crate::calls;
use crate::nn::module;
use crate::world::{Call, Out, World, said};
use gristmill::data::*;
use gristmill::io::{self, Metadata};
use gristmill::metrics::{self, ConfusionMatrix};
use gristmill::nn::{Linear, Parameter};
use gristmill::optim::*;
use gristmill::{Gradients, Result, Tensor};
use std::path::PathBuf;

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
    "Batches::shuffled": |w| said(Batches::shuffled(w.size(), w.size(), w.seed(), w.seed())?.next());
    "Batches::in_order": |w| said(Batches::in_order(w.size(), w.size())?.next());
    "mean_std": |w| said(mean_std(&vec![3; w.size().min(1 << 16)])?);
    "gather_images": |w| {
        let (split, index) = (split(w), w.padding());
        let augment = if w.flag() { Some(RandomShift { max: w.padding() as u32, seed: w.seed(), epoch: w.seed() }) } else { None };
        said(gather_images(&split, &[index, 0], Normalization { mean: 0.1, std: w.positive() }, augment)?)
    };
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
