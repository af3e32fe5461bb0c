//! The threads that work a step off, and how large a step is worth it.

use crate::plan::PlanError;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::num::NonZeroUsize;

/// Records one thread takes on in a step: so many that handing them over is nothing beside it, and that a shard, which
/// counts its part of them in one go, comes back to pages of memory whose addresses are still known.
pub(crate) const STEP_RECORDS: usize = 8192;
/// Bytes of text one thread takes on in a step.
pub(crate) const STEP_BYTES: usize = STEP_RECORDS * 256;

/// `None` works alone, on the caller's thread.
#[derive(Debug)]
pub(crate) struct Crew {
    pool: Option<ThreadPool>,
    threads: usize,
}

impl Crew {
    /// # Errors
    /// The operating system has no more threads.
    pub(crate) fn new(threads: NonZeroUsize) -> Result<Self, PlanError> {
        let threads = threads.get();
        let pool = (threads > 1).then(|| {
            ThreadPoolBuilder::new().num_threads(threads).thread_name(|n| format!("custodes-{n}")).build()
        });
        let pool = pool.transpose().map_err(|error| PlanError::Threads(error.to_string()))?;
        Ok(Self { pool, threads })
    }

    /// Whether a step of so many records is worth handing over.
    pub(crate) fn is_worth_it(&self, records: usize) -> bool {
        self.pool.is_some() && records > 1024
    }

    /// One thread's share of `whole`: an even one, of at most `most`, but none so small that it is not worth it.
    pub(crate) fn share(&self, whole: usize, most: usize) -> usize {
        whole.div_ceil(self.threads).max(most / 16).min(most)
    }

    /// Does the jobs at once, each on a thread of its own.
    pub(crate) fn side_by_side<T: Send>(
        &self,
        jobs: impl Iterator<Item = T> + Send,
        work: impl Fn(T) + Sync,
    ) {
        let Some(pool) = &self.pool else { return jobs.for_each(work) };
        let mut jobs = jobs.peekable();
        let Some(first) = jobs.next() else { return };
        if jobs.peek().is_none() {
            return work(first);
        }
        let work = &work;
        pool.in_place_scope(|scope| {
            for job in jobs {
                scope.spawn(move |_| work(job));
            }
            work(first);
        });
    }
}
