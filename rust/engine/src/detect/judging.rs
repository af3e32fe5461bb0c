//! What only conditions judged at the watermark need: which groups' counts change at which pane.

use super::Detector;
use crate::codec::{Damaged, Reader, Writer};
use crate::window::{PaneIndex, Reading};
use std::collections::{BTreeMap, HashMap};

#[derive(Debug, Default)]
pub(super) struct Judging {
    groups: HashMap<u32, Judged>,
    /// Panes at which some group's count changes → those groups.
    due: BTreeMap<PaneIndex, Vec<u32>>,
}

impl Judging {
    pub(super) fn save(&self, to: &mut Writer) {
        to.list(self.groups.iter(), |to, (slot, judged)| {
            to.u32(*slot);
            to.u32(judged.next);
            to.texts(&judged.names);
        });
        to.list(self.due.iter(), |to, (pane, slots)| {
            to.u32(*pane);
            to.list(slots.iter(), |to, &slot| to.u32(slot));
        });
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        let groups = from.list(16, |from| {
            let (slot, next) = (from.u32()?, from.u32()?);
            Ok((slot, Judged { names: from.texts()?, next }))
        })?;
        let due = from.list(12, |from| Ok((from.u32()?, from.list(size_of::<u32>(), Reader::u32)?)))?;
        Ok(Self { groups, due })
    }
}

#[derive(Debug)]
struct Judged {
    names: Vec<String>,
    /// The first pane not judged yet.
    next: PaneIndex,
}

impl Detector {
    pub(crate) fn is_judging(&self) -> bool {
        self.judging.is_some()
    }

    /// A group has come into being.
    pub(crate) fn start_judging(&mut self, counts: Reading<'_>, slot: u32, names: &[String]) {
        if let Some(judging) = &mut self.judging {
            judging.groups.insert(slot, Judged { names: names.to_vec(), next: counts.settled() });
        }
    }

    /// A group has been forgotten.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.unlisted.remove(&slot);
        if let Some(profiles) = &mut self.profiles {
            profiles.forget(slot);
        }
        if let Some(judging) = &mut self.judging {
            judging.groups.remove(&slot);
        }
    }

    /// The count of a group is about to change at `pane`, and once more when that pane leaves the window.
    #[cold]
    pub(crate) fn changes_at(&mut self, counts: Reading<'_>, slot: u32, pane: PaneIndex) {
        if let Some(judging) = &mut self.judging {
            // The pane before is due as well: the arrival about to be kept says where its values were until now,
            // and it is let go of as soon as the watermark is past it.
            for due in [pane.saturating_sub(1), pane, pane.saturating_add(counts.span)] {
                judging.due.entry(due).or_default().push(slot);
            }
        }
    }

    /// Judges the panes before `pane`, which the watermark has come to.
    pub(super) fn judge_final(&mut self, counts: Reading<'_>, pane: PaneIndex) {
        let Some(judging) = &mut self.judging else { return };
        if pane <= counts.settled() {
            return;
        }
        let later = judging.due.split_off(&pane);
        let passed = std::mem::replace(&mut judging.due, later);
        let mut slots: Vec<u32> = passed.into_values().flatten().collect();
        slots.sort_unstable();
        slots.dedup();
        for slot in slots {
            self.judge_group(counts, slot, pane);
        }
    }

    /// Judges one group's panes below `pane` that have not been judged yet.
    pub(super) fn judge_group(&mut self, counts: Reading<'_>, slot: u32, pane: PaneIndex) {
        let judged = self.judging.as_mut().and_then(|judging| judging.groups.get_mut(&slot));
        let Some(judged) = judged.filter(|judged| judged.next < pane) else { return };
        let low = std::mem::replace(&mut judged.next, pane);
        let names = judged.names.clone();
        self.judge(counts, slot, low, pane - 1, &names, |_| false);
    }
}
