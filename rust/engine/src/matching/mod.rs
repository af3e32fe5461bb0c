//! Matching: the condition of a rule, compiled and evaluated over one event.
//!
//! Text is compared without regard to case unless a pattern is `cased`. ASCII is compared in place; patterns with
//! other letters use a regular expression with Unicode case folding. A field with a normal form (an identity, an action)
//! passes a test if either the normal form or the value as written does. Numbers are compared exactly.

use crate::event::derive::{as_time, regex_fault};
use crate::event::field::{Event, FieldId, FieldTable, Scalar, ScalarKind, Value};
use crate::event::identity::normal_form;
use crate::event::time_zone::Zone;
use crate::plan::{
    Condition, Decimal, IdentityForm, LetterCase, MatchPosition, PatternPart, PlanError, Test, TimePart,
};
use aho_corasick::{AhoCorasick, MatchKind};
use ipnet::IpNet;
use regex::{Regex, RegexBuilder};
use std::cmp::Ordering;
use std::net::IpAddr;

/// A compiled condition.
#[derive(Debug)]
pub(crate) enum Matcher {
    All(Vec<Matcher>),
    Any(Vec<Matcher>),
    Not(Box<Matcher>),
    Exists(FieldId, bool),
    Null(FieldId),
    Value(FieldId, ValueTest),
    /// A test of a field with a normal form, with the test of the values as written.
    Spelled(FieldId, ValueTest, ValueTest),
    Same(FieldId, FieldId, MatchPosition),
}

/// A compiled test of one scalar.
#[derive(Debug)]
pub(crate) enum ValueTest {
    Equal { text: String, cased: bool },
    Prefix { text: String, cased: bool },
    Suffix { text: String, cased: bool },
    Contains(Box<AhoCorasick>),
    Pattern(Box<Regex>),
    Cidr(IpNet),
    Bool(bool),
    Part(TimePart, i64, Zone),
    Compare(Comparison, Bound),
}

/// A number of a rule.
#[derive(Debug)]
pub(crate) struct Bound {
    exact: Decimal,
    nearest: f64,
    /// Whether floats tell the number from all others with as few digits.
    is_short: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Matcher {
    /// Compiles a condition and registers the fields it reads.
    ///
    /// # Errors
    /// A pattern, network or field name is invalid; `rule` is named in the error.
    pub(crate) fn compile(
        condition: &Condition,
        rule: &str,
        fields: &mut FieldTable,
    ) -> Result<Self, PlanError> {
        let list = |parts: &[Condition], fields: &mut FieldTable| {
            parts.iter().map(|part| Self::compile(part, rule, fields)).collect::<Result<Vec<_>, _>>()
        };
        Ok(match condition {
            Condition::All(parts) => {
                let mut all = Vec::new();
                for part in list(parts, fields)? {
                    match part {
                        Self::All(parts) => all.extend(parts),
                        part => all.push(part),
                    }
                }
                // Cheap tests that usually fail first.
                all.sort_by_key(Self::cost);
                Self::All(all)
            }
            Condition::Any(parts) => {
                // Drop alternatives that no event can meet.
                let mut parts = list(parts, fields)?;
                parts.retain(|part| !matches!(part, Self::Any(parts) if parts.is_empty()));
                Self::Any(parts)
            }
            Condition::Not(part) => Self::Not(Box::new(Self::compile(part, rule, fields)?)),
            Condition::Opened(_) => Self::Any(Vec::new()),
            Condition::Field { name, test } => {
                let field = fields.id(name)?;
                match test {
                    Test::Exists(wanted) => Self::Exists(field, *wanted),
                    Test::Null => Self::Null(field),
                    Test::Same { other, place } => {
                        let form = fields.identity(name).or(fields.identity(other));
                        let both = (fields.id_in_form(name, form)?, fields.id_in_form(other, form)?);
                        Self::Same(both.0, both.1, *place)
                    }
                    test => {
                        let compile = |test: &Test| {
                            ValueTest::compile(test, fields.zone())
                                .map_err(|problem| PlanError::in_rule_field(rule, name, problem))
                        };
                        if fields.is_respelled(field) {
                            let normal = in_normal_form(test, fields.identity(name));
                            Self::Spelled(field, compile(&normal)?, compile(test)?)
                        } else {
                            Self::Value(field, compile(test)?)
                        }
                    }
                }
            }
        })
    }

    /// Estimated cost of evaluation.
    fn cost(&self) -> usize {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::cost).sum(),
            Self::Not(part) => part.cost(),
            Self::Null(_) | Self::Exists(..) | Self::Value(_, ValueTest::Bool(_)) => 1,
            Self::Value(_, ValueTest::Equal { .. } | ValueTest::Prefix { .. } | ValueTest::Suffix { .. }) => {
                2
            }
            Self::Spelled(_, ValueTest::Equal { .. }, _) | Self::Same(..) => 3,
            Self::Value(..) | Self::Spelled(..) => 8,
        }
    }

    #[inline]
    pub(crate) fn matches(&self, event: &Event<'_>) -> bool {
        match self {
            // The most common test.
            Self::Value(field, ValueTest::Equal { text, cased }) => {
                let equal = |&scalar: &Scalar| same(event.bytes(scalar), text.as_bytes(), *cased);
                event.scalars(*field).iter().any(equal)
            }
            other => other.matches_otherwise(event),
        }
    }

    fn matches_otherwise(&self, event: &Event<'_>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.matches(event)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(event)),
            Self::Not(part) => !part.matches(event),
            Self::Exists(field, wanted) => !matches!(event.value(*field), Value::Absent) == *wanted,
            Self::Null(field) => matches!(event.value(*field), Value::Absent | Value::Null),
            Self::Value(field, test) => {
                event.scalars(*field).iter().any(|&scalar| test.passes(event, scalar))
            }
            Self::Spelled(field, normal, written) => {
                event.scalars(*field).iter().any(|&scalar| normal.passes(event, scalar))
                    || event.respelled(*field).iter().any(|&scalar| written.passes(event, scalar))
            }
            Self::Same(field, other, place) => event.scalars(*field).iter().any(|&scalar| {
                let others = event.scalars(*other).iter();
                others.map(|&other| event.text(other)).any(|other| place.has(event.text(scalar), other))
            }),
        }
    }
}

impl ValueTest {
    fn compile(test: &Test, zone: &Zone) -> Result<Self, String> {
        Ok(match test {
            Test::Text { parts, cased } => Self::text(parts, *cased)?,
            Test::Regex { pattern, ignore_case, multi_line, dot_all } => Self::Pattern(Box::new(
                RegexBuilder::new(pattern)
                    .case_insensitive(*ignore_case)
                    .multi_line(*multi_line)
                    .dot_matches_new_line(*dot_all)
                    .build()
                    .map_err(|error| regex_fault(&error))?,
            )),
            Test::Cidr(network) => Self::Cidr(
                network.parse().map_err(|_| format!("'{network}' is not a network in CIDR notation"))?,
            ),
            Test::Bool(truth) => Self::Bool(*truth),
            Test::Number(n) => Self::Compare(Comparison::Equal, Bound::of(n)),
            Test::Lt(n) => Self::Compare(Comparison::Less, Bound::of(n)),
            Test::Lte(n) => Self::Compare(Comparison::LessOrEqual, Bound::of(n)),
            Test::Gt(n) => Self::Compare(Comparison::Greater, Bound::of(n)),
            Test::Gte(n) => Self::Compare(Comparison::GreaterOrEqual, Bound::of(n)),
            &Test::Part(part, number) => Self::Part(part, number, zone.clone()),
            Test::Exists(_) | Test::Null | Test::Same { .. } => {
                return Err("a presence test cannot be used as a value test".to_owned());
            }
        })
    }

    fn text(parts: &[PatternPart], cased: bool) -> Result<Self, String> {
        let ascii = |text: &str| cased || text.is_ascii();
        Ok(match parts {
            [] => Self::Equal { text: String::new(), cased },
            [PatternPart::Literal(text)] if ascii(text) => Self::Equal { text: text.clone(), cased },
            [PatternPart::Literal(text), PatternPart::AnyRun] if ascii(text) => {
                Self::Prefix { text: text.clone(), cased }
            }
            [PatternPart::AnyRun, PatternPart::Literal(text)] if ascii(text) => {
                Self::Suffix { text: text.clone(), cased }
            }
            [PatternPart::AnyRun, PatternPart::Literal(text), PatternPart::AnyRun] if ascii(text) => {
                Self::Contains(Box::new(
                    AhoCorasick::builder()
                        .ascii_case_insensitive(!cased)
                        .match_kind(MatchKind::Standard)
                        .build([text])
                        .map_err(|error| error.to_string())?,
                ))
            }
            parts => {
                let mut pattern = String::from("^");
                for part in parts {
                    match part {
                        PatternPart::Literal(text) => pattern.push_str(&regex::escape(text)),
                        PatternPart::AnyRun => pattern.push_str(".*"),
                        PatternPart::AnyOne => pattern.push('.'),
                    }
                }
                pattern.push('$');
                Self::Pattern(Box::new(
                    RegexBuilder::new(&pattern)
                        .case_insensitive(!cased)
                        .dot_matches_new_line(true)
                        .build()
                        .map_err(|error| error.to_string())?,
                ))
            }
        })
    }

    fn passes(&self, event: &Event<'_>, scalar: Scalar) -> bool {
        let bytes = event.bytes(scalar);
        let text = || event.text(scalar);
        match self {
            Self::Equal { text: wanted, cased } => same(bytes, wanted.as_bytes(), *cased),
            Self::Prefix { text: wanted, cased } => {
                bytes.get(..wanted.len()).is_some_and(|start| same(start, wanted.as_bytes(), *cased))
            }
            Self::Suffix { text: wanted, cased } => {
                let at = bytes.len().checked_sub(wanted.len());
                at.is_some_and(|at| same(&bytes[at..], wanted.as_bytes(), *cased))
            }
            Self::Contains(finder) => finder.is_match(bytes),
            Self::Pattern(regex) => regex.is_match(text()),
            Self::Cidr(network) => text().parse::<IpAddr>().is_ok_and(|address| network.contains(&address)),
            Self::Bool(wanted) => match scalar.kind() {
                ScalarKind::Bool(truth) => truth == *wanted,
                _ => same(bytes, if *wanted { b"true" } else { b"false" }, false),
            },
            Self::Part(part, wanted, zone) => {
                let local = as_time(text()).and_then(|time| zone.local(time));
                local.and_then(|local| part.of(local)) == Some(*wanted)
            }
            Self::Compare(comparison, bound) => {
                bound.compare(bytes, text()).is_some_and(|order| comparison.holds(order))
            }
        }
    }
}

impl MatchPosition {
    /// Whether `text` contains `part` at this position, without regard to case.
    fn has(self, text: &str, part: &str) -> bool {
        if text.is_ascii() && part.is_ascii() {
            let (text, part) = (text.as_bytes(), part.as_bytes());
            let at_end = text.len().checked_sub(part.len());
            return match self {
                Self::Whole => text.eq_ignore_ascii_case(part),
                Self::Start => text.get(..part.len()).is_some_and(|start| start.eq_ignore_ascii_case(part)),
                Self::End => at_end.is_some_and(|at| text[at..].eq_ignore_ascii_case(part)),
                Self::Anywhere => {
                    part.is_empty()
                        || text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
                }
            };
        }
        let (text, part) = (text.to_lowercase(), part.to_lowercase());
        match self {
            Self::Whole => text == part,
            Self::Start => text.starts_with(&part),
            Self::End => text.ends_with(&part),
            Self::Anywhere => text.contains(&part),
        }
    }
}

#[inline]
fn same(value: &[u8], wanted: &[u8], cased: bool) -> bool {
    value.len() == wanted.len() && (value == wanted || (!cased && value.eq_ignore_ascii_case(wanted)))
}

impl Bound {
    fn of(exact: &Decimal) -> Self {
        Self { exact: exact.clone(), nearest: exact.to_f64(), is_short: exact.fits_a_float() }
    }

    /// Order of a value and the bound; `None` if the value is not a number.
    fn compare(&self, bytes: &[u8], text: &str) -> Option<Ordering> {
        const SHORT: usize = 15;
        let is_decimal = || bytes.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
        if self.is_short && bytes.len() <= SHORT && is_decimal() {
            return text.parse::<f64>().ok()?.partial_cmp(&self.nearest);
        }
        Some(Decimal::parse(text)?.cmp(&self.exact))
    }
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// The test with its literals as the field's values are: a whole literal in its normal form. Parts of a pattern stay as
/// they are, because they may begin or end within a word.
fn in_normal_form(test: &Test, form: Option<IdentityForm>) -> Test {
    match (test, form) {
        (Test::Text { parts, cased: false }, Some(form)) => match &parts[..] {
            [PatternPart::Literal(literal)] => {
                let literal = normal_form(form, literal).unwrap_or_else(|| literal.clone());
                Test::Text {
                    parts: vec![PatternPart::Literal(literal)],
                    cased: form.case == LetterCase::Keep,
                }
            }
            _ => test.clone(),
        },
        _ => test.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    fn judge(condition: &str, record: &str) -> bool {
        let plan =
            Plan::from_json(r#"{"mapping":{"time":["time"],"actor":["actor"],"app":["=desk"]},"rules":[]}"#);
        let mut fields = FieldTable::new(&plan.unwrap()).unwrap();
        let condition: Condition = serde_json::from_str(condition).unwrap();
        let matcher = Matcher::compile(&condition, "r", &mut fields).unwrap();
        let mut reader = fields.reader();
        matcher.matches(&reader.read(record).unwrap())
    }

    fn field(name: &str, test: &str) -> String {
        format!(r#"{{"field":{{"name":"{name}","test":{test}}}}}"#)
    }

    #[test]
    fn text_in_every_form() {
        let lit = |s: &str| format!(r#"{{"literal":"{s}"}}"#);
        let text = |parts: &[&str], cased: bool| {
            field("x", &format!(r#"{{"text":{{"parts":[{}],"cased":{cased}}}}}"#, parts.join(",")))
        };
        let run = r#""any_run""#;
        let record = r#"{"x":"Hotel.CheckIn","y":1}"#;
        for (condition, expected) in [
            (text(&[&lit("hotel.checkin")], false), true),
            (text(&[&lit("hotel.checkin")], true), false),
            (text(&[&lit("hotel")], false), false),
            (text(&[&lit("HOTEL"), run], false), true),
            (text(&[run, &lit("in")], false), true),
            (text(&[run, &lit("in")], true), false),
            (text(&[run, &lit("CHECK"), run], false), true),
            (text(&[run, &lit("CHECK"), run], true), false),
            (text(&[&lit("hotel"), r#""any_one""#, &lit("c"), run, &lit("n")], false), true),
            (text(&[run], false), true),
        ] {
            assert_eq!(judge(&condition, record), expected, "{condition}");
        }
        let umlaut = text(&[run, &lit("müller")], false);
        assert!(judge(&umlaut, r#"{"x":"Frau MÜLLER"}"#));
    }

    #[test]
    fn numbers_networks_presence_and_lists() {
        let record =
            r#"{"n":"12","m":12.0,"ip":"10.1.2.3","six":"2001:db8::1","z":null,"l":["a",7,null],"b":true}"#;
        for (condition, expected) in [
            (field("n", r#"{"number":12}"#), true),
            (field("m", r#"{"gte":12}"#), true),
            (field("m", r#"{"lt":12}"#), false),
            (field("ip", r#"{"cidr":"10.0.0.0/8"}"#), true),
            (field("six", r#"{"cidr":"2001:db8::/32"}"#), true),
            (field("ip", r#"{"cidr":"2001:db8::/32"}"#), false),
            (field("z", r#"{"exists":true}"#), true),
            (field("q", r#"{"exists":false}"#), true),
            (field("z", r#""null""#), true),
            (field("q", r#""null""#), true),
            (field("n", r#""null""#), false),
            (field("l", r#"{"number":7}"#), true),
            (field("b", r#"{"bool":true}"#), true),
            (field("app", r#"{"text":{"parts":[{"literal":"DESK"}]}}"#), true),
            (field("n", r#"{"regex":{"pattern":"^1"}}"#), true),
        ] {
            assert_eq!(judge(&condition, record), expected, "{condition}");
        }
        assert!(judge(r#"{"not":{"any":[]}}"#, record));
        assert!(judge(r#"{"all":[]}"#, record));
    }

    #[test]
    fn a_bad_pattern_names_rule_and_field() {
        let plan = Plan::from_json(r#"{"mapping":{},"rules":[]}"#).unwrap();
        let condition: Condition =
            serde_json::from_str(&field("x", r#"{"regex":{"pattern":"(?=a)"}}"#)).unwrap();
        let error =
            Matcher::compile(&condition, "r7", &mut FieldTable::new(&plan).unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("rule 'r7': field 'x'"), "{error}");
    }
}
