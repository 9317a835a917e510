//! No op leaks: memory is flat while the same case of a row runs repeatedly. This file has one test, so that nothing
//! else runs in the process.
//!
//! Kernels in which uniforms decide a branch used to be recompiled by lavapipe at every dispatch, and never freed.

mod common;

use common::*;
use gristmill::proof::{self, Values};

/// Resident KiB of this process, if the system reports it.
fn resident() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split_whitespace().nth(1)?.parse::<f64>().ok()? * 4.0)
}

#[test]
fn no_case_of_the_table_grows_with_its_runs() {
    // Not guarded: a guarded device does not reuse buffers.
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
            // A recompiled kernel takes 100 KiB or more per run. One-time allocations by an allocator or driver do not
            // repeat: a leak grows in each of three phases.
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
