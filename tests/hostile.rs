//! Random hostile arguments to every public function of `Tensor`, `nn`, `optim`, `io`, `data` and `metrics`: no panic,
//! no abort, no hang, and the same results on the device under test as on the CPU twins.
//!
//! A case is a sequence of calls from one seed, whose later calls use results of earlier ones. It runs on both devices
//! side by side, in a child process, so that a crash is reported with the call. `GRISTMILL_HOSTILE` sets the number of
//! calls; `GRISTMILL_HOSTILE_SEED` repeats the case of that seed.

#[path = "hostile/nn.rs"]
mod nn;
#[path = "hostile/rest.rs"]
mod rest;
#[path = "hostile/scan.rs"]
mod scan;
#[path = "hostile/tensor.rs"]
mod tensor;
#[path = "hostile/world.rs"]
mod world;

use gristmill::gpu::GpuOptions;
use gristmill::{DType, Device, Error, Result, Tensor};
use libtest_mimic::{Arguments, Failed, Trial};
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use world::{Call, Out, World};

/// Calls per case. Each result may be used by later calls.
const CALLS_A_CASE: u64 = 25;

/// The memory budget of a device, in bytes.
const BUDGET: u64 = 64 << 20;

/// The largest single allocation of the process: uploads and downloads are within the budget, and are held as bytes and
/// as numbers. Larger allocations ignore the budget; they fail and end the process.
const LARGEST_ALLOCATION: usize = 4 * BUDGET as usize;

struct Limited;

// SAFETY: as `System`, or null, by which an allocator reports that it is out of memory.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > LARGEST_ALLOCATION {
            return std::ptr::null_mut();
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > LARGEST_ALLOCATION {
            return std::ptr::null_mut();
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > LARGEST_ALLOCATION {
            return std::ptr::null_mut();
        }
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Limited = Limited;

/// Makes a module's list of calls from lines such as `"Tensor::t" => |w| w.tensor()?.t()?;`.
#[macro_export]
macro_rules! calls {
    ($($name:literal: |$w:ident| $call:expr;)*) => {
        pub const CALLS: &[Call] = &[$(Call { name: $name, run: |$w: &mut World| -> Result<Out> { Ok(Out::from($call)) } }),*];
    };
}

fn calls() -> Vec<&'static Call> {
    let lists = [tensor::METHODS, nn::LAYERS, &[tensor::CALLS, nn::CALLS, rest::CALLS]];
    lists.into_iter().flatten().copied().flatten().collect()
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

fn device_name() -> String {
    std::env::var("GRISTMILL_DEVICE").unwrap_or_else(|_| "gpu".to_string())
}

fn main() -> ExitCode {
    if let (Some(first), Some(cases)) = (number(FIRST), number(CASES)) {
        child(first, cases);
        return ExitCode::SUCCESS;
    }
    let trials = vec![
        Trial::test("every_public_function_is_called", every_public_function_is_called),
        Trial::test("every_method_that_gives_a_tensor_chains", every_method_that_gives_a_tensor_chains),
        Trial::test("hostile_arguments", hostile_arguments),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn every_public_function_is_called() -> Result<(), Failed> {
    let mut called = BTreeSet::new();
    for call in calls() {
        if !called.insert(call.name.to_string()) {
            return Err(format!("{} is in the list twice", call.name).into());
        }
    }
    called.extend(scan::EXCEPTIONS.iter().map(|(name, _)| name.to_string()));
    let declared = scan::public_functions();
    let missing: Vec<_> = declared.difference(&called).collect();
    let stray: Vec<_> = called.difference(&declared).collect();
    match declared.len() > 300 && missing.is_empty() && stray.is_empty() {
        true => Ok(()),
        false => {
            Err(format!("{} functions; not called: {missing:#?}; of no function: {stray:#?}", declared.len())
                .into())
        }
    }
}

/// The methods of `Tensor` that are not methods of `Chain`: constructors, those that give something else than one tensor,
/// and those that choose a kernel, for benches.
const UNCHAINED: &[&str] = &[
    "from_slice",
    "from_ids",
    "randn",
    "uniform",
    "scalar",
    "full",
    "zeros",
    "ones",
    "cat",
    "stack",
    "arange",
    "linspace",
    "eye",
    "einsum",
    "to_vec",
    "to_ids",
    "item",
    "shape",
    "rank",
    "numel",
    "dtype",
    "device",
    "layout",
    "is_differentiable",
    "is_leaf",
    "detach",
    "backward",
    "backward_from",
    "retain_grad",
    "split",
    "chunk",
    "conv2d_with",
    "conv_transpose2d_with",
    "matmul_with",
    "batch_norm",
    "add_layer_norm",
    "add_rms_norm",
    "lstm_cell",
    "sort",
    "topk",
];

fn every_method_that_gives_a_tensor_chains() -> Result<(), Failed> {
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/expr.rs"))?;
    let list = source.split_once("\nchain! {\n").ok_or("no list")?.1;
    let chained: BTreeSet<String> = list
        .lines()
        .filter_map(|line| line.trim().split_once('('))
        .map(|(name, _)| name.to_string())
        .collect();
    let mut wanted = BTreeSet::new();
    for name in scan::public_functions() {
        let method = name.strip_prefix("Tensor::").map(str::to_string);
        wanted.extend(method.filter(|method| !UNCHAINED.contains(&&**method)));
    }
    let missing: Vec<_> = wanted.difference(&chained).collect();
    let stray: Vec<_> = chained.difference(&wanted).collect();
    match missing.is_empty() && stray.is_empty() {
        true => Ok(()),
        false => Err(format!("not in Chain: {missing:?}; not to be there: {stray:?}").into()),
    }
}

// Environment variables that tell the child which cases to run.
const FIRST: &str = "GRISTMILL_HOSTILE_FIRST";
const CASES: &str = "GRISTMILL_HOSTILE_CASES";

/// Outcomes of the calls of a function.
#[derive(Default, Clone, Copy)]
struct Calls {
    ok: u64,
    refused: u64,
    longest: u64,
}

fn hostile_arguments() -> Result<(), Failed> {
    let count = number("GRISTMILL_HOSTILE").unwrap_or(if device_name() == "cpu" { 4000 } else { 1500 });
    let clock =
        || std::time::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64 % 1_000_000_000_000);
    let (mut first, mut left) = match number("GRISTMILL_HOSTILE_SEED") {
        Some(seed) => (seed, 1),
        None => (clock(), count.div_ceil(CALLS_A_CASE)),
    };
    println!("hostile: {left} cases of {CALLS_A_CASE} calls on {}, from seed {first} on", device_name());
    let began = Instant::now();
    let mut tally: BTreeMap<&str, Calls> = calls().iter().map(|call| (call.name, Calls::default())).collect();
    // One failure of each kind.
    let mut failures: BTreeMap<String, (String, u64)> = BTreeMap::new();
    while left > 0 {
        let ended = run_child(first, left, &mut tally, &mut failures)?;
        // If a case ended its process, it is the last one.
        left -= (ended + 1 - first).min(left);
        first = ended + 1;
    }
    let made: u64 = tally.values().map(|calls| calls.ok + calls.refused).sum();
    println!(
        "{made} calls in {:.0} s; of each function: those that succeeded + those refused",
        began.elapsed().as_secs_f64()
    );
    print_tally(&tally);
    if made > 100 * tally.len() as u64 {
        let never = |kind: fn(&Calls) -> u64| {
            tally.iter().filter(move |(_, calls)| kind(calls) == 0).map(|(name, _)| *name)
        };
        println!("never refused: {}", never(|calls| calls.refused).collect::<Vec<_>>().join(" "));
        let never: Vec<_> = never(|calls| calls.ok).collect();
        if !never.is_empty() {
            let told =
                format!("no call of these ever succeeded, so that nothing is known of them: {never:?}");
            failures.insert(told.clone(), (told, 1));
        }
    }
    match failures.is_empty() {
        true => Ok(()),
        false => {
            let told: Vec<String> =
                failures.values().map(|(first, count)| format!("{count} x {first}")).collect();
            Err(format!("{} kinds of failure\n\n{}", told.len(), told.join("\n\n")).into())
        }
    }
}

fn print_tally(tally: &BTreeMap<&str, Calls>) {
    let mut line = String::new();
    for (name, Calls { ok, refused, longest }) in tally {
        let slow = if *longest >= 1000 { format!(" ({longest} ms)") } else { String::new() };
        let item = format!("{name} {ok}+{refused}{slow}");
        if line.len() + item.len() > 120 {
            println!("{line}");
            line.clear();
        }
        line += if line.is_empty() { "" } else { ", " };
        line += &item;
    }
    println!("{line}");
}

/// Runs cases in a child process, and returns the last one that began.
fn run_child(
    first: u64,
    cases: u64,
    tally: &mut BTreeMap<&str, Calls>,
    failures: &mut BTreeMap<String, (String, u64)>,
) -> Result<u64, Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(FIRST, first.to_string()).env(CASES, cases.to_string()).env("RUST_BACKTRACE", "0");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("no pipes".into());
    };
    let last_words = std::thread::spawn(move || {
        let lines: Vec<String> = BufReader::new(err)
            .split(b'\n')
            .map_while(Result::ok)
            .map(|line| String::from_utf8_lossy(&line).into_owned())
            .collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    });
    let mut fail = |name: &str, what: &str| {
        let kind = format!("{name} {}", what.replace(|c: char| c.is_ascii_digit(), ""));
        let kind: String = kind.chars().take(120).collect();
        failures.entry(kind).or_insert_with(|| (format!("{name}: {what}"), 0)).1 += 1;
    };
    let (mut case, mut name) = (first, String::new());
    // `> seed call name` before a call, `< outcome milliseconds` after it, `! message` if it failed.
    for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            [">", seed, _, called] => (case, name) = (seed.parse().unwrap_or(case), called.to_string()),
            ["<", outcome, took] => {
                if let Some(calls) = tally.get_mut(&*name) {
                    calls.ok += u64::from(outcome == "ok");
                    calls.refused += u64::from(outcome == "refused");
                    calls.longest = calls.longest.max(took.parse().unwrap_or(0));
                }
            }
            ["!", ..] => fail(&name, &format!("{} (seed {case})", line[2..].replace('\t', "\n    "))),
            _ => println!("{line}"),
        }
    }
    let status = child.wait()?;
    let last_words = last_words.join().unwrap_or_default();
    if status.success() {
        return Ok(first + cases);
    }
    if name.is_empty() {
        return Err(format!("the child process ended before its first call: {status}\n{last_words}").into());
    }
    fail(&name, &format!("the process ended, {status} (seed {case})\n{last_words}"));
    Ok(case)
}

/// Panics seen by the panic hook, on any thread.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// When the current call began.
static UNDER_WAY: Mutex<Option<Instant>> = Mutex::new(None);

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the process if a call takes longer than `longest`, which includes the compilation of kernels.
fn watch(longest: Duration) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(200));
            if lock(&UNDER_WAY).is_some_and(|began| began.elapsed() > longest) {
                eprintln!("no answer after {} s", longest.as_secs());
                std::process::abort();
            }
        }
    });
}

fn child(first: u64, cases: u64) {
    std::panic::set_hook(Box::new(|info| lock(&PANICS).push(info.to_string().replace('\n', " "))));
    let name = device_name();
    let slow = !(name == "cpu" || name.starts_with("vulkan:llvmpipe"));
    watch(Duration::from_secs(if name == "cpu" {
        30
    } else if slow {
        300
    } else {
        90
    }));
    let dir = std::env::temp_dir().join(format!("gristmill-hostile-{}", std::process::id()));
    let cpu = Device::cpu_with_budget(BUDGET);
    let mut worlds = vec![World::new(cpu.clone(), Device::cpu_with_budget(BUDGET), dir.join("cpu"))];
    if name != "cpu" {
        let options = GpuOptions { memory_budget: Some(BUDGET), guarded: true, ..GpuOptions::default() };
        let gpu = Device::open_with(&name, &options).unwrap_or_else(|error| panic!("{error}"));
        worlds.push(World::new(gpu, cpu, dir.join("gpu")));
    }
    let all = calls();
    (first..first + cases).for_each(|seed| case(seed, &mut worlds, &all));
    let _ = std::fs::remove_dir_all(dir);
}

/// Runs a case: a sequence of calls, each on all devices.
fn case(seed: u64, worlds: &mut [World], all: &[&Call]) {
    for world in worlds.iter_mut() {
        world.clear();
        let _ = std::fs::remove_dir_all(&world.dir);
        std::fs::create_dir_all(&world.dir).unwrap();
    }
    for at in 0..CALLS_A_CASE {
        let mut choice = gristmill::proof::Gen::new(
            seed.wrapping_mul(CALLS_A_CASE).wrapping_add(at),
            0,
            gristmill::proof::Values::Ordinary,
        );
        let (call, seed_of_call) = (choice.choose(all), choice.bits());
        println!("> {seed} {at} {}", call.name);
        let began = Instant::now();
        let mut answers: Vec<Result<Answer, String>> = Vec::new();
        for world in worlds.iter_mut() {
            *lock(&UNDER_WAY) = Some(Instant::now());
            lock(&PANICS).clear();
            // If the CPU refused, the GPU's result is read: it reports the ids that it checked when its result is read.
            let must_read = matches!(answers.first(), Some(Ok(Answer { result: Err(_), .. })));
            let answer = catch_unwind(AssertUnwindSafe(|| answer(world, call, seed_of_call, must_read)));
            let panics = std::mem::take(&mut *lock(&PANICS));
            answers.push(match answer {
                Ok(answer) if panics.is_empty() => Ok(answer),
                _ => Err(format!("panicked on {}: {}", world.device.id(), panics.join("; "))),
            });
        }
        *lock(&UNDER_WAY) = None;
        let arguments =
            worlds.iter().map(|world| &world.told).max_by_key(|told| told.len()).map(|told| told.join(", "));
        let arguments = arguments.unwrap_or_default();
        let told = |message: String| {
            println!("! {}\targuments: {}", message.replace('\n', " "), arguments.replace('\n', " "))
        };
        let answers = match answers.into_iter().collect::<Result<Vec<Answer>, String>>() {
            Ok(answers) => answers,
            Err(message) => return told(message),
        };
        let outcome = if answers[0].result.is_ok() { "ok" } else { "refused" };
        println!("< {outcome} {}", began.elapsed().as_millis());
        match judge(&answers) {
            Verdict::Same => {
                for at in 0..answers[0].result.as_ref().map_or(0, |out| out.tensors.len().min(4)) {
                    // Rounding may lead to other ids, and ids in range on the CPU may then be out of range here.
                    let same_ids = answers.iter().all(|answer| answer.ids.get(at) == answers[0].ids.get(at));
                    for (world, answer) in worlds.iter_mut().zip(&answers) {
                        let Ok(out) = &answer.result else { continue };
                        if same_ids && out.tensors[at].device().same(&world.device) {
                            world.keep(&out.tensors[at]);
                        }
                    }
                }
            }
            Verdict::Excused => return,
            Verdict::Unlike(message) => return told(message),
        }
    }
}

/// The result of a call on a device.
struct Answer {
    result: Result<Out>,
    /// The elements of each id tensor.
    ids: Vec<Vec<u32>>,
}

/// Results of up to this many elements are read back.
const READ: usize = 1 << 21;

fn answer(world: &mut World, call: &Call, seed: u64, must_read: bool) -> Answer {
    world.begin(seed);
    let mut ids = Vec::new();
    let result = (call.run)(world).and_then(|mut out| {
        let differentiable = out.tensors.iter().find(|x| x.is_differentiable() && x.numel() <= READ).cloned();
        if let (Some(x), true) = (differentiable, world.draw.one_in(3)) {
            world.tell("backward");
            let grad = world.like(&x)?;
            out.tensors.extend(x.backward_from(&grad)?.iter().cloned());
        }
        let read = world.flag() || must_read;
        for x in &out.tensors {
            ids.push(Vec::new());
            match x.dtype() {
                _ if x.numel() > READ && !must_read => {}
                DType::U32 => *ids.last_mut().unwrap() = x.to_ids()?,
                DType::F32 if read => drop(x.to_vec()?),
                DType::F32 => {}
            }
        }
        Ok(out)
    });
    Answer { result, ids }
}

enum Verdict {
    Same,
    /// They differ for an accepted reason.
    Excused,
    Unlike(String),
}

fn judge(answers: &[Answer]) -> Verdict {
    for Answer { result, .. } in answers {
        // Internal errors of the crate or of a driver.
        if let Err(
            error @ (Error::Gpu { .. }
            | Error::Kernel { .. }
            | Error::DeviceLost { .. }
            | Error::Adapter { .. }),
        ) = result
        {
            return Verdict::Unlike(format!("gave {error:?}"));
        }
    }
    let [cpu, gpu] = answers else { return Verdict::Same };
    let unlike =
        |cpu: String, gpu: String| Verdict::Unlike(format!("answers differ:\tcpu: {cpu}\tgpu: {gpu}"));
    match (&cpu.result, &gpu.result) {
        (Ok(a), Ok(b)) => {
            let shapes = |out: &Out| {
                out.tensors
                    .iter()
                    .map(|x: &Tensor| format!("{:?}{}", x.dtype(), x.shape()))
                    .collect::<Vec<_>>()
            };
            let (mine, other) = ((shapes(a), &a.said), (shapes(b), &b.said));
            if mine == other { Verdict::Same } else { unlike(format!("{mine:?}"), format!("{other:?}")) }
        }
        (a, b) if may_differ(a.as_ref().err(), b.as_ref().err()) => Verdict::Excused,
        (Err(a), Err(b)) if kind(a) == kind(b) => Verdict::Same,
        (a, b) => {
            let show = |result: &Result<Out>| {
                result.as_ref().map_or_else(|error| format!("{error:?}"), |_| "Ok".to_string())
            };
            unlike(show(a), show(b))
        }
    }
}

/// The parts of an error that must be the same on all devices.
fn kind(error: &Error) -> (std::mem::Discriminant<Error>, &'static str) {
    let op = match error {
        Error::Shape { op, .. } | Error::Argument { op, .. } | Error::MixedDevices { op, .. } => op,
        _ => "",
    };
    (std::mem::discriminant(error), op)
}

/// Differences between CPU and GPU that are accepted.
fn may_differ(cpu: Option<&Error>, gpu: Option<&Error>) -> bool {
    let memory = |error: Option<&Error>| match error {
        // CPU and GPU need different amounts of memory for the same work: size classes, copies, scratch memory.
        Some(Error::OutOfMemory { .. }) => true,
        // Limits of a GPU's buffers and grids.
        Some(Error::Limit { .. }) => true,
        // Kernels count with 32 bits.
        Some(Error::Shape { message, .. }) => message.contains("more than a kernel can count"),
        _ => false,
    };
    if memory(cpu)
        || memory(gpu)
        || matches!(gpu, Some(Error::Argument { message, .. }) if message.contains("this adapter's"))
    {
        // The other device may have succeeded, or failed with a later error.
        return true;
    }
    // The CPU checks ids at once. A GPU reports computed ids when a result is read, and may report another error first.
    match cpu {
        Some(Error::Argument { message, .. }) => {
            gpu.is_some()
                && ["is out of range", "is past the end", "class id"]
                    .iter()
                    .any(|part| message.contains(part))
        }
        _ => false,
    }
}
