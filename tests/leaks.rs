//! No op leaks: memory is flat while the same case of a row runs again and again. One test, so that nothing else lives in
//! the process.
//!
//! On lavapipe kernels whose uniforms decided a branch were compiled anew at every dispatch, and never freed.

mod common;

use common::*;
use gristmill::proof::{self, Values};

/// Resident KiB of this process, where the system tells.
fn resident() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split_whitespace().nth(1)?.parse::<f64>().ok()? * 4.0)
}

#[test]
fn no_case_of_the_table_grows_with_its_runs() {
    // Not guarded: a guarded device reuses no buffer.
    let device = fresh(&device());
    let (size, warm, runs) = if device.id().contains("swiftshader") { (24, 10, 20) } else { (200, 30, 40) };
    for row in proof::rows() {
        for seed in [3, 4] {
            let case = row.case(seed, size, Values::Ordinary);
            let run = |times: usize| {
                (0..times).for_each(|_| {
                    proof::check(&case, &device, seed).unwrap_or_else(|e| panic!("{}: {e}", row.name));
                });
                resident()
            };
            // A kernel compiled again takes 100 KiB or more at each run. What an allocator or a driver's thread takes once
            // is not taken again: a leak is what grows in each of three stretches.
            let (row, label, id) = (row.name, &case.label, device.id());
            let Some(mut before) = run(warm) else { continue };
            let mut least = f64::INFINITY;
            for _ in 0..3 {
                let Some(after) = run(runs) else { break };
                least = least.min((after - before) / runs as f64);
                before = after;
                if least < 16.0 {
                    break;
                }
            }
            assert!(least < 16.0, "{row} ({label}) on {id}: {least:.1} KiB more each run");
        }
    }
}
