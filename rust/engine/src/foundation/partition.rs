//! Assignment of groups to shards within one engine, and to partitions among several.
//!
//! Both follow from the group's fingerprint alone: shards use its lower 32 bits, partitions the upper 32, so a
//! partition's groups spread evenly over the shards.

use crate::foundation::fingerprint::Fingerprint;

/// Number of shards: the limit of threads that count at the same time. A snapshot part covers one shard, so the number is
/// the same in every engine. Measured: four are as fast as one on a single thread; sixteen are a tenth slower.
pub(crate) const SHARDS: usize = 4;

/// The shard that counts a group.
#[inline]
pub(crate) fn shard_of(group: Fingerprint) -> usize {
    group as u32 as usize % SHARDS
}

/// The partition, of `partitions`, that a group belongs to.
#[inline]
pub(crate) fn partition_of(group: Fingerprint, partitions: u32) -> u32 {
    (((group >> 32) * u64::from(partitions)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_even() {
        let mut counts = [0; 6];
        for n in 0..6000_u64 {
            counts[partition_of(n.wrapping_mul(0x9E37_79B9_7F4A_7C15), 6) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }
}
