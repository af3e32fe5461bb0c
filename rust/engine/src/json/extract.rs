//! Extraction: the wanted paths as a tree of keys, walked alongside the record.
//!
//! A key that leads nowhere has its value checked and passed over. Of duplicate keys the last counts,
//! as in every mainstream parser: meeting a wanted key again clears what stood below it.

use super::scan::{Fault, FaultKind, Scanned, Scanner, Token};
use super::text::unescape;
use crate::path::{Path, Step};

/// A place in the tree of wanted paths.
#[derive(Debug, Default)]
struct Node {
    /// Wanted keys of an object here and the node each leads to.
    keys: Vec<(String, usize)>,
    /// Wanted positions of an array here and the node each leads to.
    indices: Vec<(usize, usize)>,
    /// Where the value here is kept, if it is itself wanted.
    slot: Option<usize>,
    /// All slots at or below this node.
    below: Vec<usize>,
}

/// Takes the values at given paths out of records, one record at a time.
#[derive(Debug)]
pub struct Extractor {
    nodes: Vec<Node>,
    tokens: Vec<Token>,
}

impl Extractor {
    /// An extractor for these paths; a path's slot is its position in the list.
    pub fn new(paths: &[Path]) -> Self {
        let mut nodes = vec![Node::default()];
        for (slot, path) in paths.iter().enumerate() {
            let mut at = 0;
            for step in &path.steps {
                let next = nodes.len();
                let found = match step {
                    Step::Key(key) => child(&mut nodes[at].keys, key, next),
                    Step::Index(index) => child(&mut nodes[at].indices, index, next),
                };
                if found == next {
                    nodes.push(Node::default());
                }
                at = found;
                nodes[at].below.push(slot);
            }
            nodes[at].slot = Some(slot);
        }
        Self { nodes, tokens: vec![Token::Absent; paths.len()] }
    }

    /// Reads one record; afterwards [`Self::token`] answers for it.
    ///
    /// # Errors
    /// The first place where `record` is not one JSON object and nothing else.
    pub fn read(&mut self, record: &str) -> Result<(), Fault> {
        self.tokens.fill(Token::Absent);
        let mut scanner = Scanner::new(record.as_bytes(), 0);
        scanner.skip_space();
        if scanner.peek() == Some(b'{') {
            let mut walk = Walk { nodes: &self.nodes, tokens: &mut self.tokens, record };
            walk.object(&mut scanner, 0, 0)?;
        } else {
            scanner.value(0)?;
            return Err(Fault { at: 0, wanted: "an object", kind: FaultKind::NotAnObject });
        }
        scanner.skip_space();
        if scanner.peek().is_some() {
            return Err(scanner.fault("nothing after the object"));
        }
        Ok(())
    }

    /// What stood at the slot's path in the last record read.
    #[inline]
    pub fn token(&self, slot: usize) -> Token {
        self.tokens[slot]
    }
}

/// The node `step` leads to, or `next` as a new one.
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
    record: &'r str,
}

impl Walk<'_, '_> {
    fn object(&mut self, scanner: &mut Scanner<'_>, node: usize, depth: usize) -> Scanned<()> {
        scanner.members(depth, |scanner, start, end, escaped| match self.child(node, start, end, escaped) {
            Some(child) => self.wanted(scanner, child, depth + 1),
            None => scanner.value(depth + 1).map(drop),
        })
    }

    #[inline]
    fn child(&self, node: usize, start: usize, end: usize, escaped: bool) -> Option<usize> {
        let keys = &self.nodes[node].keys;
        if escaped {
            let mut key = String::new();
            unescape(&self.record[start..end], &mut key);
            return keys.iter().find(|(known, _)| *known == key).map(|&(_, node)| node);
        }
        let key = &self.record.as_bytes()[start..end];
        keys.iter().find(|(known, _)| known.as_bytes() == key).map(|&(_, node)| node)
    }

    fn wanted(&mut self, scanner: &mut Scanner<'_>, node: usize, depth: usize) -> Scanned<()> {
        let nodes = self.nodes;
        let here = &nodes[node];
        for &slot in &here.below {
            self.tokens[slot] = Token::Absent;
        }
        let start = scanner.at as u32;
        let token = match scanner.peek() {
            Some(b'{') if !here.keys.is_empty() => {
                self.object(scanner, node, depth)?;
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
        if let Some(slot) = here.slot {
            self.tokens[slot] = token;
        }
        Ok(())
    }
}

/// Hands each element of an array the scanner has accepted to `each`.
pub(crate) fn elements(record: &str, start: u32, mut each: impl FnMut(Token)) {
    let mut scanner = Scanner::new(record.as_bytes(), start as usize);
    // The array was checked when the record was read, so there is no fault to report here.
    let _ = scanner.items(0, |scanner, _| {
        each(scanner.value(1)?);
        Ok(())
    });
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
    fn of_duplicate_keys_the_last_counts_with_all_below_it() {
        let mut e = extractor(&["a.b", "a.c"]);
        e.read(r#"{"a":{"b":1},"a":{"c":2}}"#).unwrap();
        assert_eq!(e.token(0), Token::Absent);
        assert!(matches!(e.token(1), Token::Number { .. }));
    }

    #[test]
    fn depth_is_bounded() {
        let mut e = extractor(&["a"]);
        let nested = |n: usize| format!("{{\"x\":{}1{}}}", "[".repeat(n), "]".repeat(n));
        assert!(e.read(&nested(super::super::MAX_DEPTH - 1)).is_ok());
        assert_eq!(e.read(&nested(super::super::MAX_DEPTH)).unwrap_err().kind, FaultKind::TooDeep);
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

    proptest! {
        /// Against serde_json: the same texts are JSON, and the same value stands at each path.
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
