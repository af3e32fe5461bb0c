//! Identities and actions: fields whose spelling does not tell values apart.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How the values of an identity field are normalised. Two spellings with equal normal forms are one identity.
///
/// Every form is NFKC, trimmed, and without control characters and default-ignorable code points such as zero-width
/// spaces. A number without a fraction is written as its digits: `7`, `7.0` and `7e0` are equal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityForm {
    /// Whether letter case tells identities apart.
    pub case: LetterCase,
    /// Spaces and hyphens between two digits.
    pub separators: Separators,
    /// A Windows or Kerberos domain: `CORP\anna`, `anna@corp.example`.
    pub domain: Domain,
}

/// Whether letter case tells identities apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LetterCase {
    /// It does not; the normal form is upper case.
    #[default]
    Fold,
    /// It does.
    Keep,
}

/// Spaces and hyphens between two digits of an identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Separators {
    /// They are part of the identity.
    #[default]
    Keep,
    /// They are removed.
    Remove,
}

/// The domain of an identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// It is part of the identity.
    #[default]
    Keep,
    /// It is removed: up to the last backslash, and from the first `@` on.
    Remove,
}

/// Identity field → its form.
pub type Identities = BTreeMap<String, IdentityForm>;

/// Words of a log → canonical action.
pub type Actions = BTreeMap<String, CanonicalAction>;

/// What an access does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CanonicalAction {
    /// A record was read, or the log does not tell.
    Read,
    /// Records were searched.
    Search,
    /// Records left the system as a file or a copy.
    Export,
    /// Records were printed.
    Print,
    /// A record was created or changed.
    Change,
    /// A record was deleted.
    Delete,
    /// An action that no list of words has.
    Other,
    /// No access to a record: a login, a heartbeat. Not counted.
    None,
}

impl CanonicalAction {
    /// All actions.
    pub const ALL: [Self; 8] = [
        Self::Read,
        Self::Search,
        Self::Export,
        Self::Print,
        Self::Change,
        Self::Delete,
        Self::Other,
        Self::None,
    ];

    /// The word in rules.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Search => "search",
            Self::Export => "export",
            Self::Print => "print",
            Self::Change => "change",
            Self::Delete => "delete",
            Self::Other => "other",
            Self::None => "none",
        }
    }
}
