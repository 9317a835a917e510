//! `cargo xtask test`: the whole suite, on every adapter of this machine. `cargo xtask mutate`: whether it would notice.

mod binaries;
mod mutants;
mod mutate;
#[path = "../../examples/common/output.rs"]
mod output;
mod test;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What the tests are built with; the same everywhere, so that they are built once.
const FEATURES: [&str; 2] = ["--features", "gristmill/cli"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((first, rest)) if first == "test" => test::test(rest),
        Some((first, rest)) if first == "mutate" => mutate::mutate(rest),
        _ => Err(format!("{}\n\n{}", test::USAGE, mutate::USAGE)),
    };
    output::exit(result)
}

/// cargo, in the tests' environment.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    prepare(&mut cargo);
    cargo
}

/// Gives a command an environment in which the Vulkan loader finds every driver.
fn prepare(command: &mut Command) {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // EGL asks for it, and writes nothing there.
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    }
    if let (None, Some(swiftshader)) = (std::env::var_os("VK_DRIVER_FILES"), swiftshader()) {
        // SwiftShader is no system driver. Naming it hides the others, so they are named too.
        let drivers = system_drivers().into_iter().chain([swiftshader]);
        if let Ok(files) = std::env::join_paths(drivers) {
            command.env("VK_DRIVER_FILES", files);
        }
    }
    // Where RUST_BACKTRACE is set, wgpu with debug assertions takes one at each lock, at some cost. A panic still has its own.
    command.env("RUST_LIB_BACKTRACE", "0");
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
