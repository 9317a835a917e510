//! What is known of a buffer only after its commands have run: whether the ids that a kernel read were in range, and
//! whether wgpu accepted the commands at all. Every buffer lists the checks that its contents depend on: those of the op
//! that wrote it and those of that op's inputs. Reading a buffer whose checks failed is an error.

use crate::error::Line;
use crate::{Error, Result};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Words of the status buffer: at most this many checks between two submits. Word 0 is for kernels whose ids need no
/// check; nobody looks at it.
pub(super) const SLOTS: usize = 512;
/// A buffer that depends on more open checks than this makes the next op wait for the device, which closes them.
pub(super) const MOST_OPEN: usize = 64;

/// A question about work on the device, answered once.
#[derive(Debug)]
pub(super) struct Check {
    answer: OnceLock<Result<()>>,
}

impl Check {
    pub(super) fn open() -> Arc<Check> {
        Arc::new(Check { answer: OnceLock::new() })
    }

    pub(super) fn failed(error: Error) -> Arc<Check> {
        Arc::new(Check { answer: OnceLock::from(Err(error)) })
    }

    /// The first answer stays.
    pub(super) fn close(&self, answer: Result<()>) {
        let _ = self.answer.set(answer);
    }

    fn has_passed(&self) -> bool {
        matches!(self.answer.get(), Some(Ok(())))
    }

    fn error(&self) -> Option<&Error> {
        self.answer.get()?.as_ref().err()
    }
}

/// The checks that a buffer's contents depend on. Usually there are none.
#[derive(Debug, Default)]
pub(super) struct Checks(Mutex<Vec<Arc<Check>>>);

impl Checks {
    /// Those that have not passed. One that has failed stands for all.
    pub(super) fn pending(&self) -> Vec<Arc<Check>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|check| !check.has_passed());
        if let Some(failed) = all.iter().position(|check| check.error().is_some()) {
            all.swap(0, failed);
            all.truncate(1);
        }
        all.clone()
    }

    /// Adds checks, each once.
    pub(super) fn add(&self, more: &[Arc<Check>]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for check in more {
            if !all.iter().any(|known| Arc::ptr_eq(known, check)) {
                all.push(check.clone());
            }
        }
    }

    /// # Errors
    /// A check has failed.
    pub(super) fn result(&self) -> Result<()> {
        self.pending().first().and_then(|check| check.error().cloned()).map_or(Ok(()), Err)
    }
}

/// The checks whose answers are under way, and the words of the status buffer that no check uses.
#[derive(Debug)]
pub(super) struct Slots {
    free: Vec<u32>,
    /// Checks of finished ops, to be read with the next submit.
    pub(super) finished: Vec<IdCheck>,
}

/// A check of ids: a kernel stores a non-zero word in its slot of the status buffer if an id is out of range.
#[derive(Debug, Clone)]
pub(super) struct IdCheck {
    pub(super) slot: u32,
    pub(super) op: &'static str,
    /// The ids have to be below this.
    pub(super) below: usize,
    pub(super) check: Arc<Check>,
    /// The program's line that called the op.
    pub(super) line: Option<Line>,
}

impl Default for Slots {
    fn default() -> Slots {
        Slots { free: (1..SLOTS as u32).rev().collect(), finished: Vec::new() }
    }
}

impl Slots {
    pub(super) fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.is_empty()
    }

    /// Takes the words of these checks back. They have to be zero when they are handed out again.
    pub(super) fn give(&mut self, checks: &[IdCheck]) {
        self.free.extend(checks.iter().rev().map(|check| check.slot));
    }
}

impl IdCheck {
    /// Closes the check by its word.
    pub(super) fn answer(&self, word: u32) {
        let IdCheck { op, below, line, .. } = *self;
        self.check.close(if word == 0 {
            Ok(())
        } else {
            let message = format!(
                "a class id or index computed on the device is out of range, not below {below}; this tensor, or one that \
                 it was computed from, used it"
            );
            Err(Error::argument(op, message).or_at(line))
        });
    }
}
