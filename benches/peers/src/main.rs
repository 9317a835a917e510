//! The same cases on gristmill and its peers, interleaved in one run. See README.md.

mod burn_engine;
mod candle_engine;
mod cases;
mod engine;
mod gristmill_engine;
mod measure;
mod options;
mod python;
mod random;
mod reference;
mod table;

use std::thread::available_parallelism;

use cases::{CASES, Case};
use engine::{Engine, Result};

type Open = fn() -> Result<Box<dyn Engine>>;

/// All engines, by the name that `--engine` takes. Engines whose name begins with `gristmill` get a column of ratios.
const ENGINES: &[(&str, Open)] = &[
    ("gristmill-gpu", gristmill_engine::gpu),
    ("gristmill-cpu", gristmill_engine::cpu),
    ("burn-wgpu", burn_engine::wgpu),
    ("burn-flex", burn_engine::flex),
    ("burn-ndarray", burn_engine::ndarray),
    ("candle", candle_engine::cpu),
    ("torch", python::torch),
    ("jax", python::jax),
];

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let Some(options) = options::parse()? else { return Ok(()) };
    println!("CPU: {}, {} threads; {} rounds\n", cpu_model(), available_parallelism()?, options.rounds);
    let mut engines = Vec::new();
    for &(name, open) in ENGINES.iter().filter(|(name, _)| options.wants_engine(name)) {
        match open() {
            Ok(engine) => {
                println!("- {name}: {}", engine.about());
                engines.push((name, engine));
            }
            Err(error) => println!("- {name}: left out: {error}"),
        }
    }
    let ours: Vec<&str> =
        engines.iter().map(|(name, _)| *name).filter(|name| name.starts_with("gristmill")).collect();
    table::print_head(&ours);
    for &(name, fill) in CASES.iter().filter(|(name, _)| options.wants_case(name)) {
        let (op, inputs) = fill();
        let case = Case { name, op, inputs };
        let entries = measure::measure(&case, &mut engines, &options);
        table::print_rows(&case, &ours, entries);
    }
    Ok(())
}

fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or("unknown", |(_, name)| name).to_string()
}

/// The version of a crate in Cargo.lock.
fn version(name: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let package = lock.split("[[package]]").find(|package| package.contains(&format!("name = \"{name}\"\n")));
    let version = package.and_then(|package| package.split("version = \"").nth(1)?.split('"').next());
    version.unwrap_or("unknown")
}
