//! Schedule of a deferred rule, which evaluates a pane when the watermark has passed it ([`super::on_watermark`]).
//!
//! Stores each group's names, its next pane to evaluate, and the panes at which its count changes. A group is evaluated
//! only when the watermark has passed such a pane, so a group without events costs nothing.

use crate::foundation::codec::{Damaged, StateReader, StateWriter};
use crate::foundation::group_name::GroupName;
use crate::window::PaneIndex;
use std::collections::{BTreeMap, HashMap};

#[derive(Debug, Default)]
pub(super) struct Deferred {
    /// By slot.
    pub(super) groups: HashMap<u32, DeferredGroup>,
    /// Panes at which a count changes, with the groups concerned.
    pub(super) due: BTreeMap<PaneIndex, Vec<u32>>,
}

impl Deferred {
    pub(super) fn save(&self, to: &mut StateWriter) {
        to.list(self.groups.iter(), |to, (slot, group)| {
            to.u32(*slot);
            to.u32(group.next);
            group.names.save(to);
        });
        to.list(self.due.iter(), |to, (pane, slots)| {
            to.u32(*pane);
            to.list(slots.iter(), |to, &slot| to.u32(slot));
        });
    }

    pub(super) fn load(from: &mut StateReader<'_>) -> Result<Self, Damaged> {
        let groups = from.list(16, |from| {
            let (slot, next) = (from.u32()?, from.u32()?);
            Ok((slot, DeferredGroup { names: GroupName::load(from)?, next }))
        })?;
        let due = from.list(12, |from| Ok((from.u32()?, from.list(size_of::<u32>(), StateReader::u32)?)))?;
        Ok(Self { groups, due })
    }
}

#[derive(Debug)]
pub(super) struct DeferredGroup {
    pub(super) names: GroupName,
    /// First pane not evaluated yet.
    pub(super) next: PaneIndex,
}
