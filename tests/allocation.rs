//! Sizes that are too large are refused: every op on views with more elements than there is memory, in a process whose
//! address space is limited; and every constructor and loader that takes a size.

mod common;

use common::Devices;
use gristmill::data::{Windows, random_split};
use gristmill::gpu::GpuOptions;
use gristmill::nn::*;
use gristmill::proof::{Case, Kind, Row, Values, rows};
use gristmill::{
    AttentionOptions, AvgPool2dOptions, Conv2dOptions, ConvTranspose2dOptions, Device, Error, Pool2dOptions,
    Result, RotaryPairs, Tensor,
};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Set in the child process.
const CHILD: &str = "GRISTMILL_TEST_LIMITED";
/// Elements of an axis that fit in no memory, and that no loop could visit.
const ENDLESS: usize = 1 << 40;
/// Elements that a reduction visits in less than a second; and a budget that a copy of them, 32 MiB, exceeds.
const MANY: usize = 1 << 23;
const BUDGET: u64 = 16 << 20;
/// The child's address space. The process takes 70 MiB besides its tensors, so a copy that ignores the budget exceeds
/// it.
const ADDRESS_SPACE: u64 = 96 << 20;
/// The same for a GPU, whose kernels may run on a software rasterizer. Its drivers need an unlimited address space.
const MANY_ON_GPU: usize = 1 << 19;
const BUDGET_ON_GPU: u64 = 1 << 20;
/// Longer than any pass over `MANY` elements on a busy machine, and far shorter than one over `ENDLESS`.
const LONGEST: Duration = Duration::from_secs(20);

/// Location of the last panic.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// The inputs of a case with every axis of length `from` expanded to `to`.
fn expanded(case: &Case, from: usize, to: usize, device: &Device) -> Result<Vec<Tensor>> {
    let expand = |input: &gristmill::proof::Input| {
        let mut x = input.to_tensor(device)?;
        let mut dims = x.shape().to_vec();
        for axis in (0..dims.len()).filter(|&axis| input.array.shape[axis] == from) {
            x = x.slice(axis as isize, 0..1)?;
            dims[axis] = to;
        }
        let x = x.expand(&dims)?;
        if input.kind == Kind::Variable { x.requires_grad() } else { Ok(x) }
    };
    case.inputs.iter().map(expand).collect()
}

/// Runs a case forward and backward. Assertions in a row may fail, since they are about the shapes that it drew.
fn answer(row: &Row, case: &Case, inputs: &[Tensor]) -> Result<bool, String> {
    let run = || {
        let y = (case.run)(inputs)?;
        if y.is_differentiable() {
            y.sum_all()?.backward()?;
        }
        y.device().synchronize()
    };
    let began = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(run));
    let shapes: Vec<_> = inputs.iter().map(Tensor::shape).collect();
    let told = || format!("{} ({}) on {shapes:?}", row.name, case.label);
    if began.elapsed() > LONGEST {
        return Err(format!("{} took {:?}", told(), began.elapsed()));
    }
    let place = PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match result {
        Ok(result) => Ok(result.is_ok()),
        Err(_) if place.starts_with("src/proof") => Ok(false),
        Err(_) => Err(format!("{} panicked at {place}", told())),
    }
}

/// Runs every row with each distinct axis length of its inputs made large. Returns the number of calls refused, and the
/// number that succeeded.
fn every_row(device: &Device, sizes: [usize; 2]) -> [usize; 2] {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|place| format!("{place}: {info}")).unwrap_or_default();
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }));
    let mut counts = [0; 2];
    let (mut wrong, mut seen) = (Vec::new(), HashSet::new());
    // Of several rows for the same function, only the first.
    for row in rows().into_iter().filter(|row| seen.insert(row.covers)) {
        let case = row.case(1, 24, Values::Ordinary);
        let mut lengths: Vec<usize> =
            case.inputs.iter().flat_map(|input| input.array.shape.clone()).filter(|&n| n > 0).collect();
        lengths.sort_unstable();
        lengths.dedup();
        for (length, &size) in lengths.iter().flat_map(|n| sizes.iter().map(move |size| (*n, size))) {
            let Ok(inputs) = expanded(&case, length, size, device) else { continue };
            match answer(&row, &case, &inputs) {
                Ok(given) => counts[usize::from(given)] += 1,
                Err(message) => wrong.push(message),
            }
        }
    }
    drop(std::panic::take_hook());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    counts
}

#[test]
fn ops_on_views_larger_than_memory_answer() {
    let devices = Devices::unopened();
    let tested = &devices.plain()[0];
    if std::env::var_os(CHILD).is_some() {
        let [refused, given] = every_row(&Device::cpu(), [ENDLESS, MANY]);
        assert!(refused > 100 && given > 10, "{refused} refused, {given} given");
        return;
    }
    if tested.is_gpu() {
        let options = GpuOptions { memory_budget: Some(BUDGET_ON_GPU), ..GpuOptions::default() };
        let device = common::opened(&options).unwrap();
        let [refused, given] = every_row(&device, [ENDLESS, MANY_ON_GPU]);
        assert!(refused > 100 && given > 10, "{refused} refused, {given} given");
    }
    let script = format!("ulimit -v {} && exec \"$0\" \"$@\"", ADDRESS_SPACE >> 10);
    let this = std::env::current_exe().unwrap();
    let out = Command::new("sh")
        .args(["-c", &script])
        .arg(this)
        .args(["--exact", "ops_on_views_larger_than_memory_answer", "--nocapture"])
        .env(CHILD, "1")
        .env("GRISTMILL_DEVICE", "cpu")
        .env("GRISTMILL_MEMORY_BUDGET", BUDGET.to_string())
        // Each thread and each arena of glibc's allocator reserves address space.
        .env("RAYON_NUM_THREADS", "2")
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let [text, errors] = [&out.stdout, &out.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(out.status.success(), "{}\n{text}\n{errors}", out.status);
}

/// Sizes that a mistake may produce.
const NUMBERS: [usize; 8] = [0, 1, 2, 1 << 31, 1 << 40, usize::MAX / 8, usize::MAX - 1, usize::MAX];

/// A device without room for any of the large ones.
fn small() -> Device {
    Device::cpu_with_budget(1 << 20)
}

type Build = fn([usize; 3], &mut Init) -> Result<Box<dyn Layer>>;

/// Every layer that takes sizes.
const LAYERS: &[(&str, Build)] = &[
    ("Linear", |[a, b, _], init| Ok(Box::new(Linear::new(a, b, init)?))),
    ("Embedding", |[a, b, _], init| Ok(Box::new(Embedding::new(a, b, init)?))),
    ("Conv1d", |[a, b, c], init| Ok(Box::new(Conv1d::new(a, b, c, init)?))),
    ("Conv2d", |[a, b, c], init| Ok(Box::new(Conv2d::new(a, b, [c, c], init)?))),
    ("ConvTranspose2d", |[a, b, c], init| Ok(Box::new(ConvTranspose2d::new(a, b, [c, c], init)?))),
    ("Conv2d of groups", |[a, b, c], init| {
        let options =
            Conv2dOptions { groups: c, stride: [a, b], padding: [b, a], ..Conv2dOptions::default() };
        let weight = Tensor::ones([2, 2, 1, 1], init.device())?;
        Ok(Box::new(Conv2d::from_tensors(&weight, None, options)?))
    }),
    ("ConvTranspose2d of groups", |[a, b, c], init| {
        let (groups, stride, output_padding) = (c, [a, b], [b, a]);
        let options = ConvTranspose2dOptions { groups, stride, output_padding, ..Default::default() };
        let weight = Tensor::ones([2, 2, 1, 1], init.device())?;
        Ok(Box::new(ConvTranspose2d::from_tensors(&weight, None, options)?))
    }),
    ("MaxPool2d", |[a, b, c], _| {
        let options =
            Pool2dOptions { kernel: [a, b], stride: [c, a], padding: [b, c], ..Pool2dOptions::new([a; 2]) };
        Ok(Box::new(MaxPool2d::with_options(options)))
    }),
    ("AvgPool2d", |[a, b, c], _| {
        let options = AvgPool2dOptions { stride: [b, c], padding: [c, a], ..AvgPool2dOptions::new([a, b]) };
        Ok(Box::new(AvgPool2d::with_options(options)))
    }),
    ("AdaptiveAvgPool2d", |[a, b, _], _| Ok(Box::new(AdaptiveAvgPool2d::new([a, b])))),
    ("Upsample", |[a, b, _], _| Ok(Box::new(Upsample::bilinear([a, b], true)))),
    ("LayerNorm", |[a, b, _], init| Ok(Box::new(LayerNorm::new([a, b], init)?))),
    ("RmsNorm", |[a, b, _], init| Ok(Box::new(RmsNorm::new([a, b], init)?))),
    ("GroupNorm", |[a, b, _], init| Ok(Box::new(GroupNorm::new(a, b, init)?))),
    ("BatchNorm1d", |[a, ..], init| Ok(Box::new(BatchNorm1d::new(a, init)?))),
    ("BatchNorm2d", |[a, ..], init| Ok(Box::new(BatchNorm2d::new(a, init)?))),
    ("Rnn", |[a, b, layers], init| {
        let options = RecurrentOptions { layers, bidirectional: true, bias: true };
        Ok(Box::new(Rnn::with_options(a, b, options, init)?))
    }),
    ("Lstm", |[a, b, layers], init| {
        let options = RecurrentOptions { layers, bidirectional: true, bias: false };
        Ok(Box::new(Lstm::with_options(a, b, options, init)?))
    }),
    ("Gru", |[a, b, _], init| Ok(Box::new(Gru::new(a, b, init)?))),
    ("MultiHeadAttention", |[width, heads, size], init| {
        let options = MultiHeadOptions { size: Some(size), ..MultiHeadOptions::new(heads) };
        Ok(Box::new(MultiHeadAttention::new(width, options, init)?))
    }),
    ("TransformerBlock", |[width, heads, hidden], init| {
        let options = BlockOptions { feed_forward: FeedForward::SwiGlu, ..BlockOptions::new(heads, hidden) };
        Ok(Box::new(TransformerBlock::new(width, &options, init)?))
    }),
    ("TransformerEncoder", |[width, blocks, hidden], init| {
        let options = BlockOptions { norm_first: false, ..BlockOptions::new(1, hidden) };
        Ok(Box::new(TransformerEncoder::new(width, blocks, &options, init)?))
    }),
];

/// Regression: `Lstm::new(usize::MAX, ..)` overflowed, 2^40 layers were built one by one, and so on.
#[test]
fn layers_of_any_size_are_built_or_refused() {
    let device = small();
    let images = Tensor::ones([1, 2, 4, 4], &device).unwrap();
    let [mut built, mut refused] = [0; 2];
    for (name, build) in LAYERS {
        for (a, b, c) in
            NUMBERS.iter().flat_map(|&a| NUMBERS.iter().flat_map(move |&b| NUMBERS.map(|c| (a, b, c))))
        {
            let began = Instant::now();
            let Ok(layer) = build([a, b, c], &mut Init::new(1, &device)) else {
                refused += 1;
                continue;
            };
            built += 1;
            let _ = layer.forward(&images); // any result, but no panic
            assert!(!layer.describe().is_empty());
            for (x, y) in NUMBERS.iter().flat_map(|&x| NUMBERS.map(|y| (x, y))) {
                for dims in [&[x, y][..], &[x, y, a], &[x, 2, y, y], &[x, a, y, 1]] {
                    let _ = summary(&*layer, dims);
                }
            }
            assert!(began.elapsed() < LONGEST, "{name} of {a}, {b}, {c} took {:?}", began.elapsed());
        }
    }
    assert!(built > 100 && refused > 100, "{built} built, {refused} refused");
}

fn refused<T>(result: Result<T>) -> String {
    result.err().map(|error| error.to_string()).expect("it is refused")
}

#[test]
fn an_empty_axis_is_not_cut_into_2_to_the_40_parts() {
    let empty = Tensor::zeros([0], &small()).unwrap();
    assert!(refused(empty.chunk(1 << 40, 0)).contains("1099511627776 parts are more than 1048576"));
    let endless = Tensor::zeros([1], &small()).unwrap().expand([1 << 40]).unwrap();
    assert!(refused(endless.chunk(usize::MAX, 0)).contains("parts"));
    assert_eq!(endless.chunk(2, 0).unwrap()[1].shape(), [1 << 39]);
}

/// The steps of an LSTM are split before anything is computed.
#[test]
fn a_sequence_of_2_to_the_40_steps_is_refused() {
    let device = small();
    let lstm = Lstm::new(2, 2, &mut Init::new(1, &device)).unwrap();
    let none = Tensor::zeros([0, 1, 2], &device).unwrap().expand([0, 1 << 40, 2]).unwrap();
    assert_eq!(refused(lstm.forward(&none)), "chunk: 1099511627776 parts are more than 1048576");
}

#[test]
fn rotary_positions_without_end_are_refused() {
    let new = |dims, positions| Rotary::new(dims, positions, 1e4, RotaryPairs::Halves, &small());
    for (dims, positions) in [(usize::MAX - 1, 1), (2, usize::MAX), (1 << 32, 1 << 32), (64, 10_000_000_000)]
    {
        refused(new(dims, positions));
    }
    let rotary = new(2, 4).unwrap();
    let heads = Tensor::ones([1, 2, 2], &small()).unwrap();
    assert!(refused(rotary.forward(&heads, usize::MAX)).contains("positions"));
    assert!(new(0, usize::MAX / 8).is_ok()); // no rotated pairs
    refused(KvCache::new(1 << 31, 1 << 31, 1, 1, &small()));
    refused(KvCache::new(1, 1, usize::MAX, 1, &small()));
}

#[test]
fn batches_without_end_are_refused() {
    let ids: Vec<u32> = (0..100).collect();
    let windows = Windows::new(&ids, 10).unwrap();
    for size in [100_000_000_000, usize::MAX] {
        assert!(matches!(windows.random(size, 1, 1), Err(Error::OutOfMemory { .. })));
        assert!(matches!(random_split(size, [1.0], 1), Err(Error::OutOfMemory { .. })));
    }
    assert_eq!(windows.in_order(usize::MAX, usize::MAX).unwrap().0.len(), 0);
    refused(Tensor::randn([1 << 50], 0.0, 1.0, 1, &small()));
}

/// Regression: a window of `usize::MAX` keys overflowed.
#[test]
fn attention_windows_of_any_size_are_accepted() {
    let x = Tensor::ones([1, 2, 4], &common::device()).unwrap();
    let options = AttentionOptions { window: [Some(usize::MAX); 2], ..AttentionOptions::default() };
    assert_eq!(x.scaled_dot_product_attention(&x, &x, &options).unwrap().to_vec().unwrap(), [1.0; 8]);
}

/// Regression: `sum` over 2^32 elements overflowed its count on the CPU; GPUs refused it.
#[test]
fn more_elements_than_a_kernel_counts_are_refused_alike() {
    let message = |device: &Device| {
        let endless = Tensor::ones([1], device).unwrap().expand([1 << 32]).unwrap();
        let long = Tensor::ones([1, 1], device).unwrap().expand([1, 1 << 31]).unwrap();
        [
            endless.sum_all(),
            endless.logsumexp(&[0], false),
            endless.argmax(0, false),
            endless.exp(),
            long.matmul(&long.t().unwrap()),
        ]
        .map(refused)
    };
    let [on_cpu, tested] = [&small(), &common::device()].map(message);
    assert_eq!(on_cpu, tested);
    assert!(on_cpu[0].starts_with("sum: 4294967296 elements are more than a kernel can count (at "));
}

/// Scratch memory of a twin counts in the budget, and is freed afterwards.
#[test]
fn scratch_memory_of_twins_counts_in_the_budget() {
    let Device::Cpu(cpu) = small() else { unreachable!() };
    let before = cpu.memory().in_use;
    let mut scratch = cpu.scratch(1000).unwrap();
    assert_eq!(scratch.len(), 1000);
    scratch.fill(1.0);
    assert!(cpu.memory().in_use >= before + 4000);
    assert!(matches!(cpu.scratch(1 << 20), Err(Error::OutOfMemory { .. })));
    assert!(matches!(cpu.scratch(usize::MAX), Err(Error::OutOfMemory { .. })));
    drop(scratch);
    assert_eq!(cpu.memory().in_use, before);
    // Half a budget of logits fits, and so does the result of the sort; the pairs that it sorts do not.
    let device = Device::Cpu(cpu.clone());
    let x = Tensor::ones([1 << 16], &device).unwrap();
    assert!(matches!(x.sort(0, false), Err(Error::OutOfMemory { .. })));
    assert_eq!(cpu.memory().in_use, 4 << 16);
}
