//! Eviction of idle groups and values when memory runs short ([`crate::foundation::eviction`]).

use super::Engine;
use super::outcome::Evicted;
use super::shard::Shard;
use crate::foundation::eviction::{AgeHistogram, EvictedCounts};
use crate::foundation::time::Micros;

impl Engine {
    /// Memory in use, in bytes, without free slots.
    pub fn used_bytes(&self) -> usize {
        self.shards.iter().map(Shard::used_bytes).sum()
    }

    /// Evicts the groups and values with the oldest events until at most `most_bytes` are in use or nothing more can
    /// be evicted. Returns the number per rule and the cut-off time; `None` if nothing had to be evicted.
    pub fn evict(&mut self, most_bytes: usize) -> Option<Evicted> {
        let rules = self.state_layout.iter().flatten().map(Vec::len).sum();
        let mut evicted: Option<Evicted> = None;
        // Fragmentation means that one pass often frees slightly too little.
        while let excess @ 1.. = self.used_bytes().saturating_sub(most_bytes)
            && let Some(watermark) = self.current_watermark()
        {
            let before = self.oldest(excess, watermark);
            if evicted.as_ref().is_some_and(|evicted| before <= evicted.before) {
                break;
            }
            let total = evicted
                .get_or_insert_with(|| Evicted { before, rules: vec![EvictedCounts::default(); rules] });
            total.before = before;
            self.evict_before(before, &mut total.rules);
        }
        evicted
    }

    /// Cut-off time before which at least `bytes` can be freed.
    fn oldest(&mut self, bytes: usize, watermark: Micros) -> Micros {
        let mut by_shard = vec![AgeHistogram::new(watermark); self.shards.len()];
        // Takes `&mut` although nothing changes, because only one thread may use a shard at a time.
        let jobs = self.shards.iter_mut().zip(&mut by_shard);
        self.pool.run_parallel(jobs, |(shard, ages)| shard.add_ages(ages));
        let mut all = AgeHistogram::new(watermark);
        for ages in &by_shard {
            all.merge(ages);
        }
        all.cutoff_to_free(bytes)
    }

    fn evict_before(&mut self, time: Micros, evicted: &mut [EvictedCounts]) {
        let mut by_shard = vec![vec![EvictedCounts::default(); evicted.len()]; self.shards.len()];
        let jobs = self.shards.iter_mut().zip(&mut by_shard);
        self.pool.run_parallel(jobs, |(shard, evicted)| shard.evict_before(time, evicted));
        for of_shard in &by_shard {
            for (sum, more) in evicted.iter_mut().zip(of_shard) {
                *sum += *more;
            }
        }
    }
}
