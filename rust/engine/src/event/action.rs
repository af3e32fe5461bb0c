//! Actions: the words of a log, mapped to the few actions that rules know.

use crate::event::identity::normal_form;
use crate::plan::{Actions, CanonicalAction, IdentityForm};
use rustc_hash::FxHashMap;

/// The words that a plan knows.
#[derive(Debug)]
pub(crate) struct ActionWords {
    /// Normal form of a word → its action. The plan chooses the keys, so a fast hash is safe.
    words: FxHashMap<Box<str>, CanonicalAction>,
}

impl ActionWords {
    /// `None` for a plan without words, whose actions stay as written.
    pub(crate) fn of(actions: &Actions) -> Option<Self> {
        let form = IdentityForm::default();
        let normal = |word: &str| normal_form(form, word).unwrap_or_else(|| word.to_owned()).into_boxed_str();
        let canonical = CanonicalAction::ALL.map(|action| (normal(action.word()), action));
        let own = actions.iter().map(|(word, &action)| (normal(word), action));
        (!actions.is_empty()).then(|| Self { words: canonical.into_iter().chain(own).collect() })
    }

    /// What a word means; `Other` for an unknown one. A text without a visible character counts as no action at all,
    /// which is a read.
    #[inline]
    pub(crate) fn classify(&self, text: &str) -> CanonicalAction {
        if text == "read" { CanonicalAction::Read } else { self.look_up(text) }
    }

    fn look_up(&self, text: &str) -> CanonicalAction {
        const LONGEST: usize = 32;
        let mut upper = [0_u8; LONGEST];
        let bytes = text.as_bytes();
        if let Some(upper) = upper.get_mut(..bytes.len()) {
            upper.copy_from_slice(bytes);
            upper.make_ascii_uppercase();
            let known = std::str::from_utf8(upper).ok().and_then(|word| self.words.get(word));
            if let Some(&action) = known {
                return action;
            }
        }
        let normal = normal_form(IdentityForm::default(), text);
        let normal = normal.as_deref().unwrap_or(text);
        if normal.is_empty() {
            return CanonicalAction::Read;
        }
        self.words.get(normal).copied().unwrap_or(CanonicalAction::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_known_in_any_spelling() {
        let words = Actions::from([
            ("select".to_owned(), CanonicalAction::Read),
            ("查询".to_owned(), CanonicalAction::Search),
            ("login".to_owned(), CanonicalAction::None),
        ]);
        let words = ActionWords::of(&words).unwrap();
        for (text, action) in [
            ("read", CanonicalAction::Read),
            ("READ", CanonicalAction::Read),
            (" Select\u{200b}", CanonicalAction::Read),
            ("ＥＸＰＯＲＴ", CanonicalAction::Export),
            ("查询", CanonicalAction::Search),
            ("Login", CanonicalAction::None),
            ("approve", CanonicalAction::Other),
            ("a word of more than thirty-two characters", CanonicalAction::Other),
            ("", CanonicalAction::Read),
            ("\u{200b}", CanonicalAction::Read),
        ] {
            assert_eq!(words.classify(text), action, "{text:?}");
        }
        assert!(ActionWords::of(&Actions::new()).is_none());
    }
}
