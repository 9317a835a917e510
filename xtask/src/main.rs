//! `cargo xtask test` runs the whole suite on every adapter. `cargo xtask mutate` is mutation testing of the kernels.

mod binaries;
mod mutants;
mod mutate;
#[path = "../../examples/common/output.rs"]
mod output;
mod test;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The features of all test builds; always the same, so that everything is built once.
const FEATURES: [&str; 2] = ["--features", "cli,images,progress,tensorboard"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((first, rest)) if first == "test" => test::test(rest),
        Some((first, rest)) if first == "mutate" => mutate::mutate(rest),
        _ => Err(format!("{}\n\n{}", test::USAGE, mutate::USAGE)),
    };
    output::exit(result)
}

/// cargo, in the environment of the tests.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    prepare(&mut cargo);
    cargo
}

/// Sets up an environment in which the Vulkan loader finds every driver.
fn prepare(command: &mut Command) {
    if let (None, Some(swiftshader)) = (std::env::var_os("VK_DRIVER_FILES"), swiftshader()) {
        // SwiftShader is not a system driver. Naming it hides the others, so these are named too.
        let drivers = system_drivers().into_iter().chain([swiftshader]);
        if let Ok(files) = std::env::join_paths(drivers) {
            command.env("VK_DRIVER_FILES", files);
        }
    }
    // With RUST_BACKTRACE set, wgpu with debug assertions takes a backtrace at each lock, which is slow. Panics still
    // get one.
    command.env("RUST_LIB_BACKTRACE", "0");
}

/// The SwiftShader installed with Chromium.
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
