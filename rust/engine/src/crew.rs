//! The threads that work a step off, and how large a step is worth it.

use crate::plan::PlanError;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::num::NonZeroUsize;

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

    /// Records one thread takes on in a step. Alone, a step is small, so that what reading lays out is still in
    /// cache when it is counted; with others, so large that handing it over is nothing beside it.
    pub(crate) fn step_records(&self) -> usize {
        if self.threads == 1 { 512 } else { 8192 }
    }

    /// Bytes of text one thread takes on in a step.
    pub(crate) fn step_bytes(&self) -> usize {
        self.step_records() * 256
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
