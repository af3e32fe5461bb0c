//! Derived fields: values computed from other fields of the same event, such as the region in an identity number.
//!
//! A field is derived once per event, from fields that precede it in the table. Lists are derived element by element.

use crate::event::fixed::FixedPattern;
use crate::event::lookup::{Columns, Lookup, Tables};
use crate::event::time_zone::Zone;
use crate::event::timestamp::{parse_time_number, parse_time_text};
use crate::foundation::time::Micros;
use crate::plan::{Derivation, DerivationMethod, IdentityForm, TimePart};
use regex::{CaptureLocations, Regex};
use serde_json::Value;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::Arc;
use unicode_security::skeleton;

/// Parses a field's text as a time, in any accepted notation.
pub(crate) fn as_time(text: &str) -> Option<Micros> {
    parse_time_text(text).or_else(|| parse_time_number(text))
}

/// A compiled [`DerivationMethod`].
#[derive(Debug, Clone)]
pub(crate) enum CompiledDerivation {
    Slice(i32, Option<i32>),
    /// With a reusable buffer for the positions of its groups.
    Capture(Regex, RefCell<CaptureLocations>),
    /// A capture whose pattern has a fixed length.
    FixedCapture(FixedPattern),
    /// Resolved by the field, because one text gives several values.
    Split(Box<[char]>),
    Buckets(Vec<f64>),
    Part(TimePart, Zone),
    Anywhere(Regex),
    Together,
    /// Resolved by the field, because a derivation sees only normal forms.
    Written,
    Confusable,
    Table {
        name: String,
        columns: Columns,
        table: Option<Arc<Lookup>>,
    },
}

/// Result of a derivation.
pub(crate) enum Derived {
    Nothing,
    /// A range of the source text.
    Within(usize, usize),
    /// Text appended to the buffer, and whether it is a number.
    Written {
        is_number: bool,
    },
    /// True: the key is in the set.
    True,
}

impl CompiledDerivation {
    /// `form_of` returns the form of an identity field.
    pub(crate) fn compile(
        derivation: &Derivation,
        zone: &Zone,
        form_of: impl Fn(&str) -> Option<IdentityForm>,
    ) -> Result<Self, String> {
        let Derivation { from, by } = derivation;
        let fits = match by {
            DerivationMethod::Anywhere(_) => from.is_empty(),
            DerivationMethod::Table { .. } | DerivationMethod::Together => !from.is_empty(),
            _ => from.len() == 1,
        };
        if !fits {
            return Err("must have one source field; only a table's key can have several".to_owned());
        }
        Ok(match by {
            &DerivationMethod::Slice(first, end) => Self::Slice(first, end),
            DerivationMethod::Capture(pattern) => {
                let regex = compiled(pattern)?;
                let room = RefCell::new(regex.capture_locations());
                FixedPattern::of(pattern).map_or(Self::Capture(regex, room), Self::FixedCapture)
            }
            DerivationMethod::Anywhere(pattern) => Self::Anywhere(compiled(pattern)?),
            DerivationMethod::Together => Self::Together,
            DerivationMethod::Written => Self::Written,
            DerivationMethod::Split(separators) if separators.is_empty() => {
                return Err("there is no character to split at".to_owned());
            }
            DerivationMethod::Split(separators) => Self::Split(separators.chars().collect()),
            DerivationMethod::Confusable => Self::Confusable,
            DerivationMethod::Buckets(bounds) => {
                if bounds.is_empty() || !bounds.is_sorted_by(|a, b| a < b) {
                    return Err("bucket bounds must be ascending".to_owned());
                }
                Self::Buckets(bounds.clone())
            }
            &DerivationMethod::Part(part) => Self::Part(part, zone.clone()),
            DerivationMethod::Table { name, value } => Self::Table {
                name: name.clone(),
                columns: Columns {
                    keys: from.len(),
                    value: value.clone(),
                    forms: from.iter().map(|name| form_of(name)).collect(),
                },
                table: None,
            },
        })
    }

    /// Takes the current version of its table.
    pub(crate) fn refresh(&mut self, tables: &Tables) {
        if let Self::Table { name, columns, table } = self {
            *table = tables.get(name, columns);
        }
    }

    /// Whether it has no result until a table is loaded.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self, Self::Table { table: None, .. })
    }

    /// Whether it reads the whole record instead of fields.
    pub(crate) fn is_of_record(&self) -> bool {
        matches!(self, Self::Anywhere(_))
    }

    /// Derives the value from the source texts; appends it to `out` unless it is part of them.
    pub(crate) fn apply(&self, from: &[&str], out: &mut String) -> Derived {
        let text = from.first().copied().unwrap_or_default();
        match self {
            Self::Slice(first, end) => slice(text, *first, *end),
            Self::Capture(regex, room) => {
                let mut room = room.borrow_mut();
                let found = regex.captures_read(&mut room, text);
                let found = found.and_then(|_| room.get(usize::from(room.len() > 1)));
                found.map_or(Derived::Nothing, |(start, end)| Derived::Within(start, end))
            }
            Self::FixedCapture(fixed) => {
                let found = fixed.capture(text);
                found.map_or(Derived::Nothing, |(start, end)| Derived::Within(start, end))
            }
            Self::Buckets(bounds) => {
                let Ok(number) = text.parse::<f64>() else { return Derived::Nothing };
                let at = bounds.partition_point(|&bound| bound <= number);
                let written = match (at.checked_sub(1).and_then(|before| bounds.get(before)), bounds.get(at))
                {
                    (None, Some(upper)) => write!(out, "<{upper}"),
                    (Some(lower), Some(upper)) => write!(out, "{lower}..{upper}"),
                    (Some(lower), None) => write!(out, ">={lower}"),
                    (None, None) => return Derived::Nothing,
                };
                written.map_or(Derived::Nothing, |()| Derived::Written { is_number: false })
            }
            Self::Anywhere(regex) => {
                let record = serde_json::from_str(text);
                let is_found = record.is_ok_and(|record| is_anywhere(regex, &record));
                if is_found { Derived::True } else { Derived::Nothing }
            }
            Self::Part(part, zone) => {
                let Some(local) = as_time(text).and_then(|time| zone.local(time)) else {
                    return Derived::Nothing;
                };
                let number = part.of(local);
                let written = match number {
                    Some(number) => write!(out, "{number}"),
                    None => write!(out, "{}", local.date()),
                };
                written.map_or(Derived::Nothing, |()| Derived::Written { is_number: number.is_some() })
            }
            Self::Written | Self::Split(_) => Derived::Within(0, text.len()),
            Self::Confusable if is_confusable(text) => Derived::True,
            Self::Confusable => Derived::Nothing,
            Self::Together => {
                out.push_str(&Value::from(from.to_vec()).to_string());
                Derived::Written { is_number: false }
            }
            Self::Table { columns, table, .. } => {
                let key = from.iter().map(|part| part.as_bytes());
                match table.as_ref().and_then(|table| table.get(key)) {
                    None => Derived::Nothing,
                    Some(_) if columns.value.is_none() => Derived::True,
                    Some(value) => {
                        out.push_str(value);
                        Derived::Written { is_number: false }
                    }
                }
            }
        }
    }
}

fn compiled(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| regex_fault(&error))
}

/// The last line of a regex error; the lines before are a drawing.
pub(crate) fn regex_fault(error: &regex::Error) -> String {
    let text = error.to_string();
    let gist = text.lines().last().unwrap_or_default();
    format!("regular expression: {}", gist.strip_prefix("error: ").unwrap_or(gist))
}

/// Whether a text that is not ASCII has an ASCII skeleton: each letter looks like an ASCII letter.
fn is_confusable(text: &str) -> bool {
    !text.is_ascii() && skeleton(text).all(|c| c.is_ascii())
}

fn is_anywhere(regex: &Regex, value: &Value) -> bool {
    match value {
        Value::String(text) => regex.is_match(text),
        Value::Number(number) => regex.is_match(&number.to_string()),
        Value::Array(items) => items.iter().any(|item| is_anywhere(regex, item)),
        Value::Object(fields) => fields.values().any(|field| is_anywhere(regex, field)),
        Value::Null | Value::Bool(_) => false,
    }
}

/// Byte range of characters `first..end`; negative indices count from the end. `Nothing` if the range is empty.
fn slice(text: &str, first: i32, end: Option<i32>) -> Derived {
    let length = if text.is_ascii() { text.len() } else { text.chars().count() } as i64;
    let place = |at: i32| (if at < 0 { length + i64::from(at) } else { i64::from(at) }).clamp(0, length);
    let (first, end) = (place(first), end.map_or(length, place));
    if first >= end {
        return Derived::Nothing;
    }
    let byte_of = |place: i64| {
        if text.is_ascii() {
            return place as usize;
        }
        text.char_indices().nth(place as usize).map_or(text.len(), |(at, _)| at)
    };
    Derived::Within(byte_of(first), byte_of(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derived(by: DerivationMethod, text: &str) -> Option<String> {
        let zone = Zone::named("Asia/Shanghai").unwrap();
        let derivation = Derivation { from: vec!["subject".to_owned()], by };
        let mut out = String::new();
        match CompiledDerivation::compile(&derivation, &zone, |_| None).unwrap().apply(&[text], &mut out) {
            Derived::Nothing => None,
            Derived::Within(start, end) => Some(text[start..end].to_owned()),
            Derived::Written { .. } => Some(out),
            Derived::True => Some("true".to_owned()),
        }
    }

    #[test]
    fn slices_count_characters_also_from_the_end() {
        let cases = [
            (0, Some(6), "410105199001011234", Some("410105")),
            (0, Some(-2), "S000123", Some("S0001")),
            (-3, None, "S000123", Some("123")),
            (0, Some(2), "王小明", Some("王小")),
            (-1, None, "王小明", Some("明")),
            (0, Some(-2), "a", None),
            (5, None, "abc", None),
            (0, Some(99), "abc", Some("abc")),
        ];
        for (first, end, text, wanted) in cases {
            assert_eq!(
                derived(DerivationMethod::Slice(first, end), text).as_deref(),
                wanted,
                "{first}..{end:?} of {text}"
            );
        }
    }

    #[test]
    fn a_capture_is_its_first_group_or_all_of_it() {
        let region = r"^(\d{6})\d{11}[\dX]$".to_owned();
        assert_eq!(
            derived(DerivationMethod::Capture(region.clone()), "41010519900101123X").as_deref(),
            Some("410105")
        );
        assert_eq!(derived(DerivationMethod::Capture(region), "S0001"), None);
        assert_eq!(derived(DerivationMethod::Capture("[0-9]+".to_owned()), "S0001").as_deref(), Some("0001"));
    }

    #[test]
    fn buckets_include_their_lower_bound() {
        for (text, wanted) in
            [("9.5", Some("<10")), ("10", Some("10..100")), ("100", Some(">=100")), ("x", None)]
        {
            assert_eq!(derived(DerivationMethod::Buckets(vec![10.0, 100.0]), text).as_deref(), wanted);
        }
    }

    #[test]
    fn parts_of_a_time_are_local() {
        let time = "2026-01-04T22:30:00Z";
        let parts = [
            (TimePart::Hour, "6"),
            (TimePart::Weekday, "1"),
            (TimePart::Date, "2026-01-05"),
            (TimePart::Week, "2"),
            (TimePart::Year, "2026"),
        ];
        for (part, wanted) in parts {
            assert_eq!(derived(DerivationMethod::Part(part), time).as_deref(), Some(wanted));
        }
        assert_eq!(derived(DerivationMethod::Part(TimePart::Hour), "1767565800").as_deref(), Some("6"));
        assert_eq!(derived(DerivationMethod::Part(TimePart::Hour), "yesterday"), None);
    }
}
