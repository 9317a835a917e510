//! `cargo xtask test`: the whole suite on every adapter, and a matrix of the results.

use crate::binaries::{self, Binary};
use crate::output::say;
use crate::{FEATURES, cargo, prepare};
use std::collections::{BTreeMap, VecDeque};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub const USAGE: &str = "\
usage: cargo xtask test [--quick] [--no-install] [--adapters ID,ID,...] [--jobs N] [-- ARGUMENTS]

Runs the whole suite once for each adapter of this machine and once for the CPU twins, and prints a table at the end.
SwiftShader is found where Debian's chromium has it, or where GRISTMILL_SWIFTSHADER_ICD says. Suites of the runtime (memory, faults,
files) run once for each API. A row of the table gets 128 cases, on SwiftShader and GL 16, other ones in each run;
PROPTEST_CASES or GRISTMILL_TABLE_CASES, where set, decide instead.

  --quick            for work in between: one adapter and the CPU twins, few cases, and not the suites that take long
  --no-install       where no adapter is found, do not install a software one
  --adapters IDS     only these, such as vulkan:llvmpipe,gl:llvmpipe,cpu; the start of an id, such as metal, chooses the first
                     adapter whose id begins with it; one that is missing is a failure
  --jobs N           test binaries that run at once; 2 where not said
  -- ARGUMENTS       passed on to each test binary, such as the part of a test's name";

/// Suites that use no device, or test all devices themselves: they run once.
const ONCE: [&str; 8] =
    ["doc_examples", "examples", "files", "floors", "fuzz", "kernel_command", "kernel_headers", "shaders"];
/// Tests of the references alone, which do not depend on the device.
const REFERENCES: [&str; 2] = ["gradients_are_slopes", "bounds_are_tight"];
/// Suites of the runtime, not of kernels: memory, faults, files, the optimizers' bookkeeping. They run once for each API, such as
/// Vulkan or GL, and on the CPU; kernels run on every adapter.
const RUNTIME: [&str; 17] = [
    "allocation",
    "data",
    "deadlocks",
    "display",
    "doctor",
    "expr",
    "faults",
    "gristmill src/lib.rs",
    "hostile",
    "io",
    "leaks",
    "limits",
    "memory",
    "optim",
    "pytorch",
    "tensorboard",
    "train",
];
/// Suites that `--quick` skips: they measure memory, start processes, or train.
const SLOW: [&str; 7] = ["determinism", "doctor", "examples", "leaks", "limits", "memory", "mnist"];

#[derive(Debug, PartialEq)]
struct Options {
    quick: bool,
    install: bool,
    adapters: Option<Vec<String>>,
    jobs: usize,
    arguments: Vec<String>,
}

fn parse(mut rest: &[String]) -> Option<Options> {
    let mut options = Options { quick: false, install: true, adapters: None, jobs: 2, arguments: Vec::new() };
    while let Some((argument, after)) = rest.split_first() {
        rest = after;
        match argument.as_str() {
            "--quick" => options.quick = true,
            "--no-install" => options.install = false,
            "--adapters" => {
                let (ids, after) = rest.split_first()?;
                options.adapters = Some(ids.split(',').map(str::to_string).collect());
                rest = after;
            }
            "--jobs" => {
                let (jobs, after) = rest.split_first()?;
                options.jobs = jobs.parse().ok().filter(|&jobs| jobs > 0)?;
                rest = after;
            }
            "--" => {
                options.arguments = rest.to_vec();
                rest = &[];
            }
            _ => return None,
        }
    }
    Some(options)
}

/// A suite on one device.
struct Run {
    suite: String,
    device: String,
    passed: usize,
    failed: Vec<String>,
    /// Whether the process ran to its end, without a crash.
    ended: bool,
    took: Duration,
}

impl Run {
    fn is_well(&self) -> bool {
        self.ended && self.failed.is_empty()
    }
}

pub fn test(arguments: &[String]) -> Result<(), String> {
    let options = parse(arguments).ok_or(USAGE)?;
    let began = Instant::now();
    let binaries = binaries::build(&targets(options.quick)?)?;
    let built = began.elapsed();
    let mut found = adapters()?;
    let wants_gpu = options.adapters.as_ref().is_none_or(|ids| ids.iter().any(|id| id != "cpu"));
    if found.is_empty() && wants_gpu {
        install(options.install)?;
        found = adapters()?;
    }
    let ids = match &options.adapters {
        None if options.quick => quick(&found),
        None => [found, vec!["cpu".to_string()]].concat(),
        Some(ids) => ids.iter().map(|id| choose(id, &found)).collect::<Result<_, _>>()?,
    };
    let tasks = Mutex::new(tasks(&binaries, &ids, &options));
    let runs = Mutex::new(Vec::new());
    let next = || tasks.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                while let Some(task) = next() {
                    let run = task.run();
                    runs.lock().unwrap_or_else(PoisonError::into_inner).push(run);
                }
            });
        }
    });
    let runs = runs.into_inner().unwrap_or_else(PoisonError::into_inner);
    say(format!("\n{}", matrix(&runs, &ids)));
    let [built, all] = [built, began.elapsed()].map(|took| took.as_secs());
    say(format!("{all} seconds in all, {built} of them to build; {} at once", options.jobs));
    let (passed, failed) = runs.iter().fold((0, 0), |(passed, failed), run| {
        // A crash counts as a failure, even if no failed test was reported.
        (
            passed + run.passed,
            failed + run.failed.len() + usize::from(!run.is_well() && run.failed.is_empty()),
        )
    });
    say(format!("{passed} passed, {failed} failed"));
    if failed == 0 { Ok(()) } else { Err("the suite failed".to_string()) }
}

/// Cargo's arguments for the suites to build: all, or for a quick run those that it runs.
fn targets(quick: bool) -> Result<Vec<String>, String> {
    if !quick {
        return Ok(["--workspace", "--tests"].map(str::to_string).to_vec());
    }
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests"))
        .map_err(|error| format!("tests: {error}"))?;
    let names =
        files.filter_map(|file| Some(file.ok()?.file_name().to_str()?.strip_suffix(".rs")?.to_string()));
    let wanted = names.filter(|name| !SLOW.contains(&name.as_str()));
    Ok(["--lib".to_string()]
        .into_iter()
        .chain(wanted.flat_map(|name| ["--test".to_string(), name]))
        .collect())
}

/// The adapter of a quick run, and the CPU twins: the first, but SwiftShader only where there is no other, as it is the slowest.
fn quick(found: &[String]) -> Vec<String> {
    let adapter = found.iter().find(|id| !id.contains("swiftshader")).or(found.first());
    adapter.cloned().into_iter().chain(["cpu".to_string()]).collect()
}

/// The adapter with this id, else the first whose id begins with it: `metal` names the GPU of any Mac.
fn choose(id: &str, found: &[String]) -> Result<String, String> {
    if id == "cpu" {
        return Ok(id.to_string());
    }
    let same = found.iter().find(|adapter| *adapter == id);
    let first = || found.iter().find(|adapter| !id.is_empty() && adapter.starts_with(id));
    let adapter = same.or_else(first).cloned();
    adapter.ok_or_else(|| format!("no adapter {id}; there are: {}", found.join(", ")))
}

/// A process to start.
struct Task {
    suite: String,
    device: String,
    command: Command,
}

/// All tasks, the longest first.
fn tasks(binaries: &[Binary], ids: &[String], options: &Options) -> VecDeque<Task> {
    let mut tasks = Vec::new();
    for binary in binaries {
        let name = binary.name.as_str();
        if options.quick && SLOW.contains(&name) {
            continue;
        }
        let once = ONCE.contains(&name) || name.starts_with("xtask ");
        for (at, id) in ids.iter().enumerate().take(if once { 1 } else { ids.len() }) {
            if RUNTIME.contains(&name) && ids[..at].iter().any(|before| api(before) == api(id)) {
                continue;
            }
            let mut command = Command::new(&binary.path);
            command.args(&options.arguments);
            if name == "table" && (at > 0 || options.quick) {
                command.args(REFERENCES.iter().flat_map(|property| ["--skip", property]));
            }
            prepare(&mut command);
            for (variable, cases) in cases(id, options.quick) {
                command.env(variable, cases);
            }
            tasks.push(Task { suite: name.to_string(), device: id.clone(), command });
        }
    }
    if let (Some(id), false, true) = (ids.first(), options.quick, options.arguments.is_empty()) {
        let mut command = cargo();
        command.args(["test", "--doc", "--workspace"]).args(FEATURES);
        tasks.push(Task { suite: "docs".to_string(), device: id.clone(), command });
    }
    for task in &mut tasks {
        task.command.env("GRISTMILL_DEVICE", &task.device).stdin(Stdio::null());
    }
    tasks.sort_by_key(|task| (task.suite != "table", !task.device.contains("swiftshader")));
    tasks.into()
}

/// The API of an adapter: `vulkan` of `vulkan:llvmpipe`.
fn api(id: &str) -> &str {
    id.split(':').next().unwrap_or(id)
}

/// The number of cases of property tests on a device, by environment variable. The table of cases gets the most; the
/// older suites draw larger cases.
fn cases(id: &str, quick: bool) -> Vec<(&'static str, &'static str)> {
    let is_set = |variable| std::env::var_os(variable).is_some();
    if is_set("PROPTEST_CASES") {
        return Vec::new();
    }
    let (swiftshader, gl) = (id.contains("swiftshader"), id.starts_with("gl:"));
    let mut all = match (quick, swiftshader, gl) {
        (true, ..) | (_, true, _) => vec![("PROPTEST_CASES", "4")],
        (_, _, true) => vec![("PROPTEST_CASES", "16")],
        _ => Vec::new(),
    };
    if !is_set("GRISTMILL_TABLE_CASES") {
        let count = match quick {
            true => "16",
            false if swiftshader || gl => "16",
            false => "128",
        };
        all.push(("GRISTMILL_TABLE_CASES", count));
    }
    all
}

impl Task {
    /// Runs the process to its end, and prints its output.
    fn run(mut self) -> Run {
        let began = Instant::now();
        let output = self.command.output();
        let took = began.elapsed();
        let (printed, success) = match output {
            Ok(output) => {
                let streams = [output.stdout, output.stderr];
                (
                    streams.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat(),
                    output.status.success(),
                )
            }
            Err(error) => (format!("{:?}: {error}\n", self.command.get_program()), false),
        };
        let (passed, failed, ended) = outcome(&printed);
        let Task { suite, device, .. } = self;
        say(format!("\n==== {suite} on {device}, {:.1} s ====\n{}", took.as_secs_f64(), printed.trim_end()));
        Run { suite, device, passed, ended: ended && (success || !failed.is_empty()), failed, took }
    }
}

/// The number of passed tests, the failed tests, and whether the process ran to its end.
fn outcome(printed: &str) -> (usize, Vec<String>, bool) {
    let (mut passed, mut failed, mut ended) = (0, Vec::new(), false);
    for line in printed.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            // One line per package for documentation tests.
            ["test", "result:", _, count, "passed;", ..] => {
                passed += count.parse().unwrap_or(0);
                ended = true;
            }
            ["test", .., "...", "FAILED"] => failed.push(words[1..words.len() - 2].join(" ")),
            _ => {}
        }
    }
    (passed, failed, ended)
}

/// The table of suites and devices, and the failures.
fn matrix(runs: &[Run], ids: &[String]) -> String {
    let by_place: BTreeMap<(&str, &str), &Run> =
        runs.iter().map(|run| ((run.suite.as_str(), run.device.as_str()), run)).collect();
    let mut suites: Vec<&str> = runs.iter().map(|run| run.suite.as_str()).collect();
    suites.sort();
    suites.dedup();
    let line = |name: &str, cells: Vec<String>| {
        let cells = cells.iter().zip(ids).map(|(cell, id)| format!("  {cell:>0$}", id.len().max(14)));
        format!("{name:<28}{}\n", cells.collect::<String>())
    };
    let mut text = line("suite", ids.to_vec());
    let mut failures = String::new();
    for suite in suites {
        let cell = |id: &String| match by_place.get(&(suite, id.as_str())) {
            None => "-".to_string(),
            Some(run) => {
                let verdict = match run {
                    run if run.is_well() => format!("{} ok", run.passed),
                    run if run.ended => format!("{} FAILED", run.failed.len()),
                    _ => "CRASHED".to_string(),
                };
                format!("{verdict} {:>5.1}", run.took.as_secs_f64())
            }
        };
        text += &line(suite, ids.iter().map(cell).collect());
        for run in
            ids.iter().filter_map(|id| by_place.get(&(suite, id.as_str()))).filter(|run| !run.is_well())
        {
            let early = (!run.ended).then(|| "it ended early".to_string());
            let failed: Vec<String> = run.failed.iter().cloned().chain(early).collect();
            failures += &format!("{suite} on {}: {}\n", run.device, failed.join(", "));
        }
    }
    let sum =
        |id: &String| runs.iter().filter(|run| run.device == *id).map(|run| run.took.as_secs_f64()).sum();
    text += &line("seconds", ids.iter().map(sum).map(|sum: f64| format!("{sum:.0}")).collect());
    format!("{text}{failures}").trim_end().to_string()
}

/// The ids of this machine's adapters, from the command `gristmill`, which is built with the tests and lies beside this
/// program. `cargo run` would build the library again, without the features that dev-dependencies turn on in others.
fn adapters() -> Result<Vec<String>, String> {
    let command = std::env::current_exe()
        .map(|xtask| xtask.with_file_name(format!("gristmill{}", std::env::consts::EXE_SUFFIX)))
        .map_err(|error| format!("the path of xtask: {error}"))?;
    let mut adapters = Command::new(&command);
    prepare(&mut adapters);
    let output = adapters
        .args(["adapters", "--ids"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{}: {error}", command.display()))?;
    if !output.status.success() {
        return Err("the list of adapters could not be made".to_string());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_string).collect())
}

/// Installs Mesa's software Vulkan through the package manager.
fn install(allowed: bool) -> Result<(), String> {
    const MANAGERS: [(&str, &str); 3] = [
        ("apt-get", "apt-get update && apt-get install -y mesa-vulkan-drivers"),
        ("dnf", "dnf install -y mesa-vulkan-drivers vulkan-loader"),
        ("pacman", "pacman -Sy --noconfirm vulkan-swrast vulkan-icd-loader"),
    ];
    let exists = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let Some((_, command)) = MANAGERS.iter().find(|(program, _)| exists(program)) else {
        return Err(
            "no GPU adapter was found, and no package manager to install one with; install a Vulkan driver, \
                    or test the CPU twins alone: cargo xtask test --adapters cpu"
                .to_string(),
        );
    };
    if !allowed {
        return Err(format!("no GPU adapter was found; install a software one: {command}"));
    }
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let mut shell = if is_root { Command::new("sh") } else { Command::new("sudo") };
    if !is_root {
        shell.args(["-n", "sh"]);
    }
    say(format!("no GPU adapter was found; installing Mesa's software Vulkan: {command}"));
    let done = shell.args(["-c", command]).env("DEBIAN_FRONTEND", "noninteractive").status();
    match done {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!("that failed; run it by hand as root: {command}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
running 5 tests
test a ... ok
test one ... FAILED
test two - should panic ... FAILED
test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    #[test]
    fn the_suites_that_are_named_exist() {
        let named = ONCE.iter().chain(&RUNTIME).chain(&SLOW).filter(|name| !name.contains(' '));
        for name in named {
            let path = format!("{}/../tests/{name}.rs", env!("CARGO_MANIFEST_DIR"));
            assert!(std::path::Path::new(&path).exists(), "{path}");
        }
    }

    fn run(suite: &str, device: &str, printed: &str) -> Run {
        let (passed, failed, ended) = outcome(printed);
        let (suite, device) = (suite.to_string(), device.to_string());
        Run { suite, device, passed, failed, ended, took: Duration::from_millis(7100) }
    }

    #[test]
    fn what_a_suite_prints_is_counted() {
        assert_eq!(outcome(PRINTED), (3, vec!["one".to_string(), "two - should panic".to_string()], true));
        let (_, failed, ended) = outcome("running 1 test\ntest row::property ... ok\n");
        assert!(failed.is_empty() && !ended, "it crashed");
        let twice = "test result: ok. 5 passed; 0 failed\n".repeat(2);
        assert_eq!(outcome(&twice), (10, Vec::new(), true));
    }

    #[test]
    fn the_matrix_names_what_failed_and_where() {
        let well = "test result: ok. 5 passed; 0 failed; 0 ignored\n";
        let ids = ["vulkan:llvmpipe", "cpu"].map(str::to_string);
        let runs = [
            run("faults", "vulkan:llvmpipe", PRINTED),
            run("faults", "cpu", well),
            run("shaders", "vulkan:llvmpipe", well),
            run("table", "cpu", "running 1 test\n"),
        ];
        let text = matrix(&runs, &ids);
        let cells = |row: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.starts_with(row)).unwrap_or_default();
            line[28..]
                .split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .map(str::to_string)
                .collect()
        };
        assert_eq!(cells("suite"), ids);
        assert_eq!(cells("faults  "), ["2 FAILED", "7.1", "5 ok", "7.1"]);
        assert_eq!(cells("shaders "), ["5 ok", "7.1", "-"]);
        assert_eq!(cells("table  "), ["-", "CRASHED", "7.1"]);
        assert_eq!(cells("seconds"), ["14", "14"]);
        assert!(text.contains("faults on vulkan:llvmpipe: one, two - should panic"), "{text}");
        assert!(text.ends_with("table on cpu: it ended early"), "{text}");
    }

    #[test]
    fn an_adapter_is_chosen_by_its_id_or_the_start_of_it() {
        let found = ["metal:apple-m3-max", "metal:apple-m3", "gl:apple-m3"].map(str::to_string);
        let chosen = |id| choose(id, &found).ok();
        assert_eq!(chosen("metal").as_ref(), Some(&found[0]));
        assert_eq!(chosen("metal:apple-m3").as_ref(), Some(&found[1]), "the whole id goes first");
        assert_eq!(chosen("cpu").as_deref(), Some("cpu"));
        assert_eq!([chosen("dx12"), chosen("apple-m3"), chosen("")], [None, None, None]);
    }

    #[test]
    fn suites_without_a_device_run_once_and_quick_leaves_slow_ones_out() {
        let binary = |name: &str| Binary { name: name.to_string(), path: name.into() };
        let binaries = ["faults", "shaders", "table", "memory", "xtask src/main.rs"].map(binary);
        let ids = ["vulkan:llvmpipe", "cpu"].map(str::to_string);
        let count = |arguments: &[&str], suite: &str| {
            let arguments: Vec<String> = arguments.iter().map(|a| a.to_string()).collect();
            let tasks = tasks(&binaries, &ids, &parse(&arguments).unwrap());
            tasks.iter().filter(|task| task.suite == suite).count()
        };
        assert_eq!([count(&[], "faults"), count(&[], "table"), count(&[], "memory")], [2; 3]);
        assert_eq!([count(&[], "shaders"), count(&[], "xtask src/main.rs"), count(&[], "docs")], [1; 3]);
        assert_eq!([count(&["--quick"], "faults"), count(&["--quick"], "table")], [2; 2]);
        assert_eq!([count(&["--quick"], "memory"), count(&["--quick"], "docs")], [0; 2]);
    }
}
