//! Mapping of a saved window to the windows of the current plan, used when a snapshot is restored under changed rules
//! ([`super::saved`]). It is not the mapping of records to events.

use crate::foundation::time::Micros;

/// Destination of one saved window's state.
#[derive(Debug)]
pub(crate) struct WindowMapping {
    pub(crate) resolution: Micros,
    /// Index of the window in the target stream; `None` if no rule needs the window any more.
    pub(crate) place: Option<usize>,
    /// For each saved detector, its index in the target window; `None` if the rule changed or was removed.
    pub(crate) detectors: Vec<Option<usize>>,
    /// For each saved detector, the index of the detector that inherits its baseline days, if any.
    pub(crate) days: Vec<Option<usize>>,
}

/// An open finding whose rule changed or was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrphanedFinding {
    /// The finding's id.
    pub id: String,
    /// End of the last pane in which the condition is known to hold.
    pub held_until: Micros,
}
