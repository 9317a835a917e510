//! The command `gristmill`: what adapters there are, and whether gristmill computes right on them.

mod doctor;
mod probes;
mod report;

use clap::{Parser, Subcommand};
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
    /// Lists the GPU adapters of this machine, by the ids that GRISTMILL_DEVICE and --device take.
    Adapters {
        /// Only the ids, one a line.
        #[arg(long)]
        ids: bool,
    },
    /// Runs the table of cases on every adapter and the CPU twins, and prints a report to paste into an issue.
    ///
    /// Each op is run on random inputs, forward and backward, and held to a reference in f64 within a bound that
    /// follows from its formula. Ends with 1 if a result is wrong.
    Doctor(doctor::Options),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Adapters { ids } => {
            adapters(ids);
            ExitCode::SUCCESS
        }
        Command::Doctor(options) => match doctor::run(&options) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(message) => {
                eprintln!("{message}");
                ExitCode::FAILURE
            }
        },
    }
}

fn adapters(ids: bool) {
    let adapters = gristmill::gpu::adapters();
    if ids {
        return adapters.iter().for_each(|adapter| println!("{}", adapter.id));
    }
    println!("cpu: the CPU twins");
    adapters.iter().for_each(|adapter| println!("{}", report::adapter(adapter)));
}
