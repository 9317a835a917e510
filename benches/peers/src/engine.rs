//! What an engine must bring.

use std::time::Duration;

use crate::cases::Case;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub trait Engine {
    /// Version, threads or adapter: a line of the header.
    fn about(&self) -> String;

    /// Moves the inputs of a case to the engine and makes ready. Compiling may wait for the first run.
    fn start(&mut self, case: &Case) -> Result<Box<dyn Job>>;
}

/// A case that an engine has taken on.
pub trait Job {
    /// Does the work once and waits for its end. The result is kept until the next run, for a lazy engine
    /// skips what nobody holds. Returns the time of the work alone.
    fn run(&mut self) -> Result<Duration>;

    /// Brings the last results to the host; for a training step, the losses of the first steps.
    fn output(&mut self) -> Result<Vec<Vec<f32>>>;
}
