//! The report, as text and as JSON.

use crate::probes;
use gristmill::gpu::{AdapterKind, AdapterReport, Answer, Limits, Quirk};
use gristmill::proof::Outcome;
use serde_json::{Value, json};
use std::fmt::Write;

/// The report on all devices.
pub struct Report {
    pub seed: u64,
    pub devices: Vec<Examined>,
}

/// The findings on one device.
pub struct Examined {
    pub id: String,
    /// `None` for the CPU twins.
    pub adapter: Option<AdapterReport>,
    pub quirks: Vec<&'static Quirk>,
    pub answers: Vec<probes::Answer>,
    pub rows: Vec<RowReport>,
    pub seconds: f64,
    /// Why the device could not be examined.
    pub error: Option<String>,
}

/// The results of a row's cases on a device.
pub struct RowReport {
    pub name: &'static str,
    pub cases: u64,
    pub outcome: Outcome,
    /// The first failed case; no more cases of the row were run after it.
    pub failure: Option<Failure>,
}

/// A failed case.
pub struct Failure {
    pub seed: u64,
    pub label: String,
    pub message: String,
}

impl Examined {
    /// Whether nothing failed. Rows not run for lack of time do not count as failures.
    pub fn is_well(&self) -> bool {
        self.error.is_none() && self.rows.iter().all(|row| row.failure.is_none())
    }
}

/// wgpu's version in Cargo.lock.
fn wgpu_version() -> &'static str {
    let lock = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock"));
    let after = lock.split("name = \"wgpu\"\nversion = \"").nth(1);
    after.and_then(|rest| rest.split('"').next()).unwrap_or("of unknown version")
}

/// An adapter on one line.
pub fn adapter(adapter: &AdapterReport) -> String {
    let kind = match adapter.kind {
        AdapterKind::Hardware => "hardware",
        AdapterKind::Software => "software",
    };
    format!(
        "{}: {kind}, {}; driver {}; {}",
        adapter.id,
        adapter.name,
        adapter.driver,
        features(adapter).join(", ")
    )
}

fn features(adapter: &AdapterReport) -> Vec<String> {
    let subgroups = match adapter.subgroup_size {
        (0, _) => "no subgroups".to_string(),
        (least, most) if least == most => format!("subgroups of {least}"),
        (least, most) => format!("subgroups of {least} to {most}"),
    };
    vec![subgroups, if adapter.timestamps { "timestamps" } else { "no timestamps" }.to_string()]
}

fn limits(limits: &Limits) -> String {
    format!(
        "{} invocations and {} KiB a workgroup, {} storage buffers, {} workgroups an axis, {} MiB a binding",
        limits.invocations,
        limits.workgroup_bytes >> 10,
        limits.storage_buffers,
        limits.workgroups,
        limits.binding_bytes >> 20
    )
}

/// The first line of the report.
pub fn head(report: &Report) -> String {
    format!(
        "gristmill {}, wgpu {}, {} {}; seed {}",
        env!("CARGO_PKG_VERSION"),
        wgpu_version(),
        std::env::consts::OS,
        std::env::consts::ARCH,
        report.seed
    )
}

/// The findings on one device.
pub fn device(examined: &Examined) -> String {
    // Writing to a string does not fail.
    let mut text = String::new();
    let _ = describe(examined, &mut text);
    text.trim_end().to_string()
}

fn describe(examined: &Examined, text: &mut String) -> std::fmt::Result {
    match &examined.adapter {
        None => writeln!(text, "{}: the CPU twins", examined.id)?,
        Some(found) => {
            writeln!(text, "{}", adapter(found))?;
            writeln!(text, "  limits: {}", limits(&found.limits))?;
        }
    }
    if !examined.answers.is_empty() {
        writeln!(text, "  its own arithmetic, on which no kernel relies:")?;
        for answer in &examined.answers {
            let verdict = answer
                .wanted
                .as_ref()
                .map_or(String::new(), |wanted| format!("not {wanted}: worked around by gristmill"));
            writeln!(text, "    {:<30} {:<14} {verdict}", answer.question, answer.found)?;
        }
    }
    if !examined.quirks.is_empty() {
        writeln!(text, "  known faults:")?;
        for quirk in &examined.quirks {
            let answer = match quirk.answer {
                Answer::Always(how) => how.to_string(),
                Answer::Without(variant) => format!("{variant:?} turned off"),
            };
            writeln!(text, "    {} ({}): {answer}", quirk.fault, quirk.seen)?;
        }
    }
    if examined.rows.iter().any(|row| row.cases > 0) {
        writeln!(
            text,
            "  {:<30} {:>6} {:>10} {:>9} {:>9}",
            "row", "cases", "elements", "forward", "backward"
        )?;
        for row in examined.rows.iter().filter(|row| row.cases > 0) {
            let (name, cases, outcome) = (row.name, row.cases, row.outcome);
            let (elements, forward, backward) = (outcome.elements, outcome.forward, outcome.backward);
            let failed = if row.failure.is_some() { "  FAILED" } else { "" };
            writeln!(text, "  {name:<30} {cases:>6} {elements:>10} {forward:>9.3} {backward:>9.3}{failed}")?;
        }
        writeln!(text, "  (forward, backward: the largest fraction of its bound that an element used)")?;
    }
    for (row, failure) in examined.rows.iter().filter_map(|row| Some((row, row.failure.as_ref()?))) {
        writeln!(
            text,
            "  FAILED {} (seed {}; {}): {}",
            row.name, failure.seed, failure.label, failure.message
        )?;
        writeln!(
            text,
            "    again: gristmill doctor --device {} --row {:?} --seed {}",
            examined.id, row.name, failure.seed
        )?;
    }
    let missed: Vec<&str> = examined.rows.iter().filter(|row| row.cases == 0).map(|row| row.name).collect();
    if !missed.is_empty() {
        writeln!(text, "  not run, for want of time or of the device (--seconds): {}", missed.join(", "))?;
    }
    if let Some(error) = &examined.error {
        writeln!(text, "  FAILED: {error}")?;
    }
    let cases: u64 = examined.rows.iter().map(|row| row.cases).sum();
    let verdict = if examined.is_well() { "well" } else { "NOT WELL" };
    writeln!(
        text,
        "  {} rows, {cases} cases, {:.1} s: {} is {verdict}",
        examined.rows.len() - missed.len(),
        examined.seconds,
        examined.id
    )
}

/// The whole report.
pub fn json(report: &Report) -> Value {
    json!({
        "gristmill": env!("CARGO_PKG_VERSION"),
        "wgpu": wgpu_version(),
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "seed": report.seed,
        "well": report.devices.iter().all(Examined::is_well),
        "devices": report.devices.iter().map(json_device).collect::<Vec<_>>(),
    })
}

fn json_device(examined: &Examined) -> Value {
    json!({
        "id": examined.id,
        "adapter": examined.adapter.as_ref().map(|adapter| json!({
            "name": adapter.name,
            "driver": adapter.driver,
            "software": adapter.kind == AdapterKind::Software,
            "subgroup_size": adapter.subgroup_size,
            "timestamps": adapter.timestamps,
            "limits": {
                "invocations": adapter.limits.invocations,
                "workgroup_bytes": adapter.limits.workgroup_bytes,
                "storage_buffers": adapter.limits.storage_buffers,
                "workgroups": adapter.limits.workgroups,
                "binding_bytes": adapter.limits.binding_bytes,
            },
        })),
        "arithmetic": examined.answers.iter().map(|answer| json!({
            "question": answer.question,
            "found": answer.found,
            "wanted": answer.wanted,
        })).collect::<Vec<_>>(),
        "known_faults": examined.quirks.iter().map(|quirk| json!({
            "fault": quirk.fault,
            "seen": quirk.seen,
            "answer": format!("{:?}", quirk.answer),
        })).collect::<Vec<_>>(),
        "rows": examined.rows.iter().map(json_row).collect::<Vec<_>>(),
        "seconds": examined.seconds,
        "error": examined.error,
        "well": examined.is_well(),
    })
}

fn json_row(row: &RowReport) -> Value {
    json!({
        "name": row.name,
        "cases": row.cases,
        "elements": row.outcome.elements,
        "forward": row.outcome.forward,
        "backward": row.outcome.backward,
        "failure": row.failure.as_ref().map(|failure| json!({
            "seed": failure.seed,
            "label": failure.label,
            "message": failure.message,
        })),
    })
}
