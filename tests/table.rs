//! The table of cases (`gristmill::proof`), row by row. Each op runs on every device and is compared with its reference
//! in f64 within the derived bound, forward and backward. Special values are compared by class, and there are inputs
//! whose squares overflow. The same runs on the worst-case device that conforms to WGSL, and under small limits. The
//! table itself is tested too: gradient references against finite differences, and bounds for tightness.
//!
//! One test per row and property, as in `cargo test --test table softmax`. `PROPTEST_CASES` sets the number of cases
//! for agreement; the other properties run an eighth of it. `GRISTMILL_TABLE_CASES` sets it for this suite only.

mod common;

use common::{Devices, cases};
use gristmill::Device;
use gristmill::proof::{
    Failure, Outcome, Row, Values, check, check_differences, check_tightness, located, rows,
};
use libtest_mimic::{Arguments, Failed, Trial};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The fractions of their bounds that the rows used, by row and device.
static SHARES: Mutex<BTreeMap<(String, String), Outcome>> = Mutex::new(BTreeMap::new());

/// The devices of this thread. Tests that share a device wait for each other, mostly while kernels compile. So on
/// lavapipe there are two sets; its disk cache saves the second device from compiling again.
fn own_devices() -> &'static Devices {
    static SETS: [Devices; 2] = [const { Devices::unopened() }; 2];
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    let sets = if common::device().id().starts_with("vulkan:llvmpipe") { SETS.len() } else { 1 };
    &SETS[THREAD.with(|thread| thread % sets)]
}

/// Maximum size of most cases, in elements or multiplications, and of the few that need many workgroups.
const LARGEST: usize = 3000;
const MANY: usize = 40_000;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // For `cargo xtask mutate`, which selects the rows that reach a kernel, and needs only the first failure.
    let only = std::env::var("GRISTMILL_ROWS").unwrap_or_default();
    let fail_fast = std::env::var_os("GRISTMILL_FAIL_FAST").is_some();
    let wanted = |row: &Row| only.is_empty() || only.split(',').any(|name| name == row.name);
    let trials = rows().into_iter().filter(wanted).flat_map(|row| {
        let trial = |property: &str, test: fn(Row) -> Result<(), Failed>| {
            Trial::test(format!("{}::{property}", row.name), move || {
                test(row).inspect_err(|failed| {
                    if fail_fast {
                        println!("failed row: {}\n{}", row.name, failed.message().unwrap_or_default());
                        std::process::exit(101);
                    }
                })
            })
        };
        let squares = SQUARING.contains(&row.name).then(|| trial("handles_overflow", handles_overflow));
        let all = [
            trial("agrees_with_f64", agrees_with_f64),
            trial("keeps_special_values", keeps_special_values),
            trial("works_on_the_worst_case_device", works_on_the_worst_case_device),
            trial("keeps_to_small_limits", keeps_to_small_limits),
            trial("gradients_are_slopes", gradients_are_slopes),
            trial("bounds_are_tight", bounds_are_tight),
        ];
        all.into_iter().chain(squares)
    });
    let whole = [
        Trial::test("every_public_op_has_a_row", every_public_op_has_a_row),
        Trial::test("rows_have_different_names", rows_have_different_names),
    ];
    let whole = whole.into_iter().filter(|_| only.is_empty());
    let conclusion = libtest_mimic::run(&arguments, trials.chain(whole).collect());
    let shares = SHARES.lock().unwrap_or_else(PoisonError::into_inner);
    if !shares.is_empty() {
        println!("{:<28} {:<28} {:>9} {:>9} {:>10}", "row", "device", "forward", "backward", "elements");
        for ((row, device), share) in shares.iter() {
            let (forward, backward) = (share.forward, share.backward);
            println!("{row:<28} {device:<28} {forward:>9.3} {backward:>9.3} {:>10}", share.elements);
        }
        println!("(forward, backward: the largest share of its bound that an element used)");
    }
    conclusion.exit_code()
}

/// Runs `property` on random seeds and sizes. A failure is retried with smaller sizes.
fn property(
    cases: u32,
    [largest, most]: [usize; 2],
    property: impl Fn(u64, usize) -> Result<(), Failure>,
) -> Result<(), Failed> {
    let mut runner = TestRunner::new(ProptestConfig { cases, ..common::cases() });
    let sizes = prop_oneof![10 => 1usize..=24, 10 => 24usize..=largest.max(25), 1 => largest..=most];
    runner
        .run(&(any::<u64>().no_shrink(), sizes), |(seed, size)| {
            property(seed, size).map_err(TestCaseError::fail)
        })
        .map_err(|error| error.to_string().into())
}

/// Draws a case and checks it on a device.
fn checked(row: &Row, device: &Device, seed: u64, size: usize, values: Values) -> Result<Outcome, Failure> {
    let case = row.case(seed, size, values);
    check(&case, device, seed).map_err(|failure| located(row.name, &case, device.id(), seed, size, &failure))
}

/// The number of cases of a property.
fn count() -> u32 {
    let own = std::env::var("GRISTMILL_TABLE_CASES").ok().and_then(|count| count.parse().ok());
    own.unwrap_or(cases().cases)
}

fn agrees_with_f64(row: Row) -> Result<(), Failed> {
    let devices = own_devices();
    property(count(), [LARGEST, MANY], |seed, size| {
        for device in devices.plain().into_iter().chain(devices.hardware()) {
            let outcome = checked(&row, &device, seed, size, Values::Ordinary)?;
            let mut shares = SHARES.lock().unwrap_or_else(PoisonError::into_inner);
            let share = shares.entry((row.name.to_string(), device.id().to_string())).or_default();
            *share = share.and(outcome);
        }
        Ok(())
    })?;
    // The gradient at a corner, such as relu's, has no bound. In rows with corners this happens in about one case in a
    // thousand. If one element in twenty has no bound, the row proves too little.
    let shares = SHARES.lock().unwrap_or_else(PoisonError::into_inner);
    let all = shares.iter().filter(|((name, _), _)| name == row.name).map(|(_, &outcome)| outcome);
    let Outcome { unknown, elements, .. } = all.fold(Outcome::default(), Outcome::and);
    if unknown * 20 > elements {
        return Err(format!("of {unknown} of {elements} elements nothing is known").into());
    }
    Ok(())
}

fn keeps_special_values(row: Row) -> Result<(), Failed> {
    let devices = own_devices().plain();
    property(count().div_ceil(8), [LARGEST, MANY], |seed, size| {
        for device in &devices {
            checked(&row, device, seed, size, Values::Special)?;
        }
        Ok(())
    })
}

/// The rows of ops that square their inputs or differences between them.
const SQUARING: &[&str] = &[
    "square",
    "var",
    "std",
    "norm",
    "layer_norm",
    "rms_norm",
    "add_layer_norm",
    "add_rms_norm",
    "group_norm",
    "instance_norm",
    "batch_norm",
    "batch_norm statistics",
    "batch_norm_by",
    "mse_loss",
    "huber_loss",
];

/// Squares that overflow give the same result on every device.
fn handles_overflow(row: Row) -> Result<(), Failed> {
    let devices = own_devices();
    property(count().div_ceil(4), [LARGEST, MANY], |seed, size| {
        for device in devices.plain().into_iter().chain(devices.hardware()) {
            checked(&row, &device, seed, size, Values::Large)?;
        }
        Ok(())
    })
}

/// Results do not depend on what built-in functions return for special values, nor on the order of invocations.
fn works_on_the_worst_case_device(row: Row) -> Result<(), Failed> {
    let devices = own_devices().worst_case();
    if devices.is_empty() {
        return Ok(());
    }
    property(count().div_ceil(8), [LARGEST, MANY], |seed, size| {
        let values = if seed % 2 == 0 { Values::Special } else { Values::Ordinary };
        checked(&row, &devices[seed as usize / 2 % devices.len()], seed, size, values).map(drop)
    })
}

/// With half of WebGPU's guaranteed limits and two-dimensional grids, an op is right, or refused with the limit it
/// exceeds.
fn keeps_to_small_limits(row: Row) -> Result<(), Failed> {
    let Some(device) = own_devices().small() else { return Ok(()) };
    property(count().div_ceil(8), [LARGEST, MANY], |seed, size| {
        match checked(&row, &device, seed, size, Values::Ordinary) {
            // `needs 5 storage buffers, more than the 4 of ...`, `a number of workgroups of 2000 is over the limit 1600 of ...`
            Err(message) if message.contains("more than the ") || message.contains("is over the limit") => {
                Ok(())
            }
            other => other.map(drop),
        }
    })
}

fn gradients_are_slopes(row: Row) -> Result<(), Failed> {
    let totals = Mutex::new((0, 0));
    property(count().div_ceil(8), [24, 24], |seed, size| {
        let case = row.case(seed, size, Values::Ordinary);
        let (compared, corners) = check_differences(&case, seed)
            .map_err(|failure| located(row.name, &case, "the reference", seed, size, &failure))?;
        let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
        *totals = (totals.0 + compared, totals.1 + corners);
        Ok(())
    })?;
    let (compared, corners) = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    match 10 * corners <= compared + corners {
        true => Ok(()),
        false => {
            Err(format!("{corners} corners beside {compared} slopes: the draw is to keep off them").into())
        }
    }
}

fn bounds_are_tight(row: Row) -> Result<(), Failed> {
    property(count().div_ceil(4), [LARGEST; 2], |seed, size| {
        let case = row.case(seed, size, Values::Ordinary);
        check_tightness(&case, seed)
            .map_err(|failure| located(row.name, &case, "the reference", seed, size, &failure))
    })
}

/// Methods of `Tensor` that compute nothing: constructors, accessors, copies, autograd.
const NO_OPS: &[&str] = &[
    "from_slice",
    "from_ids",
    "scalar",
    "full",
    "zeros",
    "ones",
    "randn",
    "uniform",
    "arange",
    "linspace",
    "eye",
    "zeros_like",
    "ones_like",
    "full_like",
    "new", // constructors, of other types too
    "to_vec",
    "to_ids",
    "item",
    "to",
    "shape",
    "rank",
    "numel",
    "dtype",
    "device",
    "layout", // accessors
    "requires_grad",
    "is_differentiable",
    "is_leaf",
    "detach",
    "backward",
    "backward_from",
    "retain_grad", // autograd
];

/// The public methods of `Tensor` and functions of `nn`, as declared in the sources.
fn public_ops() -> BTreeSet<String> {
    fn sources(dir: &Path, all: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => sources(&path, all),
                path if path.extension().is_some_and(|e| e == "rs") => {
                    all.push(std::fs::read_to_string(path).unwrap());
                }
                _ => {}
            }
        }
    }
    let mut texts = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut texts);
    let name = |rest: &str| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_string);
    let mut names = BTreeSet::new();
    for text in &texts {
        // Blocks begin and end in the first column.
        let mut block = "";
        for line in text.lines() {
            if !line.starts_with([' ', '}', '/', '#']) && !line.is_empty() {
                block = line;
            }
            let method = line.strip_prefix("    pub fn ").filter(|_| block.starts_with("impl Tensor"));
            let listed = line.strip_prefix("    ").filter(|rest| {
                block.starts_with("methods") && rest.contains(" => ") && !rest.starts_with([' ', '/'])
            });
            let function = line
                .strip_prefix("pub fn ")
                .filter(|rest| rest.split('(').next().unwrap_or_default().ends_with("_loss"));
            names.extend(method.or(listed).or(function).and_then(name));
        }
    }
    names.retain(|name| !NO_OPS.contains(&name.as_str()) && name != "$name");
    names
}

fn every_public_op_has_a_row() -> Result<(), Failed> {
    let covered: BTreeSet<String> =
        rows().iter().flat_map(|row| row.covers).map(|name| name.to_string()).collect();
    let declared = public_ops();
    let missing: Vec<_> = declared.difference(&covered).collect();
    let stray: Vec<_> = covered.difference(&declared).collect();
    match declared.len() > 40 && missing.is_empty() && stray.is_empty() {
        true => Ok(()),
        false => {
            Err(format!("{} ops; without a row: {missing:?}; rows of no op: {stray:?}", declared.len())
                .into())
        }
    }
}

fn rows_have_different_names() -> Result<(), Failed> {
    let mut names = BTreeSet::new();
    match rows().iter().find(|row| !names.insert(row.name)) {
        None => Ok(()),
        Some(row) => Err(format!("two rows are named {}", row.name).into()),
    }
}
