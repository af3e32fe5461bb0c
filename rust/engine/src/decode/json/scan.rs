//! Validating scanner for one JSON text (RFC 8259), over bytes known to be UTF-8.

use super::scan16::plain_until;

/// Maximum nesting of objects and arrays, so that no record can exhaust the stack.
pub const MAX_DEPTH: usize = 128;

/// Type of a value and the byte range of its text in the record, if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Token {
    /// No value.
    #[default]
    Absent,
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as written.
    Number {
        /// First byte.
        start: u32,
        /// One past the last byte.
        end: u32,
    },
    /// A string without its quotes.
    Text {
        /// First byte.
        start: u32,
        /// One past the last byte.
        end: u32,
        /// Whether it contains a backslash and must be unescaped.
        escaped: bool,
    },
    /// An array with its brackets.
    Array {
        /// First byte.
        start: u32,
        /// One past the last byte.
        end: u32,
    },
    /// An array of objects on the way to a value: the path continues in each element.
    Spread {
        /// First byte of the array.
        start: u32,
        /// Number of steps of the path that lead to the array.
        steps: u32,
    },
    /// An object.
    Object,
}

/// Position and reason of a rejected text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Byte position in the record.
    pub at: usize,
    /// The expected input at this position.
    pub wanted: &'static str,
    /// Kind of the fault.
    pub kind: FaultKind,
}

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Not JSON.
    Syntax,
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// JSON, but not an object.
    NotAnObject,
}

pub(super) type Scanned<T> = Result<T, Fault>;

/// A position in a text. Every method starts at the first byte of its production and ends one past its last.
pub(super) struct Scanner<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    pub(super) fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    pub(super) fn expect(&mut self, byte: u8, wanted: &'static str) -> Scanned<()> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(self.fault(wanted))
    }

    #[cold]
    pub(super) fn fault(&self, wanted: &'static str) -> Fault {
        Fault { at: self.at, wanted, kind: FaultKind::Syntax }
    }

    #[cold]
    pub(super) fn too_deep(&self) -> Fault {
        Fault { at: self.at, wanted: "less nesting", kind: FaultKind::TooDeep }
    }

    /// Reads a string from its opening quote. Returns the range between the quotes and whether it has escapes.
    #[inline]
    pub(super) fn string(&mut self) -> Scanned<(usize, usize, bool)> {
        self.expect(b'"', "a string")?;
        let start = self.at;
        let escaped = self.characters()?;
        let end = self.at;
        self.at += 1;
        Ok((start, end, escaped))
    }

    /// Reads the characters of a string up to its closing quote. Returns whether it has escapes.
    #[inline]
    fn characters(&mut self) -> Scanned<bool> {
        self.at = plain_until(self.bytes, self.at);
        if self.peek() == Some(b'"') { Ok(false) } else { self.odd_characters() }
    }

    /// [`Self::characters`], from the first character that is not plain.
    #[cold]
    pub(super) fn odd_characters(&mut self) -> Scanned<bool> {
        let mut escaped = false;
        loop {
            match self.peek() {
                Some(b'"') => return Ok(escaped),
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0..0x20) => return Err(self.fault("an escaped control character")),
                Some(_) => self.at += 1,
                None => return Err(self.fault("the string's end")),
            }
            self.at = plain_until(self.bytes, self.at);
        }
    }

    fn escape(&mut self) -> Scanned<()> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                // A surrogate without its other half is allowed (RFC 8259, section 8.2) and read as U+FFFD.
                self.hex4()?;
            }
            _ => return Err(self.fault("an escape")),
        }
        Ok(())
    }

    fn hex4(&mut self) -> Scanned<()> {
        for _ in 0..4 {
            if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                return Err(self.fault("four hex digits"));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn digits(&mut self) -> Scanned<()> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.fault("a digit"));
        }
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Scanned<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn literal(&mut self, word: &'static str) -> Scanned<()> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.fault("true, false or null"))
    }

    /// Reads any value. `depth` is the number of objects and arrays around it.
    pub(super) fn value(&mut self, depth: usize) -> Scanned<Token> {
        let start = self.at as u32;
        match self.peek() {
            Some(b'"') => {
                let (start, end, escaped) = self.string()?;
                Ok(Token::Text { start: start as u32, end: end as u32, escaped })
            }
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                Ok(Token::Number { start, end: self.at as u32 })
            }
            Some(b't') => self.literal("true").map(|()| Token::Bool(true)),
            Some(b'f') => self.literal("false").map(|()| Token::Bool(false)),
            Some(b'n') => self.literal("null").map(|()| Token::Null),
            Some(b'{') => {
                self.members(depth, |scanner, _, _, _| scanner.value(depth + 1).map(drop))?;
                Ok(Token::Object)
            }
            Some(b'[') => {
                self.items(depth, |scanner, _| scanner.value(depth + 1).map(drop))?;
                Ok(Token::Array { start, end: self.at as u32 })
            }
            _ => Err(self.fault("a value")),
        }
    }

    /// Reads an object. `member` gets each key's range and whether it has escapes, and must consume the value.
    #[inline]
    pub(super) fn members(
        &mut self,
        depth: usize,
        mut member: impl FnMut(&mut Self, usize, usize, bool) -> Scanned<()>,
    ) -> Scanned<()> {
        if depth >= MAX_DEPTH {
            return Err(self.too_deep());
        }
        self.expect(b'{', "an object")?;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let (start, end, escaped) = self.string()?;
            self.skip_space();
            self.expect(b':', "':' after a key")?;
            self.skip_space();
            member(self, start, end, escaped)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.fault("',' or '}'")),
            }
            self.skip_space();
        }
    }

    /// Reads an array. `item` gets each element's index and must consume the element.
    #[inline]
    pub(super) fn items(
        &mut self,
        depth: usize,
        mut item: impl FnMut(&mut Self, usize) -> Scanned<()>,
    ) -> Scanned<()> {
        if depth >= MAX_DEPTH {
            return Err(self.too_deep());
        }
        self.expect(b'[', "an array")?;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        for index in 0.. {
            item(self, index)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.fault("',' or ']'")),
            }
            self.skip_space();
        }
        Ok(())
    }
}
