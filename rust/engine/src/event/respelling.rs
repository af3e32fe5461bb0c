//! Respelling: the normal form of a value, for identities and actions.

use crate::event::action::ActionWords;
use crate::event::identity::whole_digits;
use crate::event::scalar::{Origin, Scalar, ScalarKind};
use crate::plan::{CanonicalAction, IdentityForm};
use std::sync::Arc;

/// How the values of a field become normal.
#[derive(Debug, Clone)]
pub(super) enum Respelling {
    Identity(IdentityForm),
    /// With the scalar of each canonical action.
    Action(Arc<ActionWords>, [Scalar; CanonicalAction::ALL.len()]),
}

/// Normal form of a scalar.
pub(super) enum Respelled {
    Same,
    As(Scalar),
    /// Nothing is left of it.
    Empty,
}

impl Respelling {
    /// Appends a normal form that is not part of another text to `scratch`.
    #[inline]
    pub(super) fn normal(
        &self,
        scalar: Scalar,
        record: &str,
        scratch: &mut String,
        constants: &str,
    ) -> Respelled {
        let start = scratch.len();
        let range = scalar.start as usize..scalar.end as usize;
        let own: String;
        let text = match scalar.origin {
            _ if scalar.is_bool() => return self.normal_of_bool(),
            Origin::Record => &record[range],
            Origin::Constants => &constants[range],
            // The normal form is appended to the buffer that holds the text.
            Origin::Scratch => {
                own = scratch[range].to_owned();
                &own
            }
        };
        let is_written = match self {
            Self::Action(words, scalars) => return Respelled::As(scalars[words.classify(text) as usize]),
            Self::Identity(_) if scalar.kind == ScalarKind::Number => {
                whole_digits(text).map(|digits| scratch.push_str(&digits)).is_some()
            }
            Self::Identity(_) if text.is_empty() => return Respelled::Empty,
            Self::Identity(form) => form.normalise(text, scratch),
        };
        match (is_written, scratch.len() - start) {
            (false, _) => Respelled::Same,
            (true, 0) => Respelled::Empty,
            (true, _) => Respelled::As(Scalar {
                kind: scalar.kind,
                origin: Origin::Scratch,
                start: start as u32,
                end: scratch.len() as u32,
            }),
        }
    }

    /// A boolean identifies nobody and stays as it is; as an action it is an unknown word.
    #[cold]
    fn normal_of_bool(&self) -> Respelled {
        match self {
            Self::Identity(_) => Respelled::Same,
            Self::Action(_, scalars) => Respelled::As(scalars[CanonicalAction::Other as usize]),
        }
    }
}
