//! Normal forms of identities, so that one person or record in several spellings is one identity.
//!
//! NFKC is Unicode Standard Annex 15; the removed code points are those of `Default_Ignorable_Code_Point` (UAX 44).
//! Letter case is removed by the full lower-case and then the full upper-case mapping: the result is equal wherever
//! the Unicode case folding of two texts is.
//!
//! Cost: one pass over the bytes of an ASCII text; a text that is normal already is not copied.

use crate::plan::{Domain, IdentityForm, LetterCase, Separators};
use unicode_normalization::UnicodeNormalization;

impl IdentityForm {
    /// Whether an ASCII text is its own normal form; false if only the slow way can tell.
    #[inline]
    fn is_plainly_normal(self, text: &[u8]) -> bool {
        let fold = self.case == LetterCase::Fold;
        let is_normal = |&byte: &u8| match byte {
            b'a'..=b'z' => !fold,
            b' ' | b'-' => self.separators == Separators::Keep,
            b'\\' | b'@' => self.domain == Domain::Keep,
            0x21..0x7F => true,
            _ => false,
        };
        text.iter().all(is_normal)
            && text.first().is_none_or(|&byte| byte != b' ')
            && text.last().is_none_or(|&byte| byte != b' ')
    }

    /// Appends the normal form of a text to `out`. Returns false, and appends nothing, if the text is its own normal
    /// form.
    #[inline]
    pub(crate) fn normalise(self, text: &str, out: &mut String) -> bool {
        if self.is_plainly_normal(text.as_bytes()) {
            return false;
        }
        let start = out.len();
        if text.is_ascii() && self.is_only_cased(text.as_bytes()) {
            out.extend(text.chars().map(|c| c.to_ascii_uppercase()));
        } else {
            self.normalise_fully(text, out);
        }
        if out[start..] == *text {
            out.truncate(start);
            return false;
        }
        true
    }

    /// Whether an ASCII text differs from its normal form only in letter case.
    fn is_only_cased(self, text: &[u8]) -> bool {
        Self { case: LetterCase::Keep, ..self }.is_plainly_normal(text) && self.case == LetterCase::Fold
    }

    #[cold]
    fn normalise_fully(self, text: &str, out: &mut String) {
        let visible = |c: &char| !c.is_control() && !is_default_ignorable(*c);
        let composed: String = text.nfkc().filter(visible).collect();
        let mut rest = composed.trim();
        if self.domain == Domain::Remove {
            rest = without_domain(rest);
        }
        let cased = match self.case {
            LetterCase::Keep => rest.to_owned(),
            LetterCase::Fold => rest.to_lowercase().to_uppercase().nfkc().filter(visible).collect(),
        };
        match self.separators {
            Separators::Keep => out.push_str(&cased),
            Separators::Remove => push_without_separators(&cased, out),
        }
    }
}

/// The normal form of a text; `None` if the text is its own normal form.
pub fn normal_form(form: IdentityForm, text: &str) -> Option<String> {
    let mut out = String::new();
    form.normalise(text, &mut out).then_some(out)
}

/// Digits of a whole number in any JSON notation (`7`, `7.0`, `70e-1`); `None` for a number with a fraction, and for
/// one that is written as its digits already or would have more than 40.
pub(crate) fn whole_digits(number: &str) -> Option<String> {
    const MOST_DIGITS: i64 = 40;
    if number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return None;
    }
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let sign = if whole.starts_with('-') { "-" } else { "" };
    let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    let zeros = (digits.len() - significant.len()) as i64;
    let zeros = exponent.parse::<i64>().ok()?.checked_sub(fraction.len() as i64)?.checked_add(zeros)?;
    if zeros < 0 || zeros > MOST_DIGITS - significant.len() as i64 {
        return None;
    }
    Some(format!("{sign}{significant}{}", "0".repeat(zeros as usize)))
}

/// The account of `DOMAIN\account` and `account@domain`.
fn without_domain(text: &str) -> &str {
    let account = text.rsplit('\\').next().unwrap_or(text);
    let account = account.split('@').next().unwrap_or(account);
    if account.is_empty() { text } else { account }
}

/// Appends a text without the spaces and hyphens between two digits.
fn push_without_separators(text: &str, out: &mut String) {
    let is_separator = |c: char| c.is_whitespace() || matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}');
    let mut pending = String::new();
    let mut after_digit = false;
    for c in text.chars() {
        if after_digit && is_separator(c) {
            pending.push(c);
            continue;
        }
        if !c.is_ascii_digit() {
            out.push_str(&pending);
        }
        pending.clear();
        out.push(c);
        after_digit = c.is_ascii_digit();
    }
    out.push_str(&pending);
}

/// `Default_Ignorable_Code_Point` of Unicode 16.
fn is_default_ignorable(c: char) -> bool {
    matches!(
        u32::from(c),
        0xAD | 0x34F
            | 0x61C
            | 0x115F..=0x1160
            | 0x17B4..=0x17B5
            | 0x180B..=0x180F
            | 0x200B..=0x200F
            | 0x202A..=0x202E
            | 0x2060..=0x206F
            | 0x3164
            | 0xFE00..=0xFE0F
            | 0xFEFF
            | 0xFFA0
            | 0xFFF0..=0xFFF8
            | 0x1_BCA0..=0x1_BCA3
            | 0x1_D173..=0x1_D17A
            | 0xE_0000..=0xE_0FFF
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(form: IdentityForm, text: &str) -> String {
        let mut out = String::from("before ");
        if form.normalise(text, &mut out) { out["before ".len()..].to_owned() } else { text.to_owned() }
    }

    const FOLD: IdentityForm =
        IdentityForm { case: LetterCase::Fold, separators: Separators::Keep, domain: Domain::Keep };

    #[test]
    fn spellings_of_one_identity_are_equal() {
        for text in [
            "P0042",
            "p0042",
            " P0042",
            "P0042\t",
            "\u{feff}P0042",
            "P\u{200b}0042",
            "P00\u{ad}42",
            "Ｐ００４２",
            "p0042\u{a0}",
            "\u{202e}P0042",
            "P0042\0",
            "𝐏0042",
        ] {
            assert_eq!(normal(FOLD, text), "P0042", "{text:?}");
        }
        assert_eq!(normal(FOLD, "mu\u{308}ller"), normal(FOLD, "MÜLLER"));
        assert_eq!(normal(FOLD, "Strauß"), normal(FOLD, "STRAUSS"));
        assert_eq!(normal(FOLD, "ΣΊΣΥΦΟΣ"), normal(FOLD, "σίσυφος"));
        assert_eq!(normal(FOLD, "anna maria"), "ANNA MARIA");
    }

    #[test]
    fn options_keep_case_and_remove_separators_and_domains() {
        let keep = IdentityForm { case: LetterCase::Keep, ..FOLD };
        assert_eq!(normal(keep, " aB\u{200b}c "), "aBc");
        let ids = IdentityForm { separators: Separators::Remove, ..FOLD };
        assert_eq!(normal(ids, "410105 1990-0101 123x"), "410105199001011 23X".replace(' ', ""));
        assert_eq!(normal(ids, "a-1 b"), "A-1 B");
        assert_eq!(normal(ids, "1 - 2 - "), "12 -");
        let account = IdentityForm { domain: Domain::Remove, ..FOLD };
        assert_eq!(normal(account, r"CORP\anna"), "ANNA");
        assert_eq!(normal(account, "anna@corp.example"), "ANNA");
        assert_eq!(normal(account, "@"), "@");
    }

    #[test]
    fn whole_numbers_are_their_digits() {
        for (number, digits) in [
            ("7.0", Some("7")),
            ("7e0", Some("7")),
            ("70e-1", Some("7")),
            ("-7.00", Some("-7")),
            ("0.0", Some("0")),
            ("4.10105199001011234E17", Some("410105199001011234")),
            ("7.5", None),
            ("7", None),
            ("1e400", None),
        ] {
            assert_eq!(whole_digits(number).as_deref(), digits, "{number}");
        }
    }

    fn form() -> impl Strategy<Value = IdentityForm> {
        (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(case, separators, domain)| IdentityForm {
            case: if case { LetterCase::Fold } else { LetterCase::Keep },
            separators: if separators { Separators::Keep } else { Separators::Remove },
            domain: if domain { Domain::Keep } else { Domain::Remove },
        })
    }

    proptest! {
        /// The quick ways change nothing.
        #[test]
        fn ascii_texts_have_the_form_of_the_slow_way(form in form(), text in "[ -~\\t]{0,12}") {
            let mut slow = String::new();
            form.normalise_fully(&text, &mut slow);
            prop_assert_eq!(normal(form, &text), slow);
        }

        /// Neither case nor invisible characters tell identities apart.
        #[test]
        fn case_and_invisible_characters_do_not_matter(text in "\\PC{0,8}", at in any::<prop::sample::Index>()) {
            let mut noisy: Vec<char> = text.chars().collect();
            noisy.insert(at.index(noisy.len() + 1), '\u{200d}');
            let noisy: String = noisy.into_iter().collect();
            prop_assert_eq!(normal(FOLD, &text.to_lowercase()), normal(FOLD, &text));
            prop_assert_eq!(normal(FOLD, &format!("\u{feff} {noisy} \n")), normal(FOLD, &text));
        }
    }
}
