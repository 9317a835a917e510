//! `cargo xtask test`: the whole suite, on every adapter of this machine. `cargo xtask mutate`: whether it would notice.

mod mutate;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: cargo xtask test [--no-install] [--adapters ID,ID,...] [-- ARGUMENTS]

Runs the whole suite once for each adapter of this machine and once for the CPU twins, and prints a table at the end.

  --no-install       where no adapter is found, do not install a software one
  --adapters IDS     only these, such as vulkan:llvmpipe,gl:llvmpipe,cpu; one that is missing is a failure
  -- ARGUMENTS       passed on to `cargo test`";

struct Options {
    install: bool,
    adapters: Option<Vec<String>>,
    arguments: Vec<String>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match (arguments.split_first(), parse(&arguments)) {
        (Some((first, rest)), _) if first == "mutate" => mutate::mutate(rest),
        (_, Some(options)) => test(&options),
        _ => Err(format!("{USAGE}\n\n{}", mutate::USAGE)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Option<Options> {
    let (first, mut rest) = arguments.split_first()?;
    let mut options = Options { install: true, adapters: None, arguments: Vec::new() };
    if first != "test" {
        return None;
    }
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

fn test(options: &Options) -> Result<(), String> {
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
    let results: Vec<(String, bool, Duration)> = ids
        .into_iter()
        .map(|id| {
            println!("\n==== {id} ====");
            let began = Instant::now();
            let passed = suite(&id, &options.arguments);
            (id, passed, began.elapsed())
        })
        .collect();
    println!("\n{:<28} {:<7} seconds", "adapter", "suite");
    for (id, passed, took) in &results {
        println!("{id:<28} {:<7} {:.0}", if *passed { "passed" } else { "FAILED" }, took.as_secs_f64());
    }
    if results.iter().all(|(_, passed, _)| *passed) { Ok(()) } else { Err("the suite failed".to_string()) }
}

/// Runs all tests on one device. The suites that ask for no device run with the first.
fn suite(id: &str, arguments: &[String]) -> bool {
    let mut cargo = cargo();
    cargo.args(["test", "--workspace"]).args(arguments).env("GRISTMILL_DEVICE", id);
    if std::env::var_os("PROPTEST_CASES").is_none() {
        // The default of tests/common, but for the adapters on which a case takes long.
        if id.contains("swiftshader") {
            cargo.env("PROPTEST_CASES", "4");
        } else if id.starts_with("gl:") {
            cargo.env("PROPTEST_CASES", "16");
        }
    }
    cargo.status().is_ok_and(|status| status.success())
}

/// The ids of this machine's adapters.
fn adapters() -> Result<Vec<String>, String> {
    let output = cargo()
        .args(["run", "--quiet", "--example", "adapters", "--", "--ids"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|e| format!("cargo: {e}"))?;
    if !output.status.success() {
        return Err("the list of adapters could not be made".to_string());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_string).collect())
}

/// cargo, in an environment in which the Vulkan loader finds every driver.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // EGL asks for it, and writes nothing there.
        cargo.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    }
    if let (None, Some(swiftshader)) = (std::env::var_os("VK_DRIVER_FILES"), swiftshader()) {
        // SwiftShader is no system driver. Naming it hides the others, so they are named too.
        let drivers = system_drivers().into_iter().chain([swiftshader]);
        if let Ok(files) = std::env::join_paths(drivers) {
            cargo.env("VK_DRIVER_FILES", files);
        }
    }
    cargo
}

/// The SwiftShader that comes with Chromium.
fn swiftshader() -> Option<PathBuf> {
    let places = ["/usr/lib/chromium", "/usr/lib64/chromium-browser", "/opt/google/chrome"];
    let named = std::env::var_os("GRISTMILL_SWIFTSHADER_ICD").map(PathBuf::from);
    named
        .into_iter()
        .chain(places.map(|dir| Path::new(dir).join("vk_swiftshader_icd.json")))
        .find(|p| p.exists())
}

fn system_drivers() -> Vec<PathBuf> {
    let dirs = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    let files = dirs
        .iter()
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    files
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
    println!("no GPU adapter was found; installing Mesa's software Vulkan: {command}");
    let done = shell.args(["-c", command]).env("DEBIAN_FRONTEND", "noninteractive").status();
    match done {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!("that failed; run it by hand as root: {command}")),
    }
}
