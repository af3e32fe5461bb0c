//! Statistics, and the status of one group.

use super::Engine;
use super::outcome::{RuleStats, Stats};
use crate::detect::GroupStatus;
use crate::event::identity::normal_form;
use crate::foundation::partition::shard_of;
use crate::foundation::time::Micros;
use crate::keyed::KeyedStream;
use std::collections::BTreeMap;

impl Engine {
    /// Returns the status of a group for rule number `rule`, in the window that ends with the pane of `time`, which
    /// must not be behind the watermark. `group` holds the values of the rule's group-by fields, in any
    /// spelling. `None` if the group
    /// is unknown.
    pub fn group_status(&mut self, rule: usize, group: &[String], time: Micros) -> Option<GroupStatus> {
        let forms = self.group_forms.get(rule)?.iter();
        let names = group.iter().zip(forms).map(|(name, form)| {
            let normal = form.and_then(|form| normal_form(form, name));
            self.fingerprinter.fingerprint(normal.as_ref().unwrap_or(name).as_bytes())
        });
        let fingerprint = self.fingerprinter.combine(&names.collect::<Vec<_>>());
        let shard = self.shards.get_mut(shard_of(fingerprint))?;
        shard.streams.iter_mut().find_map(|stream| stream.group_status(rule, fingerprint, time))
    }

    /// Current statistics.
    pub fn stats(&self) -> Stats {
        let newest = self.watermark.newest();
        let mut rules: BTreeMap<usize, RuleStats> = BTreeMap::new();
        for (at, stream) in self.shards.iter().flat_map(|shard| shard.streams.iter().enumerate()) {
            for (detector, largest) in stream.detectors(newest) {
                let stats = rules.entry(detector.rule).or_default();
                stats.groups += stream.groups();
                stats.open_findings += detector.open_findings();
                stats.suppressed += detector.suppressed();
                stats.opened += detector.opened;
                stats.matched = self.matched(at);
                stats.peak_ratio = stats.peak_ratio.max(detector.peak_ratio(largest));
            }
        }
        Stats {
            rules: rules.into_values().collect(),
            bytes: self.shards.iter().flat_map(|shard| &shard.streams).map(KeyedStream::heap_bytes).sum(),
            watermark: self.current_watermark(),
            newest,
        }
    }
}
