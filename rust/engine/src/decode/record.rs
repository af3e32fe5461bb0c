//! Records of a batch, and JSON Lines.

/// One record of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Position in the stream: a Kafka offset or a line number.
    pub position: u64,
    /// Its bytes, without the line end.
    pub value: &'a [u8],
    /// The same as text, if it is known to be UTF-8.
    pub(crate) text: Option<&'a str>,
}

impl<'a> Record<'a> {
    /// Creates a record of any bytes.
    pub fn new(position: u64, value: &'a [u8]) -> Self {
        Self { position, value, text: None }
    }
}

/// The lines of a JSON Lines batch, numbered from `first_line`.
///
/// Lines end with `\n` or `\r\n`; the last needs no end. Blank lines are numbered but are not records.
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    bytes: &'a [u8],
    /// The bytes as text, if all are UTF-8. Validating them at once takes half as long as line by line.
    text: Option<&'a str>,
    at: usize,
    first: u64,
    number: u64,
}

impl<'a> Lines<'a> {
    /// The lines of `bytes`; the first has number `first_line`.
    pub fn new(bytes: &'a [u8], first_line: u64) -> Self {
        let text = simdutf8::basic::from_utf8(bytes).ok();
        Self { bytes, text, at: 0, first: first_line, number: first_line }
    }

    /// Number of lines read so far.
    pub fn passed(&self) -> u64 {
        self.number - self.first
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        while self.at < self.bytes.len() {
            let (start, rest) = (self.at, &self.bytes[self.at..]);
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = &rest[..end];
            let value = line.strip_suffix(b"\r").unwrap_or(line);
            let position = self.number;
            self.at += end + 1;
            self.number += 1;
            if !value.trim_ascii_start().is_empty() {
                let text = self.text.and_then(|text| text.get(start..start + value.len()));
                return Some(Record { position, value, text });
            }
        }
        None
    }
}

/// Number of line ends in `text`.
pub fn count_lines(text: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', text).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_every_line_and_skips_blank_ones() {
        let mut lines = Lines::new(b"a\r\n\n  \nb\nc", 7);
        let found: Vec<_> = lines.by_ref().map(|r| (r.position, r.value)).collect();
        assert_eq!(found, [(7, &b"a"[..]), (10, b"b"), (11, b"c")]);
        assert_eq!(lines.passed(), 5);
        assert_eq!(Lines::new(b"", 1).count(), 0);
        assert_eq!(count_lines(b"a\r\n\n  \nb\nc"), 4);
    }

    #[test]
    fn lines_are_text_if_the_batch_is_utf8() {
        let found: Vec<_> = Lines::new("ä\r\nü".as_bytes(), 1).map(|record| record.text).collect();
        assert_eq!(found, [Some("ä"), Some("ü")]);
        let found: Vec<_> = Lines::new(b"a\n\xff\nb", 1).map(|record| (record.value, record.text)).collect();
        assert_eq!(found, [(&b"a"[..], None), (b"\xff", None), (b"b", None)]);
    }
}
