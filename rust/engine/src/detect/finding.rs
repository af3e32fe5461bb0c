//! Findings: maximal runs of panes in which a rule's condition holds for one group.
//!
//! [`FindingSet`] stores the open findings of one rule in one shard in a slab. The *key* of a finding is its index
//! there, which is reused; it has nothing to do with the key of the keyed stream, here called group. The set also keeps
//! work lists of keys (opened, changed, to recheck, due to close). An entry may refer to a finding that was removed
//! since, so each is checked when it is taken.

use crate::foundation::codec::{Damaged, StateReader, StateWriter};
use crate::foundation::group_name::GroupName;
use crate::foundation::time::Micros;
use crate::window::PaneIndex;
use rustc_hash::FxHashMap;
use smallvec::{SmallVec, smallvec};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use uuid::Uuid;

/// Namespace of finding ids (UUID version 5). Never change it: ids are stored.
const NAMESPACE: Uuid = Uuid::from_u128(0x6375_7374_6f64_4573_8a0f_6669_6e64_696e);

/// Id of a finding, from its rule, the normal form of its group, and its opening pane.
pub(crate) fn named(rule_id: &str, group: &[String], first: PaneIndex) -> Uuid {
    Uuid::new_v5(&NAMESPACE, serde_json::json!([rule_id, group, first]).to_string().as_bytes())
}

/// The threshold that a count is compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Threshold {
    /// Smallest count at which the condition holds.
    pub(crate) need: u64,
    /// Expected count that the threshold was derived from, if any.
    pub(crate) expected: Option<f64>,
}

/// Kind of change of a finding in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Reported for the first time.
    Opened,
    /// Its values changed.
    Updated,
    /// The watermark passed it; it will not change again.
    Closed,
    /// An out-of-order event joined it to an earlier finding, which continues.
    Merged,
}

/// A changed finding, as of the end of the batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Kind of the change.
    pub kind: ChangeKind,
    /// UUID version 5 of rule id, group and opening pane; stable once reported.
    pub id: String,
    /// Index of the rule in the plan.
    pub rule: usize,
    /// Values of the rule's `group_by` fields, in their order, as an event of the group wrote them.
    pub group: Vec<String>,
    /// The same in normal form: equal for all spellings of an identity. This is the key of the keyed stream.
    pub key: Vec<String>,
    /// Time of the event that made the condition hold.
    pub opened_at: Micros,
    /// End of the last pane in which the condition held; `None` while open.
    pub closed_at: Option<Micros>,
    /// Start of the first pane in which the condition held.
    pub from: Micros,
    /// End of the last pane in which the condition is known to hold.
    pub until: Micros,
    /// Largest count or measure in any pane.
    pub peak: f64,
    /// Threshold that the count is compared with.
    pub threshold: f64,
    /// Expected count, if a baseline made the threshold.
    pub expected: Option<f64>,
    /// Matching events from the start of the opening window to the last pane in which the condition held.
    pub count: u64,
    /// For [`ChangeKind::Merged`]: id of the finding that continues.
    pub merged_into: Option<String>,
}

/// An open finding. Event counts are values of the group's running counter, which may wrap.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // independent facts
pub(crate) struct Finding {
    pub(crate) slot: u32,
    pub(crate) group: GroupName,
    pub(crate) id: Uuid,
    /// First pane in which the condition held.
    pub(crate) first: PaneIndex,
    /// Last pane in which the condition is known to hold.
    pub(crate) last: PaneIndex,
    /// Whether the condition holds in the group's newest pane. The finding then extends to that pane, even if `last` is
    /// earlier.
    pub(crate) holding: bool,
    /// The running counter before the opening window.
    pub(crate) events_before: u32,
    /// The running counter at the end of `last`; unused while `holding`.
    pub(crate) events_through: u32,
    pub(crate) peak: u64,
    pub(crate) opened_at: Micros,
    /// Threshold of the first pane.
    pub(crate) threshold: Threshold,
    /// First pane whose count must be recomputed before the next report.
    recheck: Option<PaneIndex>,
    reported: bool,
    changed: bool,
    /// Whether the opening was handed to the rules that count it.
    published: bool,
}

impl Finding {
    /// Whether the run of panes `first..=last` belongs to this finding: the two overlap, touch, or are at most `keep`
    /// panes apart. `head` is the group's newest pane.
    pub(crate) fn joins(&self, first: PaneIndex, last: PaneIndex, head: PaneIndex, keep: u32) -> bool {
        let end = if self.holding { self.last.max(head) } else { self.last };
        first <= end.saturating_add(keep).saturating_add(1)
            && self.first <= last.saturating_add(keep).saturating_add(1)
    }
}

/// The open findings of one rule.
#[derive(Debug, Default)]
pub(crate) struct FindingSet {
    all: Vec<Option<Finding>>,
    free: Vec<u32>,
    /// Keys of a group's findings by slot. Slots are assigned here, so input cannot aim for hash collisions.
    by_group: FxHashMap<u32, SmallVec<[u32; 1]>>,
    /// Opened and not reported yet.
    opened: Vec<u32>,
    /// Opening not published yet.
    unpublished: Vec<u32>,
    /// Changed since they were last reported.
    changed: Vec<u32>,
    /// To recompute because of out-of-order events.
    rechecks: Vec<u32>,
    /// Merged since the last report, with the id of the finding that continues.
    merged: Vec<(Finding, Uuid)>,
    /// Watermark panes at which to check whether a finding is over.
    due: BinaryHeap<Reverse<(PaneIndex, u32)>>,
}

/// Values of a new finding.
pub(crate) struct Opening {
    pub(crate) slot: u32,
    pub(crate) group: GroupName,
    pub(crate) first: PaneIndex,
    pub(crate) last: PaneIndex,
    pub(crate) holding: bool,
    pub(crate) events_before: u32,
    pub(crate) events_through: u32,
    pub(crate) peak: u64,
    pub(crate) opened_at: Micros,
    pub(crate) threshold: Threshold,
}

impl FindingSet {
    pub(crate) fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// Keys of a group's findings, oldest first.
    pub(crate) fn of(&self, slot: u32) -> SmallVec<[u32; 1]> {
        self.by_group.get(&slot).cloned().unwrap_or_default()
    }

    pub(crate) fn newest(&self, slot: u32) -> Option<u32> {
        self.by_group.get(&slot)?.last().copied()
    }

    pub(crate) fn has(&self, slot: u32) -> bool {
        self.by_group.contains_key(&slot)
    }

    pub(crate) fn get(&self, key: u32) -> Option<&Finding> {
        self.all[key as usize].as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: u32) -> Option<&mut Finding> {
        self.all[key as usize].as_mut()
    }

    /// Marks a finding as changed.
    #[inline]
    pub(crate) fn mark(&mut self, key: u32) {
        let first = self.get_mut(key).is_some_and(|finding| !std::mem::replace(&mut finding.changed, true));
        if first {
            self.changed.push(key);
        }
    }

    /// Marks the counts of a finding as outdated from `pane` on, because of out-of-order events.
    pub(crate) fn recheck_from(&mut self, key: u32, pane: PaneIndex) {
        let Some(finding) = self.get_mut(key) else { return };
        let known = finding.recheck;
        finding.recheck = Some(known.map_or(pane, |from| from.min(pane)));
        if known.is_none() {
            self.rechecks.push(key);
        }
    }

    /// Opens a finding and returns its key; `due` is the first watermark pane at which it can be over.
    pub(crate) fn open(&mut self, rule_id: &str, opening: Opening, due: PaneIndex) -> u32 {
        let key = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            self.all.len() as u32 - 1
        });
        let id = named(rule_id, opening.group.key(), opening.first);
        self.index_by_group(opening.slot, opening.first, key);
        self.all[key as usize] = Some(Finding {
            slot: opening.slot,
            group: opening.group,
            id,
            first: opening.first,
            last: opening.last,
            holding: opening.holding,
            events_before: opening.events_before,
            events_through: opening.events_through,
            peak: opening.peak,
            opened_at: opening.opened_at,
            threshold: opening.threshold,
            recheck: None,
            reported: false,
            changed: false,
            published: false,
        });
        self.opened.push(key);
        self.unpublished.push(key);
        self.due.push(Reverse((due, key)));
        key
    }

    /// Removes the finding `swallowed`, whose panes became part of `into`.
    pub(crate) fn merge(&mut self, swallowed: u32, into: u32) {
        let Some(into_id) = self.get(into).map(|finding| finding.id) else { return };
        if let Some(pane) = self.get(swallowed).and_then(|finding| finding.recheck) {
            self.recheck_from(into, pane);
        }
        if let Some(finding) = self.remove(swallowed).filter(|finding| finding.reported) {
            self.merged.push((finding, into_id));
        }
        self.mark(into);
    }

    /// Takes the key of a finding that is due at watermark pane `pane`. The caller must close it or call
    /// [`Self::reschedule`].
    pub(crate) fn pop_due(&mut self, pane: PaneIndex) -> Option<u32> {
        while self.due.peek().is_some_and(|Reverse((due, _))| *due <= pane) {
            let Reverse((_, key)) = self.due.pop()?;
            if self.get(key).is_some() {
                return Some(key);
            }
        }
        None
    }

    pub(crate) fn reschedule(&mut self, key: u32, at: PaneIndex) {
        self.due.push(Reverse((at, key)));
    }

    /// Takes the findings that opened since the last call, oldest first, and marks them as reported.
    pub(crate) fn take_opened(&mut self) -> Vec<u32> {
        let mut keys = std::mem::take(&mut self.opened);
        keys.retain(|&key| {
            self.get_mut(key).is_some_and(|finding| {
                finding.changed = false;
                !std::mem::replace(&mut finding.reported, true)
            })
        });
        keys
    }

    /// Discards the openings collected so far, because no rule counts them.
    pub(crate) fn skip_unpublished(&mut self) {
        self.unpublished.clear();
    }

    /// Takes the openings before `pane`, which are final, and marks them as published.
    pub(crate) fn take_final(&mut self, pane: PaneIndex) -> Vec<u32> {
        let mut due = Vec::new();
        let mut keys = std::mem::take(&mut self.unpublished);
        keys.retain(|&key| {
            let Some(finding) = self.get_mut(key).filter(|finding| !finding.published) else { return false };
            let is_due = finding.first < pane;
            finding.published = is_due;
            if is_due {
                due.push(key);
            }
            !is_due
        });
        self.unpublished = keys;
        due
    }

    /// Takes the reported findings that changed since, in the order of their first change.
    pub(crate) fn take_changed(&mut self) -> Vec<u32> {
        let mut keys = std::mem::take(&mut self.changed);
        keys.retain(|&key| {
            self.get_mut(key).is_some_and(|f| std::mem::replace(&mut f.changed, false) && f.reported)
        });
        keys
    }

    /// Takes the findings to recompute, each with its first outdated pane.
    pub(crate) fn take_rechecks(&mut self) -> Vec<(u32, PaneIndex)> {
        let keys = std::mem::take(&mut self.rechecks);
        keys.into_iter().filter_map(|key| Some((key, self.get_mut(key)?.recheck.take()?))).collect()
    }

    pub(crate) fn take_merged(&mut self) -> Vec<(Finding, Uuid)> {
        std::mem::take(&mut self.merged)
    }

    /// Saves the open findings between two batches, when all have been reported.
    pub(crate) fn save(&self, to: &mut StateWriter) {
        to.len(self.len());
        for finding in self.all.iter().flatten() {
            to.u32(finding.slot);
            finding.group.save(to);
            to.raw(finding.id.into_bytes());
            to.u32(finding.first);
            to.u32(finding.last);
            to.flag(finding.holding);
            to.u32(finding.events_before);
            to.u32(finding.events_through);
            to.u64(finding.peak);
            to.i64(finding.opened_at);
            to.u64(finding.threshold.need);
            to.flag(finding.threshold.expected.is_some());
            to.u64(finding.threshold.expected.unwrap_or_default().to_bits());
            to.flag(finding.published);
        }
    }

    /// Loads saved findings. `due_after` returns the pane at which a finding that last held in a pane is due. All
    /// count as changed, so that they are reported again.
    pub(crate) fn load(
        from: &mut StateReader<'_>,
        due_after: impl Fn(PaneIndex) -> PaneIndex,
    ) -> Result<Self, Damaged> {
        let mut set = Self::default();
        for key in 0..from.len(1)? as u32 {
            let finding = Finding {
                slot: from.u32()?,
                group: GroupName::load(from)?,
                id: Uuid::from_bytes(from.raw()?),
                first: from.u32()?,
                last: from.u32()?,
                holding: from.flag()?,
                events_before: from.u32()?,
                events_through: from.u32()?,
                peak: from.u64()?,
                opened_at: from.i64()?,
                threshold: Threshold {
                    need: from.u64()?,
                    expected: from.flag()?.then_some(f64::from_bits(from.u64()?)),
                },
                recheck: None,
                reported: true,
                changed: true,
                published: from.flag()?,
            };
            set.unpublished.push(key);
            set.due.push(Reverse((due_after(finding.last), key)));
            set.changed.push(key);
            set.index_by_group(finding.slot, finding.first, key);
            set.all.push(Some(finding));
        }
        Ok(set)
    }

    /// Ids and last panes of all findings.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (Uuid, PaneIndex)> {
        self.all.iter().flatten().map(|finding| (finding.id, finding.last))
    }

    /// Adds a key to its group's list, ordered by first pane.
    fn index_by_group(&mut self, slot: u32, first: PaneIndex, key: u32) {
        let keys = self.by_group.entry(slot).or_insert_with(|| smallvec![]);
        let before = |&&known: &&u32| self.all[known as usize].as_ref().is_some_and(|f| f.first < first);
        let position = keys.iter().take_while(before).count();
        keys.insert(position, key);
    }

    pub(crate) fn remove(&mut self, key: u32) -> Option<Finding> {
        let finding = self.all[key as usize].take()?;
        if let Some(keys) = self.by_group.get_mut(&finding.slot) {
            keys.retain(|&mut k| k != key);
            if keys.is_empty() {
                self.by_group.remove(&finding.slot);
            }
        }
        self.free.push(key);
        Some(finding)
    }
}
