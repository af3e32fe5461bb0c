//! Unescaping JSON strings.

/// Appends the text of `raw`, the inside of a validated JSON string, to `out`. Half of a surrogate pair becomes U+FFFD.
pub(crate) fn unescape(raw: &str, out: &mut String) {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        let escape = rest.as_bytes().get(at + 1).copied().unwrap_or(b'\\');
        let mut length = 2;
        match escape {
            b'b' => out.push('\u{8}'),
            b'f' => out.push('\u{c}'),
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            b'u' => {
                let high = unit(rest, at + 2);
                let low = low_half(rest, at + 6).filter(|_| (0xD800..0xDC00).contains(&high));
                length = if low.is_some() { 12 } else { 6 };
                let code = low.map_or(high, |low| 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00));
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            plain => out.push(plain as char),
        }
        rest = rest.get(at + length..).unwrap_or("");
    }
    out.push_str(rest);
}

/// The low half of a surrogate pair, if there is one.
fn low_half(text: &str, at: usize) -> Option<u32> {
    let low = unit(text, at + 2);
    (text.get(at..at + 2) == Some("\\u") && (0xDC00..0xE000).contains(&low)).then_some(low)
}

fn unit(text: &str, at: usize) -> u32 {
    text.get(at..at + 4).and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or(0xFFFD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_surrogate_pair_is_a_replacement_character() {
        for (raw, text) in [
            (r"\ud83d\ude00!", "😀!"),
            (r"a\ud83d", "a\u{FFFD}"),
            (r"\ude00b", "\u{FFFD}b"),
            (r"\ud83dx\ude00", "\u{FFFD}x\u{FFFD}"),
            (r"\ud83d\ud83d\ude00", "\u{FFFD}😀"),
            (r"\ud83d\n", "\u{FFFD}\n"),
        ] {
            let mut out = String::new();
            unescape(raw, &mut out);
            assert_eq!(out, text, "{raw}");
        }
    }
}
