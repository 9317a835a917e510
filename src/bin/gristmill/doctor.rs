//! `gristmill doctor`: runs the table of cases on every device, for a bounded time.

use crate::output::say;
use crate::probes;
use crate::report::{self, Examined, Failure, Report, RowReport};
use clap::Args;
use gristmill::gpu::{self, GpuOptions};
use gristmill::proof::{self, Outcome, Row, Values};
use gristmill::{Device, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Options {
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
    /// Only this device: cpu, gpu, or an adapter's id. Default: all adapters and the CPU twins.
    #[arg(long, value_name = "ID")]
    pub device: Option<String>,
    /// Seconds per device. The first round over all ops may take four times as long, or 40 s if that is more.
    #[arg(long, default_value_t = 14, value_name = "N")]
    pub seconds: u64,
    /// The seed of the first case; the following cases count up.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Only this row of the table. With a failure's seed, the failed case comes first.
    #[arg(long, value_name = "NAME")]
    pub row: Option<String>,
}

/// Examines the devices and prints the report.
///
/// # Errors
/// No such device or row, or a device with a failure.
pub fn run(options: &Options) -> Result<(), String> {
    let rows = rows(options.row.as_deref())?;
    let ids = match &options.device {
        Some(id) => vec![Device::open(id).map_err(|error| error.to_string())?.id().to_string()],
        None => gpu::adapters().into_iter().map(|adapter| adapter.id).chain(["cpu".to_string()]).collect(),
    };
    let mut report = Report { seed: options.seed, devices: Vec::new() };
    if !options.json {
        say(report::head(&report));
    }
    for id in ids {
        let examined = examine(id, &rows, options);
        if !options.json {
            say(format!("\n{}", report::device(&examined)));
        }
        report.devices.push(examined);
    }
    if options.json {
        say(format!("{:#}", report::json(&report)));
    }
    let ill: Vec<&str> = report.devices.iter().filter(|d| !d.is_well()).map(|d| d.id.as_str()).collect();
    if ill.is_empty() { Ok(()) } else { Err(format!("not well: {}", ill.join(", "))) }
}

fn rows(name: Option<&str>) -> Result<Vec<Row>, String> {
    let all = proof::rows();
    let Some(name) = name else { return Ok(all) };
    let named: Vec<Row> = all.iter().copied().filter(|row| row.name == name).collect();
    if named.is_empty() {
        let names: Vec<&str> = all.iter().map(|row| row.name).collect();
        return Err(format!("no row {name}; there are {}", names.join(", ")));
    }
    Ok(named)
}

fn examine(id: String, rows: &[Row], options: &Options) -> Examined {
    let began = Instant::now();
    let adapter = gpu::adapters().into_iter().find(|adapter| adapter.id == id);
    let mut examined = Examined {
        id,
        adapter,
        quirks: Vec::new(),
        answers: Vec::new(),
        rows: Vec::new(),
        seconds: 0.0,
        error: None,
    };
    if let Err(error) = fill(&mut examined, rows, options, began) {
        examined.error = Some(error.to_string());
    }
    examined.seconds = began.elapsed().as_secs_f64();
    examined
}

fn fill(examined: &mut Examined, rows: &[Row], options: &Options, began: Instant) -> Result<()> {
    let device = match examined.adapter {
        None => Device::cpu(),
        // Guarded: elements that a kernel does not write are NaN, and writes past the end are detected.
        Some(_) => Device::open_with(&examined.id, &GpuOptions { guarded: true, ..GpuOptions::default() })?,
    };
    if let Device::Gpu(gpu) = &device {
        examined.quirks = gpu.quirks().to_vec();
        examined.answers = probes::ask(&device)?;
    }
    let report =
        |row: &Row| RowReport { name: row.name, cases: 0, outcome: Outcome::default(), failure: None };
    examined.rows = rows.iter().map(report).collect();
    // Capped at a year, so that `Instant` does not overflow.
    let time = Duration::from_secs(options.seconds.min(365 * 24 * 3600));
    for round in 0.. {
        // The first round compiles the kernels. It may take longer, so that each op runs at least once.
        let end = if round == 0 { began + 4 * time.max(Duration::from_secs(10)) } else { began + time };
        let mut ran = false;
        for (row, report) in rows.iter().zip(&mut examined.rows) {
            if report.failure.is_some() {
                continue;
            }
            if Instant::now() > end {
                return Ok(());
            }
            ran = true;
            try_case(row, options.seed.wrapping_add(round), &device, report);
            if let Device::Gpu(gpu) = &device
                && gpu.is_lost()
            {
                return Ok(()); // the failure says so
            }
        }
        if !ran {
            return Ok(());
        }
    }
    Ok(())
}

/// The sizes of cases, cycled by seed. Special values are chosen by the seed too, so that the seed alone reproduces a
/// case.
const SIZES: [usize; 6] = [24, 100, 300, 800, 1500, 3000];

fn try_case(row: &Row, seed: u64, device: &Device, report: &mut RowReport) {
    let size = SIZES[(seed % SIZES.len() as u64) as usize];
    let values = if seed % 4 == 3 { Values::Special } else { Values::Ordinary };
    let case = row.case(seed, size, values);
    // A driver fault may make wgpu panic; that is a failure too.
    let checked = catch_unwind(AssertUnwindSafe(|| proof::check(&case, device, seed)));
    let checked = checked.unwrap_or_else(|_| Err("it panicked, see above".to_string()));
    report.cases += 1;
    match checked {
        Ok(outcome) => report.outcome = report.outcome.and(outcome),
        Err(message) => report.failure = Some(Failure { seed, label: case.label, message }),
    }
}
