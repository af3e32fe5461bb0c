//! Extraction compared with serde_json: the same lines are JSON objects, and the same value is found at each path.
//! One extractor reads all lines of an input, so shapes learned from one line are applied to the next.

#![no_main]

use custodes_engine::{Extractor, Path, Token};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const PATHS: [&str; 7] = ["a", "b", "a.b", "a[0]", "a.a.c", "b[1].a", "time"];

fn text_of(record: &str, token: Token) -> Option<Value> {
    let slice = match token {
        Token::Text { start, end, .. } => format!("\"{}\"", &record[start as usize..end as usize]),
        Token::Number { start, end } | Token::Array { start, end } => {
            record[start as usize..end as usize].to_owned()
        }
        _ => return None,
    };
    serde_json::from_str(&slice).ok()
}

fn depth(record: &str) -> usize {
    record.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count()
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let paths: Vec<Path> = PATHS.iter().filter_map(|path| Path::parse(path).ok()).collect();
    let mut extractor = Extractor::new(&paths);
    // Twice: the second time through the shapes learned the first time.
    for record in text.split('\n').chain(text.split('\n')).filter(|record| depth(record) < 100) {
        let read = extractor.read(record);
        match serde_json::from_str::<Value>(record) {
            Err(error) if error.to_string().starts_with("number out of range") => {}
            // serde_json refuses half of a surrogate pair, which RFC 8259 allows.
            Err(_) if record.contains("\\u") => {}
            Err(_) => assert!(read.is_err(), "taken, but no JSON: {record:?}"),
            Ok(parsed) if !parsed.is_object() => assert!(read.is_err(), "taken, but no object: {record:?}"),
            Ok(parsed) => {
                assert!(read.is_ok(), "refused, but JSON: {record:?} {read:?}");
                for (slot, path) in PATHS.iter().enumerate() {
                    let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
                    // In a JSON pointer a number is an index or a key; in a path it is an index.
                    let ambiguous = path.contains('[')
                        && parsed
                            .pointer(&pointer[..pointer.rfind('/').unwrap_or(0)])
                            .is_some_and(Value::is_object);
                    let right = match (extractor.token(slot), parsed.pointer(&pointer)) {
                        _ if ambiguous => true,
                        // The path continues in the elements of an array, where a pointer ends.
                        (Token::Spread { .. }, None) => true,
                        (Token::Absent, None)
                        | (Token::Null, Some(Value::Null))
                        | (Token::Object, Some(Value::Object(_))) => true,
                        (Token::Bool(found), Some(Value::Bool(truth))) => found == *truth,
                        (token, Some(value)) => text_of(record, token).as_ref() == Some(value),
                        _ => false,
                    };
                    assert!(right, "{path} of {record:?}: {:?}", extractor.token(slot));
                }
            }
        }
    }
});
