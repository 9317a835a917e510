//! Guarded buffers, for testing kernels. wgpu keeps a kernel inside the buffers it is given, but those are a size class
//! large. On a guarded device each is new, holds NaN, and ends in words that nobody may write: so an element that a
//! kernel leaves out shows, and so does one that it writes past its end. The last two words say where that end is, for kernels
//! that look at their indices ([`out_of_bounds`](super::out_of_bounds)).

use super::batch::Batch;
use super::handle::Handle;
use super::out_of_bounds::{COUNT, END};
use crate::{Error, Result};
use std::sync::{Arc, Weak};

/// The words behind each buffer.
const WORDS: u64 = 64;
/// What a buffer holds before it is written: the bits of a signalling NaN. What arithmetic makes of it is quiet, so that it
/// shows as written also where it was written over with something computed from itself.
const UNWRITTEN: u32 = 0x7f95_aa55;
/// Buffers and bytes watched between two checks at most, so that a long run without read-backs does not fill memory.
const MOST: (usize, u64) = (1024, 256 << 20);

#[derive(Default)]
pub(super) struct Guard {
    watched: Vec<Watched>,
    /// Watched since the last check.
    fresh: (usize, u64),
}

struct Watched {
    buffer: wgpu::Buffer,
    /// The words that it holds; those of the guard follow.
    words: usize,
    alive: Weak<()>,
}

impl Watched {
    /// Where the guard words start, in bytes.
    fn end(&self) -> u64 {
        self.words as u64 * 4
    }

    /// All of the buffer's words before a kernel has written any. Where it holds none no end is given: of an operand without
    /// elements a kernel may look at where the first would be, and must not use it.
    fn unwritten(&self) -> Vec<u32> {
        let mut all = vec![UNWRITTEN; self.words];
        all.extend(self.guards());
        all
    }

    fn guards(&self) -> Vec<u32> {
        let mut guards = vec![UNWRITTEN; (self.buffer.size() - self.end()) as usize / 4];
        if let [.., end, count] = &mut guards[..]
            && self.words > 0
        {
            (*end, *count) = (END, COUNT.wrapping_add(self.words as u32));
        }
        guards
    }
}

impl Guard {
    /// The size of a buffer that is to hold `bytes`.
    pub(super) fn size(bytes: u64) -> u64 {
        (bytes + WORDS * 4).next_multiple_of(16)
    }

    /// Fills a new buffer for `words` words, and watches it as long as the token lives.
    ///
    /// # Errors
    /// Out of memory, or a check that is due finds a changed word.
    pub(super) fn watch(
        &mut self,
        gpu: &Handle,
        batch: &mut Batch,
        buffer: &wgpu::Buffer,
        words: usize,
    ) -> Result<Arc<()>> {
        let (count, bytes) = self.fresh;
        self.fresh = (count + 1, bytes + buffer.size());
        if count >= MOST.0 || bytes >= MOST.1 {
            self.check(gpu, batch)?;
        }
        let token = Arc::new(());
        let watched = Watched { buffer: buffer.clone(), words, alive: Arc::downgrade(&token) };
        batch.upload(gpu, buffer, &watched.unwritten())?;
        self.watched.push(watched);
        Ok(token)
    }

    /// Runs all that is recorded and looks at the guard words of every buffer that was alive since the last check.
    ///
    /// # Errors
    /// One has changed.
    pub(super) fn check(&mut self, gpu: &Handle, batch: &mut Batch) -> Result<()> {
        self.fresh = (0, 0);
        let watched = std::mem::take(&mut self.watched);
        let bytes: u64 = watched.iter().map(|one| one.buffer.size() - one.end()).sum();
        if bytes == 0 {
            return Ok(());
        }
        let staging = gpu.staging(bytes)?;
        let mut at = 0;
        for one in &watched {
            let (buffer, end) = (&one.buffer, one.end());
            batch.copy(gpu, (buffer, end), (&staging, at), buffer.size() - end);
            at += buffer.size() - end;
        }
        if batch.finish(gpu)?.is_some() {
            // The copies were rejected with their batch. The next check makes them again.
            self.watched = watched;
            return Ok(());
        }
        let found = gpu.map(&staging)?;
        let mut found = found.iter();
        for one in &watched {
            let expected = one.guards();
            let found = found.by_ref().take(expected.len());
            if let Some(at) = found.zip(&expected).position(|(word, expected)| word != expected) {
                let mut message = format!("a kernel wrote {at} words past the end of {} words", one.words);
                if gpu.shows_out_of_bounds && at + 1 == expected.len() {
                    message += ", or read past the end of another buffer";
                }
                return Err(Error::Gpu { message });
            }
        }
        self.watched = watched.into_iter().filter(|one| one.alive.strong_count() > 0).collect();
        Ok(())
    }
}
