//! `cargo xtask test`: the whole suite on every adapter, and the matrix of what passed where.

use crate::output::say;
use crate::{FEATURES, cargo};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub const USAGE: &str = "\
usage: cargo xtask test [--no-install] [--adapters ID,ID,...] [-- ARGUMENTS]

Runs the whole suite once for each adapter of this machine and once for the CPU twins, and prints a table at the end.
SwiftShader is found where Debian's chromium has it, or where GRISTMILL_SWIFTSHADER_ICD says. A row of the table gets 256 cases, on
SwiftShader and GL 32; PROPTEST_CASES or GRISTMILL_TABLE_CASES, where set, decide instead.

  --no-install       where no adapter is found, do not install a software one
  --adapters IDS     only these, such as vulkan:llvmpipe,gl:llvmpipe,cpu; one that is missing is a failure
  -- ARGUMENTS       passed on to `cargo test`";

struct Options {
    install: bool,
    adapters: Option<Vec<String>>,
    arguments: Vec<String>,
}

fn parse(mut rest: &[String]) -> Option<Options> {
    let mut options = Options { install: true, adapters: None, arguments: Vec::new() };
    while let Some((argument, after)) = rest.split_first() {
        rest = after;
        match argument.as_str() {
            "--no-install" => options.install = false,
            "--adapters" => {
                let (ids, after) = rest.split_first()?;
                options.adapters = Some(ids.split(',').map(str::to_string).collect());
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

/// The suite on one device.
struct Run {
    id: String,
    /// By their names, in the order in which they ran.
    suites: Vec<(String, Outcome)>,
    /// What cargo ended with.
    passed: bool,
    took: Duration,
}

/// What a test binary, or the tests of the documentation, ended with.
#[derive(Default)]
struct Outcome {
    passed: usize,
    failed: Vec<String>,
    /// Whether it came to its end. A process that crashed did not.
    ended: bool,
}

impl Outcome {
    fn is_well(&self) -> bool {
        self.ended && self.failed.is_empty()
    }
}

pub fn test(arguments: &[String]) -> Result<(), String> {
    let options = parse(arguments).ok_or(USAGE)?;
    let mut found = adapters()?;
    let wants_gpu = options.adapters.as_ref().is_none_or(|ids| ids.iter().any(|id| id != "cpu"));
    if found.is_empty() && wants_gpu {
        install(options.install)?;
        found = adapters()?;
    }
    let ids = match &options.adapters {
        None => [found, vec!["cpu".to_string()]].concat(),
        Some(ids) => match ids.iter().find(|id| *id != "cpu" && !found.contains(id)) {
            None => ids.clone(),
            Some(id) => return Err(format!("no adapter {id}; there are: {}", found.join(", "))),
        },
    };
    let runs = ids.into_iter().map(|id| suite(id, &options.arguments)).collect::<Result<Vec<_>, _>>()?;
    say(format!("\n{}", matrix(&runs)));
    if runs.iter().all(|run| run.passed) { Ok(()) } else { Err("the suite failed".to_string()) }
}

/// Runs all tests on one device. The suites that ask for no device run with each.
fn suite(id: String, arguments: &[String]) -> Result<Run, String> {
    say(format!("\n==== {id} ===="));
    let began = Instant::now();
    let mut cargo = cargo();
    // To the end, so that the table is whole.
    cargo.args(["test", "--workspace", "--no-fail-fast"]).args(FEATURES).args(arguments);
    cargo.env("GRISTMILL_DEVICE", &id);
    if std::env::var_os("PROPTEST_CASES").is_none() {
        // The table of cases gets the most; the older suites draw larger cases.
        let slow = id.contains("swiftshader") || id.starts_with("gl:");
        if std::env::var_os("GRISTMILL_TABLE_CASES").is_none() {
            cargo.env("GRISTMILL_TABLE_CASES", if slow { "32" } else { "256" });
        }
        if id.contains("swiftshader") {
            cargo.env("PROPTEST_CASES", "4");
        } else if id.starts_with("gl:") {
            cargo.env("PROPTEST_CASES", "16");
        }
    }
    let fail = |error: std::io::Error| format!("cargo: {error}");
    // Cargo names a suite on one stream, and its tests report on the other: both into one pipe, so that they keep their order.
    let (reader, writer) = std::io::pipe().map_err(fail)?;
    cargo.stdout(writer.try_clone().map_err(fail)?).stderr(writer).stdin(Stdio::null());
    let mut child = cargo.spawn().map_err(fail)?;
    drop(cargo); // and with it this process's ends of the pipe
    let lines = BufReader::new(reader).split(b'\n').map_while(Result::ok);
    let suites =
        outcomes(lines.map(|line| String::from_utf8_lossy(&line).into_owned()).inspect(|line| say(line)));
    let passed = child.wait().map_err(fail)?.success();
    Ok(Run { id, suites, passed, took: began.elapsed() })
}

/// What `cargo test` printed, suite by suite.
fn outcomes(lines: impl Iterator<Item = String>) -> Vec<(String, Outcome)> {
    let mut suites: Vec<(String, Outcome)> = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            // `Running unittests src/lib.rs (target/…)`, `Running tests/faults.rs (target/…)`
            ["Running", .., file, binary] if binary.starts_with('(') => {
                let path = Path::new(file);
                let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                // The crates' own tests by their paths, since both have a main.rs.
                let name =
                    if file.starts_with("tests/") { stem } else { format!("{} {file}", package(binary)) };
                suites.push((name, Outcome::default()));
            }
            ["Doc-tests", package] => suites.push((format!("{package} docs"), Outcome::default())),
            ["test", "result:", _, passed, "passed;", ..] => {
                if let Some((_, outcome)) = suites.last_mut() {
                    outcome.passed = passed.parse().unwrap_or(0);
                    outcome.ended = true;
                }
            }
            ["test", .., "...", "FAILED"] => {
                if let Some((_, outcome)) = suites.last_mut() {
                    outcome.failed.push(words[1..words.len() - 2].join(" "));
                }
            }
            _ => {}
        }
    }
    suites
}

/// `(target/debug/deps/gristmill-2e3a…)` -> `gristmill`.
fn package(binary: &str) -> &str {
    let file = binary.rsplit(['/', '\\']).next().unwrap_or(binary);
    file.rsplit_once('-').map_or(file, |(name, _)| name)
}

/// The table of suites and adapters, and what failed.
fn matrix(runs: &[Run]) -> String {
    let mut rows: Vec<&str> = Vec::new();
    for (name, _) in runs.iter().flat_map(|run| &run.suites) {
        if !rows.contains(&name.as_str()) {
            rows.push(name);
        }
    }
    let by_name: Vec<BTreeMap<&str, &Outcome>> = runs
        .iter()
        .map(|run| run.suites.iter().map(|(name, outcome)| (name.as_str(), outcome)).collect())
        .collect();
    let line = |name: &str, cells: Vec<String>| {
        let cells = cells.iter().zip(runs).map(|(cell, run)| format!("  {cell:>0$}", run.id.len().max(10)));
        format!("{name:<28}{}\n", cells.collect::<String>())
    };
    let mut text = line("suite", runs.iter().map(|run| run.id.clone()).collect());
    let mut failures = String::new();
    for row in rows {
        let cell = |outcome: Option<&&Outcome>| match outcome {
            None => "-".to_string(),
            Some(outcome) if outcome.is_well() => format!("{} ok", outcome.passed),
            Some(outcome) if outcome.ended => format!("{} FAILED", outcome.failed.len()),
            Some(_) => "CRASHED".to_string(),
        };
        text += &line(row, by_name.iter().map(|outcomes| cell(outcomes.get(row))).collect());
        for (run, outcomes) in runs.iter().zip(&by_name) {
            let Some(outcome) = outcomes.get(row).filter(|outcome| !outcome.is_well()) else { continue };
            let early = (!outcome.ended).then(|| "it ended early".to_string());
            let failed: Vec<String> = outcome.failed.iter().cloned().chain(early).collect();
            failures += &format!("{row} on {}: {}\n", run.id, failed.join(", "));
        }
    }
    let verdict = |run: &Run| if run.passed { "passed" } else { "FAILED" }.to_string();
    text += &line("seconds", runs.iter().map(|run| format!("{:.0}", run.took.as_secs_f64())).collect());
    text += &line("all", runs.iter().map(verdict).collect());
    format!("{text}{failures}").trim_end().to_string()
}

/// The ids of this machine's adapters.
fn adapters() -> Result<Vec<String>, String> {
    let output = cargo()
        .args(["run", "--quiet", "--package", "gristmill", "--bin", "gristmill"])
        .args(FEATURES)
        .args(["--", "adapters", "--ids"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("cargo: {e}"))?;
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
   Compiling gristmill v0.1.0
     Running unittests src/lib.rs (target/debug/deps/gristmill-0bf5)
running 2 tests
test a ... ok
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
     Running tests/faults.rs (target/debug/deps/faults-c197)
test one ... FAILED
test two - should panic ... FAILED
test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
     Running tests/table.rs (target/debug/deps/table-77)
test row::property ... ok
   Doc-tests gristmill
test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    fn run(id: &str, printed: &str) -> Run {
        let suites = outcomes(printed.lines().map(str::to_string));
        let passed = suites.iter().all(|(_, outcome)| outcome.is_well());
        Run { id: id.to_string(), suites, passed, took: Duration::from_secs(7) }
    }

    #[test]
    fn what_cargo_prints_is_told_suite_by_suite() {
        let run = run("cpu", PRINTED);
        let names: Vec<&str> = run.suites.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["gristmill src/lib.rs", "faults", "table", "gristmill docs"]);
        let [(_, lib), (_, faults), (_, table), (_, docs)] = &run.suites[..] else { unreachable!() };
        assert!(lib.is_well() && docs.is_well() && (lib.passed, docs.passed) == (2, 5));
        assert_eq!(
            (faults.passed, &faults.failed[..]),
            (3, &["one".to_string(), "two - should panic".to_string()][..])
        );
        assert!(!table.ended && !table.is_well(), "it crashed");
    }

    #[test]
    fn the_matrix_names_what_failed_and_where() {
        let well = "     Running tests/faults.rs (f-1)\ntest result: ok. 5 passed; 0 failed; 0 ignored\n";
        let text = matrix(&[run("vulkan:llvmpipe", PRINTED), run("cpu", well)]);
        let cells = |row: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.starts_with(row)).unwrap_or_default();
            line[28..]
                .split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .map(str::to_string)
                .collect()
        };
        assert_eq!(cells("suite"), ["vulkan:llvmpipe", "cpu"]);
        assert_eq!(cells("gristmill src/lib.rs"), ["2 ok", "-"]);
        assert_eq!(cells("faults  "), ["2 FAILED", "5 ok"]);
        assert_eq!(cells("table  "), ["CRASHED", "-"]);
        assert_eq!(cells("all"), ["FAILED", "passed"]);
        assert!(text.contains("faults on vulkan:llvmpipe: one, two - should panic"), "{text}");
        assert!(text.ends_with("table on vulkan:llvmpipe: it ended early"), "{text}");
    }
}
