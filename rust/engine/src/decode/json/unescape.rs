//! Unescaping JSON strings.

/// Appends the text of `raw`, the inside of a validated JSON string, to `out`.
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
                length = 6;
                let code = if (0xD800..0xDC00).contains(&high) {
                    length = 12;
                    0x10000 + ((high - 0xD800) << 10) + (unit(rest, at + 8).wrapping_sub(0xDC00) & 0x3FF)
                } else {
                    high
                };
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            plain => out.push(plain as char),
        }
        rest = rest.get(at + length..).unwrap_or("");
    }
    out.push_str(rest);
}

fn unit(text: &str, at: usize) -> u32 {
    text.get(at..at + 4).and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or(0xFFFD)
}
