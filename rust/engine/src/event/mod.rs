//! Records to events: mapped and derived fields, look-up tables, time parsing, admission.

pub(crate) mod action;
pub(crate) mod admit;
pub(crate) mod derive;
pub(crate) mod field;
pub(crate) mod fixed;
pub(crate) mod identity;
pub(crate) mod lookup;
pub(crate) mod recording;
pub(crate) mod respelling;
pub(crate) mod scalar;
pub(crate) mod time_zone;
pub(crate) mod timestamp;
