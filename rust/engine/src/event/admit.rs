//! Admission: checks that a record is an event, and gives the reason if it is not.

use crate::decode::json::{Fault, FaultKind};
use crate::decode::reject::Reason;
use crate::event::field::{Event, EventReader, FieldId, FieldTable, Problem, Scalar, ScalarKind, Value};
use crate::event::timestamp::{TimeReader, format_rfc3339, parse_time_number};
use crate::foundation::time::Micros;
use crate::plan::{CanonicalAction, Plan, PlanError};

/// Reason of a rejection, and its details.
pub(crate) type Refusal = (Reason, String);

/// The checks of a plan.
#[derive(Debug, Clone)]
pub(crate) struct Checks {
    time: FieldId,
    actor: FieldId,
    subject: FieldId,
    /// The action, if the plan knows words that are no access.
    action: Option<FieldId>,
    earliest: Micros,
    max_record_bytes: usize,
    times: TimeReader,
}

impl Checks {
    /// Creates the checks and registers the fields they read.
    ///
    /// # Errors
    /// The mapping has no source for a required field.
    pub(crate) fn new(plan: &Plan, fields: &mut FieldTable) -> Result<Self, PlanError> {
        Ok(Self {
            time: fields.required("time")?,
            actor: fields.required("actor")?,
            subject: fields.id("subject")?,
            action: if plan.actions.is_empty() { None } else { Some(fields.id("action")?) },
            earliest: plan.earliest_s.max(1).saturating_mul(1_000_000),
            max_record_bytes: plan.max_record_bytes,
            times: TimeReader::default(),
        })
    }

    /// Reads a record as an event, or returns why it is rejected.
    pub(crate) fn admit<'a>(
        &mut self,
        text: &'a str,
        latest: Micros,
        reader: &'a mut EventReader,
    ) -> Result<(Event<'a>, Micros), Refusal> {
        if text.is_empty() || text.len() > self.max_record_bytes {
            return Err(wrong_size(text.len(), self.max_record_bytes));
        }
        let event = reader.read(text).map_err(not_json)?;
        let time = self.time(&event, latest)?;
        match event.value(self.actor) {
            Value::One(actor) if !actor.is_bool() && !event.bytes(actor).is_empty() => {}
            // A list with one name is that name.
            Value::Many(..) if !event.is_ragged(self.actor) && matches!(event.scalars(self.actor), [_]) => {}
            actor => return Err(no_actor(actor)),
        }
        match event.value(self.subject) {
            Value::One(subject) if !subject.is_bool() => {}
            Value::Absent | Value::Null => {}
            Value::Many(..)
                if !event.is_ragged(self.subject)
                    && !event.scalars(self.subject).iter().any(|subject| subject.is_bool()) => {}
            subject => return Err(no_subject(subject)),
        }
        Ok((event, time))
    }

    /// Whether all actions of an event are no access; with a subject, none is.
    #[inline]
    pub(crate) fn is_no_access(&self, event: &Event<'_>) -> bool {
        let is_none = |&action: &Scalar| event.bytes(action) == CanonicalAction::None.word().as_bytes();
        let actions = self.action.map_or(&[][..], |action| event.scalars(action));
        !actions.is_empty() && actions.iter().all(is_none)
    }

    /// Reads what can be read of a record with a problem. The time is `clock` if the record's own is not usable, and
    /// that of a late event always; `None` without an actor or a time.
    #[cold]
    pub(crate) fn read_with_problem<'a>(
        &mut self,
        text: &'a str,
        problem: Problem,
        (latest, clock): (Micros, Option<Micros>),
        reader: &'a mut EventReader,
    ) -> Option<(Event<'a>, Micros)> {
        let event = reader.read_with_problem(text, problem);
        let time = match problem {
            Problem::Late => clock?,
            Problem::Rejected(_) => self.time(&event, latest).ok().or(clock)?,
        };
        (!event.scalars(self.actor).is_empty()).then_some((event, time))
    }

    fn time(&mut self, event: &Event<'_>, latest: Micros) -> Result<Micros, Refusal> {
        let time = match event.value(self.time) {
            Value::One(scalar) => match scalar.kind() {
                ScalarKind::Text => self.times.read(event.text(scalar)),
                ScalarKind::Number => parse_time_number(event.text(scalar)),
                ScalarKind::Bool(_) => return Err(no_time(Value::One(scalar))),
            },
            value => return Err(no_time(value)),
        };
        let Some(time) = time else { return Err(bad_time()) };
        if time < self.earliest || time > latest {
            return Err(self.beyond(time, latest));
        }
        Ok(time)
    }

    #[cold]
    fn beyond(&self, time: Micros, latest: Micros) -> Refusal {
        if time < self.earliest {
            let bound = format_rfc3339(self.earliest);
            return (Reason::TimeTooOld, format!("{} is before {bound}", spoken(time)));
        }
        (Reason::TimeInFuture, format!("{} is after {}", spoken(time), format_rfc3339(latest)))
    }
}

/// A time for a message; years that RFC 3339 cannot express are written as a number.
fn spoken(time: Micros) -> String {
    if (-62_135_596_800_000_000..253_402_300_800_000_000).contains(&time) {
        format_rfc3339(time)
    } else {
        format!("epoch {} s", time / 1_000_000)
    }
}

#[cold]
fn wrong_size(bytes: usize, most: usize) -> Refusal {
    if bytes == 0 {
        return (Reason::Empty, "the record has no bytes".to_owned());
    }
    (Reason::TooLarge, format!("{bytes} bytes, the limit is {most}"))
}

/// The refusal of a record that is not UTF-8, and that is no event either when the wrong bytes are replaced.
#[cold]
pub(crate) fn not_utf8(bytes: &[u8]) -> Refusal {
    let at = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
    (Reason::NotUtf8, format!("byte {at} is not UTF-8"))
}

#[cold]
fn not_json(fault: Fault) -> Refusal {
    let reason = match fault.kind {
        FaultKind::Syntax => Reason::BadJson,
        FaultKind::TooDeep => Reason::TooDeep,
        FaultKind::NotAnObject => Reason::NotAnObject,
    };
    (reason, format!("byte {}: expected {}", fault.at, fault.wanted))
}

#[cold]
fn no_time(value: Value) -> Refusal {
    let wanted = "RFC 3339 text or an epoch number";
    match value {
        Value::Absent | Value::Null => (Reason::MissingTime, "the event has no time".to_owned()),
        Value::One(_) => wrong_type("time", wanted, "a boolean"),
        Value::Many(..) => wrong_type("time", wanted, "a list"),
        Value::Object => wrong_type("time", wanted, "an object"),
    }
}

#[cold]
fn bad_time() -> Refusal {
    (Reason::BadTime, "time is neither RFC 3339 with an offset nor an epoch number".to_owned())
}

#[cold]
fn no_actor(value: Value) -> Refusal {
    let wanted = "a string or a number";
    match value {
        Value::Absent | Value::Null => (Reason::MissingActor, "the event has no actor".to_owned()),
        Value::One(actor) if actor.is_bool() => wrong_type("actor", wanted, "a boolean"),
        Value::One(_) => (Reason::MissingActor, "actor is an empty string".to_owned()),
        Value::Many(..) => wrong_type("actor", wanted, "a list"),
        Value::Object => wrong_type("actor", wanted, "an object"),
    }
}

#[cold]
fn no_subject(value: Value) -> Refusal {
    let found = if matches!(value, Value::Object) { "an object" } else { "something else" };
    wrong_type("subject", "a string, a number or a list of these", found)
}

fn wrong_type(field: &str, wanted: &str, found: &str) -> Refusal {
    (Reason::WrongType, format!("{field} must be {wanted}, not {found}"))
}
