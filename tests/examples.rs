//! The examples as programs: whatever happens to their output, their work is saved. This file is its own child process:
//! with `GRISTMILL_TEST_EXAMPLE` in its environment it runs the example of that name.
#![allow(clippy::unwrap_used)] // also in helpers, which clippy does not take for tests
#![allow(clippy::duplicate_mod)] // each example includes the modules that they share

#[path = "../examples/gpt/main.rs"]
mod gpt;
#[path = "../examples/mnist_cnn/main.rs"]
mod mnist_cnn;

use gristmill::Device;
use gristmill::io;
use libtest_mimic::{Arguments, Failed, Trial};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use tempfile::tempdir;

const EXAMPLE: &str = "GRISTMILL_TEST_EXAMPLE";

fn main() -> ExitCode {
    match std::env::var(EXAMPLE).as_deref() {
        Ok("gpt") => return gpt::main(),
        Ok("mnist_cnn") => return mnist_cnn::main(),
        _ => {}
    }
    let arguments = Arguments::from_args();
    let trials = [
        Trial::test("a_closed_pipe_ends_the_printing_alone", || each(closed_pipe)),
        Trial::test("a_full_standard_output_loses_no_model", || each(full_output)),
        Trial::test("a_path_that_can_not_be_written_is_refused_before_training", || each(refused_before)),
        Trial::test("gpt_resumes_with_the_same_heads_only", heads),
    ];
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// An example with options for a short run, and the files that it saves.
struct Example {
    name: &'static str,
    options: &'static [(&'static str, &'static str)],
    saves: &'static [&'static str],
}

const MNIST_CNN: Example = Example {
    name: "mnist_cnn",
    options: &[("epochs", "1"), ("images", "100"), ("save", "model"), ("chart", "chart")],
    saves: &["model", "chart"],
};

const GPT: Example = Example {
    name: "gpt",
    options: &[
        ("text", "text"),
        ("steps", "2"),
        ("batch-size", "2"),
        ("context", "8"),
        ("layers", "1"),
        ("width", "8"),
        ("heads", "2"),
        ("prompt", "a"),
        ("write", "5"),
        ("save", "model"),
    ],
    saves: &["model"],
};

impl Example {
    /// The command in a directory, with some options changed. It runs on the CPU, since the device does not matter.
    fn command(&self, directory: &Path, changes: &[(&str, &str)]) -> Command {
        fs::write(directory.join("text"), "a rose is a rose is a rose. ".repeat(20)).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(EXAMPLE, self.name).current_dir(directory).arg("--device=cpu");
        let kept = self.options.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
        command.args(kept.chain(changes).map(|(name, value)| format!("--{name}={value}")));
        command
    }

    fn assert_saved(&self, directory: &Path) {
        let (tensors, _) = io::load(directory.join("model"), &Device::cpu()).unwrap();
        assert!(!tensors.is_empty());
        let is_there = |file: &&str| fs::metadata(directory.join(file)).is_ok_and(|found| found.len() > 0);
        assert!(self.saves.iter().all(is_there));
    }
}

/// Runs a check of each example in its own directory.
fn each(check: fn(&Example, &Path)) -> Result<(), Failed> {
    for example in [MNIST_CNN, GPT] {
        check(&example, tempdir()?.path());
    }
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A reader that stops early, as `| head -1`.
fn closed_pipe(example: &Example, directory: &Path) {
    let mut child =
        example.command(directory, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("device: cpu"), "{line}");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}: {}", example.name, text(&output.stderr));
    example.assert_saved(directory);
}

fn full_output(example: &Example, directory: &Path) {
    let Ok(full) = File::options().write(true).open("/dev/full") else { return }; // only on Linux
    let output = example.command(directory, &[]).stdout(full).output().unwrap();
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}: {errors}", example.name);
    assert!(errors.contains("standard output can't be written"), "{errors}");
    example.assert_saved(directory);
}

fn refused_before(example: &Example, directory: &Path) {
    let mut command = example.command(directory, &[("save", "none/model")]);
    let output = command.output().unwrap();
    let (printed, errors) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), &*printed), (Some(1), ""), "{}: {errors}", example.name);
    assert!(errors.contains("none/model: can't be written: there is no directory none"), "{errors}");
    // An error does not panic if standard error is full too.
    if let Ok(full) = File::options().write(true).open("/dev/full") {
        assert_eq!(command.stderr(full).status().unwrap().code(), Some(1));
    }
}

fn heads() -> Result<(), Failed> {
    let directory = tempdir()?;
    assert!(GPT.command(directory.path(), &[]).output()?.status.success());
    let resume = |heads| {
        let changes = [("resume", "model"), ("save", "other"), ("steps", "3"), ("heads", heads)];
        GPT.command(directory.path(), &changes).output()
    };
    let (same, other) = (resume("2")?, resume("4")?);
    assert!(same.status.success(), "{}", text(&same.stderr));
    let errors = text(&other.stderr);
    assert!(!other.status.success() && errors.contains("was trained with --heads 2, not 4"), "{errors}");
    Ok(())
}
