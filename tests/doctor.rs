//! The command `gristmill`: its output, and its exit code.

use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

fn gristmill(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gristmill")).args(arguments).output().unwrap()
}

/// The device under test.
fn tested() -> String {
    std::env::var("GRISTMILL_DEVICE").unwrap_or_else(|_| "gpu".to_string())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_doctor_passes_the_device_under_test() {
    let output = gristmill(&["doctor", "--device", &tested(), "--seconds", "5"]);
    let report = text(&output.stdout);
    assert!(output.status.success(), "{report}{}", text(&output.stderr));
    let first = report.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("gristmill ") && first.contains("wgpu ") && first.ends_with("seed 1"),
        "{first}"
    );
    assert!(report.trim_end().ends_with("is well"), "{report}");
    // Every row ran, and the report has the adapter's arithmetic and known faults.
    for row in gristmill::proof::rows() {
        // Names may contain spaces; the next column is at least two spaces apart.
        let is_its =
            |line: &&str| line.trim_start().strip_prefix(row.name).is_some_and(|rest| rest.starts_with("  "));
        let line = report.lines().find(is_its);
        assert!(line.is_some_and(|line| !line.contains("FAILED")), "{} in {report}", row.name);
    }
    if tested() != "cpu" {
        let parts = ["limits:", "max(NaN, 1)", "a loop of 70,000 iterations", "tanh(200)"];
        assert!(parts.iter().all(|part| report.contains(part)), "{report}");
    }
    let loops = "an invocation's loops end without a word after 65,535 iterations";
    assert_eq!(report.contains(loops), tested().contains("llvmpipe"), "{report}");
}

#[test]
fn a_row_with_a_seed_is_reproducible() {
    let outcome = || {
        let output = gristmill(&[
            "doctor",
            "--device",
            "cpu",
            "--row",
            "sum",
            "--seed",
            "77",
            "--seconds",
            "0",
            "--json",
        ]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&report["seed"], &report["well"]), (&Value::from(77), &Value::from(true)));
        report["devices"][0]["rows"].clone()
    };
    let first = outcome();
    let names: Vec<_> = first.as_array().unwrap().iter().map(|row| &row["name"]).collect();
    assert_eq!(names, ["sum"]);
    assert_eq!(outcome(), first);
}

#[test]
fn unknown_devices_and_rows_are_refused() {
    let output = gristmill(&["doctor", "--device", "no-such-card"]);
    assert!(!output.status.success() && text(&output.stderr).contains("no-such-card"));
    let output = gristmill(&["doctor", "--row", "no-such-row"]);
    assert!(!output.status.success() && text(&output.stderr).contains("softmax"), "the rows are listed");
}

#[test]
fn adapters_are_listed_by_their_ids() {
    let output = gristmill(&["adapters", "--ids"]);
    let ids: Vec<String> = gristmill::gpu::adapters().into_iter().map(|adapter| adapter.id).collect();
    assert_eq!(text(&output.stdout).lines().collect::<Vec<_>>(), ids);
    let all = text(&gristmill(&["adapters"]).stdout);
    assert!(all.contains("cpu: ") && ids.iter().all(|id| all.contains(id)), "{all}");
}

/// A short run on the CPU.
const SHORT: [&str; 7] = ["doctor", "--device", "cpu", "--row", "sum", "--seconds", "0"];

#[test]
fn a_closed_pipe_ends_the_printing_alone() {
    for arguments in [&SHORT[..], &["adapters"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gristmill"));
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // As `| head -1` does, and as a reader that reads nothing.
        let mut pipe = BufReader::new(child.stdout.take().unwrap());
        if arguments[0] == "doctor" {
            pipe.read_line(&mut String::new()).unwrap();
        }
        drop(pipe);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_standard_output_or_error_is_no_panic() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let gristmill = || Command::new(env!("CARGO_BIN_EXE_gristmill"));
    for arguments in [&SHORT[..], &["adapters"]] {
        let output = gristmill().args(arguments).stdout(full()).output().unwrap();
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("standard output can't be written"), "{errors}");
    }
    let status = gristmill().args(["doctor", "--row", "no-such-row"]).stderr(full()).status();
    assert_eq!(status.unwrap().code(), Some(1));
    // The line about a software rasterizer, if there is one.
    let status = gristmill().args(SHORT).stderr(full()).stdout(Stdio::null()).status();
    assert!(status.unwrap().success());
}

#[test]
fn a_memory_budget_has_units_on_every_device_and_nonsense_is_refused() {
    let run = |device: &str, budget: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gristmill"));
        command.args(["doctor", "--row", "sum", "--seconds", "0", "--device", device]);
        let output = command.env("GRISTMILL_MEMORY_BUDGET", budget).output().unwrap();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    };
    for device in ["cpu".to_string(), tested()] {
        for budget in ["1GB", " 1.5 gib "] {
            let (well, report) = run(&device, budget);
            assert!(well, "{device}, {budget}: {report}");
        }
        for budget in ["much", "-1", "0", "1GBB"] {
            let (well, report) = run(&device, budget);
            let refused = format!("GRISTMILL_MEMORY_BUDGET={budget} is not a size above 0");
            assert!(!well && report.contains(&refused), "{device}: {report}");
        }
        let (well, report) = run(&device, "1KB");
        assert!(!well && report.contains("budget 1000 bytes"), "{device}: {report}");
    }
}
