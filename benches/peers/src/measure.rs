//! The rounds: every engine runs in each round, so that drift of the machine affects all of them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::cases::Case;
use crate::engine::{Engine, Job, Result};
use crate::options::Options;
use crate::reference;

/// The thread pools of OpenBLAS and others spin for a while after their work. This lets them go to sleep before the
/// next engine runs.
const PAUSE: Duration = Duration::from_millis(50);

/// The results of an engine for a case.
pub struct Entry {
    pub engine: &'static str,
    pub figures: Result<Figures>,
}

pub struct Figures {
    /// From the host's arrays to the first result: upload, compilation and autotune.
    pub first: Duration,
    /// Sorted.
    pub times: Vec<Duration>,
    /// The error relative to the reference, or a message if the run failed.
    pub error: std::result::Result<f64, String>,
}

struct Runner {
    engine: &'static str,
    job: Result<Box<dyn Job>>,
    first: Duration,
    times: Vec<Duration>,
}

pub fn measure(
    case: &Case,
    engines: &mut [(&'static str, Box<dyn Engine>)],
    options: &Options,
) -> Vec<Entry> {
    let mut runners = Vec::new();
    for (name, engine) in engines {
        eprintln!("{}: {name} starts", case.name);
        let begin = Instant::now();
        let job = engine.start(case).and_then(|mut job| job.run().map(|_| job));
        let mut runner = Runner { engine: name, job, first: begin.elapsed(), times: Vec::new() };
        // Fusion and autotune may compile again at the second call.
        runner.attempt(|job, _| job.run().and_then(|_| job.run()).map(drop));
        runners.push(runner);
    }
    for round in 1..=options.rounds {
        eprintln!("{}: round {round} of {}", case.name, options.rounds);
        for runner in &mut runners {
            sleep(PAUSE);
            runner.attempt(|job, times| turn(job, times, options.turn));
        }
    }
    runners.into_iter().map(|runner| runner.finish(case)).collect()
}

/// One call to warm the caches, then timed calls until `length` has passed, but at least one.
fn turn(job: &mut dyn Job, times: &mut Vec<Duration>, length: Duration) -> Result<()> {
    job.run()?;
    let begin = Instant::now();
    loop {
        times.push(job.run()?);
        if begin.elapsed() >= length {
            return Ok(());
        }
    }
}

impl Runner {
    /// Runs `work` on the job; an error replaces the job.
    fn attempt(&mut self, work: impl FnOnce(&mut dyn Job, &mut Vec<Duration>) -> Result<()>) {
        if let Ok(job) = &mut self.job
            && let Err(error) = work(job.as_mut(), &mut self.times)
        {
            self.job = Err(error);
        }
    }

    fn finish(mut self, case: &Case) -> Entry {
        self.times.sort();
        let figures = |mut job: Box<dyn Job>| {
            let error = reference::error(case, &job.output()?);
            Ok(Figures { first: self.first, times: self.times, error })
        };
        Entry { engine: self.engine, figures: self.job.and_then(figures) }
    }
}
