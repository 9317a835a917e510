//! Faults: each is one clear error, after which the device works on, unless it is lost.

mod common;

use common::works::*;
use common::*;
use gristmill::gpu::{AdapterKind, Answer, GpuOptions, Kernel, Quirk, Recorder, Variant};
use gristmill::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, apply};
use gristmill::{CpuDevice, Device, Error, Result, Shape, Tensor};
use proptest::prelude::*;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn more_than_the_budget_is_refused_and_the_rest_works_on() {
    const BUDGET: u64 = 1 << 20;
    let limited = GpuOptions { memory_budget: Some(BUDGET), ..GpuOptions::default() };
    for device in opened(&limited).into_iter().chain([Device::cpu_with_budget(BUDGET)]) {
        let x = tensor(&[1 << 16], 1, &device);
        let before = device.memory().in_use;
        match Tensor::zeros([1 << 19], &device) {
            Err(Error::OutOfMemory { device: id, requested, in_use, budget, .. }) => {
                assert_eq!((&*id, requested, in_use, budget), (device.id(), 2 << 20, before, BUDGET));
            }
            other => panic!("{other:?} on {device}"),
        }
        let error = Tensor::from_slice(&vec![0.0; 1 << 19], [1 << 19], &device).unwrap_err().to_string();
        assert!(error.contains(device.id()) && error.contains("1048576"), "{error}");
        assert_eq!(device.memory().in_use, before, "what failed holds nothing");
        assert_eq!(x.neg().unwrap().neg().unwrap().to_vec().unwrap(), whole(&[1 << 16], 1));

        // A graph that keeps more and more results.
        let leaf = x.requires_grad().unwrap();
        let mut y = leaf.clone();
        let error = loop {
            match y.tanh() {
                Ok(next) => y = next,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
        // With all memory in use, there is no room for the backward pass.
        assert!(matches!(y.sum_all().and_then(|y| y.backward()).map(|_| ()), Err(Error::OutOfMemory { .. })));
        drop((y, leaf));
        assert_eq!(device.memory().in_use, before, "the graph is freed on {device}");

        // Pooled buffers are freed for new ones: no two of these sizes fit together.
        for size in (100..170).step_by(10) {
            assert_eq!(
                Tensor::ones([size << 10], &device).unwrap().sum_all().unwrap().item().unwrap(),
                (size << 10) as f32
            );
            let memory = device.memory();
            assert!(memory.in_use + memory.cached <= BUDGET, "{memory:?} on {device}");
        }
        drop(x);
        device.trim();
        assert_eq!(device.memory().cached, 0);
        assert_works(&device, 3);
    }
}

/// Asserts that every operation on a device reports that it is lost.
fn assert_lost(device: &Device, x: &Tensor) {
    let answers: [(&str, Result<()>); 10] = [
        ("add", x.add(x).map(drop)),
        ("transposed copy", x.t().and_then(|t| t.copy()).map(drop)),
        ("sum", x.sum_all().map(drop)),
        ("to_vec", x.to_vec().map(drop)),
        ("to", x.to(&Device::cpu()).map(drop)),
        ("zeros", Tensor::zeros([3], device).map(drop)),
        ("from_slice", Tensor::from_slice(&[1.0], [1], device).map(drop)),
        ("nothing", Tensor::zeros([0], device).map(drop)),
        ("synchronize", device.synchronize()),
        (
            "backward",
            x.requires_grad()
                .unwrap()
                .backward_from(x)
                .and_then(|g| g.get(x).map_or(x.add(x), Tensor::copy))
                .map(drop),
        ),
    ];
    for (what, answer) in answers {
        match answer {
            Err(Error::DeviceLost { device: id, reason }) => {
                assert_eq!(id, device.id(), "{what}");
                assert!(!reason.is_empty(), "{what}");
            }
            other => panic!("{what}: {other:?} instead of the loss of {device}"),
        }
    }
    // Operations that need no device still work.
    assert_eq!(x.reshape([x.numel()]).unwrap().numel(), x.numel());
    let _ = (device.memory(), device.counts());
    device.trim();
}

#[test]
fn a_lost_device_says_so_for_ever_and_others_live() {
    let Some(first) = opened(&GpuOptions::default()) else { return };
    let other = fresh(&first);
    // During a loop, with a batch recorded but not submitted.
    let x = tensor(&[40, 50], 1, &first);
    let mut y = x.clone();
    let error = (0..1000)
        .find_map(|step| {
            if step == 5 {
                gpu(&first).destroy();
            }
            y.add(&x).map(|next| y = next).err()
        })
        .unwrap();
    assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
    for _ in 0..2 {
        assert_lost(&first, &x);
    }
    assert_works(&other, 1);
    assert_works(&device(), 2);
    drop((x, y, first));
    assert_works(&other, 3);

    // The shared device of an adapter is reopened after it was lost.
    let shared = Device::open(other.id()).unwrap();
    assert!(shared.same(&Device::open(other.id()).unwrap()));
    gpu(&shared).destroy();
    let again = Device::open(other.id()).unwrap();
    assert!(!again.same(&shared) && gpu(&shared).is_lost() && !gpu(&again).is_lost());
    assert_works(&again, 4);
}

#[test]
fn a_device_lost_under_a_working_thread_ends_its_loop() {
    let Some(device) = opened(&GpuOptions::default()) else { return };
    let started = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let x = tensor(&[100, 100], 1, &device);
            let deadline = Instant::now() + Duration::from_secs(60);
            while Instant::now() < deadline {
                if let Err(error) = x.square().and_then(|y| y.sum_all()).and_then(|y| y.item()) {
                    return error;
                }
                started.store(true, Ordering::Release);
            }
            panic!("the loss was not noticed");
        });
        while !started.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        gpu(&device).destroy();
        let error = worker.join().unwrap();
        assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
    });
}

fn adapter_error(result: Result<Device>) -> String {
    match result {
        Err(Error::Adapter { message }) => message,
        other => panic!("{other:?} instead of an error of adapters"),
    }
}

#[test]
fn unknown_and_ambiguous_names_list_the_choices() {
    let ids: Vec<String> = gristmill::gpu::adapters().into_iter().map(|report| report.id).collect();
    for name in ["nonsense", "vulkan:no-such-card"] {
        let message = adapter_error(Device::open(name));
        assert!(message.contains(name), "{message}");
        assert!(ids.iter().all(|id| message.contains(id)), "`{message}` lists not all of {ids:?}");
        assert_eq!(adapter_error(Device::open_with(name, &GpuOptions::default())), message);
    }
    for name in ["llvmpipe", "vulkan", ":"] {
        let hits = ids.iter().filter(|id| id.contains(name)).count();
        match hits {
            0 => assert!(adapter_error(Device::open(name)).contains(name)),
            1 => assert!(Device::open(name).unwrap().id().contains(name)),
            _ => {
                let message = adapter_error(Device::open(name));
                assert!(
                    message.contains("ambiguous") && ids.iter().all(|id| message.contains(id)),
                    "{message}"
                );
            }
        }
    }
    // A whole id is never ambiguous, in upper or lower case; the two fixed names do not match parts of ids.
    for id in &ids {
        assert_eq!(Device::open(&id.to_uppercase()).unwrap().id(), id);
    }
    assert!(ids.iter().all(|id| ids.iter().filter(|other| *other == id).count() == 1), "{ids:?}");
    assert_eq!(Device::open("cpu").unwrap().id(), "cpu");
    assert!(ids.is_empty() || Device::open("gpu").unwrap().is_gpu());
}

/// Set for a child process of the next test, which prints the device that `Device::best` opens.
const CHILD: &str = "GRISTMILL_TEST_CHILD";

#[test]
fn the_environment_chooses_the_device_and_its_budget() {
    if std::env::var_os(CHILD).is_some() {
        match Device::best() {
            Ok(device) => println!(
                "got {device:?} of {} bytes",
                match &device {
                    Device::Gpu(gpu) => gpu.memory_budget(),
                    Device::Cpu(_) => 0,
                }
            ),
            Err(error) => println!("refused: {error}"),
        }
        return;
    }
    let best = |variables: &[(&str, &str)]| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "the_environment_chooses_the_device_and_its_budget", "--nocapture"]);
        let output = child.env(CHILD, "1").envs(variables.iter().copied()).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let text = best(&[("GRISTMILL_DEVICE", "nonsense")]);
    assert!(
        text.contains("refused: device: no device `nonsense`; there are cpu, gpu")
            || text.contains("no adapter"),
        "{text}"
    );
    assert!(best(&[("GRISTMILL_DEVICE", "cpu")]).contains("got cpu"));
    if let Device::Gpu(gpu) = device() {
        let id = &gpu.adapter().id;
        let text = best(&[("GRISTMILL_DEVICE", id), ("GRISTMILL_MEMORY_BUDGET", "12345678")]);
        assert!(text.contains(&format!("got {id} of 12345678 bytes")), "{text}");
        let text = best(&[("GRISTMILL_DEVICE", id), ("GRISTMILL_MEMORY_BUDGET", "much")]);
        assert!(text.contains("refused: device: GRISTMILL_MEMORY_BUDGET=much"), "{text}");
    }
}

#[test]
fn eight_threads_share_one_device_and_two() {
    for devices in
        [vec![fresh(&device())], vec![fresh(&device()), fresh(&device())], vec![device(), Device::cpu()]]
    {
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let device = &devices[thread % devices.len()];
                scope.spawn(move || (0..3).for_each(|round| assert_works(device, 10 * thread + round)));
            }
        });
    }
}

#[test]
fn tensors_and_gradients_cross_threads() {
    for device in devices() {
        let x = tensor(&[50], 1, &device).requires_grad().unwrap();
        // Recorded by one thread, read by another, dropped by a third; the backward pass runs in a thread that did not
        // build it.
        let y = std::thread::scope(|scope| scope.spawn(|| x.square().unwrap()).join().unwrap());
        let (values, y) = std::thread::spawn(move || (y.to_vec().unwrap(), y)).join().unwrap();
        let loss = y.sum_all().unwrap();
        let grads = std::thread::spawn(move || loss.backward().unwrap()).join().unwrap();
        std::thread::spawn(move || drop(y)).join().unwrap();
        assert_eq!(values, whole(&[50], 1).iter().map(|x| x * x).collect::<Vec<_>>());
        let twice: Vec<f32> = whole(&[50], 1).iter().map(|x| 2.0 * x).collect();
        assert_eq!(grads.get(&x).unwrap().to_vec().unwrap(), twice);
    }
}

/// Runs a program of random ops on four registers. Old tensors are dropped while the batch that uses them is still
/// being recorded. All numbers stay whole and small.
fn program(device: &Device, steps: &[(u8, u8, u8)]) -> Vec<Vec<f32>> {
    // Sizes of the same class and of others, so that buffers are reused between them.
    let shapes = [[8, 8], [7, 9], [40, 30], [1, 1200]];
    let mut registers: Vec<Tensor> = (0..4).map(|i| tensor(&shapes[i], i, device)).collect();
    for &(op, a, b) in steps {
        let (a, b) = (usize::from(a) % 4, usize::from(b) % 4);
        let (x, y) = (&registers[a], &registers[b]);
        let next = match op % 7 {
            0 => x.add(x).unwrap().neg().unwrap(),
            1 => x.t().unwrap().copy().unwrap().reshape(x.shape()).unwrap(),
            2 => x.add(&y.max(&[0, 1], true).unwrap()).unwrap(),
            3 => x.sum(&[1], true).unwrap().expand(x.shape()).unwrap().copy().unwrap(),
            4 => tensor(&shapes[b], a + b, device),
            5 => x
                .slice_step(1, 0..x.shape()[1], 2)
                .unwrap()
                .sum(&[0], true)
                .unwrap()
                .max(&[1], true)
                .unwrap()
                .add(x)
                .unwrap(),
            _ => Tensor::full(y.shape(), f32::from(op % 5), device).unwrap().mul(y).unwrap(),
        };
        let bound = Tensor::scalar(99.0, device).unwrap();
        registers[if op % 7 == 6 || op % 7 == 4 { b } else { a }] =
            next.minimum(&bound).unwrap().maximum(&bound.neg().unwrap()).unwrap();
    }
    registers.iter().map(|x| x.to_vec().unwrap()).collect()
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn recycled_buffers_hold_what_they_should(steps in prop::collection::vec(any::<(u8, u8, u8)>(), 1..120)) {
        // Not guarded, since a guarded device reuses no buffer; and fresh, since other tests destroy shared devices.
        let device = fresh(&device());
        prop_assert_eq!(program(&device, &steps), program(&Device::cpu(), &steps));
    }
}

#[test]
fn the_pool_is_flat_over_a_long_loop() {
    for device in devices().iter().map(fresh) {
        let w = tensor(&[64, 32], 1, &device).requires_grad().unwrap();
        let step = |seed| {
            let x = tensor(&[16, 64], seed, &device);
            let loss = x.matmul(&w).unwrap().relu().unwrap().sum_all().unwrap();
            drop(loss.backward().unwrap());
            loss.item().unwrap()
        };
        for seed in 0..50 {
            step(seed);
        }
        let early = device.memory();
        for seed in 0..200 {
            step(seed);
        }
        assert_eq!(device.memory(), early, "on {device}");
        assert!(early.in_use <= 64 * 32 * 4 + 256, "only w and a status word live: {early:?}");
    }
}

#[test]
fn a_device_is_freed_with_its_last_handle() {
    let Some(device) = opened(&GpuOptions::default()) else { return };
    let weak = Arc::downgrade(gpu(&device));
    let x = tensor(&[8], 1, &device);
    let y = apply(Custom { status: true, ..Custom::of(&FLAG, 8) }, &[&x]).unwrap();
    drop((device, y));
    assert!(weak.upgrade().is_some(), "a tensor keeps its device");
    drop(x);
    assert!(weak.upgrade().is_none(), "its own status word and bind groups do not");
}

static FLAG: Kernel = kernel(
    "flag",
    "
struct Params { count: u32, check: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> status: array<u32>;
@group(0) @binding(3) var<uniform> p: Params;
@compute @workgroup_size(64)
fn flag(@builtin(local_invocation_index) i: u32) {
    if (i < p.count) { y[i] = x[i]; }
    if (i == 0u && x[0] < 0.0) { status[p.check] = 1u; }
}
",
    2,
);

#[test]
fn a_kernel_of_your_own_reports_ids_that_are_out_of_range() {
    let Some(device) = opened(&GpuOptions::default()) else { return };
    let flag = |first: f32| {
        let x = Tensor::from_slice(&[first, 2.0], [2], &device).unwrap();
        apply(Custom { status: true, ..Custom::of(&FLAG, 2) }, &[&x])
    };
    assert_eq!(flag(1.0).unwrap().to_vec().unwrap(), [1.0, 2.0]);
    let bad = flag(-1.0).unwrap();
    assert_eq!(
        Tensor::ones([1], &device).unwrap().to_vec().unwrap(),
        [1.0],
        "it has nothing to do with the ids"
    );
    for _ in 0..2 {
        match bad.to_vec() {
            Err(Error::Argument { op: "custom", message, .. }) => {
                assert!(message.contains("out of range"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_works(&device, 1);
}

static TWICE: Kernel = kernel(
    "twice",
    "
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> z: array<f32>;
@compute @workgroup_size(64)
fn twice(@builtin(local_invocation_index) i: u32) { y[i] = x[i]; z[i] = x[i]; }
",
    2,
);
static NO_PARAMS: Kernel = Kernel::new(
    "test.wgsl",
    "fill",
    "
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(4)
fn fill(@builtin(local_invocation_index) i: u32) { y[i] = 7.0; }
",
)
.buffers(0, 1);

/// Dispatches [`TWICE`] with one buffer as both outputs, or [`NO_PARAMS`].
enum Odd {
    Aliased,
    WithoutParams,
}

impl Op for Odd {
    fn name(&self) -> &'static str {
        "odd"
    }

    fn infer(&self, _: &[Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta::f32(Shape::new([4])?)])
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        0
    }

    fn cpu(&self, _: &Arc<CpuDevice>, _: &[CpuView], _: &mut [CpuOut]) -> Result<()> {
        unreachable!("these ops run on GPUs")
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let y = outputs[0].buffer;
        match self {
            Odd::Aliased => {
                let params = CustomParams { count: 4, check: 0, pad: [0; 2] };
                rec.dispatch(&TWICE, &[], &[inputs[0].buffer, y, y], &params, 1)
            }
            Odd::WithoutParams => rec.dispatch(&NO_PARAMS, &[], &[y], &(), 1),
        }
    }
}

#[test]
fn a_dispatch_that_wgpu_would_reject_does_not_affect_its_batch() {
    let Some(device) = opened(&GpuOptions::default()) else { return };
    let x = tensor(&[4], 1, &device);
    let valid = x.neg().unwrap();
    match apply(Odd::Aliased, &[&x]) {
        Err(Error::Kernel { message, .. }) => assert!(message.contains("one buffer"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(valid.to_vec().unwrap(), whole(&[4], 1).iter().map(|x| -x).collect::<Vec<_>>());
    assert_works(&device, 1);
}

#[test]
fn a_kernel_without_parameters_works_first_or_last() {
    let Some(device) = opened(&GpuOptions::default()) else { return };
    let x = tensor(&[4], 1, &device);
    let first = apply(Odd::WithoutParams, &[&x]).unwrap();
    let between = x.neg().unwrap();
    let last = apply(Odd::WithoutParams, &[&x]).unwrap();
    assert_eq!(first.to_vec().unwrap(), [7.0; 4]);
    assert_eq!(last.to_vec().unwrap(), [7.0; 4]);
    assert_eq!(between.to_vec().unwrap(), whole(&[4], 1).iter().map(|x| -x).collect::<Vec<_>>());
}

#[test]
fn accumulating_without_room_keeps_the_gradients() {
    const BUDGET: u64 = 3 << 20;
    let limited = GpuOptions { memory_budget: Some(BUDGET), ..GpuOptions::default() };
    for device in opened(&limited).into_iter().chain([Device::cpu_with_budget(BUDGET)]) {
        let w = Tensor::ones([1 << 17], &device).unwrap().requires_grad().unwrap();
        let gradients = || w.copy().unwrap().backward_from(&w.detach()).unwrap();
        let (mut sum, other) = (gradients(), gradients());
        let mut filled = Vec::new();
        while let Ok(more) = Tensor::ones([1 << 16], &device) {
            filled.push(more);
        }
        assert!(matches!(sum.accumulate(other), Err(Error::OutOfMemory { .. })), "on {device}");
        assert_eq!(sum.get(&w).unwrap().to_vec().unwrap(), vec![1.0; 1 << 17], "on {device}");
    }
}

#[test]
fn options_without_workgroups_are_refused() {
    let Some(device) = opened(&GpuOptions::default()) else { return };
    let options = GpuOptions { max_workgroups: Some(0), ..GpuOptions::default() };
    match Device::open_with(device.id(), &options) {
        Err(Error::Argument { message, .. }) => assert!(message.contains("max_workgroups"), "{message}"),
        other => panic!("{other:?}"),
    }
}

static NO_WGSL: Kernel = kernel("none", "fn none( { }", 1);
static NO_ENTRY: Kernel = kernel("other", "@compute @workgroup_size(1) fn one() { }", 1);
static NO_TYPE: Kernel = kernel("typo", "@compute @workgroup_size(1) fn typo() { let x: u32 = 1.5; }", 1);
static NO_IMPORT: Kernel = kernel("import", "#import shared/nowhere.wgsl\n", 1);

#[test]
fn a_kernel_that_does_not_compile_is_an_error_that_names_it() {
    let Some(device) = opened(&GpuOptions::default()) else { return };
    let x = tensor(&[8], 1, &device);
    let y = x.neg().unwrap(); // recorded before
    let cases: [(&'static Kernel, &'static [u32], usize); 6] = [
        (&NO_WGSL, &[], 1),
        (&NO_ENTRY, &[], 1),
        (&NO_TYPE, &[], 1),
        (&NO_IMPORT, &[], 1),
        (&STRAY, &[99], 1), // not a declared value
        (&FLAG, &[], 1),    // one buffer is missing
    ];
    for _ in 0..2 {
        for (kernel, constants, workgroups) in cases {
            let op = Custom { constants, workgroups, ..Custom::of(kernel, 8) };
            match apply(op, &[&x]) {
                Err(Error::Kernel { kernel: name, message }) => {
                    assert_eq!(name, kernel.name());
                    assert!(!message.is_empty());
                }
                other => panic!("{}: {other:?}", kernel.name()),
            }
        }
    }
    assert_eq!(y.to_vec().unwrap(), whole(&[8], 1).iter().map(|x| -x).collect::<Vec<_>>());
    assert_works(&device, 1);
}

static STRAY: Kernel = kernel(
    "stray",
    x_to_y!(
        "f32",
        "
@compute @workgroup_size(1)
fn stray() {
    // One element too far, and none at the start.
    for (var i = 1u; i <= p.count; i++) { y[i] = x[0]; }
}
"
    ),
    1,
);

#[test]
fn guards_show_a_write_out_of_bounds_and_a_missing_one() {
    let Some(device) = opened(&guarded()) else { return };
    let x = Tensor::ones([1], &device).unwrap();
    for count in [1, 5, 64, 1000, 1024] {
        let y = apply(Custom::of(&STRAY, count), &[&x]).unwrap();
        match x.to_vec() {
            Err(Error::Gpu { message }) => {
                assert!(
                    message.contains("past the end") && message.contains(&count.to_string()),
                    "{message}"
                );
            }
            other => panic!("{count}: {other:?}"),
        }
        // It is reported once, and the skipped element is NaN, not an old value.
        let values = y.to_vec().unwrap();
        assert!(values[0].is_nan() && values[1..].iter().all(|&value| value == 1.0), "{values:?}");
    }
    // Enough buffers that the guards are checked before any read-back.
    let mut y = Tensor::zeros([10], &device).unwrap();
    for _ in 0..1200 {
        y = y.add(&x).unwrap();
    }
    assert_eq!(y.to_vec().unwrap(), [1200.0; 10]);
    assert_works(&device, 1);
}

static PEEK: Kernel = kernel(
    "peek",
    x_to_y!(
        "f32",
        "
@compute @workgroup_size(1)
fn peek() {
    for (var i = 0u; i < p.count; i++) {
        let next = x[i + 1u];
        y[i] = select(x[i], next, next < -1e30);
    }
}
"
    ),
    1,
);

static PEEK_FOURS: Kernel = kernel(
    "peek_fours",
    x_to_y!(
        "vec4f",
        "
@compute @workgroup_size(1)
fn peek_fours() {
    for (var i = 0u; i < (p.count + 3u) / 4u; i++) {
        let next = x[i + 1u];
        y[i] = select(x[i], next, next < vec4f(-1e30));
    }
}
"
    ),
    1,
);

/// The same with vectors, of which one word is changed.
#[test]
fn an_out_of_bounds_read_of_vectors_is_reported() {
    let Some(device) = opened(&GpuOptions { worst_case: true, ..guarded() }) else { return };
    for count in [1, 4, 100] {
        let x = Tensor::ones([count], &device).unwrap();
        match apply(Custom::of(&PEEK_FOURS, count), &[&x]).unwrap().to_vec() {
            Err(Error::Gpu { message }) => assert!(message.contains("read past the end"), "{message}"),
            other => panic!("{count}: {other:?}"),
        }
    }
}

#[test]
fn a_read_out_of_bounds_shows_on_the_worst_adapter() {
    let Some(device) = opened(&GpuOptions { worst_case: true, ..guarded() }) else { return };
    let plain = opened(&guarded()).unwrap();
    for count in [1, 3, 4, 100] {
        let peek = |device: &Device, length: usize| {
            apply(Custom::of(&PEEK, count), &[&Tensor::ones([length], device).unwrap()]).unwrap().to_vec()
        };
        match peek(&device, count) {
            Err(Error::Gpu { message }) => assert!(message.contains("read past the end"), "{message}"),
            other => panic!("{count}: {other:?}"),
        }
        // No result shows it; reading one more element is enough.
        assert_eq!(peek(&plain, count).unwrap(), vec![1.0; count]);
        assert_eq!(peek(&device, count + 1).unwrap(), vec![1.0; count]);
    }
}

static BUSY: Kernel = kernel(
    "busy",
    x_to_y!(
        "f32",
        "
@compute @workgroup_size(64)
fn busy(@builtin(global_invocation_id) id: vec3u) {
    var sum = 0u;
    for (var i = 0u; i < 20000u; i++) { sum = sum * 1664525u + i + id.x; }
    if (id.x < p.count) { y[id.x] = select(x[0], -1.0, sum == 12345u && p.count == 0u); }
}
"
    ),
    1,
);

#[test]
fn a_batch_of_many_seconds_is_waited_for_and_others_wait_their_turn() {
    let Some(device) = opened(&GpuOptions::default()) else { return };
    // wgpu stops waiting on GL after two seconds, and on its lock after six.
    let seconds = if device.id().starts_with("gl:") { 8.0 } else { 3.0 };
    let x = Tensor::ones([1], &device).unwrap();
    let batch = |dispatches: usize| {
        let results: Vec<Tensor> = (0..dispatches)
            .map(|_| apply(Custom { workgroups: 4, ..Custom::of(&BUSY, 256) }, &[&x]).unwrap())
            .collect();
        let started = Instant::now();
        assert_eq!(results.last().unwrap().to_vec().unwrap(), [1.0; 256]);
        started.elapsed().as_secs_f64()
    };
    batch(1);
    let mut each = batch(2) / 2.0;
    // A batch holds at most 256 dispatches. On fast hardware that takes less than these seconds, which is fine.
    let dispatches = ((seconds / each) as usize).clamp(1, 250);
    let done = AtomicBool::new(false);
    let other = fresh(&device);
    std::thread::scope(|scope| {
        let (done, other) = (&done, &other);
        let neighbour = scope.spawn(move || {
            while !done.load(Ordering::Acquire) {
                assert_works(other, 1);
            }
        });
        each = batch(dispatches) / dispatches as f64;
        done.store(true, Ordering::Release);
        neighbour.join().unwrap();
    });
    assert!(each > 0.0);
    assert_works(&device, 2);
}

/// A fault that matches no adapter, and one per variant that matches every adapter.
static FORCED: [[Quirk; 1]; 5] = [
    forced("no-such-adapter", Variant::Subgroups),
    forced(":", Variant::Subgroups),
    forced(":", Variant::Tiles),
    forced(":", Variant::ZeroedMemory),
    forced(":", Variant::UniformParams),
];

const fn forced(adapter: &'static str, variant: Variant) -> [Quirk; 1] {
    let answer = Answer::Without(variant);
    [Quirk { adapter, driver: "", fault: "made up", seen: "in this test", answer }]
}

#[test]
fn a_known_fault_turns_off_the_variant_that_it_shows_in() {
    // The matmul kernel chosen with those faults and tuned for that kind of adapter.
    let chosen = |quirks: &'static [Quirk], kind| {
        let tune_for = Some(kind);
        let device = opened(&GpuOptions { quirks, tune_for, ..GpuOptions::default() })?;
        assert_works(&device, 1);
        let known = gpu(&device).quirks().iter().filter(|quirk| quirk.fault == "made up").count();
        let x = tensor(&[70, 70], 1, &device);
        let (_, profile) = gpu(&device).profile(|| x.matmul(&x)).unwrap();
        Some((profile.timings[0].kernel.clone(), known))
    };
    let (subgroup, registers) = ("matmul_subgroup.wgsl:subgroup", "matmul.wgsl:registers");
    let Some((usual, 0)) = chosen(&[], AdapterKind::Software) else { return };
    let [stranger, subgroups, tiles, zeroed, uniform] = &FORCED;
    assert_eq!(chosen(stranger, AdapterKind::Software).unwrap(), (usual.clone(), 0));
    assert_eq!(chosen(subgroups, AdapterKind::Software).unwrap(), (registers.to_string(), 1));
    assert!(usual == subgroup || usual == registers, "{usual}");
    assert_eq!(chosen(&[], AdapterKind::Hardware).unwrap(), ("matmul.wgsl:tiled".to_string(), 0));
    assert_eq!(chosen(tiles, AdapterKind::Hardware).unwrap(), (usual, 1));
    // Results are right without zeroed workgroup memory, including those of reductions that use it.
    assert_eq!(chosen(zeroed, AdapterKind::Hardware).unwrap().1, 1);
    // Also with parameters in a storage buffer, which lavapipe uses anyway.
    assert_eq!(chosen(uniform, AdapterKind::Hardware).unwrap().1, 1);
}
