//! Derived fields: values worked out from other fields of the same event, such as the region in an identity number.
//!
//! A field is derived once an event, from fields that come before it in the table. A list is derived element by element.

use crate::fixed::Fixed;
use crate::lookup::{Columns, Lookup, Tables};
use crate::time::{Micros, parse_time_number, parse_time_text};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use regex::{CaptureLocations, Regex};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::Arc;

/// How a field is worked out from others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Derivation {
    /// The fields it is worked out from: one; for a table as many as its key has, together any number.
    pub from: Vec<String>,
    /// In which way.
    pub by: Means,
}

/// The ways to derive a field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Means {
    /// The characters from one place up to another; negative places count from the end, as Python's slices.
    Slice(i32, Option<i32>),
    /// What the first group of a regular expression finds, or all it finds where it has no group.
    Capture(String),
    /// Which interval between these ascending bounds a number is in: `<10`, `10..100`, `>=100`.
    Buckets(Vec<f64>),
    /// A part of a time in the plan's time zone.
    Part(TimePart),
    /// Whether a regular expression is found in any text or number of the record, wherever it stands; from no field.
    Anywhere(String),
    /// The values of several fields as one, a JSON list of texts.
    Together,
    /// What a look-up table has beside it; whether it is in the table where no column is named.
    Table {
        /// The table.
        name: String,
        /// The column.
        #[serde(default)]
        value: Option<String>,
    },
}

/// A part of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimePart {
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// Of the month, 1 to 31.
    Day,
    /// 1 for Monday to 7 for Sunday.
    Weekday,
    /// Of the year as ISO 8601 counts, 1 to 53.
    Week,
    /// 1 to 12.
    Month,
    /// 2026.
    Year,
    /// 2026-01-05.
    Date,
}

impl TimePart {
    pub(crate) fn of(self, time: DateTime) -> Option<i64> {
        Some(match self {
            Self::Minute => time.minute().into(),
            Self::Hour => time.hour().into(),
            Self::Day => time.day().into(),
            Self::Weekday => time.weekday().to_monday_one_offset().into(),
            Self::Week => time.date().iso_week_date().week().into(),
            Self::Month => time.month().into(),
            Self::Year => time.year().into(),
            Self::Date => return None,
        })
    }
}

/// Local time somewhere.
#[derive(Debug, Clone)]
pub(crate) struct Zone(TimeZone);

impl Zone {
    /// A zone by its name in the IANA database.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        let zone = TimeZone::get(name).map(Self);
        zone.map_err(|_| format!("'{name}' is no time zone; wanted one like Europe/Berlin or UTC"))
    }

    /// Local time less UTC, in winter.
    pub(crate) fn offset(&self) -> Micros {
        let at = |time| Timestamp::from_second(time).map_or(0, |time| self.0.to_offset(time).seconds());
        // Either side of a year; it is summer at one of them, if there is summer time.
        Micros::from(at(1_767_225_600).min(at(1_782_864_000))) * 1_000_000
    }

    pub(crate) fn local(&self, time: Micros) -> Option<DateTime> {
        Some(self.0.to_datetime(Timestamp::from_microsecond(time).ok()?))
    }
}

/// Whether there is a time zone of this name in the IANA database.
pub fn is_time_zone(name: &str) -> bool {
    Zone::named(name).is_ok()
}

/// A field's text as a time, however it is written.
pub(crate) fn as_time(text: &str) -> Option<Micros> {
    parse_time_text(text).or_else(|| parse_time_number(text))
}

/// A compiled [`Means`].
#[derive(Debug, Clone)]
pub(crate) enum Derive {
    Slice(i32, Option<i32>),
    /// With room for where its groups are, so that none is made for every text.
    Capture(Regex, RefCell<CaptureLocations>),
    /// The same where the pattern is of fixed length.
    FixedCapture(Fixed),
    Buckets(Vec<f64>),
    Part(TimePart, Zone),
    Anywhere(Regex),
    Together,
    Table {
        name: String,
        columns: Columns,
        table: Option<Arc<Lookup>>,
    },
}

/// What a derivation came to.
pub(crate) enum Derived {
    Nothing,
    /// A part of the text it is from.
    Within(usize, usize),
    /// What was appended to the buffer; whether it is a number.
    Written {
        is_number: bool,
    },
    /// The key is in a set.
    True,
}

impl Derive {
    pub(crate) fn compile(derivation: &Derivation, zone: &Zone) -> Result<Self, String> {
        let Derivation { from, by } = derivation;
        let fits = match by {
            Means::Anywhere(_) => from.is_empty(),
            Means::Table { .. } | Means::Together => !from.is_empty(),
            _ => from.len() == 1,
        };
        if !fits {
            return Err("is derived from one field; only a table's key can have several".to_owned());
        }
        Ok(match by {
            &Means::Slice(first, end) => Self::Slice(first, end),
            Means::Capture(pattern) => {
                let regex = compiled(pattern)?;
                let room = RefCell::new(regex.capture_locations());
                Fixed::of(pattern).map_or(Self::Capture(regex, room), Self::FixedCapture)
            }
            Means::Anywhere(pattern) => Self::Anywhere(compiled(pattern)?),
            Means::Together => Self::Together,
            Means::Buckets(bounds) => {
                if bounds.is_empty() || !bounds.is_sorted_by(|a, b| a < b) {
                    return Err("buckets want bounds that ascend".to_owned());
                }
                Self::Buckets(bounds.clone())
            }
            &Means::Part(part) => Self::Part(part, zone.clone()),
            Means::Table { name, value } => Self::Table {
                name: name.clone(),
                columns: Columns { keys: from.len(), value: value.clone() },
                table: None,
            },
        })
    }

    /// Takes the table that is in force.
    pub(crate) fn refresh(&mut self, tables: &Tables) {
        if let Self::Table { name, columns, table } = self {
            *table = tables.get(name, columns);
        }
    }

    /// Whether nothing can come of it as long as no other table is in force.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self, Self::Table { table: None, .. })
    }

    /// Whether it is worked out from the whole record, and from no field.
    pub(crate) fn is_of_record(&self) -> bool {
        matches!(self, Self::Anywhere(_))
    }

    /// Works the field out from the texts it is from; writes it to `out` where it is no part of them.
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

/// The gist of a regex error, which comes as several lines with a drawing.
pub(crate) fn regex_fault(error: &regex::Error) -> String {
    let text = error.to_string();
    let gist = text.lines().last().unwrap_or_default();
    format!("regular expression: {}", gist.strip_prefix("error: ").unwrap_or(gist))
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

/// The bytes of characters `first..end`, where negative places count from the end; nothing where there are none.
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

    fn derived(by: Means, text: &str) -> Option<String> {
        let zone = Zone::named("Asia/Shanghai").unwrap();
        let derivation = Derivation { from: vec!["subject".to_owned()], by };
        let mut out = String::new();
        match Derive::compile(&derivation, &zone).unwrap().apply(&[text], &mut out) {
            Derived::Nothing => None,
            Derived::Within(start, end) => Some(text[start..end].to_owned()),
            Derived::Written { .. } => Some(out),
            Derived::True => Some("true".to_owned()),
        }
    }

    #[test]
    fn slices_are_of_characters_and_may_count_from_the_end() {
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
                derived(Means::Slice(first, end), text).as_deref(),
                wanted,
                "{first}..{end:?} of {text}"
            );
        }
    }

    #[test]
    fn a_capture_is_its_first_group_or_all_of_it() {
        let region = r"^(\d{6})\d{11}[\dX]$".to_owned();
        assert_eq!(derived(Means::Capture(region.clone()), "41010519900101123X").as_deref(), Some("410105"));
        assert_eq!(derived(Means::Capture(region), "S0001"), None);
        assert_eq!(derived(Means::Capture("[0-9]+".to_owned()), "S0001").as_deref(), Some("0001"));
    }

    #[test]
    fn buckets_take_their_lower_bound_in() {
        for (text, wanted) in
            [("9.5", Some("<10")), ("10", Some("10..100")), ("100", Some(">=100")), ("x", None)]
        {
            assert_eq!(derived(Means::Buckets(vec![10.0, 100.0]), text).as_deref(), wanted);
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
            assert_eq!(derived(Means::Part(part), time).as_deref(), Some(wanted));
        }
        assert_eq!(derived(Means::Part(TimePart::Hour), "1767565800").as_deref(), Some("6"));
        assert_eq!(derived(Means::Part(TimePart::Hour), "yesterday"), None);
    }
}
