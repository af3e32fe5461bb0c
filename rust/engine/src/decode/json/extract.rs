//! Extraction: the wanted paths as a tree of keys, walked in parallel with the record.
//!
//! A path that meets an array where it has a key continues in every element of the array.
//!
//! Values of other keys are validated and skipped. If a key occurs twice, the last one wins, as in all common
//! parsers: meeting a wanted key again clears everything below it.
//!
//! Most records are not walked: their shape was seen before ([`super::shapes`]).

use super::scan::{Fault, FaultKind, Scanned, Scanner, Token};
use super::scan16::plain_until;
use super::shapes::{ReadValue, Shapes, UNWANTED, ValueSlot};
use super::unescape::unescape;
use crate::decode::path::{Path, PathStep};
use smallvec::SmallVec;

/// Index of a node in the tree of wanted paths.
type NodeId = usize;

/// A node of the tree of wanted paths.
#[derive(Debug, Clone, Default)]
struct Node {
    /// Wanted keys of an object, with their nodes.
    keys: Vec<(String, NodeId)>,
    /// Wanted indices of an array, with their nodes.
    indices: Vec<(usize, NodeId)>,
    /// Slot of the value, if the value itself is wanted.
    slot: Option<usize>,
    /// Slots of this node and all nodes below it.
    below: Vec<usize>,
    /// Number of steps that lead here.
    depth: u32,
}

impl Node {
    /// Whether an object here is only on the way to wanted values.
    fn is_path_only(&self) -> bool {
        self.slot.is_none() && !self.keys.is_empty()
    }
}

/// Extracts the values at given paths from one record at a time.
#[derive(Debug, Clone)]
pub struct Extractor {
    paths: Vec<Path>,
    nodes: Vec<Node>,
    tokens: Vec<Token>,
    shapes: Shapes,
    /// Values of the current record, if it is parsed in full.
    met: Vec<ReadValue>,
}

impl Extractor {
    /// Creates an extractor. The slot of a path is its index in the list.
    pub fn new(paths: &[Path]) -> Self {
        let mut nodes = vec![Node::default()];
        for (slot, path) in paths.iter().enumerate() {
            let mut at = 0;
            for step in &path.steps {
                let next = nodes.len();
                let found = match step {
                    PathStep::Key(key) => child(&mut nodes[at].keys, key, next),
                    PathStep::Index(index) => child(&mut nodes[at].indices, index, next),
                };
                if found == next {
                    nodes.push(Node { depth: nodes[at].depth + 1, ..Node::default() });
                }
                at = found;
                nodes[at].below.push(slot);
            }
            nodes[at].slot = Some(slot);
        }
        let tokens = vec![Token::Absent; paths.len()];
        Self { paths: paths.to_vec(), nodes, tokens, shapes: Shapes::new(), met: Vec::new() }
    }

    /// Reads one record; its values are then available through [`Self::token`].
    ///
    /// # Errors
    /// The first position at which `record` is not exactly one JSON object.
    pub fn read(&mut self, record: &str) -> Result<(), Fault> {
        self.tokens.fill(Token::Absent);
        if self.read_by_shape(record) {
            return Ok(());
        }
        self.tokens.fill(Token::Absent);
        self.read_in_full(record)
    }

    /// Reads a record of a known shape. Returns false if the shape is unknown; the record may still be valid.
    #[inline]
    fn read_by_shape(&mut self, record: &str) -> bool {
        let bytes = record.as_bytes();
        let (mut from, mut at) = (self.shapes.first, 0);
        while let Some(step) = self.shapes.step(from, bytes, at) {
            at += step.length as usize;
            from = step.next;
            match step.spot {
                ValueSlot::Text { slot } => {
                    let start = at as u32;
                    let mut escaped = false;
                    at = plain_until(bytes, at);
                    if bytes.get(at) != Some(&b'"') {
                        let mut scanner = Scanner::new(bytes, at);
                        let Ok(has_escapes) = scanner.odd_characters() else { return false };
                        (at, escaped) = (scanner.at, has_escapes);
                    }
                    // Values that are not wanted have no token.
                    if let Some(token) = self.tokens.get_mut(slot as usize) {
                        *token = Token::Text { start, end: at as u32, escaped };
                    }
                }
                ValueSlot::Any { node, depth } => {
                    let Some(end) = self.read_any(record, at, node, depth) else { return false };
                    at = end;
                }
                ValueSlot::End => return at == bytes.len(),
            }
        }
        false
    }

    /// Reads a value of any type; returns its end.
    #[inline(never)] // few values are not strings, and reading strings needs the registers
    fn read_any(&mut self, record: &str, at: usize, node: u32, depth: u32) -> Option<usize> {
        let mut scanner = Scanner::new(record.as_bytes(), at);
        if node == UNWANTED {
            scanner.value(depth as usize).ok()?;
        } else {
            let Self { nodes, tokens, met, .. } = self;
            let mut walk = Walk { nodes, tokens, met, record, repeats: false };
            walk.wanted(&mut scanner, node as usize, depth as usize).ok()?;
        }
        Some(scanner.at)
    }

    #[cold]
    fn read_in_full(&mut self, record: &str) -> Result<(), Fault> {
        self.met.clear();
        let mut scanner = Scanner::new(record.as_bytes(), 0);
        scanner.skip_space();
        if scanner.peek() != Some(b'{') {
            scanner.value(0)?;
            return Err(Fault { at: 0, wanted: "an object", kind: FaultKind::NotAnObject });
        }
        let Self { nodes, tokens, met, .. } = self;
        let mut walk = Walk { nodes, tokens, met, record, repeats: false };
        walk.object(&mut scanner, 0, 0)?;
        let has_shape = !walk.repeats;
        scanner.skip_space();
        if scanner.peek().is_some() {
            return Err(scanner.fault("the end of the record"));
        }
        if has_shape {
            self.shapes.learn(record.as_bytes(), &self.met);
        }
        Ok(())
    }

    /// Fills the slots that are empty after a faulty record: each with the value after the last key of its path, if the
    /// record has that key anywhere. The result is a guess, good enough to tell whose record was rejected.
    #[cold]
    pub(crate) fn salvage(&mut self, record: &str) {
        for (token, path) in self.tokens.iter_mut().zip(&self.paths) {
            if let (Token::Absent, Some(PathStep::Key(key))) = (&token, path.steps.last()) {
                let quoted = format!("\"{key}\"");
                let values = memchr::memmem::find_iter(record.as_bytes(), &quoted);
                let values = values.filter_map(|at| value_after(record, at + quoted.len()));
                *token = values.into_iter().next().unwrap_or_default();
            }
        }
    }

    /// The value at the slot's path in the last record.
    #[inline]
    pub fn token(&self, slot: usize) -> Token {
        self.tokens[slot]
    }

    /// Calls `each` for every element of the slot's array, nested arrays included, or for the value at the rest of the
    /// slot's path in every element of an array of objects. An element without such a value is skipped.
    pub fn elements(&self, record: &str, slot: usize, each: &mut impl FnMut(Token)) {
        let (start, steps) = match self.tokens[slot] {
            Token::Array { start, .. } => (start, &[][..]),
            Token::Spread { start, steps } => (start, &self.paths[slot].steps[steps as usize..]),
            _ => return,
        };
        // The record was validated when it was read, so this cannot fail.
        let _ = spread(&mut Scanner::new(record.as_bytes(), start as usize), record, steps, each);
    }
}

/// Reads a value and calls `each` for the values at the end of `steps` in it. Arrays are entered.
fn spread(
    scanner: &mut Scanner<'_>,
    record: &str,
    steps: &[PathStep],
    each: &mut impl FnMut(Token),
) -> Scanned<()> {
    match (scanner.peek(), steps.split_first()) {
        (Some(b'['), Some((&PathStep::Index(wanted), rest))) => scanner.items(0, |scanner, index| {
            if index == wanted { spread(scanner, record, rest, each) } else { scanner.value(1).map(drop) }
        }),
        (Some(b'['), _) => scanner.items(0, |scanner, _| spread(scanner, record, steps, each)),
        (Some(b'{'), Some((PathStep::Key(wanted), rest))) => {
            // The last of several equal keys wins.
            let mut found = None;
            scanner.members(0, |scanner, start, end, escaped| {
                let raw = &record[start..end];
                let is_it = if escaped { unescaped(raw) == *wanted } else { raw == wanted };
                if is_it {
                    found = Some(scanner.at);
                }
                scanner.value(1).map(drop)
            })?;
            match found {
                Some(at) => spread(&mut Scanner::new(record.as_bytes(), at), record, rest, each),
                None => Ok(()),
            }
        }
        (_, None) => {
            each(scanner.value(0)?);
            Ok(())
        }
        _ => scanner.value(0).map(drop),
    }
}

/// The text or number after a key that ends at `at`, and a colon.
fn value_after(record: &str, at: usize) -> Option<Token> {
    let mut scanner = Scanner::new(record.as_bytes(), at);
    scanner.skip_space();
    scanner.expect(b':', "':' after a key").ok()?;
    scanner.skip_space();
    let token = scanner.value(0).ok()?;
    matches!(token, Token::Text { .. } | Token::Number { .. }).then_some(token)
}

fn unescaped(raw: &str) -> String {
    let mut text = String::new();
    unescape(raw, &mut text);
    text
}

/// Returns the node of `step`, adding `next` if it is new.
fn child<K: Clone + PartialEq>(children: &mut Vec<(K, usize)>, step: &K, next: usize) -> usize {
    if let Some(&(_, node)) = children.iter().find(|(known, _)| known == step) {
        return node;
    }
    children.push((step.clone(), next));
    next
}

/// The walk through one record.
struct Walk<'e, 'r> {
    nodes: &'e [Node],
    tokens: &'e mut [Token],
    met: &'e mut Vec<ReadValue>,
    record: &'r str,
    /// Whether a wanted key occurred twice.
    repeats: bool,
}

impl Walk<'_, '_> {
    /// Reads an object with wanted members, down to the values that shapes treat as a unit.
    fn object(&mut self, scanner: &mut Scanner<'_>, node: NodeId, depth: usize) -> Scanned<()> {
        let mut seen: SmallVec<[NodeId; 8]> = SmallVec::new();
        scanner.members(depth, |scanner, start, end, escaped| {
            let child = self.child(node, start, end, escaped);
            if let Some(child) = child {
                self.repeats |= seen.contains(&child);
                seen.push(child);
                if scanner.peek() == Some(b'{') && self.nodes[child].is_path_only() {
                    self.clear(child);
                    return self.object(scanner, child, depth + 1);
                }
            }
            let start = scanner.at;
            match child {
                Some(child) => self.wanted(scanner, child, depth + 1)?,
                None => scanner.value(depth + 1).map(drop)?,
            }
            let end = scanner.at;
            self.met.push(if scanner.bytes[start] == b'"' {
                let slot =
                    child.and_then(|child| self.nodes[child].slot).map_or(UNWANTED, |slot| slot as u32);
                ReadValue { start: start + 1, end: end - 1, spot: ValueSlot::Text { slot } }
            } else {
                let node = child.map_or(UNWANTED, |child| child as u32);
                ReadValue { start, end, spot: ValueSlot::Any { node, depth: depth as u32 + 1 } }
            });
            Ok(())
        })
    }

    /// Reads an object inside such a value.
    fn inner_object(&mut self, scanner: &mut Scanner<'_>, node: NodeId, depth: usize) -> Scanned<()> {
        scanner.members(depth, |scanner, start, end, escaped| match self.child(node, start, end, escaped) {
            Some(child) => self.wanted(scanner, child, depth + 1),
            None => scanner.value(depth + 1).map(drop),
        })
    }

    /// Discards the values below a key that occurs again.
    fn clear(&mut self, node: NodeId) {
        for &slot in &self.nodes[node].below {
            self.tokens[slot] = Token::Absent;
        }
    }

    #[inline]
    fn child(&self, node: NodeId, start: usize, end: usize, escaped: bool) -> Option<NodeId> {
        let keys = &self.nodes[node].keys;
        if escaped {
            let key = unescaped(&self.record[start..end]);
            return keys.iter().find(|(known, _)| *known == key).map(|&(_, node)| node);
        }
        let key = &self.record.as_bytes()[start..end];
        keys.iter().find(|(known, _)| known.as_bytes() == key).map(|&(_, node)| node)
    }

    fn wanted(&mut self, scanner: &mut Scanner<'_>, node: NodeId, depth: usize) -> Scanned<()> {
        let nodes = self.nodes;
        let here = &nodes[node];
        self.clear(node);
        let start = scanner.at as u32;
        let token = match scanner.peek() {
            Some(b'{') if !here.keys.is_empty() => {
                self.inner_object(scanner, node, depth)?;
                Token::Object
            }
            Some(b'[') if !here.indices.is_empty() => {
                scanner.items(depth, |scanner, index| {
                    match here.indices.iter().find(|(wanted, _)| *wanted == index) {
                        Some(&(_, child)) => self.wanted(scanner, child, depth + 1),
                        None => scanner.value(depth + 1).map(drop),
                    }
                })?;
                Token::Array { start, end: scanner.at as u32 }
            }
            _ => scanner.value(depth)?,
        };
        if let Token::Array { start, .. } = token {
            for slot in here.keys.iter().flat_map(|&(_, child)| &nodes[child].below) {
                self.tokens[*slot] = Token::Spread { start, steps: here.depth };
            }
        }
        if let Some(slot) = here.slot {
            self.tokens[slot] = token;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn extractor(paths: &[&str]) -> Extractor {
        Extractor::new(&paths.iter().map(|p| Path::parse(p).unwrap()).collect::<Vec<_>>())
    }

    fn text(record: &str, token: Token) -> String {
        match token {
            Token::Text { start, end, .. } => {
                let mut out = String::new();
                unescape(&record[start as usize..end as usize], &mut out);
                out
            }
            Token::Number { start, end } | Token::Array { start, end } => {
                record[start as usize..end as usize].to_owned()
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn finds_nested_indexed_and_escaped() {
        let mut e = extractor(&["a.b", "l[1].x", "l", "n", "gone", "a"]);
        let record = r#" {"\u0061": {"b": "x\ud83d\ude00\n"}, "l": [0, {"x": -1.5e3}], "n": null} "#;
        e.read(record).unwrap();
        assert_eq!(text(record, e.token(0)), "x😀\n");
        assert_eq!(text(record, e.token(1)), "-1.5e3");
        assert_eq!(text(record, e.token(2)), r#"[0, {"x": -1.5e3}]"#);
        assert_eq!((e.token(3), e.token(4), e.token(5)), (Token::Null, Token::Absent, Token::Object));
    }

    #[test]
    fn last_duplicate_key_wins_with_everything_below_it() {
        let mut e = extractor(&["a.b", "a.c"]);
        e.read(r#"{"a":{"b":1},"a":{"c":2}}"#).unwrap();
        assert_eq!(e.token(0), Token::Absent);
        assert!(matches!(e.token(1), Token::Number { .. }));
    }

    #[test]
    fn depth_is_bounded() {
        let mut e = extractor(&["a"]);
        let nested = |n: usize| format!("{{\"x\":{}1{}}}", "[".repeat(n), "]".repeat(n));
        assert!(e.read(&nested(crate::decode::json::scan::MAX_DEPTH - 1)).is_ok());
        assert_eq!(
            e.read(&nested(crate::decode::json::scan::MAX_DEPTH)).unwrap_err().kind,
            FaultKind::TooDeep
        );
        assert!(e.read(&nested(1_000_000)).is_err());
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        let any_value = leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map("[abc\"\\\\é]{0,2}", inner, 0..5)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        });
        prop::collection::hash_map("[abc]", any_value, 0..4)
            .prop_map(|m| Value::Object(m.into_iter().collect()))
    }

    /// The values at the end of a path that continues in every element of an array.
    fn at_end<'v>(value: &'v Value, steps: &[PathStep], found: &mut Vec<&'v Value>) {
        match (value, steps.split_first()) {
            (Value::Array(items), Some((PathStep::Index(at), rest))) => {
                items.get(*at).into_iter().for_each(|item| at_end(item, rest, found));
            }
            (Value::Array(items), _) => items.iter().for_each(|item| at_end(item, steps, found)),
            (Value::Object(fields), Some((PathStep::Key(key), rest))) => {
                fields.get(key).into_iter().for_each(|field| at_end(field, rest, found));
            }
            (value, None) => found.push(value),
            _ => {}
        }
    }

    /// The value of a token; `None` for an object.
    fn json(record: &str, token: Token) -> Option<Value> {
        match token {
            Token::Text { .. } => Some(Value::from(text(record, token))),
            Token::Number { start, end } => serde_json::from_str(&record[start as usize..end as usize]).ok(),
            Token::Bool(truth) => Some(Value::from(truth)),
            Token::Null => Some(Value::Null),
            _ => None,
        }
    }

    #[test]
    fn a_path_continues_in_every_element_of_an_array() {
        let record =
            r#"{"p":[{"id":"a"},{"id":["b",null,["c"]]},{"x":1},7,{"id":"d","id":"e"}],"o":{"id":1}}"#;
        let mut e = extractor(&["p.id", "p[1].id", "p[*].id", "o[*].id", "p"]);
        e.read(record).unwrap();
        let found = |slot| {
            let mut found = Vec::new();
            e.elements(record, slot, &mut |token| found.extend(json(record, token)));
            serde_json::to_string(&found).unwrap()
        };
        assert_eq!(found(0), r#"["a","b",null,"c","e"]"#);
        assert_eq!(found(1), r#"["b",null,"c"]"#);
        assert_eq!(found(2), found(0));
        assert!(matches!(e.token(3), Token::Number { .. }));
        assert!(matches!(e.token(4), Token::Array { .. }));
    }

    #[test]
    fn values_of_a_faulty_record_are_salvaged() {
        for record in [
            r#"[{"time":1,"who":{"id":"P1"}}]"#,
            r#"{"x":"\q","time":1,"who":{"id":"P1"}"#,
            "\u{feff}{\"who\":{\"id\" : \"P1\"},\"time\":1}",
            r#"{"rows":NaN,"time":1,"id":true,"id":"P1"}"#,
        ] {
            let mut e = extractor(&["time", "who.id", "gone"]);
            assert!(e.read(record).is_err());
            e.salvage(record);
            assert_eq!(
                (text(record, e.token(0)), text(record, e.token(1))),
                ("1".to_owned(), "P1".to_owned())
            );
            assert_eq!(e.token(2), Token::Absent);
        }
    }

    proptest! {
        /// An extractor that has read other records returns the same as a new one, for records that differ in a few
        /// bytes.
        #[test]
        fn shapes_change_nothing(document in document(), others in prop::collection::vec(document(), 0..4),
                                 edits in prop::collection::vec((any::<prop::sample::Index>(), "[ -~]?"), 0..12)) {
            let paths = ["a", "b", "a.b", "a[0]", "a.a.c", "b[1].a", "c.b"];
            let mut used = extractor(&paths);
            let mut records: Vec<String> = others.iter().chain([&document]).map(Value::to_string).collect();
            for (at, with) in edits {
                let mut record = document.to_string();
                let mut at = at.index(record.len());
                while !record.is_char_boundary(at) { at -= 1; }
                let end = at + record[at..].chars().next().map_or(0, char::len_utf8);
                record.replace_range(at..end, &with);
                records.push(record);
            }
            for record in records.iter().chain(&records) {
                let mut fresh = extractor(&paths);
                prop_assert_eq!(used.read(record), fresh.read_in_full(record), "{}", record);
                if fresh.read(record).is_ok() {
                    prop_assert_eq!(&used.tokens, &fresh.tokens, "{}", record);
                }
            }
        }

        /// Compared with serde_json: the same texts are JSON, and the same values are found.
        #[test]
        fn agrees_with_serde_json(document in document(), cut in any::<prop::sample::Index>(),
                                  flip in any::<Option<(prop::sample::Index, char)>>()) {
            let mut record = document.to_string();
            if let Some((at, to)) = flip {
                let mut chars: Vec<char> = record.chars().collect();
                let at = at.index(chars.len());
                chars[at] = to;
                record = chars.into_iter().collect();
            } else if cut.index(4) == 0 {
                let mut end = cut.index(record.len());
                while !record.is_char_boundary(end) { end -= 1; }
                record.truncate(end);
            }
            let paths = ["a", "b", "a.b", "a[0]", "a.a.c", "b[1].a"];
            let mut e = extractor(&paths);
            let read = e.read(&record);
            match serde_json::from_str::<Value>(&record) {
                Err(error) if error.to_string().starts_with("number out of range") => {}
                Err(error) => prop_assert!(read.is_err(), "{record} {error}"),
                Ok(parsed) if !parsed.is_object() => prop_assert!(read.is_err()),
                Ok(parsed) => {
                    prop_assert!(read.is_ok(), "{record} {read:?}");
                    for (slot, path) in paths.iter().enumerate() {
                        let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
                        let right = match (e.token(slot), parsed.pointer(&pointer)) {
                            (Token::Spread { .. }, None) => {
                                let (mut found, mut wanted) = (Vec::new(), Vec::new());
                                e.elements(&record, slot, &mut |token| found.push(json(&record, token)));
                                at_end(&parsed, &Path::parse(path).unwrap().steps, &mut wanted);
                                let same = |(found, wanted): (&Option<Value>, &&Value)| {
                                    found.as_ref().map_or(wanted.is_object(), |found| found == *wanted)
                                };
                                found.len() == wanted.len() && found.iter().zip(&wanted).all(same)
                            }
                            (Token::Absent, None)
                            | (Token::Null, Some(Value::Null))
                            | (Token::Object, Some(Value::Object(_))) => true,
                            (Token::Bool(found), Some(Value::Bool(b))) => found == *b,
                            (token @ Token::Text { .. }, Some(Value::String(s))) => text(&record, token) == *s,
                            (token @ (Token::Number { .. } | Token::Array { .. }), Some(value)) => {
                                serde_json::from_str::<Value>(&text(&record, token)).ok().as_ref() == Some(value)
                            }
                            _ => false,
                        };
                        prop_assert!(right, "{path} of {record}: {:?}", e.token(slot));
                    }
                }
            }
        }
    }
}
