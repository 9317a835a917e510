//! The Markdown table.

use std::time::Duration;

use crate::cases::Case;
use crate::measure::{Entry, Figures};
use crate::reference::tolerance;

/// `ours` are the gristmill engines in this run.
pub fn print_head(ours: &[&str]) {
    let ratios: String = ours.iter().map(|name| format!(" ÷ {name} |")).collect();
    println!("\n| case | engine | median ms | quartiles |{ratios} first call ms | check |");
    println!("|---|---|--:|--:|{}--:|---|", "--:|".repeat(ours.len()));
}

/// Prints a ratio only if both results are right.
pub fn print_rows(case: &Case, ours: &[&str], entries: Vec<Entry>) {
    let ours: Vec<Option<f64>> = ours.iter().map(|name| right_median(case, &entries, name)).collect();
    for entry in &entries {
        let theirs = right_median(case, &entries, entry.engine);
        let ratio = |ours: &Option<f64>| match (theirs, ours) {
            (Some(theirs), Some(ours)) => format!(" {:.2} |", theirs / ours),
            _ => " - |".to_string(),
        };
        let ratios: String = ours.iter().map(ratio).collect();
        let (median, quartiles, first, check) = match &entry.figures {
            Ok(figures) => (
                three_digits(figures.quantile(0.5)),
                format!(
                    "{} to {}",
                    three_digits(figures.quantile(0.25)),
                    three_digits(figures.quantile(0.75))
                ),
                three_digits(milliseconds(figures.first)),
                verdict(case, figures),
            ),
            Err(error) => ("-".into(), "-".into(), "-".into(), format!("failed: {error}")),
        };
        println!("| {} | {} | {median} | {quartiles} |{ratios} {first} | {check} |", case.name, entry.engine);
    }
}

fn right_median(case: &Case, entries: &[Entry], engine: &str) -> Option<f64> {
    let entry = entries.iter().find(|entry| entry.engine == engine)?;
    let figures = entry.figures.as_ref().ok()?;
    is_right(case, figures).then(|| figures.quantile(0.5))
}

fn is_right(case: &Case, figures: &Figures) -> bool {
    figures.error.as_ref().is_ok_and(|error| *error <= tolerance(case.op))
}

fn verdict(case: &Case, figures: &Figures) -> String {
    match &figures.error {
        Ok(error) if is_right(case, figures) => format!("ok ({error:.0e})"),
        Ok(error) => format!("WRONG: error {error:.0e}, allowed {:.0e}", tolerance(case.op)),
        Err(what) => format!("WRONG: {what}"),
    }
}

impl Figures {
    /// A quantile in ms; 0.5 is the median.
    fn quantile(&self, share: f64) -> f64 {
        milliseconds(self.times[((self.times.len() - 1) as f64 * share).round() as usize])
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn three_digits(x: f64) -> String {
    let places = (2 - x.log10().floor() as i32).clamp(0, 3) as usize;
    format!("{x:.places$}")
}
