//! Findings: maximal runs of panes in which a rule's condition holds for one group.

use crate::codec::{Damaged, Reader, Writer};
use crate::detect::Bar;
use crate::time::Micros;
use crate::window::PaneIndex;
use rustc_hash::FxHashMap;
use smallvec::{SmallVec, smallvec};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use uuid::Uuid;

/// The namespace of finding ids (UUID version 5).
const NAMESPACE: Uuid = Uuid::from_u128(0x6375_7374_6f64_4573_8a0f_6669_6e64_696e);

/// What a finding of a rule and a group is called that opens in a pane.
pub(crate) fn named(rule_id: &str, group: &[String], first: PaneIndex) -> Uuid {
    Uuid::new_v5(&NAMESPACE, serde_json::json!([rule_id, group, first]).to_string().as_bytes())
}

/// What became of a finding in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// First told of.
    Opened,
    /// Its figures changed.
    Updated,
    /// The watermark left it behind; it will not change again.
    Closed,
    /// An event out of order joined it to an earlier one, which carries on.
    Merged,
}

/// The state of one finding at the end of a batch that changed it.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What became of it.
    pub kind: ChangeKind,
    /// UUID version 5 of rule id, group and opening pane; stable once given.
    pub id: String,
    /// The rule's position in the plan.
    pub rule: usize,
    /// The values of the rule's `group_by` fields, in its order.
    pub group: Vec<String>,
    /// Time of the event that made the condition hold.
    pub opened_at: Micros,
    /// End of the last pane at which it held; `None` while open.
    pub closed_at: Option<Micros>,
    /// Start of the first pane at which it held.
    pub from: Micros,
    /// End of the last pane at which it is known to have held.
    pub until: Micros,
    /// Largest count, or measure, in any pane.
    pub peak: f64,
    /// What that is held against.
    pub threshold: f64,
    /// What was usual for the group, where a baseline made the threshold.
    pub usual: Option<f64>,
    /// Matching events from the opening window's start to the last held pane.
    pub count: u64,
    /// For [`ChangeKind::Merged`]: the finding that carries on.
    pub merged_into: Option<String>,
}

/// An open finding. Event counts are readings of its group's running counter, which may wrap.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // facts that have nothing to do with each other
pub(crate) struct Finding {
    pub(crate) slot: u32,
    pub(crate) group: Vec<String>,
    pub(crate) id: Uuid,
    /// First pane at which it held.
    pub(crate) first: PaneIndex,
    /// Last pane at which it is known to have held.
    pub(crate) last: PaneIndex,
    /// Whether it holds at the group's head, so that `last` still grows by itself.
    pub(crate) holding: bool,
    /// Events before the opening window.
    pub(crate) events_before: u32,
    /// Events through `last`; while holding, the group's counter is read instead.
    pub(crate) events_through: u32,
    pub(crate) peak: u64,
    pub(crate) opened_at: Micros,
    /// What the count of its first pane was held against.
    pub(crate) bar: Bar,
    /// Panes from here on must have their counts read again before it is told of.
    recheck: Option<PaneIndex>,
    told: bool,
    changed: bool,
    /// Whether rules that count its rule's openings have heard of it.
    announced: bool,
}

impl Finding {
    /// Whether a run `[first, last]` belongs to this finding: they overlap, touch, or lie at most `keep`
    /// panes apart.
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
    /// A group's findings. Slots are given out here, so nobody can aim at a bucket.
    by_group: FxHashMap<u32, SmallVec<[u32; 1]>>,
    /// Findings opened and not told of yet. This and the next three may name one that is gone, or another in its place.
    opened: Vec<u32>,
    /// Findings not announced yet.
    unannounced: Vec<u32>,
    /// Findings changed since they were told of.
    changed: Vec<u32>,
    /// Findings of which panes must be read again.
    rechecks: Vec<u32>,
    /// Findings swallowed since the last report, with the one that carries on.
    merged: Vec<(Finding, Uuid)>,
    /// When to look whether a finding is over: pane, finding.
    due: BinaryHeap<Reverse<(PaneIndex, u32)>>,
}

/// What a new finding starts with.
pub(crate) struct Opening {
    pub(crate) slot: u32,
    pub(crate) group: Vec<String>,
    pub(crate) first: PaneIndex,
    pub(crate) last: PaneIndex,
    pub(crate) holding: bool,
    pub(crate) events_before: u32,
    pub(crate) events_through: u32,
    pub(crate) peak: u64,
    pub(crate) opened_at: Micros,
    pub(crate) bar: Bar,
}

impl FindingSet {
    pub(crate) fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// The findings of a group, oldest first.
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

    /// Notes that a finding's figures have changed.
    #[inline]
    pub(crate) fn mark(&mut self, key: u32) {
        let first = self.get_mut(key).is_some_and(|finding| !std::mem::replace(&mut finding.changed, true));
        if first {
            self.changed.push(key);
        }
    }

    /// Notes that events out of order have changed the counts of panes from `pane` on.
    pub(crate) fn recheck_from(&mut self, key: u32, pane: PaneIndex) {
        let Some(finding) = self.get_mut(key) else { return };
        let known = finding.recheck;
        finding.recheck = Some(known.map_or(pane, |from| from.min(pane)));
        if known.is_none() {
            self.rechecks.push(key);
        }
    }

    /// Opens a finding; `due` is the first pane at which it could be over.
    pub(crate) fn open(&mut self, rule_id: &str, opening: Opening, due: PaneIndex) -> u32 {
        let key = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            self.all.len() as u32 - 1
        });
        let id = named(rule_id, &opening.group, opening.first);
        self.enlist(opening.slot, opening.first, key);
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
            bar: opening.bar,
            recheck: None,
            told: false,
            changed: false,
            announced: false,
        });
        self.opened.push(key);
        self.unannounced.push(key);
        self.due.push(Reverse((due, key)));
        key
    }

    /// Takes `swallowed` out; what it held goes on as part of `into`.
    pub(crate) fn merge(&mut self, swallowed: u32, into: u32) {
        let Some(into_id) = self.get(into).map(|finding| finding.id) else { return };
        if let Some(pane) = self.get(swallowed).and_then(|finding| finding.recheck) {
            self.recheck_from(into, pane);
        }
        if let Some(finding) = self.remove(swallowed).filter(|finding| finding.told) {
            self.merged.push((finding, into_id));
        }
        self.mark(into);
    }

    /// The findings due for a look at watermark pane `pane`; each must be closed or asked for again.
    pub(crate) fn pop_due(&mut self, pane: PaneIndex) -> Option<u32> {
        while self.due.peek().is_some_and(|Reverse((due, _))| *due <= pane) {
            let Reverse((_, key)) = self.due.pop()?;
            if self.get(key).is_some() {
                return Some(key);
            }
        }
        None
    }

    pub(crate) fn look_again(&mut self, key: u32, at: PaneIndex) {
        self.due.push(Reverse((at, key)));
    }

    /// The findings that opened since the last call, in that order. They count as told of.
    pub(crate) fn take_opened(&mut self) -> Vec<u32> {
        let mut keys = std::mem::take(&mut self.opened);
        keys.retain(|&key| {
            self.get_mut(key).is_some_and(|finding| {
                finding.changed = false;
                !std::mem::replace(&mut finding.told, true)
            })
        });
        keys
    }

    /// None of the findings so far is to be announced.
    pub(crate) fn pass_over_announcing(&mut self) {
        self.unannounced.clear();
    }

    /// The findings to be announced, now that nothing in a pane before `pane` will change. They count as announced.
    pub(crate) fn take_announced(&mut self, pane: PaneIndex) -> Vec<u32> {
        let mut due = Vec::new();
        let mut keys = std::mem::take(&mut self.unannounced);
        keys.retain(|&key| {
            let Some(finding) = self.get_mut(key).filter(|finding| !finding.announced) else { return false };
            let is_due = finding.first < pane;
            finding.announced = is_due;
            if is_due {
                due.push(key);
            }
            !is_due
        });
        self.unannounced = keys;
        due
    }

    /// The findings told of that have changed since, in the order of their first change.
    pub(crate) fn take_changed(&mut self) -> Vec<u32> {
        let mut keys = std::mem::take(&mut self.changed);
        keys.retain(|&key| {
            self.get_mut(key).is_some_and(|f| std::mem::replace(&mut f.changed, false) && f.told)
        });
        keys
    }

    /// The findings to be read again, each with the first pane.
    pub(crate) fn take_rechecks(&mut self) -> Vec<(u32, PaneIndex)> {
        let keys = std::mem::take(&mut self.rechecks);
        keys.into_iter().filter_map(|key| Some((key, self.get_mut(key)?.recheck.take()?))).collect()
    }

    pub(crate) fn take_merged(&mut self) -> Vec<(Finding, Uuid)> {
        std::mem::take(&mut self.merged)
    }

    /// Writes the open findings down as they stand between two batches, when all have been told of.
    pub(crate) fn save(&self, to: &mut Writer) {
        to.len(self.len());
        for finding in self.all.iter().flatten() {
            to.u32(finding.slot);
            to.texts(&finding.group);
            to.raw(finding.id.into_bytes());
            to.u32(finding.first);
            to.u32(finding.last);
            to.flag(finding.holding);
            to.u32(finding.events_before);
            to.u32(finding.events_through);
            to.u64(finding.peak);
            to.i64(finding.opened_at);
            to.u64(finding.bar.need);
            to.flag(finding.bar.usual.is_some());
            to.u64(finding.bar.usual.unwrap_or_default().to_bits());
            to.flag(finding.announced);
        }
    }

    /// `due_after` says when a finding that last held at a pane is due for a look. All count as changed: whoever keeps
    /// them hears of each again.
    pub(crate) fn load(
        from: &mut Reader<'_>,
        due_after: impl Fn(PaneIndex) -> PaneIndex,
    ) -> Result<Self, Damaged> {
        let mut set = Self::default();
        for key in 0..from.len(1)? as u32 {
            let finding = Finding {
                slot: from.u32()?,
                group: from.texts()?,
                id: Uuid::from_bytes(from.raw()?),
                first: from.u32()?,
                last: from.u32()?,
                holding: from.flag()?,
                events_before: from.u32()?,
                events_through: from.u32()?,
                peak: from.u64()?,
                opened_at: from.i64()?,
                bar: Bar { need: from.u64()?, usual: from.flag()?.then_some(f64::from_bits(from.u64()?)) },
                recheck: None,
                told: true,
                changed: true,
                announced: from.flag()?,
            };
            set.unannounced.push(key);
            set.due.push(Reverse((due_after(finding.last), key)));
            set.changed.push(key);
            set.enlist(finding.slot, finding.first, key);
            set.all.push(Some(finding));
        }
        Ok(set)
    }

    /// Ids and last panes of all.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (Uuid, PaneIndex)> {
        self.all.iter().flatten().map(|finding| (finding.id, finding.last))
    }

    /// Puts a key among those of its group, in the order of their first panes.
    fn enlist(&mut self, slot: u32, first: PaneIndex, key: u32) {
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
