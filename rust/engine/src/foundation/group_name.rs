//! Names of groups.

use super::codec::{Damaged, StateReader, StateWriter};

/// First version of saved state in which a group has a spelling.
const VERSION_WITH_SPELLING: u16 = 5;

/// The values of a group's fields: normal forms, which identify the group, and their spelling in one of its events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupName {
    key: Vec<String>,
    /// Empty if it equals the key.
    written: Vec<String>,
}

impl GroupName {
    /// Both lists have the same length.
    pub(crate) fn new(key: Vec<String>, written: Vec<String>) -> Self {
        let written = if written == key { Vec::new() } else { written };
        Self { key, written }
    }

    pub(crate) fn key(&self) -> &[String] {
        &self.key
    }

    pub(crate) fn written(&self) -> &[String] {
        if self.written.is_empty() { &self.key } else { &self.written }
    }

    /// The values at these places.
    pub(crate) fn select(&self, places: &[usize]) -> Self {
        let of = |all: &[String]| places.iter().filter_map(|&place| all.get(place).cloned()).collect();
        Self { key: of(&self.key), written: of(&self.written) }
    }

    pub(crate) fn save(&self, to: &mut StateWriter) {
        to.texts(&self.key);
        to.texts(&self.written);
    }

    pub(crate) fn load(from: &mut StateReader<'_>) -> Result<Self, Damaged> {
        let key = from.texts()?;
        let written = if from.version() < VERSION_WITH_SPELLING { Vec::new() } else { from.texts()? };
        Ok(Self { key, written })
    }
}
