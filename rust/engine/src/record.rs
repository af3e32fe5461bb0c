//! How a batch of bytes falls into records.

/// One record of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the stream: a Kafka offset or a line number.
    pub position: u64,
    /// Its bytes, without the line end.
    pub value: &'a [u8],
}

/// The lines of a JSON Lines batch, numbered from `first_line`.
///
/// `\n` and `\r\n` end a line, the last one needs no end. Lines of white space alone are the layout of
/// the file, not records; they are passed over but still numbered.
pub fn lines(text: &[u8], first_line: u64) -> impl Iterator<Item = Record<'_>> {
    let mut start = 0;
    let mut number = first_line;
    std::iter::from_fn(move || {
        while start < text.len() {
            let end = memchr::memchr(b'\n', &text[start..]).map_or(text.len(), |at| start + at);
            let line = &text[start..end];
            let value = line.strip_suffix(b"\r").unwrap_or(line);
            let position = number;
            start = end + 1;
            number += 1;
            if !value.trim_ascii().is_empty() {
                return Some(Record { position, value });
            }
        }
        None
    })
}

/// How many line ends `text` has: by how much [`lines`] numbers what follows it further.
pub fn count_lines(text: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', text).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_every_line_and_skips_blank_ones() {
        let found: Vec<_> = lines(b"a\r\n\n  \nb\nc", 7).map(|r| (r.position, r.value)).collect();
        assert_eq!(found, [(7, &b"a"[..]), (10, b"b"), (11, b"c")]);
        assert_eq!(lines(b"", 1).count(), 0);
        assert_eq!(count_lines(b"a\r\n\n  \nb\nc"), 4);
    }
}
