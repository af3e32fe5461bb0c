//! Thread pool of the engine, and the step sizes that make it worthwhile.

use crate::plan::{PlanError, PlanErrorKind};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::num::NonZeroUsize;

/// Records per thread and step. Large enough to make the hand-over negligible; small enough that a shard, which
/// counts its part in one go, still finds its memory pages in the TLB.
pub(crate) const STEP_RECORDS: usize = 8192;
/// Bytes of text per thread and step.
pub(crate) const STEP_BYTES: usize = STEP_RECORDS * 256;

/// Without a pool, everything runs on the caller's thread.
#[derive(Debug)]
pub(crate) struct WorkerPool {
    pool: Option<ThreadPool>,
    threads: usize,
}

impl WorkerPool {
    /// # Errors
    /// The operating system cannot start the threads.
    pub(crate) fn new(threads: NonZeroUsize) -> Result<Self, PlanError> {
        let threads = threads.get();
        #[allow(clippy::disallowed_methods)] // the only place that starts threads
        let pool = (threads > 1).then(|| {
            ThreadPoolBuilder::new().num_threads(threads).thread_name(|n| format!("custodes-{n}")).build()
        });
        let pool = pool.transpose().map_err(|error| {
            PlanError::new(PlanErrorKind::Threads, format!("the engine's threads cannot be started: {error}"))
        })?;
        Ok(Self { pool, threads })
    }

    /// Whether a step of this size should be handed to other threads.
    pub(crate) fn is_worth_parallel(&self, records: usize) -> bool {
        self.pool.is_some() && records > 1024
    }

    /// Chunk size per thread: `whole` divided evenly, at most `most` and at least a sixteenth of it.
    pub(crate) fn chunk_size(&self, whole: usize, most: usize) -> usize {
        whole.div_ceil(self.threads).max(most / 16).min(most)
    }

    /// Runs the jobs in parallel and waits for all of them.
    pub(crate) fn run_parallel<T: Send>(
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
