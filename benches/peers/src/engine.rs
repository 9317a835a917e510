//! The interface of an engine.

use std::time::Duration;

use crate::cases::Case;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub trait Engine {
    /// Version and threads or adapter: a line of the header.
    fn about(&self) -> String;

    /// Moves the inputs of a case to the engine and prepares the job. Compilation may be delayed until the first run.
    fn start(&mut self, case: &Case) -> Result<Box<dyn Job>>;
}

/// A case that an engine has prepared.
pub trait Job {
    /// Runs the work once and waits for its end. The result is kept until the next run, because a lazy engine skips
    /// unused results. Returns the time of the work alone.
    fn run(&mut self) -> Result<Duration>;

    /// Copies the last results to the host; for a training step, the losses of the first steps.
    fn output(&mut self) -> Result<Vec<Vec<f32>>>;
}
