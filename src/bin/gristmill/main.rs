//! The command `gristmill`: lists adapters, checks gristmill's results on them, and shows kernels.

mod doctor;
mod kernel;
#[path = "../../../examples/common/output.rs"]
mod output;
mod probes;
mod report;

use clap::{Parser, Subcommand};
use output::say;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    version,
    about = "Hand-written WGSL kernels: which adapters there are, and whether they compute right"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the GPU adapters of this machine, with their ids for GRISTMILL_DEVICE and --device.
    Adapters {
        /// Only the ids, one per line.
        #[arg(long)]
        ids: bool,
    },
    /// Runs the table of cases on every adapter and the CPU twins, and prints a report for pasting into an issue.
    ///
    /// Each op runs forward and backward on random inputs, and is compared with an f64 reference within an error bound
    /// that follows from its formula. The exit status is 1 if a result is wrong.
    Doctor(doctor::Options),
    /// Prints a kernel as it is assembled for the driver: its constants, and each part with the file that it comes from.
    ///
    /// `--as spirv|msl|hlsl|glsl` gives what naga makes of it; `--list` all kernels with the functions that use them.
    Kernel(kernel::Options),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Adapters { ids } => {
            adapters(ids);
            output::exit(Ok::<(), String>(()))
        }
        Command::Doctor(options) => output::exit(doctor::run(&options)),
        Command::Kernel(options) => output::exit(kernel::run(&options).map(say)),
    }
}

fn adapters(ids: bool) {
    let adapters = gristmill::gpu::adapters();
    if ids {
        return adapters.iter().for_each(|adapter| say(&adapter.id));
    }
    say("cpu: the CPU twins");
    adapters.iter().for_each(|adapter| say(report::adapter(adapter)));
}
